"""One part's process as the supervisor sees it, and how long to wait before starting it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.context import PartContext
from trimtab.processes import death_signal
from trimtab.server.parts import Part


@dataclass(slots=True)
class Backoff:
    """Waiting times between restarts: doubling, and short again after a good while.

    Parameters:
        first, most: shortest and longest wait, in seconds.
        reset_after: seconds of running after which the next wait is the shortest again.
    """

    first: float = 0.2
    most: float = 10.0
    reset_after: float = 30.0
    _next: float = 0.0

    def delay(self, uptime: float) -> float:
        """Return how long to wait, in seconds, after a run of `uptime` seconds."""
        if uptime >= self.reset_after or self._next == 0.0:
            self._next = self.first
        wait = self._next
        self._next = min(wait * 2, self.most)
        return wait


class Child:
    """A part that is kept running.

    Parameters:
        part: what kind it is.
        context: what it is given; `ready_fd` is filled in at each start.
    """

    def __init__(self, part: Part, context: PartContext) -> None:
        self.part = part
        self.name = context.name
        self.is_ready = False
        self.was_ready = False
        self.deaths_before_ready = 0
        self.exit_status: int | None = None
        self.restart_at: float | None = None
        self.ready_pipe: int | None = None
        self._context = context
        self._backoff = Backoff()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process; `ready_pipe` becomes readable when it is ready. Raises OSError."""
        document, writer = os.pipe()
        ready, ready_writer = os.pipe()
        context = self._context.with_ready_fd(ready_writer)
        inherited = [document, ready_writer, context.life_fd, context.lock_fd]
        if context.listen_fd is not None:
            inherited.append(context.listen_fd)
        try:
            # A pipe holds 64 kB without a reader; the document is far smaller.
            os.write(writer, context.encode())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "trimtab.server.part", self.name, str(document)],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                env=environment,
                # A terminal's Ctrl-C is for the supervisor, which stops the parts in order.
                start_new_session=True,
                preexec_fn=death_signal(signal.SIGTERM),
            )
        except BaseException:
            os.close(ready)
            raise
        finally:
            for descriptor in (document, writer, ready_writer):
                os.close(descriptor)
        self.ready_pipe = ready
        self.is_ready = False
        self.restart_at = None
        self._started = time.monotonic()

    def defer(self) -> float:
        """Plan another attempt after a start that failed; returns the wait in seconds."""
        wait = self._backoff.delay(0.0)
        self.restart_at = time.monotonic() + wait
        return wait

    def reap(self) -> str | None:
        """Return why the process ended, in words, and plan its restart; None where there is nothing new."""
        if self._process is None or (status := self._process.poll()) is None:
            return None
        self._process = None
        self.is_ready = False
        if not self.was_ready:
            self.deaths_before_ready += 1
        self.exit_status = status
        now = time.monotonic()
        self.restart_at = now + self._backoff.delay(now - self._started)
        return describe_exit(status)

    def signal(self, number: signal.Signals) -> None:
        """Send `number` to the process if it runs."""
        if self._process is not None:
            self._process.send_signal(number)


def describe_exit(status: int) -> str:
    """Return an exit status of `subprocess` in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
