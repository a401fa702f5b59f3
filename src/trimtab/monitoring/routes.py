"""Monitoring over HTTP."""

from __future__ import annotations

from enum import Enum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query
from psycopg import errors

from trimtab.api.caller import Caller, Operator, Viewer
from trimtab.fields import Moment
from trimtab.monitoring import service, store
from trimtab.monitoring.plan import parse_step
from trimtab.monitoring.schemas import DeploymentHealth, MetricIn, MetricsIn, MetricsRecorded, MetricSummary

router = APIRouter()
METRICS: list[str | Enum] = ["metrics"]
DEPLOYMENTS: list[str | Enum] = ["deployments"]


@router.post("/metrics", status_code=201, tags=METRICS)
async def record(caller: Operator, body: Annotated[MetricsIn, Body()]) -> MetricsRecorded:
    """Record one custom value, or a list of up to 10,000; all are written, or none."""
    items = body if isinstance(body, list) else [body]
    try:
        ids = await _record(caller, items)
    except errors.CheckViolation as error:
        if error.diag.constraint_name is not None:
            raise
        # No partition takes the rows yet: the program makes it, for the caller may not.
        async with caller.system_transaction() as connection:
            await store.ensure_partitions(connection, service.days_of(items, caller.services.clock()))
        ids = await _record(caller, items)
    return MetricsRecorded(recorded=len(ids), ids=ids)


async def _record(caller: Caller, items: list[MetricIn]) -> list[UUID]:
    services = caller.services
    async with caller.transaction() as connection:
        return await service.record_metrics(
            connection, caller.principal.workspace_id, services.instance_id, items, services.clock()
        )


@router.get("/deployments/{deployment_id}/metrics", tags=DEPLOYMENTS)
async def metrics(
    caller: Viewer,
    deployment_id: UUID,
    start: Annotated[Moment | None, Query(description="Begin, RFC 3339; an hour before `end` by default.")] = None,
    end: Annotated[Moment | None, Query(description="End, not included; now by default.")] = None,
    step: Annotated[str | None, Query(description="Length of a step: seconds, or 5m, 1h, 1d.", max_length=12)] = None,
) -> dict[str, MetricSummary]:
    """What a deployment did, by metric: those the gateway measures, and custom ones."""
    seconds = None if step is None else parse_step(step)
    async with caller.transaction() as connection:
        return await service.deployment_metrics(connection, deployment_id, start, end, seconds, caller.services.clock())


@router.get("/deployments/{deployment_id}/health", tags=DEPLOYMENTS)
async def health(caller: Viewer, deployment_id: UUID) -> DeploymentHealth:
    """The health of a deployment over the last five minutes, with reasons."""
    async with caller.transaction() as connection:
        return await service.deployment_health(connection, deployment_id, caller.services.clock())
