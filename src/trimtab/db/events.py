"""Events: what happened to an object, told in the transaction in which it happened."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from trimtab.db.database import Connection
from trimtab.ids import new_id, time_of

INSERT = """
insert into trimtab.events (id, workspace_id, at, name, subject_type, subject_id, data)
values (%s, %s, %s, %s, %s, %s, %s)
"""


async def emit(
    connection: Connection,
    workspace_id: UUID,
    name: str,
    subject_type: str,
    subject_id: UUID,
    data: dict[str, Any] | None = None,
) -> datetime:
    """Append an event and wake whoever listens on the channel `trimtab_events`.

    Parameters:
        name: `noun.verb`, for example `deployment.updated`.
        subject_type: the noun of the object, for example `deployment`.
        data: JSON-serialisable details.

    Returns:
        The event's time.
    """
    identifier = new_id()
    at = time_of(identifier)
    await connection.execute(INSERT, (identifier, workspace_id, at, name, subject_type, subject_id, Jsonb(data or {})))
    await connection.execute(
        "select pg_notify('trimtab_events', %s)",
        (json.dumps({"workspace_id": str(workspace_id), "id": str(identifier)}),),
    )
    return at
