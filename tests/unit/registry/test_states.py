"""The life of a version, over random sequences."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trimtab.registry.states import (
    APPROVALS,
    DECISIONS,
    EDITABLE,
    ORDERED_TRANSITIONS,
    STAGES,
    TRANSITIONS,
    Approval,
    Decision,
    Stage,
    may_decide,
    next_stages,
)

DECIDED: tuple[Decision, ...] = ("approved", "rejected", "conditional")


def walk(wishes: list[Stage], in_order: bool) -> list[Stage]:
    """The stages that a version goes through when each wish is granted if it may be."""
    path: list[Stage] = ["development"]
    for wish in wishes:
        if wish in next_stages(path[-1], in_order):
            path.append(wish)
    return path


def test_tables_are_whole() -> None:
    assert set(TRANSITIONS) == set(ORDERED_TRANSITIONS) == set(STAGES)
    assert set(DECISIONS) == set(APPROVALS)
    for table in (TRANSITIONS, ORDERED_TRANSITIONS):
        for stage, following in table.items():
            assert stage not in following
    for stage in STAGES:
        assert ORDERED_TRANSITIONS[stage] <= TRANSITIONS[stage]


@given(st.lists(st.sampled_from(STAGES)), st.booleans())
def test_retired_is_final(wishes: list[Stage], in_order: bool) -> None:
    path = walk(wishes, in_order)
    assert "retired" not in path[:-1]


@given(st.lists(st.sampled_from(STAGES), max_size=60))
def test_in_order_no_stage_is_skipped(wishes: list[Stage]) -> None:
    path = walk(wishes, True)
    for before, after in pairwise(path):
        step = STAGES.index(after) - STAGES.index(before)
        assert step <= 1 or after == "deprecated"
    if "production" in path:
        assert {"testing", "staging"} <= set(path[: path.index("production")])


@given(st.sampled_from(STAGES), st.sampled_from(STAGES), st.booleans())
def test_from_every_stage_but_retired_every_other_can_be_reached(start: Stage, goal: Stage, in_order: bool) -> None:
    reached = {start}
    while more := {after for stage in reached for after in next_stages(stage, in_order)} - reached:
        reached |= more
    assert goal in reached or start == "retired"


@given(st.lists(st.tuples(st.sampled_from(DECIDED), st.sampled_from(STAGES))))
def test_decisions(wishes: list[tuple[Decision, Stage]]) -> None:
    approval: Approval = "pending"
    for decision, stage in wishes:
        if may_decide(approval, decision, stage):
            assert stage != "retired"
            approval = decision
    assert approval == "pending" or approval in DECIDED


def test_decisions_one_by_one() -> None:
    assert not may_decide("approved", "approved", "staging")
    assert may_decide("approved", "rejected", "production")
    assert may_decide("rejected", "approved", "development")
    assert may_decide("conditional", "conditional", "development")
    assert not may_decide("rejected", "rejected", "development")
    assert not any("pending" in decisions for decisions in DECISIONS.values())
    assert EDITABLE.isdisjoint({"approved", "conditional"})
