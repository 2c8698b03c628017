"""Distributions as counters: in which bucket a number is counted, and what the buckets say.

Theory. A DDSketch (Masson, Rim and Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
Relative-Error Guarantees", VLDB 2019) counts numbers in buckets whose bounds are powers of

    gamma = (1 + a) / (1 - a)

so that one number of each bucket is within the relative accuracy `a` of all in it. Two sketches
merge by adding up their buckets: a bucket is a counter. So there is no sketch here that is kept,
sent and merged. What is observed at a path is counted at one of its keys, `~K`, as anything is
counted: exactly, whatever is repeated, lost or restarted, and it is erased and forgotten as such.

    K = 0                        less than 1e-9 away from zero, which is what counters can tell
    K = log_gamma(x) + OFFSET    rounded up: the bucket of x; for a negative x that of -x, as -K

With `a` = 1 % a power of ten has 115 buckets, and all numbers up to 2**53 have 2,874: a path has no
more keys than twice that, or than were observed. The mapping, and which number is said for a
bucket, are those of the library `ddsketch` (`LogarithmicMapping`); a test compares them, so that no
blade has to load it.

Known anomalies. The greatest and the least number are known as their buckets, within 1 %. A key
`~7` that a shard names itself is a bucket to all who read.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import msgspec

from shardlog.crdt.counter import COUNT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ACCURACY = 0.01
LEAST = 1e-9
"""What is nearer to zero is zero."""

_EXCESS = 2 * ACCURACY / (1 - ACCURACY)
_PER_DOUBLING = math.log(2) / math.log1p(_EXCESS)
OFFSET = 1 - math.ceil(math.log(LEAST, 2) * _PER_DOUBLING)
"""Of the least number the bucket is 1."""
_KEY = re.compile(r"~(0|-?[1-9][0-9]{0,3})")


class Summary(msgspec.Struct, frozen=True, gc=False):
    """What is said of a distribution: how many numbers, exactly; the others within ACCURACY."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


def bucket(x: int | float) -> int:
    """The bucket in which `x` is counted. O(1).

    >>> bucket(0), bucket(LEAST), bucket(0.21), bucket(-0.21), bucket(2**53)
    (0, 1, 959, -959, 2874)

    Raises:
        ValueError: x is not finite, or its absolute value is above COUNT_MAX.
    """
    if not -COUNT_MAX <= x <= COUNT_MAX:
        raise ValueError(f"what is observed is a finite number of at most 2**53, not {x!r}")
    if -LEAST < x < LEAST:
        return 0
    at = math.ceil(math.log(abs(x), 2) * _PER_DOUBLING) + OFFSET
    return at if x > 0 else -at


def number(at: int) -> float:
    """A number that is within ACCURACY of all that are counted in a bucket. O(1).

    >>> number(0), round(number(bucket(0.21)), 3)
    (0.0, 0.208)
    """
    if at == 0:
        return 0.0
    size = math.pow(2.0, (abs(at) - OFFSET) / _PER_DOUBLING) * 2 / (2 + _EXCESS)
    return size if at > 0 else -size


def bucket_key(at: int) -> str:
    """The key below the path that is observed, also its text: there is nothing to escape. O(1).

    >>> bucket_key(960)
    '~960'
    """
    return f"~{at}"


def bucket_at(key: object) -> int | None:
    """The bucket that a key stands for, None if it is no such key. O(len).

    >>> bucket_at("~960"), bucket_at("~-3"), bucket_at("~"), bucket_at("960"), bucket_at(960)
    (960, -3, None, None, None)
    """
    if not isinstance(key, str) or key[:1] != "~" or _KEY.fullmatch(key) is None:
        return None
    return int(key[1:])


def quantiles(buckets: Mapping[int, int], shares: Iterable[float]) -> list[float]:
    """For each share, from 0 to 1 and rising, the number that so many are not above. O(b log b).

    Empty if nothing was observed.

    >>> [round(x, 1) for x in quantiles({bucket(10): 9, bucket(99): 1}, (0.5, 1))]
    [10.1, 98.5]
    """
    held = sorted((at, many) for at, many in buckets.items() if many > 0)
    total = sum(many for _, many in held)
    found: list[float] = []
    place = below = 0
    for share in shares:
        while place < len(held) and below + held[place][1] <= share * (total - 1):
            below += held[place][1]
            place += 1
        if held:
            found.append(number(held[place][0]))
    return found


def summary(buckets: Mapping[int, int]) -> Summary | None:
    """What is said of a distribution, None if nothing was observed. O(b log b)."""
    found = quantiles(buckets, (0.5, 0.9, 0.99, 1))
    if not found:
        return None
    return Summary(sum(many for many in buckets.values() if many > 0), *found)
