"""Parts that stand for the real ones in the supervisor's tests, and a `trimtab serve` made of them.

Run as a program: `python dummy_parts.py <scenario> <data-dir> [setting=value ...]`. Each part appends what happens to
it, one line each, to `<data-dir>/events`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trimtab.context import PartContext
from trimtab.db.embedded import Urls
from trimtab.processes import death_signal
from trimtab.server.parts import Part
from trimtab.server.preparation import Prepared, prepare_database
from trimtab.server.supervisor import Supervisor, preparation
from trimtab.settings import Settings

ALL = frozenset({"all", "gateway", "api", "controller"})


def note(context: PartContext, event: str) -> None:
    """Append one event of the part to the file of events."""
    with (context.data_dir / "events").open("a") as events:
        events.write(f"{context.name} {os.getpid()} {event}\n")


def stop_requested() -> list[int]:
    """A list that fills when SIGTERM arrives."""
    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stops.append(number))
    return stops


def serve(context: PartContext) -> int:
    """A web worker: answers each connection with one line, finishes the one in hand when stopped."""
    stops = stop_requested()
    note(context, "started")
    with context.listening_socket() as listener:
        listener.settimeout(0.05)
        context.ready()
        while not stops:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                wait = connection.recv(100).decode().strip()
                note(context, f"got {wait}")
                end = time.monotonic() + float(wait)
                while time.monotonic() < end:
                    time.sleep(0.02)
                connection.sendall(b"done\n")
    note(context, "drained")
    return 0


def idle(context: PartContext) -> int:
    """Does nothing until stopped."""
    stops = stop_requested()
    note(context, "started")
    context.ready()
    while not stops:
        time.sleep(0.02)
    note(context, "stopped")
    return 0


def parent(context: PartContext) -> int:
    """A runner: has a child that must not outlive it."""
    stops = stop_requested()
    child = subprocess.Popen(["sleep", "600"], preexec_fn=death_signal(signal.SIGKILL))
    note(context, f"child {child.pid}")
    context.ready()
    while not stops:
        time.sleep(0.02)
    child.terminate()
    child.wait()
    note(context, "stopped")
    return 0


def careless(context: PartContext) -> int:
    """Starts a child that follows nobody, and ends without it."""
    stops = stop_requested()
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    note(context, f"child {child.pid}")
    child.returncode = 0  # so that no warning is given: it is abandoned on purpose
    context.ready()
    while not stops:
        time.sleep(0.02)
    return 0


def deaf(context: PartContext) -> int:
    """Ignores every polite request to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(context, "started")
    context.ready()
    while True:
        time.sleep(1)


def broken(context: PartContext) -> int:
    """Never gets ready."""
    note(context, "started")
    return 3


def refused(context: PartContext) -> int:
    """Finds a mistake of the user's."""
    from trimtab.errors import Code, TrimtabError

    raise TrimtabError(Code.INVALID_SETTING, "that cannot be")


def observe(context: PartContext) -> int:
    """Writes down what it was given, and what others can see of it."""
    import json

    document = {
        "environment": sorted(name for name in os.environ if name.startswith("TRIMTAB_")),
        "arguments": Path("/proc/self/cmdline").read_bytes().decode().split("\0"),
        "secret_key": context.settings.secret_key,
        "admin_key": context.settings.admin_key,
        "database_url": context.database_url,
    }
    (context.data_dir / "seen.json").write_text(json.dumps(document))
    return idle(context)


def part(name: str, entry: str, **more: object) -> Part:
    """A part of every role that runs the function `entry` of this module."""
    return Part(name, f"tests.integration.dummy_parts:{entry}", ALL, **more)  # type: ignore[arg-type]


WEB = part("web", "serve", per_worker=True, listens=True, drains=True, grace=0.5)
SCENARIOS: dict[str, tuple[Part, ...]] = {
    "all": (WEB, part("shipper", "idle"), part("controller", "idle"), part("runner", "parent", grace=20.0)),
    "web": (WEB,),
    "idle": (part("shipper", "idle"),),
    "careless": (part("runner", "careless"),),
    "deaf": (part("shipper", "deaf", grace=0.3),),
    "broken": (part("shipper", "idle"), part("controller", "broken")),
    "refused": (part("shipper", "idle"), part("controller", "refused")),
    "observe": (part("shipper", "observe"),),
}


def prepare(settings: Settings, urls: Urls) -> Prepared:
    """Stands for migration and first key."""
    (settings.data_dir / "prepared").write_text(urls.owner)
    return Prepared(urls.app, "tt_first" if settings.admin_key is None else None)


def main(arguments: list[str]) -> int:
    """Run a server made of dummies."""
    scenario, data_dir, *pairs = arguments
    flags: dict[str, str | int] = dict(pair.split("=", 1) for pair in pairs)
    for number in ("port", "workers"):
        if number in flags:
            flags[number] = int(flags[number])
    settings = Settings.from_env({"TRIMTAB_DATA_DIR": data_dir, **os.environ}, **{"port": 0, **flags})  # type: ignore[arg-type]
    chosen = preparation(settings)
    return Supervisor(settings, SCENARIOS[scenario], prepare if chosen is prepare_database else chosen).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
