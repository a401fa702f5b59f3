"""The gateway end to end: a web worker, a real database, a model server that does what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from tests.mock_upstream import COMPLETION, Mock
from tests.running_gateway import (
    KEY,
    RunningGateway,
    deployment_entry,
    key_change,
    make_workspace,
    publish_changes,
    route_changes,
    running_gateway,
    until,
)

from trimtab.db.database import SYSTEM, Database
from trimtab.db.embedded import Urls
from trimtab.gateway.upstream import Timeouts
from trimtab.metering.record import Usage


@pytest.fixture
async def mock() -> AsyncIterator[Mock]:
    async with Mock() as mock:
        yield mock


@pytest.fixture
async def workspace(database: Database) -> UUID:
    return await make_workspace(database)


@pytest.fixture
async def gateway(
    mock: Mock, database: Database, database_urls: Urls, workspace: UUID, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway with a model for each scenario (and `bot`, which is `plain`)."""
    changes = [key_change(workspace)]
    for scenario in mock.scenarios:
        entry = deployment_entry(workspace, mock.url(scenario), model_name=scenario)
        changes += route_changes(scenario, (entry, 10_000))
        if scenario == "plain":
            changes += route_changes("bot", (entry, 10_000))
    await publish_changes(database, workspace, changes)
    timeouts = Timeouts(first_byte=1.5, gap=1.5, client=2.0)
    async with running_gateway(tmp_path, database_urls.app, timeouts=timeouts) as running:
        yield running


async def test_a_chat_request_is_answered_and_recorded(gateway: RunningGateway, mock: Mock, workspace: UUID) -> None:
    answer = await gateway.chat("bot", headers={"x-trimtab-unit": "u1", "x-custom": "kept"}, temperature=0.25)
    assert answer.status == 200
    assert await answer.json() == COMPLETION
    assert answer.headers["x-upstream"] == "Kept"
    assert "set-cookie" not in answer.headers
    record = await gateway.record()
    assert answer.headers["x-request-id"] == record.id
    assert answer.headers["x-trimtab-deployment"] == record.deployment_id
    assert answer.headers["x-trimtab-version"] == "v1.0.0"
    assert record.workspace_id == str(workspace)
    assert (record.status, record.error_code, record.unit, record.streamed) == (200, None, "u1", False)
    assert record.usage == Usage(12, 8, 0, 7, 3, "upstream")
    assert record.cost_nano == (12 * 1_000_000 + 8 * 100_000 + 7 * 2_000_000) // 1000
    assert record.finish_reason == "stop"
    (attempt,) = record.attempts
    assert (attempt.status, attempt.error_code, attempt.target) == (200, None, mock.url("plain"))
    (sent,) = mock.requests
    assert sent.path == "/plain/v1/chat/completions"
    assert sent.json == {"model": "mock-model", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.25}
    assert sent.header("authorization") == "Bearer sk-upstream"
    assert sent.header("x-custom") == "kept"
    assert sent.header("x-trimtab-unit") is None
    assert KEY not in str(sent.headers)


async def test_a_stream_is_passed_on_and_its_usage_obtained(gateway: RunningGateway, mock: Mock) -> None:
    answer = await gateway.chat("stream", stream=True)
    text = (await answer.read()).decode()
    assert answer.headers["content-type"] == "text/event-stream"
    assert mock.requests[0].json["stream_options"] == {"include_usage": True}
    assert "usage" not in text
    assert text.endswith("data: [DONE]\n\n")
    assert [word for word in ("Hello", " there") if f'"content":"{word}"' in text]
    record = await gateway.record()
    assert record.streamed
    assert record.usage == Usage(12, 8, 0, 7, 3, "upstream")
    assert record.ttft_us is not None
    assert record.last_token_us is not None
    assert 0 < record.ttft_us <= record.last_token_us <= record.latency_us


async def test_a_caller_who_asks_for_usage_gets_it(gateway: RunningGateway) -> None:
    answer = await gateway.chat("split", stream=True, stream_options={"include_usage": True})
    events = [json.loads(line[6:]) for line in (await answer.text()).splitlines() if line.startswith("data: {")]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == COMPLETION["usage"]
    assert events[0]["usage"] is None


@pytest.mark.parametrize("stream", [False, True])
async def test_missing_usage_is_estimated(gateway: RunningGateway, stream: bool) -> None:
    await gateway.chat("no-usage", stream=stream)
    usage = (await gateway.record()).usage
    assert usage.source == "estimated"
    assert usage.input > 0
    assert usage.output == 3 or not stream


async def test_chunks_are_not_held_back(gateway: RunningGateway, mock: Mock) -> None:
    body = {"model": "paused", "stream": True, "messages": []}
    url = f"{gateway.url}/v1/chat/completions"
    async with gateway.http.post(url, json=body, headers=gateway.headers) as answer:
        text = b""
        while b" you" not in text:
            text += await answer.content.readany()
        assert gateway.records() == []
        mock.release.set()
        text += await answer.content.read()
    assert text.endswith(b"data: [DONE]\n\n")


async def test_a_caller_who_hangs_up_ends_the_upstream_call(gateway: RunningGateway, mock: Mock) -> None:
    body = {"model": "paused", "stream": True, "messages": []}
    url = f"{gateway.url}/v1/chat/completions"
    async with gateway.http.post(url, json=body, headers=gateway.headers) as answer:
        await answer.content.readany()
        answer.close()
    await asyncio.wait_for(mock.requests[0].closed.wait(), 1.0)
    record = await gateway.record()
    assert record.client_gone
    assert record.error_code is None
    assert record.usage.source == "estimated"
    assert record.usage.output == 2
    assert record.usage.input == len(json.dumps(body)) // 4


async def test_a_caller_who_hangs_up_before_the_answer_ends_the_upstream_call(
    gateway: RunningGateway, mock: Mock
) -> None:
    task = asyncio.create_task(gateway.chat("hang"))
    await until(lambda: mock.requests)
    task.cancel()
    await asyncio.wait_for(mock.requests[0].closed.wait(), 1.0)
    record = await gateway.record()
    assert (record.client_gone, record.status, record.usage.source) == (True, 0, "estimated")


@pytest.mark.parametrize(
    ("model", "stream", "status", "code"),
    [
        ("hang", False, 504, "upstream_timeout"),
        ("silent", False, 504, "upstream_timeout"),
        ("reset-first", False, 502, "upstream_unavailable"),
        ("short", False, 502, "upstream_invalid"),
        ("invalid", False, 502, "upstream_invalid"),
        ("html", False, 502, "upstream_invalid"),
        ("redirect", False, 502, "upstream_invalid"),
    ],
)
async def test_failures_of_the_model_server_are_told_apart(
    gateway: RunningGateway, model: str, stream: bool, status: int, code: str
) -> None:
    answer = await gateway.chat(model, stream=stream)
    assert answer.status == status
    error = (await answer.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert answer.headers["x-trimtab-version"] == "v1.0.0"
    assert answer.headers["x-should-retry"] == "true"
    record = await gateway.record()
    assert (record.status, record.error_code) == (status, code)
    assert record.attempts[0].error_code == code


@pytest.mark.parametrize("model", ["reset", "truncated", "no-done", "paused"])
async def test_a_stream_that_breaks_off_never_ends_cleanly(gateway: RunningGateway, model: str) -> None:
    answer = await gateway.chat(model, stream=True)
    events = (await answer.text()).strip().split("\n\n")
    assert answer.status == 200
    assert "[DONE]" not in events[-1]
    error = json.loads(events[-1].removeprefix("data: "))["error"]
    assert error["code"] == ("upstream_timeout" if model == "paused" else "upstream_invalid")
    assert all(json.loads(event.removeprefix("data: ")) for event in events)
    record = await gateway.record()
    assert (record.status, record.error_code, record.client_gone) == (200, error["code"], False)
    assert record.usage.source == "estimated"


async def test_an_error_inside_a_stream_is_passed_on_and_counted(gateway: RunningGateway) -> None:
    answer = await gateway.chat("stream-error", stream=True)
    assert (await answer.text()).count('"error"') == 1
    assert (await gateway.record()).error_code == "upstream_error"


@pytest.mark.parametrize(
    ("model", "status", "error_code"),
    [("400", 400, None), ("429", 429, "upstream_error"), ("500", 500, "upstream_error")],
)
async def test_errors_of_the_model_server_are_passed_on(
    gateway: RunningGateway, model: str, status: int, error_code: str | None
) -> None:
    answer = await gateway.chat(model, stream=True)
    assert answer.status == status
    assert "message" in (await answer.json())["error"]
    record = await gateway.record()
    assert (record.status, record.error_code, record.usage.source) == (status, error_code, "none")
    if model == "429":
        assert answer.headers["retry-after"] == "7"


async def test_a_large_answer_is_passed_on(gateway: RunningGateway) -> None:
    answer = await gateway.chat("large")
    assert len((await answer.json())["padding"]) == 12_000_000
    assert (await gateway.record()).usage.source == "estimated"


async def test_a_stale_connection_is_replaced(gateway: RunningGateway, mock: Mock) -> None:
    for _ in range(20):
        assert (await gateway.chat("close-after")).status == 200
    assert len(mock.requests) == 20


async def test_a_dead_replica_is_passed_over(
    gateway: RunningGateway, mock: Mock, database: Database, workspace: UUID, unused_tcp_port: int
) -> None:
    dead = f"http://127.0.0.1:{unused_tcp_port}/v1"
    entry = deployment_entry(workspace, [dead, mock.url("plain")])
    await publish_changes(database, workspace, route_changes("two", (entry, 10_000)))
    await until_served(gateway, "two")
    answers = [await gateway.chat("two") for _ in range(10)]
    assert {answer.status for answer in answers} == {200}
    tried = [attempt for record in gateway.records() for attempt in record.attempts if attempt.target == dead]
    assert len(tried) <= 1


@pytest.mark.parametrize(("approval", "status"), [("approved", 200), ("conditional", 502)])
async def test_a_dead_deployment_is_stood_in_for_by_another_of_its_route(
    gateway: RunningGateway,
    mock: Mock,
    database: Database,
    workspace: UUID,
    unused_tcp_port: int,
    approval: str,
    status: int,
) -> None:
    dead = deployment_entry(workspace, [f"http://127.0.0.1:{unused_tcp_port}/v{n}" for n in (1, 2)], version_tag="v1")
    alive = deployment_entry(workspace, mock.url("plain"), version_tag="v2", approval=approval)
    await publish_changes(database, workspace, route_changes("pair", (dead, 9_999), (alive, 1)))
    await until_served(gateway, "pair")
    answer = await gateway.chat("pair", headers={"x-trimtab-unit": "u"})
    assert answer.status == status
    served = alive if status == 200 else dead
    assert answer.headers.getall("x-trimtab-deployment") == [served.id]
    assert answer.headers["x-trimtab-version"] == served.version_tag
    record = await gateway.record()
    assert (record.deployment_id, record.lifecycle_id, record.status) == (served.id, served.lifecycle_id, status)
    tried = [(attempt.deployment_id, attempt.error_code) for attempt in record.attempts]
    assert tried == [(dead.id, "upstream_unavailable")] * 2 + ([(alive.id, None)] if status == 200 else [])


async def test_a_request_that_may_have_arrived_is_not_sent_to_another_deployment(
    gateway: RunningGateway, mock: Mock, database: Database, workspace: UUID
) -> None:
    one = deployment_entry(workspace, mock.url("reset-first"))
    other = deployment_entry(workspace, mock.url("plain"))
    await publish_changes(database, workspace, route_changes("pair", (one, 9_999), (other, 1)))
    await until_served(gateway, "pair")
    answer = await gateway.chat("pair", headers={"x-trimtab-unit": "u"})
    assert answer.status == 502
    assert answer.headers["x-trimtab-deployment"] == one.id


async def test_an_unreachable_model_server_is_named(
    gateway: RunningGateway, database: Database, workspace: UUID, unused_tcp_port: int
) -> None:
    entry = deployment_entry(workspace, f"http://127.0.0.1:{unused_tcp_port}/v1", model_name="away")
    await publish_changes(database, workspace, route_changes("away", (entry, 10_000)))
    await until_served(gateway, "away")
    answer = await gateway.chat("away")
    assert answer.status == 502
    error = (await answer.json())["error"]
    assert error["code"] == "upstream_unavailable"
    assert "away@v1.0.0 refuses the connection" in error["message"]


async def test_a_route_change_is_served_and_acknowledged(
    gateway: RunningGateway, mock: Mock, database: Database, workspace: UUID
) -> None:
    assert (await gateway.chat("new")).status == 404
    entry = deployment_entry(workspace, mock.url("plain"), model_name="new")
    revision = await publish_changes(database, workspace, route_changes("new", (entry, 10_000)))

    async def acknowledged() -> tuple[int, float, dict[str, dict[str, object]]]:
        async with database.transaction(SYSTEM) as connection:
            row = await (
                await connection.execute(
                    "select revision, extract(epoch from lease_until - now())::float8, activity "
                    "from trimtab.gateway_instances"
                )
            ).fetchone()
            assert row is not None
            return row[0], row[1], row[2]

    async with asyncio.timeout(30):
        while (await acknowledged())[0] < revision:  # noqa: ASYNC110 - the database is what changes
            await asyncio.sleep(0.01)
        assert (await gateway.chat("new")).status == 200
        # A heartbeat may fall into the request itself, which it then says is in flight.
        while (await acknowledged())[2].get(entry.id, {"in_flight": 1})["in_flight"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    _, lease, activity = await acknowledged()
    assert 7 < lease <= 10
    assert activity[entry.id]["in_flight"] == 0
    gateway.stop.set()
    await gateway.task
    async with database.transaction(SYSTEM) as connection:
        left = await (await connection.execute("select count(*) from trimtab.gateway_instances")).fetchone()
        assert left == (0,)


async def until_served(gateway: RunningGateway, model: str) -> None:
    async with asyncio.timeout(30):
        while True:
            async with gateway.http.get(f"{gateway.url}/v1/models", headers=gateway.headers) as answer:
                if model in [entry["id"] for entry in (await answer.json())["data"]]:
                    return
            await asyncio.sleep(0.01)
