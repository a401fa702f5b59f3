"""Trimtab: models move through their life, traffic moves between them, on evidence.

The client's names are loaded when first asked for, so that the server's processes never load the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.client import AsyncTrimtab, Trimtab

    __version__: str

__all__ = ["AsyncTrimtab", "Trimtab", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("trimtab")
    if name in ("AsyncTrimtab", "Trimtab"):
        from trimtab import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
