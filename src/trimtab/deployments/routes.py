"""Deployments over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from trimtab.api.caller import Caller, Operator, Viewer
from trimtab.api.paging import Page, Paging
from trimtab.api.versions import IfMatch, tag
from trimtab.db.database import Connection
from trimtab.deployments import logs, registry_link, schemas, service, store
from trimtab.deployments.admission import Capacity
from trimtab.deployments.records import Deployment as Row
from trimtab.deployments.schemas import Deployment, DeploymentEvent, Environment, Replica, ReplicaLog
from trimtab.deployments.states import Status
from trimtab.deployments.versions import Version
from trimtab.errors import Code, TrimtabError

TAGS: list[str | Enum] = ["deployments"]
router = APIRouter(tags=TAGS)


@router.post("/deployments", status_code=201)
async def create(caller: Operator, given: schemas.DeploymentCreate, response: Response) -> Deployment:
    """Deploy a version. The answer comes at once; follow `status`, or the events."""
    room = await _capacity(caller)
    async with caller.transaction() as connection:
        row = await service.create(connection, caller.principal, given, room, caller.services.clock())
        return await _shown(connection, row, response)


@router.get("/deployments")
async def list_(
    caller: Viewer,
    paging: Paging,
    model_id: UUID | None = None,
    lifecycle_id: UUID | None = None,
    environment: Environment | None = None,
    status: Status | None = None,
    active: Annotated[
        bool | None, Query(description="Only those that have not ended, or only those that have.")
    ] = None,
) -> Page[Deployment]:
    """Deployments, newest first."""
    given = {"model_id": model_id, "lifecycle_id": lifecycle_id, "environment": environment, "status": status}
    filters: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    filters["workspace_id"] = caller.principal.workspace_id
    async with caller.transaction() as connection:
        rows = await store.page(connection, filters, active, paging.before, paging.fetch)
        versions = await registry_link.versions(connection, {row.lifecycle_id for row in rows})
    return paging.page(rows, lambda row: _document(row, versions[row.lifecycle_id]), lambda row: row.id)


@router.get("/deployments/{deployment_id}")
async def get(caller: Viewer, deployment_id: UUID, response: Response) -> Deployment:
    """One deployment."""
    async with caller.transaction() as connection:
        return await _shown(connection, await service.get(connection, deployment_id), response)


@router.patch("/deployments/{deployment_id}")
async def update(
    caller: Operator, deployment_id: UUID, given: schemas.DeploymentUpdate, if_match: IfMatch, response: Response
) -> Deployment:
    """Change the number of replicas or the share of the traffic, in place."""
    room = await _capacity(caller)
    now = caller.services.clock()
    async with caller.transaction() as connection:
        row = await service.update(connection, caller.principal, deployment_id, given, room, now, if_match)
        return await _shown(connection, row, response)


@router.delete("/deployments/{deployment_id}", status_code=202)
async def delete(
    caller: Operator, deployment_id: UUID, if_match: IfMatch, response: Response, force: bool = False
) -> Deployment:
    """Retire a deployment: its share goes to the others of its route, it drains and stops."""
    return await retire(caller, deployment_id, if_match, response, force)


@router.post("/deployments/{deployment_id}/retire", status_code=202)
async def retire(
    caller: Operator, deployment_id: UUID, if_match: IfMatch, response: Response, force: bool = False
) -> Deployment:
    """Retire a deployment: its share goes to the others of its route, it drains and stops."""
    now = caller.services.clock()
    async with caller.transaction() as connection:
        row = await service.retire(
            connection, caller.principal, deployment_id, now, force=force, expected_version=if_match
        )
        return await _shown(connection, row, response)


@router.post("/deployments/{deployment_id}/rollback", status_code=202)
async def rollback(caller: Operator, deployment_id: UUID, if_match: IfMatch, response: Response) -> Deployment:
    """Give the traffic back to the deployment that had it before."""
    now = caller.services.clock()
    async with caller.transaction() as connection:
        row = await service.rollback(connection, caller.principal, deployment_id, now, if_match)
        return await _shown(connection, row, response)


@router.post("/deployments/{deployment_id}/abort", status_code=202)
async def abort(caller: Operator, deployment_id: UUID, if_match: IfMatch, response: Response) -> Deployment:
    """End a rollout before it has traffic, or call off a rollback."""
    now = caller.services.clock()
    async with caller.transaction() as connection:
        row = await service.abort(connection, caller.principal, deployment_id, now, if_match)
        return await _shown(connection, row, response)


@router.post("/deployments/{deployment_id}/retry", status_code=202)
async def retry(caller: Operator, deployment_id: UUID, if_match: IfMatch, response: Response) -> Deployment:
    """Begin a new attempt of a deployment that failed, was aborted or rolled back."""
    room = await _capacity(caller)
    now = caller.services.clock()
    async with caller.transaction() as connection:
        row = await service.retry(connection, caller.principal, deployment_id, room, now, if_match)
        return await _shown(connection, row, response)


@router.post("/deployments/{deployment_id}/promote", status_code=202)
async def promote(caller: Operator, deployment_id: UUID, response: Response) -> Deployment:
    """Let a rollout go on at once."""
    return await _steer(caller, deployment_id, "promote", response)


@router.post("/deployments/{deployment_id}/pause", status_code=202)
async def pause(caller: Operator, deployment_id: UUID, response: Response) -> Deployment:
    """Hold a rollout at its present step."""
    return await _steer(caller, deployment_id, "pause", response)


@router.post("/deployments/{deployment_id}/resume", status_code=202)
async def resume(caller: Operator, deployment_id: UUID, response: Response) -> Deployment:
    """Let a paused rollout go on."""
    return await _steer(caller, deployment_id, "resume", response)


@router.get("/deployments/{deployment_id}/events")
async def events(caller: Viewer, deployment_id: UUID, paging: Paging) -> Page[DeploymentEvent]:
    """What happened to a deployment, newest first."""
    async with caller.transaction() as connection:
        one = await service.get(connection, deployment_id)
        rows = await store.events(connection, one.workspace_id, deployment_id, paging.before, paging.fetch)
    return paging.page(rows, lambda row: DeploymentEvent(**row), lambda row: row["id"])


@router.get("/deployments/{deployment_id}/replicas")
async def replicas(caller: Viewer, deployment_id: UUID) -> Page[Replica]:
    """The replicas of a deployment, in their order."""
    async with caller.transaction() as connection:
        await service.get(connection, deployment_id)
        rows = (await store.replicas(connection, [deployment_id]))[deployment_id]
    return Page(items=[Replica.model_validate(asdict(row)) for row in rows])


@router.get("/deployments/{deployment_id}/logs")
async def read_logs(
    caller: Operator,
    deployment_id: UUID,
    replica: Annotated[str | None, Query(description="Id or ordinal of a replica; all without it.")] = None,
    tail: Annotated[int, Query(ge=1, le=logs.MOST_LINES, description="Most lines of each replica.")] = 200,
) -> Page[ReplicaLog]:
    """The last lines that replicas wrote to standard output and error; those that run on this machine."""
    async with caller.transaction() as connection:
        await service.get(connection, deployment_id)
        rows = (await store.replicas(connection, [deployment_id]))[deployment_id]
    chosen = [row for row in rows if replica in (None, str(row.id), str(row.ordinal))]
    if replica is not None and not chosen:
        raise TrimtabError(Code.NOT_FOUND, f"The deployment has no replica {replica}.", "replica")
    data_dir = caller.services.settings.data_dir
    items = [
        ReplicaLog(replica_id=row.id, ordinal=row.ordinal, lines=logs.tail(data_dir, row.id, tail)) for row in chosen
    ]
    return Page(items=items)


async def _capacity(caller: Caller) -> Capacity:
    async with caller.system_transaction() as connection:
        return await service.capacity(connection)


async def _steer(caller: Caller, deployment_id: UUID, verb: str, response: Response) -> Deployment:
    async with caller.transaction() as connection:
        return await _shown(connection, await service.steer(connection, deployment_id, verb), response)


async def _shown(connection: Connection, row: Row, response: Response) -> Deployment:
    tag(response, row.version)
    return _document(row, await registry_link.version(connection, row.workspace_id, row.lifecycle_id))


def _document(row: Row, version: Version) -> Deployment:
    return Deployment.model_validate(
        {**asdict(row), "model_name": version.model_name, "version_tag": version.version_tag}
    )
