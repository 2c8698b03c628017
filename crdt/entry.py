"""One replica's entry of a counter: how its owner counts on, and how an erase reaches it.

Theory. An entry only ever rises, so what an erase takes away is subtracted: the owner notes the
total at which it observed the floor as the entry's `base`, and what shows is total - base. That is
an observed reset, as in the Resettable Counter (Weidner and Almeida, "An Oblivious Observed-Reset
Embeddable Replicated Counter", 2022), decided by the one owner of the entry instead of by each node
that hears of it: nobody else ever rewrites an entry.

A floor f at or above the path concerns an entry iff born <= f and reset < f. `reset` is the newest
floor that was applied: without it, a floor that comes again, or an older one that comes late, would
take away what was counted after it. `born` is the first count since then, `last` the newest; where
nothing was counted since, `last` is not above `reset`. So, everywhere and with whatever floors are
known there:

    an entry shows iff  last > reset  and  last > f

which is the floor's work until the owner has heard of it, and the owner's from then on.

Known anomalies. A floor that reaches the owner late, when the process that counts has not heard of
it, also takes away what was counted between the floor's stamp and its arrival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt import counter
from shardlog.crdt.delta import Entry

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount


def is_counted(entry: Entry) -> bool:
    """Whether anything was counted since the newest floor that its owner applied. O(1)."""
    return entry.last > entry.reset


def difference(entry: Entry) -> Amount:
    """What an entry shows where it does: total - base. O(1).

    >>> difference(Entry("a", 9, 7, base=5, reset=4))
    2
    """
    return counter.excess(entry.amount, entry.base) if entry.base else entry.amount


def reset_by(entry: Entry, floor: int) -> Entry:
    """The owner's entry when the newest floor over its path is stamped `floor`. O(1).

    >>> reset_by(Entry("a", 9, 7, born=1), 4)
    Entry(path='a', last=4, amount=7, base=7, reset=4, born=1)
    """
    if entry.born > floor or entry.reset >= floor:
        return entry
    last = min(entry.last, floor)
    return Entry(entry.path, last, entry.amount, base=entry.amount, reset=floor, born=entry.born)


def count_on(entry: Entry, more: Amount, stamps: tuple[int, int], floor: int, now_ns: int) -> Entry:
    """The owner's entry when `more` was counted, the first and last of it at these stamps. O(1).

    What was counted before the floor is erased already. `entry` has been reset by it; a new one is
    `Entry(path, 0, 0)`. A stamp ahead of `now_ns` is cut to it, but not to below the floor.
    """
    born, last = stamps
    amount = counter.add(entry.amount, more)
    if last <= floor:
        base = counter.add(entry.base, more)
        if is_counted(entry):
            return Entry(entry.path, entry.last, amount, base, entry.reset, entry.born)
        return Entry(entry.path, floor, amount, base, max(floor, entry.reset), min(born, floor))
    least = max(floor, entry.reset) + 1
    last = max(entry.last, min(last, now_ns), least)
    born = min(max(born, least), last)
    if is_counted(entry):
        born = min(entry.born, born)
    return Entry(entry.path, last, amount, entry.base, entry.reset, born)
