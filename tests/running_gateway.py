"""A web worker of the role `gateway` inside a test, and the routing it serves."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
from cryptography.fernet import Fernet

from trimtab.context import PartContext
from trimtab.db.database import SYSTEM, Database
from trimtab.gateway.upstream import Timeouts
from trimtab.ids import new_id
from trimtab.metering.record import RequestRecord, decode_record
from trimtab.metering.spool import SpoolReader, list_spools
from trimtab.routing.publish import Change, publish
from trimtab.routing.records import ApiKeyEntry, Arm, DeploymentEntry, Price, RouteEntry, route_key
from trimtab.sealing import Sealer
from trimtab.server.web import serve
from trimtab.settings import Settings

KEY = "tt_test-key"
SECRET = Fernet.generate_key().decode()
DEADLINE = 30.0
PRICE = Price(since=0.0, input_pico=1_000_000, output_pico=2_000_000, cache_read_pico=100_000, cache_write_pico=0)


async def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until `condition` gives something true, and return it."""
    for _ in range(int(DEADLINE / 0.01)):
        if value := condition():
            return value
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited {DEADLINE} s in vain for {what}")


def key_change(workspace: UUID, key: str = KEY, **members: Any) -> Change:
    entry = ApiKeyEntry(
        **{
            "id": str(new_id()),
            "workspace_id": str(workspace),
            "member_id": str(new_id()),
            "member_name": "admin",
            "role": "operator",
            "scopes": ("inference", "control"),
            **members,
        }
    )
    return Change("api_key", hashlib.sha256(key.encode()).hexdigest(), entry)


def deployment_entry(workspace: UUID, target: str | Iterable[str], **members: Any) -> DeploymentEntry:
    targets = (target,) if isinstance(target, str) else tuple(target)
    return DeploymentEntry(
        **{
            "id": str(new_id()),
            "workspace_id": str(workspace),
            "model_id": str(new_id()),
            "model_name": "bot",
            "lifecycle_id": str(new_id()),
            "version_tag": "v1.0.0",
            "environment": "production",
            "provider": "openai-compatible",
            "upstream_model": "mock-model",
            "targets": targets,
            "credential": Sealer(SECRET).seal_text("sk-upstream"),
            "approval": "approved",
            "prices": (PRICE,),
            **members,
        }
    )


def route_changes(name: str, *arms: tuple[DeploymentEntry, int]) -> list[Change]:
    """The route `name` and the deployments behind it."""
    first = arms[0][0]
    workspace = first.workspace_id
    route = RouteEntry(
        workspace_id=workspace,
        model_id=first.model_id,
        name=name,
        environment=first.environment,
        arms=tuple(Arm(entry.id, weight) for entry, weight in arms),
        salt="salt",
        created_at=1_700_000_000.0,
    )
    changes = [Change("route", route_key(workspace, name), route)]
    return changes + [Change("deployment", entry.id, entry) for entry, _ in arms]


async def publish_changes(database: Database, workspace: UUID, changes: Iterable[Change]) -> int:
    async with database.transaction(SYSTEM) as connection:
        return await publish(connection, workspace, changes, "test")


async def make_workspace(database: Database) -> UUID:
    workspace = new_id()
    async with database.transaction(SYSTEM) as connection:
        await connection.execute(
            "insert into trimtab.workspaces (id, name) values (%s, %s)", (workspace, f"w{workspace}")
        )
    return workspace


@dataclass
class RunningGateway:
    """A worker that serves on `url`."""

    url: str
    data_dir: Path
    http: aiohttp.ClientSession
    stop: asyncio.Event
    task: asyncio.Task[None]
    port: int
    headers: dict[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {KEY}"})

    async def chat(
        self, model: str = "bot", *, headers: dict[str, str] | None = None, **members: Any
    ) -> aiohttp.ClientResponse:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **members}
        response = await self.http.post(
            f"{self.url}/v1/chat/completions",
            data=io.BytesIO(json.dumps(body).encode()),
            headers={**self.headers, **(headers or {})},
        )
        await response.read()
        return response

    def records(self) -> list[RequestRecord]:
        """All records in the spools of the data directory."""
        found = []
        for spool in list_spools(self.data_dir / "spool"):
            reader = SpoolReader(spool)
            found += [decode_record(frame.payload) for frame in reader.read(1000)]
            reader.close()
        return found

    async def record(self, count: int = 1) -> RequestRecord:
        """The last record, once there are `count`."""
        return (await until(lambda: len(records) >= count and records if (records := self.records()) else None))[-1]


@asynccontextmanager
async def running_gateway(
    data_dir: Path, database_url: str, *, timeouts: Timeouts | None = None, role: Any = "gateway"
) -> AsyncIterator[RunningGateway]:
    """Serve until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    context = PartContext(
        name="web",
        entry="trimtab.server.web:run",
        settings=Settings(data_dir=data_dir, role=role, secret_key=SECRET, drain_seconds=5.0),
        database_url=database_url,
        data_dir=data_dir,
        worker_index=0,
        listen_fd=None,
        ready_fd=-1,
        life_fd=-1,
        lock_fd=-1,
    )
    ready, stop = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(serve(context, listener, ready=ready.set, stop=stop, timeouts=timeouts))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as http:
        try:
            yield RunningGateway(f"http://127.0.0.1:{port}", data_dir, http, stop, task, port)
        finally:
            await http.close()
            stop.set()
            await asyncio.wait_for(task, DEADLINE)
