"""A model server that costs next to nothing: a fixed chat completion for every POST, straight on the event loop.

Run as `python -m benchmarks.upstream PORT`. Any GET answers how many connections and requests it has seen, so that a
gateway which reconnects for each request is found out.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httptools
import uvloop

COMPLETION = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "bench",
    "system_fingerprint": "fp_0123456789",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A trim tab is a small surface that steers a big one. " * 3},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 19, "completion_tokens": 33, "total_tokens": 52},
}
BODY = json.dumps(COMPLETION).encode()
DELTA = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":" tab"},"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"bench",'
    b'"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":50,"total_tokens":69}}\n\n'
    b"data: [DONE]\n\n"
)
CHUNKS = 50
GAP = 0.01


class Server:
    """Counters of one process."""

    connections = 0
    requests = 0


def plain(body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(body), body)


ANSWER = plain(BODY)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with keep-alive."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment] - TCP has both ways
        self.parser = httptools.HttpRequestParser(self)
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.parser.get_method() == b"GET":
            counts = {"connections": self.server.connections, "requests": self.server.requests, "data": []}
            self.transport.write(plain(json.dumps(counts).encode()))
            return
        self.server.requests += 1
        if b'"stream":true' in self.body or b'"stream": true' in self.body:
            asyncio.get_running_loop().create_task(self.stream())
        else:
            self.transport.write(ANSWER)

    async def stream(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(CHUNKS):
            if self.transport.is_closing():
                return  # the load has ended
            self.transport.write(b"%x\r\n%s\r\n" % (len(DELTA), DELTA))
            await asyncio.sleep(GAP)
        if self.transport.is_closing():
            return
        self.transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(LAST), LAST))


async def serve(port: int) -> None:
    server = Server()
    listener = await asyncio.get_running_loop().create_server(
        lambda: Connection(server), "127.0.0.1", port, backlog=1024
    )
    await listener.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
