"""The state that a receiver lacks: registers, floors and totals, conflated path by path. Pure.

What a floor dominates is dropped: an erase at p drops what is kept at and below p, a scalar at p
what is below it. A scalar that gives way to `{}` leaves its floor behind. No other decision rests
on what would be visible.

A floor ends the generation of the process's own counters at and below it. What was counted before
and is not acknowledged moves to `ended`, to be sent, also once more; what comes later starts a new
generation from zero. So does what comes after a total was retired, which then waits as a note of
that.

At a limit, what was sent gives way to what comes: registers, and floors where nothing tells what
has arrived. While the link is down nothing does, for it may have been lost. Where the generation
that a floor has ended arrived, and the floor did not, the receiver would show too much.

Known anomalies. So it does where a floor gave way while the link was up (a scalar that overwrote a
counter, without acknowledgements an erase too) and did not arrive in the end.

Where one path is erased twice before anything is acknowledged, and was counted at and sent each
time, only the newer of both ends is sent again: if the link broke, the receiver may never hear of
the older one. Nothing of it would show, but it is missed when sums are compared.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from shardlog.crdt import counter
from shardlog.crdt.delta import Erase, Retired, Total, Write, item_bytes
from shardlog.handler.path_tree import PathTree
from shardlog.handler.shelf import UNSENT, Shelf, with_generation

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount
    from shardlog.crdt.replication.messages import Report
    from shardlog.handler.shelf import Item


class Limits(NamedTuple):
    """How many items one process may hold for its receiver, and how many bytes of them."""

    paths: int = 100_000
    bytes: int = 64 << 20


class Backlog:
    """The shelves, and the rules by which items displace one another.

    `erase`, `write` and `count` are to be called with rising stamps. They return the limit that
    refused the item, if one did; `own` items are let through.
    """

    __slots__ = ("_giving", "_limits", "_tree", "ended", "erases", "retired", "totals", "writes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tree = PathTree()
        self.writes: Shelf[Write] = Shelf()
        self.erases: Shelf[Erase] = Shelf()
        self.totals: Shelf[Total] = Shelf()
        self.ended: Shelf[Total] = Shelf()
        self.retired: Shelf[Retired] = Shelf()
        self._giving: tuple[Shelf[Any], ...] = ()

    def has_unsent(self) -> bool:
        """Whether anything waits. O(1)."""
        return any(shelf.unsent for shelf in self._shelves())

    def erase(self, erase: Erase) -> str | None:
        """Take in a floor. O(1) where nothing is kept at or below it, else O(depth + dropped)."""
        path = erase.path
        displaces = self._is_kept(path) or self._tree.has_below(path)
        reason = self._put(self.erases, erase, own=displaces)
        if reason is None and displaces:
            self.writes.drop(path)
            self._cover(path)
        return reason

    def write(self, write: Write, *, own: bool = False) -> str | None:
        """Take in a register. O(1) where nothing is below it, else O(depth + dropped)."""
        path = write.path
        old = self.writes.items.get(path)
        is_scalar = type(write.value) is not dict
        displaces = is_scalar and self._tree.has_below(path)
        reason = self._put(self.writes, write, own=own, displaces=displaces)
        if reason is None:
            if is_scalar:
                self.erases.drop(path)
                self._cover(path)
            elif old is not None and type(old.value) is not dict:
                self._put(self.erases, Erase(path, old.stamp, 0), own=True)
        return reason

    def count(self, path: str, stamp: int, amount: Amount, *, own: bool = False) -> str | None:
        """Add to the total of a path. O(1), O(depth) where the path is new."""
        old = self.totals.items.get(path)
        total = amount if old is None else counter.add(old.amount, amount)
        if not counter.fits(total):
            return "overflow"
        if old is None:
            return self._put(self.totals, Total(path, UNSENT, stamp, stamp, total), own=own)
        self.totals.replace(Total(path, old.generation, old.born, stamp, total))
        return None

    def put_back(self, report: Report) -> None:
        """What is in the report, if it is the newest, was not sent after all. O(its items)."""
        self.erases.put_back(report.erases)
        self.writes.put_back(report.writes)
        self.retired.put_back(report.retired)
        for shelf in (self.totals, self.ended):
            shelf.put_back(report.totals)
            for total in report.totals:
                held = shelf.items.get(total.path)
                if held is not None and held.generation == report.sequence:
                    shelf.items[total.path] = with_generation(held, UNSENT)

    def discard(self, report: Report) -> list[str]:
        """Drop what is in the report; its paths. O(its items)."""
        paths: list[str] = []
        for shelf, items in (
            (self.erases, report.erases),
            (self.writes, report.writes),
            (self.totals, report.totals),
            (self.ended, report.totals),
            (self.retired, report.retired),
        ):
            for item in items:
                shelf.drop(item.path)
                self.tidy(item.path)
            paths += [item.path for item in items if shelf is not self.ended]
        return paths

    def acknowledge(self, sequence: int) -> None:
        """What was sent up to this report has arrived; totals stay. O(what has arrived)."""
        for _ in self.totals.acknowledge(sequence):
            pass
        for shelf in (self.ended, self.writes, self.erases, self.retired):
            for path in shelf.acknowledge(sequence):
                shelf.drop(path)
                self.tidy(path)

    def retire(self, before_ns: float) -> None:
        """Drop totals that have arrived and were sent before, and note that. O(retired)."""
        for total in self.totals.drop_known(before_ns):
            self.tidy(total.path)
            note = Retired(total.path, total.generation)
            self.retired.put(note, item_bytes(note))

    def repeat(self, *, has_life: bool) -> None:
        """All that is not known to have arrived waits again. O(items).

        Once it is sent it may give way, but for erases that are to be acknowledged.
        """
        self._giving = (self.ended, self.writes, *(() if has_life else (self.erases,)))
        for shelf in self._shelves():
            shelf.repeat()

    def hold(self) -> None:
        """Nothing that was sent may give way until it is repeated. O(1)."""
        self._giving = ()

    def unlearn(self) -> None:
        """What had arrived is lost: all that is kept waits again. O(items)."""
        for shelf in self._shelves():
            shelf.unlearn()

    def drop_sent(self, before_ns: float) -> None:
        """Forget what was sent before, totals and retired ones excepted. O(forgotten)."""
        for shelf in (self.ended, self.writes, self.erases):
            for path in shelf.drop_sent(before_ns):
                self.tidy(path)

    def tidy(self, path: str) -> None:
        """To be called when a shelf has dropped a path. O(depth)."""
        if not self._is_kept(path):
            self._tree.discard(path, self._is_kept)

    def size(self) -> tuple[int, int]:
        """How many items are held, and an upper bound of their bytes. O(1)."""
        shelves = self._shelves()
        return sum(len(shelf.items) for shelf in shelves), sum(shelf.bytes for shelf in shelves)

    def check_invariants(self) -> None:
        """Raise AssertionError unless the shelves, the tree and the floors agree. O(items)."""
        tree = PathTree()
        for shelf in (self.writes, self.erases, self.totals):
            tree.add_all(shelf.items)
        assert tree == self._tree
        for shelf in self._shelves():
            shelf.check_invariants()
        for erase in self.erases.items.values():
            for path in (erase.path, *self._tree.below(erase.path)):
                write, total = self.writes.items.get(path), self.totals.items.get(path)
                assert write is None or write.stamp >= erase.stamp
                assert total is None or total.born > erase.stamp
            write = self.writes.items.get(erase.path)
            assert write is None or type(write.value) is dict, "a scalar is its own floor"
        for total in (*self.totals.items.values(), *self.ended.items.values()):
            assert counter.fits(total.amount)
            assert total.born <= total.last

    def _shelves(self) -> tuple[Shelf[Any], ...]:
        return self.totals, self.writes, self.erases, self.ended, self.retired

    def _put(
        self, shelf: Shelf[Item], item: Item, *, own: bool = False, displaces: bool = False
    ) -> str | None:
        """Put the item in if there is room; one that `displaces` others needs no further path."""
        path, size = item.path, item_bytes(item)
        # Most writes are to a path that is there, and no longer: they are taken in some 0.5 µs.
        if not own and size > shelf.size(path):
            reason = self._lacked(shelf, path, size, displaces)
            if reason is not None:
                return reason
        is_new = path not in shelf.items
        shelf.put(item, size)
        if is_new:
            self._tree.add(path)
        return None

    def _lacked(self, shelf: Shelf[Item], path: str, size: int, displaces: bool) -> str | None:
        """The limit that the item would exceed. What was sent may give way, the oldest first."""
        needs_path = not displaces and path not in shelf.items
        reason = self._exceeded(shelf, path, size, needs_path)
        if reason is not None:
            for giving in self._giving:
                for given in giving.drop_sent(inf):
                    self.tidy(given)
                    reason = self._exceeded(shelf, path, size, needs_path)
                    if reason is None:
                        return None
        return reason

    def _exceeded(self, shelf: Shelf[Item], path: str, size: int, needs_path: bool) -> str | None:
        held, held_bytes = self.size()
        if needs_path and held >= self._limits.paths:
            return "paths"
        return "bytes" if held_bytes - shelf.size(path) + size > self._limits.bytes else None

    def _cover(self, path: str) -> None:
        """Drop what the newest floor at the path dominates, but for registers at the path."""
        if self._tree.has_below(path):
            for below in reversed(list(self._tree.below(path))):
                self.writes.drop(below)
                self.erases.drop(below)
                self._end(below)
                self.tidy(below)
        self._end(path)

    def _end(self, path: str) -> None:
        """End the generation of the counter at the path, if there is one."""
        total = self.totals.items.get(path)
        if total is None:
            return
        may_be_missing = path not in self.totals.known
        self.totals.drop(path)
        if may_be_missing:
            old = self.ended.items.get(path)
            if old is not None and total.generation == UNSENT:
                amount = counter.add(old.amount, total.amount)
                if not counter.fits(amount):
                    return
                total = Total(path, old.generation, old.born, total.last, amount)
            self.ended.put(total, item_bytes(total))

    def _is_kept(self, path: str) -> bool:
        return path in self.writes.items or path in self.erases.items or path in self.totals.items
