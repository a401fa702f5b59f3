"""Lists: newest first, in pages, with an opaque cursor that stays right while things come and go."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel

from trimtab.errors import Code, TrimtabError

Item = TypeVar("Item")
Row = TypeVar("Row")
MAX_LIMIT = 200
DEFAULT_LIMIT = 50


class Page(BaseModel, Generic[Item]):
    """One page of a list. `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a list that is asked for; stores select `id < before`, newest first, `fetch` rows.

    Parameters:
        limit: most items on the page.
        before: the last id of the page before; None for the first page.
    """

    limit: int = DEFAULT_LIMIT
    before: UUID | None = None

    @property
    def fetch(self) -> int:
        """How many rows to select: one more than fits, which tells whether there is a next page."""
        return self.limit + 1

    def page(self, rows: Sequence[Row], convert: Callable[[Row], Item], id_of: Callable[[Row], UUID]) -> Page[Item]:
        """The page made of at most `fetch` selected rows."""
        kept = rows[: self.limit]
        more = len(rows) > self.limit
        return Page(items=[convert(row) for row in kept], next_cursor=encode_cursor(id_of(kept[-1])) if more else None)


def encode_cursor(last: UUID) -> str:
    """The cursor that continues after `last`."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> UUID:
    """The id in a cursor. Raises TrimtabError (INVALID_REQUEST) for what no answer contained."""
    try:
        return UUID(bytes=base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except ValueError:
        raise TrimtabError(
            Code.INVALID_REQUEST, "Pass `next_cursor` of an earlier answer unchanged, or leave it out.", "cursor"
        ) from None


def requested_slice(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most items on the page.")] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Slice:
    """The slice that a request asks for."""
    return Slice(limit, decode_cursor(cursor) if cursor else None)


Paging = Annotated[Slice, Depends(requested_slice)]
