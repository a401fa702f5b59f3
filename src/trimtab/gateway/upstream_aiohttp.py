"""`Upstream` on aiohttp."""

from __future__ import annotations

import asyncio
import io
import socket
import time
from contextvars import ContextVar

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from trimtab.gateway.upstream import FailureKind, UpstreamError, UpstreamResponse

KEEP_ALIVE_SECONDS = 4.0
"""Shorter than what model servers commonly have (uvicorn: 5 s), so that idle connections rarely die on their side."""
STALE_SECONDS = 1.0
"""A reused connection that dies sooner than this after the request was stale; later the request may be the cause."""
LINE_BYTES = 65536
BLOCK_BYTES = 1024 * 1024
"""A body larger than this is written in pieces, so that others get their turn."""


class _Response:
    """One answer; `UpstreamResponse` says what its members do."""

    __slots__ = ("_content", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content
        self.status = response.status
        self.headers = response.raw_headers

    async def read(self) -> bytes:
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(FailureKind.TRUNCATED, _words(error)) from error

    def abort(self) -> None:
        self._response.close()


class _Call:
    """One call, to learn whether it went out on a connection that had been used before."""

    __slots__ = ("reused",)

    def __init__(self) -> None:
        self.reused = True


class AiohttpUpstream:
    """Model servers over HTTP/1.1. Made and used on one event loop.

    Parameters:
        connect_seconds: until a connection counts as not made.
        per_host: most connections to one host and port; further calls wait.
    """

    def __init__(self, *, connect_seconds: float = 5.0, per_host: int = 1024) -> None:
        # Tracing would tell of reuse too, for a tenth of the cost of a call. Tasks that race for a connection inherit
        # the context, so what is marked is an object in it.
        self._call: ContextVar[_Call] = ContextVar("call")
        self._session = _session(
            aiohttp.TCPConnector(
                limit=0,
                limit_per_host=per_host,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                socket_factory=self._make_socket,
            ),
            connect_seconds,
        )
        self._fresh = _session(aiohttp.TCPConnector(limit=0, force_close=True), connect_seconds)

    async def post(self, url: URL, headers: list[tuple[str, str]], body: bytes) -> UpstreamResponse:
        """As `Upstream.post`. A stale connection that dies before an answer is retried once, on a new one."""
        fields = CIMultiDict(headers)
        call = _Call()
        self._call.set(call)
        begun = time.monotonic()
        try:
            return _Response(await self._session.post(url, data=_payload(body), headers=fields, allow_redirects=False))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _failure(error)
            stale = failure.kind is FailureKind.RESET and call.reused and time.monotonic() - begun < STALE_SECONDS
            if not stale:
                raise failure from error
        try:
            return _Response(await self._fresh.post(url, data=_payload(body), headers=fields, allow_redirects=False))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(error) from error

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        self._call.get().reused = False
        family, kind, protocol, _, _ = address
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._fresh.close()


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= BLOCK_BYTES else io.BytesIO(body)


def _session(connector: aiohttp.TCPConnector, connect_seconds: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        max_line_size=LINE_BYTES,
        max_field_size=LINE_BYTES,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
    )


def _failure(error: Exception) -> UpstreamError:
    kind = FailureKind.INVALID
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        kind = FailureKind.DNS
    elif isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        kind = FailureKind.TLS
    elif isinstance(error, aiohttp.ServerTimeoutError | asyncio.TimeoutError):
        kind = FailureKind.CONNECT_TIMEOUT
    elif isinstance(error, aiohttp.ClientConnectorError):
        kind = FailureKind.REFUSED
    elif isinstance(error, aiohttp.ClientConnectionError | OSError):
        kind = FailureKind.RESET
    return UpstreamError(kind, _words(error))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
