"""Keeps one replica running: start, probe, start again with growing pauses, stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from trimtab.clock import monotonic
from trimtab.deployments.records import Replica
from trimtab.deployments.runtimes import Assignment, Running, Runtime, StartError
from trimtab.deployments.states import ReplicaStatus

log = logging.getLogger(__name__)
T = TypeVar("T")

PROBE_STARTING = 0.2
PROBE_SECONDS = 5.0
FAILURES = 3
"""Probes in a row that fail before a ready replica counts as unhealthy, so that a blip changes nothing."""
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0
"""A replica that ran this long begins anew with the shortest pause."""


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say of a replica; the columns of its row that its runner writes."""

    status: ReplicaStatus
    reason: str
    url: str | None
    pid: int | None
    restarts: int


@dataclass(slots=True)
class Keeper:
    """Keeps a replica as its row wants it, until `end`.

    Parameters:
        changed: called when `report` is another than before.
    """

    replica: Replica
    runtime: Runtime
    changed: Callable[[], None]
    report: Report = field(init=False)
    running: Running | None = None
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        row = self.replica
        # An address that was ready when we took it over stays so until its probe says otherwise.
        status: ReplicaStatus = row.status if row.kind == "external" and row.status == "ready" else "starting"
        self.report = Report(status, "", row.url if status == "ready" else None, None, row.restarts)

    def begin(self) -> None:
        """Start to keep it."""
        self._task = asyncio.create_task(self._keep(), name=f"replica {self.replica.id}")
        self._task.add_done_callback(lambda _: self.changed())

    def end(self) -> None:
        """Have it stopped; `done` is true once nothing of it is left."""
        assert self._task is not None
        if self.report.status != "stopping":
            self._say("stopping", "")
            self._task.cancel()

    @property
    def done(self) -> bool:
        """Whether it has stopped."""
        assert self._task is not None
        return self._task.done()

    async def wait(self) -> None:
        """Wait until it has stopped."""
        assert self._task is not None
        await asyncio.wait([self._task])

    async def _keep(self) -> None:
        assignment = Assignment(self.replica.id, self.replica.spec)
        pause = FIRST_PAUSE
        while True:
            began = monotonic()
            status: ReplicaStatus = "backoff"
            try:
                # Neither a start nor a stop is left in the middle: a process must have an owner until it is gone.
                self.running = await to_the_end(self.runtime.start(assignment))
                try:
                    reason = await self._watch(self.running, self.runtime.start_timeout(assignment))
                finally:
                    await to_the_end(self.running.stop())
                    self.running = None
            except StartError as error:
                reason, status = str(error), "failed" if error.permanent else "backoff"
            except OSError as error:
                reason = f"it could not be started: {error}"
            except Exception as error:
                # Whatever goes wrong with one replica, the others and its own next attempt go on.
                log.exception("replica %s", self.replica.id)
                reason = f"internal error: {type(error).__name__}"
            log.warning("replica %s: %s", self.replica.id, reason)
            if monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self.report = replace(self.report, restarts=self.report.restarts + 1)
            self._say(status, reason)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _watch(self, running: Running, start_timeout: float | None) -> str:
        """Probe it until it ends or must be started anew; returns why."""
        if self.report.status != "ready":
            self._say("starting", self.report.reason, None, running.pid)
        was_ready = self.report.status == "ready"
        began = failing_since = monotonic()
        failures = 0
        while True:
            health = await running.probe() if not running.ended.done() else None
            now = monotonic()
            if running.ended.done() or health is None:
                return running.ended.result()
            if health.ready:
                failures, was_ready, failing_since = 0, True, now
                self._say("ready", "", running.url, running.pid)
            elif was_ready:
                failures += 1
                if failures >= FAILURES:
                    self._say("unhealthy", health.reason, running.url, running.pid)
                limit = self.runtime.restart_after
                if limit is not None and now - failing_since >= limit:
                    return f"started anew, since it failed its health check for {limit:g} s: {health.reason}"
            else:
                self._say("starting", health.reason, None, running.pid)
                if start_timeout is not None and now - began >= start_timeout:
                    return f"not ready within {start_timeout:g} s: {health.reason}"
            pause = PROBE_SECONDS if was_ready else min(PROBE_STARTING + (now - began) / 10, 2.0)
            await asyncio.wait([running.ended], timeout=pause)

    def _say(self, status: ReplicaStatus, reason: str, url: str | None = None, pid: int | None = None) -> None:
        report = Report(status, reason, url, pid, self.report.restarts)
        if report != self.report:
            self.report = report
            self.changed()


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even if this task is cancelled meanwhile; the task notices at its next wait."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    own = asyncio.current_task()
    if cancelled and own is not None:
        own.cancel()
    return task.result()
