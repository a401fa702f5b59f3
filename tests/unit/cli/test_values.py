"""What commands read from their arguments."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from trimtab.cli.failure import EXIT_USAGE, Failure
from trimtab.cli.values import configuration, confirm, duration, json_object


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5 H", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_durations(text: str, span: timedelta) -> None:
    assert duration(text, "--last") == span


@pytest.mark.parametrize("text", ["", "5", "h", "1x", "-1h", "1h-", "0s"])
def test_what_is_no_duration_names_the_option(text: str) -> None:
    with pytest.raises(Failure, match="--last") as caught:
        duration(text, "--last")
    assert caught.value.status == EXIT_USAGE


def test_json_objects(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"a": 1}')
    assert json_object(None, "--config") is None
    assert json_object('{"a": [1]}', "--config") == {"a": [1]}
    assert json_object(f"@{file}", "--config") == {"a": 1}


@pytest.mark.parametrize("text", ["{", "[1]", "1", "@/nowhere/at/all"])
def test_what_is_no_json_object_names_the_option(text: str) -> None:
    with pytest.raises(Failure, match="--config"):
        json_object(text, "--config")


def test_configurations_join_options_and_json(tmp_path: Path) -> None:
    def built(endpoints: list[str] | None = None, gguf: Path | None = None) -> dict[str, object]:
        return configuration(
            '{"parameters": {}}', endpoints=endpoints, gguf=gguf, upstream_model="m", credential="secret"
        )

    common = {"parameters": {}, "upstream_model": "m", "credential": "secret"}
    assert built(["http://a"]) == {**common, "endpoint": "http://a"}
    assert built(["http://a", "http://b"]) == {**common, "endpoints": ["http://a", "http://b"]}
    runtime = built(gguf=Path("model.gguf"))["runtime"]
    assert runtime == {"kind": "process", "gguf": str(Path.cwd() / "model.gguf")}


def test_nothing_is_done_unasked_where_nobody_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    confirm("Delete it?", yes=True)
    with pytest.raises(Failure, match="--yes"):
        confirm("Delete it?", yes=False)
