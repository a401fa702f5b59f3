"""What usage answers. Shared with the Python client, so it imports nothing of server or database."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, PlainSerializer

Dimension = Literal["model", "deployment", "version", "key", "provider", "upstream_model", "day"]
StatusClass = Literal["2xx", "3xx", "4xx", "5xx", "error"]
Money = Annotated[Decimal, PlainSerializer(lambda value: format(value, "f"), return_type=str)]
"""USD, a decimal string on the wire."""


class UsageCounts(BaseModel):
    """What was used. The four token buckets are disjoint; reasoning is part of output.

    `errors` are requests that failed, through whoever's fault.
    """

    requests: int
    errors: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Money


class UsageItem(UsageCounts):
    """What was used by one group; only the dimensions asked for are told. Names are null for what is gone, or not
    yours to see."""

    day: datetime.date | None = None
    model_id: UUID | None = None
    model: str | None = None
    lifecycle_id: UUID | None = None
    version_tag: str | None = None
    deployment_id: UUID | None = None
    deployment: str | None = None
    api_key_id: UUID | None = None
    key: str | None = None
    provider: str | None = None
    upstream_model: str | None = None


class Usage(BaseModel):
    """Usage over whole days (UTC) from `start` up to, not including, `end`."""

    start: datetime.date
    end: datetime.date
    group_by: list[Dimension]
    items: list[UsageItem]
    totals: UsageCounts
    next_cursor: str | None = None


class RequestSummary(BaseModel):
    """One request that has ended; durations in microseconds."""

    id: UUID
    started_at: datetime.datetime
    requested_model: str
    environment: str | None
    model_id: UUID | None
    lifecycle_id: UUID | None
    version_tag: str | None
    deployment_id: UUID | None
    variant: str | None
    api_key_id: UUID | None
    member_id: UUID | None
    unit: str | None
    provider: str | None
    upstream_model: str | None
    dialect: str
    operation: str
    streamed: bool
    status: int
    error_code: str | None
    finish_reason: str | None
    client_gone: bool
    latency_us: int
    ttft_us: int | None
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    usage_source: str
    cost_usd: Money


class RequestApproval(BaseModel):
    """The decision on the version that was in force when a request came: by whom, on which evidence."""

    approval_status: str
    approver_id: UUID | None
    approver: str
    approved_at: datetime.datetime
    comment: str
    evidence: dict[str, Any]


class RequestDetail(RequestSummary):
    """What served a request, approved by whom, on which evidence.

    Parameters:
        routing_revision: the state of routing by which it was sent.
        attempts: each call to an upstream, the last one answered.
        approval: the last one before the request began; null where there was none.
    """

    routing_revision: int
    attempts: list[dict[str, Any]]
    model: str | None
    deployment: str | None
    deployment_type: str | None
    deployed_at: datetime.datetime | None
    deployed_by: str | None
    approval: RequestApproval | None
