"""The verbs on deployments. Each locks its model, checks, writes, audits and tells; none commits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from trimtab.access import audit
from trimtab.access.principal import Principal
from trimtab.db.database import Connection
from trimtab.db.events import emit
from trimtab.deployments import registry_link, shares, store
from trimtab.deployments.admission import Capacity, check_approval, check_reach, check_resources
from trimtab.deployments.records import Deployment, basis_points
from trimtab.deployments.replica_spec import DEADLINES, kind_of, progress_deadline
from trimtab.deployments.schemas import DeploymentCreate, DeploymentUpdate
from trimtab.deployments.snapshot import Snapshot, load
from trimtab.deployments.states import ROLLING_OUT, SERVING
from trimtab.deployments.strategies import STRATEGIES
from trimtab.deployments.versions import Version
from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id
from trimtab.registry import service as registry

RESHARE_SECONDS = 60
"""How long a share that was raised in place waits for ready replicas."""


async def capacity(connection: Connection) -> Capacity:
    """What there is to run processes on, over all workspaces; the connection is one of `system`."""
    return Capacity(
        await store.runners(connection),
        await store.held_memory_mb(connection),
        await store.gateway_hosts(connection),
    )


async def create(
    connection: Connection, actor: Principal, wanted: DeploymentCreate, room: Capacity, now: datetime
) -> Deployment:
    """Deploy a version. The controller does the rest: start, wait until ready, move traffic, drain the old side.

    Raises:
        TrimtabError: NOT_FOUND, INVALID_REQUEST, VERSION_NOT_APPROVED, APPROVAL_LIMIT, RESOURCES_EXCEEDED, or
            CONFLICT while a rollback runs on the route, or where gateways could not reach a process.
    """
    if wanted.deployment_type not in STRATEGIES:
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"The deployment type {wanted.deployment_type!r} is not available yet; "
            f"available: {', '.join(repr(name) for name in STRATEGIES)}.",
            "deployment_type",
            {"accepted": list(STRATEGIES)},
        )
    if wanted.steps is not None and wanted.deployment_type == "direct":
        raise TrimtabError(
            Code.INVALID_REQUEST, "A direct deployment moves all its traffic at once; leave out `steps`.", "steps"
        )
    version = await registry_link.version(connection, actor.workspace_id, wanted.lifecycle_id)
    await registry.lock_model(connection, version.model_id)
    # Again, as it is now that nobody can retire it.
    version = await registry_link.version(connection, actor.workspace_id, wanted.lifecycle_id)
    if version.lifecycle_stage == "retired":
        raise TrimtabError(
            Code.CONFLICT, f"Version {version.version_tag} is retired and cannot be deployed.", "lifecycle_id"
        )
    snapshot = await load(connection, version.model_id)
    replicas = _replica_count(version, wanted.replicas)
    target = basis_points(wanted.traffic_percentage)
    identifier = new_id()
    _check_start(snapshot, version, wanted.environment, identifier, target, now)
    await registry_link.check_environment(connection, actor, version, wanted.environment, lambda: now)
    _check_room(version, replicas, room)
    seconds = wanted.progress_deadline_seconds or DEADLINES[kind_of(version)]
    one = await store.insert(
        connection,
        {
            "id": identifier,
            "workspace_id": actor.workspace_id,
            "model_id": version.model_id,
            "lifecycle_id": version.lifecycle_id,
            "deployment_name": wanted.deployment_name
            or f"{version.model_name} {version.version_tag} {wanted.environment}"[:128],
            "environment": wanted.environment,
            "deployment_type": wanted.deployment_type,
            "endpoint_url": next(iter(version.endpoints), None),
            "target_traffic_percentage": wanted.traffic_percentage,
            "replicas": replicas,
            "config": {"progress_deadline_seconds": seconds},
            "deadline_at": now + timedelta(seconds=seconds),
            "started_at": now,
            "created_by": actor.member_id,
            "created_at": now,
            "updated_at": now,
        },
    )
    details = {
        "lifecycle_id": str(version.lifecycle_id),
        "version_tag": version.version_tag,
        "environment": wanted.environment,
        "deployment_type": wanted.deployment_type,
        "traffic_percentage": str(wanted.traffic_percentage),
        "replicas": replicas,
    }
    await _tell(connection, actor, one, "create", "deployment.created", details)
    return one


async def update(
    connection: Connection,
    actor: Principal,
    deployment_id: UUID,
    wanted: DeploymentUpdate,
    room: Capacity,
    now: datetime,
    expected_version: int | None = None,
) -> Deployment:
    """Change the number of replicas or the share, in place.

    Raises:
        TrimtabError: NOT_FOUND, STALE_VERSION, CONFLICT, INVALID_REQUEST, RESOURCES_EXCEEDED, APPROVAL_LIMIT,
            VERSION_NOT_APPROVED.
    """
    one, snapshot = await _locked(connection, deployment_id, expected_version)
    if one.rollout_phase != "succeeded" or one.status not in SERVING or one.ending_status is not None:
        raise _conflict(one, "only a deployment that serves and is not changing can be changed in place")
    version = snapshot.versions[one.lifecycle_id]
    changes: dict[str, Any] = {}
    if wanted.replicas is not None and wanted.replicas != one.replicas:
        changes["replicas"] = _replica_count(version, wanted.replicas)
        if wanted.replicas > one.replicas:
            _check_room(version, wanted.replicas - one.replicas, room)
    if wanted.traffic_percentage is not None and wanted.traffic_percentage != one.traffic_percentage:
        target = basis_points(wanted.traffic_percentage)
        after = shares.take(_route_shares(snapshot, one), one.id, target)
        if not any(weight for identifier, weight in after.items() if identifier != one.id) and target != after[one.id]:
            raise _only_one(one)
        if one.weight and not target and not any(after.values()):
            raise _only_one(one)
        _check_shares(snapshot, one, after, now)
        changes |= {
            "target_traffic_percentage": wanted.traffic_percentage,
            "rollout_phase": "promoting",
            "cutover_revision": None,
            "deadline_at": now + timedelta(seconds=RESHARE_SECONDS),
        }
    if not changes:
        return one
    changed = await store.advance(connection, one, changes, now)
    details = {key: str(value) for key, value in changes.items() if key in ("replicas", "target_traffic_percentage")}
    await _tell(connection, actor, changed, "update", "deployment.updated", details)
    return changed


async def rollback(
    connection: Connection, actor: Principal, deployment_id: UUID, now: datetime, expected_version: int | None = None
) -> Deployment:
    """Give the share back to the deployment that had it before, which is started again where it has ended.

    Raises:
        TrimtabError: NOT_FOUND, STALE_VERSION, NO_PREVIOUS_DEPLOYMENT, CONFLICT, VERSION_NOT_APPROVED,
            APPROVAL_LIMIT.
    """
    one, _ = await _locked(connection, deployment_id, expected_version)
    if one.status not in SERVING or one.ending_status is not None:
        raise _conflict(one, "only a deployment that serves can be rolled back", "abort" if not one.ended_at else None)
    if one.rollout_phase != "succeeded":
        raise _conflict(one, "it is already changing; wait until that has ended")
    previous = None if one.previous_deployment_id is None else await store.get(connection, one.previous_deployment_id)
    if previous is None:
        raise TrimtabError(
            Code.NO_PREVIOUS_DEPLOYMENT,
            f"{one.deployment_name!r} took its traffic from no other deployment, so there is none to go back to; "
            "deploy another version, or retire this one.",
        )
    if not one.weight:
        raise _conflict(one, "it has no traffic to give back", "retire")
    snapshot = await load(connection, one.model_id)
    running = _running_rollout(snapshot, one)
    if running is not None:
        raise _conflict(one, f"{running.deployment_name!r} ({running.id}) rolls out on its route; abort that first")
    version = await registry_link.version(connection, previous.workspace_id, previous.lifecycle_id)
    check_approval(version, one.environment, one.weight + previous.weight, now)
    if previous.revived_for is not None:
        await store.advance(connection, previous, {"revived_for": None}, now)
    changes = {"rollout_phase": "aborting", "status_reason": f"rolling back to {previous.deployment_name}"}
    changed = await store.advance(connection, one, changes, now)
    await _tell(
        connection, actor, changed, "rollback", "deployment.rolling_back", {"previous_deployment_id": str(previous.id)}
    )
    return changed


async def abort(
    connection: Connection, actor: Principal, deployment_id: UUID, now: datetime, expected_version: int | None = None
) -> Deployment:
    """End a rollout before it has traffic, or call off a rollback.

    Raises:
        TrimtabError: NOT_FOUND, STALE_VERSION, CONFLICT where there is nothing to abort.
    """
    one, _ = await _locked(connection, deployment_id, expected_version)
    changes: dict[str, Any]
    if one.status == "deploying" and one.rollout_phase in ROLLING_OUT:
        changes = {"status": "rolled_back", "rollout_phase": "aborted", "status_reason": f"aborted by {actor.name}"}
        changed = await store.advance(connection, one, {**changes, "ended_at": now, "ending_status": None}, now)
        await store.stop_replicas(connection, one.id, None, now)
    elif one.rollout_phase == "aborting" and one.ending_status is None:
        changes = {"rollout_phase": "succeeded", "status_reason": ""}
        changed = await store.advance(connection, one, changes, now)
    elif one.rollout_phase == "promoting" and one.status == "deploying":
        raise _conflict(one, "its traffic is being moved already; once that is done it can be rolled back")
    else:
        raise _conflict(one, "there is no rollout to abort", "retire" if one.ended_at is None else None)
    await _tell(connection, actor, changed, "abort", "deployment.aborted")
    return changed


async def retry(
    connection: Connection,
    actor: Principal,
    deployment_id: UUID,
    room: Capacity,
    now: datetime,
    expected_version: int | None = None,
) -> Deployment:
    """Begin a new attempt of a deployment that failed, was aborted or rolled back.

    Raises:
        TrimtabError: as `create`; CONFLICT where it has not failed.
    """
    one, snapshot = await _locked(connection, deployment_id, expected_version)
    if one.status not in ("failed", "rolled_back"):
        raise _conflict(one, "only a failed, aborted or rolled back deployment can be tried again")
    version = await registry_link.version(connection, one.workspace_id, one.lifecycle_id)
    _check_start(snapshot, version, one.environment, one.id, one.target, now)
    _check_room(version, one.replicas, room)
    changes = {
        "status": "deploying",
        "rollout_phase": "pending",
        "status_reason": f"tried again by {actor.name}",
        "traffic_percentage": 0,
        "cutover_revision": None,
        "revived_for": None,
        "draining_since": None,
        "ended_at": None,
        "started_at": now,
        "deadline_at": now + progress_deadline(one),
    }
    changed = await store.advance(connection, one, changes, now)
    await _tell(connection, actor, changed, "retry", "deployment.retried")
    return changed


async def retire(
    connection: Connection,
    actor: Principal,
    deployment_id: UUID,
    now: datetime,
    *,
    force: bool = False,
    expected_version: int | None = None,
) -> Deployment:
    """Take a deployment out of service: its share goes to the others, it drains and stops.

    Parameters:
        force: also where it is the only one with traffic, so that the route leads nowhere after.

    Raises:
        TrimtabError: NOT_FOUND, STALE_VERSION, CONFLICT, APPROVAL_LIMIT.
    """
    one, snapshot = await _locked(connection, deployment_id, expected_version)
    if one.ended_at is not None:
        raise _conflict(one, "it has ended already")
    if one.ending_status is not None:
        return one
    changes: dict[str, Any]
    if one.status == "deploying" and one.rollout_phase in ROLLING_OUT:
        changes = {"status": "retired", "rollout_phase": "aborted", "status_reason": f"retired by {actor.name}"}
        changed = await store.advance(connection, one, {**changes, "ended_at": now}, now)
        await store.stop_replicas(connection, one.id, None, now)
    else:
        if one.weight:
            after = shares.take(_route_shares(snapshot, one), one.id, 0)
            if not any(after.values()) and not force:
                raise _only_one(one)
            _check_shares(snapshot, one, after, now)
        changes = {
            "ending_status": "retired",
            "draining_since": now,
            "cutover_revision": None,
            "status_reason": f"retired by {actor.name}",
        }
        changed = await store.advance(connection, one, changes, now)
    await _tell(connection, actor, changed, "retire", "deployment.retiring", {"force": force})
    return changed


async def steer(connection: Connection, deployment_id: UUID, verb: str) -> Deployment:
    """`promote`, `pause` and `resume`: meaningless for strategies without steps.

    Raises:
        TrimtabError: NOT_FOUND; CONFLICT, saying why.
    """
    one = await get(connection, deployment_id)
    kind = one.deployment_type
    raise _conflict(one, f"there is nothing to {verb}: a {kind} deployment moves its traffic at once when it is ready")


async def get(connection: Connection, deployment_id: UUID) -> Deployment:
    """One deployment. Raises TrimtabError (NOT_FOUND)."""
    one = await store.get(connection, deployment_id)
    if one is None:
        raise TrimtabError(Code.NOT_FOUND, f"There is no deployment {deployment_id}.")
    return one


def _check_start(
    snapshot: Snapshot, version: Version, environment: str, identifier: UUID, target: int, now: datetime
) -> None:
    route = [one for one in snapshot.of_model(version.model_id) if one.environment == environment and not one.ended_at]
    if target:
        for one in route:
            if one.rollout_phase == "aborting":
                raise _conflict(one, "it is being rolled back; wait for that, or abort it, before deploying there")
    weight = shares.take({one.id: one.weight for one in route}, identifier, target)[identifier]
    check_approval(version, environment, weight, now)


def _check_room(version: Version, replicas: int, room: Capacity) -> None:
    if kind_of(version) == "process":
        check_reach(room)
        check_resources(version.resource_allocation, replicas, room)


def _check_shares(snapshot: Snapshot, one: Deployment, after: Mapping[UUID, int], now: datetime) -> None:
    for identifier, weight in after.items():
        other = snapshot.deployments[identifier]
        if weight > other.weight:
            check_approval(snapshot.versions[other.lifecycle_id], one.environment, weight, now)


def _route_shares(snapshot: Snapshot, one: Deployment) -> shares.Shares:
    return snapshot.view(one).shares


def _running_rollout(snapshot: Snapshot, one: Deployment) -> Deployment | None:
    for other in snapshot.view(one).siblings:
        if other.ended_at is None and other.target and other.rollout_phase in (*ROLLING_OUT, "promoting"):
            return other
    return None


def _replica_count(version: Version, wanted: int | None) -> int:
    if kind_of(version) == "process":
        return wanted or version.deployment_config.get("replicas") or 1
    if not version.endpoints:
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"Version {version.version_tag} says neither where it runs nor how to run it; give it an `endpoint` or a "
            "`runtime` in its deployment_config.",
            "lifecycle_id",
        )
    if wanted is not None and wanted != len(version.endpoints):
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"An external version has one replica for each of its endpoints, here {len(version.endpoints)}; leave "
            "`replicas` out.",
            "replicas",
        )
    return len(version.endpoints)


async def _locked(
    connection: Connection, deployment_id: UUID, expected_version: int | None
) -> tuple[Deployment, Snapshot]:
    one = await get(connection, deployment_id)
    await registry.lock_model(connection, one.model_id)
    snapshot = await load(connection, one.model_id)
    one = snapshot.deployments.get(deployment_id) or await get(connection, deployment_id)
    if expected_version is not None and expected_version != one.version:
        raise TrimtabError(
            Code.STALE_VERSION, f"You saw version {expected_version} of it, and it is at {one.version}; look again."
        )
    return one, snapshot


async def _tell(
    connection: Connection,
    actor: Principal,
    one: Deployment,
    verb: str,
    event: str,
    details: dict[str, Any] | None = None,
) -> None:
    await audit.record(connection, actor, f"deployment.{verb}", "deployment", one.id, details)
    data = {"status": one.status, "rollout_phase": one.rollout_phase, "reason": one.status_reason, "by": actor.name}
    await emit(connection, one.workspace_id, event, "deployment", one.id, data)
    await store.notify(connection)


def _conflict(one: Deployment, why: str, instead: str | None = None) -> TrimtabError:
    hint = f"; {instead} it instead" if instead else ""
    return TrimtabError(
        Code.CONFLICT,
        f"{one.deployment_name!r} is {one.status} ({one.rollout_phase}): {why}{hint}.",
        extra={"deployment_id": str(one.id), "status": one.status, "rollout_phase": one.rollout_phase},
    )


def _only_one(one: Deployment) -> TrimtabError:
    return _conflict(
        one,
        "it is the only one with traffic on its route, and shares add up to 100 %; deploy another first, or retire it "
        "with force=true",
    )
