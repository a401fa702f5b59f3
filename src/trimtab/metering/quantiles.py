"""Reading histograms: quantiles of merged encodings, with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.metering.histogram import GAMMA, MAX_COUNT, SHIFT

_PAIR = np.dtype([("bucket", "<i4"), ("count", "<i4")])


@dataclass(frozen=True, slots=True)
class Distribution:
    """A merged histogram.

    Parameters:
        buckets: distinct, ascending.
        counts: of each bucket, all positive.
    """

    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, encoded: bytes) -> Distribution:
        """Merge one encoding or a concatenation of many.

        Raises:
            ValueError: `encoded` is no run of pairs.
        """
        pairs = np.frombuffer(encoded, dtype=_PAIR)
        if pairs.size == 0:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64))
        lowest = int(pairs["bucket"].min())
        # Sums of weights are doubles: exact up to 2**53 values.
        dense = np.bincount(pairs["bucket"].astype(np.int64) - lowest, weights=pairs["count"])
        present = np.flatnonzero(dense)
        return cls(present + lowest, dense[present].astype(np.int64))

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    def quantiles(self, wanted: Sequence[float]) -> list[float] | None:
        """The values at the fractions `wanted` (0 to 1) by nearest rank, each within 1 %; None without values."""
        if self.buckets.size == 0:
            return None
        cumulative = np.cumsum(self.counts)
        # Rank ceil(q n), the first one at least; what arithmetic adds (0.95 * 20 = 19.000000000000004) is taken off.
        ranks = np.ceil(np.asarray(wanted, dtype=np.float64) * float(cumulative[-1]) * (1 - 1e-12))
        found = np.searchsorted(cumulative, np.maximum(ranks, 1.0), side="left")
        return [float(value) for value in _values(self.buckets[np.minimum(found, self.buckets.size - 1)])]

    def encode(self) -> bytes:
        """The shortest encoding of the same distribution."""
        buckets, counts = self.buckets, self.counts
        while counts.size and int(counts.max()) > MAX_COUNT:
            over = np.flatnonzero(counts > MAX_COUNT)
            buckets = np.concatenate([buckets, buckets[over]])
            counts = np.concatenate([np.minimum(counts, MAX_COUNT), counts[over] - MAX_COUNT])
        pairs = np.empty(buckets.size, dtype=_PAIR)
        pairs["bucket"], pairs["count"] = buckets, counts
        return pairs.tobytes()


def _values(buckets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The value that stands for each bucket: off by 1 % from either end of it."""
    exponents = np.abs(buckets) - SHIFT
    with np.errstate(over="ignore"):
        sizes = np.exp(exponents * np.log(GAMMA)) * (2 / (GAMMA + 1))
    sizes = np.minimum(sizes, np.finfo(np.float64).max)
    return np.where(buckets == 0, 0.0, np.sign(buckets) * sizes)
