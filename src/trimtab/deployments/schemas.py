"""What deployments take and answer. Shared with the Python client, so it imports nothing of server or database."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from trimtab.deployments.states import Phase, ReplicaStatus, Status
from trimtab.fields import Name, Strict

Environment = Literal["development", "staging", "production"]
DeploymentType = Literal["direct", "blue-green", "canary", "rolling"]
Percentage = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2)]
Replicas = Annotated[int, Field(ge=1, le=1000)]


class DeploymentCreate(Strict):
    """A new deployment of a version.

    `traffic_percentage` is the share it shall have in the end: the others on its route are scaled to the remainder.
    Where no other has a share, any above 0 stands for 100. With 0 it can be called as `name@version` only.
    """

    lifecycle_id: UUID
    environment: Environment = "development"
    deployment_type: DeploymentType = "direct"
    traffic_percentage: Percentage = Decimal(100)
    replicas: Replicas | None = None
    deployment_name: Name | None = None
    steps: list[Percentage] | None = None
    progress_deadline_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = None


class DeploymentUpdate(Strict):
    """A change in place; fields left out stay."""

    replicas: Replicas | None = None
    traffic_percentage: Percentage | None = None


class Deployment(BaseModel):
    """A deployment. `traffic_percentage` is its present share, `target_traffic_percentage` the wanted one.

    While it drains, `ending_status` says what its status becomes.
    """

    id: UUID
    workspace_id: UUID
    model_id: UUID
    model_name: str
    lifecycle_id: UUID
    version_tag: str
    deployment_name: str
    environment: Environment
    deployment_type: DeploymentType
    status: Status
    status_reason: str
    rollout_phase: Phase
    endpoint_url: str | None
    traffic_percentage: float
    target_traffic_percentage: float
    replicas: int
    config: dict[str, Any]
    previous_deployment_id: UUID | None
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


class Replica(BaseModel):
    """One process or one address behind a deployment."""

    id: UUID
    deployment_id: UUID
    ordinal: int
    kind: Literal["external", "process"]
    desired: Literal["running", "stopped"]
    status: ReplicaStatus
    reason: str
    url: str | None
    pid: int | None
    restarts: int
    cpu_percent: float | None
    memory_bytes: int | None
    changed_at: datetime


class DeploymentEvent(BaseModel):
    """Something that happened to a deployment."""

    id: UUID
    at: datetime
    name: str
    data: dict[str, Any]


class ReplicaLog(BaseModel):
    """The end of what a replica wrote."""

    replica_id: UUID
    ordinal: int
    lines: list[str]
