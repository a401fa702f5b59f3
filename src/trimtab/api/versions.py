"""Entity tags of versioned things: the tag is the row's `version`, a change may demand it with `If-Match`."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Response

from trimtab.errors import Code, TrimtabError

TAG = re.compile(r'(?:W/)?"(\d{1,9})"|(\d{1,9})')


def wanted_version(
    if_match: Annotated[
        str | None, Header(description="ETag of the state the change is meant for; refused with 412 if it moved on.")
    ] = None,
) -> int | None:
    """The version that `If-Match` demands; None where any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = TAG.fullmatch(if_match.strip())
    if match is None:
        raise TrimtabError(
            Code.INVALID_REQUEST, 'Give one entity tag as answered in `ETag`, such as "3", or `*`.', "if-match"
        )
    return int(match[1] or match[2])


IfMatch = Annotated[int | None, Depends(wanted_version)]


def tag(response: Response, version: int) -> None:
    """Say in `response` which version it shows."""
    response.headers["etag"] = f'"{version}"'


def check_version(wanted: int | None, present: int) -> None:
    """Raise TrimtabError (STALE_VERSION) when the caller wanted another version than there is."""
    if wanted is not None and wanted != present:
        raise stale(present)


def stale(present: int | None = None) -> TrimtabError:
    """The error for a change that came too late."""
    now = "" if present is None else f"; it is at version {present} now"
    return TrimtabError(
        Code.STALE_VERSION,
        f"It was changed meanwhile{now}. Load it again, look at what changed, and repeat if it still applies.",
        extra={} if present is None else {"version": present},
    )
