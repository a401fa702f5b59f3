"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.postgres import PostgresServer, running_server

from trimtab.db.database import Database
from trimtab.db.embedded import Urls


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The PostgreSQL server of this run; it holds a migrated template database."""
    with running_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def database_urls(postgres_server: PostgresServer) -> Iterator[Urls]:
    """Connection strings (`owner`, `app`) of a migrated database of the test's own, dropped after it."""
    with postgres_server.clone() as urls:
        yield urls


@pytest.fixture
def empty_database_urls(postgres_server: PostgresServer) -> Iterator[Urls]:
    """Connection strings (`owner`, `app`) of a database without a schema, dropped after the test."""
    with postgres_server.clone("template1") as urls:
        yield urls


@pytest.fixture
async def database(database_urls: Urls) -> AsyncIterator[Database]:
    """A `Database`, opened as the application role, on a database of the test's own."""
    opened = Database(database_urls.app)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()
