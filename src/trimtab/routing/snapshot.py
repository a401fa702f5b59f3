"""All that a gateway routes by: immutable, patched per revision, kept on disk for starts without a database."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from trimtab.db.database import Connection
from trimtab.routing.records import ENTRY_TYPES, ApiKeyEntry, DeploymentEntry, Entry, EntryKind, RouteEntry

log = logging.getLogger(__name__)

_MAGIC = b"trimtab snapshot 1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size

# One statement each, so that head and entries are seen at the same moment.
_LOAD_ALL = """
select h.revision, e.kind, e.key, e.revision, e.body::text
from trimtab.routing_head h left join trimtab.routing_entries e on e.body is not null
"""
_LOAD_SINCE = """
select h.revision, e.kind, e.key, e.revision, e.body::text
from trimtab.routing_head h left join trimtab.routing_entries e on e.revision > %s
"""


class Row(NamedTuple):
    """One row of `trimtab.routing_entries`; a body of None removes the entry."""

    kind: EntryKind
    key: str
    revision: int
    body: str | bytes | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The routing of one revision.

    Parameters:
        revision: the routing revision it holds.
        keys: API keys by the SHA-256 of the key, in hex.
        routes: routes by `route_key`.
        deployments: deployments by id.
        by_workspace: filled by `routes_of`; given only when the routes are those of another snapshot.
    """

    revision: int = 0
    keys: Mapping[str, ApiKeyEntry] = field(default_factory=dict)
    routes: Mapping[str, RouteEntry] = field(default_factory=dict)
    deployments: Mapping[str, DeploymentEntry] = field(default_factory=dict)
    by_workspace: dict[str, list[RouteEntry]] = field(default_factory=dict, repr=False, compare=False)

    def routes_of(self, workspace_id: str) -> Sequence[RouteEntry]:
        """The routes of one workspace, sorted by name regardless of case."""
        if not self.by_workspace:
            for route in sorted(self.routes.values(), key=lambda route: route.name.lower()):
                self.by_workspace.setdefault(route.workspace_id, []).append(route)
        return self.by_workspace.get(workspace_id, ())

    def patched(self, rows: Iterable[Row], revision: int) -> Snapshot:
        """Return the snapshot of `revision`: this one with `rows` set or removed. This one stays as it is.

        An entry that cannot be read (written by a newer program) counts as removed and is logged.
        """
        tables: dict[EntryKind, dict[str, Entry]] = {}
        own: dict[EntryKind, Mapping[str, Entry]] = {
            "api_key": self.keys,
            "route": self.routes,
            "deployment": self.deployments,
        }
        for row in rows:
            if row.kind not in tables:
                tables[row.kind] = dict(own[row.kind])
            entry = _read_entry(row)
            if entry is None:
                tables[row.kind].pop(row.key, None)
            else:
                tables[row.kind][row.key] = entry
        return Snapshot(
            revision,
            cast(Mapping[str, ApiKeyEntry], tables.get("api_key", self.keys)),
            cast(Mapping[str, RouteEntry], tables.get("route", self.routes)),
            cast(Mapping[str, DeploymentEntry], tables.get("deployment", self.deployments)),
            {} if "route" in tables else self.by_workspace,
        )


def _read_entry(row: Row) -> Entry | None:
    if row.body is None:
        return None
    try:
        return msgspec.json.decode(row.body, type=ENTRY_TYPES[row.kind])
    except msgspec.DecodeError as error:
        log.error("routing entry %s %s of revision %d is left out: %s", row.kind, row.key, row.revision, error)
        return None


async def load_all(connection: Connection) -> Snapshot:
    """Read the whole routing from the database, in one statement; `connection` must be in the scope SYSTEM."""
    revision, rows = await _load(connection, _LOAD_ALL, ())
    return Snapshot().patched(rows, revision)


async def load_since(connection: Connection, snapshot: Snapshot) -> Snapshot:
    """Return `snapshot` brought up to date, or itself when nothing has changed; scope SYSTEM.

    A database that is behind (restored from a backup) is loaded whole.
    """
    revision, rows = await _load(connection, _LOAD_SINCE, (snapshot.revision,))
    if revision < snapshot.revision:
        return await load_all(connection)
    return snapshot if revision == snapshot.revision else snapshot.patched(rows, revision)


async def _load(connection: Connection, statement: str, parameters: tuple[object, ...]) -> tuple[int, list[Row]]:
    answer = await (await connection.execute(statement.encode(), parameters)).fetchall()
    return answer[0][0], [Row(*fields[1:]) for fields in answer if fields[1] is not None]


def save(path: Path, snapshot: Snapshot) -> None:
    """Write `snapshot` to the file `path`, whole or not at all, readable by its owner only; credentials stay sealed.

    Raises:
        OSError: it cannot be written; the file before it is still there.
    """
    payload = msgspec.msgpack.encode((snapshot.revision, snapshot.keys, snapshot.routes, snapshot.deployments))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def read(path: Path) -> Snapshot | None:
    """Read what `save` wrote; None (and a warning) where the file is damaged or of another format, None if absent."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the stored snapshot %s cannot be read: %s", path, error)
        return None
    start = len(_MAGIC) + _DIGEST_SIZE
    payload = content[start:]
    if not content.startswith(_MAGIC) or hashlib.sha256(payload).digest() != content[len(_MAGIC) : start]:
        log.warning("the stored snapshot %s is damaged or of another program version; it is ignored", path)
        return None
    try:
        return Snapshot(
            *msgspec.msgpack.decode(
                payload,
                type=tuple[int, dict[str, ApiKeyEntry], dict[str, RouteEntry], dict[str, DeploymentEntry]],
            )
        )
    except msgspec.DecodeError as error:
        log.warning("the stored snapshot %s does not fit this program: %s; it is ignored", path, error)
        return None
