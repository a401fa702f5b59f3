"""The embedded PostgreSQL against what happens to it in life: crashes, second starts, root and plain users."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.waiting import is_gone, wait_for

from trimtab.datadir import DataDir
from trimtab.db.embedded import EmbeddedPostgres, Identity, as_nobody, in_namespace, plain, read_urls, server
from trimtab.errors import Code, TrimtabError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PLAIN_UID = 64123


@contextmanager
def held(directory: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str | int]]]:
    """A process that holds a running server on `directory`, with what it said first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.postgres_holder", str(directory), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


@contextmanager
def started(
    directory: Path, identities: list[Identity] | None = None, *, durable: bool = False
) -> Iterator[EmbeddedPostgres]:
    """A running server of this process."""
    with DataDir(directory) as data_dir:
        postgres = EmbeddedPostgres(data_dir, durable=durable, identities=identities)
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()


def one(url: str, query: str) -> object:
    """The single value of a query."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def run(url: str, statement: str) -> None:
    """Execute and commit."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def family(pid: int) -> list[int]:
    """A server process with its backends."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def test_first_and_later_start(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "here"
    with started(directory, durable=True) as postgres:
        assert one(postgres.owner_url(), "select current_user || ' ' || current_database()") == "trimtab_owner trimtab"
        assert one(postgres.app_url(), "select current_user::text") == "trimtab_app"
        run(postgres.owner_url(), "create table kept (n int); insert into kept values (7)")
        expected = {
            "fsync": "on",
            "wal_level": "replica",
            "jit": "off",
            "timezone": "UTC",
            "server_encoding": "UTF8",
            "password_encryption": "scram-sha-256",
            "listen_addresses": "127.0.0.1",
        }
        for name, value in expected.items():
            assert one(postgres.owner_url(), f"select current_setting('{name}')") == value, name
        assert one(postgres.owner_url(), "select datlocale from pg_database where datname = 'trimtab'") == "C.UTF-8"
        first = postgres.urls()
    begin = time.monotonic()
    with started(directory) as postgres:
        assert time.monotonic() - begin < 10
        assert one(postgres.owner_url(), "select n from kept") == 7
        passwords = [url.split("@")[0] for url in (postgres.urls().owner, postgres.urls().app)]
        assert passwords == [url.split("@")[0] for url in (first.owner, first.app)]
    assert is_gone(postgres.pid or 0)


def test_application_role_is_bound_by_policies(tmp_path: Path) -> None:
    with started(tmp_path) as postgres:
        attributes = "rolsuper or rolbypassrls or rolcreatedb or rolcreaterole or rolreplication"
        assert one(postgres.owner_url(), f"select {attributes} from pg_roles where rolname = 'trimtab_app'") is False
        wrong = postgres.app_url().replace("trimtab_app:", "trimtab_app:x")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        run(postgres.owner_url(), "alter role trimtab_app bypassrls createdb password 'other'")
    with started(tmp_path) as postgres:
        assert one(postgres.app_url(), f"select {attributes} from pg_roles where rolname = current_user") is False


def test_secrets_are_private(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with started(directory) as postgres:
        secret = postgres.owner_url().split(":")[2].split("@")[0]
        for name in ("postgres-passwords.json", "postgres.json", "postgres.log", "lock"):
            assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600, name
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert secret not in (directory / "postgres.log").read_text()
        assert all(secret not in part for part in psutil.Process(postgres.pid).cmdline())


def test_urls_for_other_processes(tmp_path: Path) -> None:
    with pytest.raises(TrimtabError, match="no embedded PostgreSQL runs") as refusal:
        read_urls(tmp_path)
    assert refusal.value.code is Code.DATABASE_UNAVAILABLE
    with started(tmp_path) as postgres:
        assert read_urls(tmp_path) == postgres.urls()
        left = (tmp_path / "postgres.json").read_bytes()
    (tmp_path / "postgres.json").write_bytes(left)
    with pytest.raises(TrimtabError, match="no embedded PostgreSQL runs"):
        read_urls(tmp_path)


def test_second_start_is_refused(tmp_path: Path) -> None:
    with started(tmp_path) as postgres:
        with held(tmp_path) as (process, answer):
            assert process.wait(60) == 2
        assert answer == {
            "code": "data_dir_in_use",
            "detail": f"another Trimtab (pid {os.getpid()}) uses the data directory {tmp_path}; "
            "stop it or choose another with --data-dir",
        }
        assert one(postgres.app_url(), "select 1") == 1


def test_server_dies_with_its_parent(tmp_path: Path) -> None:
    with held(tmp_path) as (parent, said):
        run(str(said["owner"]), "create table kept (n int); insert into kept values (7)")
        # A backend in the middle of a statement dies too.
        busy = psycopg.connect(str(said["owner"]), autocommit=True)
        busy.pgconn.send_query(b"select pg_sleep(600)")
        processes = family(int(said["pid"]))
        assert len(processes) > 3
        parent.kill()
        parent.wait(30)
        for pid in processes:
            wait_for(lambda pid=pid: is_gone(pid), f"end of process {pid}")
        busy.close()
    with started(tmp_path) as postgres:
        assert one(postgres.owner_url(), "select n from kept") == 7


def test_server_dies_with_its_parent_even_while_it_recovers(tmp_path: Path) -> None:
    with held(tmp_path) as (parent, said):
        log = tmp_path / "postgres.log"
        backend = next(child for child in family(int(said["pid"])) if child != said["pid"])
        os.kill(backend, signal.SIGKILL)
        wait_for(lambda: "reinitializing" in log.read_text(), "recovery")
        parent.kill()
        parent.wait(30)
        wait_for(lambda: is_gone(int(said["pid"])), "end of the server")
    with started(tmp_path) as postgres:
        assert one(postgres.owner_url(), "select 1") == 1


def test_orphan_is_waited_for(tmp_path: Path) -> None:
    """A start at once after the parent was killed meets a server that is still shutting down."""
    with held(tmp_path) as (parent, said):
        run(str(said["owner"]), "create table kept as select n from generate_series(1, 100000) as n")
        parent.kill()
        parent.wait(30)
    with started(tmp_path) as postgres:
        assert one(postgres.owner_url(), "select count(*) from kept") == 100000


def test_restart_after_kill(tmp_path: Path) -> None:
    with started(tmp_path, durable=True) as postgres:
        run(postgres.owner_url(), "create table kept (n int); insert into kept values (7)")
        url, pid = postgres.owner_url(), postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not postgres.is_running(), "end of the server")
        assert postgres.exit_status() == -signal.SIGKILL

        def again() -> bool:
            # Backends notice the death of their server a moment later; until then a start is refused by PostgreSQL.
            try:
                postgres.launch()
                postgres.wait_ready(30)
            except TrimtabError as error:
                assert "shared memory block" in error.detail, error.detail
                return False
            return True

        wait_for(again, "restart")
        assert postgres.pid != pid
        assert postgres.owner_url() == url
        assert one(url, "select n from kept") == 7


def other_process() -> int:
    """A pid that lives and is not PostgreSQL: our own."""
    return os.getpid()


def zombie() -> int:
    """The pid of a process that has ended and was not waited for."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "a zombie")
    return pid


def gone() -> int:
    """A pid that no process has."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    return process.pid


@pytest.mark.parametrize(
    "whose", [other_process, zombie, gone, lambda: "rubbish"], ids=["other", "zombie", "gone", "bad"]
)
def test_stale_pid_file_is_removed(tmp_path: Path, whose: Callable[[], object]) -> None:
    with started(tmp_path) as postgres:
        content = (tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()
    pid = whose()
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join([str(pid), *content[1:]]) + "\n")
    try:
        with started(tmp_path) as postgres:
            assert one(postgres.app_url(), "select 1") == 1
    finally:
        if whose is zombie:
            os.waitpid(int(str(pid)), 0)


def test_interrupted_first_start(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with started(tmp_path) as postgres:
        assert one(postgres.app_url(), "select 1") == 1
    assert not (tmp_path / "postgres.new").exists()


def test_lost_passwords_are_named(tmp_path: Path) -> None:
    with started(tmp_path):
        pass
    (tmp_path / "postgres-passwords.json").unlink()
    with pytest.raises(TrimtabError, match=r"postgres-passwords\.json is missing"), started(tmp_path):
        pass


def test_failed_start_gives_the_servers_reason(tmp_path: Path) -> None:
    with started(tmp_path):
        pass
    with (tmp_path / "postgres" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(TrimtabError, match="no_such_setting") as refusal, started(tmp_path):
        pass
    assert refusal.value.code is Code.START_FAILED
    assert "\n" not in refusal.value.detail


def test_port_that_is_taken_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = server._free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offers = iter([taken.getsockname()[1], free()])
        monkeypatch.setattr(server, "_free_port", lambda: next(offers))
        with started(tmp_path) as postgres:
            assert one(postgres.app_url(), "select 1") == 1
            assert postgres.port != taken.getsockname()[1]


def test_children_of_a_dead_holder_are_waited_for(tmp_path: Path) -> None:
    """They hold the directory as long as they live, although the holder itself is gone."""
    with DataDir(tmp_path) as first:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[first.lock_fd])
        dead = zombie()
        (tmp_path / "lock").write_text(f"{dead}\n")
    try:
        threading.Timer(0.5, child.kill).start()
        with DataDir(tmp_path):
            assert child.wait(30) == -signal.SIGKILL
    finally:
        os.waitpid(dead, 0)
        assert child.stdin is not None
        child.stdin.close()


def test_large_log_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "postgres.log").write_bytes(b"x" * (11 * 1024 * 1024))
    with started(tmp_path):
        assert (tmp_path / "postgres.log").stat().st_size < 100_000
    assert (tmp_path / "postgres.log.1").stat().st_size > 10_000_000


def test_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrimtabError, match="cannot write in the data directory") as refusal:
        DataDir(tmp_path / "file")
    assert refusal.value.code is Code.DATA_DIR_NOT_WRITABLE


@as_root
def test_root_makes_no_user_and_changes_no_mode() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        directory = Path(parent, "data")
        before = (Path(parent).stat().st_mode, Path("/etc/passwd").read_bytes())
        with started(directory, [in_namespace()]) as postgres:
            assert one(postgres.app_url(), "select 1") == 1
            assert Path(f"/proc/{postgres.pid}/uid_map").read_text().split() == ["65534", "0", "1"]
        assert (Path(parent).stat().st_mode, Path("/etc/passwd").read_bytes()) == before
        # Files belong to root, so a plain backup and removal work as ever.
        assert (directory / "postgres").stat().st_uid == 0


@as_root
def test_root_falls_back_to_nobody_and_back() -> None:
    def forbidden() -> None:
        raise PermissionError("unshare")

    no_namespace = Identity("a user namespace", 0, 0, forbidden)
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        Path(parent).chmod(0o755)
        directory = Path(parent, "data")
        with started(directory, [no_namespace, as_nobody()]) as postgres:
            run(postgres.owner_url(), "create table kept (n int); insert into kept values (7)")
            assert psutil.Process(postgres.pid).uids().effective == as_nobody().uid
            with pytest.raises(PermissionError):
                # What else is in the data directory stays closed to it.
                read_as(as_nobody(), directory / "postgres-passwords.json")
        with started(directory, [in_namespace()]) as postgres:
            assert one(postgres.owner_url(), "select n from kept") == 7


def read_as(identity: Identity, path: Path) -> None:
    """Open `path` as `identity`, in a child."""
    process = identity.spawn(
        ["/bin/cat", str(path)],
        cwd=Path("/"),
        environment={},
        output=subprocess.DEVNULL,
        ends_with_parent=signal.SIGKILL,
    )
    if process.wait(30) != 0:
        raise PermissionError(path)


@as_root
def test_root_without_any_way_is_told_so(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    with pytest.raises(TrimtabError, match="cannot run here") as refusal, started(closed / "data", [as_nobody()]):
        pass
    assert "--data-dir" in refusal.value.detail


@as_root
def test_plain_user() -> None:
    """The whole program as a user who is not root, and who has no entry in /etc/passwd."""
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        os.chown(parent, PLAIN_UID, PLAIN_UID)
        with held(Path(parent, "data"), str(PLAIN_UID)) as (process, said):
            assert "pid" in said, said
            assert psutil.Process(int(said["pid"])).uids().real == PLAIN_UID
            assert one(str(said["app"]), "select current_user::text") == "trimtab_app"
            run(str(said["owner"]), "create table kept (n int)")
            processes = family(int(said["pid"]))
            process.kill()
            process.wait(30)
            for pid in processes:
                wait_for(lambda pid=pid: is_gone(pid), f"end of process {pid}")
        with held(Path(parent, "data"), str(PLAIN_UID)) as (process, said):
            assert one(str(said["app"]), "select 1") == 1


@as_root
def test_plain_user_without_permission() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        Path(parent).chmod(0o755)
        with held(Path(parent, "data"), str(PLAIN_UID)) as (process, said):
            assert process.wait(60) == 2
        assert said["code"] == "data_dir_not_writable"
        assert said["detail"] == (
            f"cannot write in the data directory {parent}/data: Permission denied; "
            "make it writable or choose another with --data-dir"
        )


def test_present_user_is_plain() -> None:
    assert (plain().uid, plain().gid) == (os.geteuid(), os.getegid())
