"""Somebody's own PostgreSQL, given by a privileged connection string only."""

from __future__ import annotations

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict
from tests.postgres import Urls

from trimtab.db.app_role import application_url
from trimtab.sealing import Sealer
from trimtab.server.preparation import prepare_database
from trimtab.server.settings import Settings


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
