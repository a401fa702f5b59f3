"""What the control API does for every route: errors, ids, limits, idempotency, paging, entity tags."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from fastapi import APIRouter
from tests.integration.api import Api, running_api

from trimtab.api import answers, export_openapi, idempotency
from trimtab.api.middleware import MAX_BODY
from trimtab.db.database import Database
from trimtab.db.embedded import Urls


@pytest.fixture
async def api(database: Database, tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(database, tmp_path) as running:
        yield running


@pytest.fixture
async def admin(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.client(await api.member("admin", "admin")) as client:
        yield client


def problem(answer: httpx2.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The problem document of `answer`, checked for what all have in common."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code and document["status"] == status, document
    assert document["type"] == f"urn:trimtab:problem:{code}" and document["title"] and document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document.get("field") == field, document
    assert "Traceback" not in answer.text
    return document


async def test_nobody_gets_in_without_a_key(api: Api) -> None:
    async with api.client() as client:
        answer = await client.get("/api/v1/models")
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
        problem(
            await client.get("/api/v1/models", headers={"authorization": "Bearer nonsense"}), 401, "unauthenticated"
        )
        problem(await client.get("/api/v1/models", headers={"authorization": "Basic x"}), 401, "unauthenticated")
        assert (await client.get("/api/openapi.json")).status_code == 200


async def test_keys_in_either_header(api: Api) -> None:
    key = await api.member("somebody", "viewer")
    async with api.client() as client:
        assert (await client.get("/api/v1/session", headers={"x-api-key": key})).status_code == 200
        assert (await client.get("/api/v1/session", headers={"authorization": f"bearer {key}"})).status_code == 200


async def test_a_key_for_models_only_has_no_business_here(api: Api) -> None:
    async with api.client(await api.member("app", "admin", scopes=["inference"])) as client:
        problem(await client.get("/api/v1/models"), 403, "forbidden")


async def test_the_workspace_header_must_fit(api: Api, admin: httpx2.AsyncClient) -> None:
    session = (await admin.get("/api/v1/session")).json()
    for fitting in ("default", "Default", session["workspace_id"]):
        assert (await admin.get("/api/v1/models", headers={"x-trimtab-workspace": fitting})).status_code == 200
    answer = await admin.get("/api/v1/models", headers={"x-trimtab-workspace": "other"})
    problem(answer, 403, "forbidden", "x-trimtab-workspace")


async def test_request_ids(admin: httpx2.AsyncClient) -> None:
    given = await admin.get("/api/v1/models", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    made = await admin.get("/api/v1/models")
    assert made.headers["x-request-id"] not in ("", "mine-1")
    unfit = await admin.get("/api/v1/models", headers={"x-request-id": "x" * 200})
    assert len(unfit.headers["x-request-id"]) == 36
    document = problem(await admin.get("/api/v1/nowhere", headers={"x-request-id": "mine-2"}), 404, "not_found")
    assert document["request_id"] == "mine-2"


async def test_unknown_routes_and_methods(admin: httpx2.AsyncClient) -> None:
    assert "/api/v1/nowhere" in problem(await admin.get("/api/v1/nowhere"), 404, "not_found")["detail"]
    problem(await admin.get("/api/v1/models/"), 404, "not_found")
    answer = await admin.put("/api/v1/models", json={})
    problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


@pytest.mark.parametrize("content", [b"{", b"{'a': 1}", b"\xff\xfe", b"[1,]", b"nul"])
async def test_bodies_that_are_no_json(admin: httpx2.AsyncClient, content: bytes) -> None:
    answer = await admin.post("/api/v1/models", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["code"] in ("invalid_json", "invalid_request")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_bodies_of_another_kind(admin: httpx2.AsyncClient) -> None:
    answer = await admin.post("/api/v1/models", content=b"name=a", headers={"content-type": "text/plain"})
    assert "application/json" in problem(answer, 422, "invalid_request")["detail"]
    assert "body" in problem(await admin.post("/api/v1/models"), 422, "invalid_request")["detail"]
    problem(await admin.post("/api/v1/models", json=[1]), 422, "invalid_request")


async def test_each_bad_field_is_named(admin: httpx2.AsyncClient) -> None:
    one = problem(await admin.post("/api/v1/models", json={"provider": "x"}), 422, "invalid_request", "name")
    assert one["errors"] == [{"field": "name", "detail": "This field is required; give it."}]
    several = problem(
        await admin.post("/api/v1/models", json={"name": "a/b", "provider": 1, "colour": "red"}),
        422,
        "invalid_request",
        "name",
    )
    assert [line["field"] for line in several["errors"]] == ["name", "provider", "colour"]
    assert "`name`: A name is made of" in several["detail"]
    assert "`provider`: Input should be a valid string" in several["detail"]
    assert "`colour`: Unknown field" in several["detail"]
    problem(await admin.get("/api/v1/models?limit=1000"), 422, "invalid_request", "limit")
    problem(await admin.get("/api/v1/models?cursor=nonsense"), 422, "invalid_request", "cursor")
    problem(await admin.get("/api/v1/lifecycles/no-uuid"), 422, "invalid_request", "lifecycle_id")


async def test_values_that_cannot_be_stored(admin: httpx2.AsyncClient) -> None:
    problem(await admin.post("/api/v1/models", json={"name": "a", "provider": "x\x00"}), 422, "invalid_request")
    weird = b'{"name": "a", "provider": "x", "tags": {"a": "\\ud800"}}'
    answer = await admin.post("/api/v1/models", content=weird, headers={"content-type": "application/json"})
    problem(answer, 422, "invalid_request", answer.json().get("field"))
    assert (await admin.get("/api/v1/models")).json()["items"] == []


async def test_large_bodies(admin: httpx2.AsyncClient) -> None:
    problem(await admin.post("/api/v1/models", content=b" " * (50 << 20)), 413, "body_too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // (1 << 20) + 1):
            yield b" " * (1 << 20)

    answer = await admin.post("/api/v1/models", content=chunks(), headers={"content-type": "application/json"})
    problem(answer, 413, "body_too_large")


async def test_what_nobody_foresaw_leaks_nothing(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    router = APIRouter()

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    api.app.include_router(router)
    async with api.client() as client:
        answer = await client.get("/broken", headers={"x-request-id": "find-me"})
    problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert "find-me" in caplog.text and "hunter2" in caplog.text


async def test_without_a_database(api: Api, tmp_path: Path) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", timeout=0.5)
    await database.open()
    try:
        async with running_api(database, tmp_path) as running, running.client("tt_any") as client:
            answer = await client.get("/api/v1/models")
            assert problem(answer, 503, "database_unavailable")["retryable"] is True
            assert answer.headers["retry-after"]
            answer = await client.post(
                "/api/v1/models", json={"name": "a", "provider": "x"}, headers={"idempotency-key": "k"}
            )
            problem(answer, 503, "database_unavailable")
    finally:
        await database.close()


async def test_pages(admin: httpx2.AsyncClient) -> None:
    for number in range(5):
        assert (await admin.post("/api/v1/models", json={"name": f"m{number}", "provider": "x"})).status_code == 201
    names: list[str] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = (await admin.get("/api/v1/models", params=params)).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if len(names) == 2:  # one that comes meanwhile is newer than the page, so it shifts nothing
            await admin.post("/api/v1/models", json={"name": "late", "provider": "x"})
        if cursor is None:
            break
    assert names == ["m4", "m3", "m2", "m1", "m0"]


async def test_entity_tags(admin: httpx2.AsyncClient) -> None:
    made = await admin.post("/api/v1/models", json={"name": "bot", "provider": "x"})
    assert made.headers["etag"] == '"1"'
    changed = await admin.patch("/api/v1/models/bot", json={"description": "a"}, headers={"if-match": '"1"'})
    assert changed.status_code == 200 and changed.headers["etag"] == '"2"'
    late = await admin.patch("/api/v1/models/bot", json={"description": "b"}, headers={"if-match": '"1"'})
    assert problem(late, 412, "stale_version")["version"] == 2
    assert (await admin.get("/api/v1/models/bot")).json()["description"] == "a"
    weak = await admin.patch("/api/v1/models/bot", json={"description": "c"}, headers={"if-match": 'W/"2"'})
    assert weak.status_code == 200
    problem(
        await admin.patch("/api/v1/models/bot", json={}, headers={"if-match": "x"}), 422, "invalid_request", "if-match"
    )
    problem(await admin.delete("/api/v1/models/bot", headers={"if-match": '"1"'}), 412, "stale_version")
    assert (await admin.delete("/api/v1/models/bot", headers={"if-match": '"3"'})).status_code == 204


# --- idempotency ------------------------------------------------------------------------------------------------------

KEY = {"idempotency-key": "the-key"}
BODY = {"name": "bot", "provider": "x"}


async def names(client: httpx2.AsyncClient) -> list[str]:
    return [item["name"] for item in (await client.get("/api/v1/models")).json()["items"]]


async def test_a_repeated_post_is_done_once(api: Api, admin: httpx2.AsyncClient) -> None:
    first = await admin.post("/api/v1/models", json=BODY, headers=KEY)
    again = await admin.post("/api/v1/models", json=BODY, headers=KEY)
    assert first.status_code == again.status_code == 201 and first.content == again.content
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"] and again.headers["content-type"] == "application/json"
    assert await names(admin) == ["bot"]
    for other in ({**BODY, "name": "other"}, {"name": "x"}):
        answer = await admin.post("/api/v1/models", json=other, headers=KEY)
        assert answer.json()["code"] in ("idempotency_mismatch", "invalid_request")
    answer = await admin.post("/api/v1/models/register", json=BODY, headers=KEY)
    assert answer.status_code == 422
    async with api.client(await api.member("another", "admin")) as another:
        problem(await another.post("/api/v1/models", json=BODY, headers=KEY), 409, "already_exists", "name")


async def test_at_the_same_moment(admin: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(admin.post("/api/v1/models", json=BODY, headers=KEY) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201} and len({answer.content for answer in answers}) == 1
    assert sorted("idempotent-replayed" in answer.headers for answer in answers) == [False, True, True, True, True]
    assert await names(admin) == ["bot"]


async def test_a_failed_first_attempt_may_be_repeated(admin: httpx2.AsyncClient) -> None:
    await admin.post("/api/v1/models", json=BODY)
    problem(await admin.post("/api/v1/models", json=BODY, headers=KEY), 409, "already_exists", "name")
    assert (await admin.delete("/api/v1/models/bot")).status_code == 204
    again = await admin.post("/api/v1/models", json=BODY, headers=KEY)
    assert again.status_code == 201 and "idempotent-replayed" not in again.headers


async def test_one_that_takes_long(
    admin: httpx2.AsyncClient, database_urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT", "50ms")
    session = (await admin.get("/api/v1/session")).json()
    async with await psycopg.AsyncConnection.connect(database_urls.owner) as running:
        await running.execute(
            "insert into trimtab.idempotency_keys (workspace_id, member_id, key, request_hash) values (%s, %s, %s, %s)",
            (session["workspace_id"], session["member_id"], KEY["idempotency-key"], "x"),
        )
        answer = await admin.post("/api/v1/models", json=BODY, headers=KEY)
        assert problem(answer, 409, "in_progress")["retryable"] is True
        await running.rollback()
    assert (await admin.post("/api/v1/models", json=BODY, headers=KEY)).status_code == 201


async def test_an_answer_that_cannot_be_kept_undoes_the_change(
    admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(answers, "KEEP", "select 1 / 0")
        answer = await admin.post("/api/v1/models", json=BODY, headers=KEY)
        assert answer.status_code >= 400 and answer.headers["content-type"] == "application/problem+json"
    assert await names(admin) == []
    assert (await admin.post("/api/v1/models", json=BODY, headers=KEY)).status_code == 201


@pytest.mark.parametrize("key", ["x" * 256, ""])
async def test_keys_that_are_none(admin: httpx2.AsyncClient, key: str) -> None:
    answer = await admin.post("/api/v1/models", json=BODY, headers={"idempotency-key": key})
    problem(answer, 422, "invalid_request", "idempotency-key")


async def test_kept_answers_are_sealed(admin: httpx2.AsyncClient, database_urls: Urls) -> None:
    made = await admin.post("/api/v1/api-keys", json={"name": "ci"}, headers=KEY)
    again = await admin.post("/api/v1/api-keys", json={"name": "ci"}, headers=KEY)
    key = made.json()["key"]
    assert again.json()["key"] == key
    with psycopg.connect(database_urls.owner) as owner:
        for (row,) in owner.execute("select to_jsonb(k)::text from trimtab.idempotency_keys k").fetchall():
            assert key not in row and key.encode().hex() not in row
        for table in ("trimtab.audit_log", "trimtab.events", "trimtab.api_keys", "trimtab.routing_entries"):
            rows = owner.execute(f"select to_jsonb(t)::text from {table} t").fetchall()  # type: ignore[arg-type]
            assert not any(key in row for (row,) in rows), table


async def test_answers_are_forgotten_after_a_day(api: Api, admin: httpx2.AsyncClient) -> None:
    await admin.post("/api/v1/models", json=BODY, headers=KEY)
    database, now = api.services.database, api.services.clock()
    assert await answers.forget_old(database, lambda: now) == 0
    assert await answers.forget_old(database, lambda: now + timedelta(hours=25)) == 1
    problem(await admin.post("/api/v1/models", json=BODY, headers=KEY), 409, "already_exists", "name")


async def test_openapi_is_what_is_exported(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_openapi.main() == 0
    async with api.client() as client:
        assert (await client.get("/api/openapi.json")).json() == json.loads(capsys.readouterr().out)
