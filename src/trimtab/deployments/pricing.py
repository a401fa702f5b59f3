"""What a version's tokens cost: the public price list, as the gateway's records want it.

Loads genai-prices when first asked; only the controller asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from trimtab.routing.records import Price

PICO_PER_MILLION = 1_000_000
"""1 USD per million tokens, in pico-USD per token."""


@dataclass(slots=True)
class PriceList:
    """The public price list, with what was already looked up today."""

    _found: dict[tuple[str, str, int], tuple[Price, ...]] = field(default_factory=dict)

    def prices(self, provider: str, upstream_model: str | None, now: datetime) -> tuple[Price, ...]:
        """The list price of a provider's model today, none where the list has none.

        Parameters:
            provider: as in `ai_models.provider`; compatible servers of one's own are on no list.
            upstream_model: the provider's name of the model.
        """
        if upstream_model is None:
            return ()
        key = (provider.lower(), upstream_model, now.toordinal())
        if key not in self._found:
            self._found = {k: v for k, v in self._found.items() if k[2] == key[2]}
            self._found[key] = _look_up(key[0], upstream_model, now)
        return self._found[key]


def _look_up(provider: str, model: str, now: datetime) -> tuple[Price, ...]:
    from genai_prices.data_snapshot import get_snapshot  # heavy, and needed by few

    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return ()
    rates = found.get_prices(now)
    base = _rate(getattr(rates, "input_mtok", None))
    cache_read = _rate(getattr(rates, "cache_read_mtok", None))
    cache_write = _rate(getattr(rates, "cache_write_mtok", None))
    output = _rate(getattr(rates, "output_mtok", None))
    if base is None and output is None:
        return ()
    return (
        Price(
            since=0.0,
            input_pico=base or 0,
            output_pico=output or 0,
            cache_read_pico=base or 0 if cache_read is None else cache_read,
            cache_write_pico=base or 0 if cache_write is None else cache_write,
        ),
    )


def _rate(value: Any) -> int | None:
    """A list rate (USD per million tokens, a decimal or tiers whose base counts) in pico-USD per token."""
    if value is None:
        return None
    amount = value if isinstance(value, Decimal) else value.base
    return int((Decimal(amount) * PICO_PER_MILLION).to_integral_value())
