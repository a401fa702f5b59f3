"""Usage and the request log over HTTP."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, get_args
from uuid import UUID

from fastapi import APIRouter, Query

from trimtab.api.caller import Viewer
from trimtab.api.paging import Page, Paging
from trimtab.errors import Code, TrimtabError
from trimtab.fields import Moment
from trimtab.usage import service
from trimtab.usage.schemas import Dimension, RequestDetail, RequestSummary, StatusClass, Usage

router = APIRouter()
USAGE: list[str | Enum] = ["usage"]
REQUESTS: list[str | Enum] = ["requests"]


def parse_dimensions(given: list[str]) -> list[Dimension]:
    """Dimensions given one by one or with commas between. Raises TrimtabError (INVALID_REQUEST)."""
    found: list[Dimension] = []
    for text in (part.strip() for value in given for part in value.split(",")):
        for dimension in get_args(Dimension):
            if text == dimension:
                found.append(dimension)
                break
        else:
            known = ", ".join(get_args(Dimension))
            raise TrimtabError(Code.INVALID_REQUEST, f"Usage is not grouped by {text!r}; take {known}.", "group_by")
    return found


@router.get("/usage", tags=USAGE)
async def usage(
    caller: Viewer,
    start: Annotated[Moment | None, Query(description="Begin, RFC 3339; 30 days before `end` by default.")] = None,
    end: Annotated[Moment | None, Query(description="End, not included; now by default.")] = None,
    group_by: Annotated[
        list[str],
        Query(description="model, deployment, version, key, provider, upstream_model, day; several with commas."),
    ] = ["model"],  # noqa: B006
    model_id: UUID | None = None,
    lifecycle_id: UUID | None = None,
    deployment_id: UUID | None = None,
    api_key_id: UUID | None = None,
    provider: Annotated[str | None, Query(max_length=128)] = None,
    upstream_model: Annotated[str | None, Query(max_length=256)] = None,
) -> Usage:
    """Requests, tokens and cost over whole days (UTC), by any of the dimensions, with totals."""
    given = {
        "model_id": model_id, "lifecycle_id": lifecycle_id, "deployment_id": deployment_id, "api_key_id": api_key_id,
        "provider": provider, "upstream_model": upstream_model,
    }  # fmt: skip
    filters: dict[str, object] = {column: value for column, value in given.items() if value is not None}
    async with caller.transaction() as connection:
        return await service.usage(
            connection,
            caller.principal.workspace_id,
            start,
            end,
            parse_dimensions(group_by),
            filters,
            caller.services.clock(),
        )


@router.get("/requests", tags=REQUESTS)
async def requests(
    caller: Viewer,
    paging: Paging,
    deployment_id: UUID | None = None,
    status: Annotated[StatusClass | None, Query(description="Class of the status; `error` for all failed.")] = None,
) -> Page[RequestSummary]:
    """Requests that have ended, newest first."""
    async with caller.transaction() as connection:
        rows = await service.requests(
            connection, caller.principal.workspace_id, paging.before, paging.fetch, deployment_id, status
        )
    return paging.page(rows, lambda row: row, lambda row: row.id)


@router.get("/requests/{request_id}", tags=REQUESTS)
async def request(caller: Viewer, request_id: UUID) -> RequestDetail:
    """What served a request, approved by whom, on which evidence."""
    async with caller.transaction() as connection:
        return await service.request(connection, caller.principal.workspace_id, request_id)
