"""Carrying out what `reconcile.decide` says: one transaction per plan, routing published in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from trimtab.clock import Clock
from trimtab.db.database import SYSTEM, Connection, Database
from trimtab.db.events import emit
from trimtab.deployments import reconcile, registry_link, store
from trimtab.deployments.entries import Entries, entries
from trimtab.deployments.outcome import outcome
from trimtab.deployments.pricing import PriceList
from trimtab.deployments.records import Deployment
from trimtab.deployments.replica_spec import replica_spec
from trimtab.deployments.snapshot import Snapshot, load
from trimtab.deployments.strategies import STRATEGIES
from trimtab.errors import Code, TrimtabError
from trimtab.registry import service as registry
from trimtab.routing.publish import Change, publish
from trimtab.routing.records import Price

log = logging.getLogger(__name__)

MOST_STEPS = 20
"""Most plans carried out for a model before the others have their turn."""


@dataclass(slots=True)
class Reconciler:
    """Brings all deployments towards what is wanted of them; any number may run at once."""

    database: Database
    clock: Clock
    prices: PriceList = field(default_factory=PriceList)

    async def run_once(self) -> int:
        """Carry out every plan there is now. Returns how many; the controller calls this at each wake-up."""
        async with self.database.transaction(SYSTEM) as connection:
            snapshot = await load(connection)
        done = 0
        for model_id in sorted(snapshot.models()):
            try:
                if self._needs_work(snapshot, model_id):
                    done += await self._settle(model_id)
            except TrimtabError as error:
                if error.code is Code.DATABASE_UNAVAILABLE:
                    raise
                log.warning("model %s: %s", model_id, error)
            except Exception:
                # One model's trouble must not hold up the others; it is looked at again with the next wake-up.
                log.exception("model %s", model_id)
        return done

    async def _settle(self, model_id: UUID) -> int:
        done = 0
        for _ in range(MOST_STEPS):
            try:
                if not await self._step(model_id):
                    break
                done += 1
            except store.StaleError as stale:
                log.debug("deployment %s was changed meanwhile; looking again", stale)
        return done

    def _needs_work(self, snapshot: Snapshot, model_id: UUID) -> bool:
        return self._next(snapshot, model_id) is not None or bool(self._changes(snapshot, model_id))

    def _next(self, snapshot: Snapshot, model_id: UUID) -> tuple[Deployment, reconcile.Plan] | None:
        now = self.clock()
        for one in snapshot.of_model(model_id):
            plan = reconcile.decide(snapshot.view(one), now, STRATEGIES[one.deployment_type])
            if plan is not None:
                return one, plan
        return None

    async def _step(self, model_id: UUID) -> bool:
        """Carry out one plan for the model, if there is any, and publish what it changes of the routing."""
        async with self.database.transaction(SYSTEM) as connection:
            await registry.lock_model(connection, model_id)
            snapshot = await load(connection, model_id)
            chosen = self._next(snapshot, model_id)
            if chosen is None:
                await self._publish(connection, snapshot, model_id, "targets, approvals or prices changed")
                return False
            one, plan = chosen
            await self._carry_out(connection, snapshot, one, plan)
            return True

    async def _carry_out(
        self, connection: Connection, snapshot: Snapshot, one: Deployment, plan: reconcile.Plan
    ) -> None:
        now = self.clock()
        done = outcome(plan, one, snapshot.deployments, now)
        rows = {
            identifier: await store.advance(connection, snapshot.deployments[identifier], changes, now)
            for identifier, changes in done.changes.items()
        }
        released: list[UUID] = []
        for action in plan.actions:
            match action:
                case reconcile.RunReplicas(ordinals):
                    version = snapshot.versions[one.lifecycle_id]
                    for ordinal in ordinals:
                        kind, spec = replica_spec(version, ordinal)
                        await store.run_replica(connection, one, ordinal, kind, spec, now)
                case reconcile.StopReplicas(ids):
                    await store.stop_replicas(connection, one.id, ids, now)
                case reconcile.ReleaseReplicas(ids):
                    await store.release_replicas(connection, ids, now)
                    released.extend(ids)
                case reconcile.SetStage():
                    version = snapshot.versions[one.lifecycle_id]
                    await registry_link.enter_environment(connection, rows[one.id], version, self.clock)
        log.info("deployment %s (%s): %s/%s %s", one.deployment_name, one.id, plan.status, plan.phase, plan.reason)
        data = {"status": plan.status, "rollout_phase": plan.phase, "reason": plan.reason}
        data["traffic_percentage"] = str(rows[one.id].traffic_percentage)
        await emit(connection, one.workspace_id, plan.event, "deployment", one.id, data)
        for identifier in done.moved - {one.id}:
            data = {"traffic_percentage": str(rows[identifier].traffic_percentage), "reason": plan.reason}
            await emit(connection, one.workspace_id, "deployment.traffic_moved", "deployment", identifier, data)
        await store.notify(connection)
        fresh = await load(connection, one.model_id)
        reason = f"{one.deployment_name}: {plan.reason or plan.status}"
        revision = await self._publish(connection, fresh, one.model_id, reason)
        for identifier in done.moved:
            await store.advance(connection, fresh.deployments[identifier], {"cutover_revision": revision or 0}, now)
        if released:
            await store.note_release(connection, released, revision or 0)

    def _entries(self, snapshot: Snapshot, model_id: UUID) -> Entries:
        prices: dict[UUID, tuple[Price, ...]] = {}
        for identifier, version in snapshot.versions.items():
            if version.model_id == model_id:
                upstream = version.deployment_config.get("upstream_model")
                prices[identifier] = version.prices or self.prices.prices(
                    version.served_provider, upstream, self.clock()
                )
        return entries(snapshot.of_model(model_id), snapshot.replicas, snapshot.versions, prices)

    def _changes(self, snapshot: Snapshot, model_id: UUID) -> list[Change]:
        wanted = self._entries(snapshot, model_id)
        present: Mapping[tuple[str, str], Any] = snapshot.published.get(model_id, {})
        changed = [
            Change(kind, key, entry)
            for (kind, key), entry in wanted.items()
            if present.get((kind, key)) != msgspec.json.decode(msgspec.json.encode(entry))
        ]
        gone = [Change(kind, key, None) for kind, key in present if (kind, key) not in wanted]  # type: ignore[arg-type]
        return changed + gone

    async def _publish(self, connection: Connection, snapshot: Snapshot, model_id: UUID, reason: str) -> int | None:
        changes = self._changes(snapshot, model_id)
        if not changes:
            return None
        deployments = snapshot.of_model(model_id)
        known = deployments[0].workspace_id if deployments else None
        body: Mapping[str, Any] = next(iter(snapshot.published.get(model_id, {}).values()), {})
        return await publish(connection, known or UUID(body["workspace_id"]), changes, reason)
