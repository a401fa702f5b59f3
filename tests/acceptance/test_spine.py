"""One version from registration to measured traffic and back, as users do it: sync, async, and by command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from tests.acceptance.serving import ADMIN_KEY, ServerProcess, command, until
from tests.acceptance.upstream import PROMPT_TOKENS, WORDS, Upstream

from trimtab import AsyncTrimtab, Trimtab
from trimtab.client.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailed,
    DeploymentFailed,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)

QUESTION: Any = [{"role": "user", "content": "How does she go?"}]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Trimtab]:
    with Trimtab(server.url, api_key=ADMIN_KEY) as connected:
        yield connected


@pytest.fixture
def openai(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, max_retries=0) as connected:
        yield connected


def chat(openai: OpenAI, model: str) -> httpx2.Headers:
    """Ask once, check the answer; returns the headers."""
    raw = openai.chat.completions.with_raw_response.create(model=model, messages=QUESTION)
    assert raw.parse().choices[0].message.content == "".join(WORDS)
    return httpx2.Headers(dict(raw.headers))


def run(server: ServerProcess, *arguments: str) -> Any:
    """Run a command with `--json`; returns its document."""
    return json.loads(command(*arguments, "--json", url=server.url).stdout)


def test_from_registration_to_rollback(
    server: ServerProcess, upstream: Upstream, client: Trimtab, openai: OpenAI
) -> None:
    # Register; unapproved it goes nowhere.
    model = client.register_existing_model(
        name="support-bot",
        endpoint=upstream.url,
        provider="openai-compatible",
        version="v1.0.0",
        upstream_model="scripted",
        credential="sk-upstream-secret",
        pricing={"input": "1", "output": "10"},
    )
    assert (model.name, model.lifecycle.version_tag, model.lifecycle.approval_status) == (
        "support-bot",
        "v1.0.0",
        "pending",
    )
    assert "sk-upstream-secret" not in model.model_dump_json()
    with pytest.raises(ConflictError) as refused:
        client.deploy_model(model.lifecycle_id, environment="production", deployment_type="direct")
    assert refused.value.code == "version_not_approved"

    # Approve, deploy, call.
    approved = client.approve_lifecycle(model.lifecycle_id, "admin", comment="read it", evidence={"suite": 0.93})
    assert approved.approval_status == "approved"
    first = client.deploy_model(model.lifecycle_id, environment="production", deployment_type="direct", wait=True)
    assert (first.status, first.traffic_percentage) == ("healthy", 100)
    headers = chat(openai, "support-bot")
    assert (headers["x-trimtab-version"], headers["x-trimtab-deployment"]) == ("v1.0.0", str(first.id))
    assert upstream.script.keys[-1] == "Bearer sk-upstream-secret"
    assert upstream.script.requests[-1]["model"] == "scripted"
    with openai.chat.completions.create(model="support-bot@v1.0.0", messages=QUESTION, stream=True) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == "".join(WORDS)
    assert [item.id for item in openai.models.list()] == ["support-bot"]

    # It was measured.
    now = datetime.now(UTC)

    def measured() -> dict[str, Any] | None:
        found = client.get_model_metrics(first.id, start=now - timedelta(hours=1), end=now + timedelta(minutes=1))
        return found if found and found["requests"].count == 2 else None

    metrics = until(measured, "both requests are metered")
    assert metrics["latency"].p95 is not None
    assert metrics["ttft"].count == 1
    assert metrics["input_tokens"].total == 2 * PROMPT_TOKENS
    assert metrics["output_tokens"].total == 2 * len(WORDS)
    assert metrics["error_rate"].mean == 0
    assert str(metrics["cost"].total) == "0.000122000"
    assert client.get_model_health(first.id).status == "healthy"

    # Custom metrics stand beside.
    one = client.record_performance_metric(first.id, "satisfaction", 4.5, "stars", {"from": "survey"})
    assert one.recorded == 1
    many = [{"deployment_id": first.id, "metric_type": "satisfaction", "metric_value": n % 5} for n in range(10_000)]
    assert client.record_performance_metrics(many).recorded == 10_000
    satisfaction = client.get_model_metrics(first.id)["satisfaction"]
    assert satisfaction.count == 10_001

    # What served it, approved by whom, on which evidence.
    detail = client.requests.get(headers["x-request-id"])
    assert (detail.version_tag, detail.deployment_id, detail.status) == ("v1.0.0", first.id, 200)
    assert detail.approval is not None
    assert (detail.approval.approver, detail.approval.comment, detail.approval.evidence) == (
        "admin",
        "read it",
        {"suite": 0.93},
    )
    usage = client.usage.get(group_by=["model", "version"], model_id=model.id)
    assert (usage.totals.requests, usage.items[0].version_tag) == (2, "v1.0.0")

    # A second version, and back.
    second = client.create_model_lifecycle(
        model.id,
        "v1.1.0",
        deployment_config={
            "endpoint": upstream.url,
            "upstream_model": "scripted",
            "parameters": {"temperature": 0.2, "system_prompt": "Be brief."},
        },
        performance_requirements={"error_rate": 0.02, "latency_threshold": 800},
        parent_lifecycle_id=model.lifecycle_id,
    )
    client.approve_lifecycle(second.id, "admin")
    newer = client.deploy_model(second.id, environment="production", deployment_type="direct", wait=True)
    assert newer.previous_deployment_id == first.id
    assert chat(openai, "support-bot")["x-trimtab-version"] == "v1.1.0"
    assert upstream.script.requests[-1]["temperature"] == 0.2
    assert upstream.script.requests[-1]["messages"][0] == {"role": "system", "content": "Be brief."}

    client.deployments.rollback(newer.id)
    client.deployments.wait(newer.id, goal="roll_back")
    until(lambda: chat(openai, "support-bot")["x-trimtab-version"] == "v1.0.0", "the first version serves again")
    assert [version.version_tag for version in client.lifecycles.list(model_id=model.id, limit=1)] == [
        "v1.1.0",
        "v1.0.0",
    ]
    actions = [entry.action for entry in client.audit_log.list(object_id=newer.id)]
    assert actions == ["deployment.rollback", "deployment.create"]


async def test_the_same_asynchronously(server: ServerProcess, upstream: Upstream) -> None:
    async with AsyncTrimtab(server.url, api_key=ADMIN_KEY) as client:
        model = await client.register_existing_model(
            name="async-bot", endpoint=upstream.url, provider="openai-compatible", version="v1.0.0"
        )
        await client.approve_lifecycle(model.lifecycle_id, "admin")
        seen: list[str] = []
        deployment = await client.deploy_model(
            str(model.lifecycle_id),
            environment="staging",
            deployment_type="direct",
            wait=True,
            watch=lambda state: seen.append(state.status),
        )
        assert (seen[0], seen[-1]) == ("deploying", "healthy")
        assert (await client.get_model_health(deployment.id)).status == "healthy"
        assert await client.get_model_metrics(deployment.id) == {}
        assert (await client.record_performance_metric(deployment.id, "score", 1.0)).recorded == 1
        assert (await client.session.get()).member_name == "admin"
        assert "async-bot" in [item.name async for item in client.models.list(limit=1)]
        events = [event.name async for event in client.deployments.events(deployment.id)]
        assert events[-1] == "deployment.created"
        replicas = await client.deployments.replicas(deployment.id).all()
        assert [replica.url for replica in replicas] == [upstream.url]


def test_the_same_by_command(server: ServerProcess, upstream: Upstream, openai: OpenAI) -> None:
    registered = run(
        server, "models", "register", "cli-bot", "--endpoint", upstream.url, "--price-input", "1", "--price-output", "2"
    )
    refused = command("deploy", "cli-bot@v1.0.0", "--env", "production", url=server.url, status=1)
    assert refused.stdout == ""
    assert re.fullmatch(r"error: .*not approved.*\(version_not_approved\)\n", refused.stderr)
    assert run(server, "versions", "approve", "cli-bot@v1.0.0", "--comment", "ok")["approval_status"] == "approved"
    deployed = run(server, "deploy", "cli-bot@v1.0.0", "--env", "production", "--type", "direct", "--wait")
    assert deployed["status"] == "healthy"
    request_id = chat(openai, "cli-bot")["x-request-id"]
    served = run(server, "requests", "get", request_id, "--wait")
    assert served["approval"]["approver"] == "admin"
    assert run(server, "metrics", "cli-bot", "--last", "1h")["metrics"]["requests"]["count"] == 1

    assert run(server, "versions", "create", "cli-bot", "v2", "--endpoint", upstream.url)["version_tag"] == "v2"
    run(server, "lifecycles", "approve", "cli-bot@v2")
    run(server, "deploy", "cli-bot@v2", "--env", "production", "--wait")
    back = run(server, "rollback", "cli-bot", "--wait")
    # A side that nobody used drains at once, any other for half a minute.
    assert "rolled_back" in (back["status"], back["ending_status"])

    # Everything else answers too: one document for programs, text for people.
    lists = [
        ("status",),
        ("whoami",),
        ("models", "list"),
        ("models", "get", "cli-bot"),
        ("versions", "list", "cli-bot"),
        ("versions", "get", "cli-bot@v2"),
        ("versions", "history", registered["lifecycle_id"]),
        ("deployments", "list", "cli-bot"),
        ("deployments", "get", "cli-bot"),
        ("deployments", "events", deployed["id"]),
        ("deployments", "health", "cli-bot"),
        ("deployments", "metrics", deployed["id"]),
        ("deployments", "logs", "cli-bot@production"),
        ("usage", "--by", "model,day"),
        ("requests", "list", "--deployment", "cli-bot"),
        ("keys", "list"),
        ("providers", "list"),
        ("audit", "--limit", "3"),
        ("db", "url", "--data-dir", str(server.data_dir)),
    ]

    def answers_both_ways(arguments: tuple[str, ...]) -> None:
        url = "" if arguments[0] == "db" else server.url
        json.loads(command(*arguments, "--json", url=url).stdout)
        text = command(*arguments, url=url)
        assert text.stderr == ""
        assert "\x1b" not in text.stdout

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(answers_both_ways, lists))


class TestBadInput:
    def test_unknown_model(self, openai: OpenAI, server: ServerProcess) -> None:
        answer = self.post(server, {"model": "nobody", "messages": QUESTION})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        done = command("models", "get", "nobody", url=server.url, status=1)
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith("(not_found)\n")

    def test_a_version_that_is_not_approved(self, server: ServerProcess, upstream: Upstream, client: Trimtab) -> None:
        model = client.register_existing_model("unapproved", endpoint=upstream.url)
        with pytest.raises(ConflictError, match="not approved"):
            client.deploy_model(model.lifecycle_id, environment="production")
        answer = self.post(server, {"model": "unapproved", "messages": QUESTION})
        assert answer.status_code in (403, 404)
        assert not upstream.script.requests
        assert client.deployments.list(model_id=model.id).all() == []

    def test_wrong_key(self, server: ServerProcess) -> None:
        with Trimtab(server.url, api_key="tt_wrong") as stranger, pytest.raises(AuthenticationError) as caught:
            stranger.models.list().page()
        assert caught.value.code == "unauthenticated"
        assert caught.value.request_id
        answer = self.post(server, {"model": "x", "messages": QUESTION}, key="tt_wrong")
        assert answer.status_code == 401
        assert "error" in answer.json()
        done = command("models", "list", url=server.url, key="tt_wrong", status=1)
        assert re.fullmatch(r"error: .*\(unauthenticated\)\n", done.stderr)

    def test_wrong_role(self, server: ServerProcess, client: Trimtab) -> None:
        key = client.api_keys.create("only-looking", role="viewer").key
        with Trimtab(server.url, api_key=key) as viewer:
            assert viewer.session.get().role == "viewer"
            with pytest.raises(PermissionDeniedError) as caught:
                viewer.models.create("mine", "openai")
            assert caught.value.code == "forbidden"
            with pytest.raises(PermissionDeniedError):
                viewer.api_keys.list().page()

    def test_a_key_for_models_only_cannot_manage_them(self, server: ServerProcess, client: Trimtab) -> None:
        made = client.api_keys.create("caller", scopes=["inference"])
        with Trimtab(server.url, api_key=made.key) as caller, pytest.raises(PermissionDeniedError):
            caller.models.list().page()
        until(
            lambda: self.post(server, {"model": "nobody", "messages": QUESTION}, key=made.key).status_code == 404,
            "the gateway knows the key",
        )
        client.api_keys.revoke(made.id)
        until(
            lambda: self.post(server, {"model": "nobody", "messages": QUESTION}, key=made.key).status_code == 401,
            "the gateway has forgotten the key",
        )

    def test_another_approver(self, client: Trimtab, upstream: Upstream) -> None:
        model = client.register_existing_model("approver-test", endpoint=upstream.url)
        with pytest.raises(PermissionDeniedError) as caught:
            client.approve_lifecycle(model.lifecycle_id, "somebody-else")
        assert caught.value.code == "approver_mismatch"
        assert client.lifecycles.get(model.lifecycle_id).approval_status == "pending"

    def test_a_body_that_is_no_json(self, server: ServerProcess) -> None:
        headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
        answers = [
            httpx2.post(server.url + target, content=b'{"name": ', headers=headers, trust_env=False)
            for target in ("/api/v1/models", "/v1/chat/completions")
        ]
        assert [answer.status_code for answer in answers] == [400, 400]
        assert all(answer.headers["x-request-id"] for answer in answers)
        control, gateway = (answer.json() for answer in answers)
        assert (control["code"], control["status"]) == ("invalid_json", 400)
        assert gateway["error"]["type"] == "invalid_request_error"
        assert "JSON" in gateway["error"]["message"]

    @pytest.mark.parametrize("target", ["/api/v1/models", "/v1/chat/completions"])
    def test_a_body_that_is_too_large(self, server: ServerProcess, target: str) -> None:
        headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
        body = b'{"name": "' + b"x" * (50 * 1024 * 1024) + b'"}'
        answer = httpx2.post(server.url + target, content=body, headers=headers, trust_env=False, timeout=60)
        assert answer.status_code == 413

    def test_an_unknown_field_is_named(self, client: Trimtab) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            client.register_existing_model("x", endpoint="http://127.0.0.1:1", deployment_config={"endpont": "x"})
        assert caught.value.code == "invalid_request"
        assert caught.value.field is not None
        assert "endpont" in caught.value.field

    def test_an_unreachable_endpoint(self, server: ServerProcess, client: Trimtab) -> None:
        model = client.register_existing_model("unreachable", endpoint="http://127.0.0.1:1/v1")
        client.approve_lifecycle(model.lifecycle_id, "admin")
        with pytest.raises(DeploymentFailed) as caught:
            client.deploy_model(
                model.lifecycle_id, environment="production", progress_deadline_seconds=2, wait=True, timeout=60
            )
        assert caught.value.deployment.status == "failed"
        assert "127.0.0.1:1" in str(caught.value) or "replica 0" in str(caught.value)
        answer = self.post(server, {"model": "unreachable", "messages": QUESTION})
        assert answer.status_code == 404

    def test_unknown_ids(self, client: Trimtab) -> None:
        nobody = "01900000-0000-7000-8000-000000000000"
        for call in (
            client.models.get,
            client.lifecycles.get,
            client.deployments.get,
            client.get_model_health,
            client.requests.get,
        ):
            with pytest.raises(NotFoundError):
                call(nobody)
        with pytest.raises(InvalidRequestError):
            client.deployments.get("not-an-id")

    def test_a_name_that_is_taken(self, client: Trimtab, upstream: Upstream) -> None:
        client.register_existing_model("Taken", endpoint=upstream.url)
        with pytest.raises(ConflictError) as caught:
            client.register_existing_model("taken", endpoint=upstream.url)
        assert caught.value.code == "already_exists"

    def test_a_server_that_is_down(self) -> None:
        with Trimtab("http://127.0.0.1:1", api_key="x", retries=0) as lost, pytest.raises(ConnectionFailed):
            lost.session.get()
        done = command("status", url="http://127.0.0.1:1", status=1)
        assert done.stderr == (
            "error: no Trimtab answers at http://127.0.0.1:1; start one with `trimtab serve` (connection_failed)\n"
        )

    @staticmethod
    def post(server: ServerProcess, body: dict[str, Any], key: str = ADMIN_KEY) -> httpx2.Response:
        return httpx2.post(
            f"{server.url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=60,
        )
