"""What ends a request early."""

from __future__ import annotations

import asyncio

import pytest

from trimtab.gateway.interrupt import Interrupt, Reason, Watch


async def waits(watch: Watch, kind: Reason, seconds: float, total: float = 100.0) -> Reason | None:
    interrupt = Interrupt(watch, total)
    interrupt.arm(kind, seconds)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return interrupt.take()
    return None


@pytest.mark.parametrize(("seconds", "total", "reason"), [(1.0, 100.0, "gap"), (100.0, 1.0, "total")])
async def test_the_limit_that_was_met_is_named(
    seconds: float, total: float, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    watch = Watch()
    task = asyncio.create_task(waits(watch, "gap", seconds, total))
    await asyncio.sleep(0)
    for clock[0] in (0.5, 0.99):
        watch.tick()
        await asyncio.sleep(0)
        assert not task.done()
    clock[0] = 1.5
    watch.tick()
    assert await task == reason
    assert watch.watched == set()


async def test_a_cancellation_from_elsewhere_is_not_ours() -> None:
    task = asyncio.create_task(waits(Watch(), "gap", 50.0))
    await asyncio.sleep(0)
    task.cancel()
    assert await task is None


async def test_leaving_ends_it_once() -> None:
    watch = Watch()
    task = asyncio.create_task(waits(watch, "gap", 50.0))
    await asyncio.sleep(0)
    (interrupt,) = watch.watched
    interrupt.leave()
    interrupt.fire("total")
    assert await task == "client_gone"
    interrupt.leave()
