"""What a request cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trimtab.gateway.pricing import cost_nano, price_at
from trimtab.metering.record import Usage
from trimtab.routing.records import Price


def price(since: float, rate: int = 0, **rates: int) -> Price:
    given_rates = {"input_pico": rate, "output_pico": rate, "cache_read_pico": rate, "cache_write_pico": rate}
    return Price(since=since, **{**given_rates, **rates})


def test_the_price_is_that_of_the_time() -> None:
    prices = (price(10.0, 1), price(20.0, 2))
    assert price_at(prices, 9.9) is None
    assert price_at(prices, 10.0) == prices[0]
    assert price_at(prices, 19.9) == prices[0]
    assert price_at(prices, 20.0) == prices[1]
    assert cost_nano((), 1.0, Usage(input=5)) == 0


def test_each_bucket_has_its_rate() -> None:
    rates = price(0.0, input_pico=1_000, output_pico=10_000, cache_read_pico=100_000, cache_write_pico=1_000_000)
    assert cost_nano((rates,), 1.0, Usage(1, 2, 3, 4, 4)) == 1 + 200 + 3_000 + 40


@given(st.integers(0, 10_000))
def test_rounding_is_half_up_and_once(tokens: int) -> None:
    cost = cost_nano((price(0.0, input_pico=500),), 1.0, Usage(input=tokens))
    assert cost == (tokens + 1) // 2
