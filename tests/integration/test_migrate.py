"""Migrations: all or nothing, once, and never over a newer schema."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.postgres import Urls

from trimtab.db.migrate import Migration, load_migrations, migrate
from trimtab.errors import Code, TrimtabError

LATER = Migration("29990101000000", "from_the_future", "create table trimtab.of_the_future (id int)")


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {
            row[0]
            for row in connection.execute(
                "select relname from pg_class where relkind in ('r', 'p') and relnamespace::regnamespace::text "
                "in ('public', 'trimtab')"
            )
        }


def test_all_migrations_apply_once(empty_database_urls: Urls) -> None:
    assert migrate(empty_database_urls.owner) == [migration.version for migration in load_migrations()]
    assert migrate(empty_database_urls.owner) == []


def test_programs_that_start_at_once_share_the_work(empty_database_urls: Urls) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrate(empty_database_urls.owner), range(4)))
    assert sorted(version for versions in applied for version in versions) == [
        migration.version for migration in load_migrations()
    ]


def test_a_migration_that_fails_halfway_leaves_nothing(database_urls: Urls) -> None:
    before = tables(database_urls.owner)
    broken = Migration("20990101000000", "broken", "create table trimtab.half (id int); select 1 / 0;")
    known = [*load_migrations(), broken]
    with pytest.raises(TrimtabError) as caught:
        migrate(database_urls.owner, migrations=known)
    assert caught.value.code is Code.MIGRATION_FAILED
    assert "20990101000000_broken" in caught.value.detail
    assert "rolled back" in caught.value.detail
    assert tables(database_urls.owner) == before
    mended = Migration(broken.version, broken.name, "create table trimtab.half (id int)")
    assert migrate(database_urls.owner, migrations=[*load_migrations(), mended]) == [broken.version]


def test_a_newer_schema_is_refused_and_left_alone(database_urls: Urls) -> None:
    migrate(database_urls.owner, migrations=[*load_migrations(), LATER])
    before = tables(database_urls.owner)
    with pytest.raises(TrimtabError) as caught:
        migrate(database_urls.owner)
    assert caught.value.code is Code.DATABASE_NEWER
    assert LATER.version in caught.value.detail
    assert tables(database_urls.owner) == before


def test_a_database_that_is_down_is_named_as_such() -> None:
    with pytest.raises(TrimtabError) as caught:
        migrate("postgresql://nobody@127.0.0.1:1/none")
    assert caught.value.code is Code.DATABASE_UNAVAILABLE
