"""Runs `trimtab serve` for the demo and never leaves it behind."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

TRIMTAB = Path(sys.executable).with_name("trimtab")
READY = re.compile(r"ready on (http://\S+)")
USUAL_PORT = 8700
START_SECONDS = 90.0
STOP_SECONDS = 60.0


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class Server:
    """A server on a data directory, from `with` to its end.

    Parameters:
        data_dir: made where absent.

    Attributes: `url` and `admin_key`, once it is started.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.url = ""
        self.admin_key = ""
        self._log = data_dir / "demo-server.log"
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.admin_key = self._key()
        port = USUAL_PORT if is_free(USUAL_PORT) else 0
        command = [str(TRIMTAB), "serve", "--data-dir", str(self.data_dir), "--port", str(port)]
        with self._log.open("ab") as log:
            self._log_begin = log.tell()
            # A group of its own: Ctrl-C reaches the demo only, which then stops the server in good order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TRIMTAB_ADMIN_KEY": self.admin_key},
                start_new_session=True,
            )
        try:
            self.url = self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and wait until it is gone."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Its parts end with it.
            process.kill()
            process.wait()

    def wait(self) -> int:
        """Wait until the server ends by itself; returns its exit status."""
        assert self._process is not None
        return self._process.wait()

    def story(self, lines: int = 15) -> str:
        """The end of what the server has said."""
        return "\n".join(self._said().splitlines()[-lines:])

    def _said(self) -> str:
        return self._log.read_bytes()[self._log_begin :].decode("utf-8", "replace")

    def _key(self) -> str:
        """The admin key: the environment's, else one that the first demo on this data directory has made."""
        if given := os.environ.get("TRIMTAB_ADMIN_KEY"):
            return given
        file = self.data_dir / "demo-admin.key"
        try:
            return file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            key = f"tt_{secrets.token_urlsafe(32)}"
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as new:
                new.write(key + "\n")
            return key

    def _wait_ready(self) -> str:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if match := READY.search(self._said()):
                return match[1]
            if self._process.poll() is not None:
                raise DemoError(f"the server ended at once:\n{self.story()}")
            time.sleep(0.05)
        raise DemoError(f"the server was not ready within {START_SECONDS:.0f} s:\n{self.story()}")


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
