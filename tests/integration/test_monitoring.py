"""Custom metrics in, deployment metrics and health out, over HTTP on a real PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from tests.metering import World, api_client, make_record, make_world, random_records

from trimtab.db.database import SYSTEM, Database
from trimtab.metering.compaction import MINUTE_RETENTION_DAYS, compact
from trimtab.metering.record import RequestRecord, encode_record
from trimtab.metering.shipper import Shipper
from trimtab.metering.spool import SpoolWriter
from trimtab.monitoring.routes import router

NOW = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
REQUIREMENTS: dict[str, object] = {"error_rate": 0.1, "latency_threshold": 400, "ttft_threshold": 100}


class System:
    """A workspace, its API, and a way to let requests happen."""

    def __init__(self, database: Database, world: World, client: httpx2.AsyncClient, root: Path) -> None:
        self.database, self.world, self.client, self.root = database, world, client, root
        self.path = f"/deployments/{world.deployment_id}"

    async def serve(self, records: list[RequestRecord]) -> None:
        writer = SpoolWriter(self.root)
        for record in records:
            writer.append(encode_record(record))
        await writer.close()
        shipper = Shipper(self.root, self.database, at_now)
        while await shipper.ship_once():
            pass

    async def metrics(self, start: datetime, end: datetime, step: str | None = None) -> dict[str, Any]:
        query = {"start": start.isoformat(), "end": end.isoformat()} | ({} if step is None else {"step": step})
        answer = await self.client.get(f"{self.path}/metrics", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def record(self, body: object) -> httpx2.Response:
        return await self.client.post("/metrics", json=body)

    async def health(self) -> dict[str, Any]:
        answer = await self.client.get(f"{self.path}/health")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def value(self, **changes: object) -> dict[str, object]:
        return {
            "deployment_id": str(self.world.deployment_id), "metric_type": "accuracy", "metric_value": 0.5,
        } | changes  # fmt: skip


def at_now() -> datetime:
    return NOW


@pytest.fixture
async def system(database: Database, tmp_path: Path) -> AsyncIterator[System]:
    world = await make_world(database, REQUIREMENTS)
    async with api_client(database, [router], at_now, world.key) as client:
        yield System(database, world, client, tmp_path)


def percentile(values: list[float], fraction: float) -> float:
    ordered = sorted(values)
    return ordered[math.ceil(fraction * len(ordered) * (1 - 1e-12)) - 1]


@pytest.mark.parametrize("compacted", ["never", "fully", "partly"])
async def test_any_range_and_step_counts_each_request_once(system: System, compacted: str) -> None:
    begin = NOW - timedelta(hours=60)
    records = random_records(system.world, 1, 1_500, begin, timedelta(hours=60))
    await system.serve(records[:1_000])
    if compacted != "never":
        await compact(system.database, at_now)
    await system.serve(records[1_000:])
    if compacted == "fully":
        await compact(system.database, at_now)
    whole = (begin.replace(minute=30, second=0), NOW + timedelta(minutes=1))
    part = (NOW - timedelta(hours=31, minutes=7), NOW - timedelta(minutes=50))
    cases = [(step, *part) for step in (None, "60", "5m", "1h", "3h", "1d", "7d")]
    cases += [(step, *whole) for step in (None, "5m", "1h", "1d", "7d")]
    for step, start, end in cases:
        # Answers are for whole minutes.
        first, last = start.replace(second=0), (end + timedelta(seconds=59)).replace(second=0)
        last = last if end.second else end
        among = [r for r in records if first.timestamp() <= r.started_us / 1e6 < last.timestamp()]
        answered = [r.latency_us / 1e3 for r in among if r.status == 200]
        found = await system.metrics(start, end, step)
        assert found["requests"]["total"] == len(among)
        assert found["latency"]["count"] == len(answered)
        assert found["latency"]["mean"] == pytest.approx(sum(answered) / len(answered))
        for name, fraction in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            assert found["latency"][name] == pytest.approx(percentile(answered, fraction), rel=0.0101)
        for metric in ("requests", "latency", "output_tokens"):
            series = found[metric]["series"]
            assert sum(point["count"] for point in series) == found[metric]["count"]
            assert [p["t"] for p in series] == sorted({p["t"] for p in series})
        assert found["cost"]["total"] == f"{sum(r.cost_nano for r in among) / 1e9:.9f}"


async def test_what_the_metrics_are(system: System) -> None:
    at = NOW - timedelta(minutes=10)
    world = system.world
    await system.serve(
        [
            make_record(world, at, latency_ms=1090, ttft_ms=90, cost_nano=2_500_000),  # 29 tokens in one second
            make_record(world, at, latency_ms=600),  # 30 tokens in 0.6 s
            make_record(world, at, status=502, error_code="upstream_unavailable", attempts=3, cost_nano=0),
            make_record(world, at, status=400, cost_nano=0),
            make_record(world, at, client_gone=True, status=200),
        ]
    )
    found = await system.metrics(NOW - timedelta(hours=1), NOW)
    assert (found["requests"]["unit"], found["requests"]["total"]) == ("requests", 5)
    assert found["throughput"]["mean"] == pytest.approx(5 / 3_600, rel=0.02)
    assert found["error_rate"]["mean"] == pytest.approx(0.2)
    assert found["client_errors"]["total"] == found["clients_gone"]["total"] == 1
    assert found["retries"]["total"] == 2
    assert found["latency"]["count"] == 2
    assert found["ttft"]["p50"] == pytest.approx(90, rel=0.01)
    assert found["tokens_per_second"]["mean"] == pytest.approx(59 / 1.6)
    assert found["tokens_per_second"]["max"] == pytest.approx(50, rel=0.01)
    assert found["input_tokens"]["mean"] == 20
    assert (found["cost"]["unit"], found["cost"]["total"]) == ("USD", "0.002503000")
    assert await system.metrics(NOW - timedelta(hours=3), NOW - timedelta(hours=2)) == {}


async def test_old_ranges_are_answered_by_hours(system: System) -> None:
    old = NOW - timedelta(days=20)
    await system.serve(random_records(system.world, 4, 50, old, timedelta(hours=2)))
    found = await system.metrics(old, old + timedelta(hours=3))
    assert found["requests"]["total"] == 50
    answer = await system.client.get(f"{system.path}/metrics", params={"start": old.isoformat(), "step": "5m"})
    assert (answer.status_code, answer.json()["field"]) == (422, "step")
    assert "an hour are kept" in answer.json()["detail"]


async def test_ranges_that_cannot_be_answered(system: System) -> None:
    for query, field in (
        ({"start": "2026-03-14T00:00:00"}, "start"),
        ({"start": "2026-03-15T00:00:00Z", "end": "2026-03-14T00:00:00Z"}, "start"),
        ({"step": "90"}, "step"),
        ({"step": "fast"}, "step"),
        ({"start": "2026-03-10T00:00:00Z", "step": "1m"}, "step"),
    ):
        answer = await system.client.get(f"{system.path}/metrics", params=query)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_unknown_deployments(system: System) -> None:
    for what in ("metrics", "health"):
        assert (await system.client.get(f"/deployments/{uuid4()}/{what}")).status_code == 404


async def test_custom_metrics_in_and_out(system: System) -> None:
    values = [0.1 * n - 2 for n in range(100)]
    batch = [
        system.value(metric_value=value, metric_unit="points", recorded_at=(NOW - timedelta(hours=2 + n)).isoformat())
        for n, value in enumerate(values)
    ]
    answer = await system.record(batch)
    assert answer.status_code == 201, answer.text
    assert answer.json()["recorded"] == len(set(answer.json()["ids"])) == 100
    assert (await system.record(system.value(metric_type="latency", metadata={"by": "hand"}))).status_code == 201
    for _ in range(2):
        found = await system.metrics(NOW - timedelta(hours=102), NOW + timedelta(minutes=1), "1h")
        accuracy = found["accuracy"]
        assert (accuracy["unit"], accuracy["count"], len(accuracy["series"])) == ("points", 100, 100)
        assert (accuracy["min"], accuracy["max"]) == (min(values), max(values))
        assert accuracy["mean"] == pytest.approx(sum(values) / 100)
        assert accuracy["p50"] == pytest.approx(percentile(values, 0.5), rel=0.0101)
        assert found["latency"] == found["custom.latency"]
        await compact(system.database, at_now)
    async with system.database.transaction(SYSTEM) as connection:
        rows = await connection.execute("select count(*), count(distinct id) from public.ai_model_performance_metrics")
        assert await rows.fetchone() == (101, 101)


async def test_ten_thousand_at_once(system: System) -> None:
    answer = await system.record([system.value(metric_value=n, metric_type=f"m{n % 7}") for n in range(10_000)])
    assert answer.json()["recorded"] == 10_000
    found = await system.metrics(NOW - timedelta(hours=1), NOW + timedelta(minutes=1))
    assert sum(summary["count"] for summary in found.values()) == 10_000
    assert (await system.record([system.value()] * 10_001)).status_code == 422


async def test_one_bad_value_and_none_is_written(system: System) -> None:
    bad: list[tuple[dict[str, object], int, str]] = [
        ({"deployment_id": str(uuid4())}, 404, "metrics.1.deployment_id"),
        ({"metric_value": "much"}, 422, "metrics.1.metric_value"),
        ({"metric_value": 1e305}, 422, "metrics.1.metric_value"),
        ({"metric_value": None}, 422, "metrics.1.metric_value"),
        ({"metric_type": ""}, 422, "metrics.1.metric_type"),
        ({"metric_type": "a\0b"}, 422, "metrics.1.metric_type"),
        ({"recorded_at": "2026-03-14T12:00:00"}, 422, "metrics.1.recorded_at"),
        ({"recorded_at": "2026-03-14T13:00:00Z"}, 422, "metrics.1.recorded_at"),
        ({"recorded_at": "2026-03-01T13:00:00Z"}, 422, "metrics.1.recorded_at"),
        ({"value": 1}, 422, "metrics.1.value"),
        ({"metadata": [1]}, 422, "metrics.1.metadata"),
    ]
    for changes, status, field in bad:
        answer = await system.record([system.value(), system.value(**changes), system.value()])
        assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
        assert answer.json()["errors"][0]["detail"]
    assert await system.metrics(NOW - timedelta(hours=1), NOW + timedelta(minutes=1)) == {}


async def test_nan_is_refused(system: System) -> None:
    body = f'{{"deployment_id": "{system.world.deployment_id}", "metric_type": "a", "metric_value": NaN}}'
    answer = await system.client.post("/metrics", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


async def test_another_workspace_sees_and_writes_nothing(system: System) -> None:
    await system.serve([make_record(system.world, NOW)])
    other = await make_world(system.database)
    async with api_client(system.database, [router], at_now, other.key) as client:
        assert (await client.get(f"{system.path}/metrics")).status_code == 404
        assert (await client.get(f"{system.path}/health")).status_code == 404
        assert (await client.post("/metrics", json=system.value())).status_code == 404


async def test_health_follows_the_requirements(system: System) -> None:
    def state(found: dict[str, Any], name: str) -> Any:
        return next(check["state"] for check in found["checks"] if check["name"] == name)

    world, at = system.world, NOW - timedelta(minutes=2)
    quiet = await system.health()
    assert (quiet["status"], quiet["reasons"]) == ("healthy", [])
    assert state(quiet, "error_rate") == state(quiet, "latency_threshold") == "insufficient_data"

    await system.serve([make_record(world, at, latency_ms=300, ttft_ms=50) for _ in range(30)])
    good = await system.health()
    assert (good["status"], good["reasons"]) == ("healthy", [])
    assert {check["state"] for check in good["checks"]} == {"passed"}

    await system.serve([make_record(world, at, latency_ms=900, ttft_ms=50) for _ in range(5)])
    slow = await system.health()
    assert slow["status"] == "unhealthy"
    assert state(slow, "latency_threshold") == "failed"
    assert state(slow, "error_rate") == "passed"
    assert len(slow["reasons"]) == 1
    assert "p95 latency is 90" in slow["reasons"][0]

    await system.serve([make_record(world, at, status=500, error_code="upstream_unavailable") for _ in range(5)])
    assert state(await system.health(), "error_rate") == "failed"


async def test_health_of_a_deployment_that_has_ended(system: System) -> None:
    async with system.database.transaction(SYSTEM) as connection:
        await connection.execute(
            "update public.ai_model_deployments set status = 'failed', status_reason = 'no replica came up'"
        )
    found = await system.health()
    assert (found["status"], found["reasons"]) == ("failed", ["no replica came up"])


async def test_retention_is_what_readers_believe(database: Database) -> None:
    async with database.transaction(SYSTEM) as connection:
        rows = await connection.execute(
            "select distinct retention_days from trimtab.partitioned_tables where table_name like '%rollup_minute'"
        )
        assert await rows.fetchall() == [(MINUTE_RETENTION_DAYS,)]
