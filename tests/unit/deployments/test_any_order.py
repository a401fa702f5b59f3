"""Whatever happens, and in whatever order: a route stays served, nothing unapproved is served, what ended stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.deployments.rows import MODEL, NOW, WORKSPACE, deployment, replica

from trimtab.deployments.entries import entries
from trimtab.deployments.outcome import outcome
from trimtab.deployments.reconcile import (
    Approval,
    ReleaseReplicas,
    RunReplicas,
    StopReplicas,
    View,
    decide,
)
from trimtab.deployments.records import Deployment, Gateway, Replica
from trimtab.deployments.states import ENDED, SERVING, may_follow
from trimtab.deployments.strategies import STRATEGIES
from trimtab.deployments.versions import Version
from trimtab.routing.records import RouteEntry, route_key

STATUSES = ["approved", "approved", "approved", "rejected"]


class Route(RuleBasedStateMachine):
    """One production route, reconciled in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = NOW
        self.rows: dict[UUID, Deployment] = {}
        self.replicas: dict[UUID, list[Replica]] = {}
        self.approvals: dict[UUID, Approval] = {}
        self.revision = 1
        self.gateway = Gateway(UUID(int=7), 1, NOW + timedelta(days=1))
        self.ended: dict[UUID, str] = {}
        self.forced = False

    def change(self, one: Deployment, **values: object) -> None:
        after = replace(one, **values, version=one.version + 1)  # type: ignore[arg-type]
        assert may_follow(one.status, one.rollout_phase, after.status, after.rollout_phase)
        self.rows[one.id] = after

    def view(self, one: Deployment) -> View:
        siblings = tuple(
            each
            for each in self.rows.values()
            if each.id != one.id and (each.ended_at is None or each.id == one.previous_deployment_id)
        )
        back = one.previous_deployment_id
        return View(
            one,
            tuple(self.replicas.get(one.id, ())),
            siblings,
            self.approvals,
            (self.gateway,),
            tuple(self.replicas.get(back, ())) if back else (),
        )

    def step(self) -> bool:
        for one in sorted(self.rows.values(), key=lambda each: each.id.int):
            plan = decide(self.view(one), self.now, STRATEGIES["direct"])
            if plan is None:
                continue
            done = outcome(plan, one, self.rows, self.now)
            for identifier, changes in done.changes.items():
                before = self.rows[identifier]
                gained = Decimal(changes.get("traffic_percentage", 0)) > before.traffic_percentage
                assert not gained or self.approvals[identifier].status == "approved"
                self.change(before, **changes)
            for action in plan.actions:
                rows = self.replicas.setdefault(one.id, [])
                match action:
                    case RunReplicas(ordinals):
                        kept = [row for row in rows if row.ordinal not in ordinals]
                        made = [replica(one, n, status="starting", url=None) for n in ordinals]
                        self.replicas[one.id] = kept + made
                    case StopReplicas(ids):
                        self.replicas[one.id] = [
                            replace(row, desired="stopped") if ids is None or row.id in ids else row for row in rows
                        ]
                    case ReleaseReplicas(ids):
                        self.replicas[one.id] = [
                            replace(row, released_at=self.now, released_revision=self.revision)
                            if row.id in ids
                            else row
                            for row in rows
                        ]
                    case _:
                        pass
            self.revision += 1
            for identifier in done.moved:
                self.change(self.rows[identifier], cutover_revision=self.revision)
            return True
        return False

    def live(self) -> list[Deployment]:
        return [one for one in self.rows.values() if one.ended_at is None]

    @rule(share=st.sampled_from([0, 5, 50, 100]))
    def create(self, share: int) -> None:
        if len(self.rows) < 6 and not any(one.rollout_phase == "aborting" for one in self.live()):
            one = deployment(
                len(self.rows) + 1,
                target_traffic_percentage=Decimal(share),
                started_at=self.now,
                deadline_at=self.now + timedelta(seconds=600),
            )
            self.rows[one.id] = one
            self.approvals[one.id] = Approval("approved")

    @rule(times=st.integers(1, 5))
    def reconcile(self, times: int) -> None:
        for _ in range(times):
            self.step()

    @rule(data=st.data(), status=st.sampled_from(["ready", "ready", "ready", "unhealthy", "backoff", "failed"]))
    def report(self, data: st.DataObject, status: str) -> None:
        running = [row for rows in self.replicas.values() for row in rows if row.desired == "running"]
        if running:
            row = data.draw(st.sampled_from(running))
            url = "http://127.0.0.1:1/v1" if status in ("ready", "unhealthy") else None
            rows = self.replicas[row.deployment_id]
            rows[rows.index(row)] = replace(row, status=status, url=url)  # type: ignore[arg-type]

    @rule()
    def acknowledge(self) -> None:
        self.gateway = replace(self.gateway, revision=self.revision)

    @rule(seconds=st.sampled_from([1, 31, 700]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(data=st.data(), status=st.sampled_from(STATUSES))
    def judge(self, data: st.DataObject, status: str) -> None:
        waiting = [one.id for one in self.live() if not one.weight]
        if waiting:
            self.approvals[data.draw(st.sampled_from(waiting))] = Approval(status)

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        can = [
            one
            for one in self.live()
            if one.status in SERVING
            and one.rollout_phase == "succeeded"
            and one.ending_status is None
            and one.weight
            and one.previous_deployment_id
        ]
        rolling = any(one.status == "deploying" and one.target for one in self.live())
        if can and not rolling:
            one = data.draw(st.sampled_from(can))
            assert one.previous_deployment_id is not None
            previous = self.rows[one.previous_deployment_id]
            self.rows[previous.id] = replace(previous, revived_for=None)
            self.ended.pop(previous.id, None)
            self.change(one, rollout_phase="aborting")

    @rule(data=st.data())
    def call_off(self, data: st.DataObject) -> None:
        can = [one for one in self.live() if one.rollout_phase == "aborting" and one.ending_status is None]
        if can:
            self.change(data.draw(st.sampled_from(can)), rollout_phase="succeeded")

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        serving = [one for one in self.live() if one.status in SERVING and one.ending_status is None]
        others = [one for one in serving if one.weight]
        can = [one for one in serving if not one.weight or len(others) > 1]
        if can:
            one = data.draw(st.sampled_from(can))
            self.change(one, ending_status="retired", draining_since=self.now, cutover_revision=None)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        can = [one for one in self.rows.values() if one.status in ("failed", "rolled_back")]
        aborting = any(one.rollout_phase == "aborting" for one in self.live())
        if can and not aborting:
            one = data.draw(st.sampled_from(can))
            self.ended.pop(one.id, None)
            self.change(
                one,
                status="deploying",
                rollout_phase="pending",
                traffic_percentage=Decimal(0),
                cutover_revision=None,
                revived_for=None,
                draining_since=None,
                ended_at=None,
                started_at=self.now,
                deadline_at=self.now + timedelta(seconds=600),
            )

    @invariant()
    def shares_are_whole_or_none(self) -> None:
        assert sum(one.weight for one in self.rows.values()) in (0, 10_000)
        assert not any(one.weight for one in self.rows.values() if one.ended_at is not None)

    @invariant()
    def a_route_that_was_served_stays_served(self) -> None:
        if any(one.cutover_revision and one.target and one.status in SERVING for one in self.live()):
            assert sum(one.weight for one in self.live()) == 10_000

    @invariant()
    def the_routing_says_so(self) -> None:
        versions = {
            one.lifecycle_id: Version(
                one.lifecycle_id, WORKSPACE, MODEL, "m", f"v{one.id.int}", "x", "p", "approved", None, {}, {}, None
            )
            for one in self.rows.values()
        }
        found = entries(self.rows.values(), self.replicas, versions, {})
        for entry in found.values():
            if isinstance(entry, RouteEntry) and entry.arms:
                assert sum(arm.weight for arm in entry.arms) == 10_000
                assert all(("deployment", arm.deployment_id) in found for arm in entry.arms)
        route = found.get(("route", route_key(str(WORKSPACE), "m")))
        assert isinstance(route, RouteEntry | None)
        assert bool(route and route.arms) == any(one.weight for one in self.rows.values())

    @invariant()
    def what_has_ended_stays(self) -> None:
        for one in self.rows.values():
            if one.ended_at is not None:
                assert one.status in ENDED
                assert self.ended.setdefault(one.id, one.status) == one.status
            elif one.revived_for is not None:
                self.ended.pop(one.id, None)

    def teardown(self) -> None:
        """Left alone with working replicas, everything comes to rest."""
        self.approvals = {identifier: Approval("approved") for identifier in self.approvals}
        for _ in range(200):
            for identifier, rows in self.replicas.items():
                self.replicas[identifier] = [
                    replace(row, status="ready", url="http://127.0.0.1:1/v1", restarts=0) for row in rows
                ]
            self.acknowledge()
            if not self.step():
                self.now += timedelta(seconds=60)
                if not self.step():
                    break
        else:
            raise AssertionError("it never comes to rest")
        for one in self.live():
            assert (one.status, one.rollout_phase, one.ending_status) == ("healthy", "succeeded", None)


TestAnyOrder = Route.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
