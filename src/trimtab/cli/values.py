"""What commands read from their arguments: JSON, durations, configurations."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from trimtab.cli.failure import EXIT_USAGE, Failure

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """A JSON object given as text, or as `@file`. Raises Failure naming `option`."""
    if text is None:
        return None
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{option}: cannot read {text[1:]}: {error}", "invalid_value", status=EXIT_USAGE) from error
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Failure(f"{option} is not valid JSON: {error}", "invalid_value", status=EXIT_USAGE) from error
    if not isinstance(value, dict):
        raise Failure(
            f'{option} must be a JSON object such as {{"temperature": 0.2}}', "invalid_value", status=EXIT_USAGE
        )
    return value


def duration(text: str, option: str) -> timedelta:
    """A span such as 90s, 15m, 1h, 1h30m, 7d. Raises Failure naming `option`."""
    compact = text.replace(" ", "").lower()
    parts = list(_DURATION.finditer(compact))
    if not parts or "".join(part[0] for part in parts) != compact:
        raise Failure(
            f"{option} is {text!r}; give a span such as 90s, 15m, 1h30m or 7d", "invalid_value", status=EXIT_USAGE
        )
    span = timedelta(seconds=sum(float(part[1]) * _SECONDS[part[2]] for part in parts))
    if not span:
        raise Failure(f"{option} must be longer than nothing", "invalid_value", status=EXIT_USAGE)
    return span


def secret(text: str | None) -> str | None:
    """A secret as given, or the first line of standard input where `-` is given: then it is in no process list."""
    return sys.stdin.readline().strip() if text == "-" else text


def configuration(
    config: str | None,
    *,
    endpoints: list[str] | None,
    gguf: Path | None,
    upstream_model: str | None,
    credential: str | None,
) -> dict[str, Any]:
    """A version's `deployment_config`, of the options for its usual parts and `--config` for all others."""
    found = json_object(config, "--config") or {}
    if endpoints:
        found |= {"endpoint": endpoints[0]} if len(endpoints) == 1 else {"endpoints": endpoints}
    if gguf is not None:
        # Absolute: the server need not have been started where this command runs.
        found["runtime"] = {"kind": "process", "gguf": str(gguf.absolute())}
    if upstream_model is not None:
        found["upstream_model"] = upstream_model
    if credential is not None:
        found["credential"] = secret(credential)
    return found


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone, unless `yes` was given. Raises Failure for a no, or where nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(f"{question} Add --yes to do it without being asked", "not_confirmed", status=EXIT_USAGE)
    import typer

    if not typer.confirm(question):
        raise Failure("nothing was changed", "not_confirmed")
