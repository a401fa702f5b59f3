"""The routing entries that a model's rows stand for; pure.

Routing is a function of the rows: whoever changes a row computes the entries anew and publishes what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from trimtab.deployments.records import Deployment, Replica
from trimtab.deployments.states import SERVING
from trimtab.deployments.versions import Version
from trimtab.routing.records import (
    WHOLE,
    Arm,
    DeploymentEntry,
    Entry,
    EntryKind,
    Environment,
    Price,
    RouteEntry,
    route_key,
)

Entries = dict[tuple[EntryKind, str], Entry]
ENVIRONMENTS: tuple[Environment, ...] = ("production", "staging", "development")


def entries(
    deployments: Iterable[Deployment],
    replicas: Mapping[UUID, Sequence[Replica]],
    versions: Mapping[UUID, Version],
    prices: Mapping[UUID, tuple[Price, ...]],
) -> Entries:
    """All entries of one model.

    Parameters:
        deployments: its deployments; those that do not serve add nothing.
        replicas: by deployment id. versions: by lifecycle id. prices: by lifecycle id.
    """
    serving = sorted((one for one in deployments if _serves(one)), key=lambda one: one.id.int)
    found: Entries = {}
    for one in serving:
        version = versions[one.lifecycle_id]
        found["deployment", str(one.id)] = _deployment(
            one, version, targets(replicas.get(one.id, ())), prices.get(one.lifecycle_id, ())
        )
    for environment in ENVIRONMENTS:
        there = [one for one in serving if one.environment == environment]
        if there:
            _add_environment(found, environment, there, versions[there[0].lifecycle_id])
    # Of several deployments of one version the one nearest to production is meant, and of those the newest.
    for one in sorted(serving, key=lambda one: (-ENVIRONMENTS.index(one.environment), one.id.int)):
        if one.ending_status is None:
            version = versions[one.lifecycle_id]
            name = f"{version.model_name}@{version.version_tag}"
            arms = (Arm(str(one.id), WHOLE),)
            found["route", route_key(str(one.workspace_id), name)] = _route(version, name, one, arms, listed=False)
    return found


def targets(replicas: Sequence[Replica]) -> tuple[str, ...]:
    """The addresses that requests may go to.

    A replica whose process is gone is never among them (its port may be another's by now). One that only fails its
    probe is left out while another is ready; when all fail their probe they all stay, since an empty list would turn
    a blip of the probe into an outage, and the gateway notices by itself who answers.
    """
    usable = [one for one in replicas if one.desired == "running" and one.released_at is None and one.url]
    ready = [one for one in usable if one.status == "ready"]
    chosen = ready or [one for one in usable if one.status == "unhealthy"]
    return tuple(one.url for one in sorted(chosen, key=lambda one: one.ordinal) if one.url)


def _serves(one: Deployment) -> bool:
    return one.ended_at is None and (one.status in SERVING or one.rollout_phase == "promoting")


def _deployment(
    one: Deployment, version: Version, addresses: tuple[str, ...], prices: tuple[Price, ...]
) -> DeploymentEntry:
    config = version.deployment_config
    expires = version.approval.expires_at
    return DeploymentEntry(
        id=str(one.id),
        workspace_id=str(one.workspace_id),
        model_id=str(one.model_id),
        model_name=version.model_name,
        lifecycle_id=str(one.lifecycle_id),
        version_tag=version.version_tag,
        environment=one.environment,
        provider=version.served_provider,
        upstream_model=config.get("upstream_model"),
        targets=addresses,
        endpoint_path=config.get("endpoint_path"),
        credential=version.credential,
        parameters=config.get("parameters") or {},
        overrides=config.get("overrides") or {},
        approval=version.approval_status,
        approval_expires_at=None if expires is None else expires.timestamp(),
        prices=prices,
        created_at=one.created_at.timestamp(),
    )


def _add_environment(found: Entries, environment: Environment, there: Sequence[Deployment], version: Version) -> None:
    arms = tuple(Arm(str(one.id), one.weight) for one in there if one.weight)
    # A rollout brings a new arm, and with it a new salt; while only its share grows the salt stays, so that the
    # units that were on it stay there.
    salt = arms[-1].deployment_id if len(arms) > 1 else ""
    workspace = str(there[0].workspace_id)
    qualified = f"{version.model_name}@{environment}"
    if environment == "production":
        found["route", route_key(workspace, version.model_name)] = _route(
            version, version.model_name, there[0], arms, salt
        )
    found["route", route_key(workspace, qualified)] = _route(
        version, qualified, there[0], arms, salt, listed=environment != "production"
    )


def _route(
    version: Version,
    name: str,
    oldest: Deployment,
    arms: tuple[Arm, ...],
    salt: str = "",
    *,
    listed: bool = True,
) -> RouteEntry:
    return RouteEntry(
        workspace_id=str(version.workspace_id),
        model_id=str(version.model_id),
        name=name,
        environment=oldest.environment,
        arms=arms,
        salt=salt,
        listed=listed,
        created_at=oldest.created_at.timestamp(),
    )
