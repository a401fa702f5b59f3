"""Rows for the tests of decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from trimtab.deployments.reconcile import Approval, View
from trimtab.deployments.records import Deployment, Gateway, Replica

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WORKSPACE, MODEL = UUID(int=1), UUID(int=2)


def deployment(number: int, **values: Any) -> Deployment:
    """A new deployment to production, number `number` of its route."""
    one = Deployment(
        id=UUID(int=number),
        workspace_id=WORKSPACE,
        model_id=MODEL,
        lifecycle_id=UUID(int=number + 1000),
        deployment_name=f"d{number}",
        environment="production",
        deployment_type="direct",
        status="deploying",
        status_reason="",
        rollout_phase="pending",
        endpoint_url=None,
        traffic_percentage=Decimal(0),
        target_traffic_percentage=Decimal(100),
        replicas=1,
        config={"progress_deadline_seconds": 600},
        previous_deployment_id=None,
        revived_for=None,
        cutover_revision=None,
        ending_status=None,
        draining_since=None,
        deadline_at=NOW + timedelta(seconds=600),
        started_at=NOW + timedelta(microseconds=number),
        created_by=None,
        created_at=NOW,
        updated_at=NOW,
        ended_at=None,
        version=1,
    )
    return replace(one, **values)


def serving(number: int, share: int = 100, **values: Any) -> Deployment:
    """A healthy deployment with a share."""
    state: dict[str, Any] = {
        "status": "healthy",
        "rollout_phase": "succeeded",
        "traffic_percentage": Decimal(share),
        "cutover_revision": 1,
        "endpoint_url": "http://127.0.0.1:1000/v1",
    }
    return deployment(number, **{**state, **values})


def replica(of: Deployment, ordinal: int = 0, **values: Any) -> Replica:
    """A replica that is ready."""
    one = Replica(
        id=UUID(int=of.id.int * 10_000 + ordinal),
        workspace_id=WORKSPACE,
        deployment_id=of.id,
        ordinal=ordinal,
        kind="process",
        spec={},
        desired="running",
        generation=1,
        released_at=None,
        released_revision=None,
        runner_id=UUID(int=3),
        status="ready",
        reason="",
        url=f"http://127.0.0.1:{1000 + ordinal}/v1",
        pid=1,
        restarts=0,
        cpu_percent=None,
        memory_bytes=None,
        changed_at=NOW,
    )
    return replace(one, **values)


def gateway(number: int, revision: int, lease: int = 30, **uses: Any) -> Gateway:
    """A gateway that serves `revision`, its lease ending `lease` seconds from now."""
    return Gateway(UUID(int=number), revision, NOW + timedelta(seconds=lease), uses.get("uses", {}))


def view(one: Deployment, *siblings: Deployment, **values: Any) -> View:
    """A view of `one`, all versions approved, unless `approvals` by number says otherwise."""
    approvals = {each.id: Approval("approved") for each in (one, *siblings)}
    approvals |= {UUID(int=number): approval for number, approval in values.pop("approvals", {}).items()}
    replicas = values.pop("replicas", (replica(one),))
    gateways = values.pop("gateways", ())
    return View(one, tuple(replicas), siblings, approvals, tuple(gateways), **values)
