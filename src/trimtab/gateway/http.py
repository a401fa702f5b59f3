"""The server side of HTTP: uvicorn's protocol on httptools, with the guards it lacks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

MOST_HEADERS = 128
MOST_OVERHEAD = 64 * 1024
"""Bytes of a request that are not its body: request line, headers, trailers."""
TOO_LARGE = f"The headers are larger than {MOST_OVERHEAD // 1024} KiB."
OVERHEAD_PER_BODY_BYTE = 8
"""Chunked bodies in tiny chunks are mostly framing."""
HEAD_SECONDS = 20.0
IDLE_SECONDS = 75.0
LINGER_SECONDS = 2.0
BODY_SECONDS = 30.0
SLOWEST_BODY = 16 * 1024
"""Bytes per second that a body must come at, after its first `BODY_SECONDS`."""
MOST_DISCARDED = 256 * 1024 * 1024
"""How much of a body is read and thrown away after the answer has been given."""


class _RefusedError(Exception):
    """Raised in a callback of the parser; `data_received` answers it."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    It refuses what would confuse or exhaust the program: too many or too large headers, slow headers and bodies,
    upgrades, requests without exactly one Host, transfer encodings other than `chunked`, absolute request targets.
    A request that comes while another is being answered (pipelining) is not read, and the connection ends with that
    answer: only so is a disconnect noticed at once. A client that closes its sending side counts as gone.

    The application finds the connection in `scope["trimtab.connection"]`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.on_disconnect: Callable[[], None] | None = None
        self.late_at = math.inf
        self._overhead = 0
        self._body_bytes = 0
        self._body_begun = 0.0
        self._head_done = False
        self._message_done = True
        self._idle = True
        self._deaf = False
        self._refusal: tuple[int, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.late_at = self.loop.time() + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.late_at = math.inf
        if self.on_disconnect is not None:
            self.on_disconnect()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._overhead += len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._deaf:
                self._refuse(*(self._refusal or (400, "This is not valid HTTP/1.1.")))
            return
        if self._overhead > MOST_OVERHEAD + OVERHEAD_PER_BODY_BYTE * self._body_bytes:
            self._refuse(431, TOO_LARGE)

    def abort(self) -> None:
        """Close the connection now, whatever is still unsent."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.abort()

    def end_if_late(self, now: float) -> None:
        """Close the connection if its request comes too slowly, or not at all; `now` as the loop's clock has it."""
        if now > self.late_at:
            if self._idle:
                self.transport.close()
            else:
                self._refuse(408, "The request came too slowly.")

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._wait_for_next()

    def _wait_for_next(self) -> None:
        """Once request and answer are both complete, the connection may be idle for a while."""
        if self._message_done and self.cycle.response_complete:
            self._idle = True
            self.late_at = self.loop.time() + IDLE_SECONDS

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._deaf = True
            self.cycle.keep_alive = False
            raise _RefusedError
        self._idle = self._head_done = self._message_done = False
        self._body_bytes = 0
        self.late_at = self.loop.time() + HEAD_SECONDS
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # trailers are of no use to anyone
            if len(self.headers) >= MOST_HEADERS:
                self._raise(431, f"There are more than {MOST_HEADERS} headers.")
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._check_head()
        self._body_begun = self.loop.time()
        self.late_at = self._body_begun + BODY_SECONDS
        cast(dict[str, Any], self.scope)["trimtab.connection"] = self
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._body_bytes += len(body)
        self.late_at = self._body_begun + BODY_SECONDS + self._body_bytes / SLOWEST_BODY
        if self.cycle.response_complete and self._body_bytes > MOST_DISCARDED:
            self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        self._message_done = True
        self.late_at = math.inf
        super().on_message_complete()
        self._wait_for_next()

    def _check_head(self) -> None:
        # Bytes of the body may be among those counted: look closer only if there are many.
        if self._overhead > MOST_OVERHEAD:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MOST_OVERHEAD:
                self._raise(431, TOO_LARGE)
        if not self.url.startswith(b"/") and self.url != b"*":
            self._raise(400, "The request target must be a path.")
        if self.parser.should_upgrade():
            self._raise(400, "Upgrades are not supported; speak HTTP/1.1.")
        version = self.parser.get_http_version()
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding" and (value.strip().lower() != b"chunked" or version == "1.0"):
                self._raise(501, "The only transfer encoding that is supported is `chunked`, in HTTP/1.1.")
        if version not in ("1.0", "1.1"):
            self._raise(505, "The HTTP versions that are supported are 1.1 and 1.0.")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._raise(400, "There must be exactly one Host header.")

    def _raise(self, status: int, message: str) -> None:
        self._refusal = (status, message)
        raise _RefusedError(message)

    def _refuse(self, status: int, message: str) -> None:
        """Answer, unless an answer has begun, and close: at once our side, the rest when the client has or soon.

        Closing all at once, with bytes unread, would take the answer away from a client that is still sending.
        """
        self._deaf = self._idle = True
        self.late_at = self.loop.time() + LINGER_SECONDS
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = msgspec.json.encode(
                {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "bad_http"}}
            )
            self.transport.write(
                STATUS_LINE[status] + b"content-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write_eof()


def end_late(connections: Iterable[object], now: float) -> None:
    """Close those connections whose requests come too slowly; called about once a second."""
    for connection in list(connections):
        if isinstance(connection, GuardedProtocol):
            connection.end_if_late(now)
