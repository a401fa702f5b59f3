"""The web worker: gateway, control API and dashboard behind one port, as the role of this server has them.

The control plane is imported only where its role is served: a gateway alone loads none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn
import uvloop

from trimtab import __version__
from trimtab.clock import system_clock
from trimtab.context import PartContext
from trimtab.db.database import Database
from trimtab.gateway.app import Gateway
from trimtab.gateway.feed import SnapshotFeed
from trimtab.gateway.http import GuardedProtocol, end_late
from trimtab.gateway.interrupt import Watch
from trimtab.gateway.live import LiveDeployments
from trimtab.gateway.metrics import Metrics, Sample
from trimtab.gateway.services import Services
from trimtab.gateway.upstream import Timeouts
from trimtab.gateway.upstream_aiohttp import AiohttpUpstream
from trimtab.ids import new_id
from trimtab.metering.spool import SpoolWriter
from trimtab.sealing import Sealer
from trimtab.server.readiness import Check, check_database, check_routing, check_spool, overall

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

FIRST_ROUTING_SECONDS = 2.0
"""How long a start without stored routing waits for it, before it answers that it is not ready."""
STORED_ROUTING_SECONDS = 0.25
"""How long a start waits for current routing before it serves what was stored."""
CANCEL_SECONDS = 5.0
"""How long requests that outlived the drain have to write their records."""
GC_THRESHOLDS = (20_000, 20, 50)
"""Requests leave few cycles behind; Python's own thresholds cost a tenth of the time of a request."""
_JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """A gateway that serves, and what tells how it fares."""

    application: Application
    feed: SnapshotFeed
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class ControlParts:
    """The control plane of this worker."""

    api: Application
    dashboard: Application
    database: Database


class WebApplication:
    """Routes by path: `/v1/` and `/v2/` to the gateway, `/api/` to the control API, the rest to the dashboard.

    Parameters:
        gateway: None where the role of this server has none; likewise `control`.
    """

    def __init__(self, gateway: GatewayParts | None, control: ControlParts | None) -> None:
        self._gateway = gateway
        self._control = control
        self._own: dict[bytes, Callable[[], Awaitable[tuple[int, bytes, bytes]]]] = {
            b"/healthz": self._health,
            b"/readyz": self._ready,
        }
        if gateway is not None:
            self._own[b"/metrics"] = self._metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: bytes = scope["raw_path"]
        if path.startswith((b"/v1/", b"/v2/")):
            application = None if self._gateway is None else self._gateway.application
        elif path in self._own:
            await _answer(scope, send, *await self._own[path]())
            return
        elif path.startswith(b"/api/") or path == b"/api":
            application = None if self._control is None else self._control.api
        else:
            application = None if self._control is None else self._control.dashboard
        if application is None:
            body = {
                "status": 404,
                "title": "Not found",
                "detail": "The role of this server does not include this path.",
            }
            await _answer(scope, send, 404, _JSON, msgspec.json.encode(body))
            return
        await application(scope, receive, send)

    async def _health(self) -> tuple[int, bytes, bytes]:
        return 200, _JSON, msgspec.json.encode({"status": "ok", "version": __version__})

    async def _ready(self) -> tuple[int, bytes, bytes]:
        checks: list[Check] = []
        if self._gateway is not None:
            feed = self._gateway.feed
            checks += [check_routing(feed.snapshot, feed.age()), check_spool(self._gateway.metrics.lost)]
        if self._control is not None:
            checks.append(await check_database(self._control.database, needed=self._gateway is None))
        status = overall(checks)
        document = {"status": status, "checks": checks}
        return (503 if status == "unavailable" else 200), _JSON, msgspec.json.encode(document)

    async def _metrics(self) -> tuple[int, bytes, bytes]:
        assert self._gateway is not None
        return 200, b"text/plain; version=0.0.4; charset=utf-8", self._gateway.metrics.text()


async def _answer(scope: Scope, send: Send, status: int, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store"), (b"x-request-id", str(new_id()).encode())]
    if scope["method"] not in ("GET", "HEAD"):
        status, body = 405, b""
        headers = [(b"allow", b"GET, HEAD"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class _Server(uvicorn.Server):
    """uvicorn's server, whose signals are ours to handle."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started_callback = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started_callback()


@asynccontextmanager
async def open_gateway(context: PartContext, timeouts: Timeouts) -> AsyncIterator[GatewayParts]:
    """The gateway of one worker, from its first routing to the closing of its spool."""
    folder = context.data_dir / "gateway"
    worker = context.worker_index
    assert context.settings.secret_key is not None
    live = LiveDeployments(Sealer(context.settings.secret_key).unseal_text)
    feed = SnapshotFeed(
        Database(context.database_url, max_size=2),
        folder / "snapshot.bin",
        stores=worker == 0,
        activity=live.used_lately,
    )
    spool = SpoolWriter(context.data_dir / "spool")

    def gauges() -> Iterator[Sample]:
        yield "trimtab_requests_in_flight", "gauge", "", live.in_flight()
        if feed.snapshot is not None:
            yield "trimtab_snapshot_revision", "gauge", "", feed.snapshot.revision
        if (age := feed.age()) is not None:
            yield "trimtab_snapshot_age_seconds", "gauge", "", age
        backlog = spool.backlog
        yield "trimtab_spool_appended_bytes_total", "counter", "", backlog.bytes
        yield "trimtab_spool_segments", "gauge", "", backlog.segments

    metrics = Metrics(folder / "metrics", worker, gauges)
    upstream = AiohttpUpstream(connect_seconds=timeouts.connect)
    watch = Watch()
    ticking = asyncio.create_task(watch.run(), name="watch")
    try:
        await feed.start(FIRST_ROUTING_SECONDS if feed.snapshot is None else STORED_ROUTING_SECONDS)
        services = Services(upstream, live, spool, metrics, timeouts, random.random, watch)
        yield GatewayParts(Gateway(services, lambda: feed.snapshot), feed, metrics)
    finally:
        ticking.cancel()
        await feed.stop()
        await upstream.close()
        await spool.close()
        metrics.remove()


@asynccontextmanager
async def open_control(context: PartContext) -> AsyncIterator[ControlParts]:
    """Control API and dashboard of one worker."""
    from trimtab.api.app import create_app
    from trimtab.api.caller import Services as ControlServices
    from trimtab.server.dashboard import DashboardFiles

    assert context.settings.secret_key is not None
    database = Database(context.database_url)
    await database.open()
    try:
        services = ControlServices(
            database=database,
            settings=context.settings,
            sealer=Sealer(context.settings.secret_key),
            clock=system_clock,
            instance_id=new_id(),
        )
        yield ControlParts(create_app(services), DashboardFiles(), database)
    finally:
        await database.close()


async def serve(
    context: PartContext,
    listener: socket.socket,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
    timeouts: Timeouts | None = None,
) -> None:
    """Serve on `listener` until `stop` is set; then requests have `Settings.drain_seconds` to end.

    Parameters:
        ready: called once, when requests are served.
        timeouts: of calls to model servers, in place of the usual ones.
    """
    role = context.settings.role
    async with AsyncExitStack() as stack:
        gateway = control = None
        if role in ("all", "gateway"):
            gateway = await stack.enter_async_context(open_gateway(context, timeouts or Timeouts()))
        if role in ("all", "api"):
            control = await stack.enter_async_context(open_control(context))
        config = uvicorn.Config(
            WebApplication(gateway, control),
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(context.settings.drain_seconds)),
        )
        server = _Server(config, ready)
        tasks = [
            asyncio.create_task(_housekeeping(server, None if gateway is None else gateway.metrics)),
            asyncio.create_task(_stop_when(stop, server)),
        ]
        try:
            await server.serve(sockets=[listener])
            if server.server_state.tasks:
                await asyncio.wait(server.server_state.tasks, timeout=CANCEL_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _stop_when(stop: asyncio.Event, server: _Server) -> None:
    await stop.wait()
    server.should_exit = True


async def _housekeeping(server: _Server, metrics: Metrics | None) -> None:
    """Once a second: end connections that are too slow, publish metrics."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(1.0)
        end_late(server.server_state.connections, loop.time())
        if metrics is not None:
            with contextlib.suppress(OSError):
                metrics.publish()


async def _run(context: PartContext) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready() -> None:
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it again
        gc.set_threshold(*GC_THRESHOLDS)
        context.ready()

    await serve(context, context.listening_socket(), ready=ready, stop=stop)


def run(context: PartContext) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # the feed says it once
    uvloop.run(_run(context))
    return 0
