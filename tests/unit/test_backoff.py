"""How long the supervisor waits before it starts a dead part again."""

from __future__ import annotations

import signal

from trimtab.server.children import Backoff, describe_exit


def test_doubles_to_its_limit_and_starts_over() -> None:
    backoff = Backoff()
    assert [backoff.delay(1.0) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert backoff.delay(29.9) == 10.0
    assert [backoff.delay(30.0), backoff.delay(0.0)] == [0.2, 0.4]


def test_exit_in_words() -> None:
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(-signal.SIGKILL) == "killed by SIGKILL"
    assert describe_exit(-signal.SIGRTMIN - 1) == f"killed by signal {signal.SIGRTMIN + 1}"
