"""What wakes a reconciler: a NOTIFY on its channels, or a timer; whichever comes first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

import psycopg
from psycopg import sql

log = logging.getLogger(__name__)


async def wake_ups(url: str, channels: Sequence[str], every: float) -> AsyncIterator[None]:
    """Yield once at the start, then after each NOTIFY on one of `channels` and at least every `every` seconds.

    Notifications that arrive while the consumer works are folded into one. A lost connection (or a pooler that
    cannot LISTEN) is no error: the timer goes on, and the connection is tried again with each tick.
    """
    wake = asyncio.Event()

    async def listen() -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                    for channel in channels:
                        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
                    wake.set()  # whatever was said before we listened
                    async for _ in connection.notifies():
                        wake.set()
            except (psycopg.Error, OSError) as error:
                log.debug("listening on %s interrupted: %s", ", ".join(channels), error)
            await asyncio.sleep(every)

    listener = asyncio.create_task(listen())
    try:
        while True:
            yield
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), every)
            wake.clear()
    finally:
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listener
