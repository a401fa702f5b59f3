"""SQL of monitoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from trimtab.db.database import Connection
from trimtab.metering.compaction import FAMILIES, NOBODY, Family
from trimtab.metering.rollup import COUNTERS, HISTOGRAMS
from trimtab.monitoring.plan import Plan

DEPLOYMENT = """
select d.id, d.workspace_id, d.status, d.status_reason, d.replicas, l.performance_requirements,
    (select count(*) from trimtab.replicas r where r.deployment_id = d.id and r.desired = 'running') as wanted,
    (select count(*) from trimtab.replicas r where r.deployment_id = d.id and r.desired = 'running'
        and r.status = 'ready') as ready
from public.ai_model_deployments d join public.ai_model_lifecycle l on l.id = d.lifecycle_id
where d.id = %s
"""
KNOWN_DEPLOYMENTS = "select id, workspace_id from public.ai_model_deployments where id = any(%s)"
ENSURE_PARTITION = "select trimtab.ensure_partition(%s, %s)"
INSERT_METRICS = """
insert into public.ai_model_performance_metrics
    (id, workspace_id, deployment_id, metric_type, metric_value, metric_unit, recorded_at, metadata)
select id, %s, deployment_id, metric_type, metric_value, metric_unit, recorded_at, metadata::jsonb
from unnest(%s::uuid[], %s::uuid[], %s::text[], %s::float8[], %s::text[], %s::timestamptz[], %s::text[])
    as m (id, deployment_id, metric_type, metric_value, metric_unit, recorded_at, metadata)
"""
ADD_METRIC_MINUTES = """
insert into trimtab.metric_rollup_minute as r
    (workspace_id, source_id, deployment_id, metric_type, bucket, metric_unit, count, sum, min, max, hist)
select %s, %s, m.* from unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %s::bigint[], %s::float8[],
    %s::float8[], %s::float8[], %s::bytea[]) as m
on conflict (deployment_id, metric_type, bucket, source_id) do update set metric_unit = excluded.metric_unit,
    count = r.count + excluded.count, sum = r.sum + excluded.sum, min = least(r.min, excluded.min),
    max = greatest(r.max, excluded.max), hist = r.hist || excluded.hist
"""
ADD_DIRTY = """
insert into trimtab.rollup_dirty (workspace_id, family, grain, bucket)
select %s, 'metric', 'hour', b from unnest(%s::timestamptz[]) b
"""


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """A deployment as health sees it; `wanted` and `ready` count its replicas."""

    id: UUID
    workspace_id: UUID
    status: str
    status_reason: str
    replicas: int
    performance_requirements: dict[str, Any]
    wanted: int
    ready: int


@dataclass(frozen=True, slots=True)
class MetricMinute:
    """Custom values of one deployment, metric and minute."""

    deployment_id: UUID
    metric_type: str
    bucket: datetime
    metric_unit: str
    count: int
    sum: float
    min: float
    max: float
    hist: bytes


def _range_query(family: Family, key: Sequence[str], chosen: str) -> str:
    """SQL that merges one family's rows by step.

    A bucket whose rollup is behind is listed in `rollup_dirty` and answered by finer rows instead; both are read by
    this one statement, so in one snapshot.
    """
    prefix = f"trimtab.{family.prefix}"
    columns = ", ".join((*key, "bucket", *family.merged, *family.histograms))
    merged = [f"{sql} as {column}" for column, sql in family.merged.items()]
    histograms = [f"string_agg({h}, ''::bytea) as {h}" for h in family.histograms]
    minutes = ", ".join(f"m.{column}" for column in columns.split(", "))
    return f"""
with chosen as materialized ({chosen}),
dirty as materialized (
    select distinct grain, bucket from trimtab.rollup_dirty
    where workspace_id = %(workspace_id)s and family = %(family)s and bucket >= %(day_of_start)s and bucket < %(end)s
),
dirty_hours as (select bucket from dirty where grain = 'hour'),
dirty_days as (select distinct date_trunc('day', bucket, 'UTC') as bucket from dirty),
found as (
    select {columns} from {prefix}_minute where {{match}}
        and ((bucket >= %(start)s and bucket < %(hour_from)s) or (bucket >= %(hour_to)s and bucket < %(end)s))
    union all
    select {minutes} from dirty_hours d
        join {prefix}_minute m on m.bucket >= d.bucket and m.bucket < d.bucket + interval '1 hour'
        where m.{{match}} and d.bucket >= %(hour_from)s and d.bucket < %(hour_to)s
            and m.bucket >= %(hour_from)s and m.bucket < %(hour_to)s
    union all
    select {columns} from {prefix}_hour where {{match}}
        and bucket >= %(hour_from)s and bucket < %(hour_to)s
        and (bucket < %(day_from)s or bucket >= %(day_to)s
            or date_trunc('day', bucket, 'UTC') in (select bucket from dirty_days))
        and (source_id <> %(nobody)s or bucket not in (select bucket from dirty_hours))
    union all
    select {columns} from {prefix}_day where {{match}}
        and bucket >= %(day_from)s and bucket < %(day_to)s and bucket not in (select bucket from dirty_days)
)
select (floor(extract(epoch from bucket) / %(step)s) * %(step)s)::bigint as t,
    {", ".join((*key, *merged, *histograms))}
from found group by {", ".join(("t", *key))} order by t
"""


REQUEST_RANGE = _range_query(
    # Which series a row came from does not matter here.
    FAMILIES["request"],
    (),
    "select id from trimtab.series where deployment_id = %(deployment_id)s",
).replace("{match}", "series_id = any(array(select id from chosen))")
METRIC_RANGE = _range_query(FAMILIES["metric"], ("metric_type",), "select %(deployment_id)s::uuid as id").replace(
    "{match}", "deployment_id = any(array(select id from chosen))"
)


@dataclass(frozen=True, slots=True)
class RequestStep:
    """Merged counts of requests over one step that begins at `t` (Unix seconds)."""

    t: int
    counts: dict[str, int]
    histograms: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class MetricStep:
    """Merged values of one custom metric over one step that begins at `t` (Unix seconds)."""

    t: int
    metric_type: str
    metric_unit: str
    count: int
    sum: float
    min: float
    max: float
    hist: bytes


async def deployment(connection: Connection, deployment_id: UUID) -> DeploymentRow | None:
    """A deployment of the workspace; None when there is none of that id."""
    async with connection.cursor(row_factory=class_row(DeploymentRow)) as cursor:
        return await (await cursor.execute(DEPLOYMENT, (deployment_id,))).fetchone()


async def known_deployments(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of `ids` that are deployments of the workspace."""
    return {row[0] for row in await (await connection.execute(KNOWN_DEPLOYMENTS, (list(ids),))).fetchall()}


async def requests_by_step(connection: Connection, row: DeploymentRow, plan: Plan) -> list[RequestStep]:
    """The requests of a deployment, oldest step first; steps without a request are left out."""
    parameters = _parameters("request", row, plan)
    steps = await (await connection.execute(REQUEST_RANGE.encode(), parameters)).fetchall()
    split = 1 + len(COUNTERS)
    return [
        RequestStep(
            step[0], dict(zip(COUNTERS, step[1:split], strict=True)), dict(zip(HISTOGRAMS, step[split:], strict=True))
        )
        for step in steps
    ]


async def metrics_by_step(connection: Connection, row: DeploymentRow, plan: Plan) -> list[MetricStep]:
    """The custom metrics of a deployment, oldest step first."""
    async with connection.cursor(row_factory=class_row(MetricStep)) as cursor:
        await cursor.execute(METRIC_RANGE.encode(), _parameters("metric", row, plan))
        return await cursor.fetchall()


async def ensure_partitions(connection: Connection, days: Sequence[date]) -> None:
    """Make the partitions of `days` for custom metrics; only the program itself may."""
    for table in ("public.ai_model_performance_metrics", "trimtab.metric_rollup_minute"):
        for day in days:
            await connection.execute(ENSURE_PARTITION, (table, day))


async def insert_metrics(connection: Connection, workspace_id: UUID, columns: Sequence[Sequence[object]]) -> None:
    """Write raw values. `columns`: ids, deployment ids, types, values, units, times, metadata as JSON texts."""
    await connection.execute(INSERT_METRICS, (workspace_id, *columns))


async def add_metric_minutes(
    connection: Connection, workspace_id: UUID, source_id: UUID, rows: Sequence[MetricMinute]
) -> None:
    """Count values into their minutes, in an order that all writers share, and list their hours as behind."""
    ordered = sorted(rows, key=lambda row: (row.deployment_id, row.metric_type, row.bucket))
    names = ("deployment_id", "metric_type", "bucket", "metric_unit", "count", "sum", "min", "max", "hist")
    columns = [[getattr(row, name) for row in ordered] for name in names]
    await connection.execute(ADD_METRIC_MINUTES, (workspace_id, source_id, *columns))
    hours = sorted({row.bucket.replace(minute=0) for row in ordered})
    await connection.execute(ADD_DIRTY, (workspace_id, hours))


def _parameters(family: str, row: DeploymentRow, plan: Plan) -> dict[str, object]:
    return {
        "family": family,
        "workspace_id": row.workspace_id,
        "deployment_id": row.id,
        "nobody": NOBODY,
        "start": plan.start,
        "end": plan.end,
        "step": plan.step,
        "hour_from": plan.hour_from,
        "hour_to": plan.hour_to,
        "day_from": plan.day_from,
        "day_to": plan.day_to,
        "day_of_start": plan.start.replace(hour=0, minute=0),
    }
