"""What ends a request early: its time limits, or its caller hanging up."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

Reason = Literal["first_byte", "gap", "total", "client_stalled", "client_gone"]

TICK_SECONDS = 0.2


class Watch:
    """The one timer behind the limits of all requests: a timer for each would cost more than all else they need.

    Limits are therefore met up to two ticks late, and never early.
    """

    def __init__(self) -> None:
        self.now = time.monotonic()
        """The time as of the last tick."""
        self.watched: set[Interrupt] = set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """End the requests whose time is up."""
        now = self.now = time.monotonic()
        for interrupt in [interrupt for interrupt in self.watched if interrupt.at <= now]:
            interrupt.fire(interrupt.kind)


class Interrupt:
    """Cancels the task that made it, once, and knows why.

    Limits are armed and disarmed around each wait, which costs no more than setting two fields. The task that meets
    a `CancelledError` asks `take()`: a reason means that the cancellation was ours.

    Parameters:
        watch: what ticks.
        total: seconds after which the request ends whatever it does.
    """

    __slots__ = ("_end", "_task", "_watch", "at", "kind", "reason")

    def __init__(self, watch: Watch, total: float) -> None:
        self._task: asyncio.Task[object] | None = asyncio.current_task()
        self._watch = watch
        self._end = watch.now + total + TICK_SECONDS
        self.at = self._end
        self.kind: Reason = "total"
        self.reason: Reason | None = None
        watch.watched.add(self)

    def arm(self, kind: Reason, seconds: float) -> None:
        """Allow `seconds` from now for what is awaited next."""
        at = self._watch.now + seconds + TICK_SECONDS
        if at < self._end:
            self.kind = kind
            self.at = at

    def disarm(self) -> None:
        """Only the total is left."""
        self.kind = "total"
        self.at = self._end

    def fire(self, reason: Reason) -> None:
        """End the request now."""
        task = self._task
        if task is not None and self.reason is None:
            self.reason = reason
            task.cancel()

    def leave(self) -> None:
        """End the request now: its caller hung up."""
        self.fire("client_gone")

    def take(self) -> Reason | None:
        """Why the task was cancelled; None when it was not by this. Clears the cancellation if it was."""
        if self.reason is not None and self._task is not None:
            self._task.uncancel()
        self.close()
        return self.reason

    def close(self) -> None:
        """Nothing can end the request any more."""
        self._task = None
        self._watch.watched.discard(self)
