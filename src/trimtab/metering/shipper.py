"""The shipper: follows all spools of a data directory and brings their records into PostgreSQL, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from trimtab.clock import Clock, monotonic, system_clock
from trimtab.context import PartContext
from trimtab.db.database import Database
from trimtab.errors import TrimtabError
from trimtab.metering.shipment import Load, PositionMovedError, Shipments
from trimtab.metering.spool import (
    START,
    Frame,
    Position,
    SpoolReader,
    list_spools,
)
from trimtab.metering.tidying import remove_segments_before, remove_spool, remove_unfinished

log = logging.getLogger(__name__)

BATCH = 10_000
POLL_SECONDS = 0.2
WAIT_SECONDS = 1.0
TIDY_SECONDS = 60.0
KEEP_SECONDS = 24 * 3600.0
UNFINISHED_SECONDS = 60.0
LAST_SECONDS = 8.0
"""How long the shipper goes on after SIGTERM, to ship what is there."""

DATABASE_SECONDS = 3.0
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

EXPECTED = (TrimtabError, psycopg.Error, OSError)
"""Failures that need no traceback."""


@dataclass(slots=True)
class Totals:
    """What a shipper has seen since it began; see `Shipped` for the meanings, `refused` are what the database took
    for no record."""

    records: int = 0
    unreadable: int = 0
    orphaned: int = 0
    late: int = 0
    refused: int = 0


class Shipper:
    """Ships the spools under one directory.

    Parameters:
        root: directory of the spools.
        database: opened, as the application role.
        clock: tells what is late and what is old.
        batch: most records in one transaction.
    """

    def __init__(self, root: Path, database: Database, clock: Clock, batch: int = BATCH) -> None:
        self._root = root
        self._clock = clock
        self._batch = batch
        self._shipments = Shipments(database, clock)
        self._readers: dict[UUID, SpoolReader] = {}
        self._next_tidy = 0.0
        self._turn = 0
        self.totals = Totals()

    async def ship_once(self) -> int:
        """Ship up to one batch. Answers how many records there were.

        Raises:
            TrimtabError: DATABASE_UNAVAILABLE; nothing is lost, try again.
        """
        loads: list[Load] = []
        try:
            await self._find_spools()
            left = self._batch
            for reader in self._in_turn():
                before = reader.position
                frames = reader.read(left)
                if reader.position != before:
                    loads.append(Load(reader.id, frames, before, reader.position))
                left -= len(frames)
                if not left:
                    break
            if loads:
                await self._ship(loads)
        except PositionMovedError as moved:
            log.warning("another shipper was here: %s; going on from where it is", moved)
            self._forget_positions()
        except BaseException:
            # Whether a broken commit was one, only the database knows: its positions are asked for again.
            self._forget_positions()
            raise
        return sum(len(load.frames) for load in loads)

    async def tidy(self) -> None:
        """Delete segments and spools that were shipped a day ago. Raises TrimtabError without a database."""
        older_than = self._clock().timestamp() - KEEP_SECONDS
        for reader in list(self._readers.values()):
            shipped = await self._shipments.position(reader.id)
            if shipped is None or shipped != reader.position:
                continue
            remove_segments_before(reader.directory, shipped, older_than)
            if reader.is_exhausted() and remove_spool(reader.directory, older_than):
                reader.close()
                del self._readers[reader.id]
                await self._shipments.forget(reader.id)

    async def run(self, stop: asyncio.Event) -> None:
        """Ship until `stop`, then what is there, for at most LAST_SECONDS; nothing more where shipping fails anyway.

        Whatever fails is tried again, since all records wait in the spools.
        """
        self._remove_unfinished()
        failures = 0
        last: type[Exception] | None = None
        while not stop.is_set():
            try:
                shipped = await self.ship_once()
                if monotonic() >= self._next_tidy:
                    # Set first: tidying that fails each time holds up no shipping.
                    self._next_tidy = monotonic() + TIDY_SECONDS
                    await self.tidy()
                if failures:
                    log.info("shipping goes on after %d failed attempts", failures)
                    failures, last = 0, None
                pause = 0.0 if shipped >= self._batch else POLL_SECONDS
            except Exception as error:
                pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
                failures += 1
                if type(error) is not last or failures == 10 or failures % 100 == 0:
                    log.warning(
                        "shipping failed %d times, records wait in the spool: %s",
                        failures, str(error) or type(error).__name__,
                        exc_info=not isinstance(error, EXPECTED),
                    )  # fmt: skip
                last = type(error)
            if pause:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
        if failures:
            log.warning("the end comes while shipping fails; the next start goes on")
            return
        try:
            async with asyncio.timeout(LAST_SECONDS):
                while await self.ship_once():
                    pass
        except Exception as error:
            log.warning(
                "not all was shipped before the end; the next start goes on: %s", str(error) or "out of time",
                exc_info=not isinstance(error, (TimeoutError, *EXPECTED)),
            )  # fmt: skip

    def close(self) -> None:
        """Let go of open files."""
        for reader in self._readers.values():
            reader.close()

    def _remove_unfinished(self) -> None:
        try:
            remove_unfinished(self._root, self._clock().timestamp() - UNFINISHED_SECONDS)
        except OSError as error:
            log.warning("what was left of spools that were never finished cannot be removed: %s", error)

    async def _find_spools(self) -> None:
        for directory in list_spools(self._root):
            identifier = UUID(directory.name)
            if identifier not in self._readers:
                position = await self._shipments.position(identifier) or START
                self._readers[identifier] = SpoolReader(directory, position)

    def _in_turn(self) -> list[SpoolReader]:
        """All readers, each time beginning with another one: a busy spool keeps no other waiting."""
        readers = list(self._readers.values())
        self._turn += 1
        first = self._turn % len(readers) if readers else 0
        return readers[first:] + readers[:first]

    def _forget_positions(self) -> None:
        self.close()
        self._readers.clear()

    async def _ship(self, loads: list[Load]) -> None:
        try:
            shipped = await self._shipments.ship(loads)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            self._shipments.forget_caches()
            await self._ship_apart(loads, error)
            return
        self.totals.records += shipped.records
        self.totals.unreadable += shipped.unreadable
        self.totals.orphaned += shipped.orphaned
        self.totals.late += shipped.late

    async def _ship_apart(self, loads: list[Load], error: psycopg.DatabaseError) -> None:
        """Ship in halves what the database refuses as a whole, until the one record at fault is alone and skipped."""
        if len(loads) > 1:
            for load in loads:
                await self._ship([load])
            return
        load = loads[0]
        if len(load.frames) > 1:
            middle = len(load.frames) // 2
            between = Position(*load.frames[middle][:2])
            await self._ship([Load(load.spool_id, load.frames[:middle], load.before, between)])
            await self._ship([Load(load.spool_id, load.frames[middle:], between, load.after)])
            return
        frames: list[Frame] = list(load.frames)
        log.error(
            "spool %s, record at %s is refused by the database and skipped: %s",
            load.spool_id, frames[0][:2] if frames else load.before, error,
        )  # fmt: skip
        await self._shipments.ship(loads, skip_records=True)
        self.totals.refused += len(frames)


def lock_spools(root: Path) -> int | None:
    """Become the one process that ships from `root`, made where absent.

    Answers a descriptor that holds the lock until it is closed; None while another process has it.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(root / "shipper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


async def serve(context: PartContext) -> int:
    """Ship until SIGTERM or SIGINT. Answers the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    root = context.data_dir / "spool"
    while (lock := lock_spools(root)) is None:
        log.info("another process ships from %s; waiting for its end", root)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WAIT_SECONDS)
        if stop.is_set():
            return 0
    database = Database(context.database_url, max_size=2, timeout=DATABASE_SECONDS)
    await database.open()
    try:
        shipper = Shipper(root, database, system_clock)
        context.ready()
        await shipper.run(stop)
        shipper.close()
        log.info("shipped %d records", shipper.totals.records)
    finally:
        await database.close()
        os.close(lock)
    return 0


def spare_collector() -> None:
    """Let the cyclic collector look at a batch of records never, instead of dozens of times: there are no cycles in
    them, and looking cost half of the shipper's time."""
    gc.freeze()
    gc.set_threshold(40 * BATCH, 20, 20)


def run(context: PartContext) -> int:
    """The part `shipper`."""
    spare_collector()
    return asyncio.run(serve(context))
