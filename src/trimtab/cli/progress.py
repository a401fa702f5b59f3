"""Shows how a deployment gets on, while a command waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trimtab.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable

    from trimtab.deployments.schemas import Deployment

PHASES = ("pending", "progressing", "promoting", "succeeded")


@contextmanager
def watching(title: str, *, quiet: bool) -> Iterator[Callable[[Deployment], None]]:
    """Gives what is to be called with each state that is seen.

    On a terminal that is a bar, elsewhere a line for each change, both on the error output; nothing where `quiet`.
    """
    console = output.console(stderr=True)
    if quiet:
        yield lambda deployment: None
    elif not console.is_terminal:
        seen: list[str] = []

        def line(deployment: Deployment) -> None:
            if (text := describe(deployment)) not in seen[-1:]:
                seen.append(text)
                console.print(f"{title}: {text}", markup=False)

        yield line
    else:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(title, total=len(PHASES) - 1)

            def bar(deployment: Deployment) -> None:
                done = PHASES.index(deployment.rollout_phase) if deployment.rollout_phase in PHASES else 0
                progress.update(task, completed=done, description=f"{title}: {describe(deployment)}")

            yield bar


def describe(deployment: Deployment) -> str:
    """Where a deployment stands, in a few words."""
    reason = deployment.status_reason
    return f"{deployment.status}, {reason}" if reason else f"{deployment.status} ({deployment.rollout_phase})"
