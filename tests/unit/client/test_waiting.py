"""When a wait ends, by the state that is seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from trimtab.client.errors import DeploymentFailed
from trimtab.client.waiting import Goal, reached
from trimtab.deployments.schemas import Deployment

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def deployment(status: str, phase: str, **more: Any) -> Deployment:
    """A deployment in a state; an ended one where the status says so."""
    nobody = UUID(int=0)
    ended = NOW if status in ("failed", "rolled_back", "retired") else None
    fields = {
        "id": nobody,
        "workspace_id": nobody,
        "model_id": nobody,
        "model_name": "bot",
        "lifecycle_id": nobody,
        "version_tag": "v1",
        "deployment_name": "bot v1",
        "environment": "production",
        "deployment_type": "direct",
        "status": status,
        "status_reason": "",
        "rollout_phase": phase,
        "endpoint_url": None,
        "traffic_percentage": 0,
        "target_traffic_percentage": 100,
        "replicas": 1,
        "config": {},
        "previous_deployment_id": None,
        "cutover_revision": None,
        "ending_status": None,
        "draining_since": None,
        "deadline_at": NOW,
        "started_at": NOW,
        "created_by": None,
        "created_at": NOW,
        "updated_at": NOW,
        "ended_at": ended,
        "version": 1,
    }
    return Deployment.model_validate({**fields, **more})


@pytest.mark.parametrize(
    ("goal", "state", "done"),
    [
        ("serve", deployment("deploying", "pending"), False),
        ("serve", deployment("deploying", "progressing"), False),
        ("serve", deployment("deploying", "promoting"), False),
        ("serve", deployment("healthy", "succeeded"), True),
        ("serve", deployment("unhealthy", "succeeded"), True),
        ("roll_back", deployment("healthy", "aborting"), False),
        ("roll_back", deployment("healthy", "aborting", ending_status="rolled_back"), True),
        ("roll_back", deployment("rolled_back", "aborted"), True),
    ],
)
def test_states_on_the_way(goal: Goal, state: Deployment, done: bool) -> None:
    assert reached(state, goal) is done


@pytest.mark.parametrize(
    ("goal", "state"),
    [
        ("serve", deployment("failed", "aborted", status_reason="replica 0 failed")),
        ("serve", deployment("retired", "superseded", status_reason="replica 0 failed")),
        ("roll_back", deployment("healthy", "succeeded", status_reason="replica 0 failed")),
        ("roll_back", deployment("retired", "succeeded", status_reason="replica 0 failed")),
    ],
)
def test_ways_that_lead_nowhere_are_told_with_the_reason(goal: Goal, state: Deployment) -> None:
    with pytest.raises(DeploymentFailed, match="replica 0 failed") as caught:
        reached(state, goal)
    assert caught.value.deployment is state
