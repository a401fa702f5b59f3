"""Workspaces and the members in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from trimtab.access import audit
from trimtab.access.keys import Owner
from trimtab.access.principal import MemberRole, Principal
from trimtab.db import events
from trimtab.db.database import Connection
from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    """A row of `workspaces`."""

    id: UUID
    name: str
    settings: dict[str, Any]
    created_at: datetime


LIST = """
select id, name, settings, created_at from trimtab.workspaces
where %(before)s::uuid is null or id < %(before)s order by id desc limit %(fetch)s
"""
FIND = "select id, name, settings, created_at from trimtab.workspaces where id = %s"
UPDATE = """
update trimtab.workspaces set name = %(name)s, settings = settings || %(settings)s where id = %(id)s
returning id, name, settings, created_at
"""
FIND_MEMBER = """
select id, name, role, deactivated_at is null from trimtab.members
where workspace_id = %s and lower(name) = lower(%s)
"""
INSERT_MEMBER = """
insert into trimtab.members (id, workspace_id, name, kind, role, created_at) values (%s, %s, %s, 'service', %s, %s)
"""


async def visible(connection: Connection, before: UUID | None, fetch: int) -> list[WorkspaceRow]:
    """The workspaces that the caller may see, newest first."""
    async with connection.cursor(row_factory=class_row(WorkspaceRow)) as cursor:
        return await (await cursor.execute(LIST, {"before": before, "fetch": fetch})).fetchall()


async def find(connection: Connection, workspace_id: UUID) -> WorkspaceRow:
    """One workspace. Raises TrimtabError (NOT_FOUND)."""
    async with connection.cursor(row_factory=class_row(WorkspaceRow)) as cursor:
        row = await (await cursor.execute(FIND, (workspace_id,))).fetchone()
    if row is None:
        raise TrimtabError(Code.NOT_FOUND, f"There is no workspace {workspace_id} that this key can see.")
    return row


async def update(
    connection: Connection, actor: Principal, workspace_id: UUID, name: str | None, settings: dict[str, Any]
) -> WorkspaceRow:
    """Rename a workspace or change its settings; what is not given stays.

    Raises:
        TrimtabError: NOT_FOUND, ALREADY_EXISTS.
    """
    before = await find(connection, workspace_id)
    values = {"id": workspace_id, "name": name or before.name, "settings": Jsonb(settings)}
    async with connection.cursor(row_factory=class_row(WorkspaceRow)) as cursor:
        try:
            after = await (await cursor.execute(UPDATE, values)).fetchone()
        except psycopg.errors.UniqueViolation:
            raise TrimtabError(Code.ALREADY_EXISTS, f"There is a workspace named {name!r} already.", "name") from None
    if after is None:
        raise TrimtabError(Code.FORBIDDEN, "Your role may not change this workspace.")
    if after == before:
        return before
    details = {
        "before": {"name": before.name, "settings": before.settings},
        "after": {"name": after.name, "settings": after.settings},
    }
    await audit.record(connection, actor, "workspace.update", "workspace", workspace_id, details)
    await events.emit(connection, actor.workspace_id, "workspace.updated", "workspace", workspace_id, details)
    return after


async def member_for_key(
    connection: Connection, actor: Principal, name: str, role: MemberRole, now: datetime, *, new: bool
) -> Owner:
    """The member of that name, made with `role` where there is none.

    Parameters:
        new: refuse one that is there already.

    Raises:
        TrimtabError: ALREADY_EXISTS; CONFLICT for a member who was deactivated.
    """
    found = await (await connection.execute(FIND_MEMBER, (actor.workspace_id, name))).fetchone()
    if found is not None:
        member_id, known_as, present_role, active = found
        if new:
            raise TrimtabError(
                Code.ALREADY_EXISTS,
                f"There is a member named {known_as!r} already; for another key of theirs give `member`, "
                "or choose another name.",
                "name",
            )
        if not active:
            raise TrimtabError(Code.CONFLICT, f"The member {known_as!r} was deactivated.", "member")
        return Owner(member_id, known_as, present_role)
    member_id = new_id()
    await connection.execute(INSERT_MEMBER, (member_id, actor.workspace_id, name, role, now))
    await audit.record(connection, actor, "member.create", "member", member_id, {"name": name, "role": role})
    return Owner(member_id, name, role)
