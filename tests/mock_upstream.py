"""A model server that does what a test asks for, down to the bytes.

The first segment of a request's path names the scenario: a target of `mock.url("reset")` behaves as `reset` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

COMPLETION = {
    "id": "chatcmpl-mock",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "mock-model",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 7,
        "total_tokens": 27,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}
TOOL_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
WORDS = ("Hello", " there", ".")


@dataclass
class Received:
    """One request as it came."""

    scenario: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the caller closed the connection while it was being answered."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def chunk(**members: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": "mock-model", **members}


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def delta(content: dict[str, Any], finish: str | None = None, *, with_null: bool = True) -> bytes:
    extra = {"usage": None} if with_null else {}
    return event(chunk(choices=[{"index": 0, "delta": content, "finish_reason": finish}], **extra))


USAGE_EVENT = event(chunk(choices=[], usage=COMPLETION["usage"]))
DONE = b"data: [DONE]\n\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def whole(status: int, document: object, *headers: bytes) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [
        b"HTTP/1.1 %d Mock" % status,
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


Scenario = Callable[["Received", asyncio.StreamWriter], Awaitable[None]]


class Mock:
    """The server; `async with Mock() as mock`. It listens on loopback, on a free port."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.release = asyncio.Event()
        """What scenarios that pause wait for."""
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.scenarios: dict[str, Scenario] = {
            "plain": self._plain,
            "stream": self._stream,
            "paused": self._paused,
            "no-usage": self._no_usage,
            "tools": self._tools,
            "hang": self._hang,
            "silent": self._silent,
            "reset": self._reset,
            "reset-first": self._reset_first,
            "truncated": self._truncated,
            "short": self._short,
            "no-done": self._no_done,
            "stream-error": self._stream_error,
            "invalid": self._invalid,
            "html": self._html,
            "redirect": self._redirect,
            "429": self._too_many,
            "500": self._broken,
            "400": self._bad,
            "split": self._split,
            "close-after": self._close_after,
            "large": self._large,
            "endless": self._endless,
        }

    def url(self, scenario: str) -> str:
        return f"http://127.0.0.1:{self.port}/{scenario}/v1"

    async def __aenter__(self) -> Mock:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        path = first.split(" ")[1]
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        body = await reader.readexactly(length)
        request = Received(path.split("/")[1], path, headers, body)
        self.requests.append(request)
        answer = asyncio.create_task(self._answer(request, writer))
        watcher = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({answer, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                request.closed.set()
                return False
            try:
                answer.result()
            except ConnectionError:
                request.closed.set()
                raise
        finally:
            for task in (answer, watcher):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await answer
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await watcher
        return not writer.is_closing()

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await self.scenarios[request.scenario](request, writer)
        await writer.drain()

    async def _plain(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.json.get("stream"):
            await self._stream(request, writer)
        else:
            writer.write(whole(200, COMPLETION, b"x-upstream: Kept", b"set-cookie: a=b"))

    async def _stream(self, request: Received, writer: asyncio.StreamWriter) -> None:
        with_usage = bool((request.json.get("stream_options") or {}).get("include_usage"))
        writer.write(STREAM_HEAD + framed(delta({"role": "assistant", "content": ""}, with_null=with_usage)))
        for word in WORDS:
            writer.write(framed(delta({"content": word}, with_null=with_usage)))
            await writer.drain()
        writer.write(framed(delta({}, "stop", with_null=with_usage)))
        writer.write((framed(USAGE_EVENT) if with_usage else b"") + framed(DONE) + b"0\r\n\r\n")

    async def _paused(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """Two words, then nothing until `release`."""
        writer.write(STREAM_HEAD + framed(delta({"content": "Hello"})) + framed(delta({"content": " you"})))
        await writer.drain()
        await self.release.wait()
        writer.write(framed(delta({}, "stop")) + framed(USAGE_EVENT) + framed(DONE) + b"0\r\n\r\n")

    async def _no_usage(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if not request.json.get("stream"):
            writer.write(whole(200, {key: value for key, value in COMPLETION.items() if key != "usage"}))
            return
        words = b"".join(delta({"content": word}, with_null=False) for word in WORDS)
        writer.write(STREAM_HEAD + framed(words + delta({}, "stop", with_null=False) + DONE) + b"0\r\n\r\n")

    async def _tools(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.json.get("stream"):
            events = delta({"role": "assistant", "tool_calls": [TOOL_CALL]}) + delta({}, "tool_calls")
            writer.write(STREAM_HEAD + framed(events + USAGE_EVENT + DONE) + b"0\r\n\r\n")
            return
        message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
        choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
        writer.write(whole(200, {**COMPLETION, "choices": choices}))

    async def _hang(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await self.release.wait()
        writer.write(whole(200, COMPLETION))

    async def _silent(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """The head and half a body, then nothing."""
        writer.write(whole(200, COMPLETION)[:-20])
        await self.release.wait()

    async def _reset(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + framed(delta({"content": "Hello"})))
        await writer.drain()
        writer.transport.abort()

    async def _reset_first(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def _truncated(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """Ends in the middle of an event, without the last chunk."""
        writer.write(STREAM_HEAD + framed(delta({"content": "Hello"})) + framed(b'data: {"choices":[{"ind'))
        await writer.drain()
        writer.close()

    async def _short(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(200, COMPLETION)[:-20])
        await writer.drain()
        writer.close()

    async def _no_done(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """Well-formed HTTP, but the stream ends before the model did."""
        writer.write(STREAM_HEAD + framed(delta({"content": "Hello"})) + b"0\r\n\r\n")

    async def _stream_error(self, request: Received, writer: asyncio.StreamWriter) -> None:
        error = event({"error": {"message": "out of memory", "type": "server_error", "param": None, "code": None}})
        writer.write(STREAM_HEAD + framed(delta({"content": "Hello"})) + framed(error) + b"0\r\n\r\n")

    async def _invalid(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()
        writer.close()

    async def _html(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(200, b"<html>a login page</html>"))

    async def _redirect(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(307, {}, b"location: http://127.0.0.1:9/"))

    async def _too_many(self, request: Received, writer: asyncio.StreamWriter) -> None:
        error = {"message": "slow down", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
        writer.write(whole(429, {"error": error}, b"retry-after: 7"))

    async def _broken(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(500, {"error": {"message": "broken", "type": "server_error", "param": None, "code": None}}))

    async def _bad(self, request: Received, writer: asyncio.StreamWriter) -> None:
        error = {"message": "bad temperature", "type": "invalid_request_error", "param": "temperature", "code": None}
        writer.write(whole(400, {"error": error}))

    async def _split(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """The same as `stream`, seven bytes at a time."""
        events = b"".join(delta({"content": word}) for word in WORDS) + delta({}, "stop") + USAGE_EVENT + DONE
        writer.write(STREAM_HEAD)
        for start in range(0, len(events), 7):
            writer.write(framed(events[start : start + 7]))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def _close_after(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """Announces keep-alive, and closes anyway."""
        writer.write(whole(200, COMPLETION))
        await writer.drain()
        writer.close()

    async def _large(self, request: Received, writer: asyncio.StreamWriter) -> None:
        document = {**COMPLETION, "padding": "x" * 12_000_000}
        writer.write(whole(200, document))

    async def _endless(self, request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while True:
            writer.write(framed(delta({"content": "x" * 10_000})))
            await writer.drain()
            await asyncio.sleep(0)
