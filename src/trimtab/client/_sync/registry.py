# Made by `python -m tools.unasync` from src/trimtab/client/_async/registry.py; change that one.
"""Models and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from trimtab.client._sync.paging import Pager
from trimtab.client._sync.transport import Transport
from trimtab.client.calls import Call, Id, path
from trimtab.registry.schemas import Lifecycle, LifecycleEvent, Model, ModelPrice, RegisteredModel


class Models:
    """`client.models`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        name: str | None = None,
        provider: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pager[Model]:
        """Models, newest first; those that fit what is given."""
        query = {"name": name, "provider": provider, "limit": limit, "cursor": cursor}
        return Pager(self._transport, "/models", Model, query)

    def get(self, model_id: Id) -> Model:
        """One model, by id or name. Raises NotFoundError."""
        return self._transport.fetch(Call("GET", path("models", model_id)), Model)

    def create(
        self, name: str, provider: str, *, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Model:
        """A model without a version; `register` makes one with its first version. Raises ConflictError."""
        body = {"name": name, "provider": provider, "description": description, "tags": tags}
        return self._transport.fetch(Call("POST", "/models", body=body), Model)

    def register(
        self,
        name: str,
        *,
        provider: str,
        version: str,
        endpoint: str | None = None,
        upstream_model: str | None = None,
        credential: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        deployment_config: Mapping[str, Any] | None = None,
        performance_requirements: Mapping[str, Any] | None = None,
        resource_allocation: Mapping[str, Any] | None = None,
        pricing: Mapping[str, Any] | None = None,
    ) -> RegisteredModel:
        """A model with its first version; see `register_existing_model`."""
        body = {
            "name": name,
            "provider": provider,
            "version": version,
            "endpoint": endpoint,
            "upstream_model": upstream_model,
            "credential": credential,
            "description": description,
            "tags": tags,
            "deployment_config": deployment_config,
            "performance_requirements": performance_requirements,
            "resource_allocation": resource_allocation,
            "pricing": pricing,
        }
        return self._transport.fetch(Call("POST", "/models/register", body=body), RegisteredModel)

    def update(
        self,
        model_id: Id,
        *,
        name: str | None = None,
        provider: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        if_match: int | None = None,
    ) -> Model:
        """Change what is given; with `if_match` only while the model still has that `version`."""
        body = {"name": name, "provider": provider, "description": description, "tags": tags}
        return self._transport.fetch(Call("PATCH", path("models", model_id), body=body, if_match=if_match), Model)

    def delete(self, model_id: Id, *, if_match: int | None = None) -> None:
        """Delete a model with its versions. Raises ConflictError while it is deployed."""
        self._transport.perform(Call("DELETE", path("models", model_id), if_match=if_match))

    def prices(self, model_id: Id, *, limit: int | None = None, cursor: str | None = None) -> Pager[ModelPrice]:
        """The model's own prices, which take the place of the public price list."""
        query = {"limit": limit, "cursor": cursor}
        return Pager(self._transport, path("models", model_id, "prices"), ModelPrice, query)

    def set_price(
        self,
        model_id: Id,
        *,
        input: str | float,
        output: str | float,
        cache_read: str | float | None = None,
        cache_write: str | float | None = None,
        effective_from: datetime | None = None,
    ) -> ModelPrice:
        """Give a model its own price, in USD per million tokens, from a moment on (now, where none is given)."""
        body = {
            "input": input,
            "output": output,
            "cache_read": cache_read,
            "cache_write": cache_write,
            "effective_from": effective_from,
        }
        return self._transport.fetch(Call("POST", path("models", model_id, "prices"), body=body), ModelPrice)


class Lifecycles:
    """`client.lifecycles`: the versions of models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        model_id: Id | None = None,
        version_tag: str | None = None,
        lifecycle_stage: str | None = None,
        approval_status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pager[Lifecycle]:
        """Versions, newest first; those that fit what is given."""
        query = {
            "model_id": model_id,
            "version_tag": version_tag,
            "lifecycle_stage": lifecycle_stage,
            "approval_status": approval_status,
            "limit": limit,
            "cursor": cursor,
        }
        return Pager(self._transport, "/lifecycles", Lifecycle, query)

    def get(self, lifecycle_id: Id) -> Lifecycle:
        """One version. Raises NotFoundError."""
        return self._transport.fetch(Call("GET", path("lifecycles", lifecycle_id)), Lifecycle)

    def create(
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
        """A new version of a model; see `create_model_lifecycle`."""
        body = {
            "model_id": model_id,
            "version_tag": version_tag,
            "deployment_config": deployment_config,
            "performance_requirements": performance_requirements,
            "resource_allocation": resource_allocation,
            "description": description,
            "parent_lifecycle_id": parent_lifecycle_id,
            "lineage": lineage,
        }
        return self._transport.fetch(Call("POST", "/lifecycles", body=body), Lifecycle)

    def update(
        self,
        lifecycle_id: Id,
        *,
        version_tag: str | None = None,
        deployment_config: Mapping[str, Any] | None = None,
        performance_requirements: Mapping[str, Any] | None = None,
        resource_allocation: Mapping[str, Any] | None = None,
        description: str | None = None,
        lineage: Mapping[str, Any] | None = None,
        if_match: int | None = None,
    ) -> Lifecycle:
        """Change what is given, each replaced whole. Raises ConflictError once the version was approved."""
        body = {
            "version_tag": version_tag,
            "deployment_config": deployment_config,
            "performance_requirements": performance_requirements,
            "resource_allocation": resource_allocation,
            "description": description,
            "lineage": lineage,
        }
        return self._transport.fetch(
            Call("PATCH", path("lifecycles", lifecycle_id), body=body, if_match=if_match), Lifecycle
        )

    def approve(
        self,
        lifecycle_id: Id,
        approver: str | None = None,
        *,
        comment: str | None = None,
        evidence: Mapping[str, Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
    ) -> Lifecycle:
        """Approve a version; see `approve_lifecycle`."""
        body = {"approver": approver, "comment": comment, "evidence": evidence, "conditions": conditions}
        return self._transport.fetch(Call("POST", path("lifecycles", lifecycle_id, "approve"), body=body), Lifecycle)

    def reject(
        self,
        lifecycle_id: Id,
        approver: str | None = None,
        *,
        comment: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Lifecycle:
        """Reject a version, also one that was approved before."""
        body = {"approver": approver, "comment": comment, "evidence": evidence}
        return self._transport.fetch(Call("POST", path("lifecycles", lifecycle_id, "reject"), body=body), Lifecycle)

    def transition(self, lifecycle_id: Id, to_stage: str, *, comment: str | None = None) -> Lifecycle:
        """Move a version to another stage. Raises ConflictError where that one cannot follow."""
        body = {"to_stage": to_stage, "comment": comment}
        return self._transport.fetch(Call("POST", path("lifecycles", lifecycle_id, "transition"), body=body), Lifecycle)

    def history(
        self, lifecycle_id: Id, *, limit: int | None = None, cursor: str | None = None
    ) -> Pager[LifecycleEvent]:
        """Each step in the life of a version, newest first: who, when, why, on which evidence."""
        query = {"limit": limit, "cursor": cursor}
        return Pager(self._transport, path("lifecycles", lifecycle_id, "history"), LifecycleEvent, query)
