"""The runtime `external`: somebody else runs it, Trimtab only looks whether it is there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp

from trimtab.deployments.runtimes import Assignment, Health, Usage
from trimtab.deployments.runtimes.probe import get_status


@dataclass(slots=True)
class ExternalReplica:
    """An address."""

    url: str
    session: aiohttp.ClientSession
    pid: int | None = None
    ended: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def probe(self) -> Health:
        """Any answer below 500 counts: that a key is wanted (401) or a path unknown (404) does not matter here."""
        status = await get_status(self.session, f"{self.url}/models")
        if isinstance(status, Health):
            return status
        return Health(status < 500, "" if status < 500 else f"it answers with HTTP status {status}")

    def usage(self) -> Usage | None:
        """Nothing is known of somebody else's machine."""
        return None

    async def stop(self) -> None:
        """There is nothing to stop."""


@dataclass(frozen=True, slots=True)
class External:
    """Looks after addresses.

    Parameters:
        session: the runner's HTTP client.
    """

    session: aiohttp.ClientSession
    restart_after: float | None = None

    async def start(self, assignment: Assignment) -> ExternalReplica:
        """Begin to look after an address."""
        return ExternalReplica(assignment.spec["endpoint"], self.session)

    def start_timeout(self, assignment: Assignment) -> float | None:
        """Never: its deployment has a deadline."""
        return None
