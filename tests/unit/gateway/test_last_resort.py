"""What happens when the gateway itself is at fault: an answer or its end, a line in the log, a record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from trimtab.gateway import exchange
from trimtab.gateway.app import Gateway
from trimtab.gateway.interrupt import Watch
from trimtab.gateway.live import LiveDeployments
from trimtab.gateway.metrics import Metrics
from trimtab.gateway.services import Services
from trimtab.gateway.upstream import Timeouts, UpstreamResponse
from trimtab.metering.record import RequestRecord, decode_record
from trimtab.metering.spool import SpoolReader, SpoolWriter
from trimtab.routing.records import WHOLE, ApiKeyEntry, Arm, DeploymentEntry, RouteEntry, route_key
from trimtab.routing.snapshot import Snapshot

KEY = "tt_key"
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'


def routing() -> Snapshot:
    key = ApiKeyEntry(id="k", workspace_id="w", member_id="m", member_name="n", role="operator", scopes=("inference",))
    route = RouteEntry(workspace_id="w", model_id="m", name="bot", environment="staging", arms=(Arm("d", WHOLE),))
    deployment = DeploymentEntry(
        id="d",
        workspace_id="w",
        model_id="m",
        model_name="bot",
        lifecycle_id="l",
        version_tag="v1",
        environment="staging",
        provider="openai-compatible",
        targets=("http://upstream/v1",),
    )
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return Snapshot(1, {digest: key}, {route_key("w", "bot"): route}, {"d": deployment})


class Faulty:
    """An upstream, and its answer, that gives `chunks` and then breaks in a way nobody thought of."""

    def __init__(self, chunks: list[bytes], media_type: bytes = b"application/json", *, at_once: bool = False) -> None:
        self.status = 200
        self.headers = ((b"content-type", media_type),)
        self._chunks = chunks
        self._at_once = at_once
        self.aborted = False

    async def post(self, url: URL, headers: list[tuple[str, str]], body: bytes) -> UpstreamResponse:
        if self._at_once:
            raise RuntimeError("secret cause")
        return self

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if not self._chunks:
            raise RuntimeError("secret cause")
        return self._chunks.pop(0)

    def abort(self) -> None:
        self.aborted = True

    async def close(self) -> None:
        pass


class Caller:
    """A connection with one request on it."""

    def __init__(self) -> None:
        self.on_disconnect: Any = None
        self.aborted = False
        self.sent: list[dict[str, Any]] = []

    def abort(self) -> None:
        self.aborted = True

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def ask(self, gateway: Gateway, *, stream: bool = False) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps({"model": "bot", "stream": stream}).encode()}

        scope = {
            "raw_path": b"/v1/chat/completions",
            "method": "POST",
            "headers": [(b"authorization", f"Bearer {KEY}".encode())],
            "trimtab.connection": self,
        }
        await gateway(scope, receive, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


class World:
    """The services of one gateway."""

    def __init__(self, directory: Path) -> None:
        self.spool = SpoolWriter(directory / "spool")
        self.metrics = Metrics(directory / "metrics", 0, lambda: ())
        self.live = LiveDeployments(lambda sealed: sealed)

    def gateway(self, upstream: Faulty) -> Gateway:
        services = Services(upstream, self.live, self.spool, self.metrics, Timeouts(), random.Random(1).random, Watch())
        return Gateway(services, routing)

    def record(self) -> RequestRecord:
        reader = SpoolReader(self.spool.directory)
        (frame,) = reader.read(10)
        reader.close()
        return decode_record(frame.payload)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    assert world.live.in_flight() == 0
    await world.spool.close()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_failure_before_the_answer_is_told(
    world: World, caplog: pytest.LogCaptureFixture, at_once: bool
) -> None:
    caller, upstream = Caller(), Faulty([b"{"], at_once=at_once)
    await caller.ask(world.gateway(upstream))
    assert caller.status == 500
    error = json.loads(caller.body)["error"]
    request_id = caller.headers[b"x-request-id"].decode()
    assert (error["type"], error["code"], error["param"]) == ("api_error", "internal", None)
    assert request_id in error["message"]
    assert "secret cause" not in error["message"]
    assert "secret cause" in caplog.text
    assert request_id in caplog.text
    assert upstream.aborted is not at_once
    record = world.record()
    assert (record.id, record.status, record.error_code) == (request_id, 500, "internal")
    assert [attempt.error_code for attempt in record.attempts] == ["internal"]


async def test_a_failure_within_a_stream_ends_it_with_an_error(world: World) -> None:
    caller = Caller()
    await caller.ask(world.gateway(Faulty([CHUNK], b"text/event-stream")), stream=True)
    assert caller.status == 200
    assert caller.body.startswith(CHUNK)
    last = caller.body.strip().split(b"\n\n")[-1].removeprefix(b"data: ")
    assert json.loads(last)["error"]["code"] == "internal"
    record = world.record()
    assert (record.status, record.error_code, record.client_gone) == (200, "internal", False)


async def test_a_failure_within_a_long_answer_cuts_it_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "HOLD_BYTES", 1)
    caller = Caller()
    await caller.ask(world.gateway(Faulty([b"{ ", b" "])))
    assert caller.aborted
    assert all(message.get("more_body", True) for message in caller.sent)
    assert (world.record().status, world.record().error_code) == (200, "internal")


async def test_a_caller_who_cannot_be_told_is_cut_off_and_recorded(world: World) -> None:
    caller = Caller()

    async def broken(message: dict[str, Any]) -> None:
        raise RuntimeError("no way back")

    caller.send = broken  # type: ignore[method-assign]
    await caller.ask(world.gateway(Faulty([], at_once=True)))
    assert caller.aborted
    assert world.record().error_code == "internal"


async def test_an_answer_does_not_depend_on_its_record(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(record: RequestRecord) -> bytes:
        raise RuntimeError("cannot be encoded")

    monkeypatch.setattr(exchange, "encode_record", broken)
    for _ in range(2):
        caller = Caller()
        await caller.ask(world.gateway(Faulty([b"{}", b""])))
        assert (caller.status, caller.body) == (200, b"{}")
    assert world.metrics.lost == 2
    assert caplog.text.count("a request could not be recorded: cannot be encoded") == 1


async def test_a_failure_before_the_exchange_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Snapshot:
        raise RuntimeError("secret cause")

    gateway = world.gateway(Faulty([]))
    gateway._snapshot = broken
    caller = Caller()
    with caplog.at_level(logging.ERROR):
        await caller.ask(gateway)
    assert caller.status == 500
    assert json.loads(caller.body)["error"]["code"] == "internal"
    assert caller.headers[b"x-request-id"].decode() in caplog.text
