"""What the registry does for other features."""

from __future__ import annotations

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
from trimtab.registry.store import LifecycleRow
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


async def get_version(connection: Connection, workspace_id: UUID, lifecycle_id: UUID) -> VersionRow:
    """One version. Raises TrimtabError (NOT_FOUND)."""
    row = await store.find_lifecycle(connection, workspace_id, lifecycle_id)
    if row is None:
        raise TrimtabError(
            Code.NOT_FOUND, f"There is no version (lifecycle) {lifecycle_id} in this workspace.", "lifecycle_id"
        )
    own = row.deployment_config.get("pricing")
    if own is not None:
        return VersionRow(row, (Price(since=0.0, **rates(Pricing.model_validate(own))),))
    prices = tuple(
        Price(
            since=price.effective_from.timestamp(),
            input_pico=price.input_pico,
            output_pico=price.output_pico,
            cache_read_pico=price.cache_read_pico,
            cache_write_pico=price.cache_write_pico,
        )
        for price in await store.all_prices(connection, workspace_id, row.model_id)
    )
    return VersionRow(row, prices)


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
