"""What a request cost: pure arithmetic on the prices of the deployment that served it."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.metering.record import Usage
from trimtab.routing.records import Price

PICO_PER_NANO = 1000


def price_at(prices: Sequence[Price], at: float) -> Price | None:
    """Return the price that was valid at `at` (Unix seconds), or None; `prices` are oldest first."""
    for price in reversed(prices):
        if price.since <= at:
            return price
    return None


def cost_nano(prices: Sequence[Price], at: float, usage: Usage) -> int:
    """Return the cost of `usage` at `at` (Unix seconds) in nano-USD, rounded half up once; 0 without a price."""
    price = price_at(prices, at)
    if price is None:
        return 0
    pico = (
        usage.input * price.input_pico
        + usage.output * price.output_pico
        + usage.cache_read * price.cache_read_pico
        + usage.cache_write * price.cache_write_pico
    )
    return (pico + PICO_PER_NANO // 2) // PICO_PER_NANO
