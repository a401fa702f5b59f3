"""The machine a runner is on, and what of it each replica gets."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has, or what its container lets be used of it.

    Parameters:
        cpus: numbers of the CPUs. memory_mb: of main memory. gpus: numbers of the NVIDIA devices.
    """

    cpus: tuple[int, ...]
    memory_mb: int
    gpus: tuple[int, ...]

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        cpus = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else range(os.cpu_count() or 1)
        memory = psutil.virtual_memory().total
        for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                memory = min(memory, int(Path(limit).read_text()))
        gpus = sorted(int(node.name.removeprefix("nvidia")) for node in Path("/dev").glob("nvidia[0-9]*"))
        return cls(tuple(cpus), memory // MEGABYTE, tuple(gpus))

    def refusal(self, resources: Mapping[str, Any]) -> str | None:
        """Why one replica with these resources cannot run here at all."""
        for key, unit, present in (
            ("cpu", "CPUs", len(self.cpus)),
            ("memory_mb", "MB of memory", self.memory_mb),
            ("gpu", "GPUs", len(self.gpus)),
        ):
            wanted = resources.get(key) or 0
            if wanted > present:
                return f"it wants {wanted} {unit}, and this machine has {present}"
        return None


@dataclass(frozen=True, slots=True)
class Share:
    """What a replica gets.

    Parameters:
        cpus: the CPUs it is bound to; empty for all. threads: how many it should use; None to choose itself.
        memory_bytes: limit of its data (`RLIMIT_DATA`); mapped files such as GGUF weights do not count.
        gpus: the devices it sees; None where nothing was asked.
    """

    cpus: tuple[int, ...] = ()
    threads: int | None = None
    memory_bytes: int | None = None
    gpus: tuple[int, ...] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which engines learn of it."""
        found = {} if self.threads is None else {"OMP_NUM_THREADS": str(self.threads)}
        if self.gpus is not None:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self.gpus))
        return found


@dataclass(slots=True)
class Devices:
    """Who has which CPU and which GPU; CPUs are shared where there are not enough, GPUs too."""

    machine: Machine
    _cpus: Counter[int] = field(default_factory=Counter)
    _gpus: Counter[int] = field(default_factory=Counter)

    def take(self, resources: Mapping[str, Any]) -> Share:
        """The least used CPUs and GPUs for a replica."""
        cpu, memory, gpu = resources.get("cpu"), resources.get("memory_mb"), resources.get("gpu")
        count = None if cpu is None else math.ceil(cpu)
        share = Share(
            () if count is None else _least_used(self._cpus, self.machine.cpus, count),
            count,
            None if memory is None else memory * MEGABYTE,
            None if gpu is None else _least_used(self._gpus, self.machine.gpus, gpu),
        )
        self._cpus.update(share.cpus)
        self._gpus.update(share.gpus or ())
        return share

    def give_back(self, share: Share) -> None:
        """Note that a replica ended."""
        self._cpus.subtract(share.cpus)
        self._gpus.subtract(share.gpus or ())


def _least_used(used: Counter[int], present: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(sorted(sorted(present, key=lambda number: (used[number], number))[:count]))
