"""How replicas run: one small interface, and an implementation for each kind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a runtime is to run.

    Parameters:
        spec: as made by `replica_spec`.
    """

    replica_id: UUID
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of a probe; `reason` says what is wrong."""

    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a replica uses: percent of one CPU, and bytes of resident memory."""

    cpu_percent: float
    memory_bytes: int


class StartError(Exception):
    """A replica cannot be started.

    Parameters:
        permanent: whether trying again soon is of no use (the command does not exist).
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


class Running(Protocol):
    """A replica that was started.

    `url` is the base URL that dialect paths are appended to; `ended` has the reason once it ended by itself.
    """

    @property
    def url(self) -> str:
        """Base URL."""

    @property
    def pid(self) -> int | None:
        """Its process; None for somebody else's."""

    @property
    def ended(self) -> asyncio.Future[str]:
        """Done when it ended by itself."""

    async def probe(self) -> Health:
        """Whether it can take requests now."""

    def usage(self) -> Usage | None:
        """What it uses at the moment; None where that cannot be known."""

    async def stop(self) -> None:
        """End it, with all that it started; returns when nothing is left."""


class Runtime(Protocol):
    """A way to run replicas.

    `restart_after` is how many seconds a running replica may fail its probe before it is started anew; None where
    that is of no use. `start_timeout` is how long one may take to become ready.
    """

    @property
    def restart_after(self) -> float | None:
        """Seconds for which a replica may fail its probe."""

    async def start(self, assignment: Assignment) -> Running:
        """Start a replica. Raises StartError."""

    def start_timeout(self, assignment: Assignment) -> float | None:
        """Seconds until a replica that is not ready is started anew; None for never."""
