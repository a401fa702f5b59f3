"""POST with an `Idempotency-Key`: done once, answered as often as it is asked.

The answer is kept in the same transaction as the change it tells of. So the transaction that a route opens with
`Caller.transaction()` is not committed at the end of its block but when the answer is known; a repetition that comes
meanwhile waits at the unique key, then finds the answer, or, where the first attempt failed, takes its place.
Answers can hold secrets (a new API key), so they are kept sealed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.access.principal import Principal
from trimtab.api import answers
from trimtab.api.problems import of_database, problem_response
from trimtab.db.database import Connection, Database
from trimtab.errors import Code, TrimtabError
from trimtab.sealing import Sealer

PENDING = "trimtab.pending_answer"
"""Where the ASGI scope keeps the `PendingAnswer` of a request that has a key."""

LONGEST_KEY = 255
KEPT_HEADERS = ("content-type", "etag", "location")
WAIT = "10s"
"""How long a repetition waits for the first attempt before it is told IN_PROGRESS."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given."""

    status: int
    headers: dict[str, str]
    body: bytes


class RepetitionError(Exception):
    """Raised where a route opens its transaction: the request was done before, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


class _GiveUpError(Exception):
    """Rolls a pending transaction back; never leaves this module."""


class PendingAnswer:
    """A request with a key, until it is answered.

    Parameters:
        key: the caller's Idempotency-Key.
        target: method, path and query.
    """

    def __init__(self, key: str, target: str) -> None:
        self._key = key
        self._digest = hashlib.sha256(target.encode() + b"\n")
        self._stack: AsyncExitStack | None = None
        self._connection: Connection | None = None
        self._owner: dict[str, Any] = {}
        self._sealer: Sealer | None = None

    def feed(self, chunk: bytes) -> None:
        """Take note of a piece of the request's body."""
        self._digest.update(chunk)

    @asynccontextmanager
    async def transaction(self, database: Database, principal: Principal, sealer: Sealer) -> AsyncIterator[Connection]:
        """The request's one transaction; a second block of the same request joins it. `commit` or `abandon` end it.

        Raises:
            RepetitionError: the same request was done before.
            TrimtabError: IDEMPOTENCY_MISMATCH, IN_PROGRESS, DATABASE_UNAVAILABLE.
        """
        try:
            if self._connection is None:
                connection = await self._begin(database, principal, sealer)
                yield connection
            else:
                async with self._connection.transaction():
                    yield self._connection
        except BaseException:
            await self.abandon()
            raise

    async def _begin(self, database: Database, principal: Principal, sealer: Sealer) -> Connection:
        self._sealer = sealer
        self._owner = {"workspace_id": principal.workspace_id, "member_id": principal.member_id, "key": self._key}
        self._stack = AsyncExitStack()
        connection = await self._stack.enter_async_context(database.transaction(principal.scope))
        request_hash = self._digest.hexdigest()
        try:
            claimed = await answers.claim(connection, self._owner, request_hash, WAIT)
        except psycopg.errors.LockNotAvailable:
            raise TrimtabError(
                Code.IN_PROGRESS, "The first request with this Idempotency-Key is still running; try again in a moment."
            ) from None
        if not claimed:
            found = await answers.find(connection, self._owner)
            if found is None or found[0] != request_hash:
                raise TrimtabError(
                    Code.IDEMPOTENCY_MISMATCH,
                    "This Idempotency-Key was used for another request; use a new one for each change.",
                    "idempotency-key",
                )
            raise RepetitionError(_read(found[1], sealer.unseal(found[2])))
        self._connection = connection
        return connection

    async def commit(self, answer: Answer) -> None:
        """Keep the answer and commit. Raises psycopg.Error or TrimtabError when that fails; nothing is changed then."""
        if self._stack is None or self._connection is None or self._sealer is None:
            return
        sealed = self._sealer.seal(_written(answer))
        stack, connection = self._stack, self._connection
        try:
            await answers.keep(connection, self._owner, answer.status, sealed)
        except BaseException:
            await self.abandon()
            raise
        self._stack = self._connection = None
        await stack.aclose()

    async def abandon(self) -> None:
        """Roll back, if there is anything to roll back."""
        stack, self._stack, self._connection = self._stack, None, None
        if stack is not None:
            # A broken connection has rolled back by itself; what broke it is told elsewhere.
            with contextlib.suppress(_GiveUpError, psycopg.Error, TrimtabError):
                await stack.__aexit__(_GiveUpError, _GiveUpError(), None)


def _written(answer: Answer) -> bytes:
    return json.dumps(answer.headers).encode() + b"\n" + answer.body


def _read(status: int, kept: bytes) -> Answer:
    headers, _, body = kept.partition(b"\n")
    return Answer(status, json.loads(headers), body)


class Idempotency:
    """Holds the answer of each POST that has a key until the change is committed together with it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if key is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
            error = TrimtabError(
                Code.INVALID_REQUEST, f"Use 1 to {LONGEST_KEY} printable characters, such as a UUID.", "idempotency-key"
            )
            await problem_response(error, scope)(scope, receive, send)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        pending = scope[PENDING] = PendingAnswer(key, f"POST {scope['path']}?{query}")
        held: list[Message] = []

        async def noted() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                pending.feed(message.get("body", b""))
            return message

        async def hold(message: Message) -> None:
            held.append(message)

        try:
            await self.app(scope, noted, hold)
            answer = _answer_of(held)
            if answer.status < 400:
                await pending.commit(answer)
        except (psycopg.Error, TrimtabError) as error:
            told = of_database(error) if isinstance(error, psycopg.Error) else error
            await problem_response(told, scope)(scope, receive, send)
            return
        finally:
            await pending.abandon()
        for message in held:
            await send(message)


def _answer_of(held: list[Message]) -> Answer:
    headers = Headers(raw=held[0]["headers"])
    kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
    return Answer(held[0]["status"], kept, b"".join(message.get("body", b"") for message in held[1:]))


def install(app: FastAPI) -> None:
    """Let `app` answer repetitions."""

    async def again(_: Request, error: Exception) -> Response:
        assert isinstance(error, RepetitionError)
        answer = error.answer
        return Response(answer.body, answer.status, {**answer.headers, "idempotent-replayed": "true"})

    app.add_exception_handler(RepetitionError, again)
