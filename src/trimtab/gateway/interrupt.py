"""What ends a request early: one timer and one switch for all the reasons there are."""

from __future__ import annotations

import asyncio
from typing import Literal

Reason = Literal["first_byte", "gap", "total", "client_stalled", "client_gone"]


class Interrupt:
    """Cancels the task that made it, once, and knows why.

    Limits are armed and disarmed around each wait, which costs no more than setting two fields: the timer behind
    them is moved only when it fires too early or would fire too late. The task that meets a `CancelledError` asks
    `take()`: a reason means that the cancellation was ours.

    Parameters:
        total: seconds after which the request ends whatever it does.
    """

    __slots__ = ("_at", "_end", "_handle", "_kind", "_loop", "_task", "_timer_at", "reason")

    def __init__(self, total: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[object] | None = task
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + total
        self._at = self._end
        self._kind: Reason = "total"
        self._timer_at = self._end
        self._handle = self._loop.call_at(self._end, self._tick)
        self.reason: Reason | None = None

    def arm(self, kind: Reason, seconds: float) -> None:
        """Allow `seconds` from now for what is awaited next."""
        at = self._loop.time() + seconds
        if at < self._end:
            self._kind = kind
            self._at = at
            if at < self._timer_at:
                self._schedule(at)

    def disarm(self) -> None:
        """Only the total is left."""
        self._kind = "total"
        self._at = self._end

    def fire(self, reason: Reason) -> None:
        """End the request now."""
        task = self._task
        if task is not None and self.reason is None:
            self.reason = reason
            task.cancel()

    def take(self) -> Reason | None:
        """Why the task was cancelled; None when it was not by this. Clears the cancellation if it was."""
        if self.reason is not None and self._task is not None:
            self._task.uncancel()
        self.close()
        return self.reason

    def close(self) -> None:
        """Nothing can end the request any more."""
        self._task = None
        self._handle.cancel()

    def _schedule(self, at: float) -> None:
        self._handle.cancel()
        self._timer_at = at
        self._handle = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        if self._at <= self._loop.time() + 1e-3:
            self.fire(self._kind)
        else:
            self._schedule(self._at)
