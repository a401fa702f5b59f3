"""Which deployment and which replica serve a request."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import Code, TrimtabError
from trimtab.routing.choose import (
    admitted,
    bucket_of,
    check_approval,
    find_route,
    pick_arm,
    pick_deployment,
    pick_target,
    spare_deployment,
)
from trimtab.routing.records import WHOLE, Arm, DeploymentEntry, RouteEntry, route_key
from trimtab.routing.snapshot import Snapshot


@st.composite
def shares(draw: st.DrawFn) -> list[int]:
    """Weights that add up to all of the traffic."""
    cuts = sorted(draw(st.lists(st.integers(0, WHOLE), max_size=4)))
    return [end - start for start, end in zip([0, *cuts], [*cuts, WHOLE], strict=True)]


@given(shares())
def test_weights_are_shares(weights: list[int]) -> None:
    arms = [Arm(str(number), weight) for number, weight in enumerate(weights)]
    served = [pick_arm(arms, bucket) for bucket in range(WHOLE)]
    assert [served.count(arm.deployment_id) for arm in arms] == weights


@given(st.integers(0, WHOLE), st.integers(0, WHOLE), st.text(max_size=20), st.text(min_size=1, max_size=50))
def test_a_unit_stays_on_the_new_side_as_its_weight_grows(one: int, other: int, salt: str, unit: str) -> None:
    less, more = sorted((one, other))
    bucket = bucket_of(salt, unit)
    assert 0 <= bucket < WHOLE
    if pick_arm([Arm("old", WHOLE - less), Arm("new", less)], bucket) == "new":
        assert pick_arm([Arm("old", WHOLE - more), Arm("new", more)], bucket) == "new"


def test_buckets_are_the_same_on_every_gateway_and_spread_evenly() -> None:
    assert bucket_of("salt", "user-1") == 168
    counts = [0] * 10
    for number in range(20_000):
        counts[bucket_of("salt", f"user-{number}") * 10 // WHOLE] += 1
    assert all(1_800 < count < 2_200 for count in counts)


def test_no_arm_without_weight() -> None:
    assert pick_arm([], 0) is None
    assert pick_arm([Arm("a", 0)], 0) is None


def entry(**members: Any) -> DeploymentEntry:
    given = {
        "id": "d1",
        "workspace_id": "w",
        "model_id": "m",
        "model_name": "Bot",
        "lifecycle_id": "l1",
        "version_tag": "v1",
        "environment": "production",
        "provider": "openai",
        "approval": "approved",
    }
    return DeploymentEntry(**{**given, **members})


def route(name: str, *arms: Arm) -> RouteEntry:
    return RouteEntry(workspace_id="w", model_id="m", name=name, environment="production", arms=arms, salt="s")


def snapshot(*routes: RouteEntry) -> Snapshot:
    return Snapshot(
        1, {}, {route_key(r.workspace_id, r.name): r for r in routes}, {"d1": entry(), "d2": entry(id="d2")}
    )


def test_names_are_found_regardless_of_case_in_their_workspace_only() -> None:
    known = snapshot(route("Bot", Arm("d1", WHOLE)), route("Bot@v1.2.0", Arm("d1", WHOLE)))
    assert find_route(known, "w", "bOt").name == "Bot"
    assert find_route(known, "w", "bot@V1.2.0").name == "Bot@v1.2.0"
    for workspace, name, code in [
        ("other", "bot", Code.MODEL_NOT_FOUND),
        ("w", "bit", Code.MODEL_NOT_FOUND),
        ("w", "", Code.MODEL_NOT_FOUND),
        ("w", "bot@staging", Code.MODEL_NOT_DEPLOYED),
    ]:
        with pytest.raises(TrimtabError) as caught:
            find_route(known, workspace, name)
        assert caught.value.code is code
        assert caught.value.field == "model"


def test_a_route_without_arms_is_known_but_not_deployed() -> None:
    with pytest.raises(TrimtabError, match="not deployed in production") as caught:
        find_route(snapshot(route("bot")), "w", "bot")
    assert caught.value.code is Code.MODEL_NOT_DEPLOYED


@settings(deadline=None)
@given(st.integers(0, WHOLE))
def test_requests_without_a_unit_draw_at_random(weight: int) -> None:
    bot = route("bot", Arm("d1", WHOLE - weight), Arm("d2", weight))
    draw = random.Random(7).random
    served = [pick_deployment(snapshot(bot), bot, None, draw).id for _ in range(2_000)]
    assert served.count("d2") / 2_000 == pytest.approx(weight / WHOLE, abs=0.06)


def test_a_unit_draws_nothing() -> None:
    bot = route("bot", Arm("d1", 5_000), Arm("d2", 5_000))

    def never() -> float:
        raise AssertionError("drawn")

    assert len({pick_deployment(snapshot(bot), bot, "me", never).id for _ in range(10)}) == 1


def known(*deployments: DeploymentEntry) -> Snapshot:
    return Snapshot(1, {}, {}, {deployment.id: deployment for deployment in deployments})


@pytest.mark.parametrize("deployments", [(), (entry(workspace_id="other"),)])
def test_a_deployment_of_another_workspace_is_not_there(deployments: tuple[DeploymentEntry, ...]) -> None:
    bot = route("bot", Arm("d1", WHOLE))
    with pytest.raises(TrimtabError) as caught:
        pick_deployment(known(*deployments), bot, "me", random.random)
    assert caught.value.code is Code.MODEL_NOT_DEPLOYED
    assert spare_deployment(known(*deployments), bot, entry(id="d2")) is None


@pytest.mark.parametrize(
    ("weight", "members", "found"),
    [
        (1, {}, True),
        (0, {}, False),
        (1, {"approval": "pending"}, False),
        (1, {"approval": "conditional", "approval_expires_at": 1e12}, False),
        (1, {"approval": "pending", "environment": "staging"}, True),
        (1, {"workspace_id": "other"}, False),
    ],
)
def test_a_spare_is_another_approved_arm_with_weight(weight: int, members: dict[str, Any], found: bool) -> None:
    one, other = entry(), entry(id="d2", **members)
    bot = route("bot", Arm("d1", WHOLE - weight), Arm("d2", weight))
    assert spare_deployment(known(one, other), bot, one) is (other if found else None)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"approval": "pending"}, "pending"),
        ({"approval": "rejected"}, "rejected"),
        ({"approval": "conditional", "approval_expires_at": 100.0}, "1970-01-01T00:01:40Z"),
    ],
)
def test_production_needs_approval(members: dict[str, Any], words: str) -> None:
    with pytest.raises(TrimtabError, match=r"Bot@v1 .*production") as caught:
        check_approval(entry(**members), 100.0)
    assert caught.value.code is Code.MODEL_NOT_APPROVED
    assert words in caught.value.detail
    check_approval(entry(**members, environment="staging"), 100.0)


def test_conditional_approval_holds_until_it_ends() -> None:
    check_approval(entry(approval="conditional", approval_expires_at=100.0), 99.9)
    check_approval(entry(approval="conditional"), 1e12)


def test_where_an_approval_has_ended_its_neighbour_serves() -> None:
    ended = entry(approval="conditional", approval_expires_at=100.0)
    approved = entry(id="d2")
    bot = route("bot", Arm("d1", WHOLE // 2), Arm("d2", WHOLE // 2))
    assert admitted(known(ended, approved), bot, ended, 99.0) is ended
    assert admitted(known(ended, approved), bot, ended, 100.0) is approved
    with pytest.raises(TrimtabError) as caught:
        admitted(known(ended), route("bot", Arm("d1", WHOLE)), ended, 100.0)
    assert caught.value.code is Code.MODEL_NOT_APPROVED


@dataclass
class Replica:
    name: str
    in_flight: int = 0
    failed_until: float = 0.0


def test_the_least_busy_replica_serves() -> None:
    busy, idle, failed = Replica("busy", 3), Replica("idle", 1), Replica("failed", 0, failed_until=10.0)
    assert pick_target([busy, idle, failed], 5.0, random.random) is idle
    assert pick_target([busy, idle, failed], 11.0, random.random) is failed
    assert pick_target([failed], 5.0, random.random) is failed
    assert pick_target([], 5.0, random.random) is None


def test_ties_are_broken_at_random() -> None:
    replicas = [Replica("a"), Replica("b")]
    draw = random.Random(1).random
    served = [pick_target(replicas, 0.0, draw) for _ in range(1_000)]
    assert 400 < served.count(replicas[0]) < 600
