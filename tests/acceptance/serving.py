"""Real servers for the acceptance tests: `trimtab serve` in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

TRIMTAB = str(Path(sys.executable).with_name("trimtab"))
ADMIN_KEY = "tt_admin-key-of-the-acceptance-tests"
READY = re.compile(r"ready on (http://\S+)")
PATIENCE = 60.0
"""Seconds after which something that should happen counts as not happening; generous, for machines that are busy."""

T = TypeVar("T")


class ServerProcess:
    """A running `trimtab serve`.

    Parameters:
        data_dir: where it keeps everything.
        arguments: further flags.
        env: further variables.
    """

    def __init__(self, data_dir: Path, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.began = time.monotonic()
        self._log = os.memfd_create("log")
        self.process = subprocess.Popen(
            [TRIMTAB, "serve", "--data-dir", str(data_dir), "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environment({"TRIMTAB_ADMIN_KEY": ADMIN_KEY, **(env or {})}),
            start_new_session=True,
        )
        self.url = ""

    def __del__(self) -> None:
        os.close(self._log)

    def wait_ready(self) -> float:
        """Wait until it serves; returns the seconds since its start."""

        def address() -> str | None:
            if match := READY.search(self.said()):
                return match[1]
            assert self.process.poll() is None, f"the server ended:\n{self.said()}"
            return None

        self.url = until(address, "the server is ready", self.said)
        return time.monotonic() - self.began

    def said(self) -> str:
        """All that it has printed."""
        return os.pread(self._log, os.fstat(self._log).st_size, 0).decode("utf-8", "replace")

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for process in self.tree():
                process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop:\n{self.said()}") from None


@contextmanager
def serving(
    data_dir: Path, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Run a server until the block ends."""
    server = ServerProcess(data_dir, arguments, env)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would reach into a test, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", **more}


def command(
    *arguments: str, url: str = "", key: str = ADMIN_KEY, status: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run `trimtab` with `arguments`; the exit status must be `status` unless that is None."""
    more = {"TRIMTAB_API_KEY": key, **({"TRIMTAB_URL": url} if url else {})}
    done = subprocess.run(
        [TRIMTAB, *arguments], capture_output=True, text=True, env=environment(more), timeout=PATIENCE, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert status is None or done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def until(look: Callable[[], T | None], what: str, explain: Callable[[], object] = str) -> T:
    """Look until there is something; fails after `PATIENCE` seconds, saying what was awaited."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}\n{explain()}"
        time.sleep(0.05)


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
