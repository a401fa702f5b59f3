"""A credential on its whole way: from the registration, through deployment and gateway, to the model server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psycopg
import pytest
from aiohttp import web
from tests.integration.deploying import background, eventually, make_runner, make_world
from tests.mock_upstream import COMPLETION
from tests.running_gateway import SECRET, running_gateway

from trimtab.access import keys
from trimtab.db.database import Database
from trimtab.db.embedded import Urls
from trimtab.sealing import Sealer

CREDENTIAL = "sk-the-provider-must-see-this-and-nobody-else"
FORMS = (
    CREDENTIAL.encode(),
    CREDENTIAL.encode().hex().encode(),
    # The middle of it in base64, whatever stands before and after.
    *(base64.b64encode(b"-" * shift + CREDENTIAL.encode())[4:-4] for shift in range(3)),
)


def has_secret(content: str | bytes) -> bool:
    raw = content.encode() if isinstance(content, str) else content
    return any(form in raw for form in FORMS)


@pytest.fixture
async def provider() -> AsyncIterator[tuple[str, list[tuple[str, str | None]]]]:
    """A model server that wants a key as providers do: its base URL, and of each request the path and the key."""
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("authorization")))
        if seen[-1][1] != f"Bearer {CREDENTIAL}":
            return web.json_response({"error": {"message": "no key"}}, status=401)
        return web.json_response(COMPLETION)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", seen
    finally:
        await runner.cleanup()


async def test_the_provider_gets_the_credential_and_nobody_else_sees_it(
    provider: tuple[str, list[tuple[str, str | None]]],
    database: Database,
    database_urls: Urls,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    url, seen = provider
    answers: list[str] = []
    async with (
        make_world(database, tmp_path, Sealer(SECRET)) as world,
        make_runner(world) as runner,
        background(world, runner),
        running_gateway(tmp_path, database_urls.app) as gateway,
    ):
        key = await world.api.member("caller", "operator", scopes=keys.SCOPES)
        headers = {"authorization": f"Bearer {key}"}
        config = {"endpoint": url, "upstream_model": "big", "credential": CREDENTIAL}
        version = await world.version("v1", config)
        one = await world.until(await world.deploy(version), "healthy", phase="succeeded")
        answers += [json.dumps(version), json.dumps(one)]

        async def answered() -> aiohttp.ClientResponse | None:
            response = await gateway.chat("bot", headers=headers)
            answers.append(f"{response.headers}{await response.text()}")
            return response if response.status == 200 else None

        response = await eventually(answered, "an answer of the provider")
        assert await response.json() == COMPLETION
        called = [found for path, found in seen if path == "/v1/chat/completions"]
        assert called == [f"Bearer {CREDENTIAL}"]
        # Probes carry no credential: the runner does not even have it.
        assert {found for path, found in seen if path != "/v1/chat/completions"} <= {None}

        for path in (
            *("models", "lifecycles", "providers", "audit-log", "deployments", "api-keys"),
            *(f"lifecycles/{version['id']}", f"lifecycles/{version['id']}/history", f"models/{version['model_id']}"),
            *(f"deployments/{one['id']}", f"deployments/{one['id']}/events", f"deployments/{one['id']}/replicas"),
            f"deployments/{one['id']}/logs",
        ):
            found = await world.http.get(f"/api/v1/{path}")
            assert found.status_code == 200, (path, found.text)
            answers.append(found.text)
        async with gateway.http.get(f"{gateway.url}/v1/models", headers=headers) as models:
            answers.append(await models.text())
        (entry,) = (await world.routing("deployment")).values()
        assert Sealer(SECRET).unseal_text(entry["credential"]) == CREDENTIAL

        def kept() -> dict[Path, bytes]:
            return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

        async def snapshot() -> bool:
            # The gateway's copy of the routing, by which it can start without a database.
            files = await asyncio.to_thread(kept)
            return any(one["id"].encode() in content for path, content in files.items() if "spool" not in path.parts)

        await eventually(snapshot, "the routing in a file")
        files = await asyncio.to_thread(kept)
    files |= await asyncio.to_thread(kept)
    assert not [path for path, content in files.items() if has_secret(content)]
    assert not [answer for answer in answers if has_secret(answer)]
    with psycopg.connect(database_urls.owner) as owner:
        tables = owner.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'trimtab')"
        ).fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            for (row,) in owner.execute(f"select to_jsonb(t)::text from {table} t").fetchall():  # type: ignore[arg-type]
                assert not has_secret(row), table
    assert caplog.records
    assert not [record for record in caplog.records if has_secret(record.getMessage())]
    assert not has_secret("".join(capfd.readouterr()))
