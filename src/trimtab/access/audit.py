"""The audit log: written in the same transaction as the change it tells of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from trimtab.access.principal import Principal
from trimtab.db.database import Connection
from trimtab.ids import new_id

INSERT = """
insert into trimtab.audit_log
    (id, workspace_id, actor_id, actor_name, action, object_type, object_id, details, request_id)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
SELECT = """
select id, at, actor_id, actor_name, action, object_type, object_id, details, request_id from trimtab.audit_log
where workspace_id = %(workspace_id)s and (%(before)s::uuid is null or id < %(before)s)
    and (%(actor)s::text is null or lower(actor_name) = lower(%(actor)s) or actor_id::text = lower(%(actor)s))
    and (%(action)s::text is null or action = %(action)s)
    and (%(object_type)s::text is null or object_type = %(object_type)s)
    and (%(object_id)s::text is null or object_id = %(object_id)s)
    and (%(start)s::timestamptz is null or at >= %(start)s)
    and (%(end)s::timestamptz is null or at < %(end)s)
order by id desc limit %(fetch)s
"""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of `audit_log`."""

    id: UUID
    at: datetime
    actor_id: UUID | None
    actor_name: str
    action: str
    object_type: str
    object_id: str
    details: dict[str, Any]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines; None leaves one condition out. `actor` is an id or a name, the range is `[start, end)`."""

    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


async def newest(
    connection: Connection, workspace_id: UUID, wanted: Wanted, before: UUID | None, fetch: int
) -> list[AuditRow]:
    """Lines of the audit log, newest first."""
    values = {**asdict(wanted), "workspace_id": workspace_id, "before": before, "fetch": fetch}
    async with connection.cursor(row_factory=class_row(AuditRow)) as cursor:
        return await (await cursor.execute(SELECT, values)).fetchall()


async def record(
    connection: Connection,
    actor: Principal,
    action: str,
    object_type: str,
    object_id: UUID | str,
    details: dict[str, Any] | None = None,
) -> None:
    """Append one line.

    Parameters:
        action: `noun.verb`, for example `lifecycle.approve`.
        details: what changed, JSON-serialisable; never a secret.
    """
    await connection.execute(
        INSERT,
        (
            new_id(),
            actor.workspace_id,
            actor.member_id,
            actor.name,
            action,
            object_type,
            str(object_id),
            Jsonb(details or {}),
            actor.request_id,
        ),
    )
