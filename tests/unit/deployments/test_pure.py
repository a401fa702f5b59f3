"""States, shares, targets, admission and prices."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.deployments.rows import replica, serving

from trimtab.deployments import shares
from trimtab.deployments.admission import Capacity, check_resources
from trimtab.deployments.entries import targets
from trimtab.deployments.pricing import PriceList
from trimtab.deployments.records import Runner
from trimtab.deployments.runtimes import StartError
from trimtab.deployments.runtimes.machine import Devices, Machine
from trimtab.deployments.runtimes.process import command
from trimtab.deployments.states import ENDED, PHASES_OF, Phase, Status, may_follow
from trimtab.errors import Code, TrimtabError


def test_what_has_ended_only_begins_anew() -> None:
    for status, phase, after, next_phase in product(ENDED, get_args(Phase), get_args(Status), get_args(Phase)):
        if after != status and may_follow(status, phase, after, next_phase):
            assert (after, next_phase) == ("deploying", "pending")


def test_every_state_is_reached_and_left_or_final() -> None:
    pairs = {(status, phase) for status, phases in PHASES_OF.items() for phase in phases}
    reached, todo = set(), {("deploying", "pending")}
    while todo:
        here: Any = todo.pop()
        reached.add(here)
        todo |= {there for there in pairs - reached if may_follow(*here, *there)}  # type: ignore[call-arg]
    assert reached == pairs


@given(st.lists(st.integers(0, 10_000), max_size=6), st.integers(0, 10_000))
def test_shares_add_up(weights: list[int], wanted: int) -> None:
    total = sum(weights)
    current = {UUID(int=n): w * 10_000 // total if total else 0 for n, w in enumerate(weights)}
    if total:
        current[UUID(int=0)] += 10_000 - sum(current.values())
    taker = UUID(int=99)
    after = shares.take(current, taker, wanted)
    assert sum(after.values()) == (10_000 if total or wanted else 0)
    assert after[taker] == (wanted if total else 10_000 if wanted else 0)
    left = shares.take(after, taker, 0)
    assert left[taker] == 0
    assert sum(left.values()) in (0, 10_000)


def test_targets_leave_out_the_sick_while_another_is_ready_and_the_dead_always() -> None:
    one = serving(1)
    a, b = replica(one), replica(one, 1)
    sick, dead = replica(one, 1, status="unhealthy"), replica(one, 1, status="backoff", url=None)
    assert targets([b, a]) == (a.url, b.url)
    assert targets([a, sick]) == (a.url,)
    assert targets([a, dead]) == (a.url,)
    assert targets([sick]) == (sick.url,)
    assert targets([dead]) == ()
    assert targets([a, replica(one, 1, released_at=one.created_at)]) == (a.url,)


@pytest.mark.parametrize(
    ("resources", "replicas", "held", "field"),
    [
        ({"cpu": 2}, 1, 0, None),
        ({"cpu": 2}, 2, 0, "cpu"),
        ({"cpu": 2.5}, 1, 0, "cpu"),
        ({"memory_mb": 500}, 2, 0, None),
        ({"memory_mb": 500}, 2, 1, "memory_mb"),
        ({"gpu": 1}, 1, 0, "gpu"),
        ({}, 1000, 2000, None),
    ],
)
def test_resources(resources: dict[str, Any], replicas: int, held: int, field: str | None) -> None:
    room = Capacity([Runner(UUID(int=1), "h", 2, 1000, 0)], held)
    if field is None:
        check_resources(resources, replicas, room)
        return
    with pytest.raises(TrimtabError) as caught:
        check_resources(resources, replicas, room)
    assert caught.value.code is Code.RESOURCES_EXCEEDED
    assert caught.value.field == f"resource_allocation.{field}"
    check_resources(resources, replicas, Capacity([], 0))


def test_devices_are_given_to_who_has_fewest() -> None:
    devices = Devices(Machine((0, 1), 1000, (0, 1)))
    first = devices.take({"cpu": 1, "gpu": 1})
    second = devices.take({"cpu": 0.5, "gpu": 1, "memory_mb": 3})
    assert (first.cpus, first.gpus, second.cpus, second.gpus) == ((0,), (0,), (1,), (1,))
    assert second.environment == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "1"}
    assert second.memory_bytes == 3 * 1024 * 1024
    devices.give_back(second)
    assert devices.take({"cpu": 1}).cpus == (1,)
    assert devices.take({}).environment == {}


def test_command_lines() -> None:
    runtime = {"command": ["serve", "--listen=:{port}"], "args": ["-v"], "port_arg": "-p"}
    assert command({"runtime": runtime}, 81, None) == ["serve", "--listen=:81", "-v", "-p", "81"]


def test_list_prices() -> None:
    listed = PriceList()
    now = datetime(2026, 11, 22, tzinfo=UTC)
    (price,) = listed.prices("openai", "gpt-4o-mini", now)
    assert (price.input_pico, price.output_pico, price.cache_read_pico) == (150_000, 600_000, 75_000)
    assert listed.prices("openai-compatible", "my-own", now) == ()
    assert listed.prices("openai", None, now) == ()


def test_only_models_are_given_to_the_local_engine(tmp_path: Path) -> None:
    secret = tmp_path / "secret.key"
    secret.write_text("a very secret key")
    named, linked, model = tmp_path / "named.gguf", tmp_path / "linked.gguf", tmp_path / "model.gguf"
    named.write_text("a very secret key")
    linked.symlink_to(secret)
    (tmp_path / "directory.gguf").mkdir()
    model.write_bytes(b"GGUF\x03\x00\x00\x00")
    for path, why in (
        (secret, "must end with .gguf"),
        (named, "is no model in the GGUF format"),
        (linked, "is no model in the GGUF format"),
        (tmp_path / "directory.gguf", "there is no file"),
        (tmp_path / "missing.gguf", "there is no file"),
    ):
        with pytest.raises(StartError) as caught:
            command({"name": "bot", "runtime": {"kind": "process", "gguf": str(path)}}, 81, None)
        assert why in str(caught.value)
        assert caught.value.permanent
        assert "very" not in str(caught.value)
    line = command({"name": "bot", "runtime": {"kind": "process", "gguf": str(model)}}, 81, 2)
    assert line[2:] == [
        *("trimtab.deployments.engines.llama", "--gguf", str(model), "--port", "81", "--name", "bot", "--threads", "2")
    ]
