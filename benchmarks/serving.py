"""A Trimtab of its own for one benchmark, with one model deployed in front of the benchmark's upstream."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import free_port, wait_for_port
from trimtab import Trimtab

KEY = "tt_benchmark_key_0123456789abcdef"


@dataclass(frozen=True)
class Serving:
    """A running server.

    Parameters:
        pid: of the supervisor.
        seconds_to_ready: from the start of the process to its ready line.
    """

    url: str
    pid: int
    seconds_to_ready: float


@contextmanager
def process(command: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A child that is ended, and waited for, at the end of the block."""
    child = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload] - options are passed on
    try:
        yield child
    finally:
        child.terminate()
        child.wait(60)


@contextmanager
def trimtab(data_dir: Path, cpu: int | None = None) -> Iterator[Serving]:
    """`trimtab serve` with one web worker on a free port, pinned to one CPU when `cpu` says so."""
    port = free_port()
    command = [sys.executable, "-m", "trimtab.cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    command += ["--log-level", "warning"]
    if cpu is not None:
        command = ["taskset", "-c", str(cpu), *command]
    environment = {**os.environ, "TRIMTAB_ADMIN_KEY": KEY}
    url = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    with process(command, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if url in line:
                break
        else:
            raise RuntimeError(f"trimtab serve ended with status {child.wait()}")
        yield Serving(url, child.pid, time.monotonic() - began)


@contextmanager
def upstream(cpu: int | None = None) -> Iterator[int]:
    """The benchmark's model server on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", str(port)]
    if cpu is not None:
        command = ["taskset", "-c", str(cpu), *command]
    with process(command):
        wait_for_port(port)
        yield port


def deploy(url: str, upstream_port: int, name: str = "bench") -> None:
    """Register, approve and deploy the upstream as model `name` in production."""
    with Trimtab(url, api_key=KEY) as client:
        model = client.register_existing_model(
            name=name,
            endpoint=f"http://127.0.0.1:{upstream_port}/v1",
            provider="openai-compatible",
            version="v1.0.0",
            upstream_model="bench",
        )
        client.approve_lifecycle(model.lifecycle_id, "admin")
        client.deploy_model(model.lifecycle_id, environment="production", deployment_type="direct", wait=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder for a data dir."""
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
        yield Path(folder)
