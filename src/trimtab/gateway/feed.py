"""Keeps a gateway's routing current, and tells the database which revision is served here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID

import psycopg

from trimtab import __version__
from trimtab.db.database import SYSTEM, Connection, Database
from trimtab.db.wakeups import wake_ups
from trimtab.errors import TrimtabError
from trimtab.ids import new_id
from trimtab.routing.records import DeploymentEntry
from trimtab.routing.snapshot import Snapshot, load_all, load_since, read, save

log = logging.getLogger(__name__)

CHANNEL = "trimtab_routing"
TICK_SECONDS = 1.0
LEASE_SECONDS = 10
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 4.0
SAVE_SECONDS = 1.0
"""Least time between two writes of the stored snapshot."""

Activity = Callable[[Mapping[str, DeploymentEntry]], list[dict[str, object]]]

# All times are the database's own: `age` is how long ago something was here.
_HEARTBEAT = """
insert into trimtab.gateway_instances (id, hostname, pid, program_version, revision, lease_until, activity)
values (%(id)s, %(hostname)s, %(pid)s, %(program_version)s, %(revision)s, now() + make_interval(secs => %(lease)s),
    (select coalesce(jsonb_object_agg(used.id, jsonb_build_object(
            'in_flight', used.in_flight, 'last_request_at', now() - make_interval(secs => used.age))), '{}')
     from jsonb_to_recordset(%(activity)s::jsonb) as used(id text, in_flight int, age float8)))
on conflict (id) do update set revision = excluded.revision, heartbeat_at = now(), lease_until = excluded.lease_until,
    activity = excluded.activity
"""
_LEAVE = "delete from trimtab.gateway_instances where id = %s"
_FORGET_DEAD = "delete from trimtab.gateway_instances where lease_until < now() - interval '1 hour'"


class SnapshotFeed:
    """The routing of one gateway worker.

    From the first moment it serves what was stored on disk, if anything; the database's whole routing takes its place
    as soon as it can be read, and is patched from then on. A database that is down changes nothing but its age.

    Parameters:
        database: where routing comes from; the feed opens and closes it.
        path: the stored snapshot.
        stores: whether this worker writes it (one per data directory does).
        activity: gives what was used lately, see `LiveDeployments.used_lately`.
    """

    def __init__(self, database: Database, path: Path, *, stores: bool, activity: Activity) -> None:
        self._database = database
        self._path = path
        self._stores = stores
        self._activity = activity
        self.id: UUID = new_id()
        self.snapshot: Snapshot | None = read(path)
        self._current_at = 0.0
        self._loaded = asyncio.Event()
        self._stored = self.snapshot
        self._stored_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self, wait: float) -> None:
        """Begin; give the database `wait` seconds to deliver the routing before going on without."""
        await self._database.open()
        self._task = asyncio.create_task(self._run(), name="snapshot-feed")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._loaded.wait(), wait)

    async def stop(self) -> None:
        """End: the stored snapshot is brought up to date, and no acknowledgement of this gateway is waited for."""
        if self._task is not None:
            self._task.cancel()
            (ended,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(ended, Exception):
                log.error("the routing had stopped being brought up to date", exc_info=ended)
            await self._store()
            if self._loaded.is_set():
                await self._leave()
        await self._database.close()

    def age(self) -> float | None:
        """Seconds since the routing was last known to be current; None if it never was since the start."""
        return None if not self._loaded.is_set() else time.monotonic() - self._current_at

    async def _leave(self) -> None:
        try:
            async with self._database.transaction(SYSTEM) as connection:
                await connection.execute(_LEAVE, (self.id,))
        except (TrimtabError, psycopg.Error) as error:
            log.info("this gateway could not sign off, its lease ends in %d s: %s", LEASE_SECONDS, error)

    async def _run(self) -> None:
        backoff = 0.0
        said: set[str] = set()
        async for _ in wake_ups(self._database.url, [CHANNEL], TICK_SECONDS):
            try:
                async with self._database.transaction(SYSTEM) as connection:
                    await self._update(connection)
                    await self._beat(connection)
            except Exception as error:  # whatever it is, the next attempt may find it mended
                kind = error.code.text if isinstance(error, TrimtabError) else type(error).__name__
                if kind not in said:
                    said.add(kind)
                    expected = isinstance(error, (TrimtabError, psycopg.Error))
                    log.warning(
                        "routing cannot be brought up to date, serving what is known (%s): %s",
                        kind,
                        error,
                        exc_info=None if expected else error,
                    )
                backoff = min(max(backoff * 2, FIRST_BACKOFF), LONGEST_BACKOFF)
                await asyncio.sleep(backoff)
                continue
            if backoff:
                log.info("routing is up to date again, at revision %d", self._revision())
            backoff = 0.0
            said.clear()
            self._current_at = time.monotonic()
            self._loaded.set()
            if time.monotonic() - self._stored_at >= SAVE_SECONDS:
                await self._store()

    async def _update(self, connection: Connection) -> None:
        if self.snapshot is None or not self._loaded.is_set():
            self.snapshot = await load_all(connection)
            await connection.execute(_FORGET_DEAD)
        else:
            self.snapshot = await load_since(connection, self.snapshot)

    async def _beat(self, connection: Connection) -> None:
        """Acknowledge what is served already: the snapshot was swapped before."""
        assert self.snapshot is not None
        await connection.execute(
            _HEARTBEAT,
            {
                "id": self.id,
                "hostname": socket.gethostname(),
                "pid": os.getpid(),
                "program_version": __version__,
                "revision": self.snapshot.revision,
                "lease": LEASE_SECONDS,
                "activity": json.dumps(self._activity(self.snapshot.deployments)),
            },
        )

    async def _store(self) -> None:
        snapshot = self.snapshot
        if not self._stores or snapshot is None or snapshot is self._stored:
            return
        self._stored_at = time.monotonic()
        try:
            await asyncio.to_thread(save, self._path, snapshot)
            self._stored = snapshot
        except OSError as error:
            log.warning("the snapshot cannot be stored in %s: %s", self._path, error)

    def _revision(self) -> int:
        return 0 if self.snapshot is None else self.snapshot.revision
