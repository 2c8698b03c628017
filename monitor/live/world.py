"""What shows, as a tree whose places know who looks at them.

A place (`Cell`) is there as long as something shows at it or below it, or somebody has looked: also
at what is absent one may look, and is told when it comes. Two kinds of looking are told apart: at a
place (its value, and whether anything is there), and at the keys below it.

What showed before is kept as long as it is newer than the cut (see `shardlog.monitor.live.engine`):
a place can be asked what showed there at a time not long ago. Times are stamps of the writers.

Known anomalies. A stamp is that of the newest write: of a counter that showed before the monitor
came, it is not known when it began. Whether something was at a place with keys below it is known
only of the last change of that.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from shardlog.crdt.delta import COUNTER, ERASED, REGISTER
from shardlog.crdt.path import path_keys, path_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.delta import Value
    from shardlog.crdt.path import Key, Keys
    from shardlog.crdt.replication.messages import Changes

R = TypeVar("R")
"""Who looks."""


class Version(NamedTuple):
    """What showed at a place from `stamp` on: kind REGISTER or COUNTER; another: nothing."""

    stamp: int
    kind: Literal[0, 1, 2, 3]
    value: Value
    writer: str
    """The process; "" where nobody is named, as with counters, which are sums."""

    @property
    def shows(self) -> bool:
        """Whether there is a value."""
        return self.kind == REGISTER or self.kind == COUNTER


FEW = 3
NOTHING = Version(0, ERASED, None, "")


class Cell(Generic[R]):
    """A place. `alive`: how many of its value and the keys below it show."""

    __slots__ = (
        "above",
        "alive",
        "below",
        "key",
        "key_readers",
        "past",
        "readers",
        "toggled",
        "version",
    )

    def __init__(self, above: Cell[R] | None, key: Key) -> None:
        self.above = above
        self.key = key
        self.below: dict[Key, Cell[R]] | None = None
        self.version = NOTHING
        self.past: list[Version] | None = None
        """What showed before, oldest first, as far as it is kept."""
        self.alive = 0
        self.toggled = 0
        """The stamp at which it began, or ceased, to be there."""
        self.readers: tuple[R, ...] | dict[R, None] = ()
        self.key_readers: tuple[R, ...] | dict[R, None] = ()

    @property
    def keys(self) -> Keys:
        """Where it is. O(depth)."""
        keys: list[Key] = []
        cell = self
        while cell.above is not None:
            keys.append(cell.key)
            cell = cell.above
        return tuple(reversed(keys))

    @property
    def path(self) -> str:
        """The same as text; "" is the root."""
        return path_text(self.keys)

    def version_at(self, at_ns: int) -> Version:
        """What showed at a time that is not before the cut. O(versions since)."""
        if self.version.stamp <= at_ns:
            return self.version
        for version in reversed(self.past or ()):
            if version.stamp <= at_ns:
                return version
        return NOTHING

    def version_after(self, at_ns: int) -> Version:
        """The first that came after a time, or the newest. O(versions since)."""
        if self.version.stamp > at_ns:
            for version in self.past or ():
                if version.stamp > at_ns:
                    return version
        return self.version

    def is_there_at(self, at_ns: int) -> bool:
        """Whether anything was at it, or below."""
        return (self.alive > 0) == (self.toggled <= at_ns)


class Moves(Generic[R]):
    """What a delta did: who looks at what it changed, which places came, and which went."""

    def __init__(self) -> None:
        self.readers: dict[R, list[tuple[Cell[R], Version]]] = {}
        """For each, the places, and what showed at them before."""
        self.came: dict[Cell[R], None] = {}
        self.went: dict[Cell[R], None] = {}
        self.changed: list[Cell[R]] = []


class World(Generic[R]):
    """All places. While `keeps_past`, what showed before is kept until `forget_past`.

    >>> from shardlog.crdt.replication.messages import Changes, Row
    >>> world: World[str] = World()
    >>> cell = world.cell(("intents", "42", "host"))
    >>> world.look([cell], [], "I")
    >>> moves = world.apply(Changes(["o@a"], [Row("intents/42/host", REGISTER, "scraper-1", 5, 0)]))
    >>> list(moves.readers), [came.path for came in moves.came]
    (['I'], ['intents/42/host', 'intents/42', 'intents'])
    """

    def __init__(self) -> None:
        self.root: Cell[R] = Cell(None, "")
        self.keeps_past = False

    def cell(self, keys: Keys) -> Cell[R]:
        """The place at these keys. O(depth)."""
        cell = self.root
        for key in keys:
            cell = self.child(cell, key)
        return cell

    def known(self, keys: Keys) -> Cell[R] | None:
        """The same, None if there is none yet: it is not made. O(depth)."""
        cell: Cell[R] | None = self.root
        for key in keys:
            cell = None if cell is None else (cell.below or {}).get(key)
        return cell

    def child(self, cell: Cell[R], key: Key) -> Cell[R]:
        """The place at a key below. O(1)."""
        below = cell.below
        if below is None:
            below = cell.below = {}
        child = below.get(key)
        if child is None:
            if isinstance(key, str):
                key = intern(key)  # most keys are that of many places
            child = below[key] = Cell(cell, key)
        return child

    def apply(self, changes: Changes) -> Moves[R]:
        """Take in what changed. O(rows x depth + readers)."""
        moves: Moves[R] = Moves()
        self._apply(changes, moves)
        return moves

    def install(self, parts: tuple[Changes, ...], now_ns: int) -> Moves[R]:
        """Replace all; what is not named is gone since `now_ns`. O(all)."""
        moves: Moves[R] = Moves()
        named = {path_keys(row.path) for changes in parts for row in changes.rows}
        unnamed = [c for c in self.cells() if c.version.shows and c.keys not in named]
        for changes in parts:
            self._apply(changes, moves)
        # Last, so that what is above a place that goes stays, if there is something else below it.
        for cell in unnamed:
            self._show(cell, Version(now_ns, ERASED, None, ""), moves)
        return moves

    def cells(self) -> Iterator[Cell[R]]:
        """All places, each above those below it. O(n)."""
        waiting = [self.root]
        while waiting:
            cell = waiting.pop()
            yield cell
            waiting += reversed((cell.below or {}).values())

    def look(self, cells: Iterable[Cell[R]], keys_of: Iterable[Cell[R]], reader: R) -> None:
        """From now on, `reader` looks at these places, and at the keys below those."""
        alone = (reader,)
        for cell in cells:
            cell.readers = _with(cell.readers, reader) if cell.readers else alone
        for cell in keys_of:
            cell.key_readers = _with(cell.key_readers, reader) if cell.key_readers else alone

    def look_away(self, cells: Iterable[Cell[R]], keys_of: Iterable[Cell[R]], reader: R) -> None:
        """`reader` does not look there any more."""
        for cell in cells:
            cell.readers = _without(cell.readers, reader)
            self._prune(cell)
        for cell in keys_of:
            cell.key_readers = _without(cell.key_readers, reader)
            self._prune(cell)

    def forget_past(self, cell: Cell[R], cut_ns: int) -> None:
        """Nobody asks any more what showed at a place before the cut. O(versions)."""
        if cell.past is not None:
            newer = [version for version in cell.past if version.stamp > cut_ns]
            if cell.version.stamp <= cut_ns:
                cell.past = None
            else:
                cell.past = [cell.version_at(cut_ns), *newer]
        self._prune(cell)

    def check_invariants(self) -> None:
        """Raise AssertionError where the tree is not as it says. O(n)."""
        for cell in self.cells():
            below = (cell.below or {}).values()
            assert cell.alive == cell.version.shows + sum(child.alive > 0 for child in below)
            assert all(child.above is cell for child in below)

    def _apply(self, changes: Changes, moves: Moves[R]) -> None:
        writers = changes.writers
        root = self.root
        for row in changes.rows:
            cell = root
            for key in path_keys(row.path):
                below = cell.below
                child = None if below is None else below.get(key)
                cell = self.child(cell, key) if child is None else child
            writer = intern(writers[row.writer]) if row.writer >= 0 else ""
            self._show(cell, Version(row.stamp, row.kind, row.value, writer), moves)

    def _show(self, cell: Cell[R], version: Version, moves: Moves[R]) -> None:
        before = cell.version
        if before.shows and version.shows and _is_same(before, version):
            return
        if not before.shows and not version.shows:
            self._prune(cell)
            return
        cell.version = version
        if self.keeps_past:
            if cell.past is None:
                cell.past = []
            cell.past.append(before)
            moves.changed.append(cell)
        if cell.readers:
            _tell(cell.readers, cell, before, moves)
        step = version.shows - before.shows
        place: Cell[R] | None = cell
        while step and place is not None:
            place.alive += step
            if place.alive != (step > 0):
                # A value that gets its first key below it, or loses the last, looks otherwise.
                if place is not cell and place.version.shows and place.alive == 1 + (step > 0):
                    _tell(place.readers, cell, before, moves)
                break
            place.toggled = version.stamp
            if place.above is not None:  # the root is always there
                (moves.came if step > 0 else moves.went)[place] = None
                (moves.went if step > 0 else moves.came).pop(place, None)
            if place is not cell and place.readers:
                _tell(place.readers, cell, before, moves)
            above = place.above
            if above is not None and above.key_readers:
                _tell(above.key_readers, cell, before, moves)
            place = above
        if step < 0:
            self._prune(cell)

    def _prune(self, cell: Cell[R]) -> None:
        """Remove what nobody needs, from here upwards."""
        while not (cell.alive or cell.below or cell.past or cell.readers or cell.key_readers):
            above = cell.above
            if above is None or above.below is None or above.below.get(cell.key) is not cell:
                return
            del above.below[cell.key]
            if not above.below:
                above.below = None
            cell = above


def _is_same(a: Version, b: Version) -> bool:
    """Whether they are the same to the last bit: True is not 1, and NaN is NaN."""
    return (a.stamp, a.writer, a.kind) == (b.stamp, b.writer, b.kind) and (
        repr(a.value) == repr(b.value)
    )


def _tell(
    readers: tuple[R, ...] | dict[R, None], cell: Cell[R], before: Version, moves: Moves[R]
) -> None:
    told = moves.readers
    for reader in readers:
        what = told.get(reader)
        if what is None:
            told[reader] = [(cell, before)]
        elif what[-1][0] is not cell:
            what.append((cell, before))


# Most places have one reader: a dict for it would be most of what the place takes.
def _with(readers: tuple[R, ...] | dict[R, None], reader: R) -> tuple[R, ...] | dict[R, None]:
    if reader in readers:
        return readers
    if isinstance(readers, dict):
        readers[reader] = None
        return readers
    more = (*readers, reader)
    return more if len(more) <= FEW else dict.fromkeys(more)


def _without(readers: tuple[R, ...] | dict[R, None], reader: R) -> tuple[R, ...] | dict[R, None]:
    if isinstance(readers, dict):
        readers.pop(reader, None)
        return readers or ()
    return tuple(other for other in readers if other is not reader)
