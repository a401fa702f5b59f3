"""Rows of this feature, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from trimtab.deployments.states import Phase, ReplicaStatus, Status
from trimtab.routing.records import WHOLE, Environment


@dataclass(frozen=True, slots=True)
class Deployment:
    """A row of `ai_model_deployments`; percentages are of the route's traffic.

    Parameters:
        ending_status: set while it drains: what its status becomes after.
        revived_for: the deployment being rolled back for whose sake this ended one runs again.
        cutover_revision: the routing revision of its last change of share; None while one is wanted and not published.
    """

    id: UUID
    workspace_id: UUID
    model_id: UUID
    lifecycle_id: UUID
    deployment_name: str
    environment: Environment
    deployment_type: str
    status: Status
    status_reason: str
    rollout_phase: Phase
    endpoint_url: str | None
    traffic_percentage: Decimal
    target_traffic_percentage: Decimal
    replicas: int
    config: dict[str, Any]
    previous_deployment_id: UUID | None
    revived_for: UUID | None
    cutover_revision: int | None
    ending_status: Status | None
    draining_since: datetime | None
    deadline_at: datetime
    started_at: datetime
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    version: int

    @property
    def weight(self) -> int:
        """Its present share in basis points."""
        return basis_points(self.traffic_percentage)

    @property
    def target(self) -> int:
        """The wanted share in basis points."""
        return basis_points(self.target_traffic_percentage)


@dataclass(frozen=True, slots=True)
class Replica:
    """A row of `trimtab.replicas`, with whether its runner is alive."""

    id: UUID
    workspace_id: UUID
    deployment_id: UUID
    ordinal: int
    kind: str
    spec: dict[str, Any]
    desired: str
    generation: int
    released_at: datetime | None
    released_revision: int | None
    runner_id: UUID | None
    status: ReplicaStatus
    reason: str
    url: str | None
    pid: int | None
    restarts: int
    cpu_percent: float | None
    memory_bytes: int | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Use:
    """How a gateway used a deployment lately."""

    in_flight: int
    last_request_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway worker: the revision it serves, until when it counts as alive, and what it used."""

    id: UUID
    revision: int
    lease_until: datetime
    uses: dict[UUID, Use] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Runner:
    """What a live runner's machine has."""

    id: UUID
    hostname: str
    cpu: int
    memory_mb: int
    gpu: int


def basis_points(percentage: Decimal) -> int:
    """A percentage in basis points."""
    return int(percentage * WHOLE / 100)


def percentage(weight: int) -> Decimal:
    """Basis points as a percentage with two decimals."""
    return Decimal(weight) * 100 / WHOLE
