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
from shardlog.crdt.entry import count_on, difference, is_counted, reset_by

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
        self._gone: dict[str, None] = {}
        for entry in restored.entries:
            state.put(self.replica, entry)

    @property
    def is_dirty(self) -> bool:
        """Whether anything is to be persisted."""
        return bool(self._dirty_marks or self._dirty_entries or self._gone)

    def is_news(self, process: str, total: Total) -> bool:
        """Whether hearing this total would change anything. O(1)."""
        old = self._mark(process, total.path)
        return old.advance(total.generation, total.amount)[0] != old

    def count(self, process: str, total: Total, now_ns: int, to: str | None = None) -> bool:
        """Hear a total; False if the sum is too large to be kept, and nothing changed. O(depth).

        A stamp ahead of `now_ns` is cut to it. What is new is added at the path `to`, if that is
        another than the total's own.
        """
        path = total.path
        mark, more = self._mark(process, path).advance(total.generation, total.amount)
        if more and not self.add(to or path, more, total.born, total.last, now_ns):
            return False
        self._marks.setdefault(process, {})[path] = self._dirty_marks[process, path] = mark
        return True

    def add(self, path: str, more: Amount, born: int, last: int, now_ns: int) -> bool:
        """Add to the replica's own entry; False if the sum is too large to be kept. O(depth)."""
        old = self._state.cells.get(path, {}).get(self.replica) or Entry(path, 0, 0, 0)
        entry = count_on(old, more, (born, last), self._state.map.floor_over(path), now_ns)
        if not counter.fits(entry.amount):
            return False
        self._put(entry)
        return True

    def reset(self, top: str) -> None:
        """A floor at `top` is new: what was counted below it shows no more. O(rows below)."""
        for path in self._state.counters(top):
            old = self._state.cells[path].get(self.replica)
            if old is not None:
                entry = reset_by(old, self._state.map.floor_over(path))
                if entry is not old:
                    self._put(entry)

    def collapse(self, path: str, to: str) -> Entry | None:
        """Move what the entry at a path shows to another path; its entry then. O(depth).

        The entry that it leaves is to be forgotten by the state.
        """
        old = self._state.cells[path][self.replica]
        self._gone[path] = None
        self._dirty_entries.pop(path, None)
        floor = self._state.map.floor_over(path)
        if not is_counted(old) or old.last <= floor:
            return None
        if self.add(to, difference(old), old.born, old.last, old.last):
            return self._state.cells[to][self.replica]
        return None

    def take_gone(self) -> tuple[str, ...]:
        """The paths whose entries are no more, since the last call. O(their number)."""
        gone, self._gone = tuple(self._gone), {}
        return gone

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
        self._gone = (
            dict.fromkeys(p for p in batch.gone if p not in self._dirty_entries) | self._gone
        )
        entries = {entry.path: entry for entry in batch.entries if entry.path not in self._gone}
        self._dirty_entries = entries | self._dirty_entries

    def _put(self, entry: Entry) -> None:
        self._state.put(self.replica, entry)
        self._dirty_entries[entry.path] = entry
        self._gone.pop(entry.path, None)

    def _mark(self, process: str, path: str) -> counter.Mark:
        return self._marks.get(process, {}).get(path, counter.NEVER)
