"""Start-up time and the memory of each idle process.

`python -m benchmarks footprint`
"""

from __future__ import annotations

import time

from benchmarks.machine import resident_mb, tree
from benchmarks.serving import scratch, trimtab


def run() -> None:
    """Start on an empty data dir, then on the warm one, and look at the idle processes."""
    with scratch() as folder:
        with trimtab(folder / "data") as serving:
            print(f"ready on an empty data dir in {serving.seconds_to_ready:.2f} s")
        times = []
        for _ in range(3):
            with trimtab(folder / "data") as serving:
                times.append(serving.seconds_to_ready)
                if len(times) < 3:
                    continue
                time.sleep(10)  # idle
                total = 0.0
                postgres = []
                for process in tree(serving.pid):
                    rss, pss = resident_mb(process)
                    total += pss
                    if process.name() == "postgres":
                        postgres.append((rss, pss))
                        continue
                    name = " ".join(process.cmdline()[1:5])
                    print(f"resident {rss:6.1f} MB, proportional {pss:6.1f} MB  {name}")
                rss, pss = max(r for r, _ in postgres), sum(p for _, p in postgres)
                print(f"largest  {rss:6.1f} MB, proportional {pss:6.1f} MB  postgres, {len(postgres)} processes")
                print(f"all together (proportional): {total:.1f} MB")
        print("ready on a warm data dir in " + ", ".join(f"{seconds:.2f}" for seconds in times) + " s")
