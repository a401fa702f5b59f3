"""The gateway as an ASGI application: who calls, what for, and the body; `exchange` does the rest."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from trimtab.errors import Code, TrimtabError
from trimtab.gateway.exchange import Exchange, internal_error, refusal_headers
from trimtab.gateway.protocols import openai
from trimtab.gateway.services import Send, Services
from trimtab.ids import new_id
from trimtab.routing.choose import find_route
from trimtab.routing.records import ApiKeyEntry, RouteEntry
from trimtab.routing.snapshot import Snapshot

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
_Handler = Callable[[Scope, Receive, Send, str], Awaitable[None]]

BODY_BYTES = 32 * 1024 * 1024
"""Largest body of a request."""

_MODELS = b"/v1/models"
_CHAT = b"/v1/chat/completions"

_NOT_FORWARDED = frozenset(
    b"host content-length connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer"
    b" transfer-encoding upgrade http2-settings expect authorization x-api-key api-key cookie accept-encoding"
    b" content-encoding x-request-id x-trimtab-unit x-trimtab-workspace forwarded x-forwarded-for x-forwarded-host"
    b" x-forwarded-proto x-real-ip openai-organization openai-project".split()
)
"""Hop-by-hop headers, the caller's credentials and account, and those that the gateway sets itself."""


class Gateway:
    """The application for `/v1/`.

    Parameters:
        services: what requests work with.
        snapshot: gives the routing that is current; None while there is none yet.
    """

    def __init__(self, services: Services, snapshot: Callable[[], Snapshot | None]) -> None:
        self._services = services
        self._snapshot = snapshot
        self._handlers: dict[bytes, tuple[str, _Handler]] = {
            _CHAT: ("POST", self._chat),
            _MODELS: ("GET", self._models),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; `scope["trimtab.connection"]` must be its `ClientConnection`."""
        request_id = str(new_id())
        path: bytes = scope["raw_path"]
        method, handler = self._handlers.get(path) or ("GET", self._model)
        try:
            if handler == self._model and not path.startswith(_MODELS + b"/"):
                raise TrimtabError(
                    Code.NOT_FOUND,
                    f"There is no {path.decode('latin-1')!r} here. The gateway has POST /v1/chat/completions and "
                    "GET /v1/models.",
                )
            if scope["method"] == method:
                await handler(scope, receive, send, request_id)
            elif scope["method"] == "OPTIONS":
                await _send(send, 204, [(b"allow", f"{method}, OPTIONS".encode())], b"", request_id)
            else:
                raise TrimtabError(
                    Code.METHOD_NOT_ALLOWED, f"{path.decode('latin-1')} takes {method}, not {scope['method']}."
                )
        except Exception as raised:
            if isinstance(raised, TrimtabError):
                error = raised
            else:
                log.exception("request %s: the gateway failed", request_id)
                error = internal_error(request_id)
            status = openai.status_of(error.code)
            body = openai.error_body(error.code, error.detail, error.field)
            headers = refusal_headers(error.code, body)
            if error.code is Code.METHOD_NOT_ALLOWED:
                headers.append((b"allow", f"{method}, OPTIONS".encode()))
            elif error.code is Code.UNAUTHENTICATED:
                headers.append((b"www-authenticate", b"Bearer"))
            await _send(send, status, headers, body, request_id)

    # --- handlers -----------------------------------------------------------------------------------------------

    async def _chat(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        forwarded: list[tuple[str, str]] = [("accept-encoding", "identity")]
        own: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _NOT_FORWARDED:
                own[name] = value
                continue
            try:
                forwarded.append((name.decode("ascii"), value.decode("utf-8")))
            except UnicodeDecodeError:
                continue  # neither ASCII nor UTF-8: nothing that a model server could want
        snapshot, key = self._authenticate(own)
        if b"content-encoding" in own and own[b"content-encoding"].lower() != b"identity":
            raise TrimtabError(Code.INVALID_REQUEST, "Compressed bodies are not supported; send it uncompressed.")
        if len(own.get(b"connection", b"")) > len(b"keep-alive"):
            named = {word.strip().lower() for word in own[b"connection"].decode("latin-1").split(",")}
            forwarded = [pair for pair in forwarded if pair[0] not in named]
        body = await _read_body(own.get(b"content-length"), receive)
        if body is None:
            return
        unit = own.get(b"x-trimtab-unit")
        exchange = Exchange(
            self._services,
            snapshot,
            key,
            forwarded,
            None if not unit else unit.decode("utf-8", "replace"),
            scope["trimtab.connection"],
            send,
            request_id,
        )
        await exchange.serve(body)

    async def _models(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        snapshot, key = self._authenticate(dict(scope["headers"]))
        routes = [route for route in snapshot.routes_of(key.workspace_id) if route.listed and route.arms]
        await _send_json(send, {"object": "list", "data": [_describe(route) for route in routes]}, request_id)

    async def _model(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        snapshot, key = self._authenticate(dict(scope["headers"]))
        name = unquote(scope["raw_path"][len(_MODELS) + 1 :].decode("latin-1"))
        await _send_json(send, _describe(find_route(snapshot, key.workspace_id, name)), request_id)

    def _authenticate(self, headers: dict[bytes, bytes]) -> tuple[Snapshot, ApiKeyEntry]:
        """Return the routing and the caller's key. Raises TrimtabError (NOT_READY, UNAUTHENTICATED, FORBIDDEN)."""
        snapshot = self._snapshot()
        if snapshot is None:
            raise TrimtabError(
                Code.NOT_READY, "This gateway has just started and does not know its keys and routes yet. Try again."
            )
        authorization = headers.get(b"authorization")
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            token = authorization[7:].strip()
        else:
            token = headers.get(b"x-api-key", b"")
        if not token:
            raise TrimtabError(
                Code.UNAUTHENTICATED, "No API key was given. Send it as `Authorization: Bearer <key>` or `x-api-key`."
            )
        key = snapshot.keys.get(hashlib.sha256(token).hexdigest())
        if key is None or (key.expires_at is not None and key.expires_at <= time.time()):
            raise TrimtabError(Code.UNAUTHENTICATED, "The API key is not valid: it is unknown, revoked or expired.")
        if "inference" not in key.scopes:
            raise TrimtabError(Code.FORBIDDEN, "This API key may not call models; it lacks the scope `inference`.")
        return snapshot, key


def _describe(route: RouteEntry) -> dict[str, object]:
    return {"id": route.name, "object": "model", "created": int(route.created_at), "owned_by": "trimtab"}


async def _send_json(send: Send, document: object, request_id: str) -> None:
    body = msgspec.json.encode(document)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await _send(send, 200, headers, body, request_id)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, request_id: str) -> None:
    headers.append((b"x-request-id", request_id.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _read_body(length: bytes | None, receive: Receive) -> bytes | None:
    """Read the body; None when the caller went away. Raises TrimtabError (BODY_TOO_LARGE) as early as it is known."""
    if length is not None and int(length) > BODY_BYTES:
        raise _too_large()
    message = await receive()
    if message["type"] != "http.request":
        return None
    if not message.get("more_body"):
        return bytes(message["body"])
    parts = [message["body"]]
    size = len(message["body"])
    while message.get("more_body"):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
        size += len(message["body"])
        if size > BODY_BYTES:
            raise _too_large()
    return b"".join(parts)


def _too_large() -> TrimtabError:
    return TrimtabError(
        Code.BODY_TOO_LARGE, f"The body is larger than {BODY_BYTES // 1024 // 1024} MiB, the most that is taken."
    )
