"""Calling model servers: the interface, and what can go wrong behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from yarl import URL

from trimtab.errors import Code


class FailureKind(Enum):
    """How a call failed; the value says it in words, to be put after "the model server"."""

    REFUSED = "refuses the connection"
    DNS = "has a host name that cannot be resolved"
    TLS = "has no TLS certificate that is trusted here, or does not speak TLS"
    CONNECT_TIMEOUT = "did not accept a connection in time"
    RESET = "closed the connection before it answered"
    TRUNCATED = "broke off in the middle of its answer"
    INVALID = "does not answer in valid HTTP"

    @property
    def code(self) -> Code:
        """What callers are told."""
        if self in (FailureKind.TRUNCATED, FailureKind.INVALID):
            return Code.UPSTREAM_INVALID
        return Code.UPSTREAM_UNAVAILABLE

    @property
    def nothing_sent(self) -> bool:
        """Whether the request certainly never reached the model server, so that another can be tried."""
        return self in (FailureKind.REFUSED, FailureKind.DNS, FailureKind.TLS, FailureKind.CONNECT_TIMEOUT)


class UpstreamError(Exception):
    """A call failed.

    Parameters:
        kind: how.
        detail: the cause in the words of the library below, for the log.
    """

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(f"{kind.value}: {detail}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one call, in seconds.

    Parameters:
        connect: until the connection is made.
        first_byte: from there until the answer begins.
        gap: between two chunks of the answer; time in which the caller does not read is not counted.
        total: of the whole request.
        client: how long the caller may leave what was sent to it unread.
    """

    connect: float = 5.0
    first_byte: float = 600.0
    gap: float = 120.0
    total: float = 3600.0
    client: float = 60.0


class UpstreamResponse(Protocol):
    """An answer that has begun."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers as they came: bytes, case, order and duplicates unchanged."""

    async def read(self) -> bytes:
        """Return the next bytes of the body as soon as there are any; empty at its end, which frees the connection.

        Raises:
            UpstreamError: the answer broke off.
        """

    def abort(self) -> None:
        """Close the connection now unless the body has ended; the model server sees it at once."""


class Upstream(Protocol):
    """Sends requests to model servers. Time limits other than `connect` are the caller's: it cancels."""

    async def post(self, url: URL, headers: list[tuple[str, str]], body: bytes) -> UpstreamResponse:
        """Send a POST and return when the head of the answer is there; no redirects, no proxies, no cookies.

        Raises:
            UpstreamError: there is no answer.
        """

    async def close(self) -> None:
        """Close all connections."""
