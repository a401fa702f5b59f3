"""Models and versions from registration to retirement, over HTTP, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest
from tests.integration.api import Api, running_api

from trimtab.access.principal import program
from trimtab.db.database import SYSTEM, Database
from trimtab.db.embedded import Urls
from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id
from trimtab.registry import service

SECRET = "sk-a-very-secret-credential"
REGISTRATION = {
    "name": "support-bot",
    "endpoint": "http://127.0.0.1:9000/v1",
    "provider": "openai-compatible",
    "version": "v1.0.0",
    "upstream_model": "gpt-4o-mini",
    "credential": SECRET,
}


@dataclass
class Moment:
    """A clock that stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Moment:
    return Moment()


@pytest.fixture
async def api(database: Database, tmp_path: Path, clock: Moment) -> AsyncIterator[Api]:
    async with running_api(database, tmp_path, clock) as running:
        yield running


@pytest.fixture
async def admin(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.client(await api.member("Ada", "admin")) as client:
        yield client


@pytest.fixture
async def operator(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.client(await api.member("Bob", "operator")) as client:
        yield client


async def done(answer: Any, status: int = 200) -> dict[str, Any]:
    got = await answer
    assert got.status_code == status, got.text
    document: dict[str, Any] = {} if status == 204 else got.json()
    return document


async def refused(answer: Any, code: Code, field_name: str | None = None) -> dict[str, Any]:
    got = await answer
    document: dict[str, Any] = got.json()
    assert (got.status_code, document["code"]) == (code.value.status, code.text), got.text
    assert document.get("field") == field_name, document
    return document


async def registered(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    return await done(client.post("/api/v1/models/register", json={**REGISTRATION, **changes}), 201)


async def version_of(client: httpx2.AsyncClient, model_id: str, tag: str, **more: Any) -> dict[str, Any]:
    body = {"model_id": model_id, "version_tag": tag, **more}
    return await done(client.post("/api/v1/lifecycles", json=body), 201)


async def deploy(api: Api, lifecycle: dict[str, Any], name: str = "live") -> UUID:
    """A deployment, as the deployments feature would write it."""
    identifier = new_id()
    async with api.services.database.transaction(SYSTEM) as connection:
        await connection.execute(
            "insert into public.ai_model_deployments (id, workspace_id, model_id, lifecycle_id, deployment_name, "
            "environment, deployment_type, deadline_at) values (%s, %s, %s, %s, %s, 'production', 'direct', now())",
            (identifier, lifecycle["workspace_id"], lifecycle["model_id"], lifecycle["id"], name),
        )
    return identifier


async def test_an_existing_model_is_registered_in_one_call(operator: httpx2.AsyncClient) -> None:
    model = await registered(operator, pricing={"input": 0.15, "output": "0.60"})
    lifecycle = model["lifecycle"]
    assert model["lifecycle_id"] == lifecycle["id"] and lifecycle["model_id"] == model["id"]
    assert (lifecycle["lifecycle_stage"], lifecycle["approval_status"]) == ("development", "pending")
    config = lifecycle["deployment_config"]
    assert config.pop("credential").keys() == {"id", "hint"}
    assert config == {
        "endpoint": "http://127.0.0.1:9000/v1",
        "provider": "openai-compatible",
        "upstream_model": "gpt-4o-mini",
    }
    prices = (await done(operator.get("/api/v1/models/support-bot/prices")))["items"]
    assert [(price["input"], price["output"], price["cache_read"]) for price in prices] == [("0.15", "0.6", "0.15")]
    taken = {**REGISTRATION, "name": "SUPPORT-bot"}
    await refused(operator.post("/api/v1/models/register", json=taken), Code.ALREADY_EXISTS, "name")
    assert len((await done(operator.get("/api/v1/lifecycles")))["items"]) == 1


async def test_a_failed_registration_leaves_nothing(operator: httpx2.AsyncClient, database_urls: Urls) -> None:
    body = {**REGISTRATION, "credential": {"id": str(uuid4())}}
    await refused(operator.post("/api/v1/models/register", json=body), Code.NOT_FOUND, "deployment_config.credential")
    with psycopg.connect(database_urls.owner) as owner:
        for table in ("public.ai_models", "trimtab.events", "trimtab.provider_credentials"):
            assert owner.execute(f"select 1 from {table}").rowcount == 0  # type: ignore[arg-type]


async def test_a_credential_is_nowhere_in_clear(api: Api, operator: httpx2.AsyncClient, database_urls: Urls) -> None:
    model = await registered(operator)
    lifecycle = model["lifecycle_id"]
    newer = "sk-another-secret-altogether"
    changed = {"deployment_config": {"endpoint": "http://127.0.0.1:9/v1", "credential": newer}}
    await done(operator.patch(f"/api/v1/lifecycles/{lifecycle}", json=changed))
    for path in ("models", "lifecycles", f"lifecycles/{lifecycle}/history", "audit-log", "providers"):
        text = (await operator.get(f"/api/v1/{path}")).text
        assert SECRET not in text and newer not in text, path
    with psycopg.connect(database_urls.owner) as owner:
        tables = owner.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'trimtab')"
        ).fetchall()
        for (table,) in tables:
            for (row,) in owner.execute(f"select to_jsonb(t)::text from {table} t").fetchall():  # type: ignore[arg-type]
                for secret in (SECRET, newer):
                    assert secret not in row and secret.encode().hex() not in row, table
        sealed = owner.execute("select sealed from trimtab.provider_credentials order by id").fetchall()
    assert [api.services.sealer.unseal(bytes(row[0])).decode() for row in sealed] == [SECRET, newer]


async def test_a_credential_is_shared_by_reference(operator: httpx2.AsyncClient) -> None:
    model = await registered(operator)
    reference = model["lifecycle"]["deployment_config"]["credential"]
    config = {"endpoint": "http://127.0.0.1:9001/v1", "credential": reference}
    version = await version_of(operator, model["id"], "v1.1.0", deployment_config=config)
    assert version["deployment_config"]["credential"] == reference
    assert version["deployment_config"]["provider"] == "openai-compatible"
    assert len((await done(operator.get("/api/v1/providers")))["items"]) == 1


async def test_models_by_id_and_by_name(operator: httpx2.AsyncClient) -> None:
    made = await done(operator.post("/api/v1/models", json={"name": "Customer Service Bot", "provider": "x"}), 201)
    for key in (made["id"], "Customer Service Bot", "customer%20service%20BOT"):
        assert (await done(operator.get(f"/api/v1/models/{key}")))["id"] == made["id"]
    assert [m["id"] for m in (await done(operator.get("/api/v1/models?name=customer service bot")))["items"]] == [
        made["id"]
    ]
    assert (await done(operator.get("/api/v1/models?provider=y")))["items"] == []
    await refused(operator.get("/api/v1/models/nobody"), Code.NOT_FOUND)
    await refused(operator.get(f"/api/v1/models/{uuid4()}"), Code.NOT_FOUND)
    hexadecimal = uuid4().hex
    odd = await done(operator.post("/api/v1/models", json={"name": hexadecimal, "provider": "x"}), 201)
    assert (await done(operator.get(f"/api/v1/models/{hexadecimal}")))["id"] == odd["id"]


async def test_changing_and_deleting_a_model(
    api: Api, admin: httpx2.AsyncClient, operator: httpx2.AsyncClient, database_urls: Urls
) -> None:
    model = await registered(operator)
    path = f"/api/v1/models/{model['id']}"
    changed = await done(operator.patch(path, json={"description": "helps", "tags": {"team": "a"}}))
    assert (changed["description"], changed["tags"], changed["version"]) == ("helps", {"team": "a"}, 2)
    assert (await done(operator.patch(path, json={"description": "helps"})))["version"] == 2
    deployment = await deploy(api, model["lifecycle"], "prod-1")
    assert "prod-1" in (await refused(operator.patch(path, json={"name": "b"}), Code.CONFLICT, "name"))["detail"]
    assert "prod-1" in (await refused(admin.delete(path), Code.CONFLICT))["detail"]
    await refused(operator.delete(path), Code.FORBIDDEN)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("update public.ai_model_deployments set ended_at = now() where id = %s", (deployment,))
    assert (await done(operator.patch(path, json={"name": "b"})))["name"] == "b"
    kept = await refused(admin.delete(path), Code.CONFLICT)
    assert "was deployed" in kept["detail"] and "retire its versions" in kept["detail"]
    other = await registered(operator, name="never-deployed")
    await done(admin.delete(f"/api/v1/models/{other['id']}"), 204)
    await refused(operator.get(f"/api/v1/models/{other['id']}"), Code.NOT_FOUND)


async def test_versions(operator: httpx2.AsyncClient) -> None:
    model = await registered(operator)
    second = await version_of(
        operator,
        model["id"],
        "v1.1.0",
        deployment_config={"endpoint": "http://127.0.0.1:9001/v1/", "parameters": {"temperature": 0, "stop": None}},
        performance_requirements={"error_rate": 0.02, "latency_threshold": 800},
        resource_allocation={"cpu": 0.5, "memory_mb": 512},
        parent_lifecycle_id=model["lifecycle_id"],
        lineage={"job": "42"},
    )
    assert second["deployment_config"]["endpoint"] == "http://127.0.0.1:9001/v1"
    assert second["deployment_config"]["parameters"] == {"temperature": 0, "stop": None}
    assert second["performance_requirements"] == {"error_rate": 0.02, "latency_threshold": 800.0}
    assert (second["parent_lifecycle_id"], second["lineage"]) == (model["lifecycle_id"], {"job": "42"})
    body = {"model_id": model["id"], "version_tag": "V1.1.0"}
    await refused(operator.post("/api/v1/lifecycles", json=body), Code.ALREADY_EXISTS, "version_tag")
    body = {"model_id": model["id"], "version_tag": "Production"}
    await refused(operator.post("/api/v1/lifecycles", json=body), Code.INVALID_REQUEST, "version_tag")
    body = {"model_id": str(uuid4()), "version_tag": "v1"}
    await refused(operator.post("/api/v1/lifecycles", json=body), Code.NOT_FOUND)
    body = {"model_id": model["id"], "version_tag": "v3", "parent_lifecycle_id": str(uuid4())}
    await refused(operator.post("/api/v1/lifecycles", json=body), Code.NOT_FOUND, "parent_lifecycle_id")
    listed = (await done(operator.get(f"/api/v1/lifecycles?model_id={model['id']}")))["items"]
    assert [item["version_tag"] for item in listed] == ["v1.1.0", "v1.0.0"]
    one = (await done(operator.get("/api/v1/lifecycles?version_tag=v1.0.0&lifecycle_stage=development")))["items"]
    assert [item["id"] for item in one] == [model["lifecycle_id"]]
    assert (await done(operator.get("/api/v1/lifecycles?approval_status=approved")))["items"] == []


async def test_what_was_approved_stays_as_it_was(operator: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    model = await registered(operator)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}"
    changed = await done(operator.patch(path, json={"version_tag": "v1.0.1", "resource_allocation": {"cpu": 1}}))
    assert (changed["version_tag"], changed["resource_allocation"], changed["version"]) == ("v1.0.1", {"cpu": 1.0}, 2)
    assert changed["deployment_config"] == model["lifecycle"]["deployment_config"]
    assert (await done(operator.patch(path, json={})))["version"] == 2
    approved = await done(admin.post(f"{path}/approve", json={"approver": "ada", "comment": "fine"}))
    assert (approved["approval_status"], approved["decided_by_name"]) == ("approved", "Ada")
    await refused(operator.patch(path, json={"description": "x"}), Code.VERSION_IMMUTABLE)
    rejected = await done(admin.post(f"{path}/reject", json={"comment": "after all"}))
    assert rejected["approval_status"] == "rejected" and rejected["frozen_at"] == approved["frozen_at"]
    await refused(operator.patch(path, json={"resource_allocation": {}}), Code.VERSION_IMMUTABLE)


async def test_a_rejected_version_can_be_mended(operator: httpx2.AsyncClient) -> None:
    model = await registered(operator)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}"
    await done(operator.post(f"{path}/reject"))
    await done(operator.patch(path, json={"performance_requirements": {"error_rate": 0.01}}))
    assert (await done(operator.post(f"{path}/approve")))["approval_status"] == "approved"


async def test_the_approver_is_the_caller(admin: httpx2.AsyncClient, operator: httpx2.AsyncClient, api: Api) -> None:
    model = await registered(operator)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}/approve"
    await refused(operator.post(path, json={"approver": "Ada"}), Code.APPROVER_MISMATCH, "approver")
    async with api.client(await api.member("viewer", "viewer")) as viewer:
        await refused(viewer.post(path, json={"approver": "viewer"}), Code.FORBIDDEN)
    session = await done(admin.get("/api/v1/session"))
    first = await done(admin.post(path, json={"approver": session["member_id"].upper()}))
    assert first["decided_by"] == session["member_id"]
    again = await done(admin.post(path, json={"approver": "ADA"}))
    assert again == first
    assert "Ada" in (await refused(operator.post(path), Code.CONFLICT))["detail"]
    audit = (await done(admin.get("/api/v1/audit-log?action=lifecycle.approve")))["items"]
    assert [line["actor_id"] for line in audit] == [session["member_id"]]


async def test_four_eyes(admin: httpx2.AsyncClient, operator: httpx2.AsyncClient) -> None:
    workspace = (await done(admin.get("/api/v1/session")))["workspace_id"]
    await done(admin.patch(f"/api/v1/workspaces/{workspace}", json={"settings": {"four_eyes": True}}))
    model = await registered(operator)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}"
    await refused(operator.post(f"{path}/approve"), Code.FOUR_EYES)
    await refused(operator.post(f"{path}/approve", json={"conditions": {}}), Code.FOUR_EYES)
    assert (await done(operator.get(path)))["approval_status"] == "pending"
    assert (await done(admin.post(f"{path}/approve")))["approval_status"] == "approved"


async def test_conditional_approval(operator: httpx2.AsyncClient, clock: Moment) -> None:
    model = await registered(operator)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}"
    past = {"conditions": {"expires_at": (clock.now - timedelta(hours=1)).isoformat()}}
    await refused(operator.post(f"{path}/approve", json=past), Code.INVALID_REQUEST, "conditions.expires_at")
    naive = {"conditions": {"expires_at": "2030-01-01T00:00:00"}}
    await refused(operator.post(f"{path}/approve", json=naive), Code.INVALID_REQUEST, "conditions.expires_at")
    soon = {"max_traffic_percentage": 10, "expires_at": (clock.now + timedelta(hours=1)).isoformat()}
    conditional = await done(operator.post(f"{path}/approve", json={"conditions": soon, "evidence": {"suite": "ok"}}))
    assert conditional["approval_status"] == "conditional"
    assert conditional["approval_conditions"]["max_traffic_percentage"] == 10
    assert await done(operator.post(f"{path}/approve", json={"conditions": soon})) == conditional
    clock.now += timedelta(hours=2)
    stage = {"to_stage": "production"}
    assert (
        "expired"
        in (await refused(operator.post(f"{path}/transition", json=stage), Code.VERSION_NOT_APPROVED))["detail"]
    )
    full = await done(operator.post(f"{path}/approve"))
    assert (full["approval_status"], full["approval_conditions"]) == ("approved", None)
    await done(operator.post(f"{path}/transition", json=stage))
    history = (await done(operator.get(f"{path}/history")))["items"]
    assert [step["event"] for step in history] == ["stage", "approved", "conditional", "registered"]
    assert history[2]["evidence"]["suite"] == "ok" and history[2]["actor_name"] == "Bob"


async def test_stages(api: Api, operator: httpx2.AsyncClient, database_urls: Urls) -> None:
    model = await registered(operator)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}"

    def to(stage: str) -> Any:
        return operator.post(f"{path}/transition", json={"to_stage": stage, "comment": "on"})

    assert (await done(to("staging")))["lifecycle_stage"] == "staging"
    assert (await done(to("staging")))["version"] == 2
    unapproved = await refused(to("production"), Code.VERSION_NOT_APPROVED)
    assert unapproved["approval_status"] == "pending" and "approve" in unapproved["detail"]
    await refused(to("live"), Code.INVALID_REQUEST, "to_stage")
    deployment = await deploy(api, {**model["lifecycle"]})
    assert "live" in (await refused(to("retired"), Code.CONFLICT, "to_stage"))["detail"]
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("update public.ai_model_deployments set ended_at = now() where id = %s", (deployment,))
    await done(to("retired"))
    await refused(to("development"), Code.INVALID_TRANSITION, "to_stage")
    await refused(operator.post(f"{path}/approve"), Code.CONFLICT)


async def test_changes_wait_for_a_deployment_that_begins(
    api: Api, admin: httpx2.AsyncClient, database_urls: Urls
) -> None:
    """What is checked of deployments must still be so at the commit."""
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    model = await registered(admin)
    path = f"/api/v1/models/{model['id']}"
    transition = f"/api/v1/lifecycles/{model['lifecycle_id']}/transition"
    async with api.services.database.transaction(SYSTEM) as connection:
        await service.lock_model(connection, UUID(model["id"]))
        changes = [
            asyncio.create_task(refused(change, Code.CONFLICT, field_name))
            for field_name, change in (
                ("name", admin.patch(path, json={"name": "b"})),
                (None, admin.delete(path)),
                ("to_stage", admin.post(transition, json={"to_stage": "retired"})),
            )
        ]
        deadline = asyncio.get_running_loop().time() + 30
        with psycopg.connect(database_urls.owner, autocommit=True) as owner:
            while owner.execute(waiting).fetchone() != (3,):
                assert asyncio.get_running_loop().time() < deadline, "they do not wait"
                await asyncio.sleep(0.02)
        await connection.execute(
            "insert into public.ai_model_deployments (id, workspace_id, model_id, lifecycle_id, deployment_name, "
            "environment, deployment_type, deadline_at) "
            "values (%s, %s, %s, %s, 'begun', 'production', 'direct', now())",
            (new_id(), model["workspace_id"], model["id"], model["lifecycle_id"]),
        )
    assert all("begun" in refusal["detail"] for refusal in await asyncio.gather(*changes))


async def test_stages_in_order(admin: httpx2.AsyncClient) -> None:
    workspace = (await done(admin.get("/api/v1/session")))["workspace_id"]
    await done(admin.patch(f"/api/v1/workspaces/{workspace}", json={"settings": {"stage_order": True}}))
    model = await registered(admin)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}"
    await done(admin.post(f"{path}/approve"))
    skipped = await refused(
        admin.post(f"{path}/transition", json={"to_stage": "production"}), Code.INVALID_TRANSITION, "to_stage"
    )
    assert "in order" in skipped["detail"]
    for stage in ("testing", "staging", "production"):
        await done(admin.post(f"{path}/transition", json={"to_stage": stage}))


async def test_of_two_decisions_at_once_one_counts(
    admin: httpx2.AsyncClient, operator: httpx2.AsyncClient, database_urls: Urls
) -> None:
    model = await registered(operator)
    path = f"/api/v1/lifecycles/{model['lifecycle_id']}"
    tag = {"if-match": '"1"'}
    answers = await asyncio.gather(
        admin.post(f"{path}/approve", headers=tag), operator.post(f"{path}/reject", headers=tag)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    winner = next(answer.json() for answer in answers if answer.status_code == 200)
    assert (await done(operator.get(path)))["approval_status"] == winner["approval_status"]
    with psycopg.connect(database_urls.owner) as owner:
        steps = owner.execute("select event from trimtab.lifecycle_events where event <> 'registered'").fetchall()
        audited = owner.execute(
            "select 1 from trimtab.audit_log where action in ('lifecycle.approve', 'lifecycle.reject')"
        ).rowcount
    assert [step for (step,) in steps] == [winner["approval_status"]] and audited == 1


async def test_every_change_is_audited_and_told(operator: httpx2.AsyncClient, database_urls: Urls) -> None:
    model = await registered(operator)
    lifecycle = model["lifecycle_id"]
    await done(operator.patch(f"/api/v1/lifecycles/{lifecycle}", json={"description": "new"}))
    async with await psycopg.AsyncConnection.connect(database_urls.app, autocommit=True) as listener:
        await listener.execute("listen trimtab_deployments")
        await done(operator.post(f"/api/v1/lifecycles/{lifecycle}/approve"))
        woken = [notification.payload async for notification in listener.notifies(timeout=30, stop_after=1)]
    assert woken == [lifecycle]
    await done(operator.post(f"/api/v1/lifecycles/{lifecycle}/transition", json={"to_stage": "staging"}))
    with psycopg.connect(database_urls.owner) as owner:
        actions = owner.execute(
            "select action, actor_name from trimtab.audit_log where actor_id is not null order by id"
        )
        audited = actions.fetchall()
        events = owner.execute("select name from trimtab.events order by id").fetchall()
    assert [action for action, _ in audited] == [
        "model.create",
        "provider.create",
        "lifecycle.create",
        "lifecycle.update",
        "lifecycle.approve",
        "lifecycle.transition",
    ]
    assert {name for _, name in audited} == {"Bob"}
    assert [name for (name,) in events] == [
        "model.created",
        "lifecycle.created",
        "lifecycle.updated",
        "lifecycle.approved",
        "lifecycle.staged",
    ]
    lines = (await done(operator.get(f"/api/v1/audit-log?object_id={lifecycle}&object_type=lifecycle")))["items"]
    assert [line["action"] for line in lines] == [
        "lifecycle.transition",
        "lifecycle.approve",
        "lifecycle.update",
        "lifecycle.create",
    ]


async def test_prices(api: Api, operator: httpx2.AsyncClient, clock: Moment) -> None:
    model = await registered(operator)
    path = f"/api/v1/models/{model['id']}/prices"
    first = await done(operator.post(path, json={"input": "3", "output": 15, "cache_read": "0.3"}), 201)
    assert (first["input"], first["output"], first["cache_read"], first["cache_write"]) == ("3", "15", "0.3", "3")
    await refused(operator.post(path, json={"input": 1, "output": 1}), Code.ALREADY_EXISTS, "effective_from")
    later = (clock.now + timedelta(days=30)).isoformat()
    await done(operator.post(path, json={"input": 2, "output": 10, "effective_from": later}), 201)
    async with api.services.database.transaction(SYSTEM) as connection:
        version = await service.get_version(connection, UUID(model["workspace_id"]), UUID(model["lifecycle_id"]))
    assert [price.input_pico for price in version.prices] == [3_000_000, 2_000_000]
    assert version.prices[0].since == pytest.approx(clock.now.timestamp())
    own = {"endpoint": "http://127.0.0.1:1/v1", "pricing": {"input": 1, "output": 4}}
    priced = await version_of(operator, model["id"], "v2", deployment_config=own)
    async with api.services.database.transaction(SYSTEM) as connection:
        version = await service.get_version(connection, UUID(model["workspace_id"]), UUID(priced["id"]))
    assert [(price.since, price.input_pico, price.output_pico) for price in version.prices] == [(0.0, 10**6, 4 * 10**6)]


async def test_what_deployments_ask_for(api: Api, operator: httpx2.AsyncClient) -> None:
    model = await registered(operator)
    workspace, lifecycle = UUID(model["workspace_id"]), UUID(model["lifecycle_id"])
    actor = program(workspace)
    async with api.services.database.transaction(SYSTEM) as connection:
        version = await service.get_version(connection, workspace, lifecycle)
        assert version.lifecycle.model_name == "support-bot" and version.lifecycle.credential_id is not None
        await service.set_stage(connection, actor, lifecycle, "staging", "deployed")
        await service.set_stage(connection, actor, lifecycle, "staging")
        with pytest.raises(TrimtabError) as caught:
            await service.set_stage(connection, actor, lifecycle, "production")
        assert caught.value.code is Code.VERSION_NOT_APPROVED
        with pytest.raises(TrimtabError) as caught:
            await service.get_version(connection, uuid4(), lifecycle)
        assert caught.value.code is Code.NOT_FOUND
    history = (await done(operator.get(f"/api/v1/lifecycles/{lifecycle}/history")))["items"]
    assert [(step["event"], step["to_value"], step["actor_name"]) for step in history] == [
        ("stage", "staging", "trimtab"),
        ("registered", "v1.0.0", "Bob"),
    ]


async def test_viewers_look_and_do_nothing(api: Api, operator: httpx2.AsyncClient) -> None:
    model = await registered(operator)
    lifecycle = f"/api/v1/lifecycles/{model['lifecycle_id']}"
    async with api.client(await api.member("eve", "viewer")) as viewer:
        for path in ("/api/v1/models", f"/api/v1/models/{model['id']}", lifecycle, f"{lifecycle}/history"):
            await done(viewer.get(path))
        for refusal in (
            viewer.post("/api/v1/models", json={"name": "x", "provider": "y"}),
            viewer.post("/api/v1/models/register", json=REGISTRATION),
            viewer.patch(f"/api/v1/models/{model['id']}", json={}),
            viewer.delete(f"/api/v1/models/{model['id']}"),
            viewer.patch(lifecycle, json={}),
            viewer.post(f"{lifecycle}/approve"),
            viewer.post(f"{lifecycle}/reject"),
            viewer.post(f"{lifecycle}/transition", json={"to_stage": "testing"}),
            viewer.post(f"/api/v1/models/{model['id']}/prices", json={"input": 1, "output": 1}),
        ):
            await refused(refusal, Code.FORBIDDEN)


async def test_workspaces_know_nothing_of_each_other(api: Api, operator: httpx2.AsyncClient) -> None:
    model = await registered(operator)
    async with api.client(await api.member("Mallory", "admin", workspace="other")) as stranger:
        assert (await done(stranger.get("/api/v1/models")))["items"] == []
        assert (await done(stranger.get("/api/v1/lifecycles")))["items"] == []
        for path in (f"models/{model['id']}", "models/support-bot", f"lifecycles/{model['lifecycle_id']}"):
            await refused(stranger.get(f"/api/v1/{path}"), Code.NOT_FOUND)
        await refused(stranger.post(f"/api/v1/lifecycles/{model['lifecycle_id']}/approve"), Code.NOT_FOUND)
        await refused(stranger.delete(f"/api/v1/models/{model['id']}"), Code.NOT_FOUND)
        body = {"model_id": model["id"], "version_tag": "v9"}
        await refused(stranger.post("/api/v1/lifecycles", json=body), Code.NOT_FOUND)
        mine = await registered(stranger)
        stolen = model["lifecycle"]["deployment_config"]["credential"]
        config = {"endpoint": "http://127.0.0.1:1/v1", "credential": stolen}
        body = {"model_id": mine["id"], "version_tag": "v9", "deployment_config": config}
        await refused(stranger.post("/api/v1/lifecycles", json=body), Code.NOT_FOUND, "deployment_config.credential")
