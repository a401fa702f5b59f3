"""What usage does: sums by any dimension, and the story of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from trimtab.db.database import Connection
from trimtab.errors import Code, TrimtabError
from trimtab.ids import time_of
from trimtab.usage import store
from trimtab.usage.schemas import (
    Dimension,
    RequestApproval,
    RequestDetail,
    RequestSummary,
    StatusClass,
    Usage,
    UsageCounts,
    UsageItem,
)

NANO = Decimal(10) ** -9
DEFAULT_DAYS = 30
MAX_ITEMS = 10_000
APART = timedelta(hours=1)
"""How far the time in a request's id may be from the time at which it began."""


async def usage(
    connection: Connection,
    workspace_id: UUID,
    start: datetime | None,
    end: datetime | None,
    group_by: Sequence[Dimension],
    filters: dict[str, object],
    now: datetime,
) -> Usage:
    """Usage over the whole days (UTC) that [start, end) touches; of the last 30 days by default.

    Raises:
        TrimtabError: INVALID_REQUEST for an empty range, or more than 10,000 groups.
    """
    last = (end or now).astimezone(UTC)
    until = last.date() + timedelta(days=0 if end is not None and last.time() == datetime.min.time() else 1)
    first = until - timedelta(days=DEFAULT_DAYS) if start is None else start.astimezone(UTC).date()
    if first >= until:
        raise TrimtabError(Code.INVALID_REQUEST, "The range is empty: `start` must lie before `end`.", "start")
    dimensions = list(dict.fromkeys(group_by))
    rows = await store.usage(connection, workspace_id, first, until, dimensions, filters, MAX_ITEMS + 1)
    if len(rows) > MAX_ITEMS:
        raise TrimtabError(
            Code.INVALID_REQUEST,
            f"There are more than {MAX_ITEMS} groups; group by less, filter, or take a shorter range.",
            "group_by",
        )
    totals = {counter: sum(row[counter] for row in rows) for counter in store.COUNTERS}
    return Usage(
        start=first,
        end=until,
        group_by=dimensions,
        items=[UsageItem(**_in_usd(row)) for row in rows] if dimensions else [],
        totals=UsageCounts(**_in_usd(totals)),
    )


async def request(connection: Connection, workspace_id: UUID, request_id: UUID) -> RequestDetail:
    """What served a request, approved by whom, on which evidence.

    Raises:
        TrimtabError: NOT_FOUND.
    """
    row = None
    if request_id.version == 7:
        made = time_of(request_id)
        row = await store.request(connection, workspace_id, request_id, made - APART, made + APART)
    if row is None:
        raise TrimtabError(
            Code.NOT_FOUND,
            f"The request {request_id} is not shipped yet, older than requests are kept, or unknown; "
            "records arrive within seconds.",
            "request_id",
        )
    fields = _in_usd(asdict(row))
    approval = {name: fields.pop(name) for name in RequestApproval.model_fields}
    return RequestDetail(
        **fields, approval=RequestApproval(**approval) if approval["approval_status"] is not None else None
    )


async def requests(
    connection: Connection,
    workspace_id: UUID,
    before: UUID | None,
    fetch: int,
    deployment_id: UUID | None,
    status: StatusClass | None,
) -> list[RequestSummary]:
    """Requests, newest first, at most `fetch`.

    Parameters:
        before: only those with a smaller id.
        status: a class of statuses, or `error` for all that failed, also after their status was sent.
    """
    hundreds = int(status[0]) * 100 if status is not None and status != "error" else None
    rows = await store.requests(
        connection,
        workspace_id,
        before=before,
        until=time_of(before) + APART if before is not None and before.version == 7 else None,
        deployment_id=deployment_id,
        status_from=hundreds,
        status_to=None if hundreds is None else hundreds + 100,
        errors=status == "error",
        fetch=fetch,
    )
    return [RequestSummary(**_in_usd(asdict(row))) for row in rows]


def _in_usd(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with `cost_usd` in the place of `cost_nano`."""
    nano = fields.pop("cost_nano")
    return {**fields, "cost_usd": Decimal(nano) * NANO}
