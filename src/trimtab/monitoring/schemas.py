"""What monitoring takes and answers. Shared with the Python client, so it imports nothing of server or database."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Discriminator, Field, FiniteFloat, PlainSerializer, StringConstraints, Tag

from trimtab.fields import Moment, Strict

MAX_BATCH = 10_000
LARGEST_VALUE = 1e300

MetricType = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")
]
MetricUnit = Annotated[str, StringConstraints(strip_whitespace=True, max_length=32, pattern=r"^[^\x00-\x1f\x7f]*$")]


def _on_the_wire(value: Decimal | float) -> str | float:
    return format(value, "f") if isinstance(value, Decimal) else value


Number = Annotated[Decimal | float, PlainSerializer(_on_the_wire, return_type=str | float)]
"""A figure; where it is money, a Decimal here and a decimal string on the wire."""


class MetricIn(Strict):
    """One custom value of a deployment.

    Parameters:
        metric_type: any name.
        metric_value: finite; at most 1e300 either way.
        metric_unit: any, such as `ms`.
        recorded_at: when it was measured, with a time zone; now, when left out.
        metadata: anything to keep with it.
    """

    deployment_id: UUID
    metric_type: MetricType
    metric_value: Annotated[FiniteFloat, Field(ge=-LARGEST_VALUE, le=LARGEST_VALUE)]
    metric_unit: MetricUnit = ""
    recorded_at: Moment | None = None
    metadata: Annotated[dict[str, Any], Field(default_factory=dict)]


def _shape(value: Any) -> str:
    return "metrics" if isinstance(value, list) else "metric"


MetricsIn = Annotated[
    Annotated[MetricIn, Tag("metric")]
    | Annotated[list[MetricIn], Tag("metrics"), Field(min_length=1, max_length=MAX_BATCH)],
    Discriminator(_shape),
]
"""One value or a list of them; all are written, or none."""


class MetricsRecorded(BaseModel):
    """The ids of the recorded values, in the order in which they were given."""

    recorded: int
    ids: list[UUID]


class MetricPoint(BaseModel):
    """A metric over one step, which begins at `t`. What cannot be told is null."""

    t: datetime
    count: int
    mean: Number | None
    total: Number | None
    p50: float | None
    p95: float | None
    p99: float | None


class MetricSummary(BaseModel):
    """A metric over the whole range, and its course.

    Parameters:
        unit: `ms`, `tokens/s`, `USD`, ... as recorded for custom metrics.
        count: how many values (mostly requests) it is made of.
        total: their sum, where a sum says something.
        p50: percentiles are within 1 %, like `min` and `max` of what the gateway measures.
        series: one point for each step in which there is a value, oldest first.
    """

    unit: str
    count: int
    mean: Number | None
    total: Number | None
    min: float | None
    max: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    series: list[MetricPoint]


CheckState = Literal["passed", "failed", "insufficient_data"]


class HealthCheck(BaseModel):
    """One thing that was looked at.

    Parameters:
        name: `deployment`, `replicas`, or a requirement such as `latency_threshold`.
        state: `insufficient_data` is neither good nor bad.
        observed: what was measured, in `unit`.
        threshold: what it may be at most.
        samples: of how many requests it was measured.
    """

    name: str
    state: CheckState
    detail: str
    observed: float | None = None
    threshold: float | None = None
    unit: str | None = None
    samples: int | None = None


class DeploymentHealth(BaseModel):
    """The health of a deployment over the last minutes.

    Parameters:
        status: `deploying`, `healthy`, `unhealthy`, `failed`, `rolled_back` or `retired`.
        reasons: why it is not healthy, in plain words; empty when it is.
    """

    deployment_id: UUID
    status: Literal["deploying", "healthy", "unhealthy", "failed", "rolled_back", "retired"]
    reasons: list[str]
    checks: list[HealthCheck]
    window_start: datetime
    window_end: datetime
