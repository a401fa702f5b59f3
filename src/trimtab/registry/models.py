"""Models and their prices."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from decimal import Decimal
from uuid import UUID

import psycopg

from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id
from trimtab.registry import store
from trimtab.registry.schemas import PICO, ModelCreate, ModelUpdate, PriceCreate, Pricing, plain_decimal
from trimtab.registry.store import ModelRow, PriceRow
from trimtab.registry.work import Work


async def create_model(work: Work, given: ModelCreate) -> ModelRow:
    """Create a model. Raises TrimtabError (ALREADY_EXISTS)."""
    try:
        row = await store.insert_model(
            work.connection,
            {
                "id": new_id(),
                "workspace_id": work.actor.workspace_id,
                "name": given.name,
                "description": given.description,
                "provider": given.provider,
                "tags": given.tags,
                "created_by": work.actor.member_id,
                "now": work.now,
            },
        )
    except psycopg.errors.UniqueViolation:
        raise _name_taken(given.name) from None
    await work.tell("model", row.id, "create", "created", {"name": row.name, "provider": row.provider})
    return row


async def get_model(work: Work, model: UUID | str) -> ModelRow:
    """The model of an id, or its text, or of a name. Raises TrimtabError (NOT_FOUND)."""
    row = None
    with contextlib.suppress(ValueError):
        identifier = model if isinstance(model, UUID) else UUID(model)
        row = await store.find_model(work.connection, work.actor.workspace_id, identifier)
    if row is None and isinstance(model, str):
        row = await store.find_model(work.connection, work.actor.workspace_id, model)
    if row is None:
        raise TrimtabError(Code.NOT_FOUND, f"There is no model {str(model)!r} in this workspace.")
    return row


async def update_model(work: Work, row: ModelRow, given: ModelUpdate) -> ModelRow | None:
    """Change a model; None when it has moved on since `row` was read.

    Raises:
        TrimtabError: ALREADY_EXISTS; CONFLICT for a new name while requests come in by the old one.
    """
    changes = {name: value for name, value in given.model_dump(exclude_unset=True).items() if value is not None}
    changes = {name: value for name, value in changes.items() if value != getattr(row, name)}
    if not changes:
        return row
    if "name" in changes:
        await store.lock_model(work.connection, row.id)
        live = await store.live_deployments(work.connection, work.actor.workspace_id, model_id=row.id)
        if live:
            raise TrimtabError(
                Code.CONFLICT,
                f"Requests reach this model as {row.name!r} through {', '.join(live)}; retire these first.",
                "name",
            )
    try:
        updated = await store.update_model(
            work.connection, {**asdict(row), **changes, "expected": row.version, "now": work.now}
        )
    except psycopg.errors.UniqueViolation:
        raise _name_taken(changes["name"]) from None
    if updated is not None:
        before = {name: getattr(row, name) for name in changes}
        await work.tell("model", row.id, "update", "updated", {"before": before, "after": changes})
    return updated


async def delete_model(work: Work, row: ModelRow) -> bool:
    """Delete a model with all its versions; False when it has moved on since `row` was read.

    Raises:
        TrimtabError: CONFLICT where it is or was deployed, or while versions of other models descend from it.
    """
    await store.lock_model(work.connection, row.id)
    live = await store.live_deployments(work.connection, work.actor.workspace_id, model_id=row.id)
    if live:
        raise TrimtabError(Code.CONFLICT, f"It is deployed as {', '.join(live)}; retire these first.")
    if await store.was_deployed(work.connection, work.actor.workspace_id, row.id):
        raise TrimtabError(
            Code.CONFLICT,
            f"{row.name!r} was deployed, and the log of the requests it served leads to it; "
            "retire its versions instead of deleting it.",
        )
    try:
        deleted = await store.delete_model(work.connection, row)
    except psycopg.errors.ForeignKeyViolation:
        raise TrimtabError(Code.CONFLICT, "Something else refers to its versions; delete that first.") from None
    if deleted:
        await work.tell("model", row.id, "delete", "deleted", {"name": row.name})
    return deleted


def to_pico(rate: Decimal) -> int:
    """USD per million tokens as pico-USD per token."""
    return int(rate * PICO)


def from_pico(pico: int) -> str:
    """Pico-USD per token as USD per million tokens, a decimal string without needless zeros."""
    text = plain_decimal(Decimal(pico) / PICO)
    return text.rstrip("0").rstrip(".") if "." in text else text


def rates(pricing: Pricing) -> dict[str, int]:
    """The four rates in pico-USD per token; what is not said of cached input is as other input."""
    return {
        "input_pico": to_pico(pricing.input),
        "output_pico": to_pico(pricing.output),
        "cache_read_pico": to_pico(pricing.input if pricing.cache_read is None else pricing.cache_read),
        "cache_write_pico": to_pico(pricing.input if pricing.cache_write is None else pricing.cache_write),
    }


async def add_price(work: Work, model: ModelRow, given: PriceCreate) -> PriceRow:
    """Give a model its own price from a moment on. Raises TrimtabError (ALREADY_EXISTS)."""
    effective_from = given.effective_from or work.now
    values = {
        "id": new_id(),
        "workspace_id": work.actor.workspace_id,
        "model_id": model.id,
        "effective_from": effective_from,
        **rates(given),
        "created_by": work.actor.member_id,
        "now": work.now,
    }
    try:
        row = await store.insert_price(work.connection, values)
    except psycopg.errors.UniqueViolation:
        raise TrimtabError(
            Code.ALREADY_EXISTS, "There is a price from that very moment already.", "effective_from"
        ) from None
    details = {**rates(given), "effective_from": effective_from.isoformat()}
    await work.tell("model", model.id, "price", "priced", details)
    await store.notify_deployments_of_model(work.connection, work.actor.workspace_id, model.id)
    return row


def _name_taken(name: str) -> TrimtabError:
    return TrimtabError(
        Code.ALREADY_EXISTS, f"There is a model named {name!r} already; choose another name or use that one.", "name"
    )
