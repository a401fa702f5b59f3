"""Makes the client for plain threads from the one for asyncio, so that there is one source.

`python -m tools.unasync` writes `src/trimtab/client/_sync`; with `--check` it writes nothing and fails when the
files there are not what it would write.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

SOURCE = Path("src/trimtab/client/_async")
TARGET = Path("src/trimtab/client/_sync")

HEADER = "# Made by `python -m tools.unasync` from {source}; change that one.\n"
KEYWORDS = frozenset({"async", "await"})
NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "StopAsyncIteration": "StopIteration",
    "aclose": "close",
    "asyncio": "time",
    "_async": "_sync",
}
# Names such as AsyncTrimtab, AsyncIterator: the same without the prefix.
PREFIX = re.compile(r"^(_?)Async(?=[A-Z])")
# What can be said shorter once nothing is awaited: sorted imports, `yield from`, `list(...)`.
SIMPLER = "I,UP028,C416,RUF100"
DOCUMENTATION = [
    ("`trimtab.client._sync` is made from it by `python -m tools.unasync`.", ""),
    ("The client for asyncio. Written by hand; ", "The client for plain threads."),
    ("async with Async", "with "),
    ("AsyncTrimtab", "Trimtab"),
    ("await ", ""),
    ("async ", ""),
]


def convert(source: str) -> str:
    """The synchronous twin of `source`, not yet formatted."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int, int, str]] = []
    for index, token in enumerate(tokens):
        if token.type == tokenize.NAME:
            if token.string in KEYWORDS:
                edits.append((token.start[0], token.start[1], tokens[index + 1].start[1], ""))
            elif (new := rename(token.string)) != token.string:
                edits.append((token.start[0], token.start[1], token.end[1], new))
    for line, start, end, new in sorted(edits, reverse=True):
        text = lines[line - 1]
        lines[line - 1] = text[:start] + new + text[end:]
    text = "".join(lines)
    return re.sub(r'"""(?:.|\n)*?"""', lambda match: document(match[0]), text)


def rename(name: str) -> str:
    """The synchronous name for an asynchronous one."""
    return NAMES.get(name) or PREFIX.sub(r"\1", name)


def document(text: str) -> str:
    """A documentation string, told for threads."""
    for old, new in DOCUMENTATION:
        text = text.replace(old, new)
    return text


def generate() -> dict[Path, str]:
    """All files of the synchronous client, formatted."""
    files = {}
    for path in sorted(SOURCE.rglob("*.py")):
        target = TARGET / path.relative_to(SOURCE)
        text = HEADER.format(source=path.as_posix()) + convert(path.read_text(encoding="utf-8"))
        files[target] = ruff(
            "format", ruff(f"check --select {SIMPLER} --unsafe-fixes --fix --quiet", text, target), target
        )
    return files


def ruff(command: str, text: str, name: Path) -> str:
    """`text` as ruff rewrites it."""
    # Told apart by configuration, since imports are sorted before the package that they name is there.
    own = 'lint.isort.known-first-party=["trimtab"]'
    arguments = [sys.executable, "-m", "ruff", *command.split(), "--stdin-filename", str(name), "-"]
    if command.startswith("check"):
        arguments += ["--config", own]
    return subprocess.run(arguments, input=text, capture_output=True, text=True, check=True).stdout


def main(arguments: list[str]) -> int:
    """Write the files, or check them with `--check`. Returns the exit status."""
    check = arguments == ["--check"]
    wanted = generate()
    present = {path: path.read_text(encoding="utf-8") for path in TARGET.rglob("*.py")}
    stale = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    for path in stale:
        if check:
            sys.stderr.write(f"{path} is not up to date; run `python -m tools.unasync`\n")
        elif path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
