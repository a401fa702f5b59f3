"""Histograms with logarithmic buckets: any value is known to within 1 %, two are merged by adding counts.

Value v > 0 falls into bucket ceil(log(v) / log(GAMMA)) (the mapping of DDSketch). So that an integer orders all values,
positive buckets are shifted up by SHIFT, negative values mirror them, and zero is bucket 0. The encoding is a run of
(bucket int32, count int32) pairs, little endian, in no particular order and with repeats allowed: concatenation merges.

Only the standard library is used here, since the gateway's side writes histograms; `trimtab.metering.quantiles` reads.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SHIFT = 40_000
"""More than the largest bucket number of a double, which is below 37,300 either way."""

PER_LOG = 1 / math.log(GAMMA)
MAX_COUNT = 2**31 - 1
_PAIR = struct.Struct("<ii")


def bucket_of(value: float) -> int:
    """The bucket of a finite number; orders as the values do."""
    if value > 0:
        return math.ceil(math.log(value) * PER_LOG) + SHIFT
    if value < 0:
        return -math.ceil(math.log(-value) * PER_LOG) - SHIFT
    return 0


def encode(counts: Mapping[int, int]) -> bytes:
    """The encoding of a mapping from bucket to count."""
    flat: list[int] = []
    for bucket, count in counts.items():
        left = count
        while left > MAX_COUNT:
            flat += (bucket, MAX_COUNT)
            left -= MAX_COUNT
        flat += (bucket, left)
    return struct.pack(f"<{len(flat)}i", *flat)


def decode(encoded: bytes) -> Counter[int]:
    """The counts by bucket of an encoded histogram.

    Raises:
        ValueError: `encoded` is no run of pairs.
    """
    if len(encoded) % _PAIR.size:
        raise ValueError(f"a histogram of {len(encoded)} bytes is damaged: not a multiple of {_PAIR.size}")
    counts: Counter[int] = Counter()
    for bucket, count in _PAIR.iter_unpack(encoded):
        counts[bucket] += count
    return counts


def of_values(values: Iterable[float]) -> bytes:
    """The encoded histogram of finite numbers."""
    return encode(Counter(map(bucket_of, values)))
