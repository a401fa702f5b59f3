"""Which rollups answer a question about a time range. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trimtab.errors import Code, TrimtabError

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MAX_POINTS = 2_000
LIKED_POINTS = 200
LIKED_STEPS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, DAY, 7 * DAY)
UNITS = {"": 1, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY}


@dataclass(frozen=True, slots=True)
class Plan:
    """A range cut into parts that days, hours and minutes answer.

    Days answer [day_from, day_to), hours the rest of [hour_from, hour_to), minutes the rest of [start, end). Each
    part may be empty. Steps are aligned to multiples of `step` seconds since 1970.
    """

    start: datetime
    end: datetime
    step: int
    hour_from: datetime
    hour_to: datetime
    day_from: datetime
    day_to: datetime


def parse_step(text: str) -> int:
    """Seconds in a step such as `300`, `5m`, `1h` or `1d`.

    Raises:
        TrimtabError: INVALID_REQUEST when it is no whole number of minutes.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text.strip())
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if seconds < MINUTE or seconds % MINUTE:
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"The step {text!r} is not a whole number of minutes; give seconds such as 300, or 5m, 1h, 1d.",
            "step",
        )
    return seconds


def make_plan(start: datetime, end: datetime, step: int | None, minutes_from: datetime, hours_from: datetime) -> Plan:
    """How to answer [start, end) in steps.

    The range is widened to whole minutes; to whole hours and days where it begins before minutes and hours are kept.

    Parameters:
        step: seconds; None chooses one with at most 200 points.
        minutes_from: since when minutes are kept.
        hours_from: since when hours are kept.

    Raises:
        TrimtabError: INVALID_REQUEST for an empty range, too many points, or a step finer than what is kept.
    """
    if start >= end:
        raise TrimtabError(Code.INVALID_REQUEST, "The range is empty: `start` must lie before `end`.", "start")
    finest = _finest(start, minutes_from, hours_from)
    length = (end - start).total_seconds()
    if step is None:
        fitting = [s for s in LIKED_STEPS if s >= finest and length / s <= LIKED_POINTS]
        step = fitting[0] if fitting else -(-int(length) // (LIKED_POINTS * DAY)) * DAY
    if step % finest:
        kept = "an hour" if finest == HOUR else "a day"
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"That long ago only totals of {kept} are kept; use a step of whole multiples of {finest} seconds, "
            f"or begin later ({(minutes_from if finest == HOUR else hours_from).isoformat()}).",
            "step",
        )
    first, last = floor(start, finest), ceil(end, _finest(end, minutes_from, hours_from))
    points = (ceil(last, step) - floor(first, step)).total_seconds() / step
    if points > MAX_POINTS:
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"The range has {points:.0f} steps of {step} seconds, at most {MAX_POINTS} are answered; "
            "take a longer step or a shorter range.",
            "step",
        )
    hour_from = hour_to = day_from = day_to = last
    if step % HOUR == 0 and ceil(first, HOUR) < floor(last, HOUR):
        hour_from, hour_to = ceil(first, HOUR), floor(last, HOUR)
        day_from = day_to = hour_to
        if step % DAY == 0 and ceil(hour_from, DAY) < floor(hour_to, DAY):
            day_from, day_to = ceil(hour_from, DAY), floor(hour_to, DAY)
    return Plan(first, last, step, hour_from, hour_to, day_from, day_to)


def floor(moment: datetime, seconds: int) -> datetime:
    """The last multiple of `seconds` since 1970 that is not after `moment`."""
    whole = moment.astimezone(UTC).replace(microsecond=0)
    return whole - timedelta(seconds=int(whole.timestamp()) % seconds)


def ceil(moment: datetime, seconds: int) -> datetime:
    """The first multiple of `seconds` since 1970 that is not before `moment`."""
    below = floor(moment, seconds)
    return below if below == moment else below + timedelta(seconds=seconds)


def _finest(moment: datetime, minutes_from: datetime, hours_from: datetime) -> int:
    if moment < hours_from:
        return DAY
    return HOUR if moment < minutes_from else MINUTE
