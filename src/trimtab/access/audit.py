"""The audit log: written in the same transaction as the change it tells of."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from trimtab.access.principal import Principal
from trimtab.db.database import Connection
from trimtab.ids import new_id

INSERT = """
insert into trimtab.audit_log
    (id, workspace_id, actor_id, actor_name, action, object_type, object_id, details, request_id)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


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
