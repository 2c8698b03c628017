"""The parts of replicas that have departed: forgotten here, as their owners would.

Theory. An owner decides what of its replica is forgotten, as long as it is there. Of one that was
lost, or has not been heard for a while, a node forgets by itself, in its own view of that part and
by the same rules: a record goes when its clock, the newest stamp that anybody has in it, is older
than its retention, and what its counters show goes on at `~`.

If the owner returns, its snapshot replaces the part: it has forgotten the same before it spoke, or
has counted on and knows better. Deltas that continue where it fell silent would not fit any more,
so whoever follows it must ask for that snapshot first.

Known anomaly. Nodes that have heard the same of a departed replica are equal again only when each
has swept.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from shardlog.crdt import counter
from shardlog.crdt.retention import FOREVER, collapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shardlog.crdt.retention import Record, Retention
    from shardlog.crdt.state import State


class Departed:
    """What is to be forgotten of replicas whose owners are away. `clock`: that of a record."""

    def __init__(self, state: State, retention: Retention, clock: Callable[[str], int]) -> None:
        self._state = state
        self._retention = retention
        self._clock = clock
        self._heaps: dict[str, list[tuple[int, Record]]] = {}

    def sweep(self, departed: Iterable[str], now_ns: int) -> list[str]:
        """Forget what is due of these, who are away; of whom something was forgotten.

        O(rows) for each who has just departed, then O(1) while nothing is due.
        """
        before, self._heaps = self._heaps, {}
        changed: list[str] = []
        for replica in departed:
            heap = before.get(replica)
            self._heaps[replica] = heap = self._records(replica) if heap is None else heap
            if self._forget_due(replica, heap, now_ns):
                changed.append(replica)
        return changed

    def changed(self, replica: str) -> None:
        """What is held of a replica has changed: its records are to be looked up again. O(1)."""
        self._heaps.pop(replica, None)

    def _records(self, replica: str) -> list[tuple[int, Record]]:
        """The records of a part, each behind a time before which it can't be due."""
        stamps: dict[Record, int] = {}
        for path in self._state.held_by(replica):
            record = self._retention.record_of(path)
            if record is not None and record.duration_ns != FOREVER:
                stamps[record] = max(stamps.get(record, 0), self._state.newest_of(replica, path))
        heap = [(stamp + record.duration_ns, record) for record, stamp in stamps.items()]
        heapify(heap)
        return heap

    def _forget_due(self, replica: str, heap: list[tuple[int, Record]], now_ns: int) -> bool:
        changed = False
        waiting: list[tuple[int, Record]] = []
        while heap and heap[0][0] < now_ns:
            _, record = heappop(heap)
            due_ns, cut = self._due(replica, record)
            if due_ns >= now_ns:
                waiting.append((due_ns, record))
            elif cut:
                self._forget(replica, record, cut)
                changed = True
        for item in waiting:
            heappush(heap, item)
        return changed

    def _due(self, replica: str, record: Record) -> tuple[int, int]:
        """When a record is due, and the replica's newest stamp in it; 0 if it has nothing there."""
        due_ns = newest = 0
        for path in self._state.held_by(replica, record.path):
            own = self._retention.record_of(path) or record
            newest = max(newest, self._state.newest_of(replica, path))
            due_ns = max(due_ns, self._clock(own.path) + own.duration_ns)
        return due_ns, newest

    def _forget(self, replica: str, record: Record, cut: int) -> None:
        for path in [] if record.keeps_counters else self._state.counters(record.path):
            if replica in self._state.counting[path]:
                moved = self._state.moved(replica, path, collapsed(path, record.path))
                if moved is not None and counter.fits(moved.amount):
                    self._state.put(replica, moved)
        self._state.forget(replica, record.path, cut)
