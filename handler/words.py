"""The words that a shard may hold besides values: `count(n)`, `observe(x)` and `erase`.

They are values without behaviour. What they do to the state is said where it is done: in
`shardlog.crdt.counter`, `shardlog.crdt.sketch` and `shardlog.crdt.lww_map`.
"""

from __future__ import annotations

from typing import Final, final

import msgspec


class Count(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A value that adds `n`, which may be negative, to the counter at its path. O(1).

    It never raises: an `n` that cannot be counted (NaN, an infinity, more than 2**53, no number)
    is refused and reported when the log call is read. Equal, hashed, copied and pickled by `n`.

    >>> count(), count(0.21), count(2) == count(2)
    (count(1), count(0.21), True)
    """

    n: int | float = 1

    def __repr__(self) -> str:
        return f"count({self.n!r})"


count = Count


class Observe(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=0):
    """A value that adds `x` to the distribution at its path, of which quantiles are known. O(1).

    It never raises: an `x` that is no finite number of at most 2**53 is refused and reported, as of
    `count`. Equal, hashed, copied and pickled by `x`.

    >>> observe(0.21), observe(2) == observe(2)
    (observe(0.21), True)
    """

    x: int | float

    def __repr__(self) -> str:
        return f"observe({self.x!r})"


observe = Observe


@final
class EraseType:
    """The type of `erase`, of which there is one: it stays itself when copied or pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "erase"

    def __reduce__(self) -> str:
        return "erase"


erase: Final = EraseType()
"""A value that removes the key it is given to, and all below it.

>>> erase
erase
"""
