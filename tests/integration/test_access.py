"""The first admin key, API keys, the workspace, the audit log and credentials, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import psycopg
import pytest
from tests.integration.api import Api, running_api

from trimtab.access.bootstrap import ensure_admin_key
from trimtab.access.keys import digest
from trimtab.db.database import Database
from trimtab.db.embedded import Urls
from trimtab.errors import Code, TrimtabError
from trimtab.routing.records import ApiKeyEntry


@pytest.fixture
async def api(database: Database, tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(database, tmp_path) as running:
        yield running


@pytest.fixture
async def admin(api: Api, database_urls: Urls) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.client(await asyncio.to_thread(first_key, database_urls)) as client:
        yield client


def first_key(urls: Urls) -> str:
    key = ensure_admin_key(urls.app, None)
    assert key is not None
    return key


def rows(urls: Urls, query: str, *values: Any) -> list[Any]:
    with psycopg.connect(urls.owner) as owner:
        return owner.execute(query, values).fetchall()  # type: ignore[arg-type]


def entry_of(urls: Urls, key: str) -> ApiKeyEntry | None:
    """What gateways are told of `key`."""
    found = rows(
        urls, "select body::text from trimtab.routing_entries where kind = 'api_key' and key = %s", digest(key)
    )
    return None if not found or found[0][0] is None else msgspec.json.decode(found[0][0], type=ApiKeyEntry)


async def done(answer: Any, status: int = 200) -> dict[str, Any]:
    got = await answer
    assert got.status_code == status, got.text
    document: dict[str, Any] = {} if status == 204 else got.json()
    return document


async def refused(answer: Any, code: Code, field: str | None = None) -> dict[str, Any]:
    got = await answer
    document: dict[str, Any] = got.json()
    assert (got.status_code, document["code"]) == (code.value.status, code.text), got.text
    assert document.get("field") == field, document
    return document


# --- the first admin key ----------------------------------------------------------------------------------------------


def test_the_first_key_is_made_up_once(database_urls: Urls) -> None:
    key = first_key(database_urls)
    assert key.startswith("tt_") and len(key) == 46
    assert ensure_admin_key(database_urls.app, None) is None
    assert rows(database_urls, "select name, settings from trimtab.workspaces") == [("default", {})]
    assert rows(database_urls, "select name, role from trimtab.members") == [("admin", "admin")]
    assert rows(database_urls, "select key_hash, role from trimtab.api_keys") == [(digest(key), "admin")]
    assert key not in str(rows(database_urls, "select * from trimtab.api_keys"))
    entry = entry_of(database_urls, key)
    assert entry is not None and (entry.member_name, entry.role) == ("admin", "admin")
    assert entry.scopes == ("control", "inference")
    audited = rows(database_urls, "select action, actor_name from trimtab.audit_log order by id")
    assert audited == [("workspace.create", "trimtab"), ("member.create", "trimtab"), ("api_key.create", "trimtab")]


def test_a_given_key_is_added(database_urls: Urls) -> None:
    first = first_key(database_urls)
    for _ in range(2):
        assert ensure_admin_key(database_urls.app, "a key of my own choosing") is None
    assert len(rows(database_urls, "select 1 from trimtab.api_keys where revoked_at is null")) == 2
    assert entry_of(database_urls, first) is not None
    assert entry_of(database_urls, "a key of my own choosing") is not None
    assert ensure_admin_key(database_urls.app, None) is None


def test_a_revoked_key_stays_revoked(database_urls: Urls, caplog: pytest.LogCaptureFixture) -> None:
    given = "a key of my own choosing"
    assert ensure_admin_key(database_urls.app, given) is None
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("update trimtab.api_keys set revoked_at = now()")
    assert ensure_admin_key(database_urls.app, given) is None
    assert "revoked" in caplog.text and given not in caplog.text
    assert rows(database_urls, "select 1 from trimtab.api_keys where revoked_at is null") == []
    assert ensure_admin_key(database_urls.app, None) is not None


def test_programs_that_start_at_once_make_one_key(database_urls: Urls) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: ensure_admin_key(database_urls.app, None), range(4)))
    assert len([key for key in keys if key is not None]) == 1
    assert len(rows(database_urls, "select 1 from trimtab.api_keys")) == 1


def test_without_a_database_it_says_so() -> None:
    with pytest.raises(TrimtabError) as caught:
        ensure_admin_key("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1", "k" * 20)
    assert caught.value.code is Code.DATABASE_UNAVAILABLE


# --- API keys ---------------------------------------------------------------------------------------------------------


async def test_a_key_works_from_its_making_to_its_revocation(
    api: Api, admin: httpx2.AsyncClient, database_urls: Urls
) -> None:
    made = await done(admin.post("/api/v1/api-keys", json={"name": "CI", "role": "operator"}), 201)
    key = made["key"]
    assert key.startswith("tt_") and made["hint"] == f"tt_...{key[-4:]}" and made["member_name"] == "CI"
    entry = entry_of(database_urls, key)
    assert entry is not None and (entry.id, entry.role, entry.member_name) == (made["id"], "operator", "CI")
    async with api.client(key) as client:
        session = await done(client.get("/api/v1/session"))
        assert (session["member_name"], session["role"], session["key_id"]) == ("CI", "operator", made["id"])
        assert (session["workspace_name"], session["scopes"]) == ("default", ["control", "inference"])
        await refused(client.post("/api/v1/api-keys", json={"name": "more"}), Code.FORBIDDEN)
        await refused(client.get("/api/v1/api-keys"), Code.FORBIDDEN)
        listed = (await done(admin.get("/api/v1/api-keys")))["items"]
        assert [item["name"] for item in listed] == ["CI", "admin"] and not any("key" in item for item in listed)
        revoked = await done(admin.post(f"/api/v1/api-keys/{made['id']}/revoke"))
        assert revoked["revoked_at"] is not None
        await refused(client.get("/api/v1/session"), Code.UNAUTHENTICATED)
    assert entry_of(database_urls, key) is None
    assert await done(admin.post(f"/api/v1/api-keys/{made['id']}/revoke")) == revoked
    await done(admin.delete(f"/api/v1/api-keys/{made['id']}"), 204)
    assert (await done(admin.get(f"/api/v1/api-keys/{made['id']}")))["revoked_at"] == revoked["revoked_at"]
    revisions = rows(database_urls, "select revision from trimtab.routing_revisions order by revision")
    assert [revision for (revision,) in revisions] == [1, 2, 3]
    actions = [line["action"] for line in (await done(admin.get("/api/v1/audit-log?object_type=api_key")))["items"]]
    assert actions == ["api_key.revoke", "api_key.create", "api_key.create"]


async def test_keys_of_members(api: Api, admin: httpx2.AsyncClient, database_urls: Urls) -> None:
    await done(admin.post("/api/v1/api-keys", json={"name": "first", "member": "Carol", "role": "operator"}), 201)
    second = await done(
        admin.post("/api/v1/api-keys", json={"name": "second", "member": "carol", "role": "admin"}), 201
    )
    assert second["member_name"] == "Carol"
    async with api.client(second["key"]) as client:
        assert (await done(client.get("/api/v1/session")))["role"] == "operator"  # the lesser of member's and key's
    entry = entry_of(database_urls, second["key"])
    assert entry is not None and entry.role == "operator"
    taken = await refused(admin.post("/api/v1/api-keys", json={"name": "CAROL"}), Code.ALREADY_EXISTS, "name")
    assert "`member`" in taken["detail"]
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("update trimtab.members set deactivated_at = now() where name = 'Carol'")
    async with api.client(second["key"]) as client:
        await refused(client.get("/api/v1/session"), Code.UNAUTHENTICATED)
    body = {"name": "third", "member": "Carol"}
    await refused(admin.post("/api/v1/api-keys", json=body), Code.CONFLICT, "member")


async def test_keys_with_an_end_and_a_purpose(api: Api, admin: httpx2.AsyncClient, database_urls: Urls) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    body = {"name": "app", "scopes": ["inference"], "expires_at": end.isoformat()}
    made = await done(admin.post("/api/v1/api-keys", json=body), 201)
    entry = entry_of(database_urls, made["key"])
    assert entry is not None and entry.scopes == ("inference",)
    assert entry.expires_at == pytest.approx(end.timestamp(), abs=0.001)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("update trimtab.api_keys set scopes = '{control}', expires_at = now() where name = 'app'")
    async with api.client(made["key"]) as client:
        await refused(client.get("/api/v1/session"), Code.UNAUTHENTICATED)
    past = {"name": "late", "expires_at": "2020-01-01T00:00:00Z"}
    await refused(admin.post("/api/v1/api-keys", json=past), Code.INVALID_REQUEST, "expires_at")
    await refused(admin.post("/api/v1/api-keys", json={"name": "x", "scopes": []}), Code.INVALID_REQUEST, "scopes")
    await refused(admin.post("/api/v1/api-keys", json={"name": "x", "role": "system"}), Code.INVALID_REQUEST, "role")
    await refused(admin.post("/api/v1/api-keys", json={"name": "a@b"}), Code.INVALID_REQUEST, "name")


async def test_nobody_locks_everybody_out(api: Api, admin: httpx2.AsyncClient) -> None:
    own = (await done(admin.get("/api/v1/session")))["key_id"]
    await refused(admin.delete(f"/api/v1/api-keys/{own}"), Code.CONFLICT)
    another = await done(admin.post("/api/v1/api-keys", json={"name": "second", "role": "admin"}), 201)
    await done(admin.delete(f"/api/v1/api-keys/{own}"), 204)
    async with api.client(another["key"]) as client:
        await refused(client.delete(f"/api/v1/api-keys/{another['id']}"), Code.CONFLICT)


async def test_keys_of_another_workspace_are_not_there(api: Api, admin: httpx2.AsyncClient) -> None:
    own = (await done(admin.get("/api/v1/session")))["key_id"]
    async with api.client(await api.member("Mallory", "admin", workspace="other")) as stranger:
        await refused(stranger.get(f"/api/v1/api-keys/{own}"), Code.NOT_FOUND)
        await refused(stranger.delete(f"/api/v1/api-keys/{own}"), Code.NOT_FOUND)
        assert [item["name"] for item in (await done(stranger.get("/api/v1/api-keys")))["items"]] == ["Mallory"]


# --- workspace, audit log, credentials --------------------------------------------------------------------------------


async def test_workspaces(api: Api, admin: httpx2.AsyncClient) -> None:
    other = await api.member("Mallory", "admin", workspace="other")
    listed = (await done(admin.get("/api/v1/workspaces")))["items"]
    assert [item["name"] for item in listed] == ["default"]
    assert listed[0]["settings"] == {"four_eyes": False, "stage_order": False}
    path = f"/api/v1/workspaces/{listed[0]['id']}"
    changed = await done(admin.patch(path, json={"settings": {"four_eyes": True}}))
    assert changed["settings"] == {"four_eyes": True, "stage_order": False}
    changed = await done(admin.patch(path, json={"name": "Team", "settings": {"stage_order": True}}))
    assert (changed["name"], changed["settings"]) == ("Team", {"four_eyes": True, "stage_order": True})
    assert await done(admin.patch(path, json={})) == changed
    await refused(admin.patch(path, json={"name": "OTHER"}), Code.ALREADY_EXISTS, "name")
    wrong = {"settings": {"four_eye": True}}
    unknown = await refused(admin.patch(path, json=wrong), Code.INVALID_REQUEST, "settings.four_eye")
    assert "`four_eyes`" in unknown["detail"]
    async with api.client(other) as stranger:
        await refused(stranger.get(path), Code.NOT_FOUND)
        await refused(stranger.patch(path, json={"name": "mine"}), Code.NOT_FOUND)
    async with api.client(await api.member("Olga", "operator", workspace="Team")) as operator:
        await refused(operator.patch(path, json={"name": "mine"}), Code.FORBIDDEN)
    audit = (await done(admin.get("/api/v1/audit-log?action=workspace.update")))["items"]
    assert len(audit) == 2 and audit[0]["details"]["after"]["name"] == "Team"


async def test_the_audit_log_is_found_by_what_is_known(api: Api, admin: httpx2.AsyncClient) -> None:
    async with api.client(await api.member("Olga", "operator")) as operator:
        for name in ("one", "two"):
            headers = {"x-request-id": f"request-{name}"}
            await done(operator.post("/api/v1/models", json={"name": name, "provider": "x"}, headers=headers), 201)
        session = await done(operator.get("/api/v1/session"))

    async def found(**filters: str) -> list[str]:
        items = (await done(admin.get("/api/v1/audit-log", params=filters)))["items"]
        return [item["details"].get("name") for item in items]

    assert await found(actor="olga") == ["two", "one"]
    assert await found(actor=session["member_id"], action="model.create") == ["two", "one"]
    assert await found(object_type="model", limit="1") == ["two"]
    items = (await done(admin.get("/api/v1/audit-log?actor=Olga")))["items"]
    assert [item["request_id"] for item in items] == ["request-two", "request-one"]
    assert await found(object_id=items[1]["object_id"]) == ["one"]
    assert await found(actor="Olga", start=items[0]["at"]) == ["two"]
    assert await found(actor="Olga", end=items[0]["at"]) == ["one"]
    await refused(admin.get("/api/v1/audit-log?start=2030-01-01T00:00:00"), Code.INVALID_REQUEST, "start")
    async with api.client(await api.member("Eve", "viewer")) as viewer:
        await refused(viewer.get("/api/v1/audit-log"), Code.FORBIDDEN)


async def test_credentials_of_providers(api: Api, admin: httpx2.AsyncClient, database_urls: Urls) -> None:
    secret = "sk-proj-0123456789abcdef"
    body = {"name": "OpenAI", "provider": "openai", "credential": secret}
    made = await done(admin.post("/api/v1/providers", json=body), 201)
    assert made["hint"] == "...cdef" and "credential" not in made
    await refused(admin.post("/api/v1/providers", json={**body, "name": "openai"}), Code.ALREADY_EXISTS, "name")
    short = await done(admin.post("/api/v1/providers", json={**body, "name": "short", "credential": "abcd"}), 201)
    assert short["hint"] == "..."
    listed = await admin.get("/api/v1/providers")
    assert [item["name"] for item in listed.json()["items"]] == ["short", "OpenAI"] and secret not in listed.text
    sealed = rows(database_urls, "select sealed from trimtab.provider_credentials where name = 'OpenAI'")[0][0]
    assert api.services.sealer.unseal(bytes(sealed)).decode() == secret
    registration = {
        "name": "bot",
        "endpoint": "http://127.0.0.1:9000/v1",
        "provider": "openai",
        "version": "v1",
        "credential": {"id": made["id"]},
    }
    await done(admin.post("/api/v1/models/register", json=registration), 201)
    await refused(admin.delete(f"/api/v1/providers/{made['id']}"), Code.CONFLICT)
    await done(admin.delete("/api/v1/models/bot"), 204)
    await done(admin.delete(f"/api/v1/providers/{made['id']}"), 204)
    await refused(admin.delete(f"/api/v1/providers/{made['id']}"), Code.NOT_FOUND)
    async with api.client(await api.member("Eve", "viewer")) as viewer:
        await refused(viewer.get("/api/v1/providers"), Code.FORBIDDEN)
        await refused(viewer.post("/api/v1/providers", json=body), Code.FORBIDDEN)
    audited = await admin.get("/api/v1/audit-log?object_type=provider")
    assert [line["action"] for line in audited.json()["items"]] == [
        "provider.delete",
        "provider.create",
        "provider.create",
    ]
    assert secret not in audited.text
