"""What a route knows of its caller, and its door to the database."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from trimtab.access.principal import Principal
from trimtab.api.idempotency import PENDING, PendingAnswer
from trimtab.api.problems import REQUEST_ID
from trimtab.clock import Clock
from trimtab.db.database import SYSTEM, Connection, Database, Role
from trimtab.errors import Code, TrimtabError
from trimtab.sealing import Sealer
from trimtab.settings import Settings

AUTHENTICATE = """
select key_id, workspace_id, member_id, member_name, role, scopes, workspace_name from trimtab.authenticate(%s)
"""
BEARER = HTTPBearer(auto_error=False, scheme_name="api_key", description="An API key of Trimtab, `tt_...`.")


@dataclass(frozen=True, slots=True)
class Services:
    """What the control API is built on; made once by the composition root, found at `app.state.services`."""

    database: Database
    settings: Settings
    sealer: Sealer
    clock: Clock
    instance_id: UUID


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated request: its principal and the services.

    Routes open the one transaction of their request with `caller.transaction()`.
    """

    principal: Principal
    services: Services
    workspace_name: str
    pending: PendingAnswer | None = None

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction that sees what the caller may see.

        With an Idempotency-Key it is committed only once the answer is known: what is changed in it cannot be seen
        by another transaction of the same request.
        """
        if self.pending is not None:
            return self.pending.transaction(self.services.database, self.principal, self.services.sealer)
        return self.services.database.transaction(self.principal.scope)

    def system_transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction as the program itself; only for what no caller may do directly (partitions, capacity)."""
        return self.services.database.transaction(SYSTEM)


def presented_key(request: Request) -> str | None:
    """The API key of `Authorization: Bearer` or `x-api-key`."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.headers.get("x-api-key") or None


async def authenticate(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None
) -> Caller:
    """The caller of `request`.

    Raises:
        TrimtabError: UNAUTHENTICATED without a valid key, FORBIDDEN when the key is not for the control API or not
            of the workspace that the request names.
    """
    services: Services = request.app.state.services
    key = presented_key(request)
    if key is None:
        raise TrimtabError(Code.UNAUTHENTICATED, "Send your API key as `Authorization: Bearer tt_...`.")
    digest = hashlib.sha256(key.encode()).hexdigest()
    async with services.database.transaction(SYSTEM) as connection:
        row = await (await connection.execute(AUTHENTICATE, (digest,))).fetchone()
    if row is None:
        raise TrimtabError(Code.UNAUTHENTICATED, "The API key is unknown, expired or revoked.")
    key_id, workspace_id, member_id, name, role, scopes, workspace_name = row
    principal = Principal(workspace_id, member_id, name, role, tuple(scopes), key_id, request.scope.get(REQUEST_ID))
    if "control" not in principal.scopes:
        raise TrimtabError(Code.FORBIDDEN, "This key has no scope `control`; it can only call models.")
    wanted = request.headers.get("x-trimtab-workspace")
    if wanted is not None and wanted.strip().lower() not in (str(workspace_id), workspace_name.lower()):
        raise TrimtabError(
            Code.FORBIDDEN,
            f"This key belongs to the workspace {workspace_name!r}; leave the header out or use a key of that one.",
            "x-trimtab-workspace",
        )
    return Caller(principal, services, workspace_name, request.scope.get(PENDING))


def at_least(role: Role) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that lets through callers who hold `role` or a higher one."""

    async def check(caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
        if not caller.principal.is_at_least(role):
            raise TrimtabError(
                Code.FORBIDDEN,
                f"This needs the role {role}; the key of {caller.principal.name!r} has {caller.principal.role}.",
            )
        return caller

    return check


Viewer = Annotated[Caller, Depends(at_least("viewer"))]
Operator = Annotated[Caller, Depends(at_least("operator"))]
Admin = Annotated[Caller, Depends(at_least("admin"))]
