"""What deployments need to know of a version."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

from trimtab.deployments.reconcile import Approval
from trimtab.routing.records import WHOLE, Price

ApprovalStatus = Literal["pending", "approved", "rejected", "conditional"]


@dataclass(frozen=True, slots=True)
class Version:
    """A version and its model, as far as serving them goes.

    Parameters:
        credential: the provider's key, sealed, as text; None where none is needed.
        prices: the version's or the model's own, oldest first; empty where there are none.
    """

    lifecycle_id: UUID
    workspace_id: UUID
    model_id: UUID
    model_name: str
    version_tag: str
    lifecycle_stage: str
    provider: str
    approval_status: ApprovalStatus
    approval_conditions: dict[str, Any] | None
    deployment_config: dict[str, Any]
    resource_allocation: dict[str, Any]
    credential: str | None
    prices: tuple[Price, ...] = field(default=())

    @property
    def approval(self) -> Approval:
        """The approval, as decisions take it."""
        conditions = self.approval_conditions or {}
        most = conditions.get("max_traffic_percentage")
        expires = conditions.get("expires_at")
        return Approval(
            self.approval_status,
            WHOLE if most is None else round(float(most) * WHOLE / 100),
            None if expires is None else datetime.fromisoformat(expires),
        )

    @property
    def served_provider(self) -> str:
        """The provider of this version, which may differ from its model's."""
        return cast(str, self.deployment_config.get("provider") or self.provider)

    @property
    def runtime(self) -> dict[str, Any]:
        """`deployment_config.runtime`; for a version that only names endpoints it is `external`."""
        return cast(dict[str, Any], self.deployment_config.get("runtime") or {"kind": "external"})

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The base URLs of an external version."""
        several = self.deployment_config.get("endpoints")
        one = self.deployment_config.get("endpoint")
        return tuple(several) if several else (one,) if one else ()
