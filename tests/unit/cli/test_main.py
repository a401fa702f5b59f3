"""The command as a process: quick to start, plain in its errors."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("httpx2", "pydantic", "psycopg", "fastapi", "numpy", "rich.console")


def trimtab(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment of its own."""
    return subprocess.run(
        [sys.executable, "-m", "trimtab.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
        timeout=60,
        check=False,
    )


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from trimtab.cli.main import build
try:
    build()(["--help"])
except SystemExit:
    pass
print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"
    assert "serve" in done.stdout


def test_importing_the_package_loads_no_client() -> None:
    code = (
        "import sys, trimtab; assert trimtab.__version__; print(any('trimtab.client' in name for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_version() -> None:
    assert trimtab("--version").stdout.startswith("trimtab 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("serve", "--port", "70000"), "invalid_setting", "--port is 70000"),
        (("serve", "--role", "king"), "invalid_setting", "all, gateway, api, controller"),
        (("serve", "--database-url", "mysql://x"), "invalid_setting", "postgresql://"),
    ],
)
def test_wrong_flags_are_one_line_with_what_to_do(arguments: tuple[str, ...], code: str, hint: str) -> None:
    done = trimtab(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"({code})\n")
    assert hint in done.stderr


def test_db_url_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    done = trimtab("db", "url", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "trimtab serve" in done.stderr
