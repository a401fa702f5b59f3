"""The control API on a real database, called in-process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
from cryptography.fernet import Fernet

from trimtab.access import keys
from trimtab.access.principal import MemberRole, program
from trimtab.api.app import create_app
from trimtab.api.caller import Services
from trimtab.clock import Clock, system_clock
from trimtab.db.database import SYSTEM, Database
from trimtab.ids import new_id
from trimtab.sealing import Sealer
from trimtab.settings import Settings


@dataclass(frozen=True, slots=True)
class Api:
    """The application and what it works with."""

    services: Services
    app: Any

    def client(self, key: str | None = None, **headers: str) -> httpx2.AsyncClient:
        """A client of the holder of `key`."""
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://trimtab", headers=headers)

    async def member(self, name: str, role: MemberRole, workspace: str = "default", scopes: Any = keys.SCOPES) -> str:
        """A key of a new member, in a workspace that is made where it is missing."""
        async with self.services.database.transaction(SYSTEM) as connection:
            found = await (
                await connection.execute("select id from trimtab.workspaces where name = %s", (workspace,))
            ).fetchone()
            workspace_id = found[0] if found else new_id()
            if not found:
                await connection.execute(
                    "insert into trimtab.workspaces (id, name) values (%s, %s)", (workspace_id, workspace)
                )
            member_id = new_id()
            await connection.execute(
                "insert into trimtab.members (id, workspace_id, name, role) values (%s, %s, %s, %s)",
                (member_id, workspace_id, name, role),
            )
            key = keys.make_key()
            owner = keys.Owner(member_id, name, role)
            now = system_clock()
            await keys.add(connection, program(workspace_id), owner, key, name=name, role=role, now=now, scopes=scopes)
        return key


@asynccontextmanager
async def running_api(
    database: Database, data_dir: Path, clock: Clock = system_clock, sealer: Sealer | None = None
) -> AsyncIterator[Api]:
    """The control API on `database`."""
    sealer = sealer or Sealer(Fernet.generate_key().decode())
    services = Services(database, Settings(data_dir), sealer, clock, uuid4())
    yield Api(services, create_app(services))
