"""Somebody's own PostgreSQL, given by a privileged connection string only."""

from __future__ import annotations

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.postgres import Urls

from trimtab.db.app_role import application_url
from trimtab.db.migrate import migrate
from trimtab.errors import Code, TrimtabError
from trimtab.sealing import Sealer
from trimtab.server.preparation import check_database, prepare_database
from trimtab.settings import Settings


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(Fernet.generate_key().decode())


def test_a_privileged_role_is_replaced_by_one_without_rights(database_urls: Urls, sealer: Sealer) -> None:
    url = application_url(database_urls.owner, sealer)
    assert conninfo_to_dict(url)["user"] != conninfo_to_dict(database_urls.owner)["user"]
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select rolsuper, rolbypassrls, rolcreaterole, pg_has_role(current_user, 'trimtab_program', 'member') "
            "from pg_roles where rolname = current_user"
        ).fetchone()
        assert row == (False, False, False, True)
        assert connection.execute("select count(*) from public.ai_models").fetchone() == (0,)


def test_every_host_with_the_same_secret_key_gets_the_same_role(database_urls: Urls, sealer: Sealer) -> None:
    first = application_url(database_urls.owner, sealer)
    assert application_url(database_urls.owner, sealer) == first
    psycopg.connect(first).close()


def test_an_unprivileged_role_stays(database_urls: Urls, sealer: Sealer) -> None:
    assert application_url(database_urls.app, sealer) == database_urls.app


def test_an_empty_database_is_prepared_from_the_owner_alone(
    empty_database_urls: Urls, sealer: Sealer, tmp_path
) -> None:
    key = Fernet.generate_key().decode()
    settings = Settings(data_dir=tmp_path, secret_key=key)
    owner = empty_database_urls.owner
    prepared = prepare_database(settings, Urls(owner, owner))
    assert prepared.admin_key is not None
    assert conninfo_to_dict(prepared.app_url)["user"] != conninfo_to_dict(owner)["user"]
    again = prepare_database(settings, Urls(owner, owner))
    assert again.admin_key is None
    assert again.app_url == prepared.app_url


def test_a_gateway_uses_what_others_prepared_and_prepares_nothing(empty_database_urls: Urls, tmp_path) -> None:
    key = Fernet.generate_key().decode()
    settings = Settings(data_dir=tmp_path, role="gateway", secret_key=key)
    urls = Urls(empty_database_urls.owner, empty_database_urls.owner)
    assert check_database(settings, urls).app_url == urls.app
    with psycopg.connect(urls.owner) as connection:
        assert connection.execute("select to_regnamespace('trimtab')").fetchone() == (None,)
    prepared = prepare_database(settings, urls)
    assert check_database(settings, urls).app_url == prepared.app_url
    assert check_database(settings, Urls(prepared.app_url, prepared.app_url)).app_url == prepared.app_url


def test_a_gateway_with_another_secret_key_is_refused(database_urls: Urls, tmp_path) -> None:
    first = Settings(data_dir=tmp_path, secret_key=Fernet.generate_key().decode())
    prepare_database(first, database_urls)
    other = Settings(data_dir=tmp_path, role="gateway", secret_key=Fernet.generate_key().decode())
    with pytest.raises(TrimtabError) as caught:
        check_database(other, database_urls)
    assert caught.value.code is Code.SEALED_BY_ANOTHER


def test_a_gateway_refuses_a_newer_schema_but_not_a_database_that_is_down(database_urls: Urls, tmp_path) -> None:
    settings = Settings(data_dir=tmp_path, role="gateway", secret_key=Fernet.generate_key().decode())
    down = "postgresql://nobody@127.0.0.1:1/none"
    assert check_database(settings, Urls(down, down)).app_url == down
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("insert into trimtab.schema_migrations (version, name) values ('29990101000000', 'later')")
    with pytest.raises(TrimtabError) as caught:
        check_database(settings, database_urls)
    assert caught.value.code is Code.DATABASE_NEWER


def test_an_owner_who_may_not_grant_is_told_what_to_do(empty_database_urls: Urls) -> None:
    with psycopg.connect(empty_database_urls.owner, autocommit=True) as connection:
        name = f"plain_{connection.info.dbname}"
        connection.execute(f"create role {name} login password 'plain'")
        connection.execute(f"alter database {connection.info.dbname} owner to {name}")
        connection.execute(f"alter schema public owner to {name}")
        if connection.execute("select 1 from pg_roles where rolname = 'authenticated'").fetchone() is None:
            connection.execute("create role authenticated nologin noinherit")
            connection.execute("create role trimtab_program nologin noinherit")
        try:
            with pytest.raises(TrimtabError) as caught:
                migrate(make_conninfo(empty_database_urls.owner, user=name, password="plain"), app_role=name)
            assert caught.value.code is Code.FORBIDDEN
            assert "grant authenticated, trimtab_program" in caught.value.detail
        finally:
            connection.execute(f"reassign owned by {name} to current_user")
            connection.execute(f"drop owned by {name}")
            connection.execute(f"drop role {name}")
