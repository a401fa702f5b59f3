"""What `/readyz` says: which checks there are, and what follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Literal

import msgspec

from trimtab.db.database import SYSTEM, Database
from trimtab.errors import TrimtabError
from trimtab.routing.snapshot import Snapshot

CheckStatus = Literal["ok", "degraded", "failed"]
OLD_SECONDS = 10.0
_DATABASE_SECONDS = 2.0


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at: `degraded` still serves, `failed` does not."""

    name: str
    status: CheckStatus
    detail: str


def overall(checks: Iterable[Check]) -> Literal["ready", "degraded", "unavailable"]:
    """What the checks come to."""
    found = {check.status for check in checks}
    if "failed" in found:
        return "unavailable"
    return "degraded" if "degraded" in found else "ready"


def check_routing(snapshot: Snapshot | None, age: float | None) -> Check:
    """Whether the gateway has routing, and how old it is (seconds; None: as stored before the start)."""
    if snapshot is None:
        return Check("routing", "failed", "no routing yet: nothing is stored, and the database cannot be reached")
    if age is None:
        return Check("routing", "degraded", f"serving the stored revision {snapshot.revision}; the database is down")
    if age > OLD_SECONDS:
        return Check("routing", "degraded", f"serving revision {snapshot.revision}, last confirmed {age:.0f} s ago")
    return Check("routing", "ok", f"revision {snapshot.revision}")


def check_spool(lost: int) -> Check:
    """Whether every request could be recorded since the start."""
    if lost:
        return Check("spool", "degraded", f"{lost} requests could not be recorded; see the log")
    return Check("spool", "ok", "all requests are recorded")


async def check_database(database: Database, *, needed: bool) -> Check:
    """Whether the database answers; `needed` where this worker can do nothing without."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS), database.transaction(SYSTEM):
            return Check("database", "ok", "answers")
    except (TrimtabError, TimeoutError):
        return Check("database", "failed" if needed else "degraded", "cannot be reached; the control API is down")
