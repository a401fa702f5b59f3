"""Writers, shipper and PostgreSQL are killed at random, again and again; every record is counted once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.metering import World, make_world

from trimtab.datadir import DataDir
from trimtab.db.database import Database
from trimtab.db.embedded import EmbeddedPostgres
from trimtab.db.migrate import migrate
from trimtab.metering.record import RequestRecord, decode_record
from trimtab.metering.spool import SpoolReader, list_spools

ROOT = Path(__file__).parents[2]
SECONDS = 15.0
DEADLINE = 90.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[DataDir]:
    with DataDir(tmp_path / "data") as held:
        yield held


@pytest.fixture
def postgres(data_dir: DataDir) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir)
    server.start()
    try:
        migrate(server.owner_url(), app_role="trimtab_app")
        yield server
    finally:
        server.stop()


class Processes:
    """Two writers and a shipper, each started anew when killed."""

    def __init__(self, data_dir: Path, url: str, world: World) -> None:
        ids = json.dumps([str(identifier) for identifier in astuple(world)])
        self._commands = {
            "writer-1": ["writer", str(data_dir), ids],
            "writer-2": ["writer", str(data_dir), ids],
            "shipper": ["shipper", str(data_dir), url],
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "tests.integration.shipping_processes", *self._commands[name]]
        self.running[name] = subprocess.Popen(command, cwd=ROOT)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(30)

    def start_all(self) -> None:
        for name in self._commands:
            self.start(name)

    def kill_all(self) -> None:
        for name in list(self.running):
            self.kill(name)


def spooled(root: Path) -> list[RequestRecord]:
    """All records in all spools."""
    found = []
    for directory in list_spools(root):
        reader = SpoolReader(directory)
        while frames := reader.read(10_000):
            found += [decode_record(frame.payload) for frame in frames]
        reader.close()
    return found


def query(url: str, text: str) -> tuple[Any, ...]:
    with psycopg.connect(url) as connection:
        row = connection.execute(text.encode()).fetchone()
    assert row is not None
    return row


async def make_world_at(url: str) -> World:
    database = Database(url)
    await database.open()
    try:
        return await make_world(database)
    finally:
        await database.close()


@pytest.mark.timeout(300)
def test_every_record_is_counted_once(data_dir: DataDir, postgres: EmbeddedPostgres) -> None:
    processes = Processes(data_dir.path, postgres.app_url(), asyncio.run(make_world_at(postgres.app_url())))
    draw = random.Random(20261122)
    kills = dict.fromkeys(("writer-1", "writer-2", "shipper", "postgres"), 0)
    try:
        processes.start_all()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or not all(kills.values()):
            time.sleep(draw.uniform(0.2, 1.5))
            victim = draw.choice(list(kills))
            kills[victim] += 1
            if victim == "postgres":
                assert postgres.pid is not None
                os.kill(postgres.pid, signal.SIGKILL)
                while postgres.is_running():
                    time.sleep(0.01)
                time.sleep(draw.uniform(0, 1))
                postgres.launch()
                postgres.wait_ready(DEADLINE)
            else:
                processes.kill(victim)
                processes.start(victim)
        processes.kill("writer-1")
        processes.kill("writer-2")

        records = spooled(data_dir.path / "spool")
        assert len({record.id for record in records}) == len(records) > 100
        url = postgres.owner_url()
        deadline = time.monotonic() + DEADLINE
        while query(url, "select count(*) from trimtab.request_log") != (len(records),):
            assert time.monotonic() < deadline
            assert processes.running["shipper"].poll() is None
            time.sleep(0.2)
        shipper = processes.running["shipper"]
        shipper.terminate()
        assert shipper.wait(30) == 0
        del processes.running["shipper"]
    finally:
        processes.kill_all()

    sums = tuple(
        sum(values) for values in zip(*((1, r.usage.input, r.usage.output, r.cost_nano) for r in records), strict=True)
    )
    columns = "sum(input_tokens), sum(output_tokens), sum(cost_nano)"
    log = query(url, f"select count(distinct id), count(*), {columns} from trimtab.request_log")
    assert log == (len(records), *sums)
    latency = sum(record.latency_us for record in records)
    minutes = query(url, f"select sum(requests), {columns}, sum(latency_us_sum) from trimtab.rollup_minute")
    assert minutes == (*sums, latency)
    usage = query(url, f"select sum(requests), {columns} from public.ai_model_usage_analytics")
    assert usage == sums
    assert query(url, "select sum(records) from trimtab.spool_positions") == (len(records),)
