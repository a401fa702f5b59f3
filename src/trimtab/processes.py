"""Children that cannot outlive their parent.

A supervisor that is killed with SIGKILL runs no code of its own, so its children must be told by the kernel.
On Linux that is the parent-death signal. It follows the *thread* that created the child: spawn from a thread
that lives as long as the process, which in practice is the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def death_signal(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` by which the kernel sends the child `number` when its parent dies.

    A parent that died before the signal was set is noticed: the child then ends at once. Where the system has
    no parent-death signal (macOS) nothing is set.
    """
    parent = os.getpid()
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = libc.prctl
    value = ctypes.c_ulong(number)

    def apply() -> None:
        # Between fork and exec: nothing but system calls that were looked up before.
        prctl(_PR_SET_PDEATHSIG, value, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return apply


def is_alive(pid: int) -> bool:
    """Whether process `pid` runs; one that has ended and was not waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent has died, to end and reap them."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
