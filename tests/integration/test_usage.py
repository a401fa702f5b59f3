"""Usage and the request log over HTTP on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.metering import World, api_client, make_record, make_world

from trimtab.clock import system_clock
from trimtab.db.database import SYSTEM, Database
from trimtab.ids import new_id
from trimtab.metering.record import RequestRecord, Usage, encode_record
from trimtab.metering.shipper import Shipper
from trimtab.metering.spool import SpoolWriter
from trimtab.usage.routes import router


class System:
    """A workspace, its API, and a way to let requests happen."""

    def __init__(self, database: Database, world: World, client: httpx2.AsyncClient, root: Path) -> None:
        self.database, self.world, self.client, self.root = database, world, client, root
        self.now = system_clock()
        self.day = self.now.replace(hour=0, minute=0, second=0, microsecond=0)

    async def serve(self, *records: RequestRecord) -> None:
        writer = SpoolWriter(self.root)
        for record in records:
            writer.append(encode_record(record))
        await writer.close()
        shipper = Shipper(self.root, self.database, lambda: self.now)
        while await shipper.ship_once():
            pass

    async def get(self, path: str, **query: str) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def system(database: Database, tmp_path: Path) -> AsyncIterator[System]:
    world = await make_world(database)
    async with api_client(database, [router], system_clock, world.key) as client:
        yield System(database, world, client, tmp_path)


async def test_usage_by_any_dimension(system: System) -> None:
    world, day = system.world, system.day
    other_model = str(new_id())
    await system.serve(
        make_record(world, day, usage=Usage(10, 5, 2, 7, 3, "upstream"), cost_nano=1_000_000_001),
        make_record(world, day, status=500, cost_nano=0),
        make_record(world, day - timedelta(days=1), provider="anthropic", cost_nano=5),
        make_record(world, day - timedelta(days=2), model_id=other_model, deployment_id=None, lifecycle_id=None),
        make_record(world, day - timedelta(days=50)),
    )
    found = await system.get("/usage")
    assert [(i["model"], i["model_id"], i["requests"]) for i in found["items"]] == [
        ("assistant", str(world.model_id), 3),
        (None, other_model, 1),
    ]
    first = found["items"][0]
    assert first["cost_usd"] == "1.000000006"
    assert (first["errors"], first["input_tokens"], first["cache_read_tokens"]) == (1, 50, 5)
    assert (first["cache_write_tokens"], first["output_tokens"], first["reasoning_tokens"]) == (2, 67, 3)
    assert found["totals"]["requests"] == 4
    assert sum(Decimal(item["cost_usd"]) for item in found["items"]) == Decimal(found["totals"]["cost_usd"])
    assert found["next_cursor"] is None

    by_day = await system.get("/usage", group_by="day,provider", end=(day + timedelta(days=1)).isoformat())
    assert [(i["day"], i["provider"], i["requests"]) for i in by_day["items"]] == [
        ((day - timedelta(days=2)).date().isoformat(), "openai", 1),
        ((day - timedelta(days=1)).date().isoformat(), "anthropic", 1),
        (day.date().isoformat(), "openai", 2),
    ]
    names = (await system.get("/usage", group_by="deployment,version,key", model_id=str(world.model_id)))["items"]
    assert [(i["deployment"], i["version_tag"], i["key"], i["requests"]) for i in names] == [
        ("assistant v1.0.0", "v1.0.0", "laptop", 3)
    ]
    today = await system.get("/usage", start=day.isoformat(), provider="openai")
    assert today["totals"]["requests"] == 2
    long = await system.get("/usage", start=(day - timedelta(days=60)).isoformat())
    assert long["totals"]["requests"] == 5


async def test_usage_of_nothing(system: System) -> None:
    found = await system.get("/usage")
    assert (found["items"], found["totals"]["requests"], found["totals"]["cost_usd"]) == ([], 0, "0.000000000")


async def test_usage_that_cannot_be_answered(system: System) -> None:
    for query, field in (
        ({"group_by": "color"}, "group_by"),
        ({"start": "2026-03-14T00:00:00"}, "start"),
        ({"start": "2026-03-14T00:00:00Z", "end": "2026-03-13T00:00:00Z"}, "start"),
        ({"model_id": "assistant"}, "model_id"),
    ):
        answer = await system.client.get("/usage", params=query)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_what_served_a_request(system: System) -> None:
    world = system.world
    record = make_record(world, system.now + timedelta(seconds=1), attempts=2, cost_nano=1_234, variant="b")
    await system.serve(record, make_record(world, system.now))
    found = await system.get(f"/requests/{record.id}")
    assert found["id"] == record.id
    assert (found["model"], found["version_tag"], found["deployment"]) == ("assistant", "v1.0.0", "assistant v1.0.0")
    assert (found["status"], found["cost_usd"], found["variant"]) == (200, "0.000001234", "b")
    assert len(found["attempts"]) == 2
    approval = found["approval"]
    assert (approval["approval_status"], approval["approver"], approval["comment"]) == ("approved", "ada", "fine")
    assert (approval["approver_id"], approval["evidence"]) == (str(world.member_id), {"run": 7})


async def test_the_decision_in_force_when_a_request_came(system: System) -> None:
    world, minute = system.world, timedelta(minutes=1)
    async with system.database.transaction(SYSTEM) as connection:
        for after, event, name in ((2, "rejected", "bob"), (4, "conditional", "eve")):
            await connection.execute(
                "insert into trimtab.lifecycle_events (id, workspace_id, lifecycle_id, at, actor_name, event, comment) "
                "values (%s, %s, %s, %s, %s, %s, '')",
                (new_id(), world.workspace_id, world.lifecycle_id, system.now + after * minute, name, event),
            )
    records = [make_record(world, system.now + after * minute) for after in (1, 3, 5)]
    await system.serve(*records)
    found = [(await system.get(f"/requests/{record.id}"))["approval"] for record in records]
    assert [(one["approval_status"], one["approver"]) for one in found] == [
        ("approved", "ada"),
        ("rejected", "bob"),
        ("conditional", "eve"),
    ]


async def test_a_request_before_the_approval_has_none(system: System) -> None:
    early = make_record(system.world, system.now - timedelta(minutes=10))
    await system.serve(early)
    assert (await system.get(f"/requests/{early.id}"))["approval"] is None


async def test_unknown_requests(system: System) -> None:
    other = await make_world(system.database)
    record = make_record(other, system.now)
    await system.serve(record)
    for identifier in (new_id(), record.id, "00000000-0000-4000-8000-000000000000"):
        answer = await system.client.get(f"/requests/{identifier}")
        assert answer.status_code == 404
        assert "not shipped yet" in answer.json()["detail"]
    assert (await system.get("/requests"))["items"] == []


async def test_requests_newest_first_in_pages(system: System) -> None:
    world = system.world
    records = [make_record(world, system.now, status=status) for status in (200, 200, 404, 503, 200, 429)]
    broken = make_record(world, system.now, error_code="upstream_invalid")
    elsewhere = make_record(world, system.now, deployment_id=str(new_id()))
    await system.serve(*records, broken, elsewhere)
    expected = [record.id for record in (*records, broken, elsewhere)][::-1]
    seen: list[str] = []
    query = {"limit": "3"}
    while True:
        page = await system.get("/requests", **query)
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == expected

    async def ids(**query: str) -> list[str]:
        return [item["id"] for item in (await system.get("/requests", **query))["items"]]

    assert await ids(status="4xx") == [records[5].id, records[2].id]
    assert await ids(status="5xx") == [records[3].id]
    assert await ids(status="error") == [broken.id, records[5].id, records[3].id, records[2].id]
    assert await ids(deployment_id=str(elsewhere.deployment_id)) == [elsewhere.id]


async def test_times_are_told_in_utc(system: System) -> None:
    await system.serve(make_record(system.world, system.now))
    (item,) = (await system.get("/requests"))["items"]
    assert datetime.fromisoformat(item["started_at"]).utcoffset() == UTC.utcoffset(None)
