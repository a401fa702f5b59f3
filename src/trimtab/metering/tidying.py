"""What may be deleted of spools: segments and spools that were shipped, and what was never finished."""

from __future__ import annotations

from pathlib import Path

from trimtab.metering.spool import LOCK_NAME, Position, is_locked, segment_path, segments_in


def remove_segments_before(directory: Path, position: Position, older_than: float) -> int:
    """Delete segments that lie wholly before `position` and were last written before the Unix time `older_than`.

    Answers how many were deleted.
    """
    removed = 0
    for segment in segments_in(directory):
        path = segment_path(directory, segment)
        if segment < position.segment and path.stat().st_mtime < older_than:
            path.unlink()
            removed += 1
    return removed


def remove_spool(directory: Path, older_than: float) -> bool:
    """Delete a spool whose writer is gone and that was last written before the Unix time `older_than`.

    The caller knows that all of it has been shipped. Answers whether it was deleted.
    """
    paths = list(directory.iterdir())
    if any(path.stat().st_mtime >= older_than for path in paths):
        return False
    for path in paths:
        path.unlink()
    directory.rmdir()
    return True


def remove_unfinished(root: Path, older_than: float) -> int:
    """Delete what writers left that died before their spool had its name, last changed before the Unix time
    `older_than`.

    Answers how many were deleted.
    """
    removed = 0
    for directory in root.glob(".*.new"):
        if directory.stat().st_mtime < older_than and not is_locked(directory):
            (directory / LOCK_NAME).unlink(missing_ok=True)
            directory.rmdir()
            removed += 1
    return removed
