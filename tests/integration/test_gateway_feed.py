"""The routing feed outlives whatever the database does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests.running_gateway import key_change, make_workspace, publish_changes, until

from trimtab.db.database import Database
from trimtab.db.embedded import Urls
from trimtab.db.migrate import migrate
from trimtab.gateway import feed as module
from trimtab.gateway.feed import SnapshotFeed

TROUBLE = "routing cannot be brought up to date"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(module, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(module, "LONGEST_BACKOFF", 0.05)
    caplog.set_level(logging.INFO, module.__name__)


@asynccontextmanager
async def running_feed(url: str, directory: Path) -> AsyncIterator[SnapshotFeed]:
    feed = SnapshotFeed(Database(url, max_size=2), directory / "snapshot.bin", stores=True, activity=lambda _: [])
    await feed.start(0.0)
    try:
        yield feed
    finally:
        await feed.stop()


def set_read_only(urls: Urls, value: bool) -> None:
    """Make the database read-only or not, and have everyone connect anew."""
    with psycopg.connect(urls.owner, autocommit=True) as owner:
        name = sql.Identifier(owner.info.dbname)
        owner.execute("set default_transaction_read_only = off")
        setting = sql.SQL("on" if value else "off")
        owner.execute(sql.SQL("alter database {} set default_transaction_read_only = {}").format(name, setting))
        owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
        )


async def test_tables_that_come_later_are_waited_for(
    empty_database_urls: Urls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_feed(empty_database_urls.app, tmp_path) as feed:
        await until(lambda: TROUBLE in caplog.text)
        await asyncio.sleep(0.3)  # several attempts, all of which fail alike
        assert feed.snapshot is None
        assert feed.age() is None
        assert caplog.text.count(TROUBLE) == 1
        await asyncio.to_thread(migrate, empty_database_urls.owner, app_role="trimtab_app")
        await until(lambda: feed.age() is not None)
        assert feed.snapshot is not None
        await until(lambda: "routing is up to date again" in caplog.text)


async def test_a_read_only_database_is_outlived(
    database: Database, database_urls: Urls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = await make_workspace(database)
    async with running_feed(database_urls.app, tmp_path) as feed:
        await until(lambda: feed.age() is not None)
        await asyncio.to_thread(set_read_only, database_urls, True)
        await until(lambda: "(ReadOnlySqlTransaction)" in caplog.text)
        await asyncio.to_thread(set_read_only, database_urls, False)
        await until(lambda: "routing is up to date again" in caplog.text)
        revision = await publish_changes(database, workspace, [key_change(workspace)])
        await until(lambda: feed.snapshot is not None and feed.snapshot.revision == revision)
    assert caplog.text.count("(ReadOnlySqlTransaction)") == 1


async def test_ending_while_the_database_refuses_raises_nothing(
    database_urls: Urls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_feed(database_urls.app, tmp_path) as feed:
        await until(lambda: feed.age() is not None)
        await asyncio.to_thread(set_read_only, database_urls, True)
        await until(lambda: "(ReadOnlySqlTransaction)" in caplog.text)
    assert "could not sign off" in caplog.text
