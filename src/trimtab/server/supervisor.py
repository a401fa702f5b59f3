"""The process that `trimtab serve` becomes: it starts the database and the parts, keeps them running, stops them.

It runs no event loop and no thread of its own: parent-death signals follow the thread that started a child, and what
has nothing to do but wait should have nothing that can fail.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from types import FrameType

import psutil

from trimtab.context import PartContext
from trimtab.datadir import DataDir
from trimtab.db.embedded import EmbeddedPostgres, Urls
from trimtab.errors import TrimtabError
from trimtab.processes import adopt_orphans
from trimtab.server.children import Backoff, Child, describe_exit
from trimtab.server.listening import listen
from trimtab.server.part import EXIT_REFUSED, one_line
from trimtab.server.parts import PARTS, Part
from trimtab.server.preparation import Prepared, check_database, prepare_database
from trimtab.server.secrets import load_or_create_secret_key
from trimtab.settings import Settings, without_settings

Prepare = Callable[[Settings, Urls], Prepared]

log = logging.getLogger("trimtab.supervisor")

EXIT_FAILED = 1
_DEATHS_BEFORE_READY = 5
_HURRY_SECONDS = 2.0
_POLL_SECONDS = 0.05


class _StopRequestedError(Exception):
    """A signal asked to stop while starting."""


def run(settings: Settings) -> int:
    """Run the server until a signal stops it; returns the exit status. Call it from the main thread."""
    # Imported late, so that a supervisor of other parts needs no feature.
    return Supervisor(settings, PARTS, preparation(settings)).run()


def preparation(settings: Settings) -> Prepare:
    """What is done with the database first: beside one elsewhere a gateway prepares nothing, and serves even while that
    is down."""
    gateway_alone = settings.role == "gateway" and settings.database_url is not None
    return check_database if gateway_alone else prepare_database


class Supervisor:
    """Owns every process of one server.

    Parameters:
        settings: as given by the user.
        parts: kinds of parts, in the order in which they stop.
        prepare: called with the settings and the database's connection strings before any part starts; returns
            what the parts are to use.
    """

    def __init__(self, settings: Settings, parts: Sequence[Part], prepare: Prepare) -> None:
        self._settings = settings
        self._parts = [part for part in parts if settings.role in part.roles]
        self._prepare = prepare
        self._children: list[Child] = []
        self._postgres: EmbeddedPostgres | None = None
        self._postgres_backoff = Backoff()
        self._postgres_started = 0.0
        self._postgres_restart_at: float | None = None
        self._postgres_recovers = False
        self._listener: socket.socket | None = None
        self._life = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._starting = True
        self._stop_signals = 0
        self._announced = False
        self._exit_status = 0

    def run(self) -> int:
        """Start everything, watch it, stop it; returns the exit status (2 where the start was refused)."""
        logging.basicConfig(
            level=self._settings.log_level.upper(),
            format="%(asctime)s %(levelname)s supervisor: %(message)s",
            stream=sys.stderr,
        )
        try:
            self._watch_signals()
            adopt_orphans()
            with DataDir(self._settings.data_dir) as data_dir:
                try:
                    self._start(data_dir)
                    self._starting = False
                    self._watch()
                finally:
                    self._starting = False
                    self._stop()
        except TrimtabError as error:
            sys.stderr.write(f"trimtab: {one_line(error)}\n")
            return EXIT_REFUSED
        except _StopRequestedError:
            return 128 + signal.SIGTERM
        return self._exit_status

    # --- starting -----------------------------------------------------------------------------------------------

    def _start(self, data_dir: DataDir) -> None:
        settings = self._settings
        if any(part.listens for part in self._parts):
            self._listener = listen(settings.host, settings.port)
        settings = replace(settings, secret_key=load_or_create_secret_key(settings, data_dir))
        urls = self._open_database(data_dir)
        prepared = self._prepare(settings, urls)
        if prepared.admin_key is not None:
            _say(f"Admin API key, shown only this once: {prepared.admin_key}")
        given = replace(settings, data_dir=data_dir.path, admin_key=None, database_url=None, database_owner_url=None)
        if self._listener is not None:
            given = replace(given, port=self._listener.getsockname()[1])
        for part in self._parts:
            for index in range(settings.workers if part.per_worker else 1):
                self._children.append(
                    Child(part, self._context(part, index, given, prepared.app_url, data_dir.lock_fd))
                )
        for child in self._children:
            self._launch(child)

    def _open_database(self, data_dir: DataDir) -> Urls:
        if (external := self._settings.database_url) is not None:
            return Urls(owner=self._settings.database_owner_url or external, app=external)
        self._postgres = EmbeddedPostgres(data_dir)
        self._postgres.start()
        self._postgres_started = time.monotonic()
        return self._postgres.urls()

    def _context(self, part: Part, index: int, settings: Settings, database_url: str, lock: int) -> PartContext:
        return PartContext(
            name=part.name if index == 0 else f"{part.name}-{index}",
            entry=part.entry,
            settings=settings,
            database_url=database_url,
            data_dir=settings.data_dir,
            worker_index=index,
            listen_fd=self._listener.fileno() if part.listens and self._listener else None,
            ready_fd=-1,
            life_fd=self._life[0],
            lock_fd=lock,
        )

    def _launch(self, child: Child) -> None:
        try:
            child.start(without_settings(os.environ))
        except OSError as error:
            log.warning("%s cannot be started (%s); trying again in %.1f s", child.name, error.strerror, child.defer())
            return
        if child.ready_pipe is not None:
            self._selector.register(child.ready_pipe, selectors.EVENT_READ, child)

    # --- watching -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while self._stop_signals == 0 and self._exit_status == 0:
            self._revive_postgres()
            for child in self._children:
                if child.restart_at is not None and child.restart_at <= time.monotonic():
                    self._launch(child)
            self._announce()
            self._wait(self._next_wake())
            self._reap()

    def _next_wake(self) -> float | None:
        """Seconds until something is to be done unasked; None where nothing is."""
        if self._postgres_recovers:
            return _POLL_SECONDS
        moments = [child.restart_at for child in self._children] + [self._postgres_restart_at]
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _wait(self, seconds: float | None) -> None:
        """Wait for a signal, for a part that gets ready, or at most `seconds`."""
        for key, _ in self._selector.select(seconds):
            content = os.read(key.fd, 4096)
            child = key.data
            if child is None:
                continue  # the bytes of signals; what they ask for is looked up elsewhere
            if content and key.fd == child.ready_pipe and child.pid is not None:
                child.is_ready = child.was_ready = True
            self._selector.unregister(key.fd)
            os.close(key.fd)
            if key.fd == child.ready_pipe:
                child.ready_pipe = None

    def _reap(self) -> None:
        """Reap what has ended: our children, and orphans that were adopted."""
        for child in self._children:
            if (reason := child.reap()) is not None and self._stop_signals == 0 and self._exit_status == 0:
                self._judge(child, reason)
        if self._postgres is not None:
            self._postgres.is_running()
        own = {child.pid for child in self._children}
        own.add(self._postgres.pid if self._postgres and self._postgres.is_running() else None)
        while True:
            try:
                # Looked at without reaping first: the exit status of our own children belongs to their objects.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, 0)

    def _judge(self, child: Child, reason: str) -> None:
        """Decide what the end of a part means: restart it, or give up."""
        if child.exit_status == EXIT_REFUSED:
            log.error("%s cannot run (%s); stopping", child.name, reason)
            self._exit_status = EXIT_REFUSED
        elif child.deaths_before_ready >= _DEATHS_BEFORE_READY:
            log.error("%s ended %d times before it was ready (%s); stopping", child.name, _DEATHS_BEFORE_READY, reason)
            self._exit_status = EXIT_FAILED
        else:
            wait = max(0.0, (child.restart_at or 0.0) - time.monotonic())
            log.warning("%s ended (%s); starting it again in %.1f s", child.name, reason, wait)

    def _revive_postgres(self) -> None:
        """Start a dead embedded server again, on its port; the parts reconnect by themselves."""
        postgres = self._postgres
        if postgres is None:
            return
        now = time.monotonic()
        if postgres.is_running():
            if self._postgres_recovers and postgres.is_ready():
                self._postgres_recovers = False
                log.info("PostgreSQL accepts connections again")
            return
        if self._postgres_restart_at is None:
            wait = self._postgres_backoff.delay(now - self._postgres_started)
            self._postgres_restart_at = now + wait
            self._postgres_recovers = False
            reason = describe_exit(postgres.exit_status() or 0)
            log.warning("PostgreSQL ended (%s: %s); starting it again in %.1f s", reason, postgres.last_words(), wait)
        elif self._postgres_restart_at <= now:
            self._postgres_restart_at = None
            self._postgres_started = now
            self._postgres_recovers = True
            try:
                postgres.launch()
            except TrimtabError as error:
                log.warning("%s", error)

    def _announce(self) -> None:
        if self._announced or not all(child.is_ready for child in self._children):
            return
        self._announced = True
        settings = self._settings
        where = ""
        if self._listener is not None:
            host, port = self._listener.getsockname()[:2]
            where = f" on http://{f'[{host}]' if ':' in host else host}:{port}"
        _say(f"Trimtab {version('trimtab')} ready{where} (role {settings.role}, data in {settings.data_dir})")

    # --- stopping -----------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop all, in order; a second signal hurries. Nothing is left behind."""
        if self._listener is not None:
            # The workers hold copies; when they have closed theirs, connecting is refused at once.
            self._listener.close()
        for part in self._parts:
            group = [child for child in self._children if child.part is part and child.pid is not None]
            if not group:
                continue
            grace = part.grace + (self._settings.drain_seconds if part.drains else 0.0)
            log.info("stopping %s (up to %.0f s)", part.name, grace)
            for child in group:
                child.signal(signal.SIGTERM)
            self._wait_gone(group, grace)
        self._end_adopted()
        if self._postgres is not None:
            self._postgres.stop(hurry=self._hurried)
        os.close(self._life[1])
        log.info("stopped")

    def _wait_gone(self, group: Sequence[Child], grace: float) -> None:
        """Wait until all of `group` have ended; kill those that have not after `grace` seconds, or soon if hurried."""
        deadline = time.monotonic() + grace
        hurried = False
        while any(child.pid is not None for child in group):
            if self._hurried() and not hurried:
                hurried = True
                deadline = min(deadline, time.monotonic() + _HURRY_SECONDS)
                for child in self._children:
                    child.signal(signal.SIGTERM)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                for child in group:
                    if child.pid is not None:
                        log.warning("%s did not end in time; killed", child.name)
                        child.signal(signal.SIGKILL)
                deadline = time.monotonic() + 60.0
            self._wait(max(0.0, remaining))
            self._reap()

    def _end_adopted(self) -> None:
        """Kill what parts have left behind: their own children outlive them only by mistake."""
        self._reap()
        postgres = self._postgres.pid if self._postgres else None
        with contextlib.suppress(psutil.Error):
            for orphan in psutil.Process().children():
                if orphan.pid == postgres:
                    continue
                for process in [*orphan.children(recursive=True), orphan]:
                    with contextlib.suppress(psutil.Error):
                        log.warning("killed %s (pid %d), which was left behind", process.name(), process.pid)
                        process.kill()
        self._reap()

    def _hurried(self) -> bool:
        return self._stop_signals > 1

    # --- signals ------------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        """Let signals wake the loop; what they mean is decided there, except while starting."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1
        if self._starting:
            self._starting = False
            raise _StopRequestedError


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
