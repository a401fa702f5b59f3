"""Merged rollups become metrics: totals, means, percentiles and their course. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby

from trimtab.metering.quantiles import Distribution
from trimtab.monitoring.schemas import MetricPoint, MetricSummary, Number
from trimtab.monitoring.store import MetricStep, RequestStep

NANO = Decimal(10) ** -9
QUANTILES = (0.0, 0.5, 0.95, 0.99, 1.0)
Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Figure:
    """How a built-in metric is made of counts.

    Parameters:
        count: of how many things it is made.
        total: their sum, None where it says nothing.
        mean: of counts and seconds, only asked when `count` is not 0.
        histogram: name of its histogram, and what its values are divided by.
    """

    unit: str
    count: Callable[[Counts], int]
    mean: Callable[[Counts, float], Number]
    total: Callable[[Counts], Number] | None = None
    histogram: str | None = None
    divisor: float = 1.0


def _per_request(unit: str, *columns: str) -> _Figure:
    def total(c: Counts) -> float:
        return float(sum(c[column] for column in columns))

    return _Figure(unit, _requests, lambda c, _: total(c) / c["requests"], total)


def _requests(counts: Counts) -> int:
    return counts["requests"]


FIGURES: dict[str, _Figure] = {
    "requests": _Figure("requests", _requests, lambda c, s: c["requests"] / s * 60, lambda c: float(c["requests"])),
    "throughput": _Figure("requests/s", _requests, lambda c, s: c["requests"] / s),
    "latency": _Figure(
        "ms", lambda c: c["latency_count"], lambda c, _: c["latency_us_sum"] / c["latency_count"] / 1e3, None,
        "latency_hist", 1e3,
    ),
    "ttft": _Figure(
        "ms", lambda c: c["ttft_count"], lambda c, _: c["ttft_us_sum"] / c["ttft_count"] / 1e3, None,
        "ttft_hist", 1e3,
    ),
    "tokens_per_second": _Figure(
        "tokens/s", lambda c: c["generation_count"],
        lambda c, _: c["generation_tokens"] * 1e6 / c["generation_us_sum"], None, "speed_hist",
    ),
    "error_rate": _per_request("fraction", "errors_upstream"),
    "client_errors": _per_request("requests", "errors_client"),
    "clients_gone": _per_request("requests", "clients_gone"),
    "retries": _per_request("attempts", "retries"),
    "input_tokens": _per_request("tokens", "input_tokens", "cache_read_tokens", "cache_write_tokens"),
    "cache_read_tokens": _per_request("tokens", "cache_read_tokens"),
    "cache_write_tokens": _per_request("tokens", "cache_write_tokens"),
    "output_tokens": _per_request("tokens", "output_tokens"),
    "reasoning_tokens": _per_request("tokens", "reasoning_tokens"),
    "cost": _Figure(
        "USD", _requests, lambda c, _: (c["cost_nano"] * NANO / c["requests"]).quantize(NANO),
        lambda c: c["cost_nano"] * NANO,
    ),
}  # fmt: skip
"""The metrics that are measured by themselves. `requests` has its mean per minute, `throughput` per second, the others
per request; `input_tokens` are all tokens of the prompt, from a cache or not; `error_rate` counts the errors of the
upstream."""


def built_in(steps: Sequence[RequestStep], step_seconds: int, range_seconds: float) -> dict[str, MetricSummary]:
    """The metrics of the requests in `steps`; none when there were no requests."""
    if not steps:
        return {}
    return {name: _summary(figure, steps, step_seconds, range_seconds) for name, figure in FIGURES.items()}


def custom(steps: Sequence[MetricStep]) -> dict[str, MetricSummary]:
    """The custom metrics in `steps`, by their type."""
    found = {}
    for metric_type, group in groupby(sorted(steps, key=lambda s: (s.metric_type, s.t)), key=lambda s: s.metric_type):
        of_type = list(group)
        count, total = sum(s.count for s in of_type), sum(s.sum for s in of_type)
        low, high = min(s.min for s in of_type), max(s.max for s in of_type)
        # The exact extremes are known here, and no percentile lies beyond them.
        quantiles = [
            None if value is None else min(max(value, low), high)
            for value in _quantiles(b"".join(s.hist for s in of_type), 1.0)
        ]
        found[metric_type] = MetricSummary(
            unit=of_type[-1].metric_unit,
            count=count,
            mean=total / count,
            total=total,
            min=low,
            max=high,
            p50=quantiles[1],
            p95=quantiles[2],
            p99=quantiles[3],
            series=[_point(s.t, s.count, s.sum / s.count, s.sum, _quantiles(s.hist, 1.0)) for s in of_type],
        )
    return found


def together(own: dict[str, MetricSummary], given: dict[str, MetricSummary]) -> dict[str, MetricSummary]:
    """Built-in and custom metrics by name.

    A custom metric with the name of a built-in one is found as `custom.<name>`, and as `<name>` where the built-in one
    has no values.
    """
    renamed = {f"custom.{name}" if name in FIGURES else name: summary for name, summary in given.items()}
    return given | own | renamed


def _summary(figure: _Figure, steps: Sequence[RequestStep], step_seconds: int, range_seconds: float) -> MetricSummary:
    counts = {name: sum(step.counts[name] for step in steps) for name in steps[0].counts}
    name = figure.histogram
    low, p50, p95, p99, high = _quantiles(b"".join(s.histograms[name] for s in steps) if name else b"", figure.divisor)
    count = figure.count(counts)
    return MetricSummary(
        unit=figure.unit,
        count=count,
        mean=figure.mean(counts, range_seconds) if count else None,
        total=figure.total(counts) if figure.total else None,
        min=low,
        max=high,
        p50=p50,
        p95=p95,
        p99=p99,
        series=[
            _point(
                step.t,
                figure.count(step.counts),
                figure.mean(step.counts, min(step_seconds, range_seconds)),
                figure.total(step.counts) if figure.total else None,
                _quantiles(step.histograms[name] if name else b"", figure.divisor),
            )
            for step in steps
            if figure.count(step.counts)
        ],
    )


def _quantiles(encoded: bytes, divisor: float) -> list[float | None]:
    found = Distribution.of(encoded).quantiles(QUANTILES)
    return [None] * len(QUANTILES) if found is None else [value / divisor for value in found]


def _point(t: int, count: int, mean: Number, total: Number | None, quantiles: Sequence[float | None]) -> MetricPoint:
    return MetricPoint.model_construct(
        t=datetime.fromtimestamp(t, UTC),
        count=count,
        mean=mean,
        total=total,
        p50=quantiles[1],
        p95=quantiles[2],
        p99=quantiles[3],
    )
