"""As whom PostgreSQL runs. It refuses to run as root, and a superuser needs no user created for it here."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import Code, TrimtabError
from trimtab.processes import death_signal

_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Identity:
    """How a child becomes somebody whom PostgreSQL accepts.

    Parameters:
        name: for messages.
        uid, gid: owner of the files it writes, as seen from outside.
        assume: run in the child between fork and exec.
    """

    name: str
    uid: int
    gid: int
    assume: Callable[[], None]

    def spawn(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: dict[str, str],
        output: int,
        ends_with_parent: signal.Signals,
    ) -> subprocess.Popen[bytes]:
        """Start `command` as this identity, in a session of its own, in `cwd`, which it must be able to enter.

        Raises OSError or subprocess.SubprocessError where that is not possible here.
        """
        # A change of credentials clears the parent-death signal, so it is set last.
        watch = death_signal(ends_with_parent)

        def prepare() -> None:
            self.assume()
            os.chdir(cwd)
            watch()

        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=prepare,
        )


def plain() -> Identity:
    """The user that runs this program."""
    return Identity("the present user", os.geteuid(), os.getegid(), lambda: None)


def in_namespace() -> Identity:
    """A user namespace of its own, in which the present user is called nobody: no user is created, no mode changed.

    The same as `unshare --user --map-user=65534 --map-group=65534`, without depending on that command.
    """
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    uid, gid = os.geteuid(), os.getegid()
    maps = (
        ("/proc/self/setgroups", b"deny"),
        ("/proc/self/gid_map", f"{_NOBODY} {gid} 1".encode()),
        ("/proc/self/uid_map", f"{_NOBODY} {uid} 1".encode()),
    )

    def assume() -> None:
        if unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for path, content in maps:
            descriptor = os.open(path, os.O_WRONLY)
            os.write(descriptor, content)
            os.close(descriptor)

    return Identity("a user namespace", uid, gid, assume)


def as_nobody() -> Identity:
    """The system's user nobody; only root can become it."""
    try:
        entry = pwd.getpwnam("nobody")
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        uid = gid = _NOBODY

    def assume() -> None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)

    return Identity("the user nobody", uid, gid, assume)


def candidates() -> list[Identity]:
    """The identities to try here, best first."""
    if os.geteuid() == 0:
        return [in_namespace(), as_nobody()]
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        # initdb wants a name for the user; inside the namespace there is one.
        return [in_namespace(), plain()]
    return [plain()]


def choose(identities: Sequence[Identity], postgres: Path, directory: Path, environment: dict[str, str]) -> Identity:
    """Return the first of `identities` that can enter `directory`, its own, and run the program `postgres`.

    `directory` is given to the identity that is tried. Raises TrimtabError (START_FAILED).
    """
    reasons = []
    for identity in identities:
        try:
            own(directory, identity)
            process = identity.spawn(
                [str(postgres), "--version"],
                cwd=directory,
                environment=environment,
                output=subprocess.DEVNULL,
                ends_with_parent=signal.SIGKILL,
            )
            if process.wait(30) == 0:
                return identity
            reasons.append(f"{identity.name}: {postgres} does not run")
        except subprocess.SubprocessError:
            reasons.append(f"{identity.name}: not permitted, or it cannot enter {directory}")
        except OSError as error:
            reasons.append(f"{identity.name}: {error.strerror} ({error.filename or directory})")
    raise TrimtabError(
        Code.START_FAILED,
        f"the embedded PostgreSQL cannot run here ({'; '.join(reasons)}); "
        "start Trimtab as a user who is not root, choose another --data-dir, or give --database-url",
    )


def own(directory: Path, identity: Identity) -> None:
    """Give `directory` with all it holds to `identity`, and let it pass through the parent; root only needs this.

    Raises OSError.
    """
    if os.geteuid() != 0:
        return
    parent = directory.parent
    if identity.uid != os.geteuid() and parent.stat().st_uid == 0:
        # The data directory is ours alone (0700); its other members stay closed to nobody's group.
        os.chown(parent, -1, identity.gid)
        parent.chmod(0o710)
    if directory.stat().st_uid == identity.uid:
        return
    for folder, _, names in os.walk(directory):
        for name in (".", *names):
            os.chown(Path(folder, name), identity.uid, identity.gid, follow_symlinks=False)
