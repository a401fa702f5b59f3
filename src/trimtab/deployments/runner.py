"""The part `runner`: turns replica rows into processes and probes, on one machine.

What shall run is in the rows; what runs is in memory. The loop compares the two, and writes what changed. Its own
death ends its processes; on its return it starts them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import aiohttp
import psycopg

from trimtab.clock import Clock, monotonic, system_clock
from trimtab.context import PartContext
from trimtab.db.database import SYSTEM, Database
from trimtab.db.wakeups import wake_ups
from trimtab.deployments import logs, runner_store
from trimtab.deployments.keeper import Keeper, Report
from trimtab.deployments.records import Replica
from trimtab.deployments.runtimes import Runtime, Usage
from trimtab.deployments.runtimes.external import External
from trimtab.deployments.runtimes.machine import Devices, Machine
from trimtab.deployments.runtimes.process import ProcessRuntime
from trimtab.deployments.store import notify
from trimtab.errors import TrimtabError
from trimtab.ids import new_id
from trimtab.processes import adopt_orphans

log = logging.getLogger(__name__)

EVERY = 2.0
SAMPLE_SECONDS = 5.0
TIDY_SECONDS = 3600.0


@dataclass(slots=True)
class Runner:
    """Runs the replicas of one machine.

    Parameters:
        identifier: stays over restarts. runtimes: kind of replica -> how to run it.
        data_dir: where the logs of replicas are.
    """

    identifier: UUID
    database: Database
    machine: Machine
    runtimes: Mapping[str, Runtime]
    data_dir: Path
    clock: Clock = system_clock
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _keepers: dict[UUID, Keeper] = field(default_factory=dict)
    _written: dict[UUID, Report] = field(default_factory=dict)
    _sampled: float = 0.0
    _tidied: float = -math.inf

    async def register(self) -> None:
        """Make this runner known."""
        async with self.database.transaction(SYSTEM) as connection:
            await runner_store.register(connection, self.identifier, self.machine)
            await notify(connection)

    async def run_once(self) -> None:
        """Compare what shall run with what runs, once. Raises TrimtabError without a database; replicas run on."""
        async with self.database.transaction(SYSTEM) as connection:
            if not await runner_store.beat(connection, self.identifier):
                await runner_store.register(connection, self.identifier, self.machine)
            free = await runner_store.claimable(connection)
            rows = await runner_store.mine(connection, self.identifier)
            chosen = self._choose(free, rows)
            if chosen:
                await runner_store.claim(connection, self.identifier, [one.id for one in chosen])
                rows = await runner_store.mine(connection, self.identifier)
            left = [one.id for one in free if one not in chosen and one.desired == "running"]
            if left:
                why = f"no room: replicas here may hold {self.machine.memory_mb} MB together"
                await runner_store.no_room(connection, left, why)
        gone = self._compare({row.id: row for row in rows})
        await self._write(gone)
        if monotonic() - self._tidied >= TIDY_SECONDS:
            self._tidied = monotonic()
            await self._delete_old_logs()

    async def close(self) -> None:
        """Stop everything and give the replicas back."""
        for keeper in self._keepers.values():
            keeper.end()
        for keeper in self._keepers.values():
            await keeper.wait()
        with contextlib.suppress(TrimtabError, psycopg.Error):
            async with self.database.transaction(SYSTEM) as connection:
                await runner_store.leave(connection, self.identifier)
                await notify(connection)

    def _choose(self, free: list[Replica], rows: list[Replica]) -> list[Replica]:
        """Which of the free replicas fit here, beside those that are here."""
        held = sum(_memory(row) for row in rows if row.desired == "running")
        chosen = []
        for one in free:
            if one.desired == "running" and held + _memory(one) > self.machine.memory_mb:
                continue
            held += _memory(one)
            chosen.append(one)
        return chosen

    def _compare(self, rows: Mapping[UUID, Replica]) -> list[Replica]:
        """Begin and end keepers as the rows want it; returns the rows of which nothing is left, as wanted."""
        for identifier, keeper in list(self._keepers.items()):
            row = rows.get(identifier)
            if keeper.done:
                del self._keepers[identifier]
                self._written.pop(identifier, None)
            elif row is None or row.desired == "stopped" or row.generation != keeper.replica.generation:
                keeper.end()
        gone = []
        for identifier, row in rows.items():
            if identifier in self._keepers:
                continue
            if row.desired == "stopped":
                gone.append(row)
                continue
            keeper = Keeper(row, self.runtimes[row.kind], self.wake.set)
            keeper.begin()
            self._keepers[identifier] = keeper
        return gone

    async def _write(self, gone: list[Replica]) -> None:
        """Write what changed, and now and then what replicas use."""
        now = self.clock()
        said = {
            identifier: keeper.report
            for identifier, keeper in self._keepers.items()
            if self._written.get(identifier) != keeper.report
        }
        used: dict[UUID, Usage] = {}
        if monotonic() - self._sampled >= SAMPLE_SECONDS:
            self._sampled = monotonic()
            for identifier, keeper in self._keepers.items():
                if keeper.running is not None and (usage := keeper.running.usage()):
                    used[identifier] = usage
        if not (said or used or gone):
            return
        async with self.database.transaction(SYSTEM) as connection:
            for identifier, report in said.items():
                replica = self._keepers[identifier].replica
                await runner_store.report(connection, self.identifier, replica, report, now)
            for row in gone:
                await runner_store.stopped(connection, row.id, now)
            for identifier, usage in used.items():
                await runner_store.sample(connection, identifier, usage)
            if said or gone:
                await notify(connection)
        self._written.update(said)

    async def _delete_old_logs(self) -> None:
        """Delete the logs of replicas that stopped long ago, and of those that there are no more."""
        since = self.clock() - logs.KEPT
        candidates = logs.untouched(self.data_dir, since)
        if not candidates:
            return
        async with self.database.transaction(SYSTEM) as connection:
            kept = await runner_store.still_logged(connection, candidates, since)
        for identifier in candidates - kept:
            try:
                logs.delete(self.data_dir, identifier)
            except OSError as error:
                log.warning("the log of replica %s stays: %s", identifier, error)


def run(context: PartContext) -> int:
    """The entry of the part. Returns the exit status."""
    adopt_orphans()
    return asyncio.run(_serve(context))


async def _serve(context: PartContext) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    database = Database(context.database_url, max_size=2)
    await database.open()
    machine = Machine.here()
    async with aiohttp.ClientSession() as session:
        devices = Devices(machine)
        runtimes: dict[str, Runtime] = {
            "external": External(session),
            "process": ProcessRuntime(context.data_dir, session, machine, devices),
        }
        runner = Runner(identity(context.data_dir), database, machine, runtimes, context.data_dir)
        work = asyncio.create_task(_work(runner, context))
        ended = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, ended):
                task.cancel()
            await asyncio.wait([work, ended])
            await runner.close()
            await database.close()
    return 0 if stop.is_set() else 1


async def _work(runner: Runner, context: PartContext) -> None:
    told = registered = False

    async def listen() -> None:
        async for _ in wake_ups(context.database_url, ["trimtab_deployments"], EVERY):
            runner.wake.set()

    listener = asyncio.create_task(listen())
    try:
        while True:
            runner.wake.clear()
            try:
                if not registered:
                    await runner.register()
                    registered = True
                await runner.run_once()
            except TrimtabError as error:
                log.warning("%s", error)
            except psycopg.Error:
                log.exception("the database refused")
            if not told:
                context.ready()
                told = True
            await runner.wake.wait()
    finally:
        listener.cancel()


def identity(data_dir: Path) -> UUID:
    """The runner's id, kept in the data directory so that after a restart it knows its replicas."""
    path = data_dir / "runner.id"
    with contextlib.suppress(OSError, ValueError):
        return UUID(path.read_text().strip())
    identifier = new_id()
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(f"{identifier}\n")
    temporary.replace(path)
    return identifier


def _memory(replica: Replica) -> int:
    """The memory (MB) that a replica was promised here."""
    return int((replica.spec.get("resources") or {}).get("memory_mb") or 0) if replica.kind == "process" else 0
