"""What a part of the server is given to run.

The supervisor starts each part as a process of its own (`python -m trimtab.server.part <name>`) and hands it
a `PartContext` through an inherited pipe: nothing secret is in its arguments or its environment.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from trimtab.settings import Settings


@dataclass(frozen=True, slots=True)
class PartContext:
    """All that a part is given.

    Parameters:
        name: the part's name, with its number for workers beyond the first.
        entry: what it runs; see `Part.entry`.
        settings: the program's settings; `secret_key` is filled in even where it came from a file.
        database_url: connection string of the application role.
        data_dir: absolute path; the supervisor holds its lock.
        worker_index: 0 for the first worker of a kind, and for parts of which there is one.
        listen_fd: the listening TCP socket of web workers, bound by the supervisor; None for others.
        ready_fd: write end of the pipe on which the part says that it is ready.
        life_fd: read end of a pipe that closes when the supervisor is gone.
        lock_fd: the lock of the data directory, held by every part until it ends.
    """

    name: str
    entry: str
    settings: Settings
    database_url: str
    data_dir: Path
    worker_index: int
    listen_fd: int | None
    ready_fd: int
    life_fd: int
    lock_fd: int

    def ready(self) -> None:
        """Tell the supervisor, once, that this part does its work now."""
        os.write(self.ready_fd, b"1")
        os.close(self.ready_fd)

    def listening_socket(self) -> socket.socket:
        """Return the listening socket of a web worker; the supervisor has bound it and listens already."""
        if self.listen_fd is None:
            raise ValueError(f"part {self.name} has no listening socket")
        return socket.socket(fileno=self.listen_fd)

    def with_ready_fd(self, descriptor: int) -> PartContext:
        """Return the same with another pipe for readiness; each start of a part has its own."""
        return replace(self, ready_fd=descriptor)

    def encode(self) -> bytes:
        """Return the document that `decode` reads."""
        return msgspec.json.encode(_plain(self))

    @classmethod
    def decode(cls, document: bytes) -> PartContext:
        """Read the document that `encode` wrote."""
        return msgspec.json.decode(document, type=cls, dec_hook=_from_plain)


def _plain(context: PartContext) -> dict[str, Any]:
    document = {f.name: getattr(context, f.name) for f in fields(context)}
    document["settings"] = {f.name: getattr(context.settings, f.name) for f in fields(context.settings)}
    document["settings"]["data_dir"] = str(context.settings.data_dir)
    document["data_dir"] = str(context.data_dir)
    return document


def _from_plain(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"no way to read a {kind.__name__}")
