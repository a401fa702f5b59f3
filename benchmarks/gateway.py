"""CPU per chat request of the gateway, beside nginx as a reverse proxy to the same upstream in the same run.

The candidate is pinned to CPU 0, load (wrk, 64 connections) and upstream to CPU 1. The figure is CPU time from /proc
divided by requests, which holds where wall-clock times are noisy. Needs `nginx` and `wrk` (Debian packages).

`python -m benchmarks gateway [--seconds 8] [--rounds 3]`
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.machine import cpu_seconds, free_port, tree, wait_for_port
from benchmarks.serving import KEY, deploy, process, scratch, trimtab, upstream

CONNECTIONS = 64
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    keepalive_requests 1000000000;
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        }}
    }}
}}
"""
MESSAGES = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "What is a trim tab?"},
]
SCRIPT = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
wrk.body = '{body}'
"""


@dataclass(frozen=True)
class Load:
    """What one run of wrk did."""

    requests: int
    per_second: float
    failed: int


def load(port: int, folder: Path, seconds: int, *, stream: bool) -> Load:
    """Send requests for `seconds` from CPU 1."""
    script = folder / "load.lua"
    document = {"model": "bench", "messages": MESSAGES, **({"stream": True} if stream else {})}
    script.write_text(SCRIPT.format(key=KEY, body=json.dumps(document)))
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
    out = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True).stdout
    done = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    assert done is not None and rate is not None, out
    failed = (int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return Load(int(done[1]), float(rate[1]), failed)


@contextmanager
def nginx(upstream_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """nginx on CPU 0; its port and process id."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream_port, port=port))
    with process(["taskset", "-c", "0", "/usr/sbin/nginx", "-c", str(config), "-p", str(folder)]) as child:
        wait_for_port(port)
        yield port, child.pid


def upstream_connections(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        return int(json.load(answer)["connections"])


def measure(
    name: str,
    port: int,
    upstream_port: int,
    folder: Path,
    seconds: int,
    stream: bool,
    spent: Callable[[], dict[str, float]],
) -> dict[str, float]:
    """One run: microseconds of CPU per request for each group of processes that `spent` reports."""
    connections, before = upstream_connections(upstream_port), spent()
    run = load(port, folder, seconds, stream=stream)
    used = {group: seconds_ - before[group] for group, seconds_ in spent().items()}
    opened = upstream_connections(upstream_port) - connections
    if run.failed:
        raise RuntimeError(f"{name}: {run.failed} of {run.requests} requests failed")
    if min(used.values()) <= 0:
        raise RuntimeError(f"{name}: no CPU time used; another server answered on port {port}")
    if opened > 4 * CONNECTIONS:
        raise RuntimeError(f"{name}: opened {opened} connections upstream for {run.requests} requests")
    return {group: value / run.requests * 1e6 for group, value in used.items()} | {"req/s": run.per_second}


def run(seconds: int = 8, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Interleave the candidates `rounds` times and print the median of each."""
    found: dict[str, list[dict[str, float]]] = {}
    with (
        scratch() as folder,
        upstream(cpu=1) as model,
        nginx(model, folder) as (nginx_port, nginx_pid),
        trimtab(folder / "data", cpu=0) as serving,
    ):
        deploy(serving.url, model)
        port = int(serving.url.rsplit(":", 1)[1])
        everything = tree(serving.pid)
        workers = [p for p in everything if "web" in p.cmdline()]
        assert workers, "no web worker among the server's processes"

        def of_trimtab() -> dict[str, float]:
            return {"gateway worker us": cpu_seconds(workers), "whole tree us": cpu_seconds(everything)}

        def of_nginx() -> dict[str, float]:
            return {"us": cpu_seconds([psutil.Process(nginx_pid)])}

        for port_ in (nginx_port, port):
            load(port_, folder, 2, stream=False)  # warm
        for stream in (False, True):
            kind = "stream" if stream else "chat"
            for _ in range(rounds):
                for name, port_, spent in (("nginx", nginx_port, of_nginx), ("trimtab", port, of_trimtab)):
                    result = measure(name, port_, model, folder, seconds, stream, spent)
                    found.setdefault(f"{kind} {name}", []).append(result)
    medians = {
        name: {key: statistics.median(r[key] for r in results) for key in results[0]} for name, results in found.items()
    }
    for name, values in medians.items():
        print(f"{name:16}", "  ".join(f"{key} {value:,.1f}" for key, value in values.items()))
    for kind in ("chat", "stream"):
        ratio = medians[f"{kind} trimtab"]["gateway worker us"] / medians[f"{kind} nginx"]["us"]
        print(f"{kind}: gateway worker / nginx = {ratio:.1f}")
    return medians
