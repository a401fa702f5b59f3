"""Connection strings of the embedded server, for this process and for others on the machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from trimtab.errors import Code, TrimtabError
from trimtab.processes import is_alive

FILE = "postgres.json"
DATABASE = "trimtab"
OWNER_ROLE = "trimtab_owner"
APP_ROLE = "trimtab_app"


@dataclass(frozen=True, slots=True)
class Urls:
    """Connection strings of one database: as the owner of the schema, and as the application."""

    owner: str = field(repr=False)
    app: str = field(repr=False)


def build_url(role: str, password: str, port: int, database: str = DATABASE) -> str:
    """Return the connection string of `role` on the embedded server; `password` needs no quoting."""
    return f"postgresql://{role}:{password}@127.0.0.1:{port}/{database}?sslmode=disable"


def encode(urls: Urls, pid: int) -> bytes:
    """Return the content of the file that `read_urls` reads."""
    return json.dumps({"pid": pid, **asdict(urls)}, indent=1).encode() + b"\n"


def read_urls(data_dir: Path) -> Urls:
    """Return the connection strings of the embedded server that runs on `data_dir`.

    Raises TrimtabError (DATABASE_UNAVAILABLE) where none runs or its file may not be read.
    """
    path = data_dir.resolve() / FILE
    try:
        document = json.loads(path.read_bytes())
        urls, pid = Urls(document["owner"], document["app"]), int(document["pid"])
    except PermissionError:
        raise TrimtabError(
            Code.DATABASE_UNAVAILABLE, f"{path} may be read only by the user who started Trimtab"
        ) from None
    except (OSError, ValueError, KeyError):
        raise _none_runs(data_dir) from None
    if not is_postgres_of(pid, data_dir.resolve() / "postgres"):
        raise _none_runs(data_dir)
    return urls


def is_postgres_of(pid: int, cluster: Path) -> bool:
    """Whether process `pid` lives and is the PostgreSQL server of the directory `cluster`."""
    try:
        return is_alive(pid) and str(cluster) in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _none_runs(data_dir: Path) -> TrimtabError:
    return TrimtabError(
        Code.DATABASE_UNAVAILABLE,
        f"no embedded PostgreSQL runs on the data directory {data_dir}; "
        "start `trimtab serve`, or name the right one with --data-dir",
    )
