"""The state that is replicated: registers and floors, and the counters of every replica.

Theory. State is the product of two lattices: the nested last-writer-wins map, and the cluster's
PN-Counter, whose entries belong to replicas (a replica is a collector's store). Registers merge
one by one. Entries are versioned per replica: a fragment (from, to) of a replica applies iff
from <= known < to, one with to <= known is a repetition and dropped, one with from > known a gap
that a snapshot must fill. An entry is never rewritten by anyone but its owner (Almeida et al.,
"Delta State Replicated Data Types", 2016, section 4: causal delta-merging, intervals for acks).

What shows where a register and a counter meet: for visibility a counter is a leaf stamped by its
newest count. It writes no floor, but hides older leaves at and below its path; a floor at or above
it that is not older hides it. Of two things of which each could hide the other the newer one does,
and ties go to the register, then to the one below: so the view is a proper tree.

Not so among the counters of forgotten records, at and below `~`: those of many records, of
different shapes, meet there, and each was visible where it came from. None hides another, or a
total would go down when a record is forgotten; where one is above others, a tree shows these.

An erase hides counters by its stamp alone; that they go on from zero behind it is the business of
their owner, see `shardlog.crdt.entry`.
"""

from __future__ import annotations

import hashlib
import sys
from heapq import merge
from typing import TYPE_CHECKING, Literal, NamedTuple

from shardlog.crdt import counter
from shardlog.crdt.delta import (
    COUNTER,
    ERASED,
    FORGOTTEN,
    REGISTER,
    Entry,
    Erase,
    Fragment,
    Write,
    item_bytes,
    name_bytes,
)
from shardlog.crdt.entry import difference, is_counted
from shardlog.crdt.errors import LocalProtocolError
from shardlog.crdt.lww_map import LwwMap
from shardlog.crdt.path import Pattern, ancestors
from shardlog.crdt.path_index import PathIndex
from shardlog.crdt.retention import is_collapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shardlog.crdt.delta import Amount, Value


class Shown(NamedTuple):
    """What shows at a path: the value, what kind it is, and who said it when ("" for a counter)."""

    kind: Literal[0, 1]
    value: Value
    stamp: int
    writer: str


class State:
    """Registers, floors and counters of a host or of the whole cluster.

    >>> state = State()
    >>> state.write("intents/42/host", 1, "process", "scraper-1")
    True
    >>> state.put("replica-1", Entry("intents/42/tries", 1, 2, 5))
    >>> state.put("replica-2", Entry("intents/42/tries", 1, 2, 3))
    >>> state.shown("intents/42/tries").value, state.total("intents/*/tries")
    (8, 8)
    >>> sorted(state.take_touched())
    ['intents/42/host', 'intents/42/tries']
    """

    def __init__(self) -> None:
        self.map = LwwMap()
        self.cells: dict[str, dict[str, Entry]] = {}
        self.versions: dict[str, int] = {}
        self._cell_index = PathIndex()
        self._mixed = False
        self._touched: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._homes: dict[str, str] = {}
        self._homes_max = 1000
        self._gone = 0

    def write(self, path: str, stamp: int, writer: str, value: Value) -> bool:
        """Merge a register's write; whether it was news. Complexity: `LwwMap.write`."""
        is_new = path not in self.map.leaves
        touched = self.map.write(path, stamp, writer, value)
        if touched:
            if is_new and not self._mixed and self.cells:
                self._mixed = (
                    path in self.cells
                    or self._cell_index.has_below(path)
                    or any(p in self.cells for p in ancestors(path))
                )
            self._touch(path, touched)
        return bool(touched)

    def erase(self, path: str, stamp: int, writer: str) -> bool:
        """Merge a floor; whether it was news. O(depth + log n + what is below)."""
        touched = self.map.erase(path, stamp, writer)
        if touched:
            if not self._mixed and self.cells:
                self._mixed = any(p in self.cells for p in ancestors(path))
            self._touch(path, touched)
            self._touched.update(dict.fromkeys(self._cell_index.below(path), 0))
        return bool(touched)

    def forget(self, replica: str, record: str, cut: int) -> None:
        """Drop what a replica has at and below a record, up to the stamp `cut`.

        Of a record of one key its counters stay: there is no sibling to go on at. O(rows of it).
        """
        is_own = self._is_of(replica)
        keeps_counters = not any(ancestors(record))
        for path in self.at_and_below(record):
            is_gone = self.map.drop(path, cut, is_own)
            if replica in self.cells.get(path, {}) and not keeps_counters:
                self._remove(replica, path)
                is_gone = True
            if is_gone:
                self._touch_gone(path, cut)
                self._gone += 1
        self._compact()

    def put(self, replica: str, entry: Entry) -> None:
        """Set a replica's entry: the caller answers for the order. O(1) where the path exists."""
        path = entry.path
        cell = self.cells.get(path)
        if cell is None:
            cell = self.cells[path] = {}
            self._cell_index.add(path)
            self._mixed = self._mixed or self._meets(path)
        cell[replica] = entry
        self._touch(path, [path])

    def merge(self, fragment: Fragment) -> None:
        """Merge what changed at a replica; a repetition changes nothing. O(its size) as above.

        Raises:
            LocalProtocolError: a gap: the fragment begins behind the version that is known.
        """
        known = self.versions.get(fragment.replica, 0)
        if fragment.to_version <= known:
            return
        if fragment.from_version > known:
            raise LocalProtocolError(
                f"gap: {fragment.replica} is known up to {known}, not to {fragment.from_version}"
            )
        for forgotten in fragment.forgotten:
            self.forget(fragment.replica, forgotten.record, forgotten.cut)
        self._merge_registers(fragment)
        for entry in fragment.entries:
            self.put(fragment.replica, entry)
        self.versions[fragment.replica] = fragment.to_version

    def install(self, replica: str, version: int, chunks: Iterable[Fragment]) -> None:
        """Replace all that a replica has by its snapshot; what is not in it was forgotten.

        The version is that of the snapshot's first chunk: later chunks may hold later entries, so
        the fragments behind that version, up to the one of the last chunk, belong to the same
        step. O(size of the old state and of the snapshot).
        """
        own = {writer for writer, home in self._homes.items() if home == replica}
        held: set[str] = set()
        said: set[str] = set()
        for chunk in chunks:
            self._merge_registers(chunk)
            for entry in chunk.entries:
                self.put(replica, entry)
                held.add(entry.path)
            said.update(item.path for items in (chunk.writes, chunk.erases) for item in items)
        for path in [p for p, cell in self.cells.items() if replica in cell and p not in held]:
            last = self.cells[path][replica].last
            self._remove(replica, path)
            self._touch_gone(path, last)
        for path in [p for p in self.map.index if p not in said]:
            newest = self.map.newest_at(path)
            if self.map.drop(path, newest, own.__contains__):
                self._touch_gone(path, newest)
        self.versions[replica] = version

    def touched(self) -> Iterable[str]:
        """What the next `take_touched` returns. O(1)."""
        return self._touched.keys()

    def take_touched(self) -> list[str]:
        """The paths whose look may have changed since the last call, each once. O(their number)."""
        touched, self._touched = self._touched, {}
        self._left = {path: cut for path, cut in touched.items() if cut}
        return list(touched)

    def shown(self, path: str) -> Shown | None:
        """What is visible at exactly this path. O(depth), plus what is below where kinds meet."""
        return self._shown_register(path) or self._shown_counter(path)

    def paths(self, after: str | None = None) -> Iterator[str]:
        """All paths at which something is stored, sorted, behind `after`. O(log n) to begin."""
        return _once(merge(self.map.index.after(after), self._cell_index.after(after)))

    def at_and_below(self, top: str) -> list[str]:
        """The paths at and below `top` at which something is stored, sorted. O(log n + paths)."""
        is_stored = top in self.map.leaves or top in self.map.floors or top in self.cells
        below = _once(merge(self.map.index.below(top), self._cell_index.below(top)))
        return [*([top] if is_stored else []), *below]

    def newest_at(self, path: str) -> int:
        """The newest stamp of all that is stored at a path, 0 if nothing is. O(replicas)."""
        lasts = (entry.last for entry in self.cells.get(path, {}).values())
        return max(self.map.newest_at(path), max(lasts, default=0))

    def gone_by(self, path: str) -> tuple[Literal[2, 3], int, str]:
        """How a path went that once showed something, when and by whom. O(depth + below).

        Forgotten, if that was what it was last touched by. Else erased: by a floor at or above it
        if that is the newest, or by whatever was written below it.
        """
        if path in self._left:
            return FORGOTTEN, self._left[path], ""
        floor = self.map.newest_floor(path)
        below = (self.map.leaves.get(p) or self.map.floors[p] for p in self.map.index.below(path))
        stamp, by = max([floor, *((mark.stamp, mark.writer) for mark in below)])
        return ERASED, stamp, by

    def counters(self, top: str) -> list[str]:
        """The paths at and below `top` that have entries, sorted. O(log n + paths)."""
        at = [top] if top in self.cells else []
        if self._cell_index.has_below(top):
            at += self._cell_index.below(top)
        return at

    def rows(self, top: str | None = None) -> Iterator[tuple[str, Shown]]:
        """All that is visible at and below `top` (None: the root), sorted. O(log n + rows)."""
        if top is None:
            paths: Iterable[str] = self.paths()
        else:
            paths = self.at_and_below(top)
        for path in paths:
            shown = self.shown(path)
            if shown is not None:
                yield path, shown

    def total(self, pattern: str) -> int | float:
        """The sum of the visible counters that match. O(rows below the pattern's literal start)."""
        wanted = Pattern(pattern, collapsed=True)
        start = wanted.prefix
        paths = [start, *self._cell_index.below(start)] if start else self._cell_index
        total: Amount = 0
        for path in paths:
            if wanted.matches(path) and self._shown_counter(path) is not None:
                total = counter.add(total, self._cell_amount(path))
        return counter.value(total)

    def snapshot(
        self, replica: str, after: str | None, bytes_max: int
    ) -> tuple[Fragment, str | None]:
        """A chunk of what is stored, sorted, behind the path `after` (None: from the start).

        The second value is the `after` of the next chunk, None behind the last. The entries are
        those of `replica`. The state may change between chunks: see `install`. O(log n + chunk).
        """
        versions = (0, self.versions.get(replica, 0))
        return self.fragment(replica, versions, self.paths(after), bytes_max)

    def fragment(
        self, replica: str, versions: tuple[int, int], paths: Iterator[str], bytes_max: int
    ) -> tuple[Fragment, str | None]:
        """What is stored at the next of these paths, until the fragment has about `bytes_max`.

        The second value is the last path taken, None if there was none left. O(fragment).
        """
        writers: dict[str, int] = {}
        fragment = Fragment(replica, *versions, [], [], [], [])
        last: str | None = None
        size = 0
        for path in paths:
            leaf, floor = self.map.leaves.get(path), self.map.floors.get(path)
            for mark in (floor, leaf):
                if mark is not None and mark.writer not in writers:
                    writers[mark.writer] = len(writers)
                    size += name_bytes(mark.writer)
            if floor is not None:
                index = writers[floor.writer]
                fragment.erases.append(Erase(path, floor.stamp, index))
                size += item_bytes(fragment.erases[-1])
            if leaf is not None:
                index = writers[leaf.writer]
                fragment.writes.append(Write(path, leaf.stamp, index, leaf.value))
                size += item_bytes(fragment.writes[-1])
            entry = self.cells.get(path, {}).get(replica)
            if entry is not None:
                fragment.entries.append(entry)
                size += item_bytes(entry)
            if size >= bytes_max:
                last = path
                break
        fragment.writers.extend(writers)
        return fragment, last

    def digest(self) -> str:
        """A hash of all that is stored: equal iff the states are. O(n)."""
        sha = hashlib.blake2b(digest_size=16)
        for row in self.map.rows():
            sha.update(repr(row).encode("utf-8", "surrogatepass"))
        for path in self._cell_index:
            sha.update(repr((path, sorted(self.cells[path].items()))).encode())
        sha.update(repr(sorted(self.versions.items())).encode())
        return sha.hexdigest()

    def check_invariants(self) -> None:
        """Raise AssertionError where the state contradicts itself. O(n x depth)."""
        self.map.check_invariants()
        assert set(self._cell_index) == set(self.cells)
        assert all(self.cells.values()), "a path without an entry"
        shown = [p for p, row in self.rows() if row.value != {} and not is_collapsed(p)]
        inner = {prefix for path, _ in self.rows() for prefix in ancestors(path)}
        assert not inner.intersection(shown), "something shows below a value that shows"

    def _merge_registers(self, fragment: Fragment) -> None:
        writers = [sys.intern(writer) for writer in fragment.writers]
        self._homes.update(dict.fromkeys(writers, fragment.replica))
        for erase in fragment.erases:
            self.erase(erase.path, erase.stamp, writers[erase.writer])
        for write in fragment.writes:
            self.write(write.path, write.stamp, writers[write.writer], write.value)
        if len(self._homes) > self._homes_max:
            leaves, floors = self.map.leaves.values(), self.map.floors.values()
            kept = {mark.writer for marks in (leaves, floors) for mark in marks}
            self._homes = {writer: self._homes[writer] for writer in kept if writer in self._homes}
            self._homes_max = 2 * len(self._homes) + 1000

    def _compact(self) -> None:
        """Give back the memory of what was forgotten, once that is 3 % of what is left."""
        if 32 * self._gone > len(self.map.index) + len(self.cells):
            self._gone = 0
            self.map.compact()
            self.cells = dict(self.cells)
            self._cell_index.compact()

    def _is_of(self, replica: str) -> Callable[[str], bool]:
        """Whether a writer speaks through this replica. At the owner itself all writers do."""
        return lambda writer: self._homes.get(writer, replica) == replica

    def _remove(self, replica: str, path: str) -> None:
        cell = self.cells[path]
        del cell[replica]
        if not cell:
            del self.cells[path]
            self._cell_index.remove(path)
        self._touch(path, [path])

    def _touch(self, path: str, touched: list[str]) -> None:
        """Note what may look different; where registers and counters meet, also above and below."""
        for p in touched:
            self._touched[p] = 0
        if not self._mixed:
            return
        leaves, cells = self.map.leaves, self.cells
        for p in ancestors(path):
            if p in leaves or p in cells:
                self._touched[p] = 0
        leaf = leaves.get(path)
        if leaf is None or leaf.is_scalar or path in cells:  # `{}` hides nothing below it
            self._touched.update(dict.fromkeys(self.map.index.below(path), 0))
            self._touched.update(dict.fromkeys(self._cell_index.below(path), 0))

    def _touch_gone(self, path: str, cut: int) -> None:
        """Note that something at a path was forgotten; a scalar above it may show again."""
        self._touch(path, [path, *(p for p in ancestors(path) if p in self.map.leaves)])
        self._touched[path] = cut

    def _meets(self, path: str) -> bool:
        """Whether a counter at this path has anything at, above or below it that it could hide."""
        return (
            path in self.map.leaves
            or self.map.index.has_below(path)
            or self._cell_index.has_below(path)
            or any(p in self.map.leaves or p in self.cells for p in ancestors(path))
        )

    def _shown_register(self, path: str) -> Shown | None:
        leaf = self.map.leaves.get(path)
        if leaf is None or not self.map.is_visible(path):
            return None
        if self._mixed:
            if any(self._last(p) > leaf.stamp for p in (path, *ancestors(path))):
                return None
            if leaf.is_scalar and self._last_below(path) > leaf.stamp:
                return None
        return Shown(REGISTER, leaf.value, leaf.stamp, leaf.writer)

    def _shown_counter(self, path: str) -> Shown | None:
        if path not in self.cells:
            return None
        last = self._last(path)
        if last <= self.map.floor_over(path):
            return None
        if self._mixed:
            leaf = self.map.leaves.get(path)
            if leaf is not None and leaf.stamp >= last:
                return None
            if self.map.newest_below(path) >= last:
                return None
            goes_on = is_collapsed(path)
            if not goes_on and self._last_below(path) >= last:
                return None
            above = (p for p in ancestors(path) if not goes_on or not is_collapsed(p))
            if any(self._last(p) > last for p in above):
                return None
        return Shown(COUNTER, counter.value(self._cell_amount(path)), last, "")

    def _cell_amount(self, path: str) -> Amount:
        """The sum of the entries at a path that no floor hides."""
        floor = self.map.floor_over(path)
        total: Amount = 0
        for entry in self.cells[path].values():
            if entry.last > floor and is_counted(entry):
                total = counter.add(total, difference(entry))
        return total

    def _last(self, path: str) -> int:
        """The newest count that its owner has not erased, 0 if there is none."""
        entries = self.cells.get(path, {}).values()
        return max((entry.last for entry in entries if is_counted(entry)), default=0)

    def _last_below(self, path: str) -> int:
        return max((self._last(p) for p in self._cell_index.below(path)), default=0)


def _once(paths: Iterable[str]) -> Iterator[str]:
    """Sorted paths without the repetitions."""
    previous = None
    for path in paths:
        if path != previous:
            yield path
        previous = path
