"""All benchmarks, or the one named: `python -m benchmarks [gateway|ship|percentiles|footprint]`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import footprint, gateway, percentiles, ship
from benchmarks.machine import describe

ALL: dict[str, Callable[[], object]] = {
    "footprint": footprint.run,
    "ship": ship.run,
    "percentiles": percentiles.run,
    "gateway": gateway.run,
}


def main() -> int:
    wanted = sys.argv[1:] or list(ALL)
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    print(describe())
    for name in wanted:
        print(f"\n# {name}")
        ALL[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
