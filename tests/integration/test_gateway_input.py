"""What callers can get wrong, down to the bytes on the wire; a database that is down."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from tests.mock_upstream import Mock
from tests.running_gateway import (
    RunningGateway,
    deployment_entry,
    key_change,
    make_workspace,
    publish_changes,
    route_changes,
    running_gateway,
    until,
)

from trimtab.db.database import Database
from trimtab.db.embedded import Urls
from trimtab.gateway.upstream import Timeouts
from trimtab.ids import new_id
from trimtab.routing.publish import Change
from trimtab.routing.snapshot import Snapshot, read, save

DOWN = "postgresql://trimtab@127.0.0.1:1/trimtab"
CHAT = b'{"model":"bot","messages":[]}'


def store(data_dir: Path, changes: list[Change]) -> None:
    """Leave a stored snapshot, as an earlier run would have."""
    tables: dict[str, dict[str, object]] = {"api_key": {}, "route": {}, "deployment": {}}
    for change in changes:
        tables[change.kind][change.key] = change.entry
    save(
        data_dir / "gateway" / "snapshot.bin",
        Snapshot(41, tables["api_key"], tables["route"], tables["deployment"]),  # type: ignore[arg-type]
    )


@pytest.fixture
async def mock() -> AsyncIterator[Mock]:
    async with Mock() as mock:
        yield mock


@pytest.fixture
async def gateway(mock: Mock, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway that serves a stored snapshot; its database is down."""
    workspace, other = new_id(), new_id()
    bot = deployment_entry(workspace, mock.url("plain"))
    foreign = deployment_entry(other, mock.url("plain"), model_name="foreign")
    staging = deployment_entry(workspace, mock.url("plain"), environment="staging", approval="pending")
    pending = deployment_entry(workspace, mock.url("plain"), model_name="pending", approval="pending")
    expired = deployment_entry(
        workspace, mock.url("plain"), model_name="expired", approval="conditional", approval_expires_at=1.0
    )
    changes = [
        key_change(workspace),
        key_change(workspace, "tt_expired", expires_at=1.0),
        key_change(workspace, "tt_control", scopes=("control",)),
        *route_changes("Bot", (bot, 10_000)),
        *route_changes("bot@staging", (staging, 10_000)),
        *route_changes("pending", (pending, 10_000)),
        *route_changes("expired", (expired, 10_000)),
        *route_changes("foreign", (foreign, 10_000)),
    ]
    store(tmp_path, changes)
    async with running_gateway(tmp_path, DOWN, timeouts=Timeouts(client=1.0)) as running:
        yield running


async def raw(gateway: RunningGateway, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


def request(*headers: bytes, body: bytes = CHAT, first: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    own = [b"authorization: Bearer tt_test-key", b"content-length: %d" % len(body), b"connection: close"]
    return b"\r\n".join([first, *headers, *own]) + b"\r\n\r\n" + body


async def test_refusals_of_what_is_asked(gateway: RunningGateway) -> None:
    cases = [
        ("nope", 404, "model_not_found", "GET /v1/models"),
        ("foreign", 404, "model_not_found", "no model 'foreign'"),
        ("bot@v9.9.9", 404, "model_not_deployed", "It is deployed as Bot, bot@staging."),
        ("pending", 403, "model_not_approved", "pending@v1.0.0 may not serve production: its approval is pending"),
        ("expired", 403, "model_not_approved", "ended at 1970-01-01T00:00:01Z"),
    ]
    for number, (model, status, code, words) in enumerate(cases, 1):
        answer = await gateway.chat(model)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (status, code, "model")
        assert words in error["message"]
        assert answer.headers["x-should-retry"] == "false"
        record = await gateway.record(number)
        assert (record.requested_model, record.status, record.error_code) == (model, status, code)
        assert record.attempts == ()
    assert (await gateway.chat("bot")).status == 200  # names are told apart regardless of case
    assert (await gateway.chat("BOT@Staging")).status == 200  # what is not production needs no approval


async def test_keys(gateway: RunningGateway) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    for headers, status, words in [
        ({}, 401, "No API key was given"),
        ({"authorization": "Bearer tt_wrong"}, 401, "not valid"),
        ({"authorization": "Bearer tt_expired"}, 401, "not valid"),
        ({"x-api-key": "tt_control"}, 403, "lacks the scope `inference`"),
    ]:
        async with gateway.http.post(url, data=CHAT, headers=headers) as answer:
            assert answer.status == status
            error = (await answer.json())["error"]
            assert words in error["message"]
            assert answer.headers["x-request-id"]
            if status == 401:
                assert error["code"] == "invalid_api_key"
    async with gateway.http.post(url, data=CHAT, headers={"x-api-key": "tt_test-key"}) as answer:
        assert answer.status == 200
    assert len(gateway.records()) == 1  # who is not known cannot be charged


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"hello", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        (b'{"model": "bot", "messages": [}', None, "not valid JSON"),
        (b"\xff\xfe", None, "not valid JSON"),
        (b'{"messages": []}', "model", "The field `model` is missing"),
        (b'{"model": ""}', "model", "empty"),
        (b'{"model": 7}', "model", "Expected `str`"),
        (b'{"model": "bot", "stream": "yes"}', "stream", "Expected `bool | null`"),
        (b"[]", None, "Expected `object`"),
    ],
)
async def test_bodies(gateway: RunningGateway, body: bytes, param: str | None, words: str) -> None:
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", data=body, headers=gateway.headers) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert error["code"] == ("invalid_json" if words == "not valid JSON" else "invalid_request")
        assert words in error["message"]
    assert (await gateway.record()).status == 400


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_gets_an_answer(gateway: RunningGateway, announced: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 1_000_000

    data = b" " * 50_000_000 if announced else pieces()
    import io

    payload = io.BytesIO(data) if isinstance(data, bytes) else data
    url = f"{gateway.url}/v1/chat/completions"
    async with gateway.http.post(url, data=payload, headers=gateway.headers) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "body_too_large"
    assert (await gateway.chat("bot")).status == 200


async def test_a_large_body_is_passed_on_untouched(gateway: RunningGateway, mock: Mock) -> None:
    text = "é" * 2_000_000
    assert (await gateway.chat("bot", messages=[{"role": "user", "content": text}])).status == 200
    assert mock.requests[0].json["messages"][0]["content"] == text


async def test_other_paths_and_methods(gateway: RunningGateway) -> None:
    for method, path, status in [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", "/v1/chat/completions", 204),
        ("POST", "/v1/nothing", 404),
        ("POST", "/v1/chat%2fcompletions", 404),
        ("GET", "/api/v1/models", 404),
        ("GET", "/", 404),
    ]:
        async with gateway.http.request(method, gateway.url + path, headers=gateway.headers) as answer:
            assert answer.status == status, path
            if path.startswith("/v1") and status != 204:
                assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}
            assert "allow" in answer.headers or status == 404


async def test_models_are_listed_per_workspace(gateway: RunningGateway) -> None:
    async with gateway.http.get(f"{gateway.url}/v1/models", headers=gateway.headers) as answer:
        document = await answer.json()
    assert document["object"] == "list"
    assert [model["id"] for model in document["data"]] == ["Bot", "bot@staging", "expired", "pending"]
    assert document["data"][0] == {"id": "Bot", "object": "model", "created": 1_700_000_000, "owned_by": "trimtab"}
    async with gateway.http.get(f"{gateway.url}/v1/models/bot%40staging", headers=gateway.headers) as answer:
        assert (await answer.json())["id"] == "bot@staging"


async def test_serving_goes_on_without_a_database(gateway: RunningGateway) -> None:
    async with gateway.http.get(f"{gateway.url}/readyz") as answer:
        assert answer.status == 200
        document = await answer.json()
    assert document["status"] == "degraded"
    assert document["checks"][0]["name"] == "routing"
    assert "stored revision 41" in document["checks"][0]["detail"]
    async with gateway.http.get(f"{gateway.url}/healthz") as answer:
        assert (await answer.json())["status"] == "ok"
    assert (await gateway.chat("bot")).status == 200
    assert (await gateway.record()).routing_revision == 41
    async with gateway.http.get(f"{gateway.url}/metrics") as answer:
        text = await answer.text()
    assert 'status="2xx"} 1' in text
    assert 'trimtab_snapshot_revision{worker="0"} 41' in text


async def test_without_any_routing_the_gateway_says_so(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, DOWN) as gateway:
        answer = await gateway.chat("bot")
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "not_ready"
        assert answer.headers["x-should-retry"] == "true"
        async with gateway.http.get(f"{gateway.url}/readyz") as ready:
            assert ready.status == 503


async def test_the_stored_snapshot_follows_the_database(
    mock: Mock, database: Database, database_urls: Urls, tmp_path: Path
) -> None:
    workspace: UUID = await make_workspace(database)
    entry = deployment_entry(workspace, mock.url("plain"))
    stored = tmp_path / "gateway" / "snapshot.bin"
    stored.parent.mkdir()
    stored.write_bytes(b"damaged")
    async with running_gateway(tmp_path, database_urls.app) as gateway:
        changes = [key_change(workspace), *route_changes("bot", (entry, 10_000))]
        revision = await publish_changes(database, workspace, changes)
        snapshot = await until(lambda: found if (found := read(stored)) and found.revision == revision else None)
        assert list(snapshot.deployments) == [entry.id]
        assert b"sk-upstream" not in stored.read_bytes()
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert (await gateway.chat("bot")).status == 200
    async with running_gateway(tmp_path, DOWN) as gateway:
        assert (await gateway.chat("bot")).status == 200
        assert mock.requests[-1].header("authorization") == "Bearer sk-upstream"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(b"host: a", b"host: b"), 400),
        (request(), 400),
        (request(b"host: a", b"connection: upgrade", b"upgrade: h2c"), 400),
        (request(b"host: a", first=b"POST http://a/v1/chat/completions HTTP/1.1"), 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (request(b"host: a", *[b"x-h: 1"] * 200), 431),
        (request(b"host: a", b"x-h: " + b"a" * 100_000), 431),
        (b"GET /" + b"a" * 100_000, 431),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
)
async def test_what_is_wrong_on_the_wire_is_refused(gateway: RunningGateway, data: bytes, status: int) -> None:
    head, _, body = (await raw(gateway, data)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert json.loads(body)["error"]["message"]
    assert (await gateway.chat("bot")).status == 200


async def test_a_request_behind_another_does_not_hide_that_the_caller_left(gateway: RunningGateway, mock: Mock) -> None:
    mock.scenarios["plain"] = mock.scenarios["hang"]
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    one = request(b"host: a").replace(b"connection: close\r\n", b"")
    writer.write(one + one)
    await until(lambda: mock.requests)
    writer.close()
    await asyncio.wait_for(mock.requests[0].closed.wait(), 1.0)
    assert (await gateway.record()).client_gone


async def test_a_request_behind_another_is_left_unanswered(gateway: RunningGateway, mock: Mock) -> None:
    one = request(b"host: a").replace(b"connection: close\r\n", b"")
    answer = await raw(gateway, one + one)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert len(mock.requests) == 1


async def test_slow_headers_and_bodies_end(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.gateway.http.HEAD_SECONDS", 0.1)
    monkeypatch.setattr("trimtab.gateway.http.BODY_SECONDS", 0.1)
    assert (await raw(gateway, b"POST /v1/chat/completions HT")).startswith(b"HTTP/1.1 408")
    assert (await raw(gateway, request(b"host: a")[:-5])).startswith(b"HTTP/1.1 408")
    assert await raw(gateway, b"") == b""


async def test_a_caller_who_does_not_read_is_cut_off(gateway: RunningGateway, mock: Mock) -> None:
    mock.scenarios["plain"] = mock.scenarios["endless"]
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    writer.write(request(b"host: a", body=b'{"model":"bot","stream":true}'))
    await until(lambda: mock.requests)
    await asyncio.wait_for(mock.requests[0].closed.wait(), 30)
    assert (await gateway.record()).client_gone
    writer.close()
