"""What wakes a reconciler."""

from __future__ import annotations

import asyncio
import time

import psycopg
from tests.postgres import Urls

from trimtab.db.wakeups import wake_ups

NEVER = 60.0


async def notify(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("notify trimtab_test")


async def test_a_notification_wakes_at_once(database_urls: Urls) -> None:
    wakes = wake_ups(database_urls.app, ["trimtab_test"], NEVER)
    async with asyncio.timeout(30):
        await anext(wakes)  # at the start
        await anext(wakes)  # when it listens
        for _ in range(3):
            waiting = asyncio.ensure_future(anext(wakes))
            await notify(database_urls.app)
            await waiting
    await wakes.aclose()


async def test_without_a_database_the_timer_goes_on() -> None:
    began = time.monotonic()
    wakes = wake_ups("postgresql://nobody@127.0.0.1:1/none", ["trimtab_test"], 0.1)
    async with asyncio.timeout(30):
        for _ in range(4):
            await anext(wakes)
    await wakes.aclose()
    assert time.monotonic() - began >= 0.3
