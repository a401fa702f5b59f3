"""Time to the p95 over 30 days of hourly rollups for 50 deployments: histograms joined in SQL, merged with numpy.

`python -m benchmarks percentiles`
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg

from trimtab.datadir import DataDir
from trimtab.db.database import SYSTEM, Database
from trimtab.db.embedded import EmbeddedPostgres
from trimtab.db.migrate import migrate
from trimtab.ids import new_id
from trimtab.metering.compaction import FAMILIES, NOBODY
from trimtab.metering.histogram import of_values
from trimtab.metering.quantiles import Distribution

DEPLOYMENTS = 50
DAYS = 30
REQUESTS_AN_HOUR = 500
HISTOGRAMS = 50
ROUNDS = 7
QUERY = """
select s.deployment_id, string_agg(h.latency_hist, ''::bytea)
from trimtab.series s join trimtab.rollup_hour h on h.series_id = s.id
where s.deployment_id = any(%s) and h.bucket >= %s and h.bucket < %s group by s.deployment_id
"""


def fill(url: str, workspace: UUID, deployments: list[UUID], begin: datetime) -> int:
    """Write hourly rollups; answers how many rows."""
    draw = random.Random(1)
    histograms = [of_values(draw.lognormvariate(13, 0.6) for _ in range(REQUESTS_AN_HOUR)) for _ in range(HISTOGRAMS)]
    family = FAMILIES["request"]
    columns = ("series_id", "workspace_id", "bucket", "source_id", *family.merged, *family.histograms)
    rows = 0
    with psycopg.connect(url) as connection:
        connection.execute("insert into trimtab.workspaces (id, name) values (%s, 'bench')", (workspace,))
        series = [
            connection.execute(
                "insert into trimtab.series (workspace_id, deployment_id, operation) "
                "values (%s, %s, 'chat') returning id",
                (workspace, deployment),
            ).fetchone()
            for deployment in deployments
        ]
        # RLS forbids COPY into the table itself.
        connection.execute("create temporary table filling (like trimtab.rollup_hour)")
        with (
            connection.cursor() as cursor,
            cursor.copy(f"copy filling ({', '.join(columns)}) from stdin".encode()) as copy,
        ):
            for row in series:
                assert row is not None
                for hour in range(DAYS * 24):
                    counters = [REQUESTS_AN_HOUR] * len(family.merged)
                    copy.write_row(
                        (row[0], workspace, begin + timedelta(hours=hour), NOBODY, *counters,
                         draw.choice(histograms), b"", b"")
                    )  # fmt: skip
                    rows += 1
        connection.execute("insert into trimtab.rollup_hour select * from filling")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze trimtab.rollup_hour")
    return rows


async def measure(url: str, deployments: list[UUID], begin: datetime) -> list[tuple[float, float]]:
    """Milliseconds of each round: in all, and of that for the query."""
    database = Database(url)
    await database.open()
    found = []
    try:
        for _ in range(ROUNDS):
            async with database.transaction(SYSTEM) as connection:
                began = time.perf_counter()
                cursor = await connection.execute(
                    QUERY, (deployments, begin, begin + timedelta(days=DAYS)), binary=True
                )
                rows = await cursor.fetchall()
                queried = time.perf_counter()
                p95 = {row[0]: Distribution.of(row[1]).quantiles([0.95]) for row in rows}
                ended = time.perf_counter()
            assert len(p95) == DEPLOYMENTS
            found.append(((ended - began) * 1e3, (queried - began) * 1e3))
    finally:
        await database.close()
    return found


def run() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, DataDir(Path(folder) / "data") as data_dir:
        postgres = EmbeddedPostgres(data_dir)
        postgres.start()
        try:
            migrate(postgres.owner_url(), app_role="trimtab_app")
            deployments = [new_id() for _ in range(DEPLOYMENTS)]
            begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
            rows = fill(postgres.owner_url(), new_id(), deployments, begin)
            times = asyncio.run(measure(postgres.app_url(), deployments, begin))
            total, query = (statistics.median(values) for values in zip(*times, strict=True))
            print(
                f"p95 of {DEPLOYMENTS} deployments over {DAYS} days from {rows:,} hourly rows: "
                f"median {total:.0f} ms (query {query:.0f} ms), first {times[0][0]:.0f} ms"
            )
        finally:
            postgres.stop()
