"""Ranges cut into days, hours and minutes: without gaps, without overlaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import TrimtabError
from trimtab.monitoring.plan import DAY, HOUR, MAX_POINTS, ceil, floor, make_plan, parse_step

NOW = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
MINUTES_FROM = datetime(2026, 3, 7, tzinfo=UTC)
HOURS_FROM = datetime(2025, 2, 8, tzinfo=UTC)
MOMENTS = st.integers(0, 500 * DAY).map(lambda seconds: NOW - timedelta(seconds=seconds))


@given(MOMENTS, MOMENTS, st.sampled_from([None, 60, 300, HOUR, 6 * HOUR, DAY, 7 * DAY]))
def test_every_moment_is_answered_once(a: datetime, b: datetime, step: int | None) -> None:
    start, end = sorted((a, b))
    try:
        plan = make_plan(start, end, step, MINUTES_FROM, HOURS_FROM)
    except TrimtabError:
        assert step is not None or start == end
        return
    edges = [plan.start, plan.hour_from, plan.day_from, plan.day_to, plan.hour_to, plan.end]
    if plan.hour_from == plan.hour_to:
        edges = [plan.start, plan.end]
    assert edges == sorted(edges)
    assert plan.start <= start
    assert plan.end >= end
    assert (ceil(plan.end, plan.step) - floor(plan.start, plan.step)).total_seconds() <= MAX_POINTS * plan.step
    for edge, length in (
        (plan.hour_from, HOUR), (plan.hour_to, HOUR), (plan.day_from, DAY), (plan.day_to, DAY),
    ):  # fmt: skip
        used = plan.hour_from < plan.hour_to if length == HOUR else plan.day_from < plan.day_to
        assert not used or edge == floor(edge, length)
    # Where minutes or hours are no longer kept, none are asked for.
    if plan.start < plan.hour_from:
        assert plan.start >= MINUTES_FROM
    if plan.hour_from < plan.day_from and plan.hour_from < plan.hour_to:
        assert plan.hour_from >= HOURS_FROM


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), ("300s", 300), ("5m", 300), ("1h", HOUR), (" 2d ", 2 * DAY)])
def test_steps(text: str, seconds: int) -> None:
    assert parse_step(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "30", "90", "m", "1w", "-60", "1.5h", "9999999999999"])
def test_no_steps(text: str) -> None:
    with pytest.raises(TrimtabError, match="whole number of minutes"):
        parse_step(text)


def test_too_many_points() -> None:
    with pytest.raises(TrimtabError, match="2000"):
        make_plan(NOW - timedelta(days=3), NOW, 60, MINUTES_FROM, HOURS_FROM)
