"""The registry's part of a deployment: what its version is, and that the version's stage follows the environment."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from trimtab.access.principal import Principal, program
from trimtab.clock import Clock
from trimtab.db.database import Connection
from trimtab.deployments import store
from trimtab.deployments.records import Deployment
from trimtab.deployments.versions import Version
from trimtab.errors import Code, TrimtabError
from trimtab.registry import service as registry
from trimtab.routing.records import Environment

log = logging.getLogger(__name__)


async def version(connection: Connection, workspace_id: UUID, lifecycle_id: UUID) -> Version:
    """What serving needs of one version. Raises TrimtabError (NOT_FOUND)."""
    found = (await versions(connection, [lifecycle_id])).get(lifecycle_id)
    if found is None or found.workspace_id != workspace_id:
        raise TrimtabError(
            Code.NOT_FOUND, f"There is no version (lifecycle) {lifecycle_id} in this workspace.", "lifecycle_id"
        )
    return found


async def versions(connection: Connection, lifecycle_ids: Iterable[UUID]) -> dict[UUID, Version]:
    """What serving needs of versions, by lifecycle id, in three queries at most; those there are not are left out."""
    rows = await registry.get_versions(connection, set(lifecycle_ids))
    ids = [row.lifecycle.credential_id for row in rows.values() if row.lifecycle.credential_id is not None]
    sealed = await store.sealed_credentials(connection, ids) if ids else {}
    found = {}
    for identifier, row in rows.items():
        lifecycle = row.lifecycle
        found[identifier] = Version(
            lifecycle_id=lifecycle.id,
            workspace_id=lifecycle.workspace_id,
            model_id=lifecycle.model_id,
            model_name=lifecycle.model_name,
            version_tag=lifecycle.version_tag,
            lifecycle_stage=lifecycle.lifecycle_stage,
            provider=lifecycle.model_provider,
            approval_status=lifecycle.approval_status,
            approval_conditions=lifecycle.approval_conditions,
            deployment_config=lifecycle.deployment_config,
            resource_allocation=lifecycle.resource_allocation,
            credential=sealed.get(lifecycle.credential_id) if lifecycle.credential_id is not None else None,
            prices=row.prices,
        )
    return found


async def check_environment(
    connection: Connection, actor: Principal, version: Version, environment: Environment, clock: Clock
) -> None:
    """Refuse an environment that the version's stage does not lead to.

    Raises:
        TrimtabError: INVALID_TRANSITION.
    """
    if await _stays(connection, version, environment):
        return
    async with connection.transaction(force_rollback=True):
        await registry.set_stage(connection, actor, version.lifecycle_id, environment, clock=clock)


async def enter_environment(connection: Connection, one: Deployment, version: Version, clock: Clock) -> None:
    """Set the stage of the version that `one` deploys to its environment.

    Raises:
        TrimtabError: STALE_VERSION when the version was changed at the same moment.
    """
    if await _stays(connection, version, one.environment):
        return
    try:
        comment = f"deployed as {one.deployment_name}"
        actor = program(one.workspace_id)
        await registry.set_stage(connection, actor, version.lifecycle_id, one.environment, comment, clock)
    except TrimtabError as error:
        if error.code is Code.STALE_VERSION:
            raise
        # The rules changed since the deployment was accepted; what serves is not undone for the sake of a label.
        log.warning("the stage of version %s stays %s: %s", version.version_tag, version.lifecycle_stage, error)


async def _stays(connection: Connection, version: Version, environment: Environment) -> bool:
    """Whether the stage stays as it is: a version that serves in production is not put back by a staging copy."""
    if version.lifecycle_stage == environment:
        return True
    return version.lifecycle_stage == "production" and await store.in_production(connection, version.lifecycle_id)
