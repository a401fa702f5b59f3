"""Scanning a stream: the same result however it is cut."""

from __future__ import annotations

import json
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mock_upstream import DONE, USAGE_EVENT, delta, event

from trimtab.gateway.protocols.openai_stream import StreamScanner
from trimtab.metering.record import Usage

TRICKY = 'a "usage":null, \n\n data: [DONE] {'
STREAM = (
    b": keep-alive\n\n"
    + delta({"role": "assistant", "content": ""})
    + delta({"content": TRICKY})
    + delta({"content": "é"})
    + delta({}, "stop")
    + USAGE_EVENT
    + DONE
)
STRIPPED = STREAM.replace(USAGE_EVENT, b"").replace(b',"usage":null}', b"}")


def scanner(*, wants_usage: bool = False) -> StreamScanner:
    ticks = count(1_000, 1_000)
    return StreamScanner(wants_usage=wants_usage, begun_ns=0, clock=lambda: next(ticks))


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans())
def test_cuts_change_nothing(cuts: list[int], wants_usage: bool) -> None:
    scan = scanner(wants_usage=wants_usage)
    places = [0, *sorted(cuts), len(STREAM)]
    passed = b"".join(scan.feed(STREAM[a:b]) for a, b in pairwise(places))
    assert passed == (STREAM if wants_usage else STRIPPED)
    assert scan.done
    assert (scan.content_events, scan.finish_reason) == (2, "stop")
    assert scan.usage == Usage(12, 8, 0, 7, 3, "upstream")
    assert (scan.first_content_us, scan.last_content_us) == (1, 2)


def test_the_text_of_the_model_is_never_touched() -> None:
    scan = scanner()
    passed = scan.feed(delta({"content": TRICKY}))
    assert json.loads(passed.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == TRICKY
    assert not scan.done


def test_whole_events_pass_at_once_and_halves_are_held() -> None:
    scan = scanner(wants_usage=True)
    whole = delta({"content": "a"})
    assert scan.feed(whole + b"data: {") == whole
    assert scan.feed(b'"choices":[]}') == b""
    assert scan.feed(b"\n\n") == b'data: {"choices":[]}\n\n'


def test_lines_may_end_as_in_windows() -> None:
    scan = scanner()
    scan.feed(STREAM.replace(b"\n", b"\r\n"))
    assert (scan.done, scan.content_events) == (True, 2)


@pytest.mark.parametrize("member", ["reasoning_content", "refusal", "tool_calls"])
def test_what_counts_as_content(member: str) -> None:
    scan = scanner()
    scan.feed(delta({member: [{"index": 0}] if member == "tool_calls" else "text"}))
    assert scan.content_events == 1
    scan.feed(delta({member: None, "content": ""}))
    assert scan.content_events == 1


def test_usage_beside_choices_is_noted_and_passed_on() -> None:
    scan = scanner()
    chunk = event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 4}})
    assert scan.feed(chunk) == chunk
    assert scan.usage is not None
    assert scan.usage.output == 4


def test_errors_and_oddities() -> None:
    scan = scanner()
    odd = b"data: not json\n\ndata: [1]\n\nevent: ping\n\n"
    assert scan.feed(odd) == odd
    assert not scan.error
    scan.feed(event({"error": {"message": "broken"}}))
    assert scan.error
