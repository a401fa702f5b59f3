"""The one registry of errors that users meet.

Every error has a stable code, an HTTP status, a title and whether a retry can help. The control API renders it as
problem+json (RFC 9457), the gateway in the dialect of the caller, the command line as one line.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """What all errors of one code share.

    Parameters:
        status: HTTP status code.
        title: short sentence, the same for every occurrence.
        retryable: whether the same request may succeed later unchanged.
    """

    status: int
    title: str
    retryable: bool = False


class Code(Enum):
    """Stable error codes; the member's name in lower case is what callers see."""

    # requests
    INVALID_REQUEST = Kind(422, "The request is not valid")
    INVALID_JSON = Kind(400, "The body is not valid JSON")
    BODY_TOO_LARGE = Kind(413, "The body is too large")
    NOT_FOUND = Kind(404, "Not found")
    METHOD_NOT_ALLOWED = Kind(405, "Method not allowed")
    CONFLICT = Kind(409, "The request conflicts with the present state")
    ALREADY_EXISTS = Kind(409, "Already exists")
    STALE_VERSION = Kind(412, "Changed by someone else meanwhile")
    IDEMPOTENCY_MISMATCH = Kind(422, "The idempotency key was used for another request")
    IN_PROGRESS = Kind(409, "The first request with this idempotency key is still running", True)
    # access
    UNAUTHENTICATED = Kind(401, "No valid API key")
    FORBIDDEN = Kind(403, "Not allowed for this role")
    APPROVER_MISMATCH = Kind(403, "The approver must be the caller")
    FOUR_EYES = Kind(403, "An author cannot approve their own version")
    # registry and delivery
    INVALID_TRANSITION = Kind(409, "That stage cannot follow the present one")
    VERSION_IMMUTABLE = Kind(409, "An approved version cannot be changed")
    VERSION_NOT_APPROVED = Kind(409, "The version is not approved")
    APPROVAL_LIMIT = Kind(409, "The conditional approval does not allow this")
    RESOURCES_EXCEEDED = Kind(409, "The machine is too small for this allocation")
    NO_PREVIOUS_DEPLOYMENT = Kind(409, "There is nothing to roll back to")
    ENDPOINT_UNREACHABLE = Kind(502, "The endpoint cannot be reached", True)
    # gateway
    MODEL_NOT_FOUND = Kind(404, "No such model")
    MODEL_NOT_APPROVED = Kind(403, "The model's version is not approved")
    MODEL_NOT_DEPLOYED = Kind(404, "The model is not deployed there")
    UPSTREAM_UNAVAILABLE = Kind(502, "The model server cannot be reached", True)
    UPSTREAM_INVALID = Kind(502, "The model server's answer is not valid", True)
    UPSTREAM_ERROR = Kind(502, "The model server answered with an error", True)
    UPSTREAM_TIMEOUT = Kind(504, "The model server did not answer in time", True)
    OVERLOADED = Kind(503, "Too many requests at once", True)
    NOT_READY = Kind(503, "Not ready yet", True)
    # the program itself
    INTERNAL = Kind(500, "Internal error", True)
    DATABASE_UNAVAILABLE = Kind(503, "The database cannot be reached", True)
    DATABASE_NEWER = Kind(500, "The database belongs to a newer Trimtab")
    MIGRATION_FAILED = Kind(500, "A migration failed; the database is unchanged")
    SEALED_BY_ANOTHER = Kind(500, "The database was sealed with another secret key")
    DATA_DIR_IN_USE = Kind(500, "The data directory is in use")
    DATA_DIR_NOT_WRITABLE = Kind(500, "The data directory cannot be written")
    PORT_IN_USE = Kind(500, "The port is taken")
    INVALID_SETTING = Kind(500, "A setting is not valid")
    START_FAILED = Kind(500, "A part could not be started")

    @property
    def text(self) -> str:
        """The code as callers see it, for example `version_not_approved`."""
        return self.name.lower()


@dataclass(eq=False)
class TrimtabError(Exception):
    """An error with a code from the registry.

    Parameters:
        code: which one.
        detail: what is wrong here and what to do about it, in plain words, safe to show.
        field: the input at fault, as a dotted path (`deployment_config.endpoint`), where one is.
        extra: further members of the problem document; JSON-serialisable.
    """

    code: Code
    detail: str
    field: str | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail
