"""Writing routing entries: the last step of any transaction that changes what gateways do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import msgspec

from trimtab.db.database import Connection
from trimtab.routing.records import Entry, EntryKind

UPSERT = """
insert into trimtab.routing_entries (kind, key, workspace_id, revision, body)
values (%(kind)s, %(key)s, %(workspace_id)s, %(revision)s, %(body)s)
on conflict (kind, key) do update set revision = excluded.revision, body = excluded.body
where routing_entries.workspace_id = excluded.workspace_id
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry to set, or to remove (`entry` None)."""

    kind: EntryKind
    key: str
    entry: Entry | None


async def publish(connection: Connection, workspace_id: UUID, changes: Iterable[Change], reason: str) -> int:
    """Write `changes` under the next revision and tell every gateway.

    Call it last in the transaction: from here to the commit other routing changes wait.

    Returns:
        The revision; a cut-over is done when every live gateway has acknowledged it.
    """
    row = await (await connection.execute("select trimtab.next_revision(%s, %s)", (workspace_id, reason))).fetchone()
    assert row is not None
    revision: int = row[0]
    for change in changes:
        body = None if change.entry is None else msgspec.json.encode(change.entry).decode()
        await connection.execute(
            UPSERT,
            {
                "kind": change.kind,
                "key": change.key,
                "workspace_id": workspace_id,
                "revision": revision,
                "body": body,
            },
        )
    return revision
