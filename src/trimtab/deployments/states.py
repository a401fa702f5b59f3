"""The states of a deployment and what may follow what, as tables; pure."""

from __future__ import annotations

from typing import Literal

Status = Literal["deploying", "healthy", "unhealthy", "failed", "rolled_back", "retired"]
Phase = Literal[
    "pending", "progressing", "paused", "baking", "promoting", "aborting", "succeeded", "aborted", "superseded"
]
ReplicaStatus = Literal["pending", "starting", "ready", "unhealthy", "backoff", "failed", "stopping", "stopped"]

NEXT_STATUS: dict[Status, frozenset[Status]] = {
    "deploying": frozenset({"healthy", "failed", "rolled_back", "retired"}),
    "healthy": frozenset({"unhealthy", "rolled_back", "retired"}),
    "unhealthy": frozenset({"healthy", "rolled_back", "retired"}),
    # Ended; only a person's verb (retry, or the rollback of a later one) starts them again.
    "failed": frozenset({"deploying"}),
    "rolled_back": frozenset({"deploying"}),
    "retired": frozenset({"deploying"}),
}

NEXT_PHASE: dict[Phase, frozenset[Phase]] = {
    "pending": frozenset({"progressing", "aborted", "superseded"}),
    "progressing": frozenset({"paused", "baking", "promoting", "aborting", "aborted", "superseded"}),
    "paused": frozenset({"progressing", "promoting", "aborting", "aborted", "superseded"}),
    "baking": frozenset({"progressing", "promoting", "aborting", "aborted", "superseded"}),
    "promoting": frozenset({"succeeded", "aborted", "superseded"}),
    # A succeeded one is promoted again when its share is changed in place, and aborting while it is rolled back.
    "succeeded": frozenset({"promoting", "aborting"}),
    "aborting": frozenset({"succeeded", "aborted", "superseded"}),
    "aborted": frozenset({"pending"}),
    "superseded": frozenset({"pending"}),
}

PHASES_OF: dict[Status, frozenset[Phase]] = {
    "deploying": frozenset({"pending", "progressing", "paused", "baking", "promoting", "aborting"}),
    "healthy": frozenset({"succeeded", "promoting", "aborting"}),
    "unhealthy": frozenset({"succeeded", "promoting", "aborting"}),
    "failed": frozenset({"aborted"}),
    "rolled_back": frozenset({"aborted"}),
    "retired": frozenset({"succeeded", "superseded", "aborted"}),
}

ENDED: frozenset[Status] = frozenset({"failed", "rolled_back", "retired"})
SERVING: frozenset[Status] = frozenset({"healthy", "unhealthy"})
ROLLING_OUT: frozenset[Phase] = frozenset({"pending", "progressing", "paused", "baking"})


def may_follow(status: Status, phase: Phase, next_status: Status, next_phase: Phase) -> bool:
    """Whether a deployment may go from (`status`, `phase`) to (`next_status`, `next_phase`).

    An ended deployment that starts anew begins at `pending`, whatever its phase was; a retired one keeps `succeeded`.
    """
    if next_phase not in PHASES_OF[next_status]:
        return False
    if status in ENDED and next_status == "deploying":
        return next_phase == "pending"
    status_fits = next_status == status or next_status in NEXT_STATUS[status]
    return status_fits and (next_phase == phase or next_phase in NEXT_PHASE[phase])
