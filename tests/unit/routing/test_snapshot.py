"""The snapshot: patched per revision, kept on disk."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from trimtab.routing.records import ApiKeyEntry, Arm, RouteEntry
from trimtab.routing.snapshot import Row, Snapshot, read, save

KEY = ApiKeyEntry(
    id="k", workspace_id="w", member_id="m", member_name="n", role="viewer", scopes=("inference",), expires_at=5.0
)
ROUTE = RouteEntry(workspace_id="w", model_id="m", name="bot", environment="staging", arms=(Arm("d", 10_000),))


def filled() -> Snapshot:
    rows = [
        Row("api_key", "h", 1, msgspec.json.encode(KEY)),
        Row("route", "w/bot", 2, msgspec.json.encode(ROUTE)),
    ]
    return Snapshot().patched(rows, 2)


def test_patches_set_and_remove_and_leave_the_old_one_alone() -> None:
    before = filled()
    assert before.keys == {"h": KEY}
    assert before.routes == {"w/bot": ROUTE}
    after = before.patched([Row("api_key", "h", 3, None), Row("api_key", "gone", 3, None)], 3)
    assert (after.revision, dict(after.keys)) == (3, {})
    assert after.routes is before.routes
    assert before.keys == {"h": KEY}


def test_routes_are_known_per_workspace() -> None:
    foreign = msgspec.structs.replace(ROUTE, workspace_id="x")
    first = msgspec.structs.replace(ROUTE, name="Alpha")
    before = filled()
    assert list(before.routes_of("w")) == [ROUTE]
    rows = [Row("route", "x/bot", 3, msgspec.json.encode(foreign)), Row("route", "w/a", 3, msgspec.json.encode(first))]
    after = before.patched(rows, 3)
    assert list(after.routes_of("w")) == [first, ROUTE]
    assert list(after.routes_of("x")) == [foreign]
    assert list(after.routes_of("y")) == []
    assert list(before.routes_of("w")) == [ROUTE]
    assert after.patched([Row("api_key", "h", 4, None)], 4).routes_of("w") is after.routes_of("w")
    assert list(after.patched([Row("route", "w/bot", 4, None)], 4).routes_of("w")) == [first]


def test_an_entry_that_cannot_be_read_serves_nobody(caplog: pytest.LogCaptureFixture) -> None:
    after = filled().patched([Row("api_key", "h", 3, b'{"id": 7}')], 3)
    assert after.keys == {}
    assert "api_key h of revision 3 is left out" in caplog.text


def test_members_of_a_newer_program_are_ignored() -> None:
    body = msgspec.json.encode({**msgspec.to_builtins(ROUTE), "new_member": 1})
    assert Snapshot().patched([Row("route", "r", 1, body)], 1).routes == {"r": ROUTE}


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gateway" / "snapshot.bin"
    assert read(path) is None
    save(path, filled())
    assert read(path) == filled()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["snapshot.bin"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_file_is_ignored(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "snapshot.bin"
    save(path, filled())
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-1:]
    elif damage == "flipped":
        content[-3] ^= 1
    else:
        content = bytearray(b"" if damage == "empty" else b"trimtab snapshot 99\n" + b"x" * 200)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read(path) is None
    assert "ignored" in caplog.text
