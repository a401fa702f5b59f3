"""The main module of a part's process: `python -m trimtab.server.part <name> <descriptor>`.

It reads its `PartContext` from the inherited descriptor, runs the entry, and ends when the supervisor does.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time

from trimtab.context import PartContext
from trimtab.errors import TrimtabError

EXIT_REFUSED = 2
"""Exit status of a part that a restart cannot help: the supervisor stops the server."""

_ORPHAN_SECONDS = 5.0


def main(arguments: list[str]) -> int:
    """Run one part; `arguments` are its name and the descriptor of its context. Returns the exit status."""
    name, descriptor = arguments
    with os.fdopen(int(descriptor), "rb") as document:
        context = PartContext.decode(document.read())
    for inherited in (context.listen_fd, context.ready_fd, context.life_fd, context.lock_fd):
        if inherited is not None:
            os.set_inheritable(inherited, False)
    logging.basicConfig(
        level=context.settings.log_level.upper(),
        format=f"%(asctime)s %(levelname)s {name} %(name)s: %(message)s",
        stream=sys.stderr,
    )
    threading.Thread(target=_end_with_supervisor, args=(context.life_fd,), name="life", daemon=True).start()
    module, _, function = context.entry.partition(":")
    try:
        return int(getattr(importlib.import_module(module), function)(context))
    except TrimtabError as error:
        sys.stderr.write(f"trimtab: {name}: {one_line(error)}\n")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130


def one_line(error: TrimtabError) -> str:
    """Return the detail of `error` without line breaks, which reasons given by other programs may have."""
    return " ".join(error.detail.split())


def _end_with_supervisor(life: int) -> None:
    """End this process when the supervisor is gone, even if it ignores its parent-death signal."""
    os.read(life, 1)
    time.sleep(_ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
