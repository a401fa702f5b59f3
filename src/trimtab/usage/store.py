"""SQL of usage and of the request log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from trimtab.db.database import Connection

COUNTERS = (
    "requests", "errors", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_nano",
)  # fmt: skip

DIMENSIONS: dict[str, tuple[str, dict[str, str], str]] = {
    "day": ("day", {}, ""),
    "model": ("model_id", {"model": "m.name"}, "left join public.ai_models m on m.id = used.model_id"),
    "version": (
        "lifecycle_id",
        {"version_tag": "l.version_tag"},
        "left join public.ai_model_lifecycle l on l.id = used.lifecycle_id",
    ),
    "deployment": (
        "deployment_id",
        {"deployment": "d.deployment_name"},
        "left join public.ai_model_deployments d on d.id = used.deployment_id",
    ),
    "key": ("api_key_id", {"key": "k.name"}, "left join trimtab.api_keys k on k.id = used.api_key_id"),
    "provider": ("provider", {}, ""),
    "upstream_model": ("upstream_model", {}, ""),
}
"""Dimension -> its column, the names that go with it, and where they come from."""

FILTERS = ("model_id", "lifecycle_id", "deployment_id", "api_key_id", "provider", "upstream_model")

REQUEST_COLUMNS = (
    "r.id, r.started_at, r.requested_model, r.environment, r.model_id, r.lifecycle_id, r.version_tag, r.deployment_id, "
    "r.variant, r.api_key_id, r.member_id, r.unit, r.provider, r.upstream_model, r.dialect, r.operation, r.streamed, "
    "r.status, r.error_code, r.finish_reason, r.client_gone, r.latency_us, r.ttft_us, r.input_tokens, "
    "r.cache_read_tokens, r.cache_write_tokens, r.output_tokens, r.reasoning_tokens, r.usage_source, r.cost_nano"
)
LIST_REQUESTS = f"""
select {REQUEST_COLUMNS} from trimtab.request_log r
where r.workspace_id = %(workspace_id)s
    and (%(before)s::uuid is null or r.id < %(before)s)
    and (%(until)s::timestamptz is null or r.started_at < %(until)s)
    and (%(deployment_id)s::uuid is null or r.deployment_id = %(deployment_id)s)
    and (%(status_from)s::int is null or r.status >= %(status_from)s)
    and (%(status_to)s::int is null or r.status < %(status_to)s)
    and (not %(errors)s or r.status >= 400 or r.error_code is not null)
order by r.id desc limit %(fetch)s
"""
# What served it, approved by whom, on which evidence: one query. The time in the id names the partition.
REQUEST = f"""
select {REQUEST_COLUMNS}, r.routing_revision, coalesce(r.attempts, '[]') as attempts,
    m.name as model, d.deployment_name as deployment, d.deployment_type, d.created_at as deployed_at,
    deployer.name as deployed_by, a.event as approval_status, a.actor_id as approver_id, a.actor_name as approver,
    a.at as approved_at, a.comment, a.evidence
from trimtab.request_log r
left join public.ai_models m on m.id = r.model_id
left join public.ai_model_deployments d on d.id = r.deployment_id
left join trimtab.members deployer on deployer.id = d.created_by
left join lateral (
    select e.event, e.actor_id, e.actor_name, e.at, e.comment, e.evidence from trimtab.lifecycle_events e
    where e.workspace_id = r.workspace_id and e.lifecycle_id = r.lifecycle_id
        and e.event in ('approved', 'conditional', 'rejected') and e.at <= r.started_at
    order by e.id desc limit 1
) a on true
where r.id = %s and r.workspace_id = %s and r.started_at >= %s and r.started_at < %s
"""


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A row of the request log, without where it came from."""

    id: UUID
    started_at: datetime
    requested_model: str
    environment: str | None
    model_id: UUID | None
    lifecycle_id: UUID | None
    version_tag: str | None
    deployment_id: UUID | None
    variant: str | None
    api_key_id: UUID | None
    member_id: UUID | None
    unit: str | None
    provider: str | None
    upstream_model: str | None
    dialect: str
    operation: str
    streamed: bool
    status: int
    error_code: str | None
    finish_reason: str | None
    client_gone: bool
    latency_us: int
    ttft_us: int | None
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    usage_source: str
    cost_nano: int


@dataclass(frozen=True, slots=True)
class RequestDetailRow(RequestRow):
    """A request with what served it and the approval it was served under."""

    routing_revision: int
    attempts: list[dict[str, Any]]
    model: str | None
    deployment: str | None
    deployment_type: str | None
    deployed_at: datetime | None
    deployed_by: str | None
    approval_status: str | None
    approver_id: UUID | None
    approver: str | None
    approved_at: datetime | None
    comment: str | None
    evidence: dict[str, Any] | None


async def usage(
    connection: Connection,
    workspace_id: UUID,
    start: date,
    end: date,
    group_by: Sequence[str],
    filters: dict[str, object],
    limit: int,
) -> list[dict[str, Any]]:
    """Summed usage by the dimensions `group_by`: by day, then the most expensive first. At most `limit` rows.

    Parameters:
        filters: column of FILTERS -> the value it must have.
    """
    columns = [DIMENSIONS[dimension][0] for dimension in group_by]
    names = {name: sql for dimension in group_by for name, sql in DIMENSIONS[dimension][1].items()}
    conditions = "".join(f" and {column} = %({column})s" for column in FILTERS if column in filters)
    sums = ", ".join(f"coalesce(sum({counter}), 0)::bigint as {counter}" for counter in COUNTERS)
    query = f"""
with used as (
    select {", ".join((*columns, sums))} from public.ai_model_usage_analytics
    where workspace_id = %(workspace_id)s and day >= %(start)s and day < %(end)s{conditions}
    {"group by " + ", ".join(columns) if columns else ""}
)
select {
        ", ".join((*(f"used.{c}" for c in (*columns, *COUNTERS)), *(f"{sql} as {name}" for name, sql in names.items())))
    }
from used {" ".join(DIMENSIONS[dimension][2] for dimension in group_by)}
order by {
        ", ".join(
            (
                *(["used.day"] if "day" in group_by else []),
                "used.cost_nano desc",
                "used.requests desc",
                *(f"used.{column}" for column in columns),
            )
        )
    }
limit %(limit)s
"""
    parameters = {**filters, "workspace_id": workspace_id, "start": start, "end": end, "limit": limit}
    async with connection.cursor(row_factory=dict_row) as cursor:
        # Every part of the text is one of the constants above.
        await cursor.execute(query.encode(), parameters)
        return await cursor.fetchall()


async def request(
    connection: Connection, workspace_id: UUID, request_id: UUID, since: datetime, until: datetime
) -> RequestDetailRow | None:
    """A request that began in [since, until); None when there is none."""
    async with connection.cursor(row_factory=class_row(RequestDetailRow)) as cursor:
        await cursor.execute(REQUEST.encode(), (request_id, workspace_id, since, until))
        return await cursor.fetchone()


async def requests(
    connection: Connection,
    workspace_id: UUID,
    *,
    before: UUID | None,
    until: datetime | None,
    deployment_id: UUID | None,
    status_from: int | None,
    status_to: int | None,
    errors: bool,
    fetch: int,
) -> list[RequestRow]:
    """Requests, newest first, at most `fetch`; None stands for any."""
    parameters = {
        "workspace_id": workspace_id, "before": before, "until": until, "deployment_id": deployment_id,
        "status_from": status_from, "status_to": status_to, "errors": errors, "fetch": fetch,
    }  # fmt: skip
    async with connection.cursor(row_factory=class_row(RequestRow)) as cursor:
        await cursor.execute(LIST_REQUESTS.encode(), parameters)
        return await cursor.fetchall()
