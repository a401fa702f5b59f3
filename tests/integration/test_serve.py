"""The real parts under the real supervisor: first and later start, and databases it must refuse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
from cryptography.fernet import Fernet
from tests.waiting import is_gone, wait_for

from trimtab.db.embedded import Urls, read_urls

PROGRAM = """
import os, sys
from trimtab.settings import Settings
from trimtab.server.supervisor import run
sys.exit(run(Settings.from_env(os.environ, port=0)))
"""


@contextmanager
def launched(data_dir: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The server's process and the file that takes all it says; ended after."""
    said = data_dir.with_suffix(".said")
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TRIMTAB_DATA_DIR": str(data_dir), **environment},
        )
    try:
        yield process, said
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def address(process: subprocess.Popen[bytes], said: Path) -> str:
    """Wait for the ready line; returns the address in it."""

    def ready() -> re.Match[str] | None:
        assert process.poll() is None, said.read_text()
        return re.search(r"ready on (http://\S+)", said.read_text())

    return wait_for(ready, "the ready line", 60)[1]


def test_first_and_later_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with launched(data_dir) as (process, said):
        url = address(process, said)
        with urllib.request.urlopen(f"{url}/healthz", timeout=30) as answer:
            assert answer.status == 200
        shown = re.search(r"Admin API key, shown only this once: (tt_\S+)", said.read_text())
        assert shown is not None
        request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {shown[1]}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["data"] == []
        pids = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        assert process.wait(60) == 0, said.read_text()
        for pid in pids:
            wait_for(lambda pid=pid: is_gone(pid), f"end of process {pid}")
        assert "WARNING" not in said.read_text()
        assert "Traceback" not in said.read_text()
    for path in data_dir.rglob("*"):
        if path.is_file():
            assert shown[1].encode() not in path.read_bytes(), path
    with launched(data_dir) as (process, said):
        address(process, said)
        assert "Admin API key" not in said.read_text()

        # The owner can say that the database is another's, or of another time.
        urls = read_urls(data_dir)
        with psycopg.connect(urls.owner) as connection:
            connection.execute(
                "insert into trimtab.schema_migrations (version, name) values ('29990101000000', 'later')"
            )
    with launched(data_dir) as (process, said):
        assert process.wait(60) == 2
        assert "it belongs to a newer version" in one_line(said)


def one_line(said: Path) -> str:
    """The only line but for what the supervisor logs."""
    lines = [line for line in said.read_text().splitlines() if " INFO " not in line]
    assert len(lines) == 1, lines
    return lines[0]


def test_database_of_ones_own_sealed_by_another(tmp_path: Path, empty_database_urls: Urls) -> None:
    variables = {
        "TRIMTAB_DATABASE_URL": empty_database_urls.app,
        "TRIMTAB_DATABASE_OWNER_URL": empty_database_urls.owner,
        "TRIMTAB_ADMIN_KEY": "tt_a_key_of_our_own",
    }
    with launched(tmp_path / "one", **variables) as (process, said):
        address(process, said)
        assert "Admin API key" not in said.read_text()
    with launched(tmp_path / "two", **variables, TRIMTAB_SECRET_KEY=Fernet.generate_key().decode()) as (process, said):
        assert process.wait(60) == 2
        assert "were sealed with another secret key" in one_line(said)


def test_database_that_is_down(tmp_path: Path) -> None:
    with launched(tmp_path / "data", TRIMTAB_DATABASE_URL="postgresql://u:secret@127.0.0.1:9/trimtab") as (
        process,
        said,
    ):
        assert process.wait(60) == 2
        assert "cannot be reached" in one_line(said)
        assert "secret" not in said.read_text()
