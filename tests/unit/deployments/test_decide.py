"""Decisions, one situation each."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.unit.deployments.rows import NOW, deployment, gateway, replica, serving, view

from trimtab.deployments.reconcile import (
    LONGEST_DRAIN,
    Approval,
    MoveTraffic,
    Plan,
    ReleaseReplicas,
    Revive,
    RunReplicas,
    SetStage,
    StopReplicas,
    View,
    decide,
)
from trimtab.deployments.records import Use
from trimtab.deployments.strategies import STRATEGIES


def plan(situation: View, after: timedelta = timedelta()) -> Plan | None:
    return decide(situation, NOW + after, STRATEGIES["direct"])


def test_pending_asks_for_its_replicas() -> None:
    found = plan(view(deployment(1, replicas=3), replicas=()))
    assert found is not None
    assert (found.status, found.phase) == ("deploying", "progressing")
    assert found.actions == (RunReplicas((0, 1, 2)),)


def test_waits_for_all_replicas() -> None:
    one = deployment(1, rollout_phase="progressing", replicas=2)
    assert plan(view(one, replicas=[replica(one), replica(one, 1, status="starting")])) is None
    found = plan(view(one, replicas=[replica(one), replica(one, 1)]))
    assert found is not None
    assert (found.status, found.phase) == ("deploying", "promoting")


@pytest.mark.parametrize(
    ("values", "after", "reason"),
    [
        (
            {"status": "starting", "reason": "refused"},
            601,
            "not ready in time: 0 of 1 replicas ready (replica 0: refused)",
        ),
        ({"status": "failed", "reason": "no such file"}, 1, "replica 0 failed: no such file"),
        ({"status": "backoff", "reason": "exited", "restarts": 5}, 1, "replica 0 failed (started 6 times): exited"),
    ],
)
def test_fails_with_the_replicas_reason(values: dict[str, Any], after: int, reason: str) -> None:
    one = deployment(1, rollout_phase="progressing")
    found = plan(view(one, replicas=[replica(one, **values)]), timedelta(seconds=after))
    assert found is not None
    assert (found.status, found.phase, found.reason) == ("failed", "aborted", reason)
    assert found.actions == (StopReplicas(),)


def test_cut_over_takes_the_share_of_the_others_and_drains_those_left_with_none() -> None:
    one, old = deployment(2, rollout_phase="promoting"), serving(1)
    found = plan(view(one, old))
    assert found is not None
    (move,) = found.actions
    assert move == MoveTraffic({one.id: 10_000, old.id: 0}, {old.id: "retired"}, old.id)


def test_a_share_of_nothing_is_the_whole() -> None:
    one = deployment(1, rollout_phase="promoting", target_traffic_percentage=Decimal(5))
    found = plan(view(one))
    assert found is not None
    assert found.actions == (MoveTraffic({one.id: 10_000}),)


@pytest.mark.parametrize(
    ("gateways", "done"),
    [
        ([], True),
        ([gateway(1, 7), gateway(2, 9)], True),
        ([gateway(1, 7), gateway(2, 6)], False),
        ([gateway(1, 7), gateway(2, 6, lease=-1)], True),
    ],
)
def test_success_needs_every_live_gateway(gateways: list[Any], done: bool) -> None:
    one = deployment(1, rollout_phase="promoting", traffic_percentage=Decimal(100), cutover_revision=7)
    found = plan(view(one, gateways=gateways))
    assert (found is not None) == done
    if found is not None:
        assert (found.status, found.phase, found.actions) == ("healthy", "succeeded", (SetStage(),))


@pytest.mark.parametrize(
    ("use", "after", "ends"),
    [
        (None, 0, True),
        (Use(0, NOW), 29, False),
        (Use(0, NOW), 30, True),
        (Use(1, None), 300, False),
        (Use(1, None), LONGEST_DRAIN.total_seconds(), True),
    ],
)
def test_a_draining_side_stops_once_it_is_quiet(use: Use | None, after: float, ends: bool) -> None:
    one = serving(1, 0, ending_status="retired", draining_since=NOW)
    seen = gateway(1, 1, lease=3600, uses={} if use is None else {one.id: use})
    found = plan(view(one, gateways=[seen]), timedelta(seconds=after))
    assert (found is not None) == ends
    if found is not None:
        assert (found.status, found.actions) == ("retired", (StopReplicas(),))


def test_a_draining_side_waits_for_the_gateways() -> None:
    one = serving(1, 0, ending_status="retired", draining_since=NOW, cutover_revision=5)
    assert plan(view(one, gateways=[gateway(1, 4, lease=3600)]), timedelta(minutes=20)) is None


def test_one_that_leaves_hands_its_share_over_but_not_beyond_an_approval() -> None:
    one, other = serving(1, 50, ending_status="retired", cutover_revision=None), serving(2, 50)
    found = plan(view(one, other))
    assert found is not None
    assert found.actions == (MoveTraffic({one.id: 0, other.id: 10_000}),)
    limited = view(one, other, approvals={2: Approval("conditional", 5_000)})
    found = plan(limited)
    assert found is not None
    assert found.actions == ()
    assert "allows 50 %" in found.reason


@pytest.mark.parametrize(
    "approval",
    [Approval("pending"), Approval("rejected"), Approval("conditional", 9_999), Approval("conditional", 10_000, NOW)],
)
def test_nothing_unapproved_is_moved_to_in_production(approval: Approval) -> None:
    one = deployment(2, rollout_phase="promoting")
    found = plan(view(one, serving(1), approvals={2: approval}))
    assert found is not None
    assert (found.status, found.actions) == ("failed", (StopReplicas(),))


def test_a_later_rollout_supersedes() -> None:
    one, later = deployment(1, rollout_phase="progressing"), deployment(2)
    found = plan(view(one, later))
    assert found is not None
    assert (found.status, found.phase) == ("retired", "superseded")
    assert plan(view(later, one)) is not None
    aside = deployment(3, target_traffic_percentage=Decimal(0))
    assert plan(view(one, aside, replicas=[replica(one, status="starting")])) is None


def test_rollback_step_by_step() -> None:
    back = serving(1, 0, status="retired", ended_at=NOW)
    one = serving(2, 60, rollout_phase="aborting", previous_deployment_id=back.id)
    other = serving(3, 40)
    found = plan(view(one, back, other))
    assert found is not None
    assert found.actions == (Revive(back.id),)
    starting = deployment(1, rollout_phase="progressing", revived_for=one.id, target_traffic_percentage=Decimal(0))
    assert plan(view(one, starting, other)) is None
    ready = serving(1, 0, revived_for=one.id)
    found = plan(view(one, ready, other, replicas_of_previous=(replica(ready),)))
    assert found is not None
    assert found.actions == (MoveTraffic({one.id: 0, ready.id: 6_000, other.id: 4_000}, {one.id: "rolled_back"}),)


def test_a_rollback_is_given_up_when_the_previous_one_fails() -> None:
    back = serving(1, 0, status="failed", rollout_phase="aborted", ended_at=NOW, revived_for=UUID(int=2))
    found = plan(view(serving(2, rollout_phase="aborting", previous_deployment_id=back.id), back))
    assert found is not None
    assert (found.status, found.phase, found.actions) == ("healthy", "succeeded", ())


def test_one_revived_for_a_rollback_that_was_called_off_leaves() -> None:
    back = serving(1, 0, revived_for=UUID(int=2))
    found = plan(view(back, serving(2)))
    assert found is not None
    assert found.fields["ending_status"] == "retired"


def test_scaling() -> None:
    one = serving(1, replicas=2)
    found = plan(view(one))
    assert found is not None
    assert found.actions == (RunReplicas((1,)),)
    fewer = serving(1, replicas=1)
    rows = [replica(fewer), replica(fewer, 1)]
    found = plan(view(fewer, replicas=rows))
    assert found is not None
    assert found.actions == (ReleaseReplicas((rows[1].id,)),)
    released = replica(fewer, 1, released_at=NOW, released_revision=4)
    for after, revision, stops in ((29, 4, False), (30, 3, False), (30, 4, True)):
        seen = gateway(1, revision, lease=3600)
        found = plan(view(fewer, replicas=[rows[0], released], gateways=[seen]), timedelta(seconds=after))
        assert (found is not None and found.actions == (StopReplicas((released.id,)),)) == stops


def test_health_follows_the_replicas() -> None:
    one = serving(1, replicas=2)
    sick = [replica(one), replica(one, 1, status="unhealthy", reason="no answer")]
    found = plan(view(one, replicas=sick))
    assert found is not None
    assert (found.status, found.reason) == ("unhealthy", "1 of 2 replicas ready (replica 1: no answer)")
    one = serving(1, replicas=2, status="unhealthy", status_reason=found.reason)
    assert plan(view(one, replicas=sick)) is None
    found = plan(view(one, replicas=[replica(one), replica(one, 1)]))
    assert found is not None
    assert found.status == "healthy"
    fresh = serving(1, replicas=2)
    assert plan(view(fresh, replicas=[replica(fresh), replica(fresh, 1, status="starting")])) is None


def test_one_that_gateways_refuse_is_not_called_healthy() -> None:
    one = serving(1, share=50)
    ended = {1: Approval("conditional", 5000, NOW)}
    assert plan(view(one, approvals={1: Approval("conditional", 5000, NOW + timedelta(seconds=1))})) is None
    found = plan(view(one, approvals=ended))
    assert found is not None
    assert found.status == "unhealthy"
    assert "the conditional approval of its version ended" in found.reason
    told = serving(1, share=50, status="unhealthy", status_reason=found.reason)
    assert plan(view(told, approvals=ended)) is None
    again = plan(view(told))
    assert again is not None
    assert again.status == "healthy"
    assert plan(view(serving(1, share=0), approvals=ended)) is None


@pytest.mark.parametrize("status", ["failed", "rolled_back", "retired"])
def test_what_has_ended_stays(status: Any) -> None:
    one = deployment(1, status=status, rollout_phase="aborted", ended_at=NOW)
    assert plan(view(one, serving(2)), timedelta(days=1)) is None
