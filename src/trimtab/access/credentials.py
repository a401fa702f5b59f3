"""Credentials of providers: sealed when they come in, shown never, except for a hint."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from trimtab.access import audit
from trimtab.access.principal import Principal
from trimtab.db.database import Connection
from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id
from trimtab.sealing import Sealer


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A row of `provider_credentials`, without what is sealed."""

    id: UUID
    workspace_id: UUID
    name: str
    provider: str
    hint: str
    created_by: UUID | None
    created_at: datetime


COLUMNS = "id, workspace_id, name, provider, hint, created_by, created_at"
INSERT = f"""
insert into trimtab.provider_credentials (id, workspace_id, name, provider, sealed, hint, created_by, created_at)
values (%(id)s, %(workspace_id)s, %(name)s, %(provider)s, %(sealed)s, %(hint)s, %(created_by)s, %(now)s)
returning {COLUMNS}
"""
TAKEN = "select exists (select from trimtab.provider_credentials where workspace_id = %s and lower(name) = lower(%s))"
FIND = f"select {COLUMNS} from trimtab.provider_credentials where workspace_id = %s and id = %s"
LIST = f"""
select {COLUMNS} from trimtab.provider_credentials
where workspace_id = %s and (%s::uuid is null or id < %s) order by id desc limit %s
"""
DELETE = "delete from trimtab.provider_credentials where workspace_id = %s and id = %s returning name"


def hint_of(secret: str) -> str:
    """What tells a secret from others without disclosing it: its last four characters, of a long one only."""
    return f"...{secret[-4:]}" if len(secret) >= 12 else "..."


async def keep(
    connection: Connection,
    actor: Principal,
    sealer: Sealer,
    now: datetime,
    *,
    name: str,
    provider: str,
    secret: str,
    rename: bool = False,
) -> CredentialRow:
    """Seal and store a credential.

    Parameters:
        rename: add to the name rather than refuse when it is taken.

    Raises:
        TrimtabError: ALREADY_EXISTS.
    """
    identifier = new_id()
    if rename:
        taken = await (await connection.execute(TAKEN, (actor.workspace_id, name))).fetchone()
        if taken is not None and taken[0]:
            name = f"{name} {identifier.hex[-8:]}"
    values = {
        "id": identifier,
        "workspace_id": actor.workspace_id,
        "name": name,
        "provider": provider,
        "sealed": sealer.seal(secret.encode()),
        "hint": hint_of(secret),
        "created_by": actor.member_id,
        "now": now,
    }
    async with connection.cursor(row_factory=class_row(CredentialRow)) as cursor:
        try:
            row = await (await cursor.execute(INSERT, values)).fetchone()
        except psycopg.errors.UniqueViolation:
            raise TrimtabError(
                Code.ALREADY_EXISTS, f"There is a credential named {name!r} already; choose another name.", "name"
            ) from None
    assert row is not None
    await audit.record(
        connection, actor, "provider.create", "provider", row.id, {"name": name, "provider": provider, "hint": row.hint}
    )
    return row


async def find(connection: Connection, workspace_id: UUID, credential_id: UUID) -> CredentialRow | None:
    """One credential, without its secret."""
    async with connection.cursor(row_factory=class_row(CredentialRow)) as cursor:
        return await (await cursor.execute(FIND, (workspace_id, credential_id))).fetchone()


async def newest(connection: Connection, workspace_id: UUID, before: UUID | None, fetch: int) -> list[CredentialRow]:
    """Credentials, newest first."""
    async with connection.cursor(row_factory=class_row(CredentialRow)) as cursor:
        return await (await cursor.execute(LIST, (workspace_id, before, before, fetch))).fetchall()


async def delete(connection: Connection, actor: Principal, credential_id: UUID) -> None:
    """Delete a credential that no version uses. Raises TrimtabError (NOT_FOUND, CONFLICT)."""
    try:
        row = await (await connection.execute(DELETE, (actor.workspace_id, credential_id))).fetchone()
    except psycopg.errors.ForeignKeyViolation:
        raise TrimtabError(
            Code.CONFLICT, "A version uses this credential; it can go once no version refers to it."
        ) from None
    if row is None:
        raise TrimtabError(Code.NOT_FOUND, f"There is no credential {credential_id} in this workspace.")
    await audit.record(connection, actor, "provider.delete", "provider", credential_id, {"name": row[0]})
