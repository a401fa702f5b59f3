"""The secret key: made once, and refused where the database was sealed with another."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet

from trimtab.datadir import DataDir
from trimtab.db.embedded import Urls
from trimtab.errors import Code, TrimtabError
from trimtab.sealing import key_fingerprint
from trimtab.server.secrets import check_sealing_key, load_or_create_secret_key
from trimtab.settings import Settings

FIRST, SECOND, THIRD = (Fernet.generate_key().decode() for _ in range(3))


def known(urls: Urls) -> list[str]:
    """Fingerprints that the database knows."""
    with psycopg.connect(urls.owner) as connection:
        query = "select value from trimtab.instance where key = 'sealing_key_fingerprints'"
        row = connection.execute(query).fetchone()
    assert row is not None
    return list(row[0])


def test_made_once(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    with DataDir(tmp_path) as data_dir:
        key = load_or_create_secret_key(settings, data_dir)
        Fernet(key)
        assert load_or_create_secret_key(settings, data_dir) == key
        assert load_or_create_secret_key(replace(settings, secret_key=SECOND), data_dir) == SECOND
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"rubbish", b"", b"\xff\xfe"])
def test_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(content)
    with DataDir(tmp_path) as data_dir, pytest.raises(TrimtabError, match=r"secret\.key") as refusal:
        load_or_create_secret_key(Settings(tmp_path), data_dir)
    assert refusal.value.code is Code.INVALID_SETTING
    assert (tmp_path / "secret.key").read_bytes() == content


def test_another_key_is_refused(database_urls: Urls) -> None:
    check_sealing_key(database_urls.app, FIRST)
    check_sealing_key(database_urls.app, FIRST)
    with pytest.raises(TrimtabError) as refusal:
        check_sealing_key(database_urls.app, SECOND)
    assert refusal.value.code is Code.SEALED_BY_ANOTHER
    assert key_fingerprint(FIRST) in refusal.value.detail
    assert "TRIMTAB_SECRET_KEY" in refusal.value.detail
    assert known(database_urls) == [key_fingerprint(FIRST)]


def test_rotation(database_urls: Urls) -> None:
    check_sealing_key(database_urls.app, FIRST)
    check_sealing_key(database_urls.app, f"{SECOND},{FIRST}")
    assert known(database_urls) == [key_fingerprint(SECOND), key_fingerprint(FIRST)]
    check_sealing_key(database_urls.app, SECOND)
    with pytest.raises(TrimtabError):
        check_sealing_key(database_urls.app, THIRD)


def test_two_first_starts_at_once_agree(database_urls: Urls) -> None:
    def start(key: str) -> bool:
        try:
            check_sealing_key(database_urls.app, key)
        except TrimtabError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(start, (FIRST, SECOND, THIRD))) == [False, False, True]
    assert len(known(database_urls)) == 1


def test_database_that_is_down() -> None:
    with pytest.raises(TrimtabError) as refusal:
        check_sealing_key("postgresql://trimtab_app:x@127.0.0.1:9/trimtab", FIRST)
    assert refusal.value.code is Code.DATABASE_UNAVAILABLE
