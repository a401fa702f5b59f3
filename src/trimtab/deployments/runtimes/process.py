"""The runtime `process`: a command, or a GGUF file on the local engine, run by Trimtab on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from trimtab.deployments import guard
from trimtab.deployments.logs import LOG_BYTES, last_line, log_path
from trimtab.deployments.runtimes import Assignment, Health, StartError, Usage
from trimtab.deployments.runtimes.machine import Devices, Machine, Share
from trimtab.deployments.runtimes.probe import get_status

STOP_SECONDS = 10.0
"""How long a process may take to end after SIGTERM before it is killed."""
START_SECONDS = 300.0
GGUF_MAGIC = b"GGUF"


@dataclass(slots=True)
class ProcessReplica:
    """A process, behind its guard."""

    url: str
    pid: int
    log: Path
    health_path: str | None
    share: Share
    devices: Devices
    session: aiohttp.ClientSession
    guard: asyncio.subprocess.Process
    ended: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _watcher: asyncio.Task[None] | None = None
    _seen: dict[int, psutil.Process] = field(default_factory=dict)

    def watch(self) -> None:
        """Begin to wait for its end."""
        self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        assert self.guard.stdout is not None
        said = (await self.guard.stdout.readline()).decode(errors="replace").strip()
        await self.guard.wait()
        if not said.startswith("exited "):
            # The guard itself was killed: the kernel killed the process, its group may have others in it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            said = "exited its guard was killed"
        self.devices.give_back(self.share)
        if not self.ended.done():
            tail = last_line(self.log)
            self.ended.set_result(f"{said.removeprefix('exited ')}" + (f": {tail}" if tail else ""))

    async def probe(self) -> Health:
        """Ask the health path; without one `/health`, and where that is unknown `/v1/models`."""
        base = self.url.removesuffix("/v1")
        status = await get_status(self.session, base + (self.health_path or "/health"))
        limit = 400
        if self.health_path is None and status in (404, 405, 501):
            status, limit = await get_status(self.session, f"{base}/v1/models"), 500
        if isinstance(status, Health):
            return Health(False, status.reason.removeprefix("ENDPOINT_UNREACHABLE: "))
        return Health(status < limit, "" if status < limit else f"its health check answers with HTTP status {status}")

    def usage(self) -> Usage | None:
        """What the process and its descendants use."""
        try:
            root = self._seen.setdefault(self.pid, psutil.Process(self.pid))
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            return None
        # A process must be the same object each time for its CPU use to be that since the last time.
        self._seen = {one.pid: self._seen.get(one.pid, one) for one in family}
        cpu, memory = 0.0, 0
        for one in self._seen.values():
            with contextlib.suppress(psutil.Error), one.oneshot():
                cpu += one.cpu_percent()
                memory += one.memory_info().rss
        return Usage(cpu, memory)

    async def stop(self) -> None:
        """SIGTERM, after a while SIGKILL, to all of it."""
        assert self.guard.stdin is not None
        assert self._watcher is not None
        self.guard.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS + 10):
                await asyncio.shield(self._watcher)
        except TimeoutError:
            self.guard.kill()
            await self._watcher


@dataclass(slots=True)
class ProcessRuntime:
    """Runs processes on this machine.

    Parameters:
        data_dir: where logs go. session: the runner's HTTP client. machine: what there is.
    """

    data_dir: Path
    session: aiohttp.ClientSession
    machine: Machine
    devices: Devices
    restart_after: float | None = 30.0

    async def start(self, assignment: Assignment) -> ProcessReplica:
        """Start the process on a free port, within its share of the machine. Raises StartError."""
        runtime, resources = assignment.spec["runtime"], assignment.spec["resources"]
        if why := self.machine.refusal(resources):
            raise StartError(why, permanent=True)
        log = log_path(self.data_dir, assignment.replica_id)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        share = self.devices.take(resources)
        port = free_port()
        try:
            document = {
                "command": command(assignment.spec, port, share.threads),
                "env": {**share.environment, **(runtime.get("env") or {}), "PORT": str(port)},
                "log": str(log),
                "log_bytes": LOG_BYTES,
                "cpus": list(share.cpus),
                "memory_bytes": share.memory_bytes,
                "grace": STOP_SECONDS,
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                guard.__file__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            pid = await _begin(process, document)
        except BaseException:
            self.devices.give_back(share)
            raise
        replica = ProcessReplica(
            f"http://127.0.0.1:{port}/v1",
            pid,
            log,
            runtime.get("health_path"),
            share,
            self.devices,
            self.session,
            process,
        )
        replica.watch()
        return replica

    def start_timeout(self, assignment: Assignment) -> float | None:
        """`runtime.start_timeout`, else five minutes."""
        return float(assignment.spec["runtime"].get("start_timeout") or START_SECONDS)


async def _begin(process: asyncio.subprocess.Process, document: dict[str, Any]) -> int:
    """Hand the guard its specification; returns the replica's pid. Raises StartError."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(document).encode() + b"\n")
        await process.stdin.drain()
        said, _, rest = (await process.stdout.readline()).decode(errors="replace").strip().partition(" ")
    except ConnectionError:
        said, rest = "", ""
    if said == "started":
        return int(rest)
    await process.wait()
    raise StartError(rest or "its guard ended at once", permanent=said == "refused")


def command(spec: dict[str, Any], port: int, threads: int | None) -> list[str]:
    """The command line of a replica: the version's own, or the local engine's."""
    runtime = spec["runtime"]
    if runtime.get("gguf"):
        if why := gguf_refusal(Path(runtime["gguf"])):
            raise StartError(why, permanent=True)
        line = [sys.executable, "-m", "trimtab.deployments.engines.llama", "--gguf", runtime["gguf"]]
        line += ["--port", str(port), "--name", spec["name"]]
        if threads is not None:
            line += ["--threads", str(threads)]
        return line + list(runtime.get("args") or ())
    line = [*runtime["command"], *(runtime.get("args") or ())]
    line = [part.replace("{port}", str(port)) for part in line]
    return line + ([runtime["port_arg"], str(port)] if runtime.get("port_arg") else [])


def gguf_refusal(path: Path) -> str | None:
    """Why the local engine is not given a file; None where it is a model that can be read.

    Operators name the file, and engines print the beginnings of files that they cannot read into the log. So what is
    no model is not opened by them, and nothing of its content is told.
    """
    if path.suffix != ".gguf":
        return f"{path} is no model file: its name must end with .gguf"
    try:
        if not path.is_file():
            return f"there is no file {path}"
        with path.open("rb") as file:
            begins = file.read(len(GGUF_MAGIC))
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None if begins == GGUF_MAGIC else f"{path} is no model in the GGUF format"


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
