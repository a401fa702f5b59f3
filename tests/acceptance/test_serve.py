"""Starting and stopping a server, as its user meets it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.acceptance.serving import ServerProcess, alive, command, serving, until


def refused(data_dir: Path, *arguments: str) -> str:
    """Start a server that must refuse to run; returns the one line that says why."""
    server = ServerProcess(data_dir, arguments)
    status = server.process.wait(60)
    said = [line for line in server.said().splitlines() if " INFO " not in line]
    assert status == 2, said
    assert len(said) == 1, said
    return said[0]


def test_a_stopped_server_leaves_no_process_and_starts_again(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    with serving(tmp_path / "data") as server:
        first = server.tree()
        assert len(first) > 3
        assert server.stop() == 0
        until(lambda: not alive(first), "all processes have ended", lambda: alive(first))
    again = ServerProcess(tmp_path / "data")
    try:
        # Stated, not asserted: the machine may be busy with other things.
        record_property("warm_start_seconds", round(again.wait_ready(), 2))
    finally:
        again.stop()


def test_a_second_server_on_the_same_data_directory_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        line = refused(tmp_path / "data")
        assert f"another Trimtab (pid {server.process.pid})" in line
        assert "--data-dir" in line
        assert server.process.poll() is None


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(tmp_path / "data", "--port", str(port))
    assert f"port {port}" in line
    assert "--port" in line
    assert not any(str(tmp_path) in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    line = refused(file / "data")
    assert "data directory" in line
    assert "--data-dir" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_directory_without_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "--data-dir" in refused(locked / "data")


def test_a_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir):
        owner = command("db", "url", "--owner", "--data-dir", str(data_dir)).stdout.strip()
        with psycopg.connect(owner) as connection:
            connection.execute(
                "insert into trimtab.schema_migrations (version, name) values ('29990101000000', 'later')"
            )
        migrated = command("db", "migrate", "--data-dir", str(data_dir), status=1)
        assert migrated.stderr.endswith("(database_newer)\n")
        assert migrated.stderr.count("\n") == 1
    line = refused(data_dir)
    assert "29990101000000" in line
    assert "newer" in line
