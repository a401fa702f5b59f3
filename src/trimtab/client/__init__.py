"""The Python client. `from trimtab import Trimtab, AsyncTrimtab` is the usual way to it.

The names are loaded when first asked for, so that `trimtab.client.errors` can be had without all the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.client._async.client import AsyncTrimtab
    from trimtab.client._sync.client import Trimtab

__all__ = ["AsyncTrimtab", "Trimtab"]


def __getattr__(name: str) -> Any:
    if name == "AsyncTrimtab":
        from trimtab.client._async.client import AsyncTrimtab

        return AsyncTrimtab
    if name == "Trimtab":
        from trimtab.client._sync.client import Trimtab

        return Trimtab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
