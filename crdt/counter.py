"""Counters: ascending totals that merge by the maximum and add up over replicas.

Theory. A G-Counter is a vector of ascending totals, one per replica, joined entry by entry with the
maximum; its value is their sum. A PN-Counter is a pair of them (Shapiro et al., INRIA RR-7506,
section 3.1.3). Here every total has four ascending parts

    (positive whole, positive billionths, negative whole, negative billionths)

so that floats, rounded once to integers of 1e-9 when they are counted, add up exactly in any
order, and ints stay ints. An amount that has only the first part is written as that int: nearly
all counters are, and it keeps them small in memory and on the wire.

The lattice of amounts: bottom 0, `join` the maximum part by part, `leq` the order part by part.
What a joined amount has beyond an older one is their `excess`; `add` sums the amounts of different
owners. A process' total carries a generation: within one generation totals join, a greater
generation counts from zero, a smaller one is ignored (lexicographic product with a chain, Almeida
et al., "Delta State Replicated Data Types", 2016, appendix B).

Known anomalies. A float is rounded to 1e-9: count(1e-10) adds nothing. Counting with a sign that
alternates makes both totals grow: the value is exact, its parts are not small.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount

BILLION = 10**9
COUNT_MAX = 2**53
"""The greatest absolute number one count may add: beyond it floats are no longer whole."""
PART_MAX = 2**63 - 1
"""The greatest part of an amount; msgpack and SQLite hold 64 bits."""


def amount(n: int | float) -> Amount:
    """The amount that counting `n` adds. O(1).

    >>> amount(7), amount(-2), amount(0.21)
    (7, (0, 0, 2, 0), (0, 210000000, 0, 0))

    Raises:
        ValueError: n is not finite, or its absolute value is above COUNT_MAX.
    """
    if not -COUNT_MAX <= n <= COUNT_MAX:
        raise ValueError(f"a count is a finite number of at most 2**53, not {n!r}")
    if isinstance(n, float):
        fraction, whole = math.modf(abs(n))
        parts = (int(whole), round(fraction * BILLION))
        return shorten((*parts, 0, 0) if n > 0 else (0, 0, *parts))
    return int(n) if n >= 0 else (0, 0, -int(n), 0)


def value(total: Amount) -> int | float:
    """The number that an amount stands for: an int unless a fraction was ever counted. O(1).

    >>> value(7), value((3, 500_000_000, 1, 0)), value((5, 0, 2, 0))
    (7, 2.5, 3)
    """
    if type(total) is int:
        return total
    positive, positive_part, negative, negative_part = lengthen(total)
    whole = positive - negative
    if positive_part or negative_part:
        return (whole * BILLION + positive_part - negative_part) / BILLION
    return whole


def add(a: Amount, b: Amount) -> Amount:
    """The sum of two amounts of different owners. O(1).

    >>> add(2, (0, 0, 1, 0))
    (2, 0, 1, 0)
    """
    if type(a) is int and type(b) is int:
        return a + b
    (a0, a1, a2, a3), (b0, b1, b2, b3) = lengthen(a), lengthen(b)
    return shorten((a0 + b0, a1 + b1, a2 + b2, a3 + b3))


def excess(new: Amount, old: Amount) -> Amount:
    """What `new` has beyond `old`, part by part, never below zero. O(1).

    >>> excess(7, 5), excess(5, 7), excess((1, 0, 3, 0), 2)
    (2, 0, (0, 0, 3, 0))
    """
    if type(new) is int and type(old) is int:
        return max(new - old, 0)
    parts = zip(lengthen(new), lengthen(old), strict=True)
    return shorten(tuple(max(n - o, 0) for n, o in parts))  # type: ignore[arg-type]


def join(a: Amount, b: Amount) -> Amount:
    """The least upper bound of two amounts of one owner. O(1).

    >>> join(7, 5), join((1, 0, 3, 0), 2)
    (7, (2, 0, 3, 0))
    """
    return add(b, excess(a, b))


def leq(a: Amount, b: Amount) -> bool:
    """Whether `b` includes all of `a`. O(1)."""
    return excess(a, b) == 0


def fits(total: Amount) -> bool:
    """Whether every part can be sent and stored. O(1)."""
    if type(total) is int:
        return total <= PART_MAX
    return max(lengthen(total)) <= PART_MAX


def cut(total: Amount) -> Amount:
    """The amount with no part greater than can be sent. O(1).

    >>> cut(7), cut((1, 0, 2**63, 0)) == (1, 0, PART_MAX, 0)
    (7, True)
    """
    if fits(total):
        return total
    a, b, c, d = lengthen(total)
    return shorten((min(a, PART_MAX), min(b, PART_MAX), min(c, PART_MAX), min(d, PART_MAX)))


def is_amount(total: Amount) -> bool:
    """Whether this is an amount in its one canonical form: what is received is checked by it."""
    return min(lengthen(total)) >= 0 and shorten(lengthen(total)) == total


def lengthen(total: Amount) -> tuple[int, int, int, int]:
    """The four parts. O(1)."""
    return (total, 0, 0, 0) if isinstance(total, int) else total


def shorten(parts: tuple[int, int, int, int]) -> Amount:
    """The canonical form of four parts. O(1)."""
    return parts[0] if parts[1:] == (0, 0, 0) else parts


class Mark(msgspec.Struct, frozen=True, gc=False):
    """The highest total seen of one process at one path. Bottom: generation -1."""

    generation: int
    amount: Amount

    def advance(self, generation: int, total: Amount) -> tuple[Mark, Amount]:
        """The mark after hearing a total, and what that total adds. O(1).

        >>> Mark(1, 5).advance(1, 7)
        (Mark(generation=1, amount=7), 2)
        >>> Mark(1, 5).advance(4, 3), Mark(4, 3).advance(1, 9)
        ((Mark(generation=4, amount=3), 3), (Mark(generation=4, amount=3), 0))
        """
        if generation > self.generation:
            return Mark(_shared(generation), total), total
        if generation < self.generation:
            return self, 0
        more = excess(total, self.amount)
        return Mark(generation, add(self.amount, more)), more


NEVER = Mark(-1, 0)


@lru_cache(1000)
def _shared(generation: int) -> int:
    """One object for the many totals that a report carries first: 32 bytes less for each mark."""
    return generation
