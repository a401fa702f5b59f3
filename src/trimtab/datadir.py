"""The data directory: made on first use, and held by one program at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from trimtab.errors import Code, TrimtabError


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
            raise _not_writable(path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._lock, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise TrimtabError(
                Code.DATA_DIR_IN_USE,
                f"another Trimtab (pid {holder}) uses the data directory {path}; "
                "stop it or choose another with --data-dir",
                field="data_dir",
            ) from None
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise _not_writable(path, error) from None

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
            raise _not_writable(self.path, error) from None

    def __enter__(self) -> DataDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _not_writable(path: Path, error: OSError) -> TrimtabError:
    return TrimtabError(
        Code.DATA_DIR_NOT_WRITABLE,
        f"cannot write in the data directory {path}: {error.strerror}; "
        "make it writable or choose another with --data-dir",
        field="data_dir",
    )
