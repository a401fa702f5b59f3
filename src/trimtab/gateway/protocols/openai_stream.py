"""Reading a stream of chat completion chunks as it passes through."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from trimtab.gateway.protocols.openai import ReportedUsage
from trimtab.metering.record import Usage

_NOTHING = (b"", b"null", b'""', b"[]")
_MOST_HELD = 8 * 1024 * 1024


class _Delta(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()
    reasoning_content: msgspec.Raw = msgspec.Raw()
    reasoning: msgspec.Raw = msgspec.Raw()
    refusal: msgspec.Raw = msgspec.Raw()
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()

    def has_content(self) -> bool:
        return (
            bytes(self.content) not in _NOTHING
            or bytes(self.tool_calls) not in _NOTHING
            or bytes(self.reasoning_content) not in _NOTHING
            or bytes(self.reasoning) not in _NOTHING
            or bytes(self.refusal) not in _NOTHING
            or bytes(self.function_call) not in _NOTHING
        )


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: ReportedUsage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode


class StreamScanner:
    """Takes the bytes of a stream of events, gives back those to pass on, and notes what they say.

    Only whole events are passed on, so that a stream which breaks off never ends in half an event; the rest of an
    event is held until it has come (up to 8 MiB). Each event is decoded once, only the members needed.

    Parameters:
        wants_usage: whether the caller asked for usage; else the chunk that carries it is taken out.
        begun_ns: when the request began, as `clock` has it.
        clock: gives nanoseconds.
    """

    __slots__ = (
        "_begun_ns",
        "_clock",
        "_held",
        "_separator",
        "_wants_usage",
        "content_events",
        "done",
        "error",
        "finish_reason",
        "first_content_us",
        "last_content_us",
        "usage",
    )

    def __init__(self, *, wants_usage: bool, begun_ns: int, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._wants_usage = wants_usage
        self._begun_ns = begun_ns
        self._clock = clock
        self._held = b""
        self._separator = b""
        self.content_events = 0
        self.done = False
        self.error = False
        self.finish_reason: str | None = None
        self.first_content_us: int | None = None
        self.last_content_us: int | None = None
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, however they were cut; return what to pass on now."""
        if self._held:
            data = self._held + data
            self._held = b""
        separator = self._separator or self._find_separator(data)
        end = data.rfind(separator) if separator else -1
        if end < 0:
            if len(data) > _MOST_HELD:
                return data
            self._held = data
            return b""
        end += len(separator)
        if end < len(data):
            self._held = data[end:]
            data = data[:end]
        passed: list[bytes] = []
        start = 0
        changed = False
        while start < end:
            stop = data.index(separator, start) + len(separator)
            event = data[start:stop]
            start = stop
            kept = self._read(event)
            changed = changed or kept is not event
            if kept:
                passed.append(kept)
        return b"".join(passed) if changed else data

    def _find_separator(self, data: bytes) -> bytes:
        newline = data.find(b"\n")
        if newline >= 0:
            self._separator = b"\r\n\r\n" if data[newline - 1 : newline] == b"\r" else b"\n\n"
        return self._separator

    def _read(self, event: bytes) -> bytes:
        payload = _data_of(event)
        if not payload:
            return event
        if payload == b"[DONE]":
            self.done = True
            return event
        try:
            chunk = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return event  # odd, but the caller's business
        if chunk.usage is not None:
            self.usage = chunk.usage.buckets()
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self.finish_reason = choice.finish_reason
            if choice.delta is not None and choice.delta.has_content():
                self.content_events += 1
                now = (self._clock() - self._begun_ns) // 1000
                self.last_content_us = now
                if self.first_content_us is None:
                    self.first_content_us = now
        if bytes(chunk.error) not in _NOTHING:
            self.error = True
        if self._wants_usage:
            return event
        if chunk.usage is not None:
            return event if chunk.choices else b""
        if b'"usage"' in event:
            # A quote inside a JSON string is escaped, so these bytes are a member and never part of a text.
            return event.replace(b',"usage":null', b"").replace(b', "usage": null', b"")
        return event


def _data_of(event: bytes) -> bytes:
    if event.startswith(b"data:"):
        payload = event[5:].strip()
        if b"\n" not in payload:
            return payload
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
