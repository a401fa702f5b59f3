"""Paging, entity tags and problem documents, apart from any server."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.api.app import create_app
from trimtab.api.paging import Slice, decode_cursor, encode_cursor
from trimtab.api.problems import of_database, of_validation
from trimtab.api.versions import check_version, wanted_version
from trimtab.errors import Code, TrimtabError


@given(st.uuids())
def test_cursors_come_back(identifier: UUID) -> None:
    assert decode_cursor(encode_cursor(identifier)) == identifier


@given(st.text(max_size=40))
def test_other_cursors_are_refused(text: str) -> None:
    try:
        assert isinstance(decode_cursor(text), UUID)
    except TrimtabError as error:
        assert (error.code, error.field) == (Code.INVALID_REQUEST, "cursor")


def test_pages() -> None:
    ids = [uuid4() for _ in range(5)]
    page = Slice(limit=4).page(ids, str, lambda row: row)
    assert page.items == [str(identifier) for identifier in ids[:4]]
    assert page.next_cursor is not None and decode_cursor(page.next_cursor) == ids[3]
    assert Slice(limit=5).page(ids, str, lambda row: row).next_cursor is None
    assert Slice(limit=5).page([], str, lambda row: row).items == []


@pytest.mark.parametrize(
    ("header", "version"), [(None, None), ("*", None), ('"3"', 3), ('W/"12"', 12), ("7", 7), (' "1" ', 1)]
)
def test_entity_tags(header: str | None, version: int | None) -> None:
    assert wanted_version(header) == version


@pytest.mark.parametrize("header", ["", "abc", '"1", "2"', '"x"', "-1", '"99999999999"'])
def test_no_entity_tags(header: str) -> None:
    with pytest.raises(TrimtabError) as caught:
        wanted_version(header)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_REQUEST, "if-match")


def test_stale() -> None:
    check_version(None, 3)
    check_version(3, 3)
    with pytest.raises(TrimtabError) as caught:
        check_version(2, 3)
    assert caught.value.code is Code.STALE_VERSION and caught.value.extra == {"version": 3}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.errors.InsufficientPrivilege(), Code.FORBIDDEN),
        (psycopg.errors.UniqueViolation(), Code.ALREADY_EXISTS),
        (psycopg.errors.ObjectInUse(), Code.VERSION_IMMUTABLE),
        (psycopg.errors.ForeignKeyViolation(), Code.CONFLICT),
        (psycopg.errors.CheckViolation(), Code.INVALID_REQUEST),
        (psycopg.errors.UntranslatableCharacter(), Code.INVALID_REQUEST),
        (psycopg.errors.SerializationFailure(), Code.CONFLICT),
        (psycopg.OperationalError("gone"), Code.DATABASE_UNAVAILABLE),
        (psycopg.errors.SyntaxError("select secret"), Code.INTERNAL),
    ],
)
def test_refusals_of_the_database(error: psycopg.Error, code: Code) -> None:
    told = of_database(error)
    assert told.code is code and "secret" not in told.detail


def test_wrong_kind_of_body() -> None:
    lines: list[Any] = [{"type": "model_attributes_type", "loc": ("body",), "msg": "Input should be a dictionary"}]
    assert "Content-Type: application/json" in of_validation(lines, "text/plain").detail
    assert "dictionary" in of_validation(lines, "application/json").detail


def test_openapi_is_whole() -> None:
    document = create_app(None).openapi()
    operations = [
        (path, method, operation) for path, entry in document["paths"].items() for method, operation in entry.items()
    ]
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(names) == len(set(names)) > 20
    for path, method, operation in operations:
        assert path.startswith("/api/v1/") and operation["tags"] and operation["summary"], path
        assert operation["security"] == [{"api_key": []}], path
        assert "application/problem+json" in operation["responses"]["default"]["content"], path
        good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        assert good and all("schema" in kind for answer in good for kind in answer.get("content", {}).values())
        has_key = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
        assert has_key == (method == "post"), path
    assert create_app(None).openapi() == document
