"""The embedded server's process: started as a direct child, waited for, restarted after a crash, stopped."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from trimtab.datadir import DataDir, not_writable
from trimtab.db.embedded import cluster as files
from trimtab.db.embedded import urls as addresses
from trimtab.db.embedded.identity import Identity, candidates, choose, own
from trimtab.db.embedded.urls import APP_ROLE, DATABASE, OWNER_ROLE, Urls, build_url, is_postgres_of
from trimtab.errors import Code, TrimtabError

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "logging_collector": "off",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_POLL_SECONDS = 0.01
_ORPHAN_SECONDS = 10.0
_PORT_ATTEMPTS = 3
_GRAVE = ("FATAL:", "PANIC:", "could not", "configuration parameter", "invalid value", "syntax error")


class EmbeddedPostgres:
    """A PostgreSQL server on a data directory, as a child of this process.

    Start it from the main thread: the signal that ends it with its parent follows the thread that started it.

    Parameters:
        data_dir: held by the caller as long as the server runs.
        durable: False gives up safety against power loss; for tests.
        identities: as whom it may run, best first; None chooses by the present user.
    """

    def __init__(
        self, data_dir: DataDir, *, durable: bool = True, identities: Sequence[Identity] | None = None
    ) -> None:
        self._data_dir = data_dir
        self._durable = durable
        self._identities = identities
        self._cluster = data_dir.path / "postgres"
        self._programs = files.find_programs()
        self._passwords: files.Passwords | None = None
        self._identity: Identity | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Process id of the server; None before the first launch."""
        return self._process.pid if self._process else None

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1; the same through restarts."""
        if self._port is None:
            raise RuntimeError("the embedded PostgreSQL was not started")
        return self._port

    def urls(self, database: str = DATABASE) -> Urls:
        """Connection strings of `database` as the owner and as the application."""
        if self._passwords is None:
            raise RuntimeError("the embedded PostgreSQL was not started")
        return Urls(
            owner=build_url(OWNER_ROLE, self._passwords.owner, self.port, database),
            app=build_url(APP_ROLE, self._passwords.app, self.port, database),
        )

    def owner_url(self) -> str:
        """Connection string for migrations."""
        return self.urls().owner

    def app_url(self) -> str:
        """Connection string for the program: neither owner nor superuser, so that row level security binds it."""
        return self.urls().app

    def start(self, timeout: float = 300.0) -> None:
        """Make the cluster on first use, start the server, make sure of its roles and database.

        `timeout` is in seconds and covers crash recovery. Raises TrimtabError (START_FAILED,
        DATA_DIR_NOT_WRITABLE); nothing is left running then.
        """
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                self.launch()
                self.wait_ready(timeout)
                self._admit_roles()
                return
            except TrimtabError as error:
                self.stop()
                if "could not bind" not in error.detail or attempt == _PORT_ATTEMPTS:
                    raise
                self._port = None
            except BaseException:
                self.stop()
                raise

    def launch(self) -> None:
        """Start the server process without waiting for it; after a crash of it, on the same port.

        Raises TrimtabError (START_FAILED, DATA_DIR_NOT_WRITABLE).
        """
        if self.is_running():
            raise RuntimeError("the embedded PostgreSQL runs already")
        identity = self._prepare()
        self._end_orphan()
        if self._port is None:
            self._port = _free_port()
        settings = {**SETTINGS, **({} if self._durable else NOT_DURABLE), "port": str(self._port)}
        command = [str(self._programs / "postgres"), "-D", str(self._cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        try:
            log = files.open_log(self._data_dir)
        except OSError as error:
            raise not_writable(self._data_dir.path, error) from None
        try:
            self._log_start = os.fstat(log).st_size
            self._process = identity.spawn(
                command,
                cwd=self._cluster,
                environment=files.ENVIRONMENT,
                output=log,
                # Immediate shutdown: a fast one (SIGINT) that meets a crash recovery may hang until it is told
                # more, and an orphan has nobody who would. The next start recovers from the log.
                ends_with_parent=signal.SIGQUIT,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise TrimtabError(Code.START_FAILED, f"PostgreSQL could not be started: {error}") from None
        finally:
            os.close(log)
        self._data_dir.write_private(addresses.FILE, addresses.encode(self.urls(), self._process.pid))

    def is_running(self) -> bool:
        """Whether the server process lives; a dead one is reaped."""
        return self._process is not None and self._process.poll() is None

    def exit_status(self) -> int | None:
        """Exit status of a server that has ended, negative for a signal; None while it runs."""
        return self._process.poll() if self._process else None

    def is_ready(self) -> bool:
        """Whether the server accepts connections; it writes so into its own pid file."""
        try:
            lines = self._pid_file.read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def wait_ready(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until the server accepts connections.

        Raises TrimtabError (START_FAILED) with the server's own reason.
        """
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if not self.is_running():
                raise TrimtabError(Code.START_FAILED, f"PostgreSQL did not start: {self.last_words()}")
            if time.monotonic() > deadline:
                raise TrimtabError(
                    Code.START_FAILED,
                    f"PostgreSQL was not ready after {timeout:.0f} s; see {self._data_dir.path / files.LOG}",
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, timeout: float = 20.0, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop the server: fast, after `timeout` seconds or once `hurry()` without a checkpoint, at last by force.

        One that is not ready is stopped without a checkpoint at once: it has nothing to write yet.
        """
        process = self._process
        steps: list[tuple[signal.Signals, float, Callable[[], bool]]] = [
            (signal.SIGINT, timeout, hurry),
            (signal.SIGQUIT, 10.0, lambda: False),
            (signal.SIGKILL, 10.0, lambda: False),
        ]
        if not self.is_ready():
            del steps[0]
        for number, seconds, cut_short in steps:
            if process is None or process.poll() is not None:
                break
            process.send_signal(number)
            deadline = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < deadline and not cut_short():
                time.sleep(_POLL_SECONDS)
        (self._data_dir.path / addresses.FILE).unlink(missing_ok=True)

    def last_words(self) -> str:
        """The server's last complaint since it was launched, one line."""
        path = self._data_dir.path / files.LOG
        with path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode("utf-8", "replace").splitlines()
        grave = [line for line in lines if any(word in line for word in _GRAVE)]
        chosen = grave or lines[-1:]
        return " / ".join(line.split("]", 1)[-1].strip() for line in chosen) or f"see {path}"

    @property
    def _pid_file(self) -> Path:
        return self._cluster / "postmaster.pid"

    def _prepare(self) -> Identity:
        """Choose the identity and make the cluster, where that has not been done."""
        if self._passwords is None:
            self._passwords = files.load_passwords(self._data_dir, self._cluster)
        if self._identity is not None:
            return self._identity
        identities = candidates() if self._identities is None else self._identities
        postgres = self._programs / "postgres"
        try:
            made = self._cluster.exists()
            directory = self._cluster if made else files.fresh_directory(self._cluster)
            identity = choose(identities, postgres, directory, files.ENVIRONMENT)
            own(directory, identity)
        except OSError as error:
            raise not_writable(self._data_dir.path, error) from None
        if not made:
            files.make_cluster(
                self._data_dir, self._programs, self._cluster, identity, self._passwords, sync=self._durable
            )
        self._identity = identity
        return identity

    def _end_orphan(self) -> None:
        """End the server of a supervisor that was killed, and remove a pid file that no server stands behind.

        We hold the data directory, so a server on it has lost its parent and is shutting down.
        """
        try:
            pid = int(self._pid_file.read_text().split("\n", 1)[0])
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            pid = 0
        for number in (signal.SIGQUIT, signal.SIGKILL):
            if pid <= 1 or not is_postgres_of(pid, self._cluster):
                break
            os.kill(pid, number)
            deadline = time.monotonic() + _ORPHAN_SECONDS
            while is_postgres_of(pid, self._cluster) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        self._pid_file.unlink(missing_ok=True)

    def _admit_roles(self) -> None:
        """Make the application role and the database, before any migration wants to grant to them."""
        if self._passwords is None:
            raise RuntimeError("the embedded PostgreSQL was not started")
        try:
            with psycopg.connect(self.urls("postgres").owner, autocommit=True) as connection:
                # Hashed here, so that the password can appear in no log.
                secret = connection.pgconn.encrypt_password(
                    self._passwords.app.encode(), APP_ROLE.encode(), b"scram-sha-256"
                ).decode()
                role = sql.Identifier(APP_ROLE)
                if _absent(connection, "select 1 from pg_roles where rolname = %s", APP_ROLE):
                    connection.execute(sql.SQL("create role {}").format(role))
                connection.execute(
                    sql.SQL(
                        "alter role {} with login nosuperuser nobypassrls nocreatedb nocreaterole "
                        "noreplication password {}"
                    ).format(role, sql.Literal(secret))
                )
                if _absent(connection, "select 1 from pg_database where datname = %s", DATABASE):
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError as error:
            raise TrimtabError(
                Code.START_FAILED, f"the embedded PostgreSQL refuses its owner: {str(error).strip()}"
            ) from None


def _absent(connection: psycopg.Connection[tuple[object, ...]], query: str, name: str) -> bool:
    return connection.execute(query.encode(), (name,)).fetchone() is None


def _free_port() -> int:
    """Return a port that is free now, below those that the system hands to outgoing connections: one of those
    could take the port while the server restarts."""
    for _ in range(100):
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise TrimtabError(Code.START_FAILED, "no free TCP port for the embedded PostgreSQL from 20000 to 32000")
