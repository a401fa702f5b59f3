"""What is known of one request, and the record that is made of it."""

from __future__ import annotations

import time

from trimtab.errors import Code
from trimtab.gateway import pricing
from trimtab.gateway.protocols import openai
from trimtab.gateway.protocols.openai_stream import StreamScanner
from trimtab.metering.record import Attempt, RequestRecord, Usage
from trimtab.routing.records import ApiKeyEntry, DeploymentEntry, RouteEntry

MOST_CHARACTERS = 256


class Account:
    """The facts of one request, gathered while it is served; its clock starts when it is made.

    Parameters:
        request_id: its id.
        key: the caller's.
        unit: what `x-trimtab-unit` says, None where it is absent.
        revision: of the routing that serves it.
    """

    __slots__ = (
        "answer",
        "attempts",
        "begun_ns",
        "body_bytes",
        "called",
        "client_gone",
        "entry",
        "error",
        "key",
        "model",
        "request_id",
        "revision",
        "route",
        "scanner",
        "streamed",
        "unit",
        "wall_ns",
    )

    def __init__(self, request_id: str, key: ApiKeyEntry, unit: str | None, revision: int) -> None:
        self.request_id = request_id
        self.key = key
        self.unit = unit
        self.revision = revision
        self.wall_ns = time.time_ns()
        self.begun_ns = time.perf_counter_ns()
        self.model = ""
        self.streamed = False
        self.body_bytes = 0
        self.route: RouteEntry | None = None
        self.entry: DeploymentEntry | None = None
        self.called = False
        """Whether a model server has been sent the request, and may have worked on it."""
        self.attempts: list[Attempt] = []
        self.scanner: StreamScanner | None = None
        self.answer: openai.Answer | None = None
        self.error: Code | None = None
        self.client_gone = False

    def note_attempt(self, target: str, status: int, error: Code | None, begun_ns: int) -> None:
        """Note a call to the replica at `target` that has ended; `status` is 0 when it was not answered."""
        if self.entry is not None:
            duration = (time.perf_counter_ns() - begun_ns) // 1000
            self.attempts.append(
                Attempt(self.entry.id, target, status, None if error is None else error.text, duration)
            )

    def record(self, status: int) -> RequestRecord:
        """The record, now that the request has ended with `status` (0: the caller left before an answer)."""
        entry, route, scanner = self.entry, self.route, self.scanner
        usage = self._usage()
        source = scanner or self.answer
        finish = None if source is None else source.finish_reason
        return RequestRecord(
            id=self.request_id,
            workspace_id=self.key.workspace_id,
            started_us=self.wall_ns // 1000,
            api_key_id=self.key.id,
            member_id=self.key.member_id,
            unit=None if self.unit is None else _clean(self.unit),
            requested_model=_clean(self.model),
            environment=None if route is None else route.environment,
            model_id=None if route is None else route.model_id,
            lifecycle_id=None if entry is None else entry.lifecycle_id,
            deployment_id=None if entry is None else entry.id,
            version_tag=None if entry is None else entry.version_tag,
            variant=None,
            routing_revision=self.revision,
            provider=None if entry is None else entry.provider,
            upstream_model=None if entry is None else entry.upstream_model,
            dialect="openai",
            operation="chat",
            streamed=self.streamed,
            status=status,
            error_code=None if self.error is None else self.error.text,
            finish_reason=None if finish is None else _clean(finish),
            client_gone=self.client_gone,
            latency_us=(time.perf_counter_ns() - self.begun_ns) // 1000,
            ttft_us=None if scanner is None else scanner.first_content_us,
            last_token_us=None if scanner is None else scanner.last_content_us,
            usage=usage,
            cost_nano=0 if entry is None else pricing.cost_nano(entry.prices, self.wall_ns / 1e9, usage),
            attempts=tuple(self.attempts),
        )

    def _usage(self) -> Usage:
        scanner, answer = self.scanner, self.answer
        if scanner is not None:
            return scanner.usage or openai.estimate(self.body_bytes, scanner.content_events)
        if answer is not None:
            return answer.usage or openai.estimate(self.body_bytes, answer.content_bytes // openai.BYTES_PER_TOKEN)
        if self.client_gone and self.called:
            return openai.estimate(self.body_bytes, 0)
        return Usage()


def _clean(text: str) -> str:
    """What the database can hold of a caller's or a model server's text."""
    return text[:MOST_CHARACTERS].replace("\x00", "\ufffd")
