"""A nested last-writer-wins map over flat storage: path -> newest write, path -> newest floor.

Theory. Every path is a last-writer-wins register under the total order (stamp, writer) of
`shardlog.crdt.stamp` (Shapiro et al., INRIA RR-7506, section 3.2.1). What makes them one nested
dict are floors: a scalar at p is a leaf at p and a floor at p, an erase at p is a floor alone, a
dict writes only its leaves. A leaf q stamped t is visible iff

    no floor at a strict prefix of q is >= t,  the floor at q is <= t,  and
    no leaf or floor strictly below q is newer than t             (`{}` needs only the first two).

Merging keeps, per path, the newest leaf and the newest floor; what is visible is a pure function of
that. So merging is commutative, associative and idempotent, and no decision rests on what is
visible at the moment of a merge.

Normal form. What a floor dominates is dropped as soon as both are known; everything that dominates
it stays, so it could never have come back. Kept are exactly the writes that no known floor
dominates, whatever the order of arrival, hence:

    every leaf and every floor that is stored is newer than all floors at strict prefixes of it,

and from that follow the two short cuts that make the merge one look-up and one comparison:
a newer write to a path that exists can't be dominated from above, and a stored scalar is hidden iff
anything at all is stored strictly below it. A scalar's floor is not stored apart from it until a
newer `{}` takes its leaf.

A row that is forgotten is dropped, and what it had superseded or dominated in this map does not
come back. So a map is what one replica's owner has; `shardlog.crdt.parts` joins several.

Known anomalies. Of two concurrent writes to one path one is lost, by design. An erase also erases
what another host wrote before it by that host's clock; with clocks skewed by d this reaches d into
what was "later". A dict that loses its last leaf is gone unless `{}` was written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from shardlog.crdt.path import ancestors
from shardlog.crdt.path_index import PathIndex

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from shardlog.crdt.delta import Value


class Leaf(NamedTuple):
    """The newest write at a path. `writer` is the full process id."""

    stamp: int
    writer: str
    value: Value

    @property
    def is_scalar(self) -> bool:
        """All but `{}`, which is presence and no floor."""
        return type(self.value) is not dict


class Floor(NamedTuple):
    """The newest erase at a path."""

    stamp: int
    writer: str


NO_FLOOR = Floor(0, "")

Mark: TypeAlias = tuple[int, str]
"""What orders writes and erases: stamp and writer."""


class LwwMap:
    """The map. All paths are canonical texts of `shardlog.crdt.path`.

    >>> m = LwwMap()
    >>> m.write("a", 1, "p", "scalar"), m.write("a/b", 2, "p", 5), m.is_visible("a")
    (['a'], ['a/b', 'a'], False)
    >>> m.write("a/b", 1, "p", "late"), m.erase("a", 3, "p"), len(m)
    ([], ['a/b', 'a'], 0)
    """

    __slots__ = ("floors", "index", "leaves")

    def __init__(self) -> None:
        self.leaves: dict[str, Leaf] = {}
        self.floors: dict[str, Floor] = {}
        self.index = PathIndex()

    def __len__(self) -> int:
        """How many leaves are stored."""
        return len(self.leaves)

    def write(self, path: str, stamp: int, writer: str, value: Value) -> list[str]:
        """Merge a write; the paths whose look may have changed by it, [] if it was old.

        Complexity: `join_leaf`.
        """
        return self.join_leaf(path, Leaf(stamp, writer, value))

    def erase(self, path: str, stamp: int, writer: str) -> list[str]:
        """Merge a floor; the paths whose look may have changed by it, [] if it was old.

        Complexity: `join_floor`.
        """
        return self.join_floor(path, Floor(stamp, writer))

    def join_leaf(self, path: str, leaf: Leaf) -> list[str]:
        """As `write`; maps that join the same leaf share it.

        O(1) where the path exists and nothing is below it, else O(depth + log n + dropped).
        """
        stamp, writer, value = leaf
        old = self.leaves.get(path)
        scalar = type(value) is not dict
        if old is not None:
            if stamp < old.stamp or (stamp == old.stamp and writer <= old.writer):
                # The leaf is old news, but below a newer `{}` its floor may not be.
                is_old = old.is_scalar or not scalar
                return [] if is_old else self.join_floor(path, Floor(stamp, writer))
            self.leaves[path] = leaf
            if not scalar:
                if old.is_scalar:
                    self.floors[path] = Floor(old.stamp, old.writer)
                return [path]
            if path in self.floors:
                del self.floors[path]
            if self.index.has_below(path):
                return [path, *self._drop_below(path, (stamp, writer))]
            return [path]
        floor = self.floors.get(path)
        if (floor is not None and floor > (stamp, writer)) or self._is_dominated(
            path, (stamp, writer)
        ):
            return []
        self.leaves[path] = leaf
        if floor is None:
            self.index.add(path)
        elif scalar:
            del self.floors[path]
        touched = [path]
        touched += (p for p in ancestors(path) if p in self.leaves)
        if scalar and self.index.has_below(path):
            touched += self._drop_below(path, (stamp, writer))
        return touched

    def join_floor(self, path: str, mark: Floor) -> list[str]:
        """As `erase`; maps that join the same floor share it. O(depth + log n + dropped)."""
        leaf = self.leaves.get(path)
        floor = self.floors.get(path)
        if floor is not None and floor >= mark:
            return []
        if leaf is not None and leaf.is_scalar and leaf[:2] >= mark:
            return []
        outranks = floor is not None or (leaf is not None and leaf[:2] < mark)
        if not outranks and self._is_dominated(path, mark):
            return []
        touched = [*self._drop_below(path, mark), path]
        if leaf is None and floor is None:
            self.index.add(path)
            touched += (p for p in ancestors(path) if p in self.leaves)
        elif leaf is not None and leaf[:2] < mark:
            del self.leaves[path]
        self.floors[path] = mark
        return touched

    def drop(self, path: str, marks: Collection[Mark]) -> list[Leaf | Floor]:
        """Drop the leaf and the floor at a path if they bear one of these marks; what went.

        O(1), O(depth + log n) where the path goes.
        """
        dropped: list[Leaf | Floor] = []
        leaf, floor = self.leaves.get(path), self.floors.get(path)
        if leaf is not None and leaf[:2] in marks:
            dropped.append(self.leaves.pop(path))
        if floor is not None and floor in marks:
            dropped.append(self.floors.pop(path))
        if dropped and not self.holds(path):
            self.index.remove(path)
        return dropped

    def copy(self) -> LwwMap:
        """Another one with the same leaves and floors. O(n)."""
        copy = LwwMap()
        copy.leaves, copy.floors = self.leaves.copy(), self.floors.copy()
        copy.index = self.index.copy()
        return copy

    def holds(self, path: str) -> bool:
        """Whether a leaf or a floor is stored at exactly this path. O(1)."""
        return path in self.leaves or path in self.floors

    def at_and_below(self, top: str) -> Iterator[str]:
        """The paths at and below `top` at which something is stored, sorted. O(log n) to begin."""
        if self.holds(top):
            yield top
        yield from self.index.below(top)

    def marks(self, path: str) -> list[Mark]:
        """The marks of the leaf and of the floor at a path. O(1)."""
        leaf, floor = self.leaves.get(path), self.floors.get(path)
        return [mark for mark in (leaf and leaf[:2], floor) if mark is not None]

    def newest_at(self, path: str) -> int:
        """The newest stamp of the leaf and the floor at a path, 0 if there is none. O(1)."""
        leaf, floor = self.leaves.get(path), self.floors.get(path)
        return max(leaf.stamp if leaf else 0, floor.stamp if floor else 0)

    def compact(self) -> None:
        """Give back the memory of what was dropped, see `PathIndex.compact`. O(n)."""
        self.leaves, self.floors = dict(self.leaves), dict(self.floors)
        self.index.compact()

    def is_visible(self, path: str) -> bool:
        """Whether the leaf that is stored at `path` shows. O(1)."""
        leaf = self.leaves.get(path)
        return leaf is not None and not (leaf.is_scalar and self.index.has_below(path))

    def floor_at(self, path: str) -> Floor:
        """The floor at exactly this path, a scalar's too, `NO_FLOOR` if there is none. O(1)."""
        leaf = self.leaves.get(path)
        if leaf is not None and leaf.is_scalar:
            return Floor(leaf.stamp, leaf.writer)
        return self.floors.get(path, NO_FLOOR)

    def floor_over(self, path: str) -> int:
        """The newest stamp of a floor at the path or a strict prefix of it, 0 if none. O(depth)."""
        return self.newest_floor(path).stamp

    def newest_floor(self, path: str) -> Floor:
        """The newest floor at the path or a strict prefix of it, `NO_FLOOR` if none. O(depth)."""
        newest = self.floor_at(path)
        for prefix in ancestors(path):
            newest = max(newest, self.floor_at(prefix))
        return newest

    def newest_floor_place(self, path: str) -> tuple[Floor, str]:
        """The newest floor over a path, and where it is: the path or a prefix of it. O(depth)."""
        return max((self.floor_at(p), p) for p in (path, *ancestors(path)))

    def newest_below(self, path: str) -> int:
        """The newest stamp of a leaf or floor strictly below the path, 0 if none. O(subtree)."""
        if not self.index.has_below(path):
            return 0
        stamps = (
            max(
                self.leaves[p].stamp if p in self.leaves else 0,
                self.floors[p].stamp if p in self.floors else 0,
            )
            for p in self.index.below(path)
        )
        return max(stamps, default=0)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """All that is stored, in one canonical order: equal maps give equal rows."""
        for path in self.index:
            yield (path, self.leaves.get(path), self.floors.get(path))

    def check_invariants(self) -> None:
        """Raise AssertionError unless the map is in normal form. O(n x depth)."""
        assert list(self.index) == sorted(self.leaves.keys() | self.floors.keys())
        for path in self.index:
            leaf, floor = self.leaves.get(path), self.floors.get(path)
            if leaf is not None and floor is not None:
                assert not leaf.is_scalar, f"{path}: a scalar beside a floor of its own"
                assert leaf[:2] >= floor, f"{path}: a leaf under its own floor"
            for mark in (leaf and leaf[:2], floor):
                assert mark is None or not self._is_dominated(path, mark), f"{path}: dominated"

    def _is_dominated(self, path: str, mark: tuple[int, str]) -> bool:
        for prefix in ancestors(path):
            leaf = self.leaves.get(prefix)
            if leaf is not None and leaf.is_scalar and leaf[:2] >= mark:
                return True
            floor = self.floors.get(prefix)
            if floor is not None and floor >= mark:
                return True
        return False

    def _drop_below(self, path: str, mark: tuple[int, str]) -> list[str]:
        """Drop what a floor at `path` dominates strictly below; the paths that lost something."""
        if not self.index.has_below(path):
            return []
        dropped: list[str] = []
        for p in list(self.index.below(path)):
            leaf, floor = self.leaves.get(p), self.floors.get(p)
            if leaf is not None and leaf[:2] <= mark:
                del self.leaves[p]
                dropped.append(p)
            if floor is not None and floor <= mark:
                del self.floors[p]
                dropped.append(p)
            if p not in self.leaves and p not in self.floors:
                self.index.remove(p)
        return dropped
