"""A real PostgreSQL server for the tests: one per run, one fresh database per test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from trimtab.datadir import DataDir
from trimtab.db.embedded import EmbeddedPostgres, Urls
from trimtab.db.migrate import migrate

TEMPLATE = "trimtab_template"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The server of this test run.

    Parameters:
        postgres: the embedded server.
        template: connection strings of the migrated database that tests clone; connect to it in no test.
    """

    postgres: EmbeddedPostgres
    template: Urls

    @contextmanager
    def clone(self, template: str = TEMPLATE) -> Iterator[Urls]:
        """A database of one's own, dropped after; `template1` gives an empty one."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.postgres.urls("postgres").owner, autocommit=True) as admin:
            admin.execute(
                sql.SQL("create database {} template {} strategy file_copy").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
            try:
                yield self.postgres.urls(name)
            finally:
                admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def running_server(directory: Path) -> Iterator[PostgresServer]:
    """Start a server on `directory`, without safety against power loss, and migrate its template database."""
    with DataDir(directory) as data_dir:
        postgres = EmbeddedPostgres(data_dir, durable=False)
        postgres.start()
        try:
            with psycopg.connect(postgres.urls("postgres").owner, autocommit=True) as admin:
                admin.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
            template = postgres.urls(TEMPLATE)
            migrate(template.owner, app_role="trimtab_app")
            yield PostgresServer(postgres, template)
        finally:
            postgres.stop()
