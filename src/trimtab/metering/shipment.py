"""One shipment: records of one or several spools into PostgreSQL, in one transaction.

Rows, rollups, usage and the spools' positions change together or not at all. A position is moved only from where this
shipper believes it to be, so that no record is counted twice, whoever else ships and whatever became of an earlier
commit whose answer was lost.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from trimtab.clock import Clock
from trimtab.db.database import SYSTEM, Connection, Database
from trimtab.metering.copying import COLUMNS, HEAD, TAIL, RowEncoder, clean
from trimtab.metering.histogram import encode
from trimtab.metering.record import RequestRecord, decode_record
from trimtab.metering.rollup import COUNTERS, HISTOGRAMS, SeriesKey, Tally, roll_up
from trimtab.metering.spool import START, Frame, Position

log = logging.getLogger(__name__)

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
EARLIEST_US, LATEST_US = 946_684_800_000_000, 7_258_118_400_000_000
"""The years 2000 to 2200: a record outside of them has no usable time."""
CACHED_SERIES = 100_000

LOAD_POSITION = "select segment, position from trimtab.spool_positions where spool_id = %s"
MOVE_POSITION = """
update trimtab.spool_positions set segment = %s, position = %s, records = records + %s, updated_at = %s
where spool_id = %s and segment = %s and position = %s
"""
FIRST_POSITION = """
insert into trimtab.spool_positions (segment, position, records, updated_at, spool_id) values (%s, %s, %s, %s, %s)
on conflict do nothing
"""
FORGET_POSITION = "delete from trimtab.spool_positions where spool_id = %s"
LOCK_WORKSPACES = "select id from trimtab.workspaces where id = any(%s) order by id for key share"
LOAD_RETENTION = "select table_name, retention_days from trimtab.partitioned_tables"
ENSURE_PARTITION = "select trimtab.ensure_partition(%s, %s)"
MAKE_SHIPMENT_TABLE = "create temporary table shipment (like trimtab.request_log) on commit drop"
COPY_SHIPMENT = f"copy pg_temp.shipment ({', '.join(COLUMNS)}) from stdin (format binary)"
INSERT_SHIPMENT = f"""
insert into trimtab.request_log ({", ".join(COLUMNS)}) select {", ".join(COLUMNS)} from pg_temp.shipment
"""

SERIES_COLUMNS = SeriesKey._fields
SERIES_TYPES = (*["uuid[]"] * 5, *["text[]"] * 4)
WANTED_SERIES = f"unnest({', '.join(f'%s::{kind}' for kind in SERIES_TYPES)}) as w ({', '.join(SERIES_COLUMNS)})"
MAKE_SERIES = f"""
insert into trimtab.series ({", ".join(SERIES_COLUMNS)}) select * from {WANTED_SERIES} on conflict do nothing
returning id, {", ".join(SERIES_COLUMNS)}
"""
FIND_SERIES = f"""
select s.id, {", ".join(f"s.{column}" for column in SERIES_COLUMNS)} from trimtab.series s join {WANTED_SERIES}
    on {" and ".join(f"s.{column} is not distinct from w.{column}" for column in SERIES_COLUMNS)}
    and s.workspace_id = w.workspace_id
"""

ROLLUP_KEY = ("series_id", "workspace_id", "bucket", "source_id")
ROLLUP_TYPES = ("bigint[]", "uuid[]", "timestamptz[]", "uuid[]", *["bigint[]"] * len(COUNTERS), *["bytea[]"] * 3)
ROLLUP_COLUMNS = (*ROLLUP_KEY, *COUNTERS, *HISTOGRAMS)


def _add_rollups(table: str) -> str:
    return f"""
insert into trimtab.{table} as r ({", ".join(ROLLUP_COLUMNS)})
select * from unnest({", ".join(f"%b::{kind}" if kind == "bytea[]" else f"%s::{kind}" for kind in ROLLUP_TYPES)})
on conflict (series_id, bucket, source_id) do update set
    {", ".join(f"{c} = r.{c} + excluded.{c}" for c in COUNTERS)},
    {", ".join(f"{h} = r.{h} || excluded.{h}" for h in HISTOGRAMS)}
"""


ADD_MINUTES = _add_rollups("rollup_minute")
ADD_HOURS = _add_rollups("rollup_hour")
ADD_DIRTY = """
insert into trimtab.rollup_dirty (workspace_id, family, grain, bucket)
select w, 'request', g, b from unnest(%s::uuid[], %s::text[], %s::timestamptz[]) as d (w, g, b)
"""

USAGE_KEY = (
    "workspace_id", "day", "model_id", "lifecycle_id", "deployment_id", "api_key_id", "provider", "upstream_model",
)  # fmt: skip
USAGE_TYPES = ("uuid[]", "date[]", *["uuid[]"] * 4, *["text[]"] * 2, *["bigint[]"] * 8)
USAGE_COUNTERS = (
    "requests", "errors", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_nano",
)  # fmt: skip
ADD_USAGE = f"""
insert into public.ai_model_usage_analytics as u ({", ".join((*USAGE_KEY, *USAGE_COUNTERS))})
select * from unnest({", ".join(f"%s::{kind}" for kind in USAGE_TYPES)})
on conflict ({", ".join(USAGE_KEY)}) do update set
    {", ".join(f"{c} = u.{c} + excluded.{c}" for c in USAGE_COUNTERS)}
"""


class PositionMovedError(Exception):
    """Another shipper has moved a position; nothing was written."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one spool gives to a shipment.

    Parameters:
        frames: read between the two positions, in order.
        before: where the spool's position must be for this to be written; START where it has none yet.
        after: where it will be.
    """

    spool_id: UUID
    frames: Sequence[Frame]
    before: Position
    after: Position


@dataclass(slots=True)
class Shipped:
    """What became of the frames of a shipment; all are behind the new positions.

    Parameters:
        records: counted and, where within retention, in the request log.
        unreadable: not a record of this program.
        orphaned: of a workspace that does not exist (any more).
        late: counted, but older than the request log is kept.
    """

    records: int = 0
    unreadable: int = 0
    orphaned: int = 0
    late: int = 0


class _Row(NamedTuple):
    record: RequestRecord
    encoded: bytes


_Tallies = dict[tuple[UUID, SeriesKey, int], Tally]


class Shipments:
    """Writes shipments; remembers partitions and series it has seen.

    Parameters:
        database: of the application role.
        clock: tells what is late.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._encoder = RowEncoder()
        self._series: dict[SeriesKey, int] = {}
        self._keys: dict[SeriesKey, SeriesKey] = {}
        self._partitions: set[tuple[str, int]] = set()
        self._retention: dict[str, int] = {}

    async def position(self, spool_id: UUID) -> Position | None:
        """Up to where a spool has been shipped; None when it never was. Raises TrimtabError without a database."""
        async with self._database.transaction(SYSTEM) as connection:
            row = await (await connection.execute(LOAD_POSITION, (spool_id,))).fetchone()
        return None if row is None else Position(*row)

    async def forget(self, spool_id: UUID) -> None:
        """Remove the position of a spool that is no more. Raises TrimtabError without a database."""
        async with self._database.transaction(SYSTEM) as connection:
            await connection.execute(FORGET_POSITION, (spool_id,))

    def forget_caches(self) -> None:
        """Ask the database again for partitions and series."""
        self._partitions.clear()
        self._series.clear()

    async def ship(self, loads: Sequence[Load], *, skip_records: bool = False) -> Shipped:
        """Write `loads`, all or nothing.

        Parameters:
            skip_records: only move the positions; for a record that the database refuses.

        Raises:
            PositionMovedError: a spool's position is not `before`.
            TrimtabError: DATABASE_UNAVAILABLE; whether it was written is then unknown: ask for the positions.
            psycopg.DataError, psycopg.IntegrityError: the database refuses a record.
        """
        shipped = Shipped()
        learned = _Learned()
        spools = {} if skip_records else {load.spool_id: self._decode(load, shipped) for load in loads}
        async with self._database.transaction(SYSTEM) as connection:
            for load in sorted(loads, key=lambda load: load.spool_id):
                await self._move_position(connection, load)
            if any(spools.values()):
                if not self._retention:
                    self._retention = dict(await (await connection.execute(LOAD_RETENTION)).fetchall())
                spools = await _without_orphans(connection, spools, shipped)
                await self._write(connection, spools, shipped, learned)
        # Only what has been committed is remembered.
        if len(self._series) > CACHED_SERIES:
            self._series.clear()
        self._series |= learned.series
        self._partitions |= learned.partitions
        return shipped

    def _decode(self, load: Load, shipped: Shipped) -> list[_Row]:
        rows = []
        for frame in load.frames:
            try:
                record = decode_record(frame.payload)
                if not EARLIEST_US <= record.started_us < LATEST_US:
                    raise ValueError(f"started at {record.started_us} us")
                rows.append(_Row(record, self._encoder.row(load.spool_id.bytes, frame, record)))
            except (msgspec.DecodeError, ValueError, struct.error) as error:
                shipped.unreadable += 1
                log.error(
                    "spool %s, segment %d, offset %d is no record and is skipped: %s",
                    load.spool_id, frame.segment, frame.offset, error,
                )  # fmt: skip
        return rows

    async def _move_position(self, connection: Connection, load: Load) -> None:
        values = (*load.after, len(load.frames), self._clock(), load.spool_id)
        moved = await connection.execute(MOVE_POSITION, (*values, *load.before))
        if not moved.rowcount and load.before == START:
            # Of a spool that was never shipped there is no position: it is at its start, wherever its segments begin.
            moved = await connection.execute(FIRST_POSITION, values)
        if not moved.rowcount:
            raise PositionMovedError(f"spool {load.spool_id} is no longer at {load.before}")

    async def _write(
        self, connection: Connection, spools: Mapping[UUID, list[_Row]], shipped: Shipped, learned: _Learned
    ) -> None:
        today = self._clock().date()
        log_from = _start_us(kept_from(today, self._retention["trimtab.request_log"]))
        minutes_from = _start_us(kept_from(today, self._retention["trimtab.rollup_minute"]))
        tallies: _Tallies = {}
        logged: list[_Row] = []
        for spool_id, rows in spools.items():
            kept = [row for row in rows if row.record.started_us >= log_from]
            logged += kept
            shipped.records += len(rows)
            shipped.late += len(rows) - len(kept)
            for (raw, minute), tally in roll_up(row.record for row in rows).items():
                key = (spool_id, self._canonical(raw), minute)
                if key in tallies:
                    add_tally(tallies[key], tally)
                else:
                    tallies[key] = tally
        partitions = {("trimtab.request_log", row.record.started_us // DAY_US) for row in logged}
        partitions |= {("trimtab.rollup_minute", m // DAY_US) for _, _, m in tallies if m >= minutes_from}
        for parent, day in sorted(partitions - self._partitions):
            await connection.execute(ENSURE_PARTITION, (parent, _time(day * DAY_US).date()))
            learned.partitions.add((parent, day))
        if logged:
            await connection.execute(MAKE_SHIPMENT_TABLE)
            async with connection.cursor() as cursor, cursor.copy(COPY_SHIPMENT) as copy:
                await copy.write(b"".join((HEAD, *(row.encoded for row in logged), TAIL)))
            await connection.execute(INSERT_SHIPMENT)
        if tallies:
            await self._find_series(connection, {key for _, key, _ in tallies}, learned)
            await self._write_rollups(connection, tallies, minutes_from, learned)
            # Last, since several hosts meet in these rows: held shortly, and taken in one order.
            await connection.execute(ADD_USAGE, _columns(_usage_rows(tallies)))

    def _canonical(self, raw: SeriesKey) -> SeriesKey:
        found = self._keys.get(raw)
        if found is None:
            if len(self._keys) > CACHED_SERIES:
                self._keys.clear()
            ids = (None if value is None else str(UUID(value)) for value in raw[:5])
            texts = (None if value is None else clean(value) for value in raw[5:])
            found = self._keys[raw] = SeriesKey(*ids, *texts)  # type: ignore[arg-type]
        return found

    async def _find_series(self, connection: Connection, keys: set[SeriesKey], learned: _Learned) -> None:
        # Another host may make a series at this moment; only a statement that begins after the wait for it sees it.
        for statement in (MAKE_SERIES, FIND_SERIES):
            wanted = sorted(keys - self._series.keys() - learned.series.keys(), key=_order)
            if not wanted:
                return
            for row in await (await connection.execute(statement, _columns(wanted))).fetchall():
                key = SeriesKey(*(None if value is None else str(value) for value in row[1:]))  # type: ignore[arg-type]
                learned.series[key] = row[0]

    async def _write_rollups(
        self, connection: Connection, tallies: _Tallies, minutes_from: int, learned: _Learned
    ) -> None:
        minutes: list[tuple[object, ...]] = []
        late: _Tallies = {}
        dirty: set[tuple[str, str, int]] = set()
        for (source, key, minute), tally in tallies.items():
            hour = minute - minute % HOUR_US
            if minute >= minutes_from:
                minutes.append(self._rollup_row(source, key, minute, tally, learned))
                dirty.add((key.workspace_id, "hour", hour))
            else:
                add_tally(late.setdefault((source, key, hour), Tally()), tally)
                dirty.add((key.workspace_id, "day", hour - hour % DAY_US))
        hours = [self._rollup_row(source, key, hour, tally, learned) for (source, key, hour), tally in late.items()]
        for statement, rows in ((ADD_MINUTES, minutes), (ADD_HOURS, hours)):
            if rows:
                await connection.execute(statement, _columns(rows))
        await connection.execute(ADD_DIRTY, _columns([(w, g, _time(bucket)) for w, g, bucket in sorted(dirty)]))

    def _rollup_row(
        self, source: UUID, key: SeriesKey, bucket: int, tally: Tally, learned: _Learned
    ) -> tuple[object, ...]:
        series = self._series.get(key) or learned.series[key]
        counters = [getattr(tally, name) for name in COUNTERS]
        histograms = [encode(getattr(tally, name)) for name in HISTOGRAMS]
        return (series, key.workspace_id, _time(bucket), source, *counters, *histograms)


class _Learned:
    """What a transaction has made, to be remembered once it has committed."""

    def __init__(self) -> None:
        self.series: dict[SeriesKey, int] = {}
        self.partitions: set[tuple[str, int]] = set()


def kept_from(today: date, retention_days: int) -> date:
    """The first day of which rows are written to a table partitioned by day.

    Partitions are dropped one day later than that: clocks that differ never write into one that is being dropped.
    """
    return today - timedelta(days=retention_days - 1)


async def _without_orphans(
    connection: Connection, spools: Mapping[UUID, list[_Row]], shipped: Shipped
) -> dict[UUID, list[_Row]]:
    """Leave out records of workspaces that are not there, and keep those that are from being deleted meanwhile."""
    named = {row.record.workspace_id for rows in spools.values() for row in rows}
    cursor = await connection.execute(LOCK_WORKSPACES, (list(named),))
    present = {str(row[0]) for row in await cursor.fetchall()}
    missing = {workspace for workspace in named if str(UUID(workspace)) not in present}
    if not missing:
        return dict(spools)
    kept = {spool: [row for row in rows if row.record.workspace_id not in missing] for spool, rows in spools.items()}
    orphaned = sum(map(len, spools.values())) - sum(map(len, kept.values()))
    shipped.orphaned += orphaned
    log.warning("%d records of workspaces that do not exist are skipped: %s", orphaned, ", ".join(sorted(missing)[:5]))
    return kept


def add_tally(total: Tally, more: Tally) -> None:
    """Add the counts of `more` to `total`."""
    for name in COUNTERS:
        setattr(total, name, getattr(total, name) + getattr(more, name))
    for name in HISTOGRAMS:
        counts = getattr(total, name)
        for bucket, count in getattr(more, name).items():
            counts[bucket] = counts.get(bucket, 0) + count


def _usage_rows(tallies: _Tallies) -> list[tuple[object, ...]]:
    rows: dict[tuple[str | None, ...], list[int]] = {}
    for (_, key, minute), tally in tallies.items():
        usage_key = (
            key.workspace_id, _time(minute).date().isoformat(), key.model_id, key.lifecycle_id, key.deployment_id,
            key.api_key_id, key.provider, key.upstream_model,
        )  # fmt: skip
        counts = rows.setdefault(usage_key, [0] * len(USAGE_COUNTERS))
        added = (
            tally.requests, tally.errors_client + tally.errors_upstream, tally.input_tokens, tally.cache_read_tokens,
            tally.cache_write_tokens, tally.output_tokens, tally.reasoning_tokens, tally.cost_nano,
        )  # fmt: skip
        for index, count in enumerate(added):
            counts[index] += count
    return [(*key, *rows[key]) for key in sorted(rows, key=_order)]


def _order(key: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(value or "" for value in key)


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _time(unix_us: int) -> datetime:
    return datetime.fromtimestamp(unix_us // 1_000_000, UTC)


def _start_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
