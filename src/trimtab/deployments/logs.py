"""Where replicas' logs are, and reading their ends."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

LOG_BYTES = 5 * 1024 * 1024
"""Size at which a log starts anew; one older file is kept."""
MOST_LINES = 10_000
KEPT = timedelta(days=7)
"""How long the log of a replica that has stopped can still be read."""


def log_path(data_dir: Path, replica_id: UUID) -> Path:
    """The file that has the standard output and error of a replica."""
    return data_dir / "logs" / "replicas" / f"{replica_id}.log"


def tail(data_dir: Path, replica_id: UUID, lines: int) -> list[str]:
    """The last lines a replica wrote, oldest first; none where it has not written here."""
    current = log_path(data_dir, replica_id)
    content = b"".join(_end(path, LOG_BYTES) for path in (current.with_name(current.name + ".1"), current))
    return content.decode(errors="replace").splitlines()[-lines:]


def last_line(path: Path) -> str:
    """The last line of a log that is not blank, at most 300 characters."""
    lines = [line for line in _end(path, 4096).decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def untouched(data_dir: Path, since: datetime) -> set[UUID]:
    """The replicas that have logs here, none of them written to after `since`."""
    last: dict[UUID, float] = {}
    for path in (data_dir / "logs" / "replicas").glob("*.log*"):
        with contextlib.suppress(ValueError, FileNotFoundError):
            replica_id = UUID(path.name.partition(".")[0])
            last[replica_id] = max(last.get(replica_id, 0.0), path.stat().st_mtime)
    return {replica_id for replica_id, at in last.items() if at <= since.timestamp()}


def delete(data_dir: Path, replica_id: UUID) -> None:
    """Delete the logs of a replica. Raises OSError."""
    current = log_path(data_dir, replica_id)
    for path in (current.with_name(current.name + ".1"), current):
        path.unlink(missing_ok=True)


def _end(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - size, 0))
            return file.read()
    except OSError:
        return b""
