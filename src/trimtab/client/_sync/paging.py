# Made by `python -m tools.unasync` from src/trimtab/client/_async/paging.py; change that one.
"""Lists: page by page, or as one run of items that fetches its pages when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from trimtab.client._sync.transport import Transport
from trimtab.client.calls import Call
from trimtab.client.pages import Page

T = TypeVar("T", bound=BaseModel)


class Pager(Generic[T]):
    """A list on the server. Iterate over it for all items; nothing is fetched before.

    Parameters:
        transport: the connections.
        path: of the list.
        item: what its items are.
        query: filters, `limit` (items per page) and `cursor` (where to begin).
    """

    def __init__(self, transport: Transport, path: str, item: type[T], query: Mapping[str, Any]) -> None:
        self._transport = transport
        self._path = path
        self._item = item
        self._query = dict(query)

    def page(self) -> Page[T]:
        """The first page: `items` and `next_cursor`, which is None when that was all."""
        return self._fetch(self._query)

    def pages(self) -> Iterator[Page[T]]:
        """All pages, each fetched when it is asked for."""
        query = self._query
        while True:
            page = self._fetch(query)
            yield page
            if page.next_cursor is None:
                return
            query = {**query, "cursor": page.next_cursor}

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page.items

    def all(self) -> list[T]:
        """All items in one list; for lists known to be short."""
        return list(self)

    def _fetch(self, query: Mapping[str, Any]) -> Page[T]:
        return self._transport.fetch(Call("GET", self._path, query), Page[self._item])  # type: ignore[name-defined]
