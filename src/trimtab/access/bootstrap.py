"""The first way in: a workspace, its admin, and a key, made where they are missing."""

from __future__ import annotations

import asyncio
import logging

from psycopg.rows import tuple_row

from trimtab.access import audit, keys
from trimtab.access.principal import program
from trimtab.clock import system_clock
from trimtab.db.database import SYSTEM, Connection, Database
from trimtab.ids import new_id

log = logging.getLogger(__name__)

WORKSPACE = "default"
ADMIN = "admin"
# Two programs that start at once do this one after the other.
LOCK = "select pg_advisory_xact_lock(hashtextextended('trimtab.bootstrap', 0))"
FIND_WORKSPACE = "select id from trimtab.workspaces where lower(name) = lower(%s)"
INSERT_WORKSPACE = "insert into trimtab.workspaces (id, name) values (%s, %s)"
FIND_ADMIN = "select id from trimtab.members where workspace_id = %s and lower(name) = lower(%s)"
INSERT_ADMIN = (
    "insert into trimtab.members (id, workspace_id, name, kind, role) values (%s, %s, %s, 'service', 'admin')"
)
FIND_KEY = "select revoked_at is not null from trimtab.api_keys where key_hash = %s"
HAS_KEY = """
select exists (select from trimtab.api_keys k join trimtab.members m on m.id = k.member_id
    where k.workspace_id = %s and k.role = 'admin' and m.role = 'admin' and m.deactivated_at is null
        and k.revoked_at is null and (k.expires_at is null or k.expires_at > %s) and 'control' = any (k.scopes))
"""


def ensure_admin_key(url: str, key: str | None) -> str | None:
    """See to it that the workspace `default`, its member `admin` and a key of theirs exist.

    Parameters:
        url: connection string of the application role.
        key: the admin's key, added where it is unknown; earlier ones stay valid until they are revoked. None makes
            one up where no admin key works.

    Returns:
        The key that was made up, to be shown once; None when there was no need.

    Raises:
        TrimtabError: DATABASE_UNAVAILABLE.
    """
    return asyncio.run(_ensure(url, key))


async def _ensure(url: str, key: str | None) -> str | None:
    database = Database(url, max_size=1)
    await database.open()
    try:
        async with database.transaction(SYSTEM) as connection:
            return await _ensure_in(connection, key)
    finally:
        await database.close()


async def _ensure_in(connection: Connection, key: str | None) -> str | None:
    now = system_clock()
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(LOCK)
    found = await (await cursor.execute(FIND_WORKSPACE, (WORKSPACE,))).fetchone()
    workspace_id = found[0] if found else new_id()
    actor = program(workspace_id)
    if not found:
        await cursor.execute(INSERT_WORKSPACE, (workspace_id, WORKSPACE))
        await audit.record(connection, actor, "workspace.create", "workspace", workspace_id, {"name": WORKSPACE})
    member = await (await cursor.execute(FIND_ADMIN, (workspace_id, ADMIN))).fetchone()
    member_id = member[0] if member else new_id()
    if not member:
        await cursor.execute(INSERT_ADMIN, (member_id, workspace_id, ADMIN))
        await audit.record(connection, actor, "member.create", "member", member_id, {"name": ADMIN, "role": "admin"})
    made_up: str | None = None
    if key is None:
        working = await (await cursor.execute(HAS_KEY, (workspace_id, now))).fetchone()
        if working is not None and working[0]:
            return None
        key = made_up = keys.make_key()
    else:
        known = await (await cursor.execute(FIND_KEY, (keys.digest(key),))).fetchone()
        if known is not None:
            if known[0]:
                log.warning("the admin key in TRIMTAB_ADMIN_KEY was revoked; it stays so, set another one")
            return None
    await keys.add(connection, actor, keys.Owner(member_id, ADMIN, "admin"), key, name="admin", role="admin", now=now)
    return made_up
