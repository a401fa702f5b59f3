"""The registry's SQL. Statements name their workspace or ids, so that an index leads; the policies hold in any case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from trimtab.db.database import Connection
from trimtab.registry.states import Approval, Stage


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A row of `ai_models`."""

    id: UUID
    workspace_id: UUID
    name: str
    description: str
    provider: str
    tags: dict[str, str]
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class LifecycleRow:
    """A row of `ai_model_lifecycle`, with its model's name."""

    id: UUID
    workspace_id: UUID
    model_id: UUID
    model_name: str
    model_provider: str
    version_tag: str
    lifecycle_stage: Stage
    approval_status: Approval
    approval_conditions: dict[str, Any] | None
    deployment_config: dict[str, Any]
    performance_requirements: dict[str, Any]
    resource_allocation: dict[str, Any]
    description: str
    parent_lifecycle_id: UUID | None
    lineage: dict[str, Any]
    credential_id: UUID | None
    decided_by: UUID | None
    decided_by_name: str | None
    decided_at: datetime | None
    frozen_at: datetime | None
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of `lifecycle_events`."""

    id: UUID
    workspace_id: UUID
    lifecycle_id: UUID
    at: datetime
    actor_id: UUID | None
    actor_name: str
    event: str
    from_value: str | None
    to_value: str | None
    comment: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A row of `ai_model_prices`; rates in pico-USD per token."""

    id: UUID
    workspace_id: UUID
    model_id: UUID
    effective_from: datetime
    input_pico: int
    output_pico: int
    cache_read_pico: int
    cache_write_pico: int
    created_by: UUID | None
    created_at: datetime


MODEL_COLUMNS = "id, workspace_id, name, description, provider, tags, created_by, created_at, updated_at, version"
LIFECYCLE_COLUMNS = """l.id, l.workspace_id, l.model_id, m.name as model_name, m.provider as model_provider,
    l.version_tag, l.lifecycle_stage, l.approval_status, l.approval_conditions, l.deployment_config,
    l.performance_requirements, l.resource_allocation, l.description, l.parent_lifecycle_id, l.lineage,
    l.credential_id, l.decided_by, l.decided_by_name, l.decided_at, l.frozen_at, l.created_by, l.created_at,
    l.updated_at, l.version"""
FROM_LIFECYCLE = "from public.ai_model_lifecycle l join public.ai_models m on m.id = l.model_id"

INSERT_MODEL = f"""
insert into public.ai_models (id, workspace_id, name, description, provider, tags, created_by, created_at, updated_at)
values (%(id)s, %(workspace_id)s, %(name)s, %(description)s, %(provider)s, %(tags)s, %(created_by)s, %(now)s, %(now)s)
returning {MODEL_COLUMNS}
"""
SELECT_MODEL = f"select {MODEL_COLUMNS} from public.ai_models where workspace_id = %s and id = %s"
SELECT_MODEL_BY_NAME = (
    f"select {MODEL_COLUMNS} from public.ai_models where workspace_id = %s and lower(name) = lower(%s)"
)
SELECT_MODELS = f"""
select {MODEL_COLUMNS} from public.ai_models
where workspace_id = %(workspace_id)s and (%(before)s::uuid is null or id < %(before)s)
    and (%(name)s::text is null or lower(name) = lower(%(name)s))
    and (%(provider)s::text is null or provider = %(provider)s)
order by id desc limit %(fetch)s
"""
UPDATE_MODEL = f"""
update public.ai_models set name = %(name)s, description = %(description)s, provider = %(provider)s, tags = %(tags)s,
    updated_at = %(now)s, version = version + 1
where workspace_id = %(workspace_id)s and id = %(id)s and version = %(expected)s
returning {MODEL_COLUMNS}
"""
DELETE_MODEL = "delete from public.ai_models where workspace_id = %s and id = %s and version = %s returning true"
LOCK_MODEL = "select pg_advisory_xact_lock(hashtextextended('trimtab.model/' || %s::text, 0))"
WAS_DEPLOYED = "select 1 from public.ai_model_deployments where workspace_id = %s and model_id = %s limit 1"
LIVE_DEPLOYMENTS = """
select deployment_name from public.ai_model_deployments
where workspace_id = %(workspace_id)s and ended_at is null
    and (%(model_id)s::uuid is null or model_id = %(model_id)s)
    and (%(lifecycle_id)s::uuid is null or lifecycle_id = %(lifecycle_id)s)
order by id limit 10
"""
INSERT_LIFECYCLE = """
insert into public.ai_model_lifecycle (id, workspace_id, model_id, version_tag, deployment_config,
    performance_requirements, resource_allocation, description, parent_lifecycle_id, lineage, credential_id,
    created_by, created_at, updated_at)
values (%(id)s, %(workspace_id)s, %(model_id)s, %(version_tag)s, %(deployment_config)s, %(performance_requirements)s,
    %(resource_allocation)s, %(description)s, %(parent_lifecycle_id)s, %(lineage)s, %(credential_id)s,
    %(created_by)s, %(now)s, %(now)s)
"""
SELECT_LIFECYCLE = f"select {LIFECYCLE_COLUMNS} {FROM_LIFECYCLE} where l.workspace_id = %s and l.id = %s"
SELECT_LIFECYCLES_BY_ID = f"select {LIFECYCLE_COLUMNS} {FROM_LIFECYCLE} where l.id = any(%s)"
SELECT_LIFECYCLES = f"""
select {LIFECYCLE_COLUMNS} {FROM_LIFECYCLE}
where l.workspace_id = %(workspace_id)s and (%(before)s::uuid is null or l.id < %(before)s)
    and (%(model_id)s::uuid is null or l.model_id = %(model_id)s)
    and (%(version_tag)s::text is null or lower(l.version_tag) = lower(%(version_tag)s))
    and (%(lifecycle_stage)s::text is null or l.lifecycle_stage = %(lifecycle_stage)s)
    and (%(approval_status)s::text is null or l.approval_status = %(approval_status)s)
order by l.id desc limit %(fetch)s
"""
UPDATE_LIFECYCLE = """
update public.ai_model_lifecycle set version_tag = %(version_tag)s, deployment_config = %(deployment_config)s,
    performance_requirements = %(performance_requirements)s, resource_allocation = %(resource_allocation)s,
    description = %(description)s, lineage = %(lineage)s, credential_id = %(credential_id)s,
    updated_at = %(now)s, version = version + 1
where workspace_id = %(workspace_id)s and id = %(id)s and version = %(expected)s returning true
"""
DECIDE = """
update public.ai_model_lifecycle set approval_status = %(approval_status)s, approval_conditions = %(conditions)s,
    decided_by = %(actor_id)s, decided_by_name = %(actor_name)s, decided_at = %(now)s,
    updated_at = %(now)s, version = version + 1
where workspace_id = %(workspace_id)s and id = %(id)s and version = %(expected)s returning true
"""
SET_STAGE = """
update public.ai_model_lifecycle set lifecycle_stage = %(stage)s, updated_at = %(now)s, version = version + 1
where workspace_id = %(workspace_id)s and id = %(id)s and version = %(expected)s returning true
"""
INSERT_EVENT = """
insert into trimtab.lifecycle_events
    (id, workspace_id, lifecycle_id, at, actor_id, actor_name, event, from_value, to_value, comment, evidence)
values (%(id)s, %(workspace_id)s, %(lifecycle_id)s, %(at)s, %(actor_id)s, %(actor_name)s, %(event)s, %(from_value)s,
    %(to_value)s, %(comment)s, %(evidence)s)
"""
SELECT_EVENTS = """
select id, workspace_id, lifecycle_id, at, actor_id, actor_name, event, from_value, to_value, comment, evidence
from trimtab.lifecycle_events
where workspace_id = %(workspace_id)s and lifecycle_id = %(lifecycle_id)s
    and (%(before)s::uuid is null or id < %(before)s)
order by id desc limit %(fetch)s
"""
PRICE_COLUMNS = """id, workspace_id, model_id, effective_from, input_pico, output_pico, cache_read_pico,
    cache_write_pico, created_by, created_at"""
INSERT_PRICE = f"""
insert into public.ai_model_prices (id, workspace_id, model_id, effective_from, input_pico, output_pico,
    cache_read_pico, cache_write_pico, created_by, created_at)
values (%(id)s, %(workspace_id)s, %(model_id)s, %(effective_from)s, %(input_pico)s, %(output_pico)s,
    %(cache_read_pico)s, %(cache_write_pico)s, %(created_by)s, %(now)s)
returning {PRICE_COLUMNS}
"""
SELECT_PRICES = f"""
select {PRICE_COLUMNS} from public.ai_model_prices where model_id = any(%s) order by model_id, effective_from
"""
SELECT_PRICE_PAGE = f"""
select {PRICE_COLUMNS} from public.ai_model_prices
where workspace_id = %(workspace_id)s and model_id = %(model_id)s and (%(before)s::uuid is null or id < %(before)s)
order by id desc limit %(fetch)s
"""
SELECT_SETTINGS = "select settings from trimtab.workspaces where id = %s"
NOTIFY_DEPLOYMENTS = "select pg_notify('trimtab_deployments', %s)"
NOTIFY_DEPLOYMENTS_OF_MODEL = """
select pg_notify('trimtab_deployments', lifecycle_id::text) from (
    select distinct lifecycle_id from public.ai_model_deployments
    where workspace_id = %s and model_id = %s and ended_at is null) deployed
"""

JSON_COLUMNS = frozenset(
    {
        "tags",
        "deployment_config",
        "performance_requirements",
        "resource_allocation",
        "lineage",
        "evidence",
        "conditions",
    }
)


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: Jsonb(value) if name in JSON_COLUMNS and value is not None else value for name, value in values.items()
    }


async def insert_model(connection: Connection, values: Mapping[str, Any]) -> ModelRow:
    """Insert a model. Raises psycopg.errors.UniqueViolation when the name is taken."""
    async with connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        row = await (await cursor.execute(INSERT_MODEL, _values(values))).fetchone()
    assert row is not None
    return row


async def find_model(connection: Connection, workspace_id: UUID, model: UUID | str) -> ModelRow | None:
    """The model of an id, or of a name regardless of case."""
    query = SELECT_MODEL if isinstance(model, UUID) else SELECT_MODEL_BY_NAME
    async with connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        return await (await cursor.execute(query, (workspace_id, model))).fetchone()


async def list_models(connection: Connection, values: Mapping[str, Any]) -> list[ModelRow]:
    """Models, newest first."""
    async with connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        return await (await cursor.execute(SELECT_MODELS, values)).fetchall()


async def update_model(connection: Connection, values: Mapping[str, Any]) -> ModelRow | None:
    """Change a model at its `expected` version; None when it has moved on."""
    async with connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        return await (await cursor.execute(UPDATE_MODEL, _values(values))).fetchone()


async def delete_model(connection: Connection, row: ModelRow) -> bool:
    """Delete a model with all its versions, unless it has moved on."""
    cursor = await connection.execute(DELETE_MODEL, (row.workspace_id, row.id, row.version))
    return await cursor.fetchone() is not None


async def lock_model(connection: Connection, model_id: UUID) -> None:
    """Wait for other changes of what is deployed of a model, and hold them off until the end of the transaction."""
    await connection.execute(LOCK_MODEL, (model_id,))


async def was_deployed(connection: Connection, workspace_id: UUID, model_id: UUID) -> bool:
    """Whether a model ever had a deployment."""
    return await (await connection.execute(WAS_DEPLOYED, (workspace_id, model_id))).fetchone() is not None


async def live_deployments(
    connection: Connection, workspace_id: UUID, *, model_id: UUID | None = None, lifecycle_id: UUID | None = None
) -> list[str]:
    """Names of (up to ten) deployments that have not ended."""
    values = {"workspace_id": workspace_id, "model_id": model_id, "lifecycle_id": lifecycle_id}
    return [row[0] for row in await (await connection.execute(LIVE_DEPLOYMENTS, values)).fetchall()]


async def insert_lifecycle(connection: Connection, values: Mapping[str, Any]) -> None:
    """Insert a version. Raises psycopg.errors.UniqueViolation when the model has the tag."""
    await connection.execute(INSERT_LIFECYCLE, _values(values))


async def find_lifecycle(connection: Connection, workspace_id: UUID, lifecycle_id: UUID) -> LifecycleRow | None:
    """One version."""
    async with connection.cursor(row_factory=class_row(LifecycleRow)) as cursor:
        return await (await cursor.execute(SELECT_LIFECYCLE, (workspace_id, lifecycle_id))).fetchone()


async def find_lifecycles(connection: Connection, lifecycle_ids: Sequence[UUID]) -> list[LifecycleRow]:
    """Those of several versions, of whatever workspaces, that the caller may see."""
    async with connection.cursor(row_factory=class_row(LifecycleRow)) as cursor:
        return await (await cursor.execute(SELECT_LIFECYCLES_BY_ID, (list(lifecycle_ids),))).fetchall()


async def list_lifecycles(connection: Connection, values: Mapping[str, Any]) -> list[LifecycleRow]:
    """Versions, newest first."""
    async with connection.cursor(row_factory=class_row(LifecycleRow)) as cursor:
        return await (await cursor.execute(SELECT_LIFECYCLES, values)).fetchall()


async def update_lifecycle(connection: Connection, values: Mapping[str, Any]) -> bool:
    """Change a version at its `expected` version number; False when it has moved on."""
    return await (await connection.execute(UPDATE_LIFECYCLE, _values(values))).fetchone() is not None


async def decide(connection: Connection, values: Mapping[str, Any]) -> bool:
    """Write a decision at the `expected` version number; False when it has moved on."""
    return await (await connection.execute(DECIDE, _values(values))).fetchone() is not None


async def set_stage(connection: Connection, values: Mapping[str, Any]) -> bool:
    """Write a stage at the `expected` version number; False when it has moved on."""
    return await (await connection.execute(SET_STAGE, values)).fetchone() is not None


async def insert_event(connection: Connection, values: Mapping[str, Any]) -> None:
    """Append a step to a version's history."""
    await connection.execute(INSERT_EVENT, _values(values))


async def list_events(connection: Connection, values: Mapping[str, Any]) -> list[EventRow]:
    """A version's history, newest first."""
    async with connection.cursor(row_factory=class_row(EventRow)) as cursor:
        return await (await cursor.execute(SELECT_EVENTS, values)).fetchall()


async def insert_price(connection: Connection, values: Mapping[str, Any]) -> PriceRow:
    """Insert a price. Raises psycopg.errors.UniqueViolation when there is one from the same moment."""
    async with connection.cursor(row_factory=class_row(PriceRow)) as cursor:
        row = await (await cursor.execute(INSERT_PRICE, values)).fetchone()
    assert row is not None
    return row


async def all_prices(connection: Connection, model_ids: Sequence[UUID]) -> list[PriceRow]:
    """Models' own prices, those of each model together and oldest first."""
    async with connection.cursor(row_factory=class_row(PriceRow)) as cursor:
        return await (await cursor.execute(SELECT_PRICES, (list(model_ids),))).fetchall()


async def list_prices(connection: Connection, values: Mapping[str, Any]) -> list[PriceRow]:
    """A page of a model's own prices, newest first."""
    async with connection.cursor(row_factory=class_row(PriceRow)) as cursor:
        return await (await cursor.execute(SELECT_PRICE_PAGE, values)).fetchall()


async def workspace_settings(connection: Connection, workspace_id: UUID) -> dict[str, Any]:
    """What the workspace has set."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(SELECT_SETTINGS, (workspace_id,))).fetchone()
    return {} if row is None else row["settings"]


async def notify_deployments(connection: Connection, lifecycle_id: UUID) -> None:
    """Wake the deployments controller: what it publishes of this version may have changed."""
    await connection.execute(NOTIFY_DEPLOYMENTS, (str(lifecycle_id),))


async def notify_deployments_of_model(connection: Connection, workspace_id: UUID, model_id: UUID) -> None:
    """The same for all deployed versions of a model."""
    await connection.execute(NOTIFY_DEPLOYMENTS_OF_MODEL, (workspace_id, model_id))
