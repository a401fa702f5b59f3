"""The data directory: made on first use, and held by one program at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from trimtab.errors import Code, TrimtabError
from trimtab.processes import is_alive

_ORPHANS_SECONDS = 15.0


class DataDir:
    """A data directory that this process holds, as long as it lives or until `release`.

    Parameters:
        path: the directory; made with mode 0700 where absent.

    Raises:
        TrimtabError: DATA_DIR_NOT_WRITABLE, or DATA_DIR_IN_USE when another process holds it.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path = path.resolve()
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise not_writable(path, error) from None
        self._acquire(path)
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise not_writable(path, error) from None

    @property
    def lock_fd(self) -> int:
        """Descriptor of the lock: a child that inherits it holds the directory too, until it ends."""
        return self._lock

    def release(self) -> None:
        """Let others use the directory; may be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write_private(self, name: str, content: bytes) -> None:
        """Replace the file `name` whole, or not at all, readable by its owner only.

        Raises TrimtabError (DATA_DIR_NOT_WRITABLE).
        """
        target = self.path / name
        temporary = self.path / f"{name}.new"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(target)
        except OSError as error:
            raise not_writable(self.path, error) from None

    def _acquire(self, path: Path) -> None:
        deadline = time.monotonic() + _ORPHANS_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                holder = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
                # A holder that was killed leaves parts that are about to end; wait for those, for nobody else.
                if holder.isdigit() and not is_alive(int(holder)) and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                os.close(self._lock)
                raise TrimtabError(
                    Code.DATA_DIR_IN_USE,
                    f"another Trimtab (pid {holder or 'unknown'}) uses the data directory {path}; "
                    "stop it or choose another with --data-dir",
                    field="data_dir",
                ) from None

    def __enter__(self) -> DataDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def not_writable(path: Path, error: OSError) -> TrimtabError:
    """The refusal that says why the data directory `path` cannot be used."""
    return TrimtabError(
        Code.DATA_DIR_NOT_WRITABLE,
        f"cannot write in the data directory {path}: {error.strerror}; "
        "make it writable or choose another with --data-dir",
        field="data_dir",
    )
