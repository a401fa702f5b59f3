"""Processes of the exactly-once test: `python -m tests.integration.shipping_processes writer|shipper ...`."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from uuid import UUID

from tests.metering import World, make_record

from trimtab.clock import system_clock
from trimtab.context import PartContext
from trimtab.metering.record import Usage, encode_record
from trimtab.metering.shipper import run
from trimtab.metering.spool import SpoolWriter
from trimtab.settings import Settings


def write(data_dir: Path, ids: list[str]) -> None:
    """Append records for ever, in bursts."""
    world = World(*map(UUID, ids))
    writer = SpoolWriter(data_dir / "spool")
    draw = random.Random(os.getpid())
    for _ in itertools.count():
        for _ in range(draw.randint(1, 40)):
            usage = Usage(draw.randint(1, 500), 0, 0, draw.randint(1, 500), 0, "upstream")
            record = make_record(
                world, system_clock(), latency_ms=draw.uniform(1, 900), usage=usage, cost_nano=draw.randint(0, 9_999)
            )
            writer.append(encode_record(record))
        time.sleep(draw.uniform(0, 0.05))


def ship(data_dir: Path, url: str) -> int:
    """Run the part as its supervisor does."""
    logging.basicConfig(level="WARNING", format="shipper: %(message)s")
    _, ready = os.pipe()
    life, _ = os.pipe()
    lock = os.open(data_dir / "lock", os.O_RDONLY)
    context = PartContext(
        name="shipper",
        entry="trimtab.metering.shipper:run",
        settings=Settings(data_dir=data_dir),
        database_url=url,
        data_dir=data_dir,
        worker_index=0,
        listen_fd=None,
        ready_fd=ready,
        life_fd=life,
        lock_fd=lock,
    )
    return run(context)


if __name__ == "__main__":
    role, directory, argument = sys.argv[1:]
    if role == "writer":
        write(Path(directory), json.loads(argument))
    else:
        sys.exit(ship(Path(directory), argument))
