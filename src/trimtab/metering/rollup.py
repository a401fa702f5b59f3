"""Records become rows of counts: one per series and minute. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

from trimtab.errors import Code
from trimtab.metering.histogram import bucket_of
from trimtab.metering.record import RequestRecord

MINUTE_US = 60_000_000
UPSTREAM_ERROR = Code.UPSTREAM_ERROR.text


class SeriesKey(NamedTuple):
    """The dimensions by which requests are counted; ids are UUID texts."""

    workspace_id: str
    api_key_id: str | None
    model_id: str | None
    lifecycle_id: str | None
    deployment_id: str | None
    environment: str | None
    provider: str | None
    upstream_model: str | None
    operation: str


@dataclass(slots=True)
class Tally:
    """Counts over some requests.

    Latency and time to first token are those of answered requests (no error, the client stayed). Generation is that of
    answered requests with output tokens: after the first token where streamed, over the whole latency otherwise.
    Histograms map buckets to counts: latency and time to first token in microseconds, speed in tokens per second.
    """

    requests: int = 0
    errors_client: int = 0
    errors_upstream: int = 0
    clients_gone: int = 0
    streamed: int = 0
    retries: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = 0
    latency_count: int = 0
    latency_us_sum: int = 0
    ttft_count: int = 0
    ttft_us_sum: int = 0
    generation_count: int = 0
    generation_tokens: int = 0
    generation_us_sum: int = 0
    latency_hist: dict[int, int] = field(default_factory=dict)
    ttft_hist: dict[int, int] = field(default_factory=dict)
    speed_hist: dict[int, int] = field(default_factory=dict)

    def add(self, record: RequestRecord) -> None:
        """Count one more request."""
        usage = record.usage
        self.requests += 1
        self.input_tokens += usage.input
        self.cache_read_tokens += usage.cache_read
        self.cache_write_tokens += usage.cache_write
        self.output_tokens += usage.output
        self.reasoning_tokens += usage.reasoning
        self.cost_nano += record.cost_nano
        if record.streamed:
            self.streamed += 1
        if len(record.attempts) > 1:
            self.retries += len(record.attempts) - 1
        fault = fault_of(record)
        if fault == "client":
            self.errors_client += 1
        elif fault == "upstream":
            self.errors_upstream += 1
        if record.client_gone:
            self.clients_gone += 1
        elif fault is None:
            self._add_times(record)

    def _add_times(self, record: RequestRecord) -> None:
        latency, ttft = record.latency_us, record.ttft_us
        self.latency_count += 1
        self.latency_us_sum += latency
        _count(self.latency_hist, latency)
        if ttft is not None:
            self.ttft_count += 1
            self.ttft_us_sum += ttft
            _count(self.ttft_hist, ttft)
        tokens, duration = record.usage.output, latency
        if ttft is not None:
            tokens, duration = tokens - 1, (record.last_token_us or ttft) - ttft
        if tokens > 0 and duration > 0:
            self.generation_count += 1
            self.generation_tokens += tokens
            self.generation_us_sum += duration
            _count(self.speed_hist, tokens * 1e6 / duration)


COUNTERS: tuple[str, ...] = tuple(f.name for f in fields(Tally) if not f.name.endswith("_hist"))
HISTOGRAMS: tuple[str, ...] = tuple(f.name for f in fields(Tally) if f.name.endswith("_hist"))


def fault_of(record: RequestRecord) -> Literal["client", "upstream"] | None:
    """Whose fault it is that a request failed; None when it did not.

    A client that hung up is no failure. An answer that broke off after its status was sent is one of the upstream. So
    are the upstream's own 401, 403 and 429, which the gateway records as `upstream_error`: they concern the
    deployment's credential and quota. The gateway's own refusals have other codes and are the client's.
    """
    if record.status >= 500:
        return "upstream"
    if record.status >= 400:
        of_upstream = record.error_code == UPSTREAM_ERROR or (record.status == 429 and record.attempts)
        return "upstream" if of_upstream else "client"
    return "upstream" if record.error_code is not None and not record.client_gone else None


def roll_up(records: Iterable[RequestRecord]) -> dict[tuple[SeriesKey, int], Tally]:
    """Counts by series and minute (Unix microseconds at its start)."""
    tallies: dict[tuple[SeriesKey, int], Tally] = defaultdict(Tally)
    for record in records:
        key = SeriesKey(
            record.workspace_id,
            record.api_key_id,
            record.model_id,
            record.lifecycle_id,
            record.deployment_id,
            record.environment,
            record.provider,
            record.upstream_model,
            record.operation,
        )
        tallies[key, record.started_us - record.started_us % MINUTE_US].add(record)
    return dict(tallies)


def _count(histogram: dict[int, int], value: float) -> None:
    bucket = bucket_of(value)
    histogram[bucket] = histogram.get(bucket, 0) + 1
