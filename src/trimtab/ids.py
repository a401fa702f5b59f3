"""Identifiers: UUIDv7 (RFC 9562), whose leading bits are the time and so prune day partitions."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7()


def time_of(identifier: UUID) -> datetime:
    """The moment (UTC, millisecond precision) at which a UUIDv7 was made.

    Raises:
        ValueError: the identifier is not of version 7.
    """
    if identifier.version != 7:
        raise ValueError(f"{identifier} is not a UUIDv7")
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)
