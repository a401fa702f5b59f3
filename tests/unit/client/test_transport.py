"""Repetition, failures and pages, over bytes instead of sockets; the same cases for both clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2
import pytest
from pydantic import BaseModel

from trimtab.client import calls
from trimtab.client._async.paging import AsyncPager
from trimtab.client._async.transport import AsyncTransport
from trimtab.client._sync.paging import Pager
from trimtab.client._sync.transport import Transport
from trimtab.client.calls import Call
from trimtab.client.config import Config
from trimtab.client.errors import ConnectionFailed, NotFoundError, ServerError

CONFIG = Config("http://127.0.0.1:8700", "tt_key", retries=2)

Answer = httpx2.Response | Exception


class Thing(BaseModel):
    id: int


class Server:
    """Gives the answers it was told to, one after the other, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sync(self) -> Transport:
        return Transport(CONFIG, httpx2.MockTransport(self))

    def asynchronous(self) -> AsyncTransport:
        return AsyncTransport(CONFIG, httpx2.MockTransport(self))


def thing(number: int = 1) -> httpx2.Response:
    return httpx2.Response(200, json={"id": number})


def refusal(status: int, code: str) -> httpx2.Response:
    return httpx2.Response(status, json={"code": code, "detail": "no"})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_DELAY", 0.0)


@pytest.fixture(params=["sync", "async"])
def fetch(request: pytest.FixtureRequest) -> Iterator[Callable[[Server, Call], Thing]]:
    """Sends one call with either client."""
    import asyncio

    def with_sync(server: Server, call: Call) -> Thing:
        transport = server.sync()
        try:
            return transport.fetch(call, Thing)
        finally:
            transport.close()

    async def with_async(server: Server, call: Call) -> Thing:
        transport = server.asynchronous()
        try:
            return await transport.fetch(call, Thing)
        finally:
            await transport.aclose()

    if request.param == "sync":
        yield with_sync
    else:
        yield lambda server, call: asyncio.run(with_async(server, call))


Fetch = Callable[[Server, Call], Thing]


def test_a_call_is_sent_and_its_answer_typed(fetch: Fetch) -> None:
    server = Server(thing(5))
    assert fetch(server, Call("GET", "/things/5")).id == 5
    assert str(server.requests[0].url) == "http://127.0.0.1:8700/api/v1/things/5"
    assert server.requests[0].headers["authorization"] == "Bearer tt_key"


@pytest.mark.parametrize("trouble", [httpx2.ConnectError("refused"), httpx2.ReadError("reset"), 429, 502, 503, 504])
def test_passing_trouble_is_repeated_with_the_same_idempotency_key(fetch: Fetch, trouble: Exception | int) -> None:
    first = refusal(trouble, "x") if isinstance(trouble, int) else trouble
    server = Server(first, thing())
    assert fetch(server, Call("POST", "/things", body={"a": 1})).id == 1
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert len(server.requests) == 2
    assert len(keys) == 1


def test_lasting_trouble_is_told(fetch: Fetch) -> None:
    server = Server(*[refusal(503, "database_unavailable")] * 3)
    with pytest.raises(ServerError) as caught:
        fetch(server, Call("GET", "/things/1"))
    assert caught.value.code == "database_unavailable"
    assert len(server.requests) == 3


def test_a_refusal_is_final(fetch: Fetch) -> None:
    server = Server(refusal(404, "not_found"))
    with pytest.raises(NotFoundError):
        fetch(server, Call("GET", "/things/1"))
    assert len(server.requests) == 1


def test_a_server_that_is_down_is_named_with_what_to_do(fetch: Fetch) -> None:
    server = Server(*[httpx2.ConnectError("refused")] * 3)
    with pytest.raises(ConnectionFailed, match=r"no Trimtab answers at http://127.0.0.1:8700; start one with"):
        fetch(server, Call("GET", "/things/1"))


def test_a_silent_server_is_told_apart(fetch: Fetch) -> None:
    server = Server(*[httpx2.ReadTimeout("slow")] * 3)
    with pytest.raises(ConnectionFailed, match="did not answer within 30 s"):
        fetch(server, Call("GET", "/things/1"))


def pages() -> Server:
    return Server(
        httpx2.Response(200, json={"items": [{"id": 1}, {"id": 2}], "next_cursor": "c+/="}),
        httpx2.Response(200, json={"items": [{"id": 3}], "next_cursor": None}),
    )


def test_a_list_fetches_its_pages_when_needed() -> None:
    server = pages()
    transport = server.sync()
    items = iter(Pager(transport, "/things", Thing, {"limit": 2}))
    assert (next(items).id, next(items).id) == (1, 2)
    assert len(server.requests) == 1
    assert [item.id for item in items] == [3]
    assert [dict(request.url.params) for request in server.requests] == [
        {"limit": "2"},
        {"limit": "2", "cursor": "c+/="},
    ]
    transport.close()


async def test_a_list_fetches_its_pages_when_needed_async() -> None:
    server = pages()
    transport = server.asynchronous()
    pager = AsyncPager(transport, "/things", Thing, {})
    assert [item.id async for item in pager] == [1, 2, 3]
    server.answers = pages().answers
    page = await pager.page()
    assert ([item.id for item in page.items], page.next_cursor) == ([1, 2], "c+/=")
    await transport.aclose()


def test_posts_without_an_answer_are_performed() -> None:
    server = Server(httpx2.Response(204))
    transport = server.sync()
    transport.perform(Call("DELETE", "/things/1"))
    assert json.loads(server.requests[0].content or b"null") is None
    transport.close()
