"""Runs the part `runner`, or `controller`, as a process of its own, given database URL and data directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trimtab.context import PartContext
from trimtab.deployments import runner
from trimtab.server import controller
from trimtab.settings import Settings


def main(part: str, database_url: str, data_dir: str) -> int:
    """Run the part until it is told to end; it says on standard output when it is ready."""
    life, lock = os.pipe()
    context = PartContext(
        name=part,
        entry="",
        settings=Settings(Path(data_dir)),
        database_url=database_url,
        data_dir=Path(data_dir),
        worker_index=0,
        listen_fd=None,
        ready_fd=os.dup(1),
        life_fd=life,
        lock_fd=lock,
    )
    return (runner if part == "runner" else controller).run(context)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
