"""What a built wheel contains."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("trimtab-*.whl")
    return zipfile.Path(path)


def names(folder: zipfile.Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_wheel_has_the_built_dashboard(wheel: zipfile.Path) -> None:
    static = wheel / "trimtab" / "server" / "static"
    page = (static / "index.html").read_text()
    assets = names(static / "assets")
    scripts = {name for name in assets if name.endswith(".js")}
    assert scripts
    assert any(f"/assets/{name}" in page for name in scripts)
    assert {f"{name}.gz" for name in scripts} <= assets


def test_wheel_has_every_migration_and_its_types(wheel: zipfile.Path) -> None:
    package = wheel / "trimtab"
    sources = {path.name for path in (ROOT / "src" / "trimtab" / "db" / "migrations").glob("*.sql")}
    assert sources
    assert sources <= names(package / "db" / "migrations")
    assert (package / "py.typed").exists()


def test_wheel_has_the_command_and_nothing_else(wheel: zipfile.Path) -> None:
    (info,) = [entry for entry in wheel.iterdir() if entry.name.endswith(".dist-info")]
    assert "trimtab = trimtab.cli.main:main" in (info / "entry_points.txt").read_text()
    assert "License-Expression: MIT" in (info / "METADATA").read_text()
    assert names(wheel) == {"trimtab", info.name}
