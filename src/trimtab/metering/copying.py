"""Request records as rows of PostgreSQL's binary COPY format, built straight from the record."""

from __future__ import annotations

import struct
from collections.abc import Callable
from uuid import UUID

import msgspec

from trimtab.metering.record import RequestRecord
from trimtab.metering.spool import Frame

FIXED_COLUMNS = (
    "id", "workspace_id", "spool_id", "started_at", "routing_revision", "latency_us", "input_tokens",
    "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_nano", "spool_segment",
    "spool_offset", "status", "streamed", "client_gone",
)  # fmt: skip
UUID_COLUMNS = ("api_key_id", "member_id", "model_id", "lifecycle_id", "deployment_id")
TEXT_COLUMNS = (
    "requested_model", "environment", "version_tag", "variant", "provider", "upstream_model", "dialect", "operation",
    "error_code", "finish_reason", "usage_source",
)  # fmt: skip
COLUMNS = (*FIXED_COLUMNS, *UUID_COLUMNS, *TEXT_COLUMNS, "unit", "ttft_us", "attempts")

HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TAIL = struct.pack(">h", -1)
EPOCH_US = 946_684_800_000_000
"""Where PostgreSQL's time begins (2000-01-01), in Unix microseconds."""

_NULL = struct.pack(">i", -1)
_FIXED = struct.Struct(">h" + "i16s" * 3 + "iq" * 11 + "ii" + "i?" * 2)
_LENGTH = struct.Struct(">i")
_BIGINT = struct.Struct(">iq")
_CACHE_ENTRIES = 20_000


class _AttemptDocument(msgspec.Struct):
    deployment_id: str
    target: str
    status: int
    error_code: str | None
    duration_us: int


_encode_json = msgspec.json.Encoder().encode


class RowEncoder:
    """Builds rows in the order of COLUMNS. Keeps the encodings of values that come again and again."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._uuids: dict[str, bytes] = {}

    def row(self, spool: bytes, frame: Frame, record: RequestRecord) -> bytes:
        """The row of one record; a stream is HEAD, rows, TAIL.

        Parameters:
            spool: the 16 bytes of the spool's id.

        Raises:
            ValueError, struct.error: the record holds what its column cannot.
        """
        text, uuid, usage = self._text, self._uuid, record.usage
        attempts = b"\x01" + _encode_json(
            [
                _AttemptDocument(a.deployment_id, a.target, a.status, a.error_code, a.duration_us)
                for a in record.attempts
            ]
        )
        if b"\\u0000" in attempts:
            attempts = attempts.replace(b"\\u0000", b"\\ufffd")
        return b"".join(
            (
                _FIXED.pack(
                    len(COLUMNS),
                    16, _bytes_of(record.id), 16, uuid(record.workspace_id)[4:], 16, spool,
                    8, record.started_us - EPOCH_US, 8, record.routing_revision, 8, record.latency_us,
                    8, usage.input, 8, usage.cache_read, 8, usage.cache_write, 8, usage.output, 8, usage.reasoning,
                    8, record.cost_nano, 8, frame.segment, 8, frame.offset,
                    4, record.status, 1, record.streamed, 1, record.client_gone,
                ),
                uuid(record.api_key_id), uuid(record.member_id), uuid(record.model_id), uuid(record.lifecycle_id),
                uuid(record.deployment_id),
                text(record.requested_model), text(record.environment), text(record.version_tag),
                text(record.variant), text(record.provider), text(record.upstream_model), text(record.dialect),
                text(record.operation), text(record.error_code), text(record.finish_reason), text(usage.source),
                _NULL if record.unit is None else _text_field(record.unit),
                _NULL if record.ttft_us is None else _BIGINT.pack(8, record.ttft_us),
                _LENGTH.pack(len(attempts)), attempts,
            )
        )  # fmt: skip

    def _text(self, value: str | None) -> bytes:
        return _NULL if value is None else _cached(self._texts, value, _text_field)

    def _uuid(self, value: str | None) -> bytes:
        return _NULL if value is None else _cached(self._uuids, value, _uuid_field)


def clean(value: str) -> str:
    """`value` as PostgreSQL can hold it: without NUL characters."""
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _cached(cache: dict[str, bytes], value: str, make: Callable[[str], bytes]) -> bytes:
    found = cache.get(value)
    if found is None:
        if len(cache) >= _CACHE_ENTRIES:
            cache.clear()
        found = cache[value] = make(value)
    return found


def _text_field(value: str) -> bytes:
    encoded = clean(value).encode()
    return _LENGTH.pack(len(encoded)) + encoded


def _uuid_field(value: str) -> bytes:
    return _LENGTH.pack(16) + UUID(value).bytes


def _bytes_of(identifier: str) -> bytes:
    raw = bytes.fromhex(identifier.replace("-", ""))
    if len(raw) != 16:
        raise ValueError(f"{identifier!r} is no UUID")
    return raw
