"""Deployments from the request to the routing, with real addresses."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.deploying import SERVER, World, background, eventually, make_runner, make_world, upstream

from trimtab.db.database import Database
from trimtab.registry import store as registry_store

SERVE = {"runtime": {"kind": "process", "command": [sys.executable, "-S", "-c", SERVER, "{port}"]}}


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(database, tmp_path) as made:
        yield made


async def cut_over(world: World, deployment: dict[str, Any]) -> dict[str, Any]:
    async def moved() -> dict[str, Any] | None:
        now = await world.get(deployment)
        return now if now["cutover_revision"] and now["rollout_phase"] == "promoting" else None

    return await eventually(moved, "the cut-over")


async def refused(world: World, status: int, code: str, **body: Any) -> dict[str, Any]:
    answer = await world.http.post("/api/v1/deployments", json=body)
    assert answer.status_code == status, answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    return problem


async def test_deploy_cut_over_and_drain(world: World) -> None:
    async with upstream() as one, upstream() as two, make_runner(world) as runner, background(world, runner):
        gateway = await world.gateway(0)
        v1 = await world.version("v1", {"endpoint": one.url})
        v2 = await world.version("v2", {"endpoint": two.url})
        a = await world.deploy(v1)
        assert (a["status"], a["rollout_phase"], a["traffic_percentage"]) == ("deploying", "pending", 0)
        moved = await cut_over(world, a)
        assert await world.arms("bot") == {a["id"]: 10_000}
        await world.gateway(moved["cutover_revision"], identifier=gateway)
        a = await world.until(a, "healthy", phase="succeeded")
        assert a["traffic_percentage"] == 100
        assert (await world.http.get(f"/api/v1/lifecycles/{v1['id']}")).json()["lifecycle_stage"] == "production"

        b = await world.deploy(v2)
        moved = await cut_over(world, b)
        assert await world.arms("bot") == {b["id"]: 10_000}
        old = await world.get(a)
        assert (old["status"], old["ending_status"], old["traffic_percentage"]) == ("healthy", "retired", 0)
        assert set(await world.routing()) == {"bot", "bot@production", "bot@v2"}
        await world.gateway(moved["cutover_revision"], identifier=gateway, **{a["id"]: {"in_flight": 1}})
        b = await world.until(b, "healthy", phase="succeeded")
        assert b["previous_deployment_id"] == a["id"]
        assert (await world.get(a))["status"] == "healthy"
        await world.gateway(moved["cutover_revision"], identifier=gateway)
        assert (await world.until(a, "retired"))["ended_at"]
        assert set(await world.routing("deployment")) == {b["id"]}


async def test_rollback_starts_the_previous_one_again(world: World) -> None:
    async with upstream() as one, upstream() as two, make_runner(world) as runner, background(world, runner):
        a = await world.until(await world.deploy(await world.version("v1", {"endpoint": one.url})), "healthy")
        assert (await world.act(a, "rollback", 409))["code"] == "no_previous_deployment"
        b = await world.until(await world.deploy(await world.version("v2", {"endpoint": two.url})), "healthy")
        await world.until(a, "retired")
        assert (await world.act(b, "rollback"))["rollout_phase"] == "aborting"
        b = await world.until(b, "rolled_back")
        assert b["status_reason"].startswith("rolled back to bot v1")
        a = await world.until(a, "healthy", phase="succeeded")
        assert a["traffic_percentage"] == 100
        assert await world.arms("bot") == {a["id"]: 10_000}
        assert set(await world.routing()) == {"bot", "bot@production", "bot@v1"}
        # What was rolled back can be tried again.
        await world.act(b, "retry")
        b = await world.until(b, "healthy", phase="succeeded")
        assert await world.arms("bot") == {b["id"]: 10_000}
        names = [
            event["name"] for event in (await world.http.get(f"/api/v1/deployments/{b['id']}/events")).json()["items"]
        ]
        for name in ("created", "ready", "traffic_moved", "succeeded", "rolling_back", "rolled_back", "retried"):
            assert f"deployment.{name}" in names


async def test_a_rollback_that_cannot_start_the_previous_one_leaves_the_traffic(world: World) -> None:
    async with upstream() as two, make_runner(world) as runner, background(world, runner):
        async with upstream() as one:
            first = await world.deploy(await world.version("v1", {"endpoint": one.url}), progress_deadline_seconds=2)
            a = await world.until(first, "healthy")
            b = await world.until(await world.deploy(await world.version("v2", {"endpoint": two.url})), "healthy")
            await world.until(a, "retired")
        await world.act(b, "rollback")

        async def given_up() -> bool:
            return "did not come back" in (await world.get(b))["status_reason"]

        await eventually(given_up, "the rollback given up")
        b = await world.until(b, "healthy", phase="succeeded")
        assert (await world.get(a))["status"] == "failed"
        assert await world.arms("bot") == {b["id"]: 10_000}


async def test_an_unreachable_endpoint_fails_with_the_reason_and_can_be_retried(world: World) -> None:
    async with upstream() as one:
        gone = one.url
    async with make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", {"endpoint": gone})
        a = await world.deploy(version, progress_deadline_seconds=2)
        assert a["config"]["progress_deadline_seconds"] == 2
        a = await world.until(a, "failed")
        assert "ENDPOINT_UNREACHABLE: 127.0.0.1" in a["status_reason"]
        assert "refused" in a["status_reason"]
        assert await world.routing() == {}
        await world.act(a, "retry")
        await world.until(a, "failed")
        b = await world.deploy(await world.version("v2", {"endpoint": "http://no-such-host.invalid/v1"}))
        assert b["config"]["progress_deadline_seconds"] == 30

        async def told() -> bool:
            said = [replica["reason"] for replica in await world.replicas(b)]
            return any("the name no-such-host.invalid is not known" in reason for reason in said)

        await eventually(told, "the reason")
        b = await world.act(b, "abort")
        assert (b["status"], b["rollout_phase"]) == ("rolled_back", "aborted")


async def test_only_approved_versions_reach_production(world: World) -> None:
    async with upstream() as one, make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", {"endpoint": one.url}, approve=False)
        problem = await refused(
            world, 409, "version_not_approved", lifecycle_id=version["id"], environment="production"
        )
        assert "v1" in problem["detail"]
        assert f"/api/v1/lifecycles/{version['id']}/approve" in problem["detail"]
        staged = await world.until(await world.deploy(version, "staging"), "healthy")
        assert set(await world.routing()) == {"bot@staging", "bot@v1"}
        assert (await world.routing("deployment"))[staged["id"]]["approval"] == "pending"
        path = f"/api/v1/lifecycles/{version['id']}"
        conditions = {"max_traffic_percentage": 20}
        answer = await world.http.post(f"{path}/approve", json={"conditions": conditions})
        assert answer.status_code == 200, answer.text
        body = {"lifecycle_id": version["id"], "environment": "production", "traffic_percentage": 20}
        problem = await refused(world, 409, "approval_limit", **body)
        assert "at most 20 %" in problem["detail"]
        stable = await world.until(await world.deploy(await world.version("v2", {"endpoint": one.url})), "healthy")
        await refused(world, 409, "approval_limit", **{**body, "traffic_percentage": 21})
        small = await world.until(await world.deploy(version, traffic_percentage=20), "healthy")
        assert await world.arms("bot") == {stable["id"]: 8_000, small["id"]: 2_000}
        answer = await world.http.delete(f"/api/v1/deployments/{stable['id']}")
        assert answer.json()["code"] == "approval_limit"
        # A withdrawn approval reaches the gateways.
        assert (await world.http.post(f"{path}/reject", json={})).status_code == 200

        async def rejected() -> bool:
            return bool((await world.routing("deployment"))[small["id"]]["approval"] == "rejected")

        await eventually(rejected, "the rejection in the routing")


async def test_shares(world: World) -> None:
    async with upstream() as one, make_runner(world) as runner, background(world, runner):
        v1, v2, v3 = [await world.version(tag, {"endpoint": one.url}) for tag in ("v1", "v2", "v3")]
        a = await world.until(await world.deploy(v1, traffic_percentage=30), "healthy")
        assert a["traffic_percentage"] == 100  # the first to have any share has all of it
        b = await world.until(await world.deploy(v2, traffic_percentage=0), "healthy")
        assert await world.arms("bot") == {a["id"]: 10_000}
        assert await world.arms("bot@v2") == {b["id"]: 10_000}
        answer = await world.http.patch(f"/api/v1/deployments/{a['id']}", json={"traffic_percentage": 50})
        assert answer.status_code == 409
        answer = await world.http.patch(f"/api/v1/deployments/{b['id']}", json={"traffic_percentage": 25})
        assert answer.status_code == 200, answer.text
        await world.until(b, "healthy", phase="succeeded")
        assert await world.arms("bot") == {a["id"]: 7_500, b["id"]: 2_500}
        c = await world.until(await world.deploy(v3, traffic_percentage=33.33), "healthy")
        shares = await world.arms("bot")
        assert shares == {a["id"]: 5_000, b["id"]: 1_667, c["id"]: 3_333}
        assert (await world.get(c))["previous_deployment_id"] == a["id"]
        answer = await world.http.delete(f"/api/v1/deployments/{a['id']}")
        assert answer.status_code == 202
        await world.until(a, "retired")
        shares = await world.arms("bot")
        assert sum(shares.values()) == 10_000
        assert set(shares) == {b["id"], c["id"]}
        await world.http.delete(f"/api/v1/deployments/{b['id']}")
        await world.until(b, "retired")
        answer = await world.http.delete(f"/api/v1/deployments/{c['id']}")
        assert answer.status_code == 409
        assert "force=true" in answer.json()["detail"]
        answer = await world.http.delete(f"/api/v1/deployments/{c['id']}", params={"force": "true"})
        await world.until(c, "retired")
        assert await world.routing() == {}


async def test_a_later_deployment_supersedes_a_running_one(world: World) -> None:
    async with upstream() as one, make_runner(world) as runner, background(world, runner):
        a = await world.until(await world.deploy(await world.version("v1", {"endpoint": one.url})), "healthy")
        b = await world.deploy(await world.version("v2", {"endpoint": "http://127.0.0.1:9/v1"}))
        assert (await world.act(a, "rollback", 409))["code"] in ("conflict", "no_previous_deployment")
        c = await world.deploy(await world.version("v3", {"endpoint": one.url}))
        b = await world.until(b, "retired", phase="superseded")
        assert "superseded by" in b["status_reason"]
        await world.until(c, "healthy", phase="succeeded")
        assert await world.arms("bot") == {c["id"]: 10_000}


async def test_what_cannot_be_asked_for(world: World) -> None:
    async with make_runner(world) as runner:
        version = await world.version("v1", {"endpoint": "http://127.0.0.1:9/v1"})
        body = {"lifecycle_id": version["id"], "environment": "production"}
        problem = await refused(world, 422, "invalid_request", **body, deployment_type="canary")
        assert problem["field"] == "deployment_type"
        assert problem["accepted"] == ["direct"]
        await refused(world, 422, "invalid_request", **body, replicas=3)
        await refused(world, 422, "invalid_request", **body, traffic_percentage=101)
        await refused(world, 422, "invalid_request", **body, steps=[5, 100])
        await refused(world, 404, "not_found", **{**body, "lifecycle_id": "01890000-0000-7000-8000-000000000000"})
        one = await world.deploy(version)
        for verb in ("promote", "pause", "resume"):
            problem = await world.act(one, verb, 409)
            assert f"nothing to {verb}" in problem["detail"]
        await world.act(one, "retry", 409)
        await world.act(one, "rollback", 409)
        assert (await world.http.get("/api/v1/deployments/01890000-0000-7000-8000-000000000000")).status_code == 404
        config = {"runtime": {"kind": "process", "command": ["sleep", "9"]}}
        for field, amount in (("cpu", 1000), ("memory_mb", 10_000_000), ("gpu", 60)):
            big = await world.version(f"big-{field}", config, resource_allocation={field: amount})
            problem = await refused(world, 409, "resources_exceeded", lifecycle_id=big["id"], environment="development")
            assert str(amount) in problem["detail"]
            assert problem["field"] == f"resource_allocation.{field}"
        half = runner.machine.memory_mb // 2 + 1
        large = await world.version("large", config, resource_allocation={"memory_mb": half})
        await refused(world, 409, "resources_exceeded", lifecycle_id=large["id"], environment="development", replicas=2)


async def test_two_controllers_and_an_operator_never_act_twice(world: World) -> None:
    async with upstream() as one, make_runner(world) as runner, background(world, runner, reconcilers=3):
        versions = [await world.version(f"v{n}", {"endpoint": one.url}) for n in range(4)]
        deployed = [await world.deploy(version) for version in versions[:2]]
        aborts = await asyncio.gather(
            *(world.http.post(f"/api/v1/deployments/{each['id']}/abort") for each in deployed),
            *(
                world.http.post("/api/v1/deployments", json={"lifecycle_id": v["id"], "environment": "production"})
                for v in versions[2:]
            ),
        )
        assert {answer.status_code for answer in aborts} <= {201, 202, 409}
        last = max((answer.json() for answer in aborts[2:]), key=lambda each: each["started_at"])
        await world.until(last, "healthy", phase="succeeded")

        async def settled() -> bool:
            items = (await world.http.get("/api/v1/deployments", params={"active": "true"})).json()["items"]
            return len(items) == 1

        await eventually(settled, "one deployment left")
        assert await world.arms("bot") == {last["id"]: 10_000}
        names = [
            event["name"]
            for event in (await world.http.get(f"/api/v1/deployments/{last['id']}/events")).json()["items"]
        ]
        assert names.count("deployment.succeeded") == names.count("deployment.ready") == 1


async def test_a_blip_of_the_probe_empties_nothing_and_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab.deployments.keeper.PROBE_SECONDS", 0.05)
    async with upstream() as one, upstream() as two, make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", {"endpoints": [one.url, two.url]})
        a = await world.until(await world.deploy(version), "healthy")
        one.status = 500

        async def targets(*urls: str) -> bool:
            return (await world.routing("deployment"))[a["id"]]["targets"] == list(urls)

        await eventually(lambda: targets(two.url), "the bad one left out")
        assert "HTTP status 500" in (await world.until(a, "unhealthy"))["status_reason"]
        two.status = 503
        await eventually(lambda: targets(one.url, two.url), "both kept while none is ready")
        one.status = two.status = 404
        await world.until(a, "healthy")
        await eventually(lambda: targets(one.url, two.url), "both back")
        assert not any("authorization" in request.headers for request in one.requests)
        await world.deploy(await world.version("v2", {"endpoint": one.url}))


async def test_scaling_down_takes_a_replica_out_before_it_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.deployments.reconcile.QUIET", timedelta(seconds=1))
    async with make_runner(world) as runner, background(world, runner):
        gateway = await world.gateway(2**40)
        one = await world.until(await world.deploy(await world.version("v1", SERVE)), "healthy")
        path = f"/api/v1/deployments/{one['id']}"
        assert (await world.http.patch(path, json={"replicas": 2})).json()["replicas"] == 2

        async def targets(count: int) -> bool:
            return len((await world.routing("deployment"))[one["id"]]["targets"]) == count

        await eventually(lambda: targets(2), "two targets")
        await world.gateway(1, identifier=gateway)
        assert (await world.http.patch(path, json={"replicas": 1})).status_code == 200
        await eventually(lambda: targets(1), "one target")
        assert (await world.replicas(one))[1]["desired"] == "running"
        await world.gateway(2**40, identifier=gateway)

        async def stopped() -> bool:
            return (await world.replicas(one))[1]["status"] == "stopped"

        await eventually(stopped, "the second stopped")
        assert (await world.get(one))["status"] == "healthy"


@pytest.mark.parametrize(
    "runtime",
    [{"command": ["id"]}, {"gguf": "m.gguf", "args": ["-v"]}, {"gguf": "m.gguf", "env": {"LD_PRELOAD": "x.so"}}],
)
async def test_only_admins_say_which_commands_run(world: World, runtime: dict[str, Any]) -> None:
    forbidden = f"deployment_config.runtime.{list(runtime)[-1]}"
    config = {"runtime": {"kind": "process", **runtime}}
    theirs = await world.version("v1", config, approve=False)
    other = await world.version("v2", {"runtime": {"kind": "process", "gguf": "m.gguf"}}, approve=False)
    async with world.api.client(await world.api.member("otto", "operator")) as http:
        for method, path, body in (
            ("POST", "lifecycles", {"model_id": theirs["model_id"], "version_tag": "v3", "deployment_config": config}),
            (
                "POST",
                "models/register",
                {"name": "b", "provider": "openai", "version": "v1", "deployment_config": config},
            ),
            ("PATCH", f"lifecycles/{other['id']}", {"deployment_config": config}),
            ("PATCH", f"lifecycles/{theirs['id']}", {"deployment_config": {"endpoint": "http://127.0.0.1:9/v1"}}),
            ("PATCH", f"lifecycles/{theirs['id']}", {"resource_allocation": {"cpu": 1}}),
        ):
            answer = await http.request(method, f"/api/v1/{path}", json=body)
            assert answer.status_code == 403, answer.text
            problem = answer.json()
            assert (problem["code"], problem["field"]) == ("forbidden", forbidden)
            assert "as the server's user" in problem["detail"]
        body = {
            "model_id": theirs["model_id"],
            "version_tag": "v3",
            "deployment_config": {"runtime": {"kind": "process", "gguf": "/models/m.gguf"}},
        }
        answer = await http.post("/api/v1/lifecycles", json=body)
        assert answer.status_code == 201, answer.text
        # What an admin registered is theirs to approve and to deploy.
        answer = await http.post(f"/api/v1/lifecycles/{theirs['id']}/approve", json={})
        assert answer.status_code == 200, answer.text
        body = {"lifecycle_id": theirs["id"], "environment": "production"}
        answer = await http.post("/api/v1/deployments", json=body)
        assert answer.status_code == 201, answer.text


async def test_a_missing_version_holds_up_its_own_model_only(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with upstream() as one, make_runner(world) as runner, background(world, runner):
        a = await world.until(await world.deploy(await world.version("v1", {"endpoint": one.url})), "healthy")
        routing = await world.routing()
        find, queries = registry_store.find_lifecycles, []

        async def without_the_first(connection: Any, ids: Any) -> Any:
            queries.append(len(ids))
            return [row for row in await find(connection, ids) if str(row.id) != a["lifecycle_id"]]

        body = {"name": "other", "provider": "openai", "version": "v1", "endpoint": one.url}
        other = (await world.http.post("/api/v1/models/register", json=body)).json()
        assert (await world.http.post(f"/api/v1/lifecycles/{other['lifecycle_id']}/approve")).status_code == 200
        monkeypatch.setattr(registry_store, "find_lifecycles", without_the_first)
        await world.until(await world.deploy({"id": other["lifecycle_id"]}), "healthy", phase="succeeded")
        assert routing.items() <= (await world.routing()).items()
        # One query has the versions of all deployments.
        assert 2 in queries
        monkeypatch.undo()
        assert any(a["model_id"] in message and "missing" in message for message in caplog.messages)
        b = await world.deploy(await world.version("v2", {"endpoint": one.url}))
        await world.until(b, "healthy", phase="succeeded")


async def test_processes_are_refused_where_gateways_cannot_reach_them(world: World) -> None:
    async with make_runner(world):
        process, external = await world.version("v1", SERVE), await world.version("v2", {"endpoint": "http://a/v1"})
        await world.gateway(hostname="elsewhere", lease=-1)
        await world.gateway()
        one = await world.deploy(process)
        await world.act(one, "abort")
        await world.gateway(hostname="elsewhere")
        problem = await refused(world, 409, "conflict", lifecycle_id=process["id"], environment="staging")
        assert problem["gateway_hosts"] == sorted({"elsewhere", *problem["runner_hosts"]})
        assert "on one machine" in problem["detail"]
        assert (await world.act(one, "retry", 409))["field"] == "lifecycle_id"
        await world.deploy(external)


async def test_a_reduced_approval_keeps_the_share_and_lets_it_not_grow(world: World) -> None:
    async with upstream() as one, make_runner(world) as runner, background(world, runner):
        await world.until(await world.deploy(await world.version("v1", {"endpoint": one.url})), "healthy")
        version = await world.version("v2", {"endpoint": one.url}, approve=False)
        path = f"/api/v1/lifecycles/{version['id']}/approve"
        for most in (40, 10):
            answer = await world.http.post(path, json={"conditions": {"max_traffic_percentage": most}})
            assert answer.status_code == 200, answer.text
            if most == 40:
                b = await world.deploy(version, traffic_percentage=30)
                await world.until(b, "healthy", phase="succeeded")
        assert (await world.arms("bot"))[b["id"]] == 3_000
        path = f"/api/v1/deployments/{b['id']}"
        answer = await world.http.patch(path, json={"traffic_percentage": 31})
        assert answer.json()["code"] == "approval_limit"
        assert (await world.http.patch(path, json={"traffic_percentage": 10})).status_code == 200
        await world.until(b, "healthy", phase="succeeded")
        assert (await world.arms("bot"))[b["id"]] == 1_000
