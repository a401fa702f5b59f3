"""The part of the client that does no input or output: what to send, whether to send it again, what came back."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import quote
from uuid import UUID, uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError

from trimtab.client.config import Config
from trimtab.client.errors import ClientError, ConfigurationError, from_answer

T = TypeVar("T")

Id = UUID | str
"""An id as the server gave it out, or its text."""

API = "/api/v1"
FIRST_DELAY = 0.25
LONGEST_DELAY = 8.0
LONGEST_RETRY_AFTER = 60.0
RETRIED = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API.

    Parameters:
        method: HTTP method.
        path: below `/api/v1`, with its ids quoted (`path()` does that).
        query: parameters; None leaves one out.
        body: JSON-serialisable, or None for no body.
        if_match: version that the thing must still have.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    if_match: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call ready to be sent, the same for each attempt, so that a repeated POST is known as a repetition."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None


def prepare(call: Call, config: Config) -> Prepared:
    """Turn a call into the bytes and headers of its request."""
    headers = {"accept": "application/json"}
    if config.api_key is not None:
        headers["authorization"] = f"Bearer {config.api_key}"
    if call.method == "POST":
        headers["idempotency-key"] = str(uuid4())
    if call.if_match is not None:
        headers["if-match"] = f'"{call.if_match}"'
    content = None
    if call.body is not None:
        headers["content-type"] = "application/json"
        content = encode(call.body)
    pairs = [f"{quote(name)}={quote(text(value), safe='')}" for name, value in call.query.items() if value is not None]
    query = "?" + "&".join(pairs) if pairs else ""
    return Prepared(call.method, config.url + API + call.path + query, headers, content)


def encode(body: Any) -> bytes:
    """`body` as JSON. Raises ConfigurationError for what JSON cannot hold."""
    try:
        return json.dumps(plain(body), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the request cannot be written as JSON: {error}") from error


def path(*segments: Id) -> str:
    """A path of segments, each quoted; an empty one is refused, since it would ask for something else."""
    parts = [str(segment) for segment in segments]
    if not all(parts):
        raise ConfigurationError("an id is empty", "id")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def text(value: Any) -> str:
    """A query value as text: times in RFC 3339, true and false in lower case."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    return str(value)


def moment(value: datetime) -> str:
    """A time as RFC 3339 in UTC. Raises ConfigurationError for one without a time zone."""
    if value.tzinfo is None:
        raise ConfigurationError(f"the time {value} has no time zone; use datetime.now(UTC) or the like", "time")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """`value` made of what JSON knows: ids and times as text, None members of the outermost object left out."""
    if isinstance(value, Mapping):
        return {str(name): _inner(member) for name, member in value.items() if member is not None}
    return _inner(value)


def _inner(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(name): _inner(member) for name, member in value.items()}
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_inner(member) for member in value]
    return value


def parse(status: int, headers: Mapping[str, str], body: bytes, result: type[T]) -> T:
    """The answer as `result`.

    Raises:
        APIError: of the class that fits, for an error status.
        ClientError: for an answer that is not what this version of the client understands.
    """
    check(status, headers, body)
    try:
        answer: T = _adapter(cast(Hashable, result)).validate_json(body)
        return answer
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ClientError(
            f"the server's answer is not understood ({result.__name__}, {where}: {first['msg']}); "
            "is it a Trimtab of another version?"
        ) from error


@cache
def _adapter(result: Any) -> TypeAdapter[Any]:
    return TypeAdapter(result)


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raise the APIError that fits unless the status is one of success."""
    if not 200 <= status < 300:
        raise from_answer(status, headers, body)


def may_repeat(status: int, body: bytes) -> bool:
    """Whether an answer says that the same request can succeed later."""
    if status in RETRIED:
        # An endpoint that cannot be reached is the caller's to mend first.
        return b'"endpoint_unreachable"' not in body and b'"retryable":false' not in body.replace(b" ", b"")
    # The first request with this idempotency key still runs: its answer can be had when it ends.
    return status == 409 and b'"in_progress"' in body


def delay(attempt: int, draw: float, retry_after: str | None, now: datetime) -> float:
    """Seconds to wait before attempt number `attempt` (the first repetition is 1).

    Parameters:
        draw: random, from 0 up to 1; spreads the repetitions of many clients.
        retry_after: the server's header, in seconds or as a date; obeyed up to a minute.
        now: what a date is counted from.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (attempt - 1))
    return max(longest * (0.5 + draw / 2), _seconds(retry_after, now))


def _seconds(retry_after: str | None, now: datetime) -> float:
    if retry_after is None:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
