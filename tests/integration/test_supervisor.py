"""The supervisor with dummy parts: restarts, draining, and that it leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.postgres import PostgresServer
from tests.waiting import is_gone, wait_for

from trimtab.db.embedded import read_urls

NOWHERE = "postgresql://trimtab_app:x@127.0.0.1:9/trimtab"
READY = re.compile(r"Trimtab \S+ ready(?: on http://127\.0\.0\.1:(\d+))? \(role (\w+), data in .+\)")


class Server:
    """A running supervisor, made of dummies."""

    def __init__(
        self, scenario: str, data_dir: Path, *settings: str, embedded: bool = False, **environment: str
    ) -> None:
        # Most dummies never look at the database, so that most tests need none to be started.
        if not embedded and "TRIMTAB_DATABASE_URL" not in environment:
            environment["TRIMTAB_DATABASE_URL"] = NOWHERE
        self.data_dir = data_dir
        self.output = data_dir.parent / f"{data_dir.name}.out"
        self.errors = data_dir.parent / f"{data_dir.name}.err"
        with self.output.open("w") as output, self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.dummy_parts", scenario, str(data_dir), *settings],
                stdout=output,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
                start_new_session=True,
            )

    def wait_ready(self) -> re.Match[str]:
        """Wait for the ready line."""

        def line() -> re.Match[str] | None:
            assert self.process.poll() is None, self.said()
            return READY.search(self.output.read_text())

        return wait_for(line, "the ready line")

    def events(self, name: str | None = None) -> list[tuple[str, int, str]]:
        """What happened to the parts: name, pid, event."""
        path = self.data_dir / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        split = [line.split(" ", 2) for line in lines]
        return [(part, int(pid), event) for part, pid, event in split if name in (None, part)]

    def pid(self, name: str) -> int:
        """The pid of the latest process of a part."""
        return wait_for(lambda: self.events(name), f"an event of {name}")[-1][1]

    def family(self) -> list[int]:
        """All processes of the server."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [self.process.pid, *(child.pid for child in children)]

    def end(self) -> int:
        """Ask to stop; returns the exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def said(self) -> str:
        """All output so far."""
        return self.output.read_text() + self.errors.read_text()


@contextmanager
def serving(
    scenario: str, data_dir: Path, *settings: str, embedded: bool = False, **environment: str
) -> Iterator[Server]:
    """A server that is ready, ended after."""
    server = Server(scenario, data_dir, *settings, embedded=embedded, **environment)
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(30)


def refused(scenario: str, data_dir: Path, *settings: str) -> str:
    """Start what is to be refused; returns the one line on the terminal."""
    server = Server(scenario, data_dir, *settings, embedded=True)
    assert server.process.wait(60) == 2, server.said()
    lines = [line for line in server.said().splitlines() if " INFO " not in line]
    assert len(lines) == 1, lines
    return lines[0]


def all_gone(pids: list[int]) -> None:
    """Wait until none of the processes lives."""
    for pid in pids:
        wait_for(lambda pid=pid: is_gone(pid), f"end of process {pid}")


def ask(port: int, seconds: float) -> socket.socket:
    """Begin a request that takes a while."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(f"{seconds}\n".encode())
    return connection


def test_life_from_start_to_stop(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving("all", data_dir, "workers=2", embedded=True) as server:
        match = server.wait_ready()
        assert match[2] == "all"
        assert "Admin API key, shown only this once: tt_first" in server.said()
        assert {name for name, _, _ in server.events()} == {"web", "web-1", "shipper", "controller", "runner"}
        with ask(int(match[1]), 0) as connection:
            assert connection.recv(100) == b"done\n"
        with psycopg.connect(read_urls(data_dir).app) as connection:
            assert connection.execute("select current_user::text").fetchone() == ("trimtab_app",)
        pids = server.family()
        assert len(pids) > 10
        assert server.end() == 0
        order = [name for name, _, event in server.events() if event in ("drained", "stopped")]
        assert sorted(order[:2]) == ["web", "web-1"]
        assert order[2:] == ["shipper", "controller", "runner"]
        all_gone(pids)
        assert not (data_dir / "postgres" / "postmaster.pid").exists(), "PostgreSQL was shut down cleanly"
    begin = time.monotonic()
    with serving("all", data_dir, embedded=True, TRIMTAB_ADMIN_KEY="tt_a_key_of_our_own") as server:
        assert time.monotonic() - begin < 20
        assert "Admin API key" not in server.said()
        assert server.end() == 0


def test_requests_in_flight_are_finished(tmp_path: Path) -> None:
    with serving("web", tmp_path / "data") as server:
        port = int(server.wait_ready()[1])
        with ask(port, 1.5) as connection:
            wait_for(lambda: any(e.startswith("got") for _, _, e in server.events()), "the request")
            server.process.terminate()
            assert connection.recv(100) == b"done\n"
        assert server.process.wait(30) == 0
        with pytest.raises(ConnectionRefusedError):
            ask(port, 0)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_hurries(tmp_path: Path, second: signal.Signals) -> None:
    with serving("web", tmp_path / "data") as server:
        with ask(int(server.wait_ready()[1]), 600) as connection:
            wait_for(lambda: any(e.startswith("got") for _, _, e in server.events()), "the request")
            pids = server.family()
            server.process.send_signal(signal.SIGINT)
            wait_for(lambda: "stopping web" in server.said(), "the first signal")
            server.process.send_signal(second)
            assert server.process.wait(20) == 0
            assert connection.recv(100) == b""
        all_gone(pids)


def test_drain_time_is_limited(tmp_path: Path) -> None:
    with serving("web", tmp_path / "data", TRIMTAB_DRAIN_SECONDS="0.5") as server:
        with ask(int(server.wait_ready()[1]), 600):
            wait_for(lambda: any(e.startswith("got") for _, _, e in server.events()), "the request")
            assert server.end() == 0
        assert "web did not end in time; killed" in server.said()


def test_deaf_part_is_killed(tmp_path: Path) -> None:
    with serving("deaf", tmp_path / "data") as server:
        pids = server.family()
        assert server.end() == 0
        all_gone(pids)


def test_dead_part_is_started_again(tmp_path: Path) -> None:
    with serving("all", tmp_path / "data") as server:
        others = {name: server.pid(name) for name in ("web", "controller", "runner")}
        for deaths in (1, 2):
            victim = server.pid("shipper")
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda n=deaths: len(server.events("shipper")) == n + 1, "the restart")
        said = server.errors.read_text()
        assert "shipper ended (killed by SIGKILL); starting it again in 0.2 s" in said
        assert "shipper ended (killed by SIGKILL); starting it again in 0.4 s" in said
        assert {name: server.pid(name) for name in others} == others
        assert server.end() == 0


def test_connections_wait_while_the_only_worker_restarts(tmp_path: Path) -> None:
    with serving("web", tmp_path / "data") as server:
        port = int(server.wait_ready()[1])
        os.kill(server.pid("web"), signal.SIGKILL)
        with ask(port, 0) as connection:
            assert connection.recv(100) == b"done\n"
        assert server.end() == 0


def test_children_of_a_killed_part_are_ended(tmp_path: Path) -> None:
    with serving("all", tmp_path / "data") as server:
        child = int(server.events("runner")[0][2].split()[1])
        os.kill(server.pid("runner"), signal.SIGKILL)
        all_gone([child])
        wait_for(lambda: not psutil.pid_exists(child), "no zombie is left")
        wait_for(lambda: len(server.events("runner")) == 2, "the restart")
        assert server.end() == 0


def test_what_a_part_leaves_behind_is_killed(tmp_path: Path) -> None:
    with serving("careless", tmp_path / "data") as server:
        child = int(server.events("runner")[0][2].split()[1])
        assert server.end() == 0
        all_gone([child])


@pytest.mark.parametrize("scenario", ["all", "deaf"])
def test_killed_supervisor_leaves_nothing_and_next_start_works(tmp_path: Path, scenario: str) -> None:
    data_dir = tmp_path / "data"
    with serving(scenario, data_dir, embedded=True) as server:
        pids = server.family()
        assert len(pids) > 5
        server.process.kill()
        server.process.wait(30)
        # At once, while the old processes are still about to end: it waits for them.
        with serving(scenario, data_dir, embedded=True) as successor:
            all_gone(pids)
            assert successor.end() == 0


def test_killed_postgres_comes_back_on_its_port(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving("all", data_dir, embedded=True) as server:
        urls = read_urls(data_dir)
        parts = {name: server.pid(name) for name in ("web", "shipper", "controller", "runner")}
        with psycopg.connect(urls.owner, autocommit=True) as connection:
            connection.execute("create table kept as select 7 as n")
        pid = json.loads((data_dir / "postgres.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)

        def kept() -> bool:
            try:
                with psycopg.connect(urls.owner) as connection:
                    return connection.execute("select n from kept").fetchone() == (7,)
            except psycopg.OperationalError:
                return False

        wait_for(lambda: is_gone(pid), "the death")
        wait_for(kept, "PostgreSQL again")
        wait_for(lambda: "PostgreSQL accepts connections again" in server.said(), "the log line")
        assert "PostgreSQL ended (killed by SIGKILL" in server.said()
        assert read_urls(data_dir) == urls
        assert {name: server.pid(name) for name in parts} == parts
        pids = server.family()
        assert server.end() == 0
        all_gone(pids)


def test_stopped_while_postgres_is_down(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving("idle", data_dir, embedded=True) as server:
        pids = server.family()
        os.kill(json.loads((data_dir / "postgres.json").read_text())["pid"], signal.SIGKILL)
        assert server.end() == 0
        all_gone(pids)


def test_stopped_while_starting(tmp_path: Path) -> None:
    server = Server("all", tmp_path / "data", embedded=True)
    wait_for(lambda: (tmp_path / "data" / "lock").exists(), "the start")
    pids = server.family()
    assert server.end() in (0, 143)
    all_gone(pids)
    with serving("all", tmp_path / "data", embedded=True) as again:
        assert again.end() == 0


def test_second_server_is_refused(tmp_path: Path) -> None:
    with serving("all", tmp_path / "data") as server:
        other = tmp_path / "data" / ".." / "data"
        line = refused("all", other)
        assert f"another Trimtab (pid {server.process.pid}) uses the data directory" in line
        assert server.end() == 0


def test_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("all", tmp_path / "data", f"port={port}")
    assert line == (
        f"trimtab: port {port} on 127.0.0.1 is taken by another program; stop it or choose another with --port"
    )
    assert not (tmp_path / "data" / "postgres").exists()


def test_foreign_address_is_refused(tmp_path: Path) -> None:
    assert "cannot listen on 192.0.2.1" in refused("all", tmp_path / "data", "host=192.0.2.1")
    assert "is no address" in refused("all", tmp_path / "data", "host=no.such.host.invalid")


def test_unusable_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert refused("all", tmp_path / "data").startswith("trimtab: cannot write in the data directory")


def test_bad_secret_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_text("no key\n")
    line = refused("all", tmp_path / "data")
    assert "secret.key is no Fernet key" in line
    assert "no key" not in line


def test_part_that_never_gets_ready_ends_the_start(tmp_path: Path) -> None:
    server = Server("broken", tmp_path / "data")
    assert server.process.wait(60) == 1
    assert "controller ended 5 times before it was ready (exit status 3); stopping" in server.said()
    assert len(server.events("controller")) == 5
    assert "ready on" not in server.said()
    assert server.events("shipper")[-1][2] == "stopped"


def test_part_that_refuses_ends_the_start(tmp_path: Path) -> None:
    server = Server("refused", tmp_path / "data")
    assert server.process.wait(60) == 2
    assert "trimtab: controller: that cannot be\n" in server.said()
    assert "Traceback" not in server.said()


def test_secrets_reach_parts_by_no_visible_way(tmp_path: Path) -> None:
    with serving("observe", tmp_path / "data", embedded=True, TRIMTAB_ADMIN_KEY="tt_a_key_of_our_own") as server:
        seen = json.loads((tmp_path / "data" / "seen.json").read_text())
        assert seen["environment"] == []
        assert seen["admin_key"] is None
        assert seen["secret_key"] == (tmp_path / "data" / "secret.key").read_text().strip()
        assert seen["database_url"] == read_urls(tmp_path / "data").app
        password = seen["database_url"].split(":")[2].split("@")[0]
        assert not any(password in argument or seen["secret_key"] in argument for argument in seen["arguments"])
        assert server.end() == 0


def test_database_of_ones_own(tmp_path: Path, postgres_server: PostgresServer) -> None:
    data_dir = tmp_path / "data"
    with postgres_server.clone("template1") as urls:
        variables = {"TRIMTAB_DATABASE_URL": urls.app, "TRIMTAB_DATABASE_OWNER_URL": urls.owner}
        with serving("idle", data_dir, **variables) as server:
            assert (data_dir / "prepared").read_text() == urls.owner
            assert not (data_dir / "postgres").exists()
            assert server.end() == 0


def test_gateway_starts_with_its_database_down(tmp_path: Path) -> None:
    with serving("all", tmp_path / "data", f"database_url={NOWHERE}", "role=gateway") as server:
        assert not (tmp_path / "data" / "prepared").exists()
        assert server.end() == 0
