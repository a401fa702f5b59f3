"""What monitoring does: records custom metrics, answers what a deployment did and how it is."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import cast
from uuid import UUID

from trimtab.db.database import Connection
from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id
from trimtab.metering.compaction import KEEP_HOURS, MINUTE_RETENTION_DAYS
from trimtab.metering.histogram import of_values
from trimtab.metering.shipment import kept_from
from trimtab.monitoring import store, summary
from trimtab.monitoring.health import Observed, Status, judge
from trimtab.monitoring.plan import Plan, floor, make_plan
from trimtab.monitoring.schemas import DeploymentHealth, HealthCheck, MetricIn, MetricSummary

EARLY = timedelta(minutes=10)
"""How far ahead of ours a reporter's clock may be."""

HEALTH_WINDOW = timedelta(minutes=5)
SHOWN_PROBLEMS = 100


def days_of(items: Sequence[MetricIn], now: datetime) -> list[date]:
    """The days (UTC) whose partitions `items` need."""
    return sorted({(item.recorded_at or now).astimezone(UTC).date() for item in items})


async def record_metrics(
    connection: Connection, workspace_id: UUID, source_id: UUID, items: Sequence[MetricIn], now: datetime
) -> list[UUID]:
    """Write custom values and count them; all or none. Answers their ids.

    Parameters:
        source_id: of this process: it alone writes the rollup rows of that source.

    Raises:
        TrimtabError: INVALID_REQUEST for times out of range, NOT_FOUND for unknown deployments; `errors` names each.
    """
    _check_times(items, now)
    await _check_deployments(connection, items)
    ids = [new_id() for _ in items]
    times = [(item.recorded_at or now).astimezone(UTC) for item in items]
    await store.insert_metrics(
        connection,
        workspace_id,
        (
            ids,
            [item.deployment_id for item in items],
            [item.metric_type for item in items],
            [item.metric_value for item in items],
            [item.metric_unit for item in items],
            times,
            [json.dumps(item.metadata) if item.metadata else "{}" for item in items],
        ),
    )
    await store.add_metric_minutes(connection, workspace_id, source_id, _minutes(items, times))
    return ids


async def deployment_metrics(
    connection: Connection,
    deployment_id: UUID,
    start: datetime | None,
    end: datetime | None,
    step: int | None,
    now: datetime,
) -> dict[str, MetricSummary]:
    """What a deployment did in [start, end), by default in the last hour, in steps of `step` seconds.

    Raises:
        TrimtabError: NOT_FOUND, or INVALID_REQUEST for a range or step that cannot be answered.
    """  # fmt: skip
    row = await store.deployment(connection, deployment_id)
    if row is None:
        raise _no_such_deployment(deployment_id)
    end = end or now
    plan = _plan(start or end - timedelta(hours=1), end, step, now)
    requests = await store.requests_by_step(connection, row, plan)
    # Of a range that goes on, rates speak of the part that has been.
    seconds = max((min(plan.end, max(now, plan.start)) - plan.start).total_seconds(), 1.0)
    own = summary.built_in(requests, plan.step, seconds)
    return summary.together(own, summary.custom(await store.metrics_by_step(connection, row, plan)))


async def deployment_health(connection: Connection, deployment_id: UUID, now: datetime) -> DeploymentHealth:
    """The health of a deployment over the last five minutes. Raises TrimtabError (NOT_FOUND)."""
    row = await store.deployment(connection, deployment_id)
    if row is None:
        raise _no_such_deployment(deployment_id)
    window = floor(now, 60) - HEALTH_WINDOW, now
    steps = await store.requests_by_step(connection, row, _plan(*window, 300, now))
    verdict = judge(
        cast(Status, row.status),
        row.status_reason,
        row.wanted,
        row.ready,
        row.performance_requirements,
        _observed(summary.built_in(steps, 300, HEALTH_WINDOW.total_seconds())),
    )
    return DeploymentHealth(
        deployment_id=deployment_id,
        status=verdict.status,
        reasons=list(verdict.reasons),
        checks=[HealthCheck(**asdict(check)) for check in verdict.checks],
        window_start=window[0],
        window_end=window[1],
    )


def _plan(start: datetime, end: datetime, step: int | None, now: datetime) -> Plan:
    minutes_from = datetime.combine(
        kept_from(now.astimezone(UTC).date(), MINUTE_RETENTION_DAYS), datetime.min.time(), UTC
    )
    return make_plan(start, end, step, minutes_from, floor(now - KEEP_HOURS, 86_400) + timedelta(days=1))


def _observed(metrics: dict[str, MetricSummary]) -> Observed:
    if not metrics:
        return Observed(0, 0, 0, None, 0, None, None)
    errors, cost = metrics["error_rate"].total, metrics["cost"].mean
    return Observed(
        requests=metrics["requests"].count,
        errors=int(errors or 0),
        answered=metrics["latency"].count,
        latency_p95=metrics["latency"].p95,
        streamed=metrics["ttft"].count,
        ttft_p95=metrics["ttft"].p95,
        cost_per_request=None if cost is None else float(cost),
    )


def _check_times(items: Sequence[MetricIn], now: datetime) -> None:
    earliest = now - timedelta(days=MINUTE_RETENTION_DAYS - 1)
    problems = []
    for index, item in enumerate(items):
        if item.recorded_at is None:
            continue
        if item.recorded_at > now + EARLY:
            problems.append((f"metrics.{index}.recorded_at", "Lies in the future; look at the reporter's clock."))
        elif item.recorded_at < earliest:
            detail = (
                f"Lies before {earliest:%Y-%m-%d %H:%M} UTC; values are taken {MINUTE_RETENTION_DAYS - 1} days late."
            )
            problems.append((f"metrics.{index}.recorded_at", detail))
    _refuse(Code.INVALID_REQUEST, problems, "have a time that is not taken; nothing was written")


async def _check_deployments(connection: Connection, items: Sequence[MetricIn]) -> None:
    wanted = {item.deployment_id for item in items}
    known = await store.known_deployments(connection, sorted(wanted))
    problems = [
        (f"metrics.{index}.deployment_id", f"There is no deployment {item.deployment_id} in this workspace.")
        for index, item in enumerate(items)
        if item.deployment_id not in known
    ]
    _refuse(Code.NOT_FOUND, problems, "name an unknown deployment; nothing was written")


def _refuse(code: Code, problems: Sequence[tuple[str, str]], what: str) -> None:
    if not problems:
        return
    field, detail = problems[0]
    listed = [{"field": field, "detail": detail} for field, detail in problems[:SHOWN_PROBLEMS]]
    raise TrimtabError(code, f"{len(problems)} of the values {what}. {field}: {detail}", field, {"errors": listed})


def _minutes(items: Sequence[MetricIn], times: Sequence[datetime]) -> list[store.MetricMinute]:
    groups: dict[tuple[UUID, str, datetime], list[MetricIn]] = defaultdict(list)
    for item, at in zip(items, times, strict=True):
        groups[item.deployment_id, item.metric_type, at.replace(second=0, microsecond=0)].append(item)
    rows = []
    for (deployment_id, metric_type, bucket), group in groups.items():
        values = [item.metric_value for item in group]
        rows.append(
            store.MetricMinute(
                deployment_id,
                metric_type,
                bucket,
                group[-1].metric_unit,
                len(values),
                sum(values),
                min(values),
                max(values),
                of_values(values),
            )
        )
    return rows


def _no_such_deployment(deployment_id: UUID) -> TrimtabError:
    return TrimtabError(Code.NOT_FOUND, f"There is no deployment {deployment_id} in this workspace.", "deployment_id")
