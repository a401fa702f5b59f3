"""Histograms: within 1 %, merged by concatenation."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trimtab.metering.histogram import MAX_COUNT, bucket_of, decode, encode, of_values
from trimtab.metering.quantiles import Distribution

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MANY = st.lists(FINITE, min_size=1, max_size=60)


@given(MANY, st.floats(0, 1))
def test_quantiles_are_within_one_percent(values: list[float], fraction: float) -> None:
    found = Distribution.of(of_values(values)).quantiles([fraction])
    assert found is not None
    exact = sorted(values)[max(math.ceil(fraction * len(values) * (1 - 1e-12)), 1) - 1]
    assume(abs(exact) > 1e-300)
    assert found[0] == pytest.approx(exact, rel=0.010001)


def test_a_high_percentile_of_a_few_values_is_the_highest() -> None:
    found = Distribution.of(of_values([4.4, 8.7, 8.8])).quantiles([0.5, 0.95, 0.99])
    assert found == pytest.approx([8.7, 8.8, 8.8], rel=0.010001)
    assert Distribution.of(of_values(range(1, 21))).quantiles([0.95]) == pytest.approx([19], rel=0.010001)


@given(FINITE, FINITE)
def test_buckets_keep_the_order(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert bucket_of(low) <= bucket_of(high)


@given(st.lists(MANY, min_size=1, max_size=5))
def test_concatenation_merges(parts: list[list[float]]) -> None:
    together = Distribution.of(b"".join(map(of_values, parts)))
    at_once = Distribution.of(of_values([value for part in parts for value in part]))
    assert together.encode() == at_once.encode()
    assert together.count == sum(map(len, parts))
    assert Distribution.of(together.encode()).encode() == together.encode()


@given(st.dictionaries(st.integers(-77_000, 77_000), st.integers(1, 10**12), max_size=20))
def test_counts_of_any_size_come_back(counts: dict[int, int]) -> None:
    assert decode(encode(counts)) == counts
    assert decode(Distribution.of(encode(counts)).encode()) == counts


def test_zero_and_negative_values() -> None:
    found = Distribution.of(of_values([-100.0, -1.0, 0.0, 0.0, 5.0])).quantiles([0, 0.25, 0.5, 0.75, 1])
    assert found == pytest.approx([-100, -1, 0, 0, 5], rel=0.0101)


def test_nothing() -> None:
    empty = Distribution.of(b"")
    assert (empty.count, empty.quantiles([0.5]), empty.encode()) == (0, None, b"")


def test_damage_is_told() -> None:
    for read in (decode, Distribution.of):
        with pytest.raises(ValueError, match="multiple"):
            read(b"1234567")  # type: ignore[operator]


def test_a_count_beyond_32_bits_is_several_pairs() -> None:
    assert len(encode({1: MAX_COUNT + 1})) == 16
