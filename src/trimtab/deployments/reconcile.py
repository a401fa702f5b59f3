"""What a deployment needs next: a pure decision over a snapshot.

`decide` runs a short ordered list of steps; the first that has something to say wins. Whoever carries a plan out
writes the deployment's row by compare-and-set, so a plan made on a stale snapshot does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from trimtab.deployments import shares
from trimtab.deployments.records import Deployment, Gateway, Replica
from trimtab.deployments.states import ENDED, ROLLING_OUT, SERVING, Phase, Status
from trimtab.routing.records import WHOLE

QUIET = timedelta(seconds=30)
"""How long no request may have gone to a side before it is stopped."""
LONGEST_DRAIN = timedelta(minutes=15)
"""A side that is still used after this long is stopped all the same, so that no stream holds it for ever."""
MAX_RESTARTS = 5
"""A replica that was started again this often while its deployment is new has failed."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What a version's approval says.

    It is asked for whenever a share of production would begin or grow, and again just before the traffic moves. What
    serves already is not moved by it: when a conditional approval is reduced below the share that its version has, the
    version keeps that share (somebody else would have to take the rest, and who is a decision of its own) until the
    share is changed, by `PATCH` of the deployment, a rollback or another deployment; it cannot grow meanwhile. An
    approval that has expired or was withdrawn is acted on at once, by the gateways: they refuse the version in
    production.

    Parameters:
        status: pending, approved, rejected or conditional.
        max_weight: of a conditional approval, in basis points.
        expires_at: of a conditional approval.
    """

    status: str
    max_weight: int = WHOLE
    expires_at: datetime | None = None

    def refusal(self, weight: int, now: datetime) -> str | None:
        """Why production may not give the version a share of `weight` basis points; None when it may."""
        if self.status == "approved":
            return None
        if self.status != "conditional":
            return f"its version is {self.status}, not approved"
        if self.expires_at is not None and self.expires_at <= now:
            return f"the conditional approval of its version ended at {self.expires_at.isoformat()}"
        if weight > self.max_weight:
            return (
                f"the conditional approval of its version allows {self.max_weight / 100:g} % of the traffic, "
                f"not {weight / 100:g} %"
            )
        return None


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision about one deployment looks at.

    Parameters:
        siblings: the other deployments of its route (same model and environment) that have not ended, and
            its previous one even when that has ended.
        approvals: of each version involved, by deployment id.
        gateways: every gateway worker known, also those whose lease has run out.
    """

    deployment: Deployment
    replicas: tuple[Replica, ...]
    siblings: tuple[Deployment, ...]
    approvals: Mapping[UUID, Approval]
    gateways: tuple[Gateway, ...]
    replicas_of_previous: tuple[Replica, ...] = ()

    @property
    def shares(self) -> shares.Shares:
        """The present shares of the route."""
        live = (self.deployment, *self.siblings)
        return {one.id: one.weight for one in live if one.ended_at is None}

    @property
    def wanted(self) -> tuple[Replica, ...]:
        """The replicas that shall run, without those being scaled away."""
        return tuple(one for one in self.replicas if one.desired == "running" and one.released_at is None)

    @property
    def previous(self) -> Deployment | None:
        """The deployment that a rollback leads to."""
        wanted = self.deployment.previous_deployment_id
        return next((one for one in self.siblings if one.id == wanted), None)


@dataclass(frozen=True, slots=True)
class RunReplicas:
    """Have the replicas of these ordinals: made where absent, started anew where stopped."""

    ordinals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StopReplicas:
    """Stop these replicas; None for all of the deployment."""

    ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReleaseReplicas:
    """Take these replicas out of the targets, to stop them later."""

    ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class MoveTraffic:
    """Give the route these shares (basis points).

    Parameters:
        ending: what the status of those that leave becomes, once they have drained.
        previous: which deployment a rollback leads to; None to leave it.
    """

    shares: shares.Shares
    ending: Mapping[UUID, Status] = field(default_factory=dict)
    previous: UUID | None = None


@dataclass(frozen=True, slots=True)
class Revive:
    """Start an ended deployment again, without a share, so that it can take over."""

    deployment_id: UUID


@dataclass(frozen=True, slots=True)
class SetStage:
    """Note in the registry that the version is in the deployment's environment now."""


Action = RunReplicas | StopReplicas | ReleaseReplicas | MoveTraffic | Revive | SetStage


@dataclass(frozen=True, slots=True)
class Plan:
    """The next state of the deployment's row, and what goes with it in the same transaction.

    Parameters:
        fields: further columns of the row to set.
        event: name of the event to tell, besides the change of the row itself.
    """

    status: Status
    phase: Phase
    reason: str
    actions: tuple[Action, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    event: str = "deployment.updated"


WAIT = Plan("deploying", "pending", "wait")
"""A step's answer that nothing is to be done now and no later step may act."""

Step = Callable[[View, datetime], Plan | None]


def decide(view: View, now: datetime, rollout: tuple[Step, ...]) -> Plan | None:
    """The next plan for a deployment, None when it is as it should be.

    Parameters:
        now: the present moment, aware.
        rollout: the steps of its strategy, for the time before its promotion.
    """
    if view.deployment.ended_at is not None:
        return None
    steps: tuple[Step, ...] = (drain, call_off_revival, give_way, *rollout, promote, roll_back, scale, watch_health)
    for step in steps:
        plan = step(view, now)
        if plan is WAIT:
            return None
        if plan is not None:
            return plan
    return None


def drain(view: View, now: datetime) -> Plan | None:
    """One that leaves: hand over its share, wait until no gateway uses it, stop."""
    one = view.deployment
    if one.ending_status is None:
        return None
    if one.weight or one.cutover_revision is None:
        after = shares.take(view.shares, one.id, 0)
        for sibling in view.siblings:
            if after.get(sibling.id, 0) > sibling.weight and (why := refusal(view, sibling, after[sibling.id], now)):
                return _waiting(one, f"cannot hand its share to {sibling.deployment_name}: {why}")
        return Plan(one.status, one.rollout_phase, "draining", (MoveTraffic(after),))
    if not acknowledged(view.gateways, one.cutover_revision, now):
        return WAIT
    since = one.draining_since or now
    if not quiet(view.gateways, one.id, now) and now - since < LONGEST_DRAIN:
        return WAIT
    return end(one, one.ending_status, _last_phase(one), now, one.status_reason)


def call_off_revival(view: View, now: datetime) -> Plan | None:
    """One started again for a rollback that is no more: let it go."""
    one = view.deployment
    if one.revived_for is None or one.weight:
        return None
    if any(s.id == one.revived_for and s.rollout_phase == "aborting" and s.ended_at is None for s in view.siblings):
        return None
    if one.status == "deploying":
        return end(one, "rolled_back", "aborted", now, "the rollback to it was called off")
    return Plan(one.status, one.rollout_phase, "the rollback to it was called off", fields=_draining("retired", now))


def give_way(view: View, now: datetime) -> Plan | None:
    """A rollout on whose route a later one has begun."""
    one = view.deployment
    if one.rollout_phase not in ROLLING_OUT or not one.target or one.revived_for is not None:
        return None
    for sibling in view.siblings:
        if (
            sibling.ended_at is None
            and sibling.ending_status is None
            and sibling.target
            and ((sibling.started_at, sibling.id) > (one.started_at, one.id))
        ):
            return end(one, "retired", "superseded", now, f"superseded by {sibling.deployment_name}")
    return None


def promote(view: View, now: datetime) -> Plan | None:
    """Move the traffic, then wait until every live gateway has the new revision."""
    one = view.deployment
    if one.rollout_phase != "promoting":
        return None
    if one.cutover_revision is None:
        return _move_own_share(view, now)
    if not acknowledged(view.gateways, one.cutover_revision, now):
        return WAIT
    event = "deployment.succeeded" if one.status == "deploying" else "deployment.updated"
    return Plan("healthy" if one.status == "deploying" else one.status, "succeeded", "", (SetStage(),), event=event)


def _move_own_share(view: View, now: datetime) -> Plan | None:
    one = view.deployment
    after = shares.take(view.shares, one.id, one.target)
    if one.status != "deploying" and after[one.id] > one.weight and not _all_ready(view):
        if now < one.deadline_at:
            return WAIT
        fields = {"target_traffic_percentage": one.traffic_percentage, "cutover_revision": 0}
        return Plan(one.status, "succeeded", "its share was not raised: " + unready_reason(view), fields=fields)
    for sibling in (one, *view.siblings):
        weight = after.get(sibling.id, 0)
        if (weight > sibling.weight or sibling is one) and (why := refusal(view, sibling, weight, now)):
            if one.status == "deploying":
                return fail(one, why, now)
            fields = {"target_traffic_percentage": one.traffic_percentage, "cutover_revision": 0}
            return Plan(one.status, "succeeded", f"its share was not changed: {why}", fields=fields)
    ending: dict[UUID, Status] = {}
    previous = None
    if one.status == "deploying" and one.target:
        losing = [s for s in view.siblings if s.ended_at is None and s.weight]
        previous = max(losing, key=lambda s: (s.weight, s.id.int)).id if losing else None
        ending = {s.id: "retired" for s in losing if not after[s.id]}
    move = MoveTraffic(after, ending, previous)
    return Plan(one.status, "promoting", "waiting for the gateways", (move,), event="deployment.traffic_moved")


def roll_back(view: View, now: datetime) -> Plan | None:
    """Being rolled back: have the previous one run, give it the share, drain."""
    one, back = view.deployment, view.previous
    if one.rollout_phase != "aborting":
        return None
    if back is None:
        return Plan(one.status, "succeeded", "rollback given up: the previous deployment is gone")
    if back.ended_at is not None and back.revived_for == one.id:
        return Plan(
            one.status,
            "succeeded",
            f"rollback given up: {back.deployment_name} did not come back: {back.status_reason}",
            event="deployment.rollback_failed",
        )
    after = shares.hand_over(view.shares, one.id, back.id)
    if why := refusal(view, back, after[back.id], now):
        return Plan(one.status, "succeeded", f"rollback given up: {why}", event="deployment.rollback_failed")
    if back.ended_at is not None or back.ending_status is not None:
        return Plan(one.status, "aborting", f"starting {back.deployment_name} again", (Revive(back.id),))
    if back.status not in SERVING or not any(replica.status == "ready" for replica in view.replicas_of_previous):
        return WAIT
    move = MoveTraffic(after, {one.id: "rolled_back"})
    reason = f"rolled back to {back.deployment_name}"
    return Plan(one.status, "aborting", reason, (move,), event="deployment.rolled_back")


def scale(view: View, now: datetime) -> Plan | None:
    """Have as many replicas as wanted; one too many leaves the targets first and stops when nothing can use it."""
    one = view.deployment
    if one.status not in SERVING:
        return None
    missing = tuple(sorted(set(range(one.replicas)) - {replica.ordinal for replica in view.wanted}))
    if missing:
        return Plan(one.status, one.rollout_phase, one.status_reason, (RunReplicas(missing),))
    excess = tuple(replica.id for replica in view.wanted if replica.ordinal >= one.replicas)
    if excess:
        return Plan(one.status, one.rollout_phase, one.status_reason, (ReleaseReplicas(excess),))
    done = tuple(
        replica.id
        for replica in view.replicas
        if replica.desired == "running"
        and replica.released_at is not None
        and now - replica.released_at >= QUIET
        and acknowledged(view.gateways, replica.released_revision or 0, now)
    )
    return Plan(one.status, one.rollout_phase, one.status_reason, (StopReplicas(done),)) if done else None


def watch_health(view: View, now: datetime) -> Plan | None:
    """Healthy as long as every replica that ever came up is ready and production may still serve the version."""
    one = view.deployment
    if one.status not in SERVING or one.rollout_phase != "succeeded":
        return None
    ready = sum(replica.status == "ready" for replica in view.wanted)
    starting_first = sum(replica.status in ("pending", "starting") and not replica.restarts for replica in view.wanted)
    address = next((replica.url for replica in view.wanted if replica.status == "ready"), None)
    withdrawn = view.approvals[one.id].refusal(0, now) if one.environment == "production" and one.weight else None
    if withdrawn is None and ready and ready + starting_first == len(view.wanted):
        if one.status == "healthy" and one.endpoint_url == address:
            return None
        event = "deployment.healthy" if one.status == "unhealthy" else "deployment.updated"
        return Plan("healthy", "succeeded", "", fields={"endpoint_url": address}, event=event)
    reason = f"gateways refuse it: {withdrawn}" if withdrawn else unready_reason(view)
    if one.status == "unhealthy" and one.status_reason == reason:
        return None
    event = "deployment.unhealthy" if one.status == "healthy" else "deployment.updated"
    return Plan("unhealthy", "succeeded", reason, event=event)


def acknowledged(gateways: tuple[Gateway, ...], revision: int, now: datetime) -> bool:
    """Whether every gateway whose lease holds serves `revision` or a later one."""
    return all(gateway.revision >= revision for gateway in gateways if gateway.lease_until > now)


def quiet(gateways: tuple[Gateway, ...], deployment_id: UUID, now: datetime) -> bool:
    """Whether no live gateway has a request to the deployment in flight, and none sent one for `QUIET`."""
    for gateway in gateways:
        use = gateway.uses.get(deployment_id)
        if use is None:
            continue
        if use.in_flight and gateway.lease_until > now:
            return False
        if use.last_request_at is not None and now - use.last_request_at < QUIET:
            return False
    return True


def refusal(view: View, one: Deployment, weight: int, now: datetime) -> str | None:
    """Why `one` may not have a share of `weight` basis points; only production asks for approval."""
    if one.environment != "production":
        return "its version is rejected" if view.approvals[one.id].status == "rejected" and weight else None
    return view.approvals[one.id].refusal(weight, now)


def unready_reason(view: View) -> str:
    """Which replicas are not ready, and what they say."""
    ready = sum(replica.status == "ready" for replica in view.wanted)
    said = [f"replica {r.ordinal}: {r.reason or r.status}" for r in view.wanted if r.status != "ready"]
    return f"{ready} of {len(view.wanted)} replicas ready" + (f" ({'; '.join(said[:3])})" if said else "")


def fail(one: Deployment, reason: str, now: datetime) -> Plan:
    """Ends a rollout that cannot succeed; nothing of it was routed."""
    return end(one, "failed", "aborted", now, reason, "deployment.failed")


def end(one: Deployment, status: Status, phase: Phase, now: datetime, reason: str, event: str | None = None) -> Plan:
    """Ends a deployment: its replicas stop, its routes go."""
    assert status in ENDED
    return Plan(
        status,
        phase,
        reason,
        (StopReplicas(),),
        {"ended_at": now, "ending_status": None},
        event or f"deployment.{status}",
    )


def _all_ready(view: View) -> bool:
    return bool(view.wanted) and all(replica.status == "ready" for replica in view.wanted)


def _draining(status: Status, now: datetime) -> dict[str, Any]:
    return {"ending_status": status, "draining_since": now, "cutover_revision": None}


def _waiting(one: Deployment, reason: str) -> Plan:
    return WAIT if one.status_reason == reason else Plan(one.status, one.rollout_phase, reason)


def _last_phase(one: Deployment) -> Phase:
    if one.ending_status == "rolled_back" or one.rollout_phase == "aborting":
        return "aborted"
    return "succeeded" if one.rollout_phase == "succeeded" else "superseded"
