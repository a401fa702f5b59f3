"""Records shipped per second, rollups and usage included, against a plain binary COPY of the same rows in the same run.

The plain COPY is of rows encoded beforehand, as the table's owner, into an empty partition of a table with the same
columns and indexes, without row level security. The shipper starts from records in a spool.

`python -m benchmarks ship`
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from trimtab.datadir import DataDir
from trimtab.db.database import SYSTEM, Database
from trimtab.db.embedded import EmbeddedPostgres
from trimtab.db.migrate import migrate
from trimtab.ids import new_id
from trimtab.metering.copying import COLUMNS, HEAD, TAIL, RowEncoder
from trimtab.metering.record import Attempt, RequestRecord, Usage, decode_record, encode_record
from trimtab.metering.shipper import Shipper, spare_collector
from trimtab.metering.spool import SpoolReader, SpoolWriter

RECORDS = 50_000
DEPLOYMENTS = 20
ROUNDS = 3
PLAIN_TABLE = """
create table trimtab.plain_copy (like trimtab.request_log including defaults including constraints including indexes);
alter table trimtab.plain_copy disable row level security
"""


def make_records(workspace: str, draw: random.Random) -> list[RequestRecord]:
    """Requests of the last ten minutes to several deployments, by several keys."""
    begin = datetime.now(UTC) - timedelta(minutes=10)
    deployments = [tuple(str(new_id()) for _ in range(3)) for _ in range(DEPLOYMENTS)]
    keys = [(str(new_id()), str(new_id())) for _ in range(10)]
    found = []
    for n in range(RECORDS):
        model, lifecycle, deployment = draw.choice(deployments)
        key, member = draw.choice(keys)
        latency = round(draw.lognormvariate(13, 0.6))
        found.append(
            RequestRecord(
                id=str(new_id()), workspace_id=workspace,
                started_us=round(begin.timestamp() * 1e6) + n * 600_000_000 // RECORDS, api_key_id=key,
                member_id=member, unit=f"user-{draw.randrange(5000)}", requested_model="assistant",
                environment="production", model_id=model, lifecycle_id=lifecycle, deployment_id=deployment,
                version_tag="v1.0.0", variant=None, routing_revision=7, provider="openai",
                upstream_model="gpt-4o-mini", dialect="openai", operation="chat", streamed=n % 2 == 0, status=200,
                error_code=None, finish_reason="stop", client_gone=False, latency_us=latency,
                ttft_us=latency // 4 if n % 2 == 0 else None, last_token_us=latency if n % 2 == 0 else None,
                usage=Usage(draw.randrange(2000), 0, 0, draw.randrange(1, 500), 0, "upstream"),
                cost_nano=draw.randrange(10**7),
                attempts=(Attempt(deployment, "http://127.0.0.1:9000/v1", 200, None, latency),),
            )
        )  # fmt: skip
    return found


def plain_copy(url: str, spool: Path) -> float:
    """Seconds for COPY of the records in `spool`."""
    reader, encoder, rows = SpoolReader(spool), RowEncoder(), []
    while frames := reader.read(10_000):
        rows += [encoder.row(reader.id.bytes, frame, decode_record(frame.payload)) for frame in frames]
    data = b"".join((HEAD, *rows, TAIL))
    with psycopg.connect(url) as connection:
        began = time.perf_counter()
        with (
            connection.cursor() as cursor,
            cursor.copy(f"copy trimtab.plain_copy ({', '.join(COLUMNS)}) from stdin (format binary)".encode()) as copy,
        ):
            copy.write(data)
        connection.commit()
        return time.perf_counter() - began


async def ship(url: str, root: Path) -> float:
    """Seconds for the shipper to bring all spools under `root` into the database."""
    database = Database(url)
    await database.open()
    try:
        shipper = Shipper(root, database, lambda: datetime.now(UTC))
        await shipper.ship_once()  # an empty one: connections and caches are there
        began = time.perf_counter()
        while await shipper.ship_once():
            pass
        seconds = time.perf_counter() - began
        shipper.close()
        return seconds
    finally:
        await database.close()


async def make_workspace(url: str) -> str:
    """A workspace's id."""
    identifier = new_id()
    database = Database(url)
    await database.open()
    try:
        async with database.transaction(SYSTEM) as connection:
            await connection.execute("insert into trimtab.workspaces (id, name) values (%s, 'bench')", (identifier,))
    finally:
        await database.close()
    return str(identifier)


def run() -> None:
    """Measure and print."""
    spare_collector()
    with tempfile.TemporaryDirectory() as folder, DataDir(Path(folder) / "data") as data_dir:
        postgres = EmbeddedPostgres(data_dir)
        postgres.start()
        try:
            migrate(postgres.owner_url(), app_role="trimtab_app")
            with psycopg.connect(postgres.owner_url()) as connection:
                connection.execute(PLAIN_TABLE.encode())
                server = connection.info.parameter_status("server_version")
            workspace = asyncio.run(make_workspace(postgres.app_url()))
            ratios = []
            for number in range(1, ROUNDS + 1):
                root = Path(folder) / f"spool-{number}"
                writer = SpoolWriter(root)
                for record in make_records(workspace, random.Random(number)):
                    writer.append(encode_record(record))
                asyncio.run(writer.close())
                copied = RECORDS / plain_copy(postgres.owner_url(), writer.directory)
                shipped = RECORDS / asyncio.run(ship(postgres.app_url(), root))
                ratios.append(shipped / copied)
                print(f"round {number}: shipped {shipped:,.0f}/s, plain COPY {copied:,.0f}/s, ratio {ratios[-1]:.2f}")
            print(f"PostgreSQL {server}, {RECORDS:,} records a round: median ratio {statistics.median(ratios):.2f}")
        finally:
            postgres.stop()
