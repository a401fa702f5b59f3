"""The life of a version, as tables: which stage may follow which, and which decision may follow which."""

from __future__ import annotations

from typing import Literal

Stage = Literal["development", "testing", "staging", "production", "deprecated", "retired"]
Approval = Literal["pending", "approved", "rejected", "conditional"]
Decision = Literal["approved", "rejected", "conditional"]

STAGES: tuple[Stage, ...] = ("development", "testing", "staging", "production", "deprecated", "retired")
APPROVALS: tuple[Approval, ...] = ("pending", "approved", "rejected", "conditional")

IN_USE: frozenset[Stage] = frozenset({"development", "testing", "staging", "production"})

# Stages may be skipped and gone back; what is retired stays so.
TRANSITIONS: dict[Stage, frozenset[Stage]] = {
    "development": frozenset({"testing", "staging", "production", "deprecated", "retired"}),
    "testing": frozenset({"development", "staging", "production", "deprecated", "retired"}),
    "staging": frozenset({"development", "testing", "production", "deprecated", "retired"}),
    "production": frozenset({"development", "testing", "staging", "deprecated", "retired"}),
    "deprecated": frozenset({"development", "testing", "staging", "production", "retired"}),
    "retired": frozenset(),
}

# Where the workspace asks for `stage_order`: forward one step at a time, backward at will, out of use from anywhere,
# into use again from the beginning.
ORDERED_TRANSITIONS: dict[Stage, frozenset[Stage]] = {
    "development": frozenset({"testing", "deprecated"}),
    "testing": frozenset({"development", "staging", "deprecated"}),
    "staging": frozenset({"development", "testing", "production", "deprecated"}),
    "production": frozenset({"development", "testing", "staging", "deprecated"}),
    "deprecated": frozenset({"development", "retired"}),
    "retired": frozenset(),
}

# A decision can be taken back; `pending` is only where a version begins.
DECISIONS: dict[Approval, frozenset[Decision]] = {
    "pending": frozenset({"approved", "conditional", "rejected"}),
    "approved": frozenset({"conditional", "rejected"}),
    "conditional": frozenset({"approved", "conditional", "rejected"}),
    "rejected": frozenset({"approved", "conditional"}),
}

EDITABLE: frozenset[Approval] = frozenset({"pending", "rejected"})


def next_stages(stage: Stage, in_order: bool) -> frozenset[Stage]:
    """The stages that may follow `stage`; `in_order` where the workspace wants no stage skipped."""
    return (ORDERED_TRANSITIONS if in_order else TRANSITIONS)[stage]


def may_decide(approval: Approval, decision: Decision, stage: Stage) -> bool:
    """Whether `decision` may follow `approval` for a version in `stage`; nothing is decided on a retired one."""
    return stage != "retired" and decision in DECISIONS[approval]
