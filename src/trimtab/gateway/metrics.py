"""What a gateway worker counts about itself; the figures of deployments are made from the records instead."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

Sample = tuple[str, str, str, float]
"""Name, kind (`counter` or `gauge`), labels without braces, value."""

_HELP = {
    "trimtab_requests_total": "Authenticated requests, by deployment and class of status",
    "trimtab_records_lost_total": "Records that could not be written to the spool",
    "trimtab_requests_in_flight": "Requests under way",
    "trimtab_snapshot_revision": "Routing revision that is served",
    "trimtab_snapshot_age_seconds": "Seconds since the routing was last known to be current",
    "trimtab_spool_appended_bytes_total": "Bytes appended to the spool",
    "trimtab_spool_segments": "Segments of the spool that are still on disk",
}


class Metrics:
    """Counters of one worker.

    A scrape reaches any one worker, so each publishes its samples as a file beside those of the others, once a second,
    and a scrape puts together the files of all: every series carries its `worker`.

    Parameters:
        directory: holds one file per worker.
        worker: number of this one.
        gauges: gives the samples that are not counted here.
    """

    def __init__(self, directory: Path, worker: int, gauges: Callable[[], Iterable[Sample]]) -> None:
        self._directory = directory
        self._path = directory / f"{worker}.prom"
        self._worker = worker
        self._gauges = gauges
        self._requests: dict[tuple[str, int], int] = {}
        self.lost = 0

    def count(self, deployment_id: str | None, status: int) -> None:
        """Count one request; `status` 0 stands for a caller that went away."""
        key = (deployment_id or "", status // 100)
        self._requests[key] = self._requests.get(key, 0) + 1

    def publish(self) -> None:
        """Write this worker's file. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}")
        temporary.write_text(
            "".join(f"{name} {kind} {labels} {value!r}\n" for name, kind, labels, value in self._own())
        )
        temporary.replace(self._path)

    def remove(self) -> None:
        """Take this worker's file away: it is ending."""
        self._path.unlink(missing_ok=True)

    def text(self) -> bytes:
        """The samples of all workers in Prometheus' text format."""
        with contextlib.suppress(OSError):
            self.publish()
        families: dict[tuple[str, str], list[str]] = {}
        for path in sorted(self._directory.glob("*.prom")):
            try:
                lines = path.read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                name, kind, labels, value = line.split(" ", 3)
                families.setdefault((name, kind), []).append(f"{name}{{{labels}}} {value}")
        out: list[str] = []
        for (name, kind), samples in families.items():
            out += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} {kind}", *samples]
        return ("\n".join(out) + "\n").encode()

    def _own(self) -> Iterable[Sample]:
        worker = f'worker="{self._worker}"'
        for (deployment, status), count in self._requests.items():
            labels = f'{worker},deployment="{deployment}",status="{status}xx"'
            yield "trimtab_requests_total", "counter", labels, count
        yield "trimtab_records_lost_total", "counter", worker, self.lost
        for name, kind, labels, value in self._gauges():
            yield name, kind, f"{worker},{labels}" if labels else worker, value
