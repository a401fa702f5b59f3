"""Workspaces, deployments and request records for the tests of metering and reading."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx2
from cryptography.fernet import Fernet
from fastapi import APIRouter, FastAPI
from psycopg.types.json import Jsonb

from trimtab.api import problems
from trimtab.api.caller import Services
from trimtab.clock import Clock
from trimtab.db.database import SYSTEM, Database
from trimtab.ids import new_id
from trimtab.metering.record import Attempt, RequestRecord, Usage
from trimtab.sealing import Sealer
from trimtab.settings import Settings


@dataclass(frozen=True, slots=True)
class World:
    """One workspace with a member, a key, a model, its version and its deployment."""

    workspace_id: UUID
    member_id: UUID
    api_key_id: UUID
    model_id: UUID
    lifecycle_id: UUID
    deployment_id: UUID

    @property
    def key(self) -> str:
        """The member's API key."""
        return f"tt_{self.api_key_id}"


@asynccontextmanager
async def api_client(
    database: Database, routers: Iterable[APIRouter], clock: Clock, key: str
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a control API with `routers`, in this process, whose time is `clock`'s."""
    app = FastAPI()
    app.state.services = Services(
        database, Settings(data_dir=Path("unused")), Sealer(Fernet.generate_key().decode()), clock, new_id()
    )
    for router in routers:
        app.include_router(router, prefix="/api/v1")
    problems.install(app)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),
        base_url="http://trimtab/api/v1",
        headers={"authorization": f"Bearer {key}"},
    ) as client:
        yield client


async def make_world(database: Database, requirements: dict[str, object] | None = None) -> World:
    """Write a `World`, whose version is approved and whose deployment is healthy."""
    world = World(*(new_id() for _ in range(6)))
    async with database.transaction(SYSTEM) as connection:
        await connection.execute(
            "insert into trimtab.workspaces (id, name) values (%s, %s)", (world.workspace_id, f"w {world.workspace_id}")
        )
        await connection.execute(
            "insert into trimtab.members (id, workspace_id, name, role) values (%s, %s, 'ada', 'admin')",
            (world.member_id, world.workspace_id),
        )
        await connection.execute(
            "insert into trimtab.api_keys (id, workspace_id, member_id, name, key_hash, key_hint, role) "
            "values (%s, %s, %s, 'laptop', %s, 'tt_', 'admin')",
            (
                world.api_key_id,
                world.workspace_id,
                world.member_id,
                hashlib.sha256(world.key.encode()).hexdigest(),
            ),
        )
        await connection.execute(
            "insert into public.ai_models (id, workspace_id, name, provider) values (%s, %s, 'assistant', 'openai')",
            (world.model_id, world.workspace_id),
        )
        await connection.execute(
            "insert into public.ai_model_lifecycle (id, workspace_id, model_id, version_tag, approval_status, "
            "performance_requirements) values (%s, %s, %s, 'v1.0.0', 'approved', %s)",
            (world.lifecycle_id, world.workspace_id, world.model_id, Jsonb(requirements or {})),
        )
        await connection.execute(
            "insert into trimtab.lifecycle_events (id, workspace_id, lifecycle_id, actor_id, actor_name, event, "
            "from_value, to_value, comment, evidence) "
            "values (%s, %s, %s, %s, 'ada', 'approved', 'pending', 'approved', 'fine', '{\"run\": 7}')",
            (new_id(), world.workspace_id, world.lifecycle_id, world.member_id),
        )
        await connection.execute(
            "insert into public.ai_model_deployments (id, workspace_id, model_id, lifecycle_id, deployment_name, "
            "environment, deployment_type, status, deadline_at) "
            "values (%s, %s, %s, %s, 'assistant v1.0.0', 'production', 'direct', 'healthy', %s)",
            (
                world.deployment_id,
                world.workspace_id,
                world.model_id,
                world.lifecycle_id,
                datetime.now(UTC) + timedelta(hours=1),
            ),
        )
    return world


def make_record(
    world: World,
    started: datetime,
    *,
    status: int = 200,
    latency_ms: float = 250.0,
    ttft_ms: float | None = None,
    usage: Usage | None = None,
    cost_nano: int = 1_500,
    attempts: int = 1,
    client_gone: bool = False,
    error_code: str | None = None,
    **changes: object,
) -> RequestRecord:
    """A request to the deployment of `world`; `changes` are further fields of the record."""
    fields: dict[str, object] = {
        "id": str(new_id()),
        "workspace_id": str(world.workspace_id),
        "started_us": round(started.timestamp() * 1e6),
        "api_key_id": str(world.api_key_id),
        "member_id": str(world.member_id),
        "unit": None,
        "requested_model": "assistant",
        "environment": "production",
        "model_id": str(world.model_id),
        "lifecycle_id": str(world.lifecycle_id),
        "deployment_id": str(world.deployment_id),
        "version_tag": "v1.0.0",
        "variant": None,
        "routing_revision": 3,
        "provider": "openai",
        "upstream_model": "gpt-4o-mini",
        "dialect": "openai",
        "operation": "chat",
        "streamed": ttft_ms is not None,
        "status": status,
        "error_code": error_code,
        "finish_reason": "stop" if status < 400 else None,
        "client_gone": client_gone,
        "latency_us": round(latency_ms * 1000),
        "ttft_us": None if ttft_ms is None else round(ttft_ms * 1000),
        "last_token_us": None if ttft_ms is None else round(latency_ms * 1000),
        "usage": usage or Usage(20, 0, 0, 30, 0, "upstream"),
        "cost_nano": cost_nano,
        "attempts": tuple(
            Attempt(str(world.deployment_id), "http://127.0.0.1:9000/v1", status, error_code, round(latency_ms * 1000))
            for _ in range(attempts)
        ),
    }
    return RequestRecord(**(fields | changes))  # type: ignore[arg-type]


def random_records(world: World, seed: int, count: int, start: datetime, span: timedelta) -> list[RequestRecord]:
    """`count` records spread over `span` from `start`, the same for the same seed but for their ids."""
    draw = random.Random(seed)
    records = []
    for _ in range(count):
        status = draw.choices((200, 400, 429, 502), (94, 2, 1, 3))[0]
        latency = draw.lognormvariate(5.5, 0.6)
        records.append(
            make_record(
                world,
                start + span * draw.random(),
                status=status,
                latency_ms=latency,
                ttft_ms=latency * 0.3 if draw.random() < 0.5 else None,
                usage=Usage(draw.randint(1, 900), draw.randint(0, 99), 0, draw.randint(1, 300), 0, "upstream"),
                cost_nano=draw.randint(0, 3_000_000),
                error_code="upstream_unavailable" if status == 502 else None,
            )
        )
    return records
