"""The quick start does what it says: its blocks, pasted one after the other into one shell."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.serving import environment
from tests.acceptance.test_demo_model import local_model

QUICKSTART = Path(__file__).parents[2] / "docs" / "guide" / "quickstart.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLS = ("pip install", "python3 -m venv")
NEEDS_A_MODEL_SERVER = "127.0.0.1:9000"


def script(port: int) -> str:
    """The blocks without what installs and without the model that would run elsewhere, on a free port."""
    blocks = BLOCK.findall(QUICKSTART.read_text(encoding="utf-8"))
    kept = [
        "\n".join(line for line in block.splitlines() if not line.startswith(INSTALLS))
        for block in blocks
        if NEEDS_A_MODEL_SERVER not in block
    ]
    text = "\n".join(kept).replace(":8700", f":{port}").replace("trimtab serve", f"trimtab serve --port {port}")
    return f"set -eu\ntrap 'kill %1; wait' EXIT\n{text}\n"


@pytest.mark.skipif(local_model() is None, reason="the local model is not installed; `make setup` does it")
def test_the_quick_start_runs_as_it_stands(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["/bin/bash"],
        input=script(port),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment({"PATH": path}),
        timeout=150,
        check=False,
    )
    log = tmp_path / "trimtab.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    for said in ("support-bot@v1.0.0 is approved (by admin)", "served by", "healthy", "rolled back to"):
        assert said in done.stdout
