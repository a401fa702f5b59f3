"""API keys: made, kept as a hash, told to the gateways, revoked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from trimtab.access import audit
from trimtab.access.principal import ORDER, MemberRole, Principal
from trimtab.db.database import Connection
from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id
from trimtab.routing.publish import Change, publish
from trimtab.routing.records import ApiKeyEntry

PREFIX = "tt_"
SCOPES = ("control", "inference")


@dataclass(frozen=True, slots=True)
class Owner:
    """The member whom a key is for."""

    id: UUID
    name: str
    role: MemberRole


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A row of `api_keys`, with its member's name and without the hash."""

    id: UUID
    workspace_id: UUID
    member_id: UUID
    member_name: str
    name: str
    key_hint: str
    role: MemberRole
    scopes: list[str]
    created_at: datetime
    created_by: UUID | None
    expires_at: datetime | None
    revoked_at: datetime | None


COLUMNS = """k.id, k.workspace_id, k.member_id, m.name as member_name, k.name, k.key_hint, k.role, k.scopes,
    k.created_at, k.created_by, k.expires_at, k.revoked_at"""
FROM = "from trimtab.api_keys k join trimtab.members m on m.id = k.member_id"
INSERT = """
insert into trimtab.api_keys (id, workspace_id, member_id, name, key_hash, key_hint, role, scopes, created_at,
    created_by, expires_at)
values (%(id)s, %(workspace_id)s, %(member_id)s, %(name)s, %(key_hash)s, %(key_hint)s, %(role)s, %(scopes)s, %(now)s,
    %(created_by)s, %(expires_at)s)
"""
FIND = f"select {COLUMNS} {FROM} where k.workspace_id = %s and k.id = %s"
LIST = f"""
select {COLUMNS} {FROM} where k.workspace_id = %s and (%s::uuid is null or k.id < %s) order by k.id desc limit %s
"""
REVOKE = """
update trimtab.api_keys set revoked_at = %(now)s
where workspace_id = %(workspace_id)s and id = %(id)s and revoked_at is null returning key_hash
"""
OTHER_ADMIN_KEYS = f"""
select exists (select {FROM} where k.workspace_id = %s and k.id <> %s and k.role = 'admin' and m.role = 'admin'
    and m.deactivated_at is null and k.revoked_at is null and (k.expires_at is null or k.expires_at > %s)
    and 'control' = any (k.scopes))
"""


def make_key() -> str:
    """A fresh API key: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What a key is stored and looked up by."""
    return hashlib.sha256(key.encode()).hexdigest()


async def add(
    connection: Connection,
    actor: Principal,
    owner: Owner,
    key: str,
    *,
    name: str,
    role: MemberRole,
    now: datetime,
    scopes: Sequence[str] = SCOPES,
    expires_at: datetime | None = None,
) -> UUID:
    """Store the hash of `key` and tell the gateways. Routing changes wait from here on: do it last.

    Parameters:
        role: the key's; what it can do is the lesser of this and its owner's.

    Returns:
        The id of the key's row.
    """
    identifier = new_id()
    values = {
        "id": identifier,
        "workspace_id": actor.workspace_id,
        "member_id": owner.id,
        "name": name,
        "key_hash": digest(key),
        "key_hint": f"{PREFIX if key.startswith(PREFIX) else ''}...{key[-4:]}",
        "role": role,
        "scopes": list(scopes),
        "now": now,
        "created_by": actor.member_id,
        "expires_at": expires_at,
    }
    await connection.execute(INSERT, values)
    details = {"name": name, "member": owner.name, "role": role, "scopes": list(scopes)}
    if expires_at is not None:
        details["expires_at"] = expires_at.isoformat()
    await audit.record(connection, actor, "api_key.create", "api_key", identifier, details)
    entry = ApiKeyEntry(
        id=str(identifier),
        workspace_id=str(actor.workspace_id),
        member_id=str(owner.id),
        member_name=owner.name,
        role=min(role, owner.role, key=ORDER.index),
        scopes=tuple(scopes),
        expires_at=None if expires_at is None else expires_at.timestamp(),
    )
    await publish(connection, actor.workspace_id, [Change("api_key", digest(key), entry)], f"API key {name!r} added")
    return identifier


async def find(connection: Connection, workspace_id: UUID, key_id: UUID) -> KeyRow:
    """One key. Raises TrimtabError (NOT_FOUND)."""
    async with connection.cursor(row_factory=class_row(KeyRow)) as cursor:
        row = await (await cursor.execute(FIND, (workspace_id, key_id))).fetchone()
    if row is None:
        raise TrimtabError(Code.NOT_FOUND, f"There is no API key {key_id} in this workspace.")
    return row


async def newest(connection: Connection, workspace_id: UUID, before: UUID | None, fetch: int) -> list[KeyRow]:
    """Keys, newest first, also those that work no more."""
    async with connection.cursor(row_factory=class_row(KeyRow)) as cursor:
        return await (await cursor.execute(LIST, (workspace_id, before, before, fetch))).fetchall()


async def revoke(connection: Connection, actor: Principal, key_id: UUID, now: datetime) -> KeyRow:
    """Make a key useless, at once here and within moments at the gateways; again changes nothing.

    Raises:
        TrimtabError: NOT_FOUND; CONFLICT for the last admin key that works.
    """
    row = await find(connection, actor.workspace_id, key_id)
    if row.revoked_at is None and row.role == "admin":
        others = await (await connection.execute(OTHER_ADMIN_KEYS, (actor.workspace_id, key_id, now))).fetchone()
        if others is not None and not others[0]:
            raise TrimtabError(
                Code.CONFLICT, "This is the last admin key that works; make another one first, then revoke this."
            )
    values = {"id": key_id, "workspace_id": actor.workspace_id, "now": now}
    revoked = await (await connection.execute(REVOKE, values)).fetchone()
    if revoked is None:
        return row
    await audit.record(connection, actor, "api_key.revoke", "api_key", key_id, {"name": row.name})
    await publish(
        connection, actor.workspace_id, [Change("api_key", revoked[0], None)], f"API key {row.name!r} revoked"
    )
    return await find(connection, actor.workspace_id, key_id)
