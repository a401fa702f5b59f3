# Made by `python -m tools.unasync` from src/trimtab/client/_async/deployments.py; change that one.
"""Deployments: versions that take traffic."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from trimtab.client import waiting
from trimtab.client._sync.paging import Pager
from trimtab.client._sync.transport import Transport
from trimtab.client.calls import Call, Id, path
from trimtab.client.errors import WaitTimedOut
from trimtab.client.waiting import Goal
from trimtab.deployments.schemas import Deployment, DeploymentEvent, Replica, ReplicaLog
from trimtab.monitoring.schemas import DeploymentHealth, MetricSummary


class Deployments:
    """`client.deployments`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        model_id: Id | None = None,
        lifecycle_id: Id | None = None,
        environment: str | None = None,
        status: str | None = None,
        active: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pager[Deployment]:
        """Deployments, newest first; those that fit what is given.

        Parameters:
            active: only those that have not ended, or only those that have.
        """
        query = {
            "model_id": model_id,
            "lifecycle_id": lifecycle_id,
            "environment": environment,
            "status": status,
            "active": active,
            "limit": limit,
            "cursor": cursor,
        }
        return Pager(self._transport, "/deployments", Deployment, query)

    def get(self, deployment_id: Id) -> Deployment:
        """One deployment. Raises NotFoundError."""
        return self._transport.fetch(Call("GET", path("deployments", deployment_id)), Deployment)

    def create(
        self,
        lifecycle_id: Id,
        *,
        environment: str,
        deployment_type: str = "direct",
        traffic_percentage: float | None = None,
        replicas: int | None = None,
        deployment_name: str | None = None,
        steps: Sequence[float] | None = None,
        progress_deadline_seconds: int | None = None,
    ) -> Deployment:
        """Begin a deployment; see `deploy_model`."""
        body = {
            "lifecycle_id": lifecycle_id,
            "environment": environment,
            "deployment_type": deployment_type,
            "traffic_percentage": traffic_percentage,
            "replicas": replicas,
            "deployment_name": deployment_name,
            "steps": steps,
            "progress_deadline_seconds": progress_deadline_seconds,
        }
        return self._transport.fetch(Call("POST", "/deployments", body=body), Deployment)

    def update(
        self,
        deployment_id: Id,
        *,
        replicas: int | None = None,
        traffic_percentage: float | None = None,
        if_match: int | None = None,
    ) -> Deployment:
        """Change the number of replicas or the share (in percent) of a deployment that serves."""
        body = {"replicas": replicas, "traffic_percentage": traffic_percentage}
        return self._transport.fetch(
            Call("PATCH", path("deployments", deployment_id), body=body, if_match=if_match), Deployment
        )

    def rollback(self, deployment_id: Id, *, if_match: int | None = None) -> Deployment:
        """Give its share back to the deployment that had it before. Raises ConflictError where there is none."""
        return self._act(deployment_id, "rollback", if_match)

    def abort(self, deployment_id: Id, *, if_match: int | None = None) -> Deployment:
        """End a rollout before it has traffic, or call off a rollback."""
        return self._act(deployment_id, "abort", if_match)

    def retry(self, deployment_id: Id, *, if_match: int | None = None) -> Deployment:
        """Begin a new attempt of a deployment that failed, was aborted or rolled back."""
        return self._act(deployment_id, "retry", if_match)

    def retire(self, deployment_id: Id, *, force: bool = False, if_match: int | None = None) -> Deployment:
        """Take a deployment out of service; with `force` also the only one with traffic on its route."""
        return self._act(deployment_id, "retire", if_match, force=force or None)

    def health(self, deployment_id: Id) -> DeploymentHealth:
        """The health of a deployment over the last minutes, with the reasons where it is not healthy."""
        return self._transport.fetch(Call("GET", path("deployments", deployment_id, "health")), DeploymentHealth)

    def metrics(
        self,
        deployment_id: Id,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        step: str | None = None,
    ) -> dict[str, MetricSummary]:
        """What a deployment did in `[start, end)`, by metric; see `get_model_metrics`."""
        query = {"start": start, "end": end, "step": step}
        call = Call("GET", path("deployments", deployment_id, "metrics"), query)
        return self._transport.fetch(call, dict[str, MetricSummary])

    def replicas(self, deployment_id: Id) -> Pager[Replica]:
        """The processes or addresses behind a deployment."""
        return Pager(self._transport, path("deployments", deployment_id, "replicas"), Replica, {})

    def logs(self, deployment_id: Id, *, replica: Id | int | None = None, tail: int | None = None) -> Pager[ReplicaLog]:
        """The end of what each replica wrote.

        Parameters:
            replica: id or ordinal of the only one to show.
            tail: most lines of each.
        """
        query = {"replica": replica, "tail": tail}
        return Pager(self._transport, path("deployments", deployment_id, "logs"), ReplicaLog, query)

    def events(
        self, deployment_id: Id, *, limit: int | None = None, cursor: str | None = None
    ) -> Pager[DeploymentEvent]:
        """What happened to a deployment, newest first."""
        query = {"limit": limit, "cursor": cursor}
        return Pager(self._transport, path("deployments", deployment_id, "events"), DeploymentEvent, query)

    def wait(
        self,
        deployment_id: Id,
        *,
        goal: Goal = "serve",
        timeout: float = waiting.DEFAULT_SECONDS,
        watch: Callable[[Deployment], None] | None = None,
    ) -> Deployment:
        """Wait until a deployment serves (or, with the goal `roll_back`, has given its share back).

        Parameters:
            timeout: seconds.
            watch: called with each state that is seen, for showing progress.

        Raises:
            DeploymentFailed: it will not get there; the reason is in the message.
            WaitTimedOut: it has not got there in time; it goes on by itself.
        """
        deadline = time.monotonic() + timeout
        while True:
            deployment = self.get(deployment_id)
            if watch is not None:
                watch(deployment)
            if waiting.reached(deployment, goal):
                return deployment
            if time.monotonic() >= deadline:
                raise WaitTimedOut(
                    f"the deployment {deployment.deployment_name!r} is still {deployment.status} "
                    f"({deployment.rollout_phase}) after {timeout:g} s; it goes on by itself"
                )
            time.sleep(waiting.POLL_SECONDS)

    def _act(self, deployment_id: Id, verb: str, if_match: int | None, *, force: bool | None = None) -> Deployment:
        call = Call("POST", path("deployments", deployment_id, verb), {"force": force}, if_match=if_match)
        return self._transport.fetch(call, Deployment)
