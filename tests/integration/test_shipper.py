"""The shipper against a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.metering import make_record, make_world, random_records

from trimtab.clock import system_clock
from trimtab.db.database import SYSTEM, Database
from trimtab.metering import spool
from trimtab.metering.record import encode_record
from trimtab.metering.shipment import Load, PositionMovedError, Shipments
from trimtab.metering.shipper import Shipper, lock_spools
from trimtab.metering.spool import Position, SpoolWriter, list_spools

NOW = datetime(2026, 3, 14, 12, 30, tzinfo=UTC)


def at_now() -> datetime:
    return NOW


async def one(database: Database, query: str, *parameters: object) -> tuple[Any, ...]:
    async with database.transaction(SYSTEM) as connection:
        row = await (await connection.execute(query.encode(), parameters)).fetchone()
    assert row is not None
    return row


async def ship_all(shipper: Shipper) -> int:
    total = 0
    while shipped := await shipper.ship_once():
        total += shipped
    return total


async def test_rows_rollups_and_usage_agree(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    records = random_records(world, 1, 1_200, NOW - timedelta(hours=2), timedelta(hours=2))
    writers = [SpoolWriter(tmp_path), SpoolWriter(tmp_path)]
    for index, record in enumerate(records):
        writers[index % 2].append(encode_record(record))
    shipper = Shipper(tmp_path, database, at_now, batch=500)
    assert await ship_all(shipper) == 1_200
    assert shipper.totals.records == 1_200

    sums = (
        sum(r.usage.input for r in records),
        sum(r.usage.output for r in records),
        sum(r.cost_nano for r in records),
    )
    log = await one(
        database,
        "select count(*), count(distinct id), sum(input_tokens), sum(output_tokens), sum(cost_nano) "
        "from trimtab.request_log",
    )
    assert log == (1_200, 1_200, *sums)
    rollup = await one(
        database,
        "select sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nano), "
        "sum(latency_count), sum(errors_client), sum(errors_upstream) from trimtab.rollup_minute",
    )
    failed = [sum(r.status == 400 for r in records), sum(r.status in (429, 502) for r in records)]
    assert rollup == (1_200, *sums, 1_200 - sum(failed), *failed)
    usage = await one(
        database,
        "select sum(requests), sum(input_tokens), sum(output_tokens), sum(cost_nano), sum(errors) "
        "from public.ai_model_usage_analytics",
    )
    assert usage == (1_200, *sums, sum(failed))
    for writer in writers:
        await writer.close()
    shipper.close()


async def test_a_row_is_the_record(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    record = make_record(
        world, NOW, latency_ms=812.5, ttft_ms=90, attempts=2, unit="user \0 7", variant="b", finish_reason="length",
        requested_model="assistant@\0staging",
    )  # fmt: skip
    writer = SpoolWriter(tmp_path)
    place = writer.append(encode_record(record))
    shipper = Shipper(tmp_path, database, at_now)
    await ship_all(shipper)
    row = await one(
        database,
        "select id::text, workspace_id, started_at, api_key_id, member_id, unit, requested_model, model_id, "
        "lifecycle_id, deployment_id, variant, routing_revision, streamed, status, error_code, finish_reason, "
        "client_gone, latency_us, ttft_us, input_tokens, output_tokens, usage_source, cost_nano, attempts, "
        "spool_id, spool_segment, spool_offset"
        " from trimtab.request_log",
    )
    attempt = {
        "deployment_id": str(world.deployment_id), "target": "http://127.0.0.1:9000/v1", "status": 200,
        "error_code": None, "duration_us": 812_500,
    }  # fmt: skip
    assert row == (
        record.id, world.workspace_id, NOW, world.api_key_id, world.member_id, "user \ufffd 7",
        "assistant@\ufffdstaging", world.model_id, world.lifecycle_id, world.deployment_id, "b", 3, True, 200, None,
        "length", False, 812_500, 90_000, 20, 30, "upstream", 1_500, [attempt, attempt], writer.id, *place,
    )  # fmt: skip
    await writer.close()


async def test_what_is_no_record_is_counted_and_passed(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    elsewhere = await make_world(database)
    async with database.transaction(SYSTEM) as connection:
        await connection.execute("delete from trimtab.workspaces where id = %s", (elsewhere.workspace_id,))
    good = make_record(world, NOW)
    writer = SpoolWriter(tmp_path)
    writer.append(b"no record")
    writer.append(encode_record(make_record(world, NOW, deployment_id="not a uuid")))
    writer.append(encode_record(make_record(world, NOW, cost_nano=2**63)))
    writer.append(encode_record(make_record(world, datetime(1970, 1, 2, tzinfo=UTC))))
    writer.append(encode_record(make_record(elsewhere, NOW)))
    writer.append(encode_record(good))
    writer.append(encode_record(good))
    writer.append(encode_record(make_record(world, NOW)))
    shipper = Shipper(tmp_path, database, at_now)
    assert await ship_all(shipper) == 8
    totals = shipper.totals
    assert (totals.unreadable, totals.orphaned, totals.refused, totals.records) == (4, 1, 1, 2)
    assert await one(database, "select count(*) from trimtab.request_log") == (2,)
    assert await one(database, "select sum(requests) from trimtab.rollup_minute") == (2,)
    await writer.close()


async def test_late_records_are_counted_where_their_minutes_are_gone(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    writer = SpoolWriter(tmp_path)
    for days in (0, 7, 8, 29, 30, 200):
        for _ in range(2):
            writer.append(encode_record(make_record(world, NOW - timedelta(days=days))))
    shipper = Shipper(tmp_path, database, at_now)
    await ship_all(shipper)
    assert (shipper.totals.records, shipper.totals.late) == (12, 4)
    assert await one(database, "select count(*) from trimtab.request_log") == (8,)
    assert await one(database, "select sum(requests), count(*) from trimtab.rollup_minute") == (4, 2)
    assert await one(database, "select sum(requests), count(*) from trimtab.rollup_hour") == (8, 4)
    assert await one(database, "select sum(requests), count(*) from public.ai_model_usage_analytics") == (12, 6)
    await writer.close()


async def test_two_shippers_on_the_same_spools_count_once(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    writer = SpoolWriter(tmp_path)
    for record in random_records(world, 2, 900, NOW, timedelta(minutes=3)):
        writer.append(encode_record(record))
    shippers = [Shipper(tmp_path, database, at_now, batch=40) for _ in range(2)]
    while sum(await asyncio.gather(*(shipper.ship_once() for shipper in shippers))):
        pass
    assert await one(database, "select count(*), count(distinct id) from trimtab.request_log") == (900, 900)
    assert await one(database, "select sum(requests) from trimtab.rollup_minute") == (900,)
    assert await one(database, "select records from trimtab.spool_positions") == (900,)
    await writer.close()


async def test_a_series_that_another_host_makes_at_the_same_moment(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    record = make_record(world, NOW)
    writer = SpoolWriter(tmp_path)
    writer.append(encode_record(record))
    shipper = Shipper(tmp_path, database, at_now)
    async with database.transaction(SYSTEM) as other:
        cursor = await other.execute(
            "insert into trimtab.series (workspace_id, api_key_id, model_id, lifecycle_id, deployment_id, environment, "
            "provider, upstream_model, operation) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) returning id",
            (
                record.workspace_id, record.api_key_id, record.model_id, record.lifecycle_id, record.deployment_id,
                record.environment, record.provider, record.upstream_model, record.operation,
            ),
        )  # fmt: skip
        made = await cursor.fetchone()
        shipping = asyncio.create_task(shipper.ship_once())
        async with asyncio.timeout(30):
            while await one(database, "select count(*) from pg_locks where not granted") == (0,):
                assert not shipping.done()
                await asyncio.sleep(0.02)
    assert await shipping == 1
    assert await one(database, "select series_id from trimtab.rollup_minute") == made
    await writer.close()


async def test_a_position_that_is_gone_is_begun_anew(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    writer = SpoolWriter(tmp_path)
    writer.append(encode_record(make_record(world, NOW)))
    shipper = Shipper(tmp_path, database, at_now)
    assert await ship_all(shipper) == 1
    async with database.transaction(SYSTEM) as connection:
        await connection.execute("delete from trimtab.spool_positions")
    second = writer.append(encode_record(make_record(world, NOW)))
    shipments = Shipments(database, at_now)
    with pytest.raises(PositionMovedError):
        await shipments.ship([Load(writer.id, [], second, Position(1, second.offset + 1))])
    assert await shipments.position(writer.id) is None
    await shipper.ship_once()  # which finds that the position is gone
    await ship_all(shipper)
    assert shipper.totals.refused == 1  # the first record, which is there
    assert await one(database, "select count(*) from trimtab.request_log") == (2,)
    assert await one(database, "select sum(requests) from trimtab.rollup_minute") == (2,)
    assert await one(database, "select records from trimtab.spool_positions") == (2,)
    await writer.close()
    shipper.close()


async def test_a_spool_without_position_and_first_segments(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 100)
    world = await make_world(database)
    writer = SpoolWriter(tmp_path)
    places = [writer.append(encode_record(make_record(world, NOW))) for _ in range(4)]
    for gone in (1, 2):
        spool.segment_path(writer.directory, gone).unlink()
    shipper = Shipper(tmp_path, database, at_now, batch=1)
    assert await ship_all(shipper) == 2
    assert await one(database, "select count(*), min(spool_segment) from trimtab.request_log") == (2, 3)
    assert await one(database, "select segment, records from trimtab.spool_positions") == (places[-1].segment, 2)
    await writer.close()
    shipper.close()


async def test_an_unexpected_failure_is_retried(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = await make_world(database)
    left = tmp_path / ".00000000-0000-7000-8000-000000000000.new"
    left.mkdir()
    now = system_clock() + timedelta(minutes=2)
    writer = SpoolWriter(tmp_path)
    writer.append(encode_record(make_record(world, now)))
    shipper, stop = Shipper(tmp_path, database, lambda: now), asyncio.Event()
    rounds, ship_once = 0, shipper.ship_once

    async def failing_twice() -> int:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            raise KeyError("nobody thought of it")
        return await ship_once()

    monkeypatch.setattr(shipper, "ship_once", failing_twice)
    running = asyncio.create_task(shipper.run(stop))
    async with asyncio.timeout(30):
        while await one(database, "select count(*) from trimtab.request_log") == (0,):
            assert not running.done()
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 30)
    assert caplog.text.count("shipping failed") == 1
    assert "KeyError: 'nobody thought of it'" in caplog.text
    assert not left.exists()
    await writer.close()
    shipper.close()


async def test_shipped_spools_are_removed_after_a_day(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    dead, live = SpoolWriter(tmp_path), SpoolWriter(tmp_path)
    for writer in (dead, live):
        writer.append(encode_record(make_record(world, NOW)))
    await dead.close()
    now = system_clock()
    shipper = Shipper(tmp_path, database, lambda: now)
    await ship_all(shipper)
    await shipper.tidy()
    assert len(list_spools(tmp_path)) == 2
    now += timedelta(hours=24, minutes=1)
    await shipper.tidy()
    assert list_spools(tmp_path) == [live.directory]
    assert await one(database, "select spool_id from trimtab.spool_positions") == (live.id,)
    await live.close()


def test_one_shipper_per_data_dir(tmp_path: Path) -> None:
    assert lock_spools(tmp_path) is not None
    assert lock_spools(tmp_path) is None


@pytest.mark.parametrize("batch", [1, 7])
async def test_any_batch_size_gives_the_same(database: Database, tmp_path: Path, batch: int) -> None:
    world = await make_world(database)
    writer = SpoolWriter(tmp_path)
    for record in random_records(world, 3, 30, NOW, timedelta(minutes=2)):
        writer.append(encode_record(record))
    await writer.close()
    shipper = Shipper(tmp_path, database, at_now, batch=batch)
    await ship_all(shipper)
    assert await one(database, "select count(*) from trimtab.request_log") == (30,)
    assert await one(database, "select sum(requests) from trimtab.rollup_minute") == (30,)


async def test_a_busy_spool_keeps_no_other_waiting(database: Database, tmp_path: Path) -> None:
    world = await make_world(database)
    writers = [SpoolWriter(tmp_path) for _ in range(3)]
    for writer in writers:
        for record in random_records(world, 4, 10, NOW, timedelta(minutes=2)):
            writer.append(encode_record(record))
    shipper = Shipper(tmp_path, database, at_now, batch=4)
    for _ in range(3):
        await shipper.ship_once()
    assert await one(database, "select count(*) from trimtab.spool_positions") == (3,)
    await ship_all(shipper)
    assert await one(database, "select count(*) from trimtab.request_log") == (30,)
    for writer in writers:
        await writer.close()


async def test_the_end_comes_soon_without_a_database(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"waits")
    unreachable = Database("postgresql://nobody@127.0.0.1:1/none", timeout=0.2)
    await unreachable.open()
    try:
        shipper, stop = Shipper(tmp_path, unreachable, at_now), asyncio.Event()
        running = asyncio.create_task(shipper.run(stop))
        await asyncio.sleep(0.5)
        assert not running.done()
        stop.set()
        await asyncio.wait_for(running, 30)
    finally:
        await unreachable.close()
        await writer.close()
