"""What calls of the client raise.

`ClientError` is the base of all. An answer of the server that is an error becomes an `APIError`, of a class by its
kind, and carries the problem document (RFC 9457).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of all errors of the client.

    Parameters:
        message: what is wrong and what to do about it.
        field: the input at fault, where one is.
    """

    code = "client_error"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class ConfigurationError(ClientError):
    """The client was set up with something unusable; nothing was sent."""

    code = "invalid_setting"


class ConnectionFailed(ClientError):  # noqa: N818 - says what happened
    """No answer came: nothing listens there, the connection broke, or the time was up."""

    code = "connection_failed"


class WaitTimedOut(ClientError):  # noqa: N818 - says what happened
    """What was waited for has not happened in time; it may still happen."""

    code = "wait_timed_out"


class DeploymentFailed(ClientError):  # noqa: N818 - says what happened
    """A deployment that was waited for has ended without serving; `deployment` is its last state."""

    code = "deployment_failed"

    def __init__(self, message: str, deployment: Any) -> None:
        super().__init__(message)
        self.deployment = deployment


class APIError(ClientError):
    """The server answered with an error.

    Attributes: `problem` (the whole document), `status` (HTTP), `code` (stable, for programs), `field` (the input at
    fault or None), `request_id` (for the server's log).
    """

    def __init__(self, status: int, problem: Mapping[str, Any], request_id: str | None) -> None:
        text = problem.get("detail") or problem.get("title") or f"the server answered {status}"
        field = problem.get("field")
        super().__init__(str(text), field if isinstance(field, str) else None)
        self.status = status
        self.problem = dict(problem)
        self.code = str(problem.get("code") or f"http_{status}")
        self.request_id = request_id


class AuthenticationError(APIError):
    """No API key, or one that is unknown, expired or revoked (401)."""


class PermissionDeniedError(APIError):
    """The key's role does not allow this (403)."""


class NotFoundError(APIError):
    """There is no such thing, or not in this workspace (404)."""


class ConflictError(APIError):
    """The present state does not allow this (409), or somebody changed it meanwhile (412)."""


class InvalidRequestError(APIError):
    """The request itself is at fault; `field` names the part (400, 413, 422 and the like)."""


class RateLimitedError(APIError):
    """Too many requests (429)."""


class ServerError(APIError):
    """The server could not do it (5xx)."""


_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    429: RateLimitedError,
}


def from_answer(status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """The exception for an answer with an error status; a body that is no problem document is quoted."""
    problem: dict[str, Any] = {}
    try:
        document = json.loads(body)
        if isinstance(document, dict):
            problem = document
    except ValueError:
        text = " ".join(body[:200].decode("utf-8", "replace").split())
        problem = {"detail": f"the server answered {status}" + (f": {text}" if text else "")}
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else InvalidRequestError)
    return kind(status, problem, headers.get("x-request-id"))
