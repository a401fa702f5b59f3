"""One page of a list."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)


class Page(BaseModel, Generic[T]):
    """A page as the server answers it; `next_cursor` is None on the last one."""

    items: list[T]
    next_cursor: str | None = None
