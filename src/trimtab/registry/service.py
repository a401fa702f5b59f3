"""What the registry does for other features."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from trimtab.access.principal import Principal
from trimtab.clock import Clock, system_clock
from trimtab.db.database import Connection
from trimtab.errors import Code, TrimtabError
from trimtab.registry import store, versions
from trimtab.registry.models import rates
from trimtab.registry.schemas import Pricing
from trimtab.registry.states import Stage
from trimtab.registry.store import LifecycleRow, PriceRow
from trimtab.registry.work import Work
from trimtab.routing.records import Price


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version with all that deploying it needs.

    Parameters:
        lifecycle: the row, with its model's name and provider.
        prices: oldest first; the version's own price if it has one, else the model's; none means the public list.
    """

    lifecycle: LifecycleRow
    prices: tuple[Price, ...]


async def lock_model(connection: Connection, model_id: UUID) -> None:
    """Hold off whoever else deploys, renames, retires or deletes of a model, until the end of the transaction.

    What is to hold afterwards must be read after it.
    """
    await store.lock_model(connection, model_id)


async def get_version(connection: Connection, workspace_id: UUID, lifecycle_id: UUID) -> VersionRow:
    """One version. Raises TrimtabError (NOT_FOUND)."""
    found = (await get_versions(connection, [lifecycle_id])).get(lifecycle_id)
    if found is None or found.lifecycle.workspace_id != workspace_id:
        raise TrimtabError(
            Code.NOT_FOUND, f"There is no version (lifecycle) {lifecycle_id} in this workspace.", "lifecycle_id"
        )
    return found


async def get_versions(connection: Connection, lifecycle_ids: Collection[UUID]) -> dict[UUID, VersionRow]:
    """Several versions by their ids, in two queries at most; those that the caller may not see are left out."""
    if not lifecycle_ids:
        return {}
    rows = await store.find_lifecycles(connection, list(lifecycle_ids))
    own = {row.id: row.deployment_config["pricing"] for row in rows if row.deployment_config.get("pricing")}
    by_model: dict[UUID, list[Price]] = {row.model_id: [] for row in rows if row.id not in own}
    for price in await store.all_prices(connection, list(by_model)) if by_model else ():
        by_model[price.model_id].append(_price(price))
    return {
        row.id: VersionRow(
            row,
            (Price(since=0.0, **rates(Pricing.model_validate(own[row.id]))),)
            if row.id in own
            else tuple(by_model[row.model_id]),
        )
        for row in rows
    }


def _price(row: PriceRow) -> Price:
    return Price(
        since=row.effective_from.timestamp(),
        input_pico=row.input_pico,
        output_pico=row.output_pico,
        cache_read_pico=row.cache_read_pico,
        cache_write_pico=row.cache_write_pico,
    )


async def set_stage(
    connection: Connection,
    actor: Principal,
    lifecycle_id: UUID,
    stage: Stage,
    comment: str = "",
    clock: Clock = system_clock,
) -> None:
    """Move a version to `stage` because it was deployed there; nothing where it is there already.

    Raises:
        TrimtabError: NOT_FOUND, INVALID_TRANSITION, VERSION_NOT_APPROVED into production, STALE_VERSION when it was
            changed at the same moment.
    """
    work = Work(connection, actor, clock())
    row = await versions.get_lifecycle(work, lifecycle_id)
    if await versions.move(work, row, stage, comment) is None:
        raise TrimtabError(Code.STALE_VERSION, f"{row.version_tag!r} was changed at the same moment; try again.")
