"""Connections to PostgreSQL, always inside a scope that row level security can see.

There is no way to a connection but `Database.transaction(scope)`: it takes one from the pool, opens a transaction,
becomes the role `authenticated` and sets the claims that the policies read, as Supabase does for its own requests.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from trimtab.errors import Code, TrimtabError

Role = Literal["viewer", "operator", "admin", "system"]
Connection = AsyncConnection[TupleRow]

SET_SCOPE = "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)"


@dataclass(frozen=True, slots=True)
class Scope:
    """On whose behalf a transaction runs.

    Parameters:
        role: `viewer`, `operator`, `admin`, or `system` for the program's own work across workspaces.
        workspace_id: the one workspace it may see; None only for `system`.
        member_id: the acting member, None for `system`.
    """

    role: Role
    workspace_id: UUID | None = None
    member_id: UUID | None = None

    def claims(self) -> str:
        """The JSON document for `request.jwt.claims`."""
        own: dict[str, str] = {"role": self.role}
        if self.workspace_id is not None:
            own["workspace_id"] = str(self.workspace_id)
        if self.member_id is not None:
            own["member_id"] = str(self.member_id)
        return json.dumps({"role": "authenticated", "app_metadata": {"trimtab": own}})


SYSTEM = Scope("system")


class Database:
    """A pool of connections as the application role.

    Parameters:
        url: connection string of a role that is a member of `authenticated` and `trimtab_program`.
        max_size: most connections held at once.
        timeout: seconds to wait for a free connection before `DATABASE_UNAVAILABLE`.
        prepared: keep prepared statements (False behind a transaction pooler).
    """

    def __init__(self, url: str, *, max_size: int = 8, timeout: float = 5.0, prepared: bool = True) -> None:
        self.url = url
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=max_size,
            open=False,
            timeout=timeout,
            kwargs={"prepare_threshold": 5 if prepared else None, "autocommit": True},
            check=AsyncConnectionPool.check_connection,
            name="trimtab",
        )

    async def open(self) -> None:
        """Start filling the pool; returns at once, also when the server is down."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self, scope: Scope) -> AsyncIterator[Connection]:
        """A transaction in `scope`; commits at the end of the block, rolls back on any exception.

        Raises:
            TrimtabError: DATABASE_UNAVAILABLE when no connection can be had, or it broke in the middle.
        """
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(SET_SCOPE, (scope.claims(),))
                yield connection
        except psycopg.OperationalError as error:
            if not _is_unavailable(error):
                raise
            raise TrimtabError(
                Code.DATABASE_UNAVAILABLE,
                f"The database cannot be reached or dropped the connection ({type(error).__name__}); "
                "nothing was changed. Try again in a moment.",
            ) from error


def _is_unavailable(error: psycopg.OperationalError) -> bool:
    """Whether the server is gone or full, rather than refusing one statement (a lock, a timeout, a conflict)."""
    state = error.sqlstate
    return state is None or state[:2] in ("08", "53") or state in ("57P01", "57P02", "57P03")
