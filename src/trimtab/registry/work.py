"""What every verb of the registry is given, and what each tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from trimtab.access import audit
from trimtab.access.principal import Principal
from trimtab.db import events
from trimtab.db.database import Connection
from trimtab.ids import new_id
from trimtab.registry import store


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work in one transaction, which the caller opened and commits.

    Parameters:
        actor: on whose behalf.
        now: the moment it happens, in UTC.
    """

    connection: Connection
    actor: Principal
    now: datetime

    async def tell(
        self, noun: str, identifier: UUID, action: str, happened: str, details: dict[str, Any] | None = None
    ) -> None:
        """Write the audit log and an event: `noun.action` was done, `noun.happened` is what became of it."""
        await audit.record(self.connection, self.actor, f"{noun}.{action}", noun, identifier, details)
        await events.emit(self.connection, self.actor.workspace_id, f"{noun}.{happened}", noun, identifier, details)

    async def history(
        self,
        lifecycle_id: UUID,
        event: str,
        *,
        before: str | None = None,
        after: str | None = None,
        comment: str = "",
        evidence: dict[str, Any] | None = None,
    ) -> None:
        """Append a step to a version's history."""
        await store.insert_event(
            self.connection,
            {
                "id": new_id(),
                "workspace_id": self.actor.workspace_id,
                "lifecycle_id": lifecycle_id,
                "at": self.now,
                "actor_id": self.actor.member_id,
                "actor_name": self.actor.name,
                "event": event,
                "from_value": before,
                "to_value": after,
                "comment": comment,
                "evidence": evidence or {},
            },
        )
