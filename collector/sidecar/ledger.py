"""The ledger of one replica: what each process has counted, and what that adds up to.

Theory. Per (process, path) the highest total heard is kept as a mark; only what a report has
beyond it is added to the replica's own entry of that path. Totals are absolute, so a report may
come twice, late or in another order and adds nothing the second time (Almeida and Baquero,
"Scalable Eventually Consistent Counters over Unreliable Networks", 2013, section 4, do the same
with a handoff). Marks and entries change together and are persisted together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt import counter
from shardlog.crdt.delta import Entry

if TYPE_CHECKING:
    from shardlog.collector.batch import Persist, Restored
    from shardlog.crdt.delta import Amount, Total
    from shardlog.crdt.state import State


class Ledger:
    """The marks of a replica; its entries are in `state`, where followers' snapshots find them."""

    def __init__(self, state: State, restored: Restored) -> None:
        self.replica = restored.replica
        self._state = state
        self._marks = restored.marks
        self._dirty_marks: dict[tuple[str, str], counter.Mark] = {}
        self._dirty_entries: dict[str, Entry] = {}
        for entry in restored.entries:
            state.put(self.replica, entry)

    @property
    def is_dirty(self) -> bool:
        """Whether anything is to be persisted."""
        return bool(self._dirty_marks or self._dirty_entries)

    def is_news(self, process: str, total: Total) -> bool:
        """Whether hearing this total would change anything. O(1)."""
        old = self._mark(process, total.path)
        return old.advance(total.generation, total.amount)[0] != old

    def count(self, process: str, total: Total, now_ns: int) -> bool:
        """Hear a total; False if the sum is too large to be kept, and nothing changed. O(1).

        A stamp ahead of `now_ns` is cut to it.
        """
        path = total.path
        mark, more = self._mark(process, path).advance(total.generation, total.amount)
        if more and not self.add(path, more, total.born, min(total.last, now_ns)):
            return False
        self._marks.setdefault(process, {})[path] = self._dirty_marks[process, path] = mark
        return True

    def add(self, path: str, more: Amount, born: int, last: int) -> bool:
        """Add to the replica's own entry; False if the sum is too large to be kept. O(1)."""
        old = self._state.cells.get(path, {}).get(self.replica)
        if old is None:
            entry = Entry(path, min(born, last), last, more)
        else:
            amount = counter.add(old.amount, more)
            entry = Entry(path, min(old.born, born), max(old.last, last), amount)
        if not counter.fits(entry.amount):
            return False
        self._state.put(self.replica, entry)
        self._dirty_entries[path] = entry
        return True

    def take_dirty(
        self,
    ) -> tuple[tuple[tuple[str, str, counter.Mark], ...], tuple[Entry, ...]]:
        """The marks and entries that changed since the last call. O(their number)."""
        marks = tuple((process, path, mark) for (process, path), mark in self._dirty_marks.items())
        entries = tuple(self._dirty_entries.values())
        self._dirty_marks, self._dirty_entries = {}, {}
        return marks, entries

    def put_back(self, batch: Persist) -> None:
        """What of a batch could not be persisted is to be persisted again. O(batch)."""
        marks = {(process, path): mark for process, path, mark in batch.marks}
        self._dirty_marks = marks | self._dirty_marks
        self._dirty_entries = {entry.path: entry for entry in batch.entries} | self._dirty_entries

    def _mark(self, process: str, path: str) -> counter.Mark:
        return self._marks.get(process, {}).get(path, counter.NEVER)
