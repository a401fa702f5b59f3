"""Errors as users of the control API see them: problem+json (RFC 9457), and nothing else, whatever went wrong."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg import errors as pg
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Scope

from trimtab.errors import Code, TrimtabError

log = logging.getLogger(__name__)

SAID = 5
"""How many fields at fault a detail tells of; the member `errors` has all."""

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "trimtab.request_id"
"""Where the ASGI scope keeps the id of its request."""


class FieldProblem(BaseModel):
    """One field that is not valid."""

    field: str | None
    detail: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    errors: list[FieldProblem] | None = None
    retryable: bool = False
    request_id: str | None = None


def problem_response(error: TrimtabError, scope: Scope, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer for `error`."""
    kind = error.code.value
    document: dict[str, Any] = {
        **error.extra,
        "type": f"urn:trimtab:problem:{error.code.text}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail,
        "code": error.code.text,
        "retryable": kind.retryable,
        "request_id": scope.get(REQUEST_ID),
    }
    if error.field is not None:
        document["field"] = error.field
    sent = dict(headers or {})
    if error.code is Code.UNAUTHENTICATED:
        sent["www-authenticate"] = "Bearer"
    if error.code is Code.DATABASE_UNAVAILABLE:
        sent["retry-after"] = "1"
    return JSONResponse(document, kind.status, sent, MEDIA_TYPE)


def of_database(error: psycopg.Error) -> TrimtabError:
    """The error that a refusal by the database amounts to; what is not foreseen is INTERNAL, and logged."""
    constraint = error.diag.constraint_name
    if isinstance(error, pg.InsufficientPrivilege):
        return TrimtabError(Code.FORBIDDEN, "Your role may not do this here.")
    if isinstance(error, pg.UniqueViolation):
        return TrimtabError(
            Code.ALREADY_EXISTS, f"Something of that name or kind is there already ({constraint}); choose another."
        )
    if isinstance(error, pg.ObjectInUse):
        return TrimtabError(
            Code.VERSION_IMMUTABLE, "A version that was once approved stays as it was; create a new version instead."
        )
    if isinstance(error, pg.ForeignKeyViolation):
        return TrimtabError(
            Code.CONFLICT,
            f"This refers to something that is not there, or something else still refers to it ({constraint}).",
        )
    if isinstance(error, pg.CheckViolation):
        return TrimtabError(Code.INVALID_REQUEST, f"The database refuses a value ({constraint}); correct it.")
    if isinstance(error, psycopg.DataError):
        return TrimtabError(
            Code.INVALID_REQUEST, "A value cannot be stored; look for null characters, NaN or numbers out of range."
        )
    if isinstance(error, pg.LockNotAvailable | pg.DeadlockDetected | pg.SerializationFailure):
        return TrimtabError(Code.CONFLICT, "Another change of the same thing is under way; try again.")
    if isinstance(error, psycopg.OperationalError):
        return TrimtabError(Code.DATABASE_UNAVAILABLE, "The database cannot answer now; try again in a moment.")
    return internal(error)


def internal(error: BaseException, request_id: str | None = None) -> TrimtabError:
    """INTERNAL for an error nobody foresaw; its story goes to the log, not to the user."""
    log.error("request %s failed", request_id or "-", exc_info=error)
    return TrimtabError(Code.INTERNAL, "Something failed inside Trimtab; the log has more under this request's id.")


def of_validation(problems: Sequence[Any], media_type: str = "application/json") -> TrimtabError:
    """One error for all that is not valid in a request, each field named.

    Parameters:
        problems: as `RequestValidationError.errors()` gives them.
        media_type: the request's, to tell a body of another kind from a wrong one.
    """
    if any(problem["type"] == "json_invalid" for problem in problems):
        detail = next(p.get("ctx", {}).get("error") or p["msg"] for p in problems if p["type"] == "json_invalid")
        return TrimtabError(Code.INVALID_JSON, f"The body cannot be read as JSON: {detail}.", "body")
    found = [_field_problem(problem, media_type) for problem in problems]
    listed = [entry.model_dump() for entry in found]
    first = found[0]
    if len(found) == 1:
        said = f"`{first.field}`: {first.detail}" if first.field else first.detail
        return TrimtabError(Code.INVALID_REQUEST, said, first.field, {"errors": listed})
    said = "; ".join(f"`{entry.field}`: {entry.detail}" if entry.field else entry.detail for entry in found[:SAID])
    more = f" ({len(found) - SAID} more in `errors`)" if len(found) > SAID else ""
    return TrimtabError(
        Code.INVALID_REQUEST,
        f"{len(found)} fields are not valid: {said}{more}",
        first.field,
        {"errors": listed},
    )


def _field_problem(problem: Any, media_type: str) -> FieldProblem:
    location = [str(part) for part in problem["loc"]]
    where, rest = (location[0], location[1:]) if location else ("", [])
    message = str(problem["msg"]).removeprefix("Value error, ")
    message = message[:1].upper() + message[1:]
    if where == "body" and not rest:
        if "json" not in media_type:
            message = "Send the body as JSON, with `Content-Type: application/json`."
        elif problem["type"] == "missing":
            message = "The request needs a JSON body."
        return FieldProblem(field=None, detail=message)
    if problem["type"] == "missing":
        message = "This field is required; give it."
    return FieldProblem(field=".".join(rest) or where, detail=message)


def _of_http(error: HTTPException, scope: Scope) -> TrimtabError:
    path, method = scope.get("path"), scope.get("method")
    if error.status_code == 404:
        return TrimtabError(Code.NOT_FOUND, f"There is nothing at {path}; /api/openapi.json lists what there is.")
    if error.status_code == 405:
        return TrimtabError(Code.METHOD_NOT_ALLOWED, f"{path} knows no {method}; /api/openapi.json says what it does.")
    if error.status_code == 413:
        return TrimtabError(Code.BODY_TOO_LARGE, str(error.detail))
    if error.status_code < 500:
        return TrimtabError(Code.INVALID_REQUEST, str(error.detail))
    return internal(error, scope.get(REQUEST_ID))


def install(app: FastAPI) -> None:
    """Make `app` answer every error as a problem document."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, TrimtabError)
        if error.code is Code.INTERNAL:
            internal(error, request.scope.get(REQUEST_ID))
        return problem_response(error, request.scope)

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        media_type = request.headers.get("content-type", "")
        return problem_response(of_validation(error.errors(), media_type), request.scope)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        allow = (error.headers or {}).get("Allow")
        return problem_response(_of_http(error, request.scope), request.scope, {"allow": allow} if allow else None)

    async def database(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, psycopg.Error)
        return problem_response(of_database(error), request.scope)

    app.add_exception_handler(TrimtabError, known)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(psycopg.Error, database)
