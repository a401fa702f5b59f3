"""The rows that decisions look at, read in one go."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from trimtab.db.database import Connection
from trimtab.deployments import reconcile, store
from trimtab.deployments.records import Deployment, Gateway, Replica
from trimtab.deployments.registry_link import versions
from trimtab.deployments.versions import Version

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows that decisions about some models look at."""

    deployments: dict[UUID, Deployment]
    replicas: dict[UUID, list[Replica]]
    versions: dict[UUID, Version]
    gateways: tuple[Gateway, ...]
    published: dict[UUID, dict[tuple[str, str], Any]]

    def models(self) -> set[UUID]:
        """The models concerned."""
        return {one.model_id for one in self.deployments.values()} | set(self.published)

    def of_model(self, model_id: UUID) -> list[Deployment]:
        """A model's deployments, oldest first."""
        return [one for one in self.deployments.values() if one.model_id == model_id]

    def view(self, one: Deployment) -> reconcile.View:
        """What a decision about `one` looks at."""
        siblings = tuple(
            other
            for other in self.of_model(one.model_id)
            if other.id != one.id
            and other.environment == one.environment
            and (other.ended_at is None or other.id == one.previous_deployment_id)
        )
        previous = one.previous_deployment_id
        return reconcile.View(
            one,
            tuple(self.replicas[one.id]),
            siblings,
            {each.id: self.versions[each.lifecycle_id].approval for each in (one, *siblings)},
            self.gateways,
            tuple(self.replicas.get(previous, ())) if previous else (),
        )


async def load(connection: Connection, model_id: UUID | None = None) -> Snapshot:
    """The rows that decisions look at, of one model or of all; that the caller may see.

    A model with a version that there is not (it is being deleted just now) is left out altogether, so that nothing is
    decided about it on half of its rows, its routing stays, and the other models have their turn.
    """
    live = await store.live(connection, model_id)
    found = await versions(connection, {one.lifecycle_id for one in live})
    torn = {one.model_id for one in live if one.lifecycle_id not in found}
    if torn:
        log.warning("left for later, since versions of theirs are missing: models %s", ", ".join(map(str, torn)))
    deployments = {one.id: one for one in live if one.model_id not in torn}
    published = await store.published(connection, model_id)
    return Snapshot(
        deployments,
        await store.replicas(connection, list(deployments)),
        found,
        await store.gateways(connection),
        {model: entries for model, entries in published.items() if model not in torn},
    )
