"""What a request counts as."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from tests.metering import World, make_record

from trimtab.metering.record import Usage, decode_record, encode_record
from trimtab.metering.rollup import MINUTE_US, fault_of, roll_up

WORLD = World(*(UUID(int=n) for n in range(6)))
AT = datetime(2026, 3, 14, 12, 0, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "error_code", "client_gone", "attempts", "fault"),
    [
        (200, None, False, 1, None),
        (200, "upstream_invalid", False, 1, "upstream"),
        (200, None, True, 1, None),
        (200, "upstream_invalid", True, 1, None),
        (404, "model_not_found", False, 0, "client"),
        (400, None, False, 1, "client"),
        (401, "unauthenticated", False, 0, "client"),
        (403, "model_not_approved", False, 0, "client"),
        (401, "upstream_error", False, 1, "upstream"),
        (403, "upstream_error", False, 1, "upstream"),
        (429, "upstream_error", False, 1, "upstream"),
        (429, None, False, 1, "upstream"),
        (429, "overloaded", False, 0, "client"),
        (500, None, False, 1, "upstream"),
        (503, "overloaded", False, 0, "upstream"),
    ],
)
def test_whose_fault(status: int, error_code: str | None, client_gone: bool, attempts: int, fault: str | None) -> None:
    record = make_record(WORLD, AT, status=status, error_code=error_code, client_gone=client_gone, attempts=attempts)
    assert fault_of(record) == fault


def test_series_and_minutes_are_apart() -> None:
    later = datetime(2026, 3, 14, 12, 1, 0, tzinfo=UTC)
    records = [
        make_record(WORLD, AT), make_record(WORLD, AT, cost_nano=5), make_record(WORLD, later),
        make_record(WORLD, AT, provider="other"),
    ]  # fmt: skip
    rolled = roll_up(records)
    assert sorted((key.provider, minute % MINUTE_US, tally.requests) for (key, minute), tally in rolled.items()) == [
        ("openai", 0, 1), ("openai", 0, 2), ("other", 0, 1),
    ]  # fmt: skip
    assert sum(tally.cost_nano for tally in rolled.values()) == 4_505


def test_times_are_of_answered_requests() -> None:
    (tally,) = roll_up(
        [
            make_record(WORLD, AT, latency_ms=1_100, ttft_ms=100, usage=Usage(1, 0, 0, 11, 0, "upstream")),
            make_record(WORLD, AT, latency_ms=2_000, usage=Usage(1, 0, 0, 10, 0, "upstream")),
            make_record(WORLD, AT, latency_ms=9_000, status=500),
            make_record(WORLD, AT, latency_ms=9_000, client_gone=True),
            make_record(WORLD, AT, latency_ms=100, ttft_ms=100, usage=Usage(1, 0, 0, 1, 0, "upstream")),
        ]
    ).values()
    assert (tally.requests, tally.latency_count, tally.ttft_count) == (5, 3, 2)
    assert (tally.latency_us_sum, tally.ttft_us_sum) == (3_200_000, 200_000)
    assert (tally.generation_count, tally.generation_tokens, tally.generation_us_sum) == (2, 20, 3_000_000)
    assert sum(tally.latency_hist.values()) == 3


def test_a_record_comes_back() -> None:
    record = make_record(WORLD, AT, ttft_ms=3, attempts=2)
    assert decode_record(encode_record(record)) == record
