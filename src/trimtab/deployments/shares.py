"""Shares of a route's traffic in basis points; pure.

The rule: the shares of a route add up to `WHOLE`, or nobody has one. So the first deployment that takes any share
takes all of it, and who leaves hands its share to the others in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from trimtab.routing.records import WHOLE

Shares = dict[UUID, int]


def take(current: Mapping[UUID, int], taker: UUID, wanted: int) -> Shares:
    """The shares once `taker` has `wanted` basis points, the others scaled to the remainder.

    Where no other has a share, any `wanted` above 0 stands for the whole. With `wanted` 0 it gives its share back to
    the others in proportion.
    """
    others = {key: share for key, share in current.items() if key != taker}
    if not any(others.values()):
        return {**dict.fromkeys(others, 0), taker: WHOLE if wanted else 0}
    return {**_scale(others, WHOLE - wanted), taker: wanted}


def hand_over(current: Mapping[UUID, int], giver: UUID, receiver: UUID) -> Shares:
    """The shares once `receiver` has what `giver` had on top of its own; nobody else is touched."""
    return {**current, receiver: current.get(receiver, 0) + current.get(giver, 0), giver: 0}


def _scale(shares: Mapping[UUID, int], total: int) -> Shares:
    """Scale to exactly `total`, rounding by the largest remainder."""
    present = sum(shares.values())
    scaled = {key: share * total // present for key, share in shares.items()}
    by_remainder = sorted(shares, key=lambda key: (-(shares[key] * total % present), key.int))
    for key in by_remainder[: total - sum(scaled.values())]:
        scaled[key] += 1
    return scaled
