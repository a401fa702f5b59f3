"""The part `controller`: one loop for each thing that is reconciled or done by the clock.

Each loop is on its own: an exception is logged and the loop goes on after a pause, the others never notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from trimtab.api.answers import forget_old
from trimtab.clock import Clock, system_clock
from trimtab.context import PartContext
from trimtab.db.database import Database
from trimtab.db.wakeups import wake_ups
from trimtab.deployments.step import Reconciler
from trimtab.errors import TrimtabError
from trimtab.metering.compaction import upkeep

log = logging.getLogger(__name__)

UPKEEP_SECONDS = 60.0
FORGET_SECONDS = 3600.0
RECONCILE_SECONDS = 2.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Something that is done again and again.

    Parameters:
        work: does it once.
        ticks: yields when it is to be done.
    """

    name: str
    work: Callable[[], Awaitable[object]]
    ticks: Callable[[], AsyncIterator[None]]


async def keep_going(loop: Loop, first_pause: float = FIRST_PAUSE) -> None:
    """Run a loop for ever; after a failure it pauses, longer each time in a row (at most `LONGEST_PAUSE` s)."""
    pause = first_pause
    async for _ in loop.ticks():
        try:
            await loop.work()
        except TrimtabError as error:
            log.warning("%s: %s", loop.name, error)
        except Exception:
            log.exception("%s failed; it is tried again in %g s", loop.name, pause)
        else:
            pause = first_pause
            continue
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def every(seconds: float) -> AsyncIterator[None]:
    """Yield at once, then every `seconds`."""
    while True:
        yield
        await asyncio.sleep(seconds)


def loops(database: Database, clock: Clock) -> list[Loop]:
    """All that the controller does."""
    deployments = Reconciler(database, clock)
    return [
        Loop(
            "deployments",
            deployments.run_once,
            lambda: wake_ups(database.url, ["trimtab_deployments"], RECONCILE_SECONDS),
        ),
        Loop("upkeep", lambda: upkeep(database, clock), lambda: every(UPKEEP_SECONDS)),
        Loop("answers", lambda: forget_old(database, clock), lambda: every(FORGET_SECONDS)),
    ]


def run(context: PartContext) -> int:
    """The entry of the part. Returns the exit status."""
    return asyncio.run(_serve(context))


async def _serve(context: PartContext) -> int:
    stop = asyncio.Event()
    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, stop.set)
    database = Database(context.database_url, max_size=4)
    await database.open()
    tasks = [_start(keep_going(loop), loop.name) for loop in loops(database, system_clock)]
    context.ready()
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        await database.close()
    return 0


def _start(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)
