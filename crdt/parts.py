"""The parts of a state, one of each replica, and the join of their registers.

Theory. The state is the product of the parts of its replicas (Almeida et al., "Delta State
Replicated Data Types", 2016, appendix B): a part is what that replica's owner has, and none but the
owner says what is in it. What shows is a pure function of the join of all parts. So nodes that hold
the same versions are equal, in whatever order they heard them; what a replica forgets is dropped
from its own part, and a snapshot replaces one part and leaves the others as they are.

Each part is a map in normal form, see `shardlog.crdt.lww_map`, and joins what it hears as its owner
did. The join of all parts is kept beside them. As long as parts only join, it joins the same. A
part that loses a row is another matter: what the row had superseded or dominated in the join comes
back. All of that lies at or below the row. So the row is taken out of the join, and what any part
holds there is joined again; where the floor is lower then, so is all that is held below. What is
joined already is joined without effect.

The join holds no leaves of its own but those of the parts: a leaf that shows is one object in both.

While one replica alone is known, as at its owner, its part is the join: nothing is kept twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.lww_map import LwwMap
from shardlog.crdt.path import ancestors, is_within
from shardlog.crdt.path_index import PathIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shardlog.crdt.delta import Entry
    from shardlog.crdt.lww_map import Floor, Leaf, Mark


class Part:
    """What one replica's owner has: registers and floors, and its entry wherever it counts.

    `counted` are the paths of the entries.
    """

    __slots__ = ("alone", "counted", "entries", "map", "replica")

    def __init__(self, replica: str, map_: LwwMap, counted: PathIndex) -> None:
        self.replica = replica
        self.map = map_
        self.counted = counted
        self.entries: dict[str, Entry] = {}
        self.alone = (replica,)  # shared by all paths that nobody else holds


class _Row(NamedTuple):
    """What is joined at a path; `floor` is its scalar's, too."""

    leaf: Mark | None
    erase: Floor | None
    floor: Floor


class Parts:
    """All parts, and their join: its registers and floors, and all paths that are counted at."""

    def __init__(self) -> None:
        self.joined = LwwMap()
        self.counted = PathIndex()
        self.of: dict[str, Part] = {}
        self._holders: dict[str, tuple[str, ...]] = {}
        self._held = PathIndex()

    def part(self, replica: str) -> Part:
        """The part of a replica, a new one if there is none. O(1); O(n) for the second ever."""
        part = self.of.get(replica)
        if part is None:
            if self.of:
                self._divide()
                part = Part(replica, LwwMap(), PathIndex())
            else:
                part = Part(replica, self.joined, self.counted)
            self.of[replica] = part
        return part

    def write(self, part: Part, path: str, leaf: Leaf) -> list[str]:
        """Join a leaf to a part; the paths whose look may have changed. As `LwwMap.write`."""
        own = part.map
        if own is self.joined:
            return own.join_leaf(path, leaf)
        is_known = path in own.leaves
        news = own.join_leaf(path, leaf)
        if not news:
            return news
        if not is_known or len(news) > 1:
            self._note(part, news)
        return self.joined.join_leaf(path, leaf)

    def load(self, part: Part, leaves: Mapping[str, Leaf]) -> None:
        """Take in leaves at, above and below which nobody holds anything. As `LwwMap.load`."""
        part.map.load(leaves)
        if part.map is not self.joined:
            self.joined.load(leaves)
            self._holders.update(dict.fromkeys(leaves, part.alone))
            self._held.load(leaves)

    def erase(self, part: Part, path: str, floor: Floor) -> list[str]:
        """Join a floor to a part; the paths whose look may have changed. As `LwwMap.erase`."""
        news = part.map.join_floor(path, floor)
        if part.map is self.joined or not news:
            return news
        self._note(part, news)
        return self.joined.join_floor(path, floor)

    def lose(self, part: Part, lost: Mapping[str, list[Mark]]) -> tuple[list[str], list[str]]:
        """Drop what bears these marks from a part.

        Returned are the paths whose look may have changed, and those at which the join's floor is
        lower than before. O((log n + depth + holders) x lost), and all that is held below these.
        """
        gone: dict[str, _Row] = {}
        for path, marks in lost.items():
            row = self._row(path)
            dropped = part.map.drop(path, marks)
            if part.map is not self.joined:
                self._note(part, [path])
                dropped = self.joined.drop(path, marks)
            if dropped:
                gone[path] = row
        touched: list[str] = []
        lowered: list[str] = []
        for path in sorted(gone):
            rejoined = self._rejoin(path)
            row = self._row(path)
            if row == gone[path]:
                continue
            touched += (path, *(p for p in ancestors(path) if p in self.joined.leaves), *rejoined)
            if row.floor < gone[path].floor and not (lowered and is_within(path, lowered[-1])):
                lowered.append(path)
                for below in self._held.below(path):
                    touched += self._rejoin(below)
        return touched, lowered

    def rename(self, part: Part, replica: str) -> None:
        """Make a part that is alone that of another replica. O(n)."""
        assert part.map is self.joined, "others know its holder by name"
        del self.of[part.replica]
        part.replica, part.alone = replica, (replica,)
        for leaf in part.map.leaves.values():
            leaf.replica = replica
        self.of[replica] = part

    def compact(self) -> None:
        """Give back the memory of what was lost, see `LwwMap.compact`. O(n)."""
        for part in self.of.values():
            part.entries = dict(part.entries)
            if part.map is not self.joined:
                part.map.compact()
        self.joined.compact()
        self._holders = dict(self._holders)

    def has_below(self, path: str) -> bool:
        """Whether any part holds or counts anything strictly below a path. O(log n)."""
        is_one = len(self.of) < 2
        held = self.joined.index if is_one else self._held
        return held.has_below(path) or self.counted.has_below(path)

    def holders(self, top: str) -> Iterator[tuple[str, str]]:
        """(path, replica) of each register and floor at and below `top`. O(log n + such)."""
        for part in self.of.values():
            if part.map is self.joined:
                yield from ((path, part.replica) for path in part.map.at_and_below(top))
                return
        for path in (top, *self._held.below(top)):
            yield from ((path, replica) for replica in self._holders.get(path, ()))

    def check_invariants(self) -> None:
        """Raise AssertionError unless the join is that of all parts. O(n x depth)."""
        straight, counted = LwwMap(), set[str]()
        holders: dict[str, set[str]] = {}
        for replica, part in self.of.items():
            part.map.check_invariants()
            assert list(part.counted) == sorted(part.entries)
            counted.update(part.counted)
            for path, leaf, floor in part.map.rows():
                holders.setdefault(path, set()).add(replica)
                if floor is not None:
                    straight.join_floor(path, floor)
                if leaf is not None:
                    straight.write(path, *leaf)
        self.joined.check_invariants()
        for path, leaf in self.joined.leaves.items():
            assert self.of[leaf.replica].map.leaves[path] is leaf, f"{path}: whose leaf?"
        assert list(self.joined.rows()) == list(straight.rows()), "the join is not that of parts"
        assert list(self.counted) == sorted(counted)
        for path in holders.keys() | self._holders.keys():
            assert {by for p, by in self.holders(path) if p == path} == holders.get(path, set())

    def _divide(self) -> None:
        """A second part comes: the first is no longer the join itself."""
        for part in self.of.values():
            if part.map is self.joined:
                part.map = self.joined.copy()
                part.counted = PathIndex(self.counted)
                self._note(part, self.joined.index)

    def _note(self, part: Part, paths: Iterable[str]) -> None:
        """Note at which of these paths a part holds something. O(holders + log n) for each."""
        replica = part.replica
        for path in paths:
            holders = self._holders.get(path, ())
            if part.map.holds(path):
                if not holders:
                    self._holders[path] = part.alone
                    self._held.add(path)
                elif replica not in holders:
                    self._holders[path] = (*holders, replica)
            elif holders == part.alone:
                del self._holders[path]
                self._held.remove(path)
            elif replica in holders:
                self._holders[path] = tuple(r for r in holders if r != replica)

    def _row(self, path: str) -> _Row:
        joined = self.joined
        leaf = joined.leaves.get(path)
        return _Row(leaf.mark if leaf else None, joined.floors.get(path), joined.floor_at(path))

    def _rejoin(self, path: str) -> list[str]:
        """Join again what any part holds at a path; what looks different by it. O(holders)."""
        touched: list[str] = []
        for replica in self._holders.get(path, ()):
            own = self.of[replica].map
            floor, leaf = own.floors.get(path), own.leaves.get(path)
            if floor is not None:
                touched += self.joined.join_floor(path, floor)
            if leaf is not None:
                touched += self.joined.join_leaf(path, leaf)
        return touched
