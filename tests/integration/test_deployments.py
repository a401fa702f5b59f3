"""Deployments from the request to the routing, with real addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.deploying import World, background, make_runner, make_world, upstream

from trimtab.db.database import Database


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(database, tmp_path) as made:
        yield made


async def test_deploy_cut_over_and_drain(world: World) -> None:
    async with upstream() as one, upstream() as two, make_runner(world) as runner, background(world, runner):
        gateway = await world.gateway(0)
        v1 = await world.version("v1", {"endpoint": one.url})
        v2 = await world.version("v2", {"endpoint": two.url})
        a = await world.deploy(v1)
        assert (a["status"], a["rollout_phase"], a["traffic_percentage"]) == ("deploying", "pending", 0)
        moved = await world.until(a, "deploying", phase="promoting")
        while not (moved := await world.get(a))["cutover_revision"]:
            pass
        assert await world.arms("bot") == {a["id"]: 10_000}
        await world.gateway(moved["cutover_revision"], identifier=gateway)
        a = await world.until(a, "healthy", phase="succeeded")
        assert a["traffic_percentage"] == 100
        assert (await world.http.get(f"/api/v1/lifecycles/{v1['id']}")).json()["lifecycle_stage"] == "production"

        b = await world.deploy(v2)
        await world.until(b, "deploying", phase="promoting")
        while not (moved := await world.get(b))["cutover_revision"]:
            pass
        assert await world.arms("bot") == {b["id"]: 10_000}
        old = await world.get(a)
        assert (old["status"], old["ending_status"], old["traffic_percentage"]) == ("healthy", "retired", 0)
        assert set(await world.routing()) == {"bot", "bot@production", "bot@v2"}
        await world.gateway(moved["cutover_revision"], identifier=gateway, **{a["id"]: {"in_flight": 1}})
        b = await world.until(b, "healthy", phase="succeeded")
        assert b["previous_deployment_id"] == a["id"]
        assert (await world.get(a))["status"] == "healthy"
        await world.gateway(moved["cutover_revision"], identifier=gateway)
        assert (await world.until(a, "retired"))["ended_at"]
        assert set(await world.routing("deployment")) == {b["id"]}
