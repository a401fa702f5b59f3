"""The controller as a process, and its loops."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.deploying import World, make_world, upstream

from trimtab.db.database import Database
from trimtab.db.embedded import Urls
from trimtab.server.controller import Loop, every, keep_going


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(database, tmp_path) as made:
        yield made


async def start(part: str, urls: Urls, data_dir: Path) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "tests.integration.runner_process", part, urls.app, str(data_dir)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.read(1), 30) == b"1"
    return process


async def test_two_controllers_one_killed_finish_a_deployment(
    world: World, database_urls: Urls, tmp_path: Path
) -> None:
    parts = [await start(name, database_urls, tmp_path) for name in ("controller", "controller", "runner")]
    try:
        async with upstream() as one:
            first = await world.deploy(await world.version("v1", {"endpoint": one.url}))
            parts[0].kill()
            await world.until(first, "healthy", phase="succeeded")
            second = await world.deploy(await world.version("v2", {"endpoint": one.url}))
            await world.until(second, "healthy", phase="succeeded")
            await world.until(first, "retired")
    finally:
        for part in parts[1:]:
            part.terminate()
        codes = [await asyncio.wait_for(part.wait(), 30) for part in parts]
    assert codes == [-signal.SIGKILL, 0, 0]


async def test_a_failing_loop_is_tried_again_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    enough = asyncio.Event()

    async def bad() -> None:
        done.append("bad")
        if done.count("bad") < 3:
            raise RuntimeError("no")

    async def good() -> None:
        done.append("good")
        if done.count("bad") >= 4 and done.count("good") >= 4:
            enough.set()

    loops = [Loop("bad", bad, lambda: every(0.001)), Loop("good", good, lambda: every(0.001))]
    tasks = [asyncio.create_task(keep_going(loop, first_pause=0.001)) for loop in loops]
    await asyncio.wait_for(enough.wait(), 30)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sum("bad failed" in message for message in caplog.messages) == 2
