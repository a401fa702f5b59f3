"""A program that starts the embedded PostgreSQL, says so, and then does what its input tells it.

Run as `python postgres_holder.py <data-dir> [uid]`; with a uid it becomes that user first, without starting another
interpreter, which that user might not be able to read.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

from trimtab.datadir import DataDir
from trimtab.db.embedded import EmbeddedPostgres
from trimtab.errors import TrimtabError

PR_SET_DUMPABLE = 4


def main(arguments: list[str]) -> int:
    """Start, report one JSON line, wait for the end of the input, stop."""
    directory = Path(arguments[0])
    if len(arguments) > 1:
        uid = int(arguments[1])
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        # A process that changed its user keeps /proc/self for root, unless it says otherwise; a new program would not.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        with DataDir(directory) as data_dir:
            postgres = EmbeddedPostgres(data_dir)
            postgres.start()
            try:
                say({"pid": postgres.pid, "owner": postgres.owner_url(), "app": postgres.app_url()})
                sys.stdin.read()
            finally:
                postgres.stop()
        return 0
    except TrimtabError as error:
        say({"code": error.code.text, "detail": error.detail})
        return 2


def say(document: dict[str, object]) -> None:
    """Write one line for the test."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
