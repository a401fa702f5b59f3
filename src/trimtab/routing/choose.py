"""Which deployment and which replica serve a request: pure decisions on a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from xxhash import xxh3_64_intdigest

from trimtab.errors import Code, TrimtabError
from trimtab.routing.records import WHOLE, Arm, DeploymentEntry, RouteEntry, route_key
from trimtab.routing.snapshot import Snapshot

Random = Callable[[], float]
"""Draws a number in [0, 1)."""


def find_route(snapshot: Snapshot, workspace_id: str, model: str) -> RouteEntry:
    """Return the route of a model name as callers write it: `name`, `name@staging` or `name@v1.2.0`.

    Raises:
        TrimtabError: MODEL_NOT_FOUND, or MODEL_NOT_DEPLOYED when the model is known but not there.
    """
    route = snapshot.routes.get(route_key(workspace_id, model))
    if route is not None and route.arms:
        return route
    raise _no_route(snapshot, workspace_id, model)


def _no_route(snapshot: Snapshot, workspace_id: str, model: str) -> TrimtabError:
    name, _, place = model.partition("@")
    wanted = name.lower()
    served = [
        route.name
        for route in snapshot.routes_of(workspace_id)
        if route.arms and route.name.partition("@")[0].lower() == wanted
    ]
    known = served or route_key(workspace_id, name) in snapshot.routes
    if not known:
        return TrimtabError(
            Code.MODEL_NOT_FOUND,
            f"There is no model {model!r} for this API key. GET /v1/models lists the models it can call.",
            field="model",
        )
    where = f"as {place!r}" if place else "in production"
    instead = f" It is deployed as {', '.join(served)}." if served else ""
    return TrimtabError(
        Code.MODEL_NOT_DEPLOYED,
        f"The model {name!r} is not deployed {where}.{instead} Deploy a version there, or ask for another name.",
        field="model",
    )


def bucket_of(salt: str, unit: str) -> int:
    """The bucket of a unit, from 0 to WHOLE - 1; the same for the same salt and unit for ever."""
    return xxh3_64_intdigest((salt + unit).encode("utf-8", "surrogatepass")) % WHOLE


def pick_arm(arms: Sequence[Arm], bucket: int) -> str | None:
    """Return the id of the deployment whose share holds `bucket`, or None where no arm has any weight.

    Shares lie side by side in the order of the arms: with two arms, the units of the second at one weight are
    among its units at any greater weight.
    """
    end = 0
    last = None
    for arm in arms:
        if arm.weight > 0:
            end += arm.weight
            last = arm.deployment_id
            if bucket < end:
                return last
    return last


def pick_deployment(snapshot: Snapshot, route: RouteEntry, unit: str | None, random: Random) -> DeploymentEntry:
    """Return the deployment that serves a request of `unit` (None: of none) on `route`.

    Raises:
        TrimtabError: MODEL_NOT_DEPLOYED when nothing on the route takes traffic.
    """
    bucket = int(random() * WHOLE) if unit is None else bucket_of(route.salt, unit)
    chosen = pick_arm(route.arms, bucket)
    deployment = None if chosen is None else _deployment_of(snapshot, route, chosen)
    if deployment is None:
        raise TrimtabError(
            Code.MODEL_NOT_DEPLOYED,
            f"No deployment of {route.name!r} takes traffic now. Deploy an approved version there.",
            field="model",
        )
    return deployment


def spare_deployment(snapshot: Snapshot, route: RouteEntry, away: DeploymentEntry) -> DeploymentEntry | None:
    """Return another deployment with a share of `route`, for a request that `away` cannot serve or even be sent.

    In production only one whose approval is unconditional: a conditional one is not given more than its share.
    """
    for arm in route.arms:
        if arm.weight > 0 and arm.deployment_id != away.id:
            spare = _deployment_of(snapshot, route, arm.deployment_id)
            if spare is not None and (spare.environment != "production" or spare.approval == "approved"):
                return spare
    return None


def _deployment_of(snapshot: Snapshot, route: RouteEntry, deployment_id: str) -> DeploymentEntry | None:
    """The deployment of an arm; one of another workspace is not there, whatever the route says."""
    deployment = snapshot.deployments.get(deployment_id)
    return None if deployment is None or deployment.workspace_id != route.workspace_id else deployment


def admitted(snapshot: Snapshot, route: RouteEntry, chosen: DeploymentEntry, now: float) -> DeploymentEntry:
    """Return `chosen`, or another deployment of the route where the approval of `chosen` no longer holds.

    Parameters:
        now: Unix seconds.

    Raises:
        TrimtabError: MODEL_NOT_APPROVED when there is no other.
    """
    try:
        check_approval(chosen, now)
    except TrimtabError:
        spare = spare_deployment(snapshot, route, chosen)
        if spare is None:
            raise
        return spare
    return chosen


def check_approval(deployment: DeploymentEntry, now: float) -> None:
    """Refuse what may not serve production; `now` in Unix seconds.

    Raises:
        TrimtabError: MODEL_NOT_APPROVED, naming the version and what to do.
    """
    if deployment.environment != "production" or deployment.approval == "approved":
        return
    version = f"{deployment.model_name}@{deployment.version_tag}"
    if deployment.approval == "conditional":
        until = deployment.approval_expires_at
        if until is None or now < until:
            return
        why = f"its conditional approval ended at {datetime.fromtimestamp(until, UTC):%Y-%m-%dT%H:%M:%SZ}"
    else:
        why = {"pending": "its approval is pending", "rejected": "it was rejected"}[deployment.approval]
    raise TrimtabError(
        Code.MODEL_NOT_APPROVED,
        f"The version {version} may not serve production: {why}. Approve lifecycle {deployment.lifecycle_id} "
        "or roll back to an approved version.",
        field="model",
    )


class Target(Protocol):
    """What is known of a replica: requests in flight, and until when (monotonic seconds) to pass it over."""

    in_flight: int
    failed_until: float


T = TypeVar("T", bound=Target)


def pick_target(targets: Iterable[T], now: float, random: Random) -> T | None:
    """Return the replica to call: the one with the fewest requests in flight, ties broken at random.

    Those that failed lately (`failed_until` after `now`) are taken only when all have.
    """
    candidates = list(targets)
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    healthy = [target for target in candidates if target.failed_until <= now] or candidates
    least = min(target.in_flight for target in healthy)
    idle = [target for target in healthy if target.in_flight == least]
    return idle[int(random() * len(idle))]
