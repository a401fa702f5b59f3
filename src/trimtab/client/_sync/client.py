# Made by `python -m tools.unasync` from src/trimtab/client/_async/client.py; change that one.
"""The client itself: the resources as attributes, and the verbs for what is done most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx2

from trimtab.client import waiting
from trimtab.client._sync.access import ApiKeys, AuditLog, Providers, Session, Workspaces
from trimtab.client._sync.deployments import Deployments
from trimtab.client._sync.monitoring import Metrics
from trimtab.client._sync.registry import Lifecycles, Models
from trimtab.client._sync.transport import Transport
from trimtab.client._sync.usage import Requests, Usage
from trimtab.client.calls import Id
from trimtab.client.config import resolve
from trimtab.deployments.schemas import Deployment
from trimtab.monitoring.schemas import DeploymentHealth, MetricsRecorded, MetricSummary
from trimtab.registry.schemas import Lifecycle, RegisteredModel


class Trimtab:
    """A client of a Trimtab server.

    Results are typed and carry the columns as attributes; ids may be given as UUID or text; errors are the exceptions
    of `trimtab.client.errors`. Calls that may be repeated are, with growing pauses; a repeated POST carries the same
    idempotency key, so nothing is done twice. May be used as a context manager, which closes its connections.

    Parameters:
        url: of the server; without one TRIMTAB_URL, else http://127.0.0.1:8700.
        api_key: without one TRIMTAB_API_KEY.
        timeout: seconds that one attempt of a call may take.
        retries: how often a call is repeated when the server cannot be reached or says that it is busy.

    Raises:
        ConfigurationError: the URL or the key cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(resolve(url, api_key, timeout, retries), transport)
        self.models = Models(self._transport)
        self.lifecycles = Lifecycles(self._transport)
        self.deployments = Deployments(self._transport)
        self.metrics = Metrics(self._transport)
        self.usage = Usage(self._transport)
        self.requests = Requests(self._transport)
        self.api_keys = ApiKeys(self._transport)
        self.providers = Providers(self._transport)
        self.audit_log = AuditLog(self._transport)
        self.workspaces = Workspaces(self._transport)
        self.session = Session(self._transport)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.config.url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Trimtab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def register_existing_model(
        self,
        name: str,
        *,
        endpoint: str | None = None,
        provider: str = "openai-compatible",
        version: str = "v1.0.0",
        upstream_model: str | None = None,
        credential: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        deployment_config: Mapping[str, Any] | None = None,
        performance_requirements: Mapping[str, Any] | None = None,
        resource_allocation: Mapping[str, Any] | None = None,
        pricing: Mapping[str, Any] | None = None,
    ) -> RegisteredModel:
        """Register a model that runs somewhere, with its first version.

        Parameters:
            name: what callers of the gateway ask for; unique.
            endpoint: base URL of the model's server; or tell in `deployment_config` how to run it.
            provider: `openai`, `anthropic`, `openai-compatible`, ...
            version: tag of its first version.
            upstream_model: the model's name at the endpoint; `name` where nothing is said.
            credential: key for the endpoint; kept sealed.
            performance_requirements: `latency_threshold` and `ttft_threshold` in ms at p95, `error_rate` a fraction,
                `cost_per_request` in USD.
            resource_allocation: `cpu` (cores), `memory_mb`, `gpu` of one replica.
            pricing: the model's own price, `input` and `output` in USD per million tokens.

        Returns:
            The model; `lifecycle_id` and `lifecycle` are its first version.

        Raises:
            ConflictError: the name is taken.
            InvalidRequestError: a value is wrong; `field` says which.
        """
        return self.models.register(
            name,
            provider=provider,
            version=version,
            endpoint=endpoint,
            upstream_model=upstream_model,
            credential=credential,
            description=description,
            tags=tags,
            deployment_config=deployment_config,
            performance_requirements=performance_requirements,
            resource_allocation=resource_allocation,
            pricing=pricing,
        )

    def create_model_lifecycle(
        self,
        model_id: Id,
        version_tag: str,
        *,
        deployment_config: Mapping[str, Any] | None = None,
        performance_requirements: Mapping[str, Any] | None = None,
        resource_allocation: Mapping[str, Any] | None = None,
        description: str | None = None,
        parent_lifecycle_id: Id | None = None,
        lineage: Mapping[str, Any] | None = None,
    ) -> Lifecycle:
        """Create a version of a model: pending, in development.

        Parameters:
            deployment_config: `endpoint` or `endpoints` or `runtime`, `provider`, `upstream_model`, `credential`,
                `replicas`, `parameters` (request defaults), `overrides` (forced).
            performance_requirements, resource_allocation: as for `register_existing_model`.
            parent_lifecycle_id: the version that this one was made from.

        Raises:
            ConflictError: the tag is taken.
            InvalidRequestError: a value is wrong; `field` says which.
            NotFoundError: there is no such model.
        """
        return self.lifecycles.create(
            model_id,
            version_tag,
            deployment_config=deployment_config,
            performance_requirements=performance_requirements,
            resource_allocation=resource_allocation,
            description=description,
            parent_lifecycle_id=parent_lifecycle_id,
            lineage=lineage,
        )

    def approve_lifecycle(
        self,
        lifecycle_id: Id,
        approver: str,
        *,
        comment: str | None = None,
        evidence: Mapping[str, Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
    ) -> Lifecycle:
        """Approve a version.

        Parameters:
            approver: name or id of the one whose key this is; anyone else's is refused.
            evidence: what the approval rests on; kept in the history.
            conditions: `max_traffic_percentage` (0-100) and `expires_at` make it a conditional approval.

        Raises:
            PermissionDeniedError: the approver is not the caller, or approves their own version where that is not
                allowed.
            ConflictError: it cannot be approved from where it stands.
        """
        return self.lifecycles.approve(
            lifecycle_id, approver, comment=comment, evidence=evidence, conditions=conditions
        )

    def reject_lifecycle(
        self,
        lifecycle_id: Id,
        approver: str | None = None,
        *,
        comment: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Lifecycle:
        """Reject a version, also one that was approved; production no longer serves it. Raises as approving does."""
        return self.lifecycles.reject(lifecycle_id, approver, comment=comment, evidence=evidence)

    def deploy_model(
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
        wait: bool = False,
        timeout: float = waiting.DEFAULT_SECONDS,
        watch: Callable[[Deployment], None] | None = None,
    ) -> Deployment:
        """Deploy a version.

        Parameters:
            environment: `development`, `staging` or `production`, which takes approved versions only.
            deployment_type: `direct` moves the traffic at once when all replicas are ready.
            traffic_percentage: its share of the environment's traffic in the end, 0 to 100; all where nothing is said.
            replicas: how many processes, where Trimtab runs the model.
            progress_deadline_seconds: when a deployment that is not ready counts as failed.
            wait: return only when it serves.
            timeout: seconds to wait at most.
            watch: called with each state that is seen while waiting.

        Raises:
            ConflictError: the version is not approved, or the machine too small.
            DeploymentFailed: waited for, and it failed; the message says why.
            WaitTimedOut: waited for in vain; it goes on by itself.
        """
        deployment = self.deployments.create(
            lifecycle_id,
            environment=environment,
            deployment_type=deployment_type,
            traffic_percentage=traffic_percentage,
            replicas=replicas,
            deployment_name=deployment_name,
            steps=steps,
            progress_deadline_seconds=progress_deadline_seconds,
        )
        if not wait:
            return deployment
        return self.deployments.wait(deployment.id, timeout=timeout, watch=watch)

    def get_model_health(self, deployment_id: Id) -> DeploymentHealth:
        """The health of a deployment: `status`, and the reasons where it is not healthy. Raises NotFoundError."""
        return self.deployments.health(deployment_id)

    def get_model_metrics(
        self,
        deployment_id: Id,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        step: str | None = None,
    ) -> dict[str, MetricSummary]:
        """What a deployment did in `[start, end)`: metric -> unit, count, mean, total, min, max, p50, p95, p99, series.

        The gateway measures `requests`, `throughput`, `latency` (ms), `ttft` (ms), `tokens_per_second`, `error_rate`
        (fraction), tokens and `cost` (USD) by itself; recorded ones stand beside them by their own names. Without any
        request and value in the range the answer is empty.

        Parameters:
            start, end: with a time zone; the last hour where nothing is said.
            step: length of one point of the series, such as `1m`, `1h`, `1d`; chosen by the range where nothing is
                said.
        """
        return self.deployments.metrics(deployment_id, start=start, end=end, step=step)

    def record_performance_metric(
        self,
        deployment_id: Id,
        metric_type: str,
        value: float,
        unit: str = "",
        metadata: Mapping[str, Any] | None = None,
        *,
        recorded_at: datetime | None = None,
    ) -> MetricsRecorded:
        """Record one value of any name for a deployment.

        Parameters:
            unit: of the value, such as `ms`.
            metadata: anything to keep with it.
            recorded_at: when it was measured, with a time zone; now, where nothing is said.
        """
        return self.metrics.record(deployment_id, metric_type, value, unit, metadata=metadata, recorded_at=recorded_at)

    def record_performance_metrics(self, metrics: Sequence[Mapping[str, Any]]) -> MetricsRecorded:
        """Record up to 10,000 values at once: all, or none.

        Parameters:
            metrics: each with `deployment_id`, `metric_type`, `metric_value`, and if wanted `metric_unit`,
                `recorded_at`, `metadata`.
        """
        return self.metrics.record_many(metrics)
