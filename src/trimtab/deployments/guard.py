"""The process between a runner and a replica: when it ends, nothing of the replica is left.

Run as a script (`python guard.py`), it imports only the standard library so that it is small and starts at once.
It reads one line of JSON from its standard input, the specification; the end of that input means that the runner
wants the replica stopped, or is gone. On its standard output it says `started <pid>`, then `exited <why>`, or
`refused <why>`. The replica runs in a session of its own; descendants that leave it are adopted by the guard and end
with it too. Should the guard itself be killed, the kernel kills the replica.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from typing import Any, BinaryIO

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Log:
    """A log file that starts anew, keeping one older file, when it is full.

    Parameters:
        path: of the file; the older one has `.1` after it.
        limit: bytes that each of the two may have.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path, self._limit = path, limit
        self._file = self._open()

    def _open(self) -> BinaryIO:
        return os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab", 0)

    def write(self, data: bytes) -> None:
        """Append; a full disk loses the lines, not the replica."""
        with contextlib.suppress(OSError):
            if self._file.tell() + len(data) > self._limit:
                self._file.close()
                os.replace(self._path, self._path + ".1")  # noqa: PTH105 - pathlib would double the start-up time
                self._file = self._open()
            self._file.write(data)


def start(spec: dict[str, Any], output: int) -> subprocess.Popen[bytes]:
    """Start the replica with its limits, its output going to the descriptor `output`."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    memory, cpus = spec["memory_bytes"], spec["cpus"]

    def limit() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
            if cpus:
                os.sched_setaffinity(0, cpus)
        if memory:
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))

    if libc is not None:
        libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    # The surroundings are passed on, not read; what configures Trimtab, and may be secret, stays out.
    surroundings = os.environ  # noqa: TID251
    inherited = {key: value for key, value in surroundings.items() if not key.startswith("TRIMTAB_")}
    return subprocess.Popen(
        spec["command"],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**inherited, **spec["env"]},
        start_new_session=True,
        preexec_fn=limit,
    )


def children() -> list[int]:
    """The processes whose parent is this one, among them those it adopted."""
    found = []
    own = str(os.getpid()).encode()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:  # noqa: PTH208, PTH112
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
                if parent == own and state != b"Z":
                    found.append(int(name))
    return found


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal a process group, if there is one still."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def reap() -> dict[int, int]:
    """Collect the ended children: pid -> exit status (negative: the signal)."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def sweep(group: int) -> None:
    """Kill whatever is left of the replica."""
    deadline = time.monotonic() + 5
    signal_group(group, signal.SIGKILL)
    while time.monotonic() < deadline:
        reap()
        left = children()
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def watch(main: int, output: int, log: Log, grace: float) -> str:
    """Copy the output to the log until the replica ends, or shall end. Returns why it ended."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write)
    stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    sources = [sys.stdin.fileno(), output, wake_read]
    deadline: float | None = None
    while True:
        ended = reap()
        if main in ended:
            return describe(ended[main])
        if stop and deadline is None:
            deadline = time.monotonic() + grace
            signal_group(main, signal.SIGTERM)
        wait = None if deadline is None else deadline - time.monotonic()
        if wait is not None and wait <= 0:
            signal_group(main, signal.SIGKILL)
            deadline, wait = float("inf"), 1.0
        ready, _, _ = select.select(sources, [], [], 1.0 if wait is None else min(wait, 1.0))
        if output in ready:
            data = os.read(output, 65_536)
            log.write(data)
            if not data:
                sources.remove(output)
        if wake_read in ready:
            os.read(wake_read, 4096)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
            sources.remove(sys.stdin.fileno())
            stop.append(True)


def say(line: str) -> None:
    """Tell the runner, if it is there."""
    with contextlib.suppress(OSError):
        os.write(1, line.replace("\n", " ").encode() + b"\n")


def main() -> int:
    """Run one replica from its beginning to its end."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65_536)
        if not piece:
            return 1
        line += piece
    spec = json.loads(line)
    read_end, write_end = os.pipe()
    log = Log(spec["log"], spec["log_bytes"])
    try:
        child = start(spec, write_end)
    except (OSError, subprocess.SubprocessError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        say(f"refused {spec['command'][0]} cannot be started: {why}")
        return 1
    os.close(write_end)
    say(f"started {child.pid}")
    why = watch(child.pid, read_end, log, spec["grace"])
    sweep(child.pid)
    os.set_blocking(read_end, False)
    with contextlib.suppress(BlockingIOError):
        while data := os.read(read_end, 65_536):
            log.write(data)
    say(f"exited {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
