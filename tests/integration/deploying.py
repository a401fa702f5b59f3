"""A world with a model, for the tests of deployments: API, reconcilers, a runner, and gateways that acknowledge."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import aiohttp
import httpx2
from aiohttp import web
from psycopg.types.json import Jsonb
from tests.integration.api import Api, running_api

from trimtab.clock import system_clock
from trimtab.db.database import SYSTEM, Database
from trimtab.deployments.runner import Runner
from trimtab.deployments.runtimes.external import External
from trimtab.deployments.runtimes.machine import Devices, Machine
from trimtab.deployments.runtimes.process import ProcessRuntime
from trimtab.deployments.step import Reconciler
from trimtab.sealing import Sealer

T = TypeVar("T")

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "2"); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *_): pass
print("listening on", sys.argv[1], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


async def eventually(condition: Callable[[], Awaitable[T]], what: str, seconds: float = 30.0) -> T:
    """The first true answer of `condition`; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.02)
    return value


@dataclass
class Upstream:
    """An HTTP server that answers every GET with `status`."""

    url: str
    status: int = 200
    requests: list[Any] = field(default_factory=list)


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """A model server, as far as a probe sees one."""
    one = Upstream("")

    async def answer(request: web.Request) -> web.Response:
        one.requests.append(request)
        return web.json_response({}, status=one.status)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    one.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield one
    finally:
        await runner.cleanup()


@dataclass
class World:
    """One workspace, the API as one of its admins, and the parts that reconcile."""

    database: Database
    api: Api
    http: httpx2.AsyncClient
    data_dir: Path
    reconciler: Reconciler

    async def version(self, tag: str, config: dict[str, Any], *, approve: bool = True, **more: Any) -> dict[str, Any]:
        """A version of the model `bot`, made with its model where that is missing."""
        found = (await self.http.get("/api/v1/models", params={"name": "bot"})).json()["items"]
        if not found:
            answer = await self.http.post("/api/v1/models", json={"name": "bot", "provider": "openai-compatible"})
            assert answer.status_code == 201, answer.text
            found = [answer.json()]
        body = {"model_id": found[0]["id"], "version_tag": tag, "deployment_config": config, **more}
        answer = await self.http.post("/api/v1/lifecycles", json=body)
        assert answer.status_code == 201, answer.text
        version: dict[str, Any] = answer.json()
        if approve:
            answer = await self.http.post(f"/api/v1/lifecycles/{version['id']}/approve", json={})
            assert answer.status_code == 200, answer.text
        return version

    async def deploy(self, version: dict[str, Any], environment: str = "production", **more: Any) -> dict[str, Any]:
        """Deploy a version; the answer must be 201."""
        body = {"lifecycle_id": version["id"], "environment": environment, **more}
        answer = await self.http.post("/api/v1/deployments", json=body)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def get(self, deployment: dict[str, Any]) -> dict[str, Any]:
        """A deployment as it is now."""
        answer = await self.http.get(f"/api/v1/deployments/{deployment['id']}")
        document: dict[str, Any] = answer.json()
        return document

    async def act(self, deployment: dict[str, Any], verb: str, status: int = 202, **params: Any) -> dict[str, Any]:
        """Call a verb; the answer must have `status`."""
        answer = await self.http.post(f"/api/v1/deployments/{deployment['id']}/{verb}", params=params)
        assert answer.status_code == status, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def replicas(self, deployment: dict[str, Any]) -> list[dict[str, Any]]:
        """Its replicas."""
        items: list[dict[str, Any]] = (await self.http.get(f"/api/v1/deployments/{deployment['id']}/replicas")).json()[
            "items"
        ]
        return items

    async def until(self, deployment: dict[str, Any], *statuses: str, phase: str | None = None) -> dict[str, Any]:
        """Wait for a status (and phase)."""

        async def there() -> dict[str, Any] | None:
            now = await self.get(deployment)
            fits = now["status"] in statuses and (phase is None or now["rollout_phase"] == phase)
            return now if fits else None

        try:
            return await eventually(there, f"{statuses} {phase}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {await self.get(deployment)}") from None

    async def routing(self, kind: str = "route") -> dict[str, Any]:
        """The entries that gateways have: name of the route, or id of the deployment, -> body."""
        async with self.database.transaction(SYSTEM) as connection:
            cursor = await connection.execute(
                "select body from trimtab.routing_entries where kind = %s and body is not null", (kind,)
            )
            bodies = [row[0] async for row in cursor]
        return {body["name" if kind == "route" else "id"]: body for body in bodies}

    async def arms(self, name: str) -> dict[str, int]:
        """The shares of a route, in basis points; empty where there is none."""
        route = (await self.routing()).get(name)
        return dict(map(tuple, route["arms"])) if route else {}

    async def gateway(
        self,
        revision: int = 0,
        lease: float = 3600,
        identifier: UUID | None = None,
        hostname: str | None = None,
        **uses: Any,
    ) -> UUID:
        """A gateway worker, of this machine where no other is named, that serves `revision`; `uses` by deployment."""
        identifier = identifier or uuid4()
        now = system_clock()
        async with self.database.transaction(SYSTEM) as connection:
            await connection.execute(
                "insert into trimtab.gateway_instances "
                "(id, hostname, pid, program_version, revision, lease_until, activity) "
                "values (%s, %s, 1, '0', %s, %s, %s) "
                "on conflict (id) do update set revision = excluded.revision, lease_until = excluded.lease_until, "
                "activity = excluded.activity",
                (identifier, hostname or socket.gethostname(), revision, now + timedelta(seconds=lease), Jsonb(uses)),
            )
            await connection.execute("select pg_notify('trimtab_deployments', '')")
        return identifier

    async def revision(self) -> int:
        """The head of the routing."""
        async with self.database.transaction(SYSTEM) as connection:
            row = await (await connection.execute("select revision from trimtab.routing_head")).fetchone()
        assert row is not None
        return int(row[0])


@asynccontextmanager
async def make_world(database: Database, data_dir: Path, sealer: Sealer | None = None) -> AsyncIterator[World]:
    """A world without background work; `sealer` is the one of its secrets, one of its own where none is given."""
    async with database.transaction(SYSTEM) as connection:
        await connection.execute("select trimtab.ensure_partition('trimtab.events', %s)", (system_clock().date(),))
    async with running_api(database, data_dir, sealer=sealer) as api:
        key = await api.member("olga", "admin")
        async with api.client(key) as http:
            yield World(database, api, http, data_dir, Reconciler(database, system_clock))


@asynccontextmanager
async def background(world: World, runner: Runner | None = None, reconcilers: int = 1) -> AsyncIterator[None]:
    """Reconcilers and a runner at work; an exception of one of them fails the test."""

    async def reconcile(one: Reconciler) -> None:
        while True:
            await one.run_once()
            await asyncio.sleep(0.02)

    async def run(one: Runner) -> None:
        while True:
            await one.run_once()
            await asyncio.sleep(0.02)

    work = [asyncio.create_task(reconcile(Reconciler(world.database, system_clock))) for _ in range(reconcilers)]
    if runner is not None:
        work.append(asyncio.create_task(run(runner)))
    try:
        yield
    finally:
        for task in work:
            task.cancel()
        for result in await asyncio.gather(*work, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise result  # type: ignore[misc]
        if runner is not None:
            await runner.close()


@asynccontextmanager
async def make_runner(world: World, machine: Machine | None = None) -> AsyncIterator[Runner]:
    """A runner of this machine, registered."""
    machine = machine or Machine.here()
    async with aiohttp.ClientSession() as session:
        runtimes: dict[str, Any] = {
            "external": External(session),
            "process": ProcessRuntime(world.data_dir, session, machine, Devices(machine)),
        }
        runner = Runner(uuid4(), world.database, machine, runtimes, world.data_dir)
        await runner.register()
        yield runner
