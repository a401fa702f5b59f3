"""What a gateway's requests work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from trimtab.gateway.interrupt import Watch
from trimtab.gateway.live import LiveDeployments
from trimtab.gateway.metrics import Metrics
from trimtab.gateway.upstream import Timeouts, Upstream
from trimtab.metering.spool import SpoolWriter
from trimtab.routing.choose import Random

Send = Callable[[dict[str, Any]], Awaitable[None]]
"""ASGI's `send`."""


class ClientConnection(Protocol):
    """The connection a request came on (`trimtab.gateway.http`)."""

    on_disconnect: Callable[[], None] | None
    """Called at once when the caller hangs up."""

    def abort(self) -> None:
        """Close it now, whatever is still unsent."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all requests of one gateway share.

    Parameters:
        random: draws the arm of requests without a unit, and breaks ties.
    """

    upstream: Upstream
    live: LiveDeployments
    spool: SpoolWriter
    metrics: Metrics
    timeouts: Timeouts
    random: Random
    watch: Watch
