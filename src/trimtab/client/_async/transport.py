"""Sends calls, repeats those that may be repeated, and turns answers into results or exceptions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

import httpx2

from trimtab.client import calls
from trimtab.client.calls import Call, Prepared
from trimtab.client.config import Config
from trimtab.client.errors import ConnectionFailed

T = TypeVar("T")


class AsyncTransport:
    """The connections to one server.

    Parameters:
        config: where the server is and how patient to be.
        transport: how bytes travel, instead of sockets; for tests.
    """

    def __init__(self, config: Config, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.config = config
        self._http = httpx2.AsyncClient(transport=transport, timeout=config.timeout, trust_env=not config.local)

    async def aclose(self) -> None:
        """Close the connections; the client is of no use after."""
        await self._http.aclose()

    async def fetch(self, call: Call, result: type[T]) -> T:
        """Send `call` and read its answer as `result`. Raises the exceptions of `trimtab.client.errors`."""
        status, headers, body = await self._send(call)
        return calls.parse(status, headers, body, result)

    async def perform(self, call: Call) -> None:
        """Send `call`, whose answer has nothing to read. Raises the exceptions of `trimtab.client.errors`."""
        calls.check(*await self._send(call))

    async def _send(self, call: Call) -> tuple[int, Mapping[str, str], bytes]:
        prepared = calls.prepare(call, self.config)
        attempt = 0
        while True:
            attempt += 1
            last = attempt > self.config.retries
            try:
                status, headers, body = await self._attempt(prepared)
            except httpx2.TransportError as error:
                if last:
                    raise self._failure(error) from error
                retry_after = None
            else:
                if last or not calls.may_repeat(status, body):
                    return status, headers, body
                retry_after = headers.get("retry-after")
            await asyncio.sleep(calls.delay(attempt, random.random(), retry_after, datetime.now(UTC)))

    async def _attempt(self, prepared: Prepared) -> tuple[int, Mapping[str, str], bytes]:
        answer = await self._http.request(
            prepared.method, prepared.url, headers=prepared.headers, content=prepared.content
        )
        return answer.status_code, answer.headers, answer.content

    def _failure(self, error: httpx2.TransportError) -> ConnectionFailed:
        url = self.config.url
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return ConnectionFailed(f"no Trimtab answers at {url}; start one with `trimtab serve`")
        if isinstance(error, httpx2.TimeoutException):
            return ConnectionFailed(f"{url} did not answer within {self.config.timeout:g} s")
        return ConnectionFailed(f"the connection to {url} broke: {error or type(error).__name__}")
