"""Replicas as real processes: started, watched, started again, stopped, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.deploying import (
    SERVER,
    World,
    background,
    eventually,
    make_runner,
    make_world,
    upstream,
)
from tests.waiting import is_gone

from trimtab.clock import system_clock
from trimtab.db.database import SYSTEM, Database
from trimtab.db.embedded import Urls
from trimtab.deployments.logs import tail

SERVE = {"runtime": {"kind": "process", "command": [sys.executable, "-S", "-c", SERVER, "{port}"]}}
# A server that starts another process in a session of its own, as daemons do, and tells its pid.
SERVE_WITH_CHILD = (
    "import subprocess, sys\n"
    "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    "print('child', child.pid, flush=True)\n" + SERVER
)


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(database, tmp_path) as made:
        yield made


@asynccontextmanager
async def part(name: str, urls: Urls, data_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.runner_process", name, urls.app, str(data_dir), stdout=-1
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.read(1), 30) == b"1"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) in (0, -signal.SIGKILL)


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def logged(world: World, deployment: dict[str, Any], text: str) -> list[str]:
    async def found() -> list[str]:
        answer = await world.http.get(f"/api/v1/deployments/{deployment['id']}/logs", params={"replica": "0"})
        lines: list[str] = answer.json()["items"][0]["lines"]
        return [line for line in lines if text in line]

    return await eventually(found, f"{text!r} in the log")


async def test_a_command_is_run_logged_and_stopped_with_its_deployment(world: World) -> None:
    config = {"runtime": {**SERVE["runtime"], "env": {"COLOUR": "green"}}}
    async with make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", config, resource_allocation={"cpu": 1, "memory_mb": 512})
        one = await world.until(await world.deploy(version, replicas=2), "healthy")
        first, second = await world.replicas(one)
        assert first["status"] == second["status"] == "ready"
        assert first["url"] != second["url"]
        entry = (await world.routing("deployment"))[one["id"]]
        assert entry["targets"] == [first["url"], second["url"]]
        assert one["endpoint_url"] == first["url"]
        assert len(os.sched_getaffinity(first["pid"])) == 1
        limits = proc(first["pid"], "limits")
        assert f"{512 * 1024 * 1024}" in next(line for line in limits.splitlines() if "Max data size" in line)
        surroundings = proc(first["pid"], "environ").split("\0")
        assert "COLOUR=green" in surroundings
        assert f"PORT={first['url'].split(':')[2].removesuffix('/v1')}" in surroundings
        assert not any(variable.startswith("TRIMTAB_") for variable in surroundings)
        assert await logged(world, one, "listening on")

        async def sampled() -> bool:
            return all(row["memory_bytes"] for row in await world.replicas(one))

        await eventually(sampled, "samples of memory")
        await world.act(one, "retire", force="true")
        await world.until(one, "retired")

        async def stopped() -> bool:
            return all(row["status"] == "stopped" for row in await world.replicas(one))

        await eventually(stopped, "both stopped")
        assert is_gone(first["pid"])
        assert is_gone(second["pid"])
        assert await world.routing() == {}


async def test_a_killed_replica_is_started_again(world: World) -> None:
    async with make_runner(world) as runner, background(world, runner):
        one = await world.until(await world.deploy(await world.version("v1", SERVE)), "healthy")
        (before,) = await world.replicas(one)
        os.kill(before["pid"], signal.SIGKILL)

        async def again() -> dict[str, Any] | None:
            (now,) = await world.replicas(one)
            return now if now["status"] == "ready" and now["pid"] != before["pid"] else None

        after = await eventually(again, "another process")
        assert after["restarts"] == 1

        async def routed() -> bool:
            return (await world.routing("deployment"))[one["id"]]["targets"] == [after["url"]]

        await eventually(routed, "the new port in the targets")
        await world.until(one, "healthy")


async def test_a_crash_loop_fails_the_deployment_before_its_deadline(world: World) -> None:
    command = [sys.executable, "-S", "-c", "print('no licence found'); raise SystemExit(3)"]
    async with make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", {"runtime": {"kind": "process", "command": command}})
        one = await world.until(await world.deploy(version), "failed")
        assert "exited with status 3: no licence found" in one["status_reason"]
        assert one["rollout_phase"] == "aborted"
        assert await world.routing() == {}


async def test_a_command_that_does_not_exist_fails_at_once(world: World) -> None:
    async with make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", {"runtime": {"kind": "process", "command": ["/no/such/server"]}})
        one = await world.until(await world.deploy(version), "failed")
        assert "/no/such/server cannot be started: No such file or directory" in one["status_reason"]


async def test_a_server_whose_port_is_taken_says_so(world: World) -> None:
    async with upstream() as other, make_runner(world) as runner, background(world, runner):
        port = other.url.split(":")[2].removesuffix("/v1")
        command = [sys.executable, "-S", "-c", SERVER, port]
        version = await world.version("v1", {"runtime": {"kind": "process", "command": command}})
        one = await world.until(await world.deploy(version), "failed")
        assert "Address already in use" in one["status_reason"]


async def test_one_that_never_answers_fails_at_the_deadline(world: World) -> None:
    async with make_runner(world) as runner, background(world, runner):
        version = await world.version("v1", {"runtime": {"kind": "process", "command": ["sleep", "600"]}})
        one = await world.until(await world.deploy(version, progress_deadline_seconds=2), "failed")
        assert "not ready in time: 0 of 1 replicas ready (replica 0: 127.0.0.1" in one["status_reason"]
        assert "refused" in one["status_reason"]
        (replica,) = await world.replicas(one)

        async def stopped() -> bool:
            return (await world.replicas(one))[0]["status"] == "stopped"

        await eventually(stopped, "stopped")
        assert replica["pid"] is None or is_gone(replica["pid"])


async def test_the_log_is_kept_small(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.deployments.runtimes.process.LOG_BYTES", 20_000)
    code = "import sys\nfor n in range(5000): print('line', n)\n" + SERVER
    async with make_runner(world) as runner, background(world, runner):
        command = [sys.executable, "-S", "-c", code, "{port}"]
        version = await world.version("v1", {"runtime": {"kind": "process", "command": command}})
        one = await world.until(await world.deploy(version), "healthy")
        await logged(world, one, "line 4999")
        files = list((world.data_dir / "logs" / "replicas").iterdir())
        assert sorted(file.suffix for file in files) == [".1", ".log"]
        assert all(file.stat().st_size <= 20_000 for file in files)
        (replica,) = await world.replicas(one)
        lines = tail(world.data_dir, replica["id"], 3)
        assert lines[:2] == ["line 4998", "line 4999"]


async def test_nothing_is_left_when_the_runner_is_killed_and_all_comes_back(
    world: World, database_urls: Urls, tmp_path: Path
) -> None:
    command = [sys.executable, "-S", "-c", SERVE_WITH_CHILD, "{port}"]
    version = await world.version("v1", {"runtime": {"kind": "process", "command": command}})
    deployed = await world.deploy(version)
    async with background(world):
        async with part("runner", database_urls, tmp_path) as runner:
            one = await world.until(deployed, "healthy")
            (replica,) = await world.replicas(one)
            child = int((await logged(world, one, "child"))[0].split()[1])
            runner.kill()
            await runner.wait()

        async def gone() -> bool:
            return is_gone(replica["pid"]) and is_gone(child)

        await eventually(gone, "the replica and its child gone with the runner")
        async with part("runner", database_urls, tmp_path):

            async def back() -> dict[str, Any] | None:
                (now,) = await world.replicas(one)
                return now if now["status"] == "ready" and now["pid"] != replica["pid"] else None

            again = await eventually(back, "the replica back")
            await world.until(one, "healthy")
    assert is_gone(again["pid"])


async def test_a_killed_guard_takes_its_replica_along(world: World) -> None:
    async with make_runner(world) as runner, background(world, runner):
        one = await world.until(await world.deploy(await world.version("v1", SERVE)), "healthy")
        (before,) = await world.replicas(one)
        guard = int(proc(before["pid"], "stat").rpartition(")")[2].split()[1])
        os.kill(guard, signal.SIGKILL)

        async def again() -> dict[str, Any] | None:
            (now,) = await world.replicas(one)
            return now if now["status"] == "ready" and now["pid"] != before["pid"] else None

        await eventually(again, "another process")
        assert is_gone(before["pid"])


async def test_replicas_of_a_dead_runner_are_taken_over(world: World) -> None:
    async with make_runner(world) as dead:
        one = await world.deploy(await world.version("v1", SERVE))
        async with background(world, dead):
            await world.until(one, "healthy")
        await dead.register()
        async with world.database.transaction(SYSTEM) as connection:
            await connection.execute("update trimtab.replicas set runner_id = %s", (dead.identifier,))
            await connection.execute("update trimtab.runners set heartbeat_at = now() - interval '16 seconds'")
    async with make_runner(world) as other, background(world, other):
        await world.until(one, "healthy")


async def test_a_replica_with_more_memory_than_allowed_fails(world: World) -> None:
    code = "waste = bytearray(300 * 1024 * 1024)\n" + SERVER
    async with make_runner(world) as runner, background(world, runner):
        command = [sys.executable, "-S", "-c", code, "{port}"]
        config = {"runtime": {"kind": "process", "command": command}}
        version = await world.version("v1", config, resource_allocation={"memory_mb": 100})
        one = await world.until(await world.deploy(version), "failed")
        assert "MemoryError" in one["status_reason"]


async def test_logs_of_replicas_that_stopped_long_ago_are_deleted(world: World) -> None:
    long_ago = system_clock() - timedelta(days=8)
    async with make_runner(world) as runner, background(world, runner):
        runs, ended, lately = [
            await world.until(
                await world.deploy(await world.version(tag, SERVE), "staging", traffic_percentage=0), "healthy"
            )
            for tag in ("v1", "v2", "v3")
        ]
        for one in (ended, lately):
            await world.act(one, "retire", force="true")

        async def stopped() -> bool:
            rows = await world.replicas(ended) + await world.replicas(lately)
            return all(row["status"] == "stopped" for row in rows)

        await eventually(stopped, "both stopped")
    directory = world.data_dir / "logs" / "replicas"
    unknown = directory / f"{uuid4()}.log.1"
    unknown.write_text("of a replica that there is no more")
    (directory / "notes.log").write_text("of somebody else")
    for path in directory.iterdir():
        os.utime(path, (long_ago.timestamp(), long_ago.timestamp()))
    ids = {
        name: (await world.replicas(one))[0]["id"]
        for name, one in (("runs", runs), ("ended", ended), ("lately", lately))
    }
    async with world.database.transaction(SYSTEM) as connection:
        await connection.execute(
            "update trimtab.replicas set changed_at = %s where id = any(%s)", (long_ago, [ids["runs"], ids["ended"]])
        )
    async with make_runner(world) as runner:
        await runner.run_once()
        await runner.close()
    assert {path.name for path in directory.iterdir()} == {f"{ids['runs']}.log", f"{ids['lately']}.log", "notes.log"}
