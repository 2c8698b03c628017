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
anything at all is stored strictly below it, which is noted for each leaf. A scalar's floor is not
stored apart from it until a newer `{}` takes its leaf.

A row that is forgotten is dropped, and what it had superseded or dominated in this map does not
come back. So a map is what one replica's owner has; `shardlog.crdt.parts` joins several.

Known anomalies. Of two concurrent writes to one path one is lost, by design. An erase also erases
what another host wrote before it by that host's clock; with clocks skewed by d this reaches d into
what was "later". A dict that loses its last leaf is gone unless `{}` was written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from shardlog.crdt.path import ancestors
from shardlog.crdt.path_index import PathIndex

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from shardlog.crdt.delta import Value
else:
    Value = Any


class Leaf(msgspec.Struct, gc=False):
    """The newest write at a path. `writer` is the full process id.

    `replica` names the one in whose part it is, see `shardlog.crdt.parts`; "" in a map alone. What
    is newer there may be written into it: whoever wants to keep what it says takes its fields.
    """

    stamp: int
    writer: str
    value: Value
    replica: str = ""

    @property
    def mark(self) -> Mark:
        """What orders it. O(1)."""
        return self.stamp, self.writer

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

    __slots__ = ("floors", "index", "leaves", "odd")

    def __init__(self) -> None:
        self.leaves: dict[str, Leaf] = {}
        self.floors: dict[str, Floor] = {}
        self.index = PathIndex()
        self.odd: set[str] = set()
        """The leaves that are `{}`, or strictly below which anything is stored: few."""

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
        stamp, writer = mark = leaf.mark
        old = self.leaves.get(path)
        scalar = leaf.is_scalar
        if old is not None:
            if stamp < old.stamp or (stamp == old.stamp and writer <= old.writer):
                # The leaf is old news, but below a newer `{}` its floor may not be.
                is_old = old.is_scalar or not scalar
                return [] if is_old else self.join_floor(path, Floor(stamp, writer))
            self.leaves[path] = leaf
            if not scalar:
                if old.is_scalar:
                    self.floors[path] = Floor(old.stamp, old.writer)
                    self.odd.add(path)
                return [path]
            if path not in self.odd:
                return [path]
            self.floors.pop(path, None)
            touched = [path, *self._drop_below(path, mark)]
            self._note_odd(path)
            return touched
        floor = self.floors.get(path)
        above = self._leaves_above(path, mark)
        if (floor is not None and floor > mark) or above is None:
            return []
        self.leaves[path] = leaf
        touched = [path, *above]
        if floor is None:
            self.index.add(path)
            self.odd.update(above)
        elif scalar:
            del self.floors[path]
        if self.index.has_below(path):
            if scalar:
                touched += self._drop_below(path, mark)
            self._note_odd(path)
        elif not scalar:
            self.odd.add(path)
        return touched

    def load(self, leaves: Mapping[str, Leaf]) -> None:
        """Take in leaves at, above and below which nothing is. O(their number), see `PathIndex`."""
        self.leaves.update(leaves)
        self.index.load(leaves)
        self.odd.update(path for path, leaf in leaves.items() if not leaf.is_scalar)

    def join_floor(self, path: str, mark: Floor) -> list[str]:
        """As `erase`; maps that join the same floor share it. O(depth + log n + dropped)."""
        leaf = self.leaves.get(path)
        floor = self.floors.get(path)
        if floor is not None and floor >= mark:
            return []
        if leaf is not None and leaf.is_scalar and leaf.mark >= mark:
            return []
        above = self._leaves_above(path, mark)
        if above is None:
            return []
        touched = [*self._drop_below(path, mark), path]
        if leaf is None and floor is None:
            self.index.add(path)
            self.odd.update(above)
            touched += above
        elif leaf is not None and leaf.mark < mark:
            self._pop_leaf(path)
        self.floors[path] = mark
        return touched

    def drop(self, path: str, marks: Collection[Mark]) -> bool:
        """Drop the leaf and the floor at a path if they bear one of these marks; whether any did.

        O(1), O(depth + log n) where the path goes.
        """
        leaf, floor = self.leaves.get(path), self.floors.get(path)
        drops_leaf = leaf is not None and leaf.mark in marks
        drops_floor = floor is not None and floor in marks
        if drops_leaf:
            self._pop_leaf(path)
        if drops_floor:
            del self.floors[path]
        if (drops_leaf or drops_floor) and not self.holds(path):
            self._remove(path)
        return drops_leaf or drops_floor

    def copy(self) -> LwwMap:
        """Another one with the same leaves and floors. O(n)."""
        copy = LwwMap()
        copy.leaves, copy.floors = self.leaves.copy(), self.floors.copy()
        copy.index, copy.odd = PathIndex(self.index), self.odd.copy()
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
        return [mark for mark in (leaf.mark if leaf else None, floor) if mark is not None]

    def newest_at(self, path: str) -> int:
        """The newest stamp of the leaf and the floor at a path, 0 if there is none. O(1)."""
        leaf, floor = self.leaves.get(path), self.floors.get(path)
        return max(leaf.stamp if leaf else 0, floor.stamp if floor else 0)

    def compact(self) -> None:
        """Give back the memory of what was dropped: a dict that shrinks keeps its table. O(n)."""
        self.leaves, self.floors = dict(self.leaves), dict(self.floors)
        self.odd = set(self.odd)

    def is_visible(self, path: str) -> bool:
        """Whether the leaf that is stored at `path` shows. O(1)."""
        leaf = self.leaves.get(path)
        return leaf is not None and not (leaf.is_scalar and path in self.odd)

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
            leaf = self.leaves.get(path)
            yield path, leaf and (leaf.stamp, leaf.writer, leaf.value), self.floors.get(path)

    def check_invariants(self) -> None:
        """Raise AssertionError unless the map is in normal form. O(n x depth)."""
        assert list(self.index) == sorted(self.leaves.keys() | self.floors.keys())
        for path in self.index:
            leaf, floor = self.leaves.get(path), self.floors.get(path)
            if leaf is not None and floor is not None:
                assert not leaf.is_scalar, f"{path}: a scalar beside a floor of its own"
                assert leaf.mark >= floor, f"{path}: a leaf under its own floor"
            for mark in self.marks(path):
                is_kept = self._leaves_above(path, mark) is not None
                assert is_kept, f"{path}: dominated"
        for path, leaf in self.leaves.items():
            is_odd = not leaf.is_scalar or self.index.has_below(path)
            assert is_odd == (path in self.odd), f"{path}: odd or not"
        assert self.odd <= self.leaves.keys()

    def _remove(self, path: str) -> None:
        """Note that nothing is stored at a path any more. O(depth x log n)."""
        self.index.remove(path)
        for prefix in ancestors(path):
            if prefix in self.odd:
                self._note_odd(prefix)

    def _note_odd(self, path: str) -> None:
        if not self.leaves[path].is_scalar or self.index.has_below(path):
            self.odd.add(path)
        else:
            self.odd.discard(path)

    def _pop_leaf(self, path: str) -> None:
        del self.leaves[path]
        self.odd.discard(path)

    def _leaves_above(self, path: str, mark: Mark) -> list[str] | None:
        """The leaves at strict prefixes of a path; None if a floor there dominates the mark."""
        above: list[str] = []
        for prefix in ancestors(path):
            leaf = self.leaves.get(prefix)
            if leaf is not None:
                if leaf.is_scalar and leaf.mark >= mark:
                    return None
                above.append(prefix)
            floor = self.floors.get(prefix)
            if floor is not None and floor >= mark:
                return None
        return above

    def _drop_below(self, path: str, mark: Mark) -> list[str]:
        """Drop what a floor at `path` dominates strictly below; the paths that lost something."""
        if not self.index.has_below(path):
            return []
        dropped: list[str] = []
        for p in list(self.index.below(path)):
            leaf, floor = self.leaves.get(p), self.floors.get(p)
            if leaf is not None and leaf.mark <= mark:
                self._pop_leaf(p)
                dropped.append(p)
            if floor is not None and floor <= mark:
                del self.floors[p]
                dropped.append(p)
            if not self.holds(p):
                self._remove(p)
        return dropped
