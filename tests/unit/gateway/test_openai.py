"""What is read, changed and said in the OpenAI dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trimtab.errors import Code
from trimtab.gateway.protocols.openai import (
    Settings,
    error_body,
    estimate,
    patch_chat,
    read_answer,
    read_chat,
    status_of,
)
from trimtab.metering.record import Usage

NONE = Settings({})


def patch(body: dict[str, Any] | bytes, model: str = "m", parameters: Any = None, overrides: Any = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return patch_chat(data, read_chat(data), model, Settings(parameters or {}), Settings(overrides or {}))


def test_a_body_that_needs_no_change_is_the_same_object() -> None:
    for body in (
        b'{"model":"m", "messages": [],"x":1.50}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ):
        assert patch_chat(body, read_chat(body), "m", NONE, NONE) is body


def test_values_that_are_not_changed_keep_their_bytes() -> None:
    body = b'{"model":"m","temperature":1.50e0,"big":12345678901234567890123,"text":"\\u00e9\xc3\xa9"}'
    patched = patch(body, "upstream")
    for part in (b'"temperature":1.50e0', b'"big":12345678901234567890123', b'"text":"\\u00e9\xc3\xa9"'):
        assert part in patched
    assert json.loads(patched)["model"] == "upstream"


def test_parameters_are_defaults_and_overrides_are_forced() -> None:
    patched = json.loads(
        patch(
            {"model": "m", "temperature": 0.9, "top_p": 0.5, "seed": None},
            parameters={"temperature": 0.1, "max_tokens": 5, "seed": 1, "model": "no", "stream": True},
            overrides={"top_p": 1.0, "stream_options": {}},
        )
    )
    assert patched == {"model": "m", "temperature": 0.9, "top_p": 1.0, "seed": None, "max_tokens": 5}


def test_usage_is_always_asked_for_when_streaming() -> None:
    assert json.loads(patch({"model": "m", "stream": True}))["stream_options"] == {"include_usage": True}
    patched = json.loads(patch({"model": "m", "stream": True, "stream_options": {"include_usage": False, "a": 1}}))
    assert patched["stream_options"] == {"include_usage": True, "a": 1}
    assert json.loads(patch({"model": "m", "stream": True, "stream_options": None}))["stream_options"]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_prompts(role: str) -> None:
    user = {"role": "user", "content": "Hi", "extra": 1}
    own = {"role": role, "content": "own"}
    added = {"role": "system", "content": "Be brief."}
    prompt = {"system_prompt": "Be brief."}
    messages = lambda body: json.loads(body)["messages"]  # noqa: E731
    assert messages(patch({"model": "m", "messages": [user]}, parameters=prompt)) == [added, user]
    assert messages(patch({"model": "m", "messages": [own, user]}, parameters=prompt)) == [own, user]
    assert messages(patch({"model": "m", "messages": [own, user]}, overrides=prompt)) == [added, user]
    assert messages(patch({"model": "m", "messages": "odd"}, overrides=prompt)) == "odd"


def test_usage_buckets_are_disjoint() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    answer = read_answer(json.dumps({"choices": [{"finish_reason": "length"}], "usage": usage}).encode())
    assert answer.usage == Usage(10, 60, 30, 50, 20, "upstream")
    assert answer.finish_reason == "length"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, Usage(0, 0, 0, 0, 0, "upstream")),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(0, 5, 0, 0, 0, "upstream")),
        ({"prompt_tokens": -5, "completion_tokens": None}, Usage(0, 0, 0, 0, 0, "upstream")),
        ({"prompt_tokens": 10**30}, Usage(1_000_000_000, 0, 0, 0, 0, "upstream")),
    ],
)
def test_odd_usage_stays_within_bounds(usage: dict[str, Any], expected: Usage) -> None:
    assert read_answer(json.dumps({"usage": usage}).encode()).usage == expected


def test_odd_answers_are_tolerated() -> None:
    assert read_answer(b'{"choices": 7}').valid
    assert read_answer(b'{"choices": 7}').usage is None
    assert not read_answer(b"<html>").valid
    assert not read_answer(b"[]").valid
    assert not read_answer(b"").valid


def test_estimates() -> None:
    assert estimate(400, 7) == Usage(input=100, output=7, source="estimated")


@pytest.mark.parametrize("code", list(Code))
def test_every_error_has_the_four_members(code: Code) -> None:
    error = json.loads(error_body(code, "words", "field"))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "words"
    assert 400 <= status_of(code) < 600
