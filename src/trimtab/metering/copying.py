"""Request records as rows of PostgreSQL's binary COPY format, built straight from the record."""

from __future__ import annotations

import struct
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from trimtab.metering.record import RequestRecord
from trimtab.metering.spool import Frame

FIXED_COLUMNS = (
    "id", "spool_id", "started_at", "routing_revision", "latency_us", "input_tokens",
    "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_nano", "spool_segment",
    "spool_offset", "status", "streamed", "client_gone",
)  # fmt: skip
UUID_COLUMNS = ("workspace_id", "api_key_id", "member_id", "model_id", "lifecycle_id", "deployment_id")
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
_FIXED = struct.Struct(">h" + "i16s" * 2 + "iq" * 11 + "ii" + "i?" * 2)
_LENGTH = struct.Struct(">i")
_BIGINT = struct.Struct(">iq")
_JSON_HEAD = struct.Struct(">ib")
_CACHE_ENTRIES = 20_000


class _AttemptDocument(msgspec.Struct):
    deployment_id: str
    target: str
    status: int
    error_code: str | None
    duration_us: int


_encode_json = msgspec.json.Encoder().encode


class RowEncoder:
    """Builds rows in the order of COLUMNS. Keeps the encodings of what comes again and again."""

    def __init__(self) -> None:
        self._common: dict[tuple[str | None, ...], bytes] = {}

    def row(self, spool: bytes, frame: Frame, record: RequestRecord) -> bytes:
        """The row of one record; a stream is HEAD, rows, TAIL.

        Parameters:
            spool: the 16 bytes of the spool's id.

        Raises:
            ValueError, struct.error: the record holds what its column cannot.
        """
        (
            identifier, workspace_id, started_us, api_key_id, member_id, unit, requested_model, environment, model_id,
            lifecycle_id, deployment_id, version_tag, variant, routing_revision, provider, upstream_model, dialect,
            operation, streamed, status, error_code, finish_reason, client_gone, latency_us, ttft_us, _, usage,
            cost_nano, attempts,
        ) = astuple(record)  # fmt: skip
        key = (
            workspace_id, api_key_id, member_id, model_id, lifecycle_id, deployment_id, requested_model, environment,
            version_tag, variant, provider, upstream_model, dialect, operation, error_code, finish_reason, usage.source,
        )  # fmt: skip
        common = self._common.get(key)
        if common is None:
            if len(self._common) >= _CACHE_ENTRIES:
                self._common.clear()
            common = self._common[key] = b"".join((*map(_uuid_field, key[:6]), *map(_text_field, key[6:])))
        document = _encode_json([_AttemptDocument(*astuple(attempt)) for attempt in attempts])
        if b"\\u0000" in document:
            document = document.replace(b"\\u0000", b"\\ufffd")
        return b"".join(
            (
                _FIXED.pack(
                    len(COLUMNS), 16, _bytes_of(identifier), 16, spool, 8, started_us - EPOCH_US, 8, routing_revision,
                    8, latency_us, 8, usage.input, 8, usage.cache_read, 8, usage.cache_write, 8, usage.output,
                    8, usage.reasoning, 8, cost_nano, 8, frame.segment, 8, frame.offset, 4, status, 1, streamed,
                    1, client_gone,
                ),
                common,
                _text_field(unit),
                _NULL if ttft_us is None else _BIGINT.pack(8, ttft_us),
                _JSON_HEAD.pack(len(document) + 1, 1),
                document,
            )
        )  # fmt: skip


def clean(value: str) -> str:
    """`value` as PostgreSQL can hold it: without NUL characters."""
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _text_field(value: str | None) -> bytes:
    if value is None:
        return _NULL
    encoded = clean(value).encode()
    return _LENGTH.pack(len(encoded)) + encoded


def _uuid_field(value: str | None) -> bytes:
    return _NULL if value is None else _LENGTH.pack(16) + UUID(value).bytes


def _bytes_of(identifier: str) -> bytes:
    raw = bytes.fromhex(identifier.replace("-", ""))
    if len(raw) != 16:
        raise ValueError(f"{identifier!r} is no UUID")
    return raw
