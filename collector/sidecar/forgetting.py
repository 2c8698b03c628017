"""Forgetting: which records are due, and what their counters become.

Theory. The owner of a replica decides what of it is forgotten, and says so: whoever follows drops
the same in the same version, whatever its own clock says. Nodes that forget each by its own clock
lose what one of them still has and bring back what another has dropped. Counts are not dropped but
collapse: what a record's counters show moves to the same path with the record's last key replaced
by `~`, in the same version, so that no total ever goes down.

A record's clock is its newest stamp, anywhere: parents pass down what others have in a record of
which there is a part here, so that no host forgets its part while another still writes. A record is
on a heap once, at a time before which it can't be due; only then are its rows looked at. One that
others lie within, by longer patterns, waits for them.

Known anomalies. A counter that another kind of value hid, where both were at one path or one above
the other, is seen in totals once it has collapsed. An erase of all that `~` lies below takes the
collapsed counts too.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.delta import Forgotten
from shardlog.crdt.path import RESERVED, path_keys, root_key
from shardlog.crdt.retention import FOREVER, collapsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.collector.sidecar.ledger import Ledger
    from shardlog.collector.sidecar.notes import Notes
    from shardlog.collector.sidecar.presence import Presence
    from shardlog.crdt.delta import Entry
    from shardlog.crdt.replication.messages import RecordClock
    from shardlog.crdt.retention import Record, Retention
    from shardlog.crdt.state import State


class Piece(NamedTuple):
    """What one version forgets, and the entries to which its counts moved, as of then."""

    forgotten: list[Forgotten]
    entries: list[Entry]


class Forgetting:
    """The records of one replica that will be due."""

    def __init__(
        self,
        state: State,
        ledger: Ledger,
        presence: Presence,
        notes: Notes,
        retention: Retention,
        clocks: dict[str, int],
        bytes_max: int,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._presence = presence
        self._notes = notes
        self._retention = retention
        self._bytes_max = bytes_max
        self._heap: list[tuple[int, Record]] = []
        self._watched: set[str] = set()
        self._clocks = clocks
        self._dirty_clocks: dict[str, int | None] = {}
        for path in clocks:
            self._watch_clock(path)

    def watch(self, paths: Iterable[str]) -> None:
        """Something was said at these paths. O(their number x (len + log records))."""
        for path in paths:
            record = self._retention.record_of(path)
            if record is None or record.duration_ns == FOREVER or record.path in self._watched:
                continue
            stamp = self._state.newest_at(path)
            if stamp:
                self._watch(record, stamp)

    def hear(self, clock: RecordClock) -> None:
        """Somebody else has this stamp in a record. O(log n); of no use where nothing of it is."""
        path = clock.record
        if clock.stamp > self._clocks.get(path, 0) and self._state.at_and_below(path):
            self._clocks[path] = self._dirty_clocks[path] = clock.stamp
            self._watch_clock(path)

    def take_dirty_clocks(self) -> tuple[tuple[str, int | None], ...]:
        """The clocks of others that changed since the last call, None for what is forgotten."""
        dirty, self._dirty_clocks = self._dirty_clocks, {}
        return tuple(dirty.items())

    def put_back(self, clocks: Iterable[tuple[str, int | None]]) -> None:
        """These could not be persisted."""
        self._dirty_clocks = dict(clocks) | self._dirty_clocks

    def is_old(self, path: str, stamp: int, now_ns: int) -> Record | None:
        """The record for which a stamp is too old, None if there is none. O(1) if it is new."""
        return self._retention.record_before(path, stamp, now_ns)

    def sweep(self, now_ns: int) -> Iterator[Piece]:
        """Forget what is due. O(1) if nothing is, else O(rows of what may be x log records)."""
        if not self._heap or self._heap[0][0] >= now_ns:
            return
        waiting: list[tuple[int, Record]] = []
        forgotten = 0
        blades = self._presence.blades()
        while self._heap and self._heap[0][0] < now_ns:
            at_ns, record = heappop(self._heap)
            if self._is_alive(record.path, blades):
                waiting.append((at_ns, record))
                continue
            due_ns, cut = self._due(record)
            if due_ns >= now_ns:
                waiting.append((min(due_ns, now_ns + record.duration_ns), record))
                continue
            self._watched.discard(record.path)
            forgotten += 1
            if cut:
                yield from self._forget(record, cut, now_ns)
            else:
                self._drop_clock(record.path)
        if waiting:
            self._heap += waiting
            heapify(self._heap)
        if 32 * forgotten > len(self._heap):
            self._watched = set(self._watched)  # a set that shrinks keeps its table

    def _is_alive(self, record: str, blades: set[str]) -> bool:
        """Whether it is a blade's own, or the presence of a process, that is still there."""
        root = root_key(record)
        if root == RESERVED:
            keys = path_keys(record)
            is_presence = len(keys) == 4 and keys[1] == "presence"
            return is_presence and self._presence.is_alive(str(keys[3]))
        return path_keys(root)[0] in blades

    def _due(self, record: Record) -> tuple[int, int]:
        """When a record is due, and its newest stamp; (0, 0) if there is nothing to forget."""
        due_ns = newest = 0
        for path in self._state.at_and_below(record.path):
            stamp = self._state.map.newest_at(path)
            if not record.keeps_counters:
                stamp = self._state.newest_at(path)
            own = self._retention.record_of(path) or record
            newest = max(newest, stamp)
            others = self._clocks.get(own.path, 0) if stamp else 0
            due_ns = max(due_ns, max(stamp, others) + own.duration_ns)
        return due_ns, newest

    def _forget(self, record: Record, cut: int, now_ns: int) -> Iterator[Piece]:
        """Counters below others first, so that what goes in pieces takes nothing else along."""
        gone: list[Forgotten] = []
        entries: list[Entry] = []
        size = 0
        paths = [] if record.keeps_counters else self._state.counters(record.path)
        for path in reversed(paths):
            gone.append(Forgotten(path, cut))
            try:
                moved = self._ledger.collapse(path, collapsed(path, record.path))
                entries += [moved] if moved else []
            except OverflowError as error:
                self._notes.refuse("overflow", str(error), now_ns)
            size += 2 * len(path) + 150
            if size >= self._bytes_max:
                yield Piece(gone, entries)
                gone, entries, size = [], [], 0
        rows = self._state.at_and_below(record.path)
        records = dict.fromkeys((self._retention.record_of(path) or record).path for path in rows)
        yield Piece([Forgotten(record.path, cut)], entries)
        self._state.forget(self._ledger.replica, record.path, cut)
        for own in records:
            self._drop_clock(own)

    def _watch(self, record: Record, stamp: int) -> None:
        self._watched.add(record.path)
        heappush(self._heap, (stamp + record.duration_ns, record))

    def _watch_clock(self, path: str) -> None:
        """It goes with the record, also where a floor takes all of that before it is due."""
        record = self._retention.record_of(path)
        if record is not None and record.path not in self._watched:
            self._watch(record, self._clocks[path])

    def _drop_clock(self, record: str) -> None:
        if self._clocks.pop(record, 0):
            self._dirty_clocks[record] = None
