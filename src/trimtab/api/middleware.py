"""What happens to every request of the control API before any route: its id, the size of its body, the last resort."""

from __future__ import annotations

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.api.problems import REQUEST_ID, internal, problem_response
from trimtab.errors import Code, TrimtabError

MAX_BODY = 10 * 1024 * 1024
"""Most bytes in the body of a request to the control API."""

MAX_DISCARDED = 64 * 1024 * 1024
"""Most bytes read and thrown away, so that a client that only listens after sending gets to know what was wrong."""

ACCEPTABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestContext:
    """Gives each request its id, and answers 500 where nothing else caught an error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        identifier: str = scope.setdefault(REQUEST_ID, given if ACCEPTABLE_ID.fullmatch(given) else str(uuid4()))
        started = False

        async def with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = identifier
            await send(message)

        try:
            await self.app(scope, receive, with_id)
        except Exception as error:
            told = internal(error, identifier)
            if started:
                raise
            await problem_response(told, scope)(scope, receive, with_id)


class BodyLimit:
    """Refuses bodies above `MAX_BODY`, whether announced or only found out while reading."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        detail = f"The body may have up to {MAX_BODY // 1024 // 1024} MiB; send less, or in several requests."
        if announced.isdigit() and int(announced) > MAX_BODY:
            if "expect" not in headers and int(announced) <= MAX_DISCARDED:
                await _discard(receive)
            await problem_response(TrimtabError(Code.BODY_TOO_LARGE, detail), scope)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > MAX_BODY:
                    # FastAPI lets this kind pass while it reads a body, and hides all others.
                    raise HTTPException(413, detail)
            return message

        await self.app(scope, counted, send)


async def _discard(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
