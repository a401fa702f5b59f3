"""Upkeep of what metering has written: minutes compacted to hours and days, partitions made ahead and dropped.

Whoever changes minutes lists their hour in `rollup_dirty` in the same transaction (and their day, where the change went
straight into hours). Compaction takes the list, computes the listed hours and days anew from what they are made of, and
removes exactly the entries it had seen, in one transaction: a change that comes meanwhile is either seen or leaves its
entry for the next time. Computing anew is idempotent, so late minutes, repeats and crashes do no harm.

Rows made here have the source NOBODY. Rows of an hour with another source were added by a shipper after the minutes of
that hour had been dropped; they are kept and are part of the day.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg import errors

from trimtab.clock import Clock
from trimtab.db.database import SYSTEM, Connection, Database
from trimtab.metering.quantiles import Distribution
from trimtab.metering.rollup import COUNTERS, HISTOGRAMS

log = logging.getLogger(__name__)

NOBODY = UUID(int=0)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SETTLE = timedelta(minutes=2)
"""An hour is left to its minutes until this long after its end: until then it would be computed again and again."""

KEEP_HOURS = timedelta(days=400)
MINUTE_RETENTION_DAYS = 8
"""As `partitioned_tables` says of the minute rollups: who reads them may not read that table."""

BATCH = 10_000
LOCK = 0x7472_696D_636F_6D70
LOCK_ATTEMPTS = 3

TRY_LOCK = "select pg_try_advisory_xact_lock(%s)"
DIRTY = """
select id, workspace_id, family, grain, bucket from trimtab.rollup_dirty where id > %s order by id limit %s
"""
CLEAN = "delete from trimtab.rollup_dirty where id = any(%s)"
PARTITIONED = "select table_name, days_ahead from trimtab.partitioned_tables order by table_name"
ENSURE_PARTITION = "select trimtab.ensure_partition(%s, %s)"
DROP_PARTITIONS = "select trimtab.drop_expired_partitions(%s, %s)"
DROP_HOURS = """
delete from trimtab.{table} where workspace_id = any(array(select id from trimtab.workspaces)) and bucket < %s
"""


@dataclass(frozen=True, slots=True)
class Family:
    """Three tables (minute, hour, day) of the same columns.

    Parameters:
        prefix: of the tables' names in schema `trimtab`.
        key: columns that name what is counted, beside workspace, bucket and source.
        merged: column -> SQL that merges it over rows.
        histograms: columns with encoded histograms.
    """

    prefix: str
    key: tuple[str, ...]
    merged: dict[str, str]
    histograms: tuple[str, ...]

    def statements(self, source: str, target: str) -> tuple[str, str]:
        """SQL that merges a workspace's rows of a time range, and SQL that puts the merged rows in their place."""
        columns = ", ".join((*self.key, "workspace_id", "bucket", "source_id", *self.merged, *self.histograms))
        read = f"""
select {", ".join((*self.key, *self.merged.values(), *(f"string_agg({h}, ''::bytea)" for h in self.histograms)))}
from trimtab.{self.prefix}_{source}
where workspace_id = %s and bucket >= %s and bucket < %s group by {", ".join(self.key)}
"""
        values = ", ".join(["%s"] * (len(self.key) + 3 + len(self.merged) + len(self.histograms)))
        changes = ", ".join(f"{column} = excluded.{column}" for column in (*self.merged, *self.histograms))
        write = f"""
insert into trimtab.{self.prefix}_{target} ({columns}) values ({values})
on conflict ({", ".join((*self.key, "bucket", "source_id"))}) do update set {changes}
"""
        return read, write


FAMILIES = {
    "request": Family("rollup", ("series_id",), {c: f"sum({c})::bigint" for c in COUNTERS}, HISTOGRAMS),
    "metric": Family(
        "metric_rollup",
        ("deployment_id", "metric_type"),
        {
            "metric_unit": "(array_agg(metric_unit order by bucket desc))[1]",
            "count": "sum(count)::bigint",
            "sum": "sum(sum)",
            "min": "min(min)",
            "max": "max(max)",
        },
        ("hist",),
    ),
}


async def upkeep(database: Database, clock: Clock) -> None:
    """Do all that is due: compaction, partitions ahead, expired data. Safe to run anywhere, at any time, repeatedly.

    Raises:
        TrimtabError, psycopg.Error: DATABASE_UNAVAILABLE, or a lock that was not to be had within 2 s; what was
            committed stays, the rest is done next time.
    """
    await ensure_partitions(database, clock)
    await compact(database, clock)
    # Only after compaction: minutes that are dropped must be in their hours.
    await drop_expired(database, clock)


async def compact(database: Database, clock: Clock) -> int:
    """Bring hours and days up to date. Answers how many were computed."""
    made, after = 0, 0
    while True:
        async with database.transaction(SYSTEM) as connection:
            row = await (await connection.execute(TRY_LOCK, (LOCK,))).fetchone()
            if row is None or not row[0]:
                return made  # another process is at it
            entries = await (await connection.execute(DIRTY, (after, BATCH))).fetchall()
            if not entries:
                return made
            after = entries[-1][0]
            made += await _compact(connection, entries, clock() - SETTLE)


async def ensure_partitions(database: Database, clock: Clock) -> None:
    """Make the partitions of yesterday up to those days ahead that each table wants."""
    today = clock().astimezone(UTC).date()
    async with database.transaction(SYSTEM) as connection:
        for table, ahead in await (await connection.execute(PARTITIONED)).fetchall():
            for offset in range(-1, ahead + 1):
                await connection.execute(ENSURE_PARTITION, (table, today + offset * DAY))


async def drop_expired(database: Database, clock: Clock) -> int:
    """Drop what is older than its retention. Answers how many partitions.

    A table in use is left for the next time after a few attempts, none of which waits longer than 2 s for its lock.
    """
    now = clock().astimezone(UTC)
    async with database.transaction(SYSTEM) as connection:
        tables = [row[0] for row in await (await connection.execute(PARTITIONED)).fetchall()]
        for family in FAMILIES.values():
            await connection.execute(DROP_HOURS.format(table=f"{family.prefix}_hour").encode(), (now - KEEP_HOURS,))
    dropped = 0
    for table in tables:
        for attempt in range(1, LOCK_ATTEMPTS + 1):
            try:
                async with database.transaction(SYSTEM) as connection:
                    row = await (await connection.execute(DROP_PARTITIONS, (table, now.date()))).fetchone()
                    dropped += row[0] if row else 0
                break
            except errors.LockNotAvailable:
                if attempt == LOCK_ATTEMPTS:
                    log.warning("%s is in use; its expired partitions are dropped next time", table)
                else:
                    await asyncio.sleep(0.2 * attempt)
    return dropped


async def _compact(
    connection: Connection, entries: Sequence[tuple[int, UUID, str, str, datetime]], until: datetime
) -> int:
    done: list[int] = []
    hours: set[tuple[str, UUID, datetime]] = set()
    days: set[tuple[str, UUID, datetime]] = set()
    waiting: set[tuple[str, UUID, datetime]] = set()
    for identifier, workspace_id, family, grain, bucket in entries:
        place = (family, workspace_id, bucket)
        if grain == "hour" and bucket + HOUR > until:
            if place in waiting:
                done.append(identifier)  # one entry says it
            waiting.add(place)
            continue
        done.append(identifier)
        (hours if grain == "hour" else days).add(place)
    for family, workspace_id, bucket in sorted(hours):
        await _recompute(connection, FAMILIES[family], "minute", "hour", workspace_id, bucket, HOUR)
        days.add((family, workspace_id, bucket.astimezone(UTC).replace(hour=0)))
    for family, workspace_id, bucket in sorted(days):
        await _recompute(connection, FAMILIES[family], "hour", "day", workspace_id, bucket, DAY)
    if done:
        await connection.execute(CLEAN, (done,))
    return len(hours) + len(days)


async def _recompute(
    connection: Connection,
    family: Family,
    source: str,
    target: str,
    workspace_id: UUID,
    bucket: datetime,
    length: timedelta,
) -> None:
    read, write = family.statements(source, target)
    rows = await (await connection.execute(read.encode(), (workspace_id, bucket, bucket + length))).fetchall()
    keys, histograms = len(family.key), len(family.histograms)
    async with connection.cursor() as cursor:
        await cursor.executemany(
            write.encode(),
            [
                (
                    *row[:keys], workspace_id, bucket, NOBODY, *row[keys : len(row) - histograms],
                    *(Distribution.of(encoded).encode() for encoded in row[len(row) - histograms :]),
                )
                for row in rows
            ],
        )  # fmt: skip
