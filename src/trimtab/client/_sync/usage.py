# Made by `python -m tools.unasync` from src/trimtab/client/_async/usage.py; change that one.
"""What was used, and single requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from trimtab.client._sync.paging import Pager
from trimtab.client._sync.transport import Transport
from trimtab.client.calls import Call, Id, path
from trimtab.usage.schemas import RequestDetail, RequestSummary, UsageItem
from trimtab.usage.schemas import Usage as UsageReport


class Usage:
    """`client.usage`: requests, tokens and cost over whole days (UTC)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        group_by: Sequence[str] = ("model",),
        model_id: Id | None = None,
        lifecycle_id: Id | None = None,
        deployment_id: Id | None = None,
        api_key_id: Id | None = None,
        provider: str | None = None,
        upstream_model: str | None = None,
    ) -> UsageReport:
        """What was used in `[start, end)`, in groups (`items`) and in all (`totals`).

        Parameters:
            start, end: with a time zone; the last 30 days where nothing is said.
            group_by: any of model, deployment, version, key, provider, upstream_model, day.
            model_id, ...: only what was used by this one.
        """
        query = {
            "start": start,
            "end": end,
            "group_by": _joined(group_by),
            "model_id": model_id,
            "lifecycle_id": lifecycle_id,
            "deployment_id": deployment_id,
            "api_key_id": api_key_id,
            "provider": provider,
            "upstream_model": upstream_model,
        }
        return self._transport.fetch(Call("GET", "/usage", query), UsageReport)

    def list(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        group_by: Sequence[str] = ("model",),
    ) -> Pager[UsageItem]:
        """The groups alone; `get` also tells the totals, and takes filters."""
        query: Mapping[str, Any] = {"start": start, "end": end, "group_by": _joined(group_by)}
        return Pager(self._transport, "/usage", UsageItem, query)


class Requests:
    """`client.requests`: what the gateway was asked."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        deployment_id: Id | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pager[RequestSummary]:
        """Requests that have ended, newest first.

        Parameters:
            status: `2xx`, `3xx`, `4xx`, `5xx`, or `error` for all that failed.
        """
        query = {"deployment_id": deployment_id, "status": status, "limit": limit, "cursor": cursor}
        return Pager(self._transport, "/requests", RequestSummary, query)

    def get(self, request_id: Id) -> RequestDetail:
        """What served a request, approved by whom, on which evidence.

        Parameters:
            request_id: as the gateway answered it in `x-request-id`.

        Raises:
            NotFoundError: there is none, or it has not been metered yet, which takes a second or two.
        """
        return self._transport.fetch(Call("GET", path("requests", request_id)), RequestDetail)


def _joined(group_by: Sequence[str]) -> str:
    return group_by if isinstance(group_by, str) else ",".join(group_by)
