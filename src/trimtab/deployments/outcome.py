"""What a plan does to the rows of a route; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from trimtab.deployments.reconcile import MoveTraffic, Plan, Revive
from trimtab.deployments.records import Deployment, percentage
from trimtab.deployments.replica_spec import progress_deadline

Changes = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a plan does.

    Parameters:
        changes: columns to set, by deployment.
        moved: the deployments whose cut-over is the revision that publishes this.
    """

    changes: dict[UUID, Changes] = field(default_factory=dict)
    moved: set[UUID] = field(default_factory=set)


def outcome(plan: Plan, one: Deployment, deployments: Mapping[UUID, Deployment], now: datetime) -> Outcome:
    """What `plan`, made for `one`, does to the rows of its route.

    Parameters:
        deployments: those of the model, by id.
    """
    state = {"status": plan.status, "rollout_phase": plan.phase, "status_reason": plan.reason}
    done = Outcome({one.id: {**state, **plan.fields}})
    for action in plan.actions:
        match action:
            case MoveTraffic():
                _move(done, action, one, deployments, now)
            case Revive(deployment_id):
                done.changes[deployment_id] = _revive(deployments[deployment_id], one, now)
    return done


def _move(
    done: Outcome, move: MoveTraffic, mover: Deployment, deployments: Mapping[UUID, Deployment], now: datetime
) -> None:
    done.moved.add(mover.id)
    if move.previous is not None:
        done.changes[mover.id]["previous_deployment_id"] = move.previous
    for identifier, weight in move.shares.items():
        one = deployments[identifier]
        changes: Changes = {}
        if weight != one.weight:
            changes["traffic_percentage"] = percentage(weight)
        if weight > one.weight:
            changes["revived_for"] = None
        if identifier in move.ending:
            changes |= {"ending_status": move.ending[identifier], "draining_since": now}
        if not changes:
            continue
        done.changes.setdefault(identifier, {}).update(changes)
        # A change of its own share that it still waits for must stay wanted.
        if one.cutover_revision is not None or identifier in move.ending:
            done.moved.add(identifier)


def _revive(previous: Deployment, for_the_sake_of: Deployment, now: datetime) -> Changes:
    changes: Changes = {"revived_for": for_the_sake_of.id, "ending_status": None, "draining_since": None}
    if previous.ended_at is None:
        return changes
    return changes | {
        "status": "deploying",
        "rollout_phase": "pending",
        "status_reason": f"started again for the rollback of {for_the_sake_of.deployment_name}",
        "target_traffic_percentage": 0,
        "cutover_revision": None,
        "ended_at": None,
        "started_at": now,
        "deadline_at": now + progress_deadline(previous),
    }
