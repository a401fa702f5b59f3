"""Hours and days against the minutes and records they are made from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.metering import World, make_world, random_records

from trimtab.db.database import SYSTEM, Database
from trimtab.db.embedded import Urls
from trimtab.metering.compaction import compact, drop_expired, ensure_partitions, upkeep
from trimtab.metering.quantiles import Distribution
from trimtab.metering.record import RequestRecord, encode_record
from trimtab.metering.shipper import Shipper
from trimtab.metering.spool import SpoolWriter

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
SUMS = "sum(requests), sum(errors_upstream), sum(cost_nano), sum(output_tokens), sum(latency_count)"


class Bench:
    """A database with a spool, a shipper and a clock that tests set."""

    def __init__(self, database: Database, root: Path, world: World) -> None:
        self.database = database
        self.now = NOON
        self.world = world
        self.root = root
        self.shipper = Shipper(root, database, self.clock)

    def clock(self) -> datetime:
        return self.now

    async def ship(self, records: list[RequestRecord]) -> None:
        writer = SpoolWriter(self.root)
        for record in records:
            writer.append(encode_record(record))
        await writer.close()
        while await self.shipper.ship_once():
            pass

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.database.transaction(SYSTEM) as connection:
            return await (await connection.execute(query.encode())).fetchall()


@pytest.fixture
async def bench(database: Database, tmp_path: Path) -> Bench:
    return Bench(database, tmp_path, await make_world(database))


async def agreed(bench: Bench) -> None:
    """Hours and days hold what minutes hold, histograms too."""
    minutes = await bench.rows(f"select {SUMS} from trimtab.rollup_minute")
    assert await bench.rows(f"select {SUMS} from trimtab.rollup_hour") == minutes
    assert await bench.rows(f"select {SUMS} from trimtab.rollup_day") == minutes
    merged = [
        Distribution.of(
            (await bench.rows(f"select string_agg(latency_hist, ''::bytea) from trimtab.rollup_{grain}"))[0][0]
        )
        for grain in ("minute", "hour", "day")
    ]
    for coarse in merged[1:]:
        assert coarse.encode() == merged[0].encode()


async def test_hours_and_days_hold_the_minutes(bench: Bench) -> None:
    await bench.ship(random_records(bench.world, 5, 800, NOON - timedelta(hours=30), timedelta(hours=29)))
    assert await compact(bench.database, bench.clock) > 0
    await agreed(bench)
    assert await bench.rows("select count(*) from trimtab.rollup_dirty") == [(0,)]
    assert await compact(bench.database, bench.clock) == 0
    # late minutes, from another spool
    await bench.ship(random_records(bench.world, 6, 200, NOON - timedelta(hours=20), timedelta(hours=2)))
    await compact(bench.database, bench.clock)
    await agreed(bench)


async def test_the_running_hour_waits_with_one_entry(bench: Bench) -> None:
    for seed in range(4):
        await bench.ship(random_records(bench.world, seed, 10, NOON, timedelta(minutes=5)))
    bench.now = NOON + timedelta(minutes=30)
    assert await compact(bench.database, bench.clock) == 0
    assert await bench.rows("select count(*) from trimtab.rollup_dirty") == [(1,)]
    bench.now = NOON + timedelta(hours=1, minutes=3)
    assert await compact(bench.database, bench.clock) == 2
    await agreed(bench)


async def test_what_came_after_its_minutes_were_dropped_stays(bench: Bench) -> None:
    old = random_records(bench.world, 8, 100, NOON - timedelta(days=6), timedelta(hours=3))
    await bench.ship(old)
    await upkeep(bench.database, bench.clock)
    bench.now += timedelta(days=5)
    await upkeep(bench.database, bench.clock)
    assert await bench.rows("select count(*) from trimtab.rollup_minute") == [(0,)]
    later = random_records(bench.world, 9, 50, NOON - timedelta(days=6), timedelta(hours=3))
    await bench.ship(later)
    await upkeep(bench.database, bench.clock)
    assert await bench.rows("select count(*) from trimtab.rollup_minute") == [(0,)]
    for grain in ("hour", "day"):
        assert await bench.rows(f"select sum(requests) from trimtab.rollup_{grain}") == [(150,)]
    assert await bench.rows("select sum(requests) from public.ai_model_usage_analytics") == [(150,)]


async def test_partitions_are_made_ahead_and_dropped_late(bench: Bench) -> None:
    await ensure_partitions(bench.database, bench.clock)
    await ensure_partitions(bench.database, bench.clock)
    names = (
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'trimtab.rollup_minute'::regclass"
        " and inhrelid::regclass::text like '%_202603__'"
    )
    made = sorted(name for (name,) in await bench.rows(names))
    assert made == [f"trimtab.rollup_minute_202603{day}" for day in range(13, 18)]
    bench.now += timedelta(days=9)
    await drop_expired(bench.database, bench.clock)
    assert sorted(name for (name,) in await bench.rows(names)) == made[2:]


async def test_a_partition_in_use_is_left_for_the_next_time(bench: Bench, database_urls: Urls) -> None:
    await ensure_partitions(bench.database, bench.clock)
    bench.now += timedelta(days=9)
    with psycopg.connect(database_urls.owner) as reader:
        reader.execute("select count(*) from trimtab.rollup_minute")
        assert await drop_expired(bench.database, bench.clock) > 0  # of the other tables
        reader.rollback()
    assert await drop_expired(bench.database, bench.clock) == 2
