"""Values that users record themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from trimtab.client._async.transport import AsyncTransport
from trimtab.client.calls import Call, Id, plain
from trimtab.monitoring.schemas import MetricsRecorded


class AsyncMetrics:
    """`client.metrics`; what was recorded is read with `client.deployments.metrics`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def record(
        self,
        deployment_id: Id,
        metric_type: str,
        value: float,
        unit: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
        recorded_at: datetime | None = None,
    ) -> MetricsRecorded:
        """Record one value; see `record_performance_metric`."""
        body = {
            "deployment_id": deployment_id,
            "metric_type": metric_type,
            "metric_value": value,
            "metric_unit": unit,
            "metadata": metadata,
            "recorded_at": recorded_at,
        }
        return await self._transport.fetch(Call("POST", "/metrics", body=body), MetricsRecorded)

    async def record_many(self, metrics: Sequence[Mapping[str, Any]]) -> MetricsRecorded:
        """Record up to 10,000 values at once; see `record_performance_metrics`."""
        body = [plain(metric) for metric in metrics]
        return await self._transport.fetch(Call("POST", "/metrics", body=body), MetricsRecorded)
