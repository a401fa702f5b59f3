"""The gateway as the OpenAI SDK sees it: a caller changes the base URL and the key, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI
from tests.mock_upstream import COMPLETION, Mock
from tests.running_gateway import (
    KEY,
    RunningGateway,
    deployment_entry,
    key_change,
    make_workspace,
    publish_changes,
    route_changes,
    running_gateway,
    until,
)

from trimtab.db.database import Database
from trimtab.db.embedded import Urls
from trimtab.gateway.upstream import Timeouts

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def mock() -> AsyncIterator[Mock]:
    async with Mock() as mock:
        yield mock


@pytest.fixture
async def gateway(
    mock: Mock, database: Database, database_urls: Urls, tmp_path: Path, unused_tcp_port: int
) -> AsyncIterator[RunningGateway]:
    workspace = await make_workspace(database)
    changes = [key_change(workspace)]
    for scenario in mock.scenarios:
        changes += route_changes(scenario, (deployment_entry(workspace, mock.url(scenario)), 10_000))
    away = deployment_entry(workspace, f"http://127.0.0.1:{unused_tcp_port}/v1")
    pending = deployment_entry(workspace, mock.url("plain"), approval="pending")
    changes += route_changes("away", (away, 10_000)) + route_changes("pending", (pending, 10_000))
    await publish_changes(database, workspace, changes)
    async with running_gateway(tmp_path, database_urls.app, timeouts=Timeouts(first_byte=1.0, gap=1.0)) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


async def test_chat(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="plain", messages=MESSAGES, temperature=0.5)
    completion = raw.parse()
    assert completion.choices[0].message.content == "Hello there."
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 20
    assert raw.headers["x-trimtab-version"] == "v1.0.0"
    assert raw.request_id == raw.headers["x-request-id"]


async def test_tool_calls(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model="tools", messages=MESSAGES)
    calls = completion.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "weather"
    stream = await client.chat.completions.create(model="tools", messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.tool_calls[0].function.name == "weather"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("model", ["stream", "split"])
async def test_streaming(client: AsyncOpenAI, gateway: RunningGateway, model: str) -> None:
    stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there."
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert (await gateway.record()).usage.source == "upstream"


async def test_streaming_with_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="stream", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == COMPLETION["usage"]["completion_tokens"]
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("model", "kind", "code"),
    [
        ("nothing", openai.NotFoundError, "model_not_found"),
        ("plain@staging", openai.NotFoundError, "model_not_deployed"),
        ("pending", openai.PermissionDeniedError, "model_not_approved"),
        ("400", openai.BadRequestError, None),
        ("429", openai.RateLimitError, "rate_limit_exceeded"),
        ("500", openai.InternalServerError, None),
        ("away", openai.InternalServerError, "upstream_unavailable"),
        ("hang", openai.InternalServerError, "upstream_timeout"),
        ("reset-first", openai.InternalServerError, "upstream_unavailable"),
        ("short", openai.InternalServerError, "upstream_invalid"),
    ],
)
async def test_errors_have_the_classes_of_the_sdk(
    client: AsyncOpenAI, model: str, kind: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model=model, messages=MESSAGES)
    assert caught.value.code == code
    assert caught.value.message
    assert caught.value.request_id


@pytest.mark.parametrize("model", ["reset", "truncated", "no-done", "stream-error"])
async def test_a_stream_that_breaks_off_raises(client: AsyncOpenAI, model: str) -> None:
    stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    seen = []
    with pytest.raises(openai.APIError):
        async for chunk in stream:
            seen.append(chunk)
    assert seen[0].choices[0].delta.content == "Hello"


async def test_a_wrong_key(gateway: RunningGateway) -> None:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="tt_wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="plain", messages=MESSAGES)
    assert caught.value.code == "invalid_api_key"


async def test_what_cannot_succeed_is_not_retried(gateway: RunningGateway, mock: Mock) -> None:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=2) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="pending", messages=MESSAGES)
        assert len(gateway.records()) == 1
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="away", messages=MESSAGES)
        assert len(gateway.records()) == 4


async def test_a_body_of_50_megabytes(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "x" * 50_000_000}])
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


async def test_models(client: AsyncOpenAI) -> None:
    models = [model.id async for model in client.models.list()]
    assert "plain" in models
    assert (await client.models.retrieve("plain")).id == "plain"


async def test_leaving_a_stream_ends_the_upstream_call(
    client: AsyncOpenAI, gateway: RunningGateway, mock: Mock
) -> None:
    stream = await client.chat.completions.create(model="paused", messages=MESSAGES, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await until(lambda: mock.requests)
    await asyncio.wait_for(mock.requests[0].closed.wait(), 10)
    assert (await gateway.record()).client_gone
