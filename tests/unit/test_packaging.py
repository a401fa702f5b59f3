"""What is locked, what the dashboard weighs, and which contracts hold: read from the project's own files."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("runtime", "dev", "build", "local")
INITIAL_SCRIPT_BUDGET = 250_000


def locked(name: str) -> dict[str, list[Requirement]]:
    """The pins of a lock file by package; one package may have a pin for each Python version."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            pin = Requirement(line.removesuffix("\\"))
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements(*path: str) -> list[str]:
    found: object = project()
    for key in path:
        assert isinstance(found, dict)
        found = found[key]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "index-url" not in text
    entries = re.split(r"(?m)^(?=[a-z0-9])", text)[1:]
    assert entries
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert all("==" in entry.splitlines()[0] for entry in entries)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("runtime", requirements("project", "dependencies")),
        ("dev", requirements("project", "dependencies")),
        ("dev", requirements("dependency-groups", "dev")),
        ("build", requirements("dependency-groups", "build")),
        ("build", requirements("build-system", "requires")),
        ("local", requirements("project", "optional-dependencies", "local")),
    ],
)
def test_locks_follow_pyproject(lock: str, wanted: list[str]) -> None:
    pins = locked(lock)
    behind = []
    for text in wanted:
        requirement = Requirement(text)
        versions = [str(pin.specifier).removeprefix("==") for pin in pins.get(canonicalize_name(requirement.name), [])]
        if not versions or not all(requirement.specifier.contains(version) for version in versions):
            behind.append(text)
    assert behind == [], f"requirements/{lock}.txt is behind pyproject.toml; run `make lock`"


def test_locks_agree_with_each_other() -> None:
    for narrow, wide in (("runtime", "dev"),):
        everything = locked(wide)
        for name, pins in locked(narrow).items():
            assert {str(pin.specifier) for pin in pins} <= {str(pin.specifier) for pin in everything[name]}
    dev = locked("dev")
    for name, pins in locked("build").items():
        if name in dev:
            assert [str(pin.specifier) for pin in pins] == [str(pin.specifier) for pin in dev[name]]


def test_torch_is_in_no_lock() -> None:
    assert [name for name in LOCKS if "torch" in locked(name)] == []


def test_dashboard_lock_has_hashes_and_no_address() -> None:
    lock = json.loads((ROOT / "dashboard" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    # A package that travels inside another's archive is covered by that archive's hash.
    unhashed = [name for name, entry in packages.items() if not entry.get("integrity") and not entry.get("inBundle")]
    assert unhashed == []


def test_dashboard_packages_are_exact_and_mantine_is_of_one_version() -> None:
    package = json.loads((ROOT / "dashboard" / "package.json").read_text())
    wanted = package["dependencies"] | package["devDependencies"]
    assert [name for name, version in wanted.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
    assert len({version for name, version in wanted.items() if name.startswith("@mantine/")}) == 1


def test_initial_script_is_within_its_budget() -> None:
    static = ROOT / "src" / "trimtab" / "server" / "static"
    page = (static / "index.html").read_text()
    tags = re.findall(r"<(?:script|link)\b[^>]*>", page)
    sources = [
        match[1]
        for tag in tags
        if ("<script" in tag or "modulepreload" in tag) and (match := re.search(r'(?:src|href)="([^"]+)"', tag))
    ]
    assert sources
    size = sum(len(gzip.compress((static / source.lstrip("/")).read_bytes())) for source in sources)
    assert size <= INITIAL_SCRIPT_BUDGET, f"initial JavaScript is {size:,} bytes of gzip"


def test_gateway_loads_no_control_plane_code() -> None:
    script = (
        "import importlib, pkgutil, sys, trimtab.gateway as gateway\n"
        "for module in pkgutil.walk_packages(gateway.__path__, 'trimtab.gateway.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(*sorted(sys.modules), sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    heavy = {"fastapi", "starlette", "pydantic", "numpy", "genai_prices", "httpx2", "rich", "typer"}
    heavy |= {f"trimtab.{name}" for name in ("access", "api", "cli", "client", "deployments", "registry", "usage")}
    assert heavy & set(done.stdout.split()) == set()
