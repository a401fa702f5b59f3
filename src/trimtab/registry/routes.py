"""The registry over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from trimtab.api.caller import Admin, Caller, Operator, Viewer
from trimtab.api.paging import Page, Paging
from trimtab.api.versions import IfMatch, check_version, stale, tag
from trimtab.db.database import Connection
from trimtab.registry import models, schemas, store, versions
from trimtab.registry.schemas import Lifecycle, LifecycleEvent, Model, ModelPrice, RegisteredModel
from trimtab.registry.states import Approval, Stage
from trimtab.registry.store import EventRow, LifecycleRow, ModelRow, PriceRow
from trimtab.registry.work import Work

router = APIRouter()
MODELS: list[str | Enum] = ["models"]
LIFECYCLES: list[str | Enum] = ["lifecycles"]
ModelKey = Annotated[str, Path(description="The model's id or name.", max_length=128)]


def work_of(caller: Caller, connection: Connection) -> Work:
    """The caller's work in a transaction."""
    return Work(connection, caller.principal, caller.services.clock())


def shown_model(row: ModelRow) -> Model:
    """A model as it is answered."""
    return Model(**asdict(row))


def shown_lifecycle(row: LifecycleRow) -> Lifecycle:
    """A version as it is answered."""
    return Lifecycle.model_validate(asdict(row))


def shown_event(row: EventRow) -> LifecycleEvent:
    """A step as it is answered."""
    return LifecycleEvent.model_validate(asdict(row))


def shown_price(row: PriceRow) -> ModelPrice:
    """A price as it is answered."""
    return ModelPrice(
        id=row.id,
        model_id=row.model_id,
        effective_from=row.effective_from,
        input=models.from_pico(row.input_pico),
        output=models.from_pico(row.output_pico),
        cache_read=models.from_pico(row.cache_read_pico),
        cache_write=models.from_pico(row.cache_write_pico),
        created_by=row.created_by,
        created_at=row.created_at,
    )


@router.post("/models", status_code=201, tags=MODELS)
async def create(caller: Operator, given: schemas.ModelCreate, response: Response) -> Model:
    """Create a model; its versions come after."""
    async with caller.transaction() as connection:
        row = await models.create_model(work_of(caller, connection), given)
    tag(response, row.version)
    return shown_model(row)


@router.post("/models/register", status_code=201, tags=MODELS)
async def register(caller: Operator, given: schemas.ModelRegister) -> RegisteredModel:
    """Register a model that runs somewhere already, with its first version, in one call."""
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        model = await models.create_model(
            work,
            schemas.ModelCreate(
                name=given.name, provider=given.provider, description=given.description, tags=given.tags
            ),
        )
        if given.pricing is not None:
            price = schemas.PriceCreate.model_validate(given.pricing.model_dump())
            await models.add_price(work, model, price)
        version = schemas.LifecycleCreate(
            model_id=model.id,
            version_tag=given.version,
            deployment_config=given.config(),
            performance_requirements=given.performance_requirements,
            resource_allocation=given.resource_allocation,
        )
        lifecycle = await versions.create_lifecycle(work, caller.services.sealer, model, version)
    return RegisteredModel(**asdict(model), lifecycle_id=lifecycle.id, lifecycle=shown_lifecycle(lifecycle))


@router.get("/models", tags=MODELS)
async def list_(
    caller: Viewer,
    paging: Paging,
    name: Annotated[str | None, Query(description="Only the model of this name.")] = None,
    provider: str | None = None,
) -> Page[Model]:
    """Models, newest first."""
    values = {
        "workspace_id": caller.principal.workspace_id,
        "before": paging.before,
        "fetch": paging.fetch,
        "name": name,
        "provider": provider,
    }
    async with caller.transaction() as connection:
        rows = await store.list_models(connection, values)
    return paging.page(rows, shown_model, lambda row: row.id)


@router.get("/models/{model}", tags=MODELS)
async def get(caller: Viewer, model: ModelKey, response: Response) -> Model:
    """One model, by id or name."""
    async with caller.transaction() as connection:
        row = await models.get_model(work_of(caller, connection), model)
    tag(response, row.version)
    return shown_model(row)


@router.patch("/models/{model}", tags=MODELS)
async def update(
    caller: Operator, model: ModelKey, given: schemas.ModelUpdate, if_match: IfMatch, response: Response
) -> Model:
    """Change a model."""
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        present = await models.get_model(work, model)
        check_version(if_match, present.version)
        row = await models.update_model(work, present, given)
        if row is None:
            raise stale()
    tag(response, row.version)
    return shown_model(row)


@router.delete("/models/{model}", status_code=204, tags=MODELS)
async def delete(caller: Admin, model: ModelKey, if_match: IfMatch) -> None:
    """Delete a model with its versions, if nothing of it was ever deployed."""
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        present = await models.get_model(work, model)
        check_version(if_match, present.version)
        if not await models.delete_model(work, present):
            raise stale()


@router.post("/models/{model}/prices", status_code=201, tags=MODELS)
async def add_price(caller: Operator, model: ModelKey, given: schemas.PriceCreate) -> ModelPrice:
    """Give a model its own price from a moment on, in USD per million tokens."""
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        row = await models.add_price(work, await models.get_model(work, model), given)
    return shown_price(row)


@router.get("/models/{model}/prices", tags=MODELS)
async def list_prices(caller: Viewer, model: ModelKey, paging: Paging) -> Page[ModelPrice]:
    """A model's own prices, newest first."""
    async with caller.transaction() as connection:
        found = await models.get_model(work_of(caller, connection), model)
        values = {"workspace_id": found.workspace_id, "model_id": found.id}
        rows = await store.list_prices(connection, {**values, "before": paging.before, "fetch": paging.fetch})
    return paging.page(rows, shown_price, lambda row: row.id)


@router.post("/lifecycles", status_code=201, tags=LIFECYCLES)
async def create_version(caller: Operator, given: schemas.LifecycleCreate, response: Response) -> Lifecycle:
    """Register a version of a model: pending, in development."""
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        model = await models.get_model(work, given.model_id)
        row = await versions.create_lifecycle(work, caller.services.sealer, model, given)
    tag(response, row.version)
    return shown_lifecycle(row)


@router.get("/lifecycles", tags=LIFECYCLES)
async def list_versions(
    caller: Viewer,
    paging: Paging,
    model_id: UUID | None = None,
    version_tag: str | None = None,
    lifecycle_stage: Stage | None = None,
    approval_status: Approval | None = None,
) -> Page[Lifecycle]:
    """Versions, newest first."""
    values: dict[str, Any] = {
        "workspace_id": caller.principal.workspace_id,
        "before": paging.before,
        "fetch": paging.fetch,
        "model_id": model_id,
        "version_tag": version_tag,
        "lifecycle_stage": lifecycle_stage,
        "approval_status": approval_status,
    }
    async with caller.transaction() as connection:
        rows = await store.list_lifecycles(connection, values)
    return paging.page(rows, shown_lifecycle, lambda row: row.id)


@router.get("/lifecycles/{lifecycle_id}", tags=LIFECYCLES)
async def get_version(caller: Viewer, lifecycle_id: UUID, response: Response) -> Lifecycle:
    """One version."""
    async with caller.transaction() as connection:
        row = await versions.get_lifecycle(work_of(caller, connection), lifecycle_id)
    tag(response, row.version)
    return shown_lifecycle(row)


@router.patch("/lifecycles/{lifecycle_id}", tags=LIFECYCLES)
async def update_version(
    caller: Operator, lifecycle_id: UUID, given: schemas.LifecycleUpdate, if_match: IfMatch, response: Response
) -> Lifecycle:
    """Change a version that was never approved."""
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        present = await versions.get_lifecycle(work, lifecycle_id)
        check_version(if_match, present.version)
        row = await versions.update_lifecycle(work, caller.services.sealer, present, given)
        if row is None:
            raise stale()
    tag(response, row.version)
    return shown_lifecycle(row)


@router.post("/lifecycles/{lifecycle_id}/approve", tags=LIFECYCLES)
async def approve(
    caller: Operator, lifecycle_id: UUID, if_match: IfMatch, response: Response, given: schemas.Approve | None = None
) -> Lifecycle:
    """Approve a version, or approve it on conditions."""
    given = given or schemas.Approve()
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        present = await versions.get_lifecycle(work, lifecycle_id)
        check_version(if_match, present.version)
        row = await versions.decide(
            work,
            present,
            "approved" if given.conditions is None else "conditional",
            approver=given.approver,
            conditions=given.conditions,
            comment=given.comment,
            evidence=given.evidence,
        )
        if row is None:
            raise stale()
    tag(response, row.version)
    return shown_lifecycle(row)


@router.post("/lifecycles/{lifecycle_id}/reject", tags=LIFECYCLES)
async def reject(
    caller: Operator, lifecycle_id: UUID, if_match: IfMatch, response: Response, given: schemas.Reject | None = None
) -> Lifecycle:
    """Reject a version, also one that was approved; what is deployed of it is no longer served in production."""
    given = given or schemas.Reject()
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        present = await versions.get_lifecycle(work, lifecycle_id)
        check_version(if_match, present.version)
        row = await versions.decide(
            work, present, "rejected", approver=given.approver, comment=given.comment, evidence=given.evidence
        )
        if row is None:
            raise stale()
    tag(response, row.version)
    return shown_lifecycle(row)


@router.post("/lifecycles/{lifecycle_id}/transition", tags=LIFECYCLES)
async def transition(
    caller: Operator, lifecycle_id: UUID, given: schemas.Transition, if_match: IfMatch, response: Response
) -> Lifecycle:
    """Move a version to another stage."""
    async with caller.transaction() as connection:
        work = work_of(caller, connection)
        present = await versions.get_lifecycle(work, lifecycle_id)
        check_version(if_match, present.version)
        row = await versions.move(work, present, given.to_stage, given.comment)
        if row is None:
            raise stale()
    tag(response, row.version)
    return shown_lifecycle(row)


@router.get("/lifecycles/{lifecycle_id}/history", tags=LIFECYCLES)
async def history(caller: Viewer, lifecycle_id: UUID, paging: Paging) -> Page[LifecycleEvent]:
    """What happened to a version, newest first."""
    async with caller.transaction() as connection:
        found = await versions.get_lifecycle(work_of(caller, connection), lifecycle_id)
        values = {"workspace_id": found.workspace_id, "lifecycle_id": found.id}
        rows = await store.list_events(connection, {**values, "before": paging.before, "fetch": paging.fetch})
    return paging.page(rows, shown_event, lambda row: row.id)
