"""A gateway alone loads no control plane."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import trimtab.server.web
heavy = {"fastapi", "starlette", "numpy", "genai_prices", "pydantic", "httpx2", "rich", "typer"}
print(sorted(name for name in sys.modules if name.split(".")[0] in heavy
             or name.startswith(("trimtab.api", "trimtab.registry", "trimtab.deployments", "trimtab.client"))))
"""


def test_the_web_worker_alone_loads_no_control_plane() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
