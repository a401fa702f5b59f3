"""One authenticated chat request, from its body to its record."""

from __future__ import annotations

import asyncio
import logging
import time

from trimtab.errors import Code, TrimtabError
from trimtab.gateway.account import Account
from trimtab.gateway.interrupt import Interrupt, Reason
from trimtab.gateway.live import LiveDeployment, LiveTarget
from trimtab.gateway.protocols import openai
from trimtab.gateway.protocols.openai_stream import StreamScanner
from trimtab.gateway.services import ClientConnection, Send, Services
from trimtab.gateway.upstream import FailureKind, UpstreamError, UpstreamResponse
from trimtab.metering.record import encode_record
from trimtab.metering.spool import SpoolError
from trimtab.routing.choose import admitted, find_route, pick_deployment, pick_target, spare_deployment
from trimtab.routing.records import ApiKeyEntry, DeploymentEntry
from trimtab.routing.snapshot import Snapshot

log = logging.getLogger(__name__)

PASS_OVER_SECONDS = 5.0
"""How long a replica that could not be reached is passed over."""
HOLD_BYTES = 8 * 1024 * 1024
"""A whole answer larger than this is passed on as it comes, and its usage is estimated."""
DRAIN_SECONDS = 1.0

_NOT_PASSED_BACK = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade content-length"
    b" set-cookie x-request-id x-should-retry x-trimtab-deployment x-trimtab-version x-trimtab-variant".split()
)
_CREDENTIAL_STATUS = (401, 403, 429)
"""Refusals that are about the deployment's own credential or quota, not about what the caller sent."""


class Exchange:
    """One request.

    Parameters:
        services: what it works with.
        snapshot: the routing it is served by, from beginning to end.
        key: the caller's.
        headers: of the request, those that may be passed on.
        unit: what `x-trimtab-unit` says, None where it is absent.
        connection: the caller's connection.
        send: ASGI `send`.
        request_id: its id.
    """

    def __init__(
        self,
        services: Services,
        snapshot: Snapshot,
        key: ApiKeyEntry,
        headers: list[tuple[str, str]],
        unit: str | None,
        connection: ClientConnection,
        send: Send,
        request_id: str,
    ) -> None:
        self._services = services
        self._snapshot = snapshot
        self._account = Account(request_id, key, unit, snapshot.revision)
        self._headers = headers
        self._connection = connection
        self._send = send
        self._interrupt = Interrupt(services.watch, services.timeouts.total)
        self._client_left = self._interrupt.leave  # one object, to be told from the next request's
        self._live: LiveDeployment | None = None
        self._target: LiveTarget | None = None
        self._attempt_ns = 0
        self._response: UpstreamResponse | None = None
        self._status = 0
        self._recorded = False

    async def serve(self, body: bytes) -> None:
        """Answer the request whose body is `body`, and record it before the last byte of the answer."""
        self._connection.on_disconnect = self._client_left
        try:
            try:
                await self._serve(body)
            except TrimtabError as error:
                await self._fail(error)
            except Exception:
                log.exception("request %s: the gateway failed", self._account.request_id)
                await self._fail(internal_error(self._account.request_id))
        except asyncio.CancelledError:
            reason = self._interrupt.take()
            await self._end_early(reason)
            if reason is None:
                raise
        except Exception:  # not even the failure can be told
            log.exception("request %s: its answer is cut off", self._account.request_id)
            self._cut_off()
        finally:
            self._interrupt.close()
            self._stop_listening()
            if self._response is not None:
                self._response.abort()
            self._release()

    def _stop_listening(self) -> None:
        if self._connection.on_disconnect is self._client_left:
            self._connection.on_disconnect = None

    # --- the way there ------------------------------------------------------------------------------------------

    async def _serve(self, body: bytes) -> None:
        account, snapshot, services = self._account, self._snapshot, self._services
        request = openai.read_chat(body)
        account.model = request.model
        account.streamed = bool(request.stream)
        account.body_bytes = len(body)
        if account.unit is None and request.user:
            account.unit = request.user
        route = account.route = find_route(snapshot, account.key.workspace_id, request.model)
        chosen = pick_deployment(snapshot, route, account.unit, services.random)
        entry = admitted(snapshot, route, chosen, account.wall_ns / 1e9)
        try:
            response = await self._call(entry, request, body)
        except _NothingSentError:
            spare = spare_deployment(snapshot, route, entry)
            if spare is None:
                raise
            response = await self._call(spare, request, body)
        self._response = response
        options = request.stream_options
        wants_usage = options is not None and bool(options.include_usage)
        try:
            if 300 <= response.status < 400:
                raise self._upstream_error(Code.UPSTREAM_INVALID, "answers with a redirect; give its final address")
            if account.streamed and response.status == 200 and _media_type(response) == b"text/event-stream":
                await self._relay_stream(response, wants_usage)
            else:
                await self._relay_whole(response)
        except UpstreamError as failure:
            raise self._upstream_error(failure.kind.code, failure.kind.value) from failure

    async def _call(self, entry: DeploymentEntry, request: openai.ChatRequest, body: bytes) -> UpstreamResponse:
        """Call replicas of one deployment until one has been sent the request.

        Raises:
            TrimtabError: there is no answer; _NothingSentError when no replica has been sent anything.
        """
        services = self._services
        self._account.entry = entry
        live = self._live = services.live.of(entry)
        body = openai.patch_chat(body, request, live.upstream_model, live.parameters, live.overrides)
        headers = [*self._headers, *live.auth_headers]
        candidates = live.targets
        while True:
            target = pick_target(candidates, time.monotonic(), services.random)
            if target is None:
                raise _NothingSentError(Code.UPSTREAM_UNAVAILABLE, self._of_upstream("has no replica that is ready"))
            self._take(live, target)
            self._interrupt.arm("first_byte", services.timeouts.first_byte)
            try:
                response = await services.upstream.post(target.chat_url, headers, body)
            except UpstreamError as failure:
                self._account.note_attempt(target.base, 0, failure.kind.code, self._attempt_ns)
                self._release()
                now = time.monotonic()
                if target.failed_until <= now:  # else it has been said
                    log.warning("deployment %s: the model server at %s %s", live.entry.id, target.base, failure)
                target.failed_until = now + PASS_OVER_SECONDS
                candidates = [other for other in candidates if other is not target]
                if failure.kind.nothing_sent:
                    if candidates:
                        continue
                    raise _NothingSentError(failure.kind.code, self._of_upstream(failure.kind.value)) from failure
                raise self._upstream_error(failure.kind.code, failure.kind.value) from failure
            self._interrupt.disarm()
            return response

    def _take(self, live: LiveDeployment, target: LiveTarget) -> None:
        self._target = target
        self._account.called = True
        self._attempt_ns = time.perf_counter_ns()
        target.in_flight += 1
        live.activity.in_flight += 1
        live.activity.last_used = time.monotonic()

    def _release(self) -> None:
        if self._target is not None and self._live is not None:
            self._target.in_flight -= 1
            self._live.activity.in_flight -= 1
            self._live.activity.last_used = time.monotonic()
            self._target = None

    def _upstream_error(self, code: Code, what: str) -> TrimtabError:
        return TrimtabError(code, self._of_upstream(what))

    def _of_upstream(self, what: str) -> str:
        entry = self._account.entry
        assert entry is not None
        return (
            f"The model server of {entry.model_name}@{entry.version_tag} {what} "
            f"(deployment {entry.id}, request {self._account.request_id})."
        )

    # --- the way back -------------------------------------------------------------------------------------------

    async def _relay_whole(self, response: UpstreamResponse) -> None:
        gap = self._services.timeouts.gap
        chunks: list[bytes] = []
        size = 0
        while True:
            self._interrupt.arm("gap", gap)
            data = await response.read()
            self._interrupt.disarm()
            if not data:
                break
            chunks.append(data)
            size += len(data)
            if size > HOLD_BYTES:
                await self._relay_long(response, chunks)
                return
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        status = response.status
        if status == 200:
            answer = openai.read_answer(body)
            if not answer.valid and _header(response, b"content-encoding") is None:
                raise self._upstream_error(Code.UPSTREAM_INVALID, "answered with something that is no JSON object")
            self._account.answer = answer
        elif status >= 500 or status in _CREDENTIAL_STATUS:
            self._account.error = Code.UPSTREAM_ERROR
        self._finish(status)
        await self._start(status, [*self._passed_back(response), (b"content-length", str(size).encode())])
        await self._write(body, more=False)

    async def _relay_long(self, response: UpstreamResponse, chunks: list[bytes]) -> None:
        await self._start(response.status, self._passed_back(response))
        held = b"".join(chunks)
        size = 0
        while True:
            size += len(held)
            self._interrupt.arm("gap", self._services.timeouts.gap)
            data = await response.read()
            self._interrupt.disarm()
            if not data:
                break
            await self._write(held, more=True)
            held = data
        if response.status == 200:
            self._account.answer = openai.Answer(valid=True, content_bytes=size)
        self._finish(response.status)
        await self._write(held, more=False)

    async def _relay_stream(self, response: UpstreamResponse, wants_usage: bool) -> None:
        gap = self._services.timeouts.gap
        interrupt = self._interrupt
        scanner = self._account.scanner = StreamScanner(wants_usage=wants_usage, begun_ns=self._account.begun_ns)
        await self._start(200, self._passed_back(response))
        while True:
            interrupt.arm("gap", gap)
            data = await response.read()
            interrupt.disarm()
            if not data:
                break
            passed = scanner.feed(data)
            if scanner.done:
                self._finish(200)
                await self._write(passed, more=False)
                await _drain(response)
                return
            if passed:
                await self._write(passed, more=True)
        if not scanner.error and scanner.finish_reason is None:
            raise UpstreamError(FailureKind.TRUNCATED, "the stream ended without a finish reason or [DONE]")
        self._finish(200)
        await self._write(b"", more=False)

    def _passed_back(self, response: UpstreamResponse) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in response.headers if name.lower() not in _NOT_PASSED_BACK]

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        headers.append((b"x-request-id", self._account.request_id.encode()))
        if self._live is not None:
            headers += self._live.response_headers
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _write(self, body: bytes, *, more: bool) -> None:
        self._interrupt.arm("client_stalled", self._services.timeouts.client)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._interrupt.disarm()

    # --- other ends ---------------------------------------------------------------------------------------------

    async def _fail(self, error: TrimtabError) -> None:
        """End with `error`, as far as the answer still allows to say so."""
        if self._recorded:
            self._connection.abort()
        elif self._status:
            await self._break_off(error)
        else:
            await self._refuse(error)

    def _cut_off(self) -> None:
        if not self._recorded:
            self._account.error = Code.INTERNAL
            self._finish(self._status)
        self._connection.abort()

    async def _refuse(self, error: TrimtabError) -> None:
        status = openai.status_of(error.code)
        self._account.error = error.code
        self._finish(status)
        body = openai.error_body(error.code, error.detail, error.field)
        await self._start(status, refusal_headers(error.code, body))
        await self._write(body, more=False)

    async def _break_off(self, error: TrimtabError) -> None:
        """End an answer that has begun: a stream says what happened, anything else is cut off."""
        self._account.error = error.code
        self._finish(self._status)
        if self._account.scanner is None:
            self._connection.abort()
        else:
            await self._write(openai.error_event(error.code, error.detail), more=False)

    async def _end_early(self, reason: Reason | None) -> None:
        if self._response is not None:
            self._response.abort()
        if self._recorded:
            if reason == "client_stalled":
                self._connection.abort()
            return
        if reason in ("first_byte", "gap", "total"):
            words = {
                "first_byte": "did not begin to answer in time",
                "gap": "fell silent in the middle of its answer",
                "total": "did not finish its answer in time",
            }[reason]
            error = self._upstream_error(Code.UPSTREAM_TIMEOUT, words)
            try:
                async with asyncio.timeout(self._services.timeouts.client):
                    await self._fail(error)
            except TimeoutError:
                self._connection.abort()
            return
        # The caller went away, or reads nothing, or this server is stopping: no fault of the deployment.
        self._account.client_gone = True
        if reason is None:
            self._account.error = Code.NOT_READY
        self._finish(self._status)
        if reason != "client_gone":
            self._connection.abort()

    # --- the record ---------------------------------------------------------------------------------------------

    def _finish(self, status: int) -> None:
        """Write the record; what follows is the last of the answer, and nobody else's hanging up ends it."""
        self._stop_listening()
        self._recorded = True
        account = self._account
        if account.scanner is not None and account.scanner.error and account.error is None:
            account.error = Code.UPSTREAM_ERROR
        if self._target is not None:
            status_there = 0 if self._response is None else self._response.status
            account.note_attempt(self._target.base, status_there, account.error, self._attempt_ns)
        metrics = self._services.metrics
        metrics.count(None if account.entry is None else account.entry.id, status)
        try:
            self._services.spool.append(encode_record(account.record(status)))
        except Exception as error:  # whatever it is, the caller's answer does not depend on it
            metrics.lost += 1
            if metrics.lost == 1:
                log.error(
                    "a request could not be recorded: %s (trimtab_records_lost_total counts them)",
                    error,
                    exc_info=None if isinstance(error, SpoolError) else error,
                )


class _NothingSentError(TrimtabError):
    """No replica of a deployment could be sent the request: another deployment may be."""


async def _drain(response: UpstreamResponse) -> None:
    """Read the end of an answer that is complete already, so that its connection can be used again."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while await response.read():
                pass
    except (TimeoutError, UpstreamError):
        response.abort()


def refusal_headers(code: Code, body: bytes) -> list[tuple[bytes, bytes]]:
    """Headers of an error of the gateway's own."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-should-retry", b"true" if code.value.retryable else b"false"),
    ]


def internal_error(request_id: str) -> TrimtabError:
    """What a caller is told when the gateway itself is at fault."""
    return TrimtabError(
        Code.INTERNAL, f"Something went wrong inside the gateway; its log says more of request {request_id}."
    )


def _header(response: UpstreamResponse, wanted: bytes) -> bytes | None:
    for name, value in response.headers:
        if name.lower() == wanted:
            return value
    return None


def _media_type(response: UpstreamResponse) -> bytes:
    return (_header(response, b"content-type") or b"").partition(b";")[0].strip().lower()
