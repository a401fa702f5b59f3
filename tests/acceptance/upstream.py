"""A model server that speaks the OpenAI dialect and says what it was told to."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS = 11
WORDS = ["Steady", " as", " she", " goes", "."]


@dataclass
class Script:
    """What the server does, changeable while it runs, and what it was asked.

    Parameters:
        answer: the words that it streams, or sends at once.
        status: other than 200 makes every chat request fail.
    """

    answer: list[str] = field(default_factory=lambda: list(WORDS))
    status: int = 200
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@dataclass(frozen=True)
class Upstream:
    """A running model server: its base URL, as versions name it, and its script."""

    url: str
    script: Script


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """Run a model server on a free port of this machine."""
    script = Script()
    server = _Server(("127.0.0.1", 0), _handler(script))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Upstream(f"http://127.0.0.1:{server.server_address[1]}/v1", script)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of callers that go away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.endswith("/models"):
                self._send(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})
            else:
                self._send(200, {"status": "ok"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            script.requests.append(body)
            script.keys.append(self.headers.get("authorization"))
            if script.status != 200:
                self._send(script.status, {"error": {"message": "as told", "type": "server_error", "code": None}})
            elif body.get("stream"):
                self._stream(body)
            else:
                self._send(200, self._completion(body))

        def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
            message = {"role": "assistant", "content": "".join(script.answer)}
            return {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": self._usage(),
            }

        def _usage(self) -> dict[str, int]:
            written = len(script.answer)
            return {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": written,
                "total_tokens": PROMPT_TOKENS + written,
            }

        def _stream(self, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for number, word in enumerate(script.answer):
                last = number == len(script.answer) - 1
                choice = {"index": 0, "delta": {"content": word}, "finish_reason": "stop" if last else None}
                self._event(self._chunk(body, [choice]))
            if (body.get("stream_options") or {}).get("include_usage"):
                self._event({**self._chunk(body, []), "usage": self._usage()})
            self._raw(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def _chunk(self, body: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
            return {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": body["model"],
                "choices": choices,
            }

        def _event(self, document: dict[str, Any]) -> None:
            self._raw(b"data: " + json.dumps(document).encode() + b"\n\n")

        def _raw(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def _send(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: what was asked is in the script."""

    return Handler
