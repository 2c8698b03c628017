"""The state as a predicate sees it: read-only, and every look is noted.

What a predicate looked at is also what can change its answer, so it is judged anew when one of
these places changes, and only then; and it is what an explanation is made of. Absent places
and the keys below a place are looked at like any other.

    i.host, i["host"]         a value, or a `Node` where there is a dict, or nothing
    "scraper-1" in i.resolution, for key in i.resolution, len(i.resolution)
    if i.resolution:          whether anything is there
    i.tries.rate(60)          counters are numbers, and know how fast they grew
    i.time.p99                of what was observed; so are p50, p90, max and count, and else
    quantile(i.time, 0.95)
    key_of(i), above(i), total(i, "resolution/*/tries"), said_by(i, "host"), plain(i)

Every attribute is a key of the state, so a node has no methods; what else it can be asked are
functions. What is absent equals nothing, contains nothing, and is false. To order it, or to
calculate with it, has no answer: the predicate as a whole has none then (`Undefined`), which is
neither true nor false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, TypeVar

from shardlog.crdt.delta import COUNTER
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import COLLAPSED, RESERVED, key_texts, path_keys
from shardlog.crdt.process_id import blade_of
from shardlog.crdt.sketch import bucket_at, quantiles
from shardlog.monitor.live.world import Cell, Version, World
from shardlog.monitor.presence import THERE, best_status, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shardlog.crdt.delta import Value
    from shardlog.crdt.path import Key

SECOND = 10**9
SUMMARY = {"count": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
"""What a distribution can be asked for like a key, and which share of it each is."""
REPR_MAX = 20
"""So many places are shown of a node, in its repr."""

T = TypeVar("T")

Name: TypeAlias = "Key | tuple[Key]"
"""What moves together: places of one key, or `(key,)`, which keys there are below such places."""


class Undefined(LookupError):
    """The answer depends on something that is absent; the message is its path."""


class ReadOnly(TypeError):
    """A predicate has tried to write."""


class Glance:
    """One look at the world: as it is, or as it was at a time; and what was looked at.

    Complexity of all that reads: O(1) for each key of a path.
    """

    def __init__(self, world: World[Any]) -> None:
        self.world = world
        self.now_ns = 0
        """When it is looked at."""
        self.at_ns: int | None = None
        """What showed when, None: what shows."""
        self.shifted: Mapping[Name, bool] = {}
        """What is seen as it was a little later, or earlier, by name: see `engine`."""
        self.slack_ns = 0
        """How much that is."""
        self.cells: list[Cell[Any]] = []
        self.key_cells: list[Cell[Any]] = []
        self.listed: list[Cell[Any]] = []
        """Of which of these places it was asked which keys are there."""
        self.recheck_ns: int | None = None
        """When the answer may be another though nothing changes."""
        self.samples: dict[Cell[Any], Samples] = {}

    def begin(self, now_ns: int, at_ns: int | None = None) -> None:
        """Look anew."""
        self.now_ns = now_ns
        self.at_ns = at_ns
        self.cells = []
        self.key_cells = []
        self.listed = []
        self.recheck_ns = None

    def version(self, cell: Cell[Any], name: Name | None = None) -> Version:
        """What shows at a place; it is shifted by its own name, or by this one."""
        at_ns = self.at_ns
        if at_ns is None:
            return cell.version
        version = cell.version_at(at_ns)
        is_later = self.shifted.get(cell.key if name is None else name)
        if is_later is None or version.stamp == at_ns:
            return version
        if is_later:
            return cell.version_after(at_ns + self.slack_ns)
        return cell.version_at(at_ns - self.slack_ns)

    def is_there(self, cell: Cell[Any], name: Name | None = None) -> bool:
        """Whether anything shows at a place or below. `name` as in `version`."""
        at_ns = self.at_ns
        if at_ns is None:
            return cell.alive > 0
        if cell.below is None:
            return self.version(cell, name).shows
        is_later = self.shifted.get(cell.key if name is None else name)
        if is_later is None or cell.toggled == at_ns:
            return cell.is_there_at(at_ns)
        return cell.is_there_at(at_ns + (self.slack_ns if is_later else -self.slack_ns))

    def moves(self, cell: Cell[Any]) -> bool:
        """Whether it is not known exactly what was there at the time."""
        at_ns, slack_ns = self.at_ns, self.slack_ns
        if at_ns is None:
            return False
        if cell.below is not None and 0 < abs(cell.toggled - at_ns) <= slack_ns:
            return True
        first, last = cell.version_at(at_ns - slack_ns), cell.version_after(at_ns + slack_ns)
        return first is not last and cell.version_at(at_ns).stamp != at_ns

    def see(self, cell: Cell[Any]) -> Any:
        """The value at a place, or the node there; notes the look."""
        self.cells.append(cell)
        version = self.version(cell)
        if cell.below is not None and self._has_keys(cell, version):
            return Node(cell, self)
        if not version.shows or version.value == {}:
            return Node(cell, self)
        value = version.value
        if version.kind == COUNTER:
            if isinstance(value, float):
                return Amount(value, cell, self)
            if isinstance(value, int):
                return Count(value, cell, self)
        return _copy(value)

    def keys(self, cell: Cell[Any]) -> list[Key]:
        """The keys that show below a place, in no order to rely on; notes the look."""
        self.key_cells.append(cell)
        self.listed.append(cell)
        hidden = (RESERVED if cell.above is None else COLLAPSED,)
        name = (cell.key,)
        found = (cell.below or {}).items()
        return [key for key, child in found if key not in hidden and self.is_there(child, name)]

    def _has_keys(self, cell: Cell[Any], version: Version) -> bool:
        if self.at_ns is None:
            return cell.alive > version.shows
        return any(map(self.is_there, (cell.below or {}).values()))

    def recheck(self, at_ns: int) -> None:
        """Have the predicate judged again at this time."""
        if self.recheck_ns is None or at_ns < self.recheck_ns:
            self.recheck_ns = at_ns


class Node:
    """A place with keys below it, or where nothing is."""

    __slots__ = ("_cell", "_glance")

    _cell: Cell[Any]
    _glance: Glance

    def __init__(self, cell: Cell[Any], glance: Glance) -> None:
        object.__setattr__(self, "_cell", cell)
        object.__setattr__(self, "_glance", glance)

    def _held(self, look: Callable[[], Any]) -> Any:
        """What a function finds that looks at several places, none of which changes meanwhile."""
        return look()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        glance, cell = self._glance, self._cell
        if name in SUMMARY:
            child = (cell.below or {}).get(name)
            is_key = child is not None and glance.is_there(child)
            if not is_key and (found := _observed(self)):
                number = sum(found.values())
                return number if name == "count" else quantiles(found, [SUMMARY[name]])[0]
        return glance.see(glance.world.child(cell, name))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, Node):
            raise Undefined(path_of(key))
        if (known := _key(key)) is None:
            raise TypeError(f"{path_of(self)}: {key!r} is no key: these are str and int")
        return self._glance.see(self._glance.world.child(self._cell, known))

    def __contains__(self, key: object) -> bool:
        if (known := _key(key)) is None:
            return False
        child = self._glance.world.child(self._cell, known)
        self._glance.cells.append(child)
        return self._glance.is_there(child)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._glance.keys(self._cell))

    def __len__(self) -> int:
        return len(self._glance.keys(self._cell))

    def __bool__(self) -> bool:
        self._glance.cells.append(self._cell)
        return self._glance.is_there(self._cell)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Node):
            return bool(self) and bool(other) and plain(self) == plain(other)
        return bool(self) and plain(self) == other

    __hash__ = object.__hash__

    def _has_no_answer(self, *_: object) -> NoReturn:
        path = path_of(self)
        if self:
            raise TypeError(f"{path} is no number: there are keys below it")
        raise Undefined(path)

    __lt__ = __le__ = __gt__ = __ge__ = _has_no_answer
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _has_no_answer
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _has_no_answer
    __pow__ = __rpow__ = __divmod__ = __rdivmod__ = _has_no_answer
    __neg__ = __abs__ = __float__ = __int__ = __round__ = _has_no_answer

    def __call__(self, *_: object) -> NoReturn:
        path = path_of(self)
        what = "there are keys below it" if self else "nothing is there"
        if path.endswith("/rate"):
            raise Undefined(path)
        raise TypeError(f"{path} is called, but {what}: every attribute is a key of the state")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise ReadOnly(f"{path_of(self)}: the state is not written here ({name} = ...)")

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise ReadOnly(f"{path_of(self)}: the state is not written here ([{key!r}] = ...)")

    def __delattr__(self, name: str) -> NoReturn:
        raise ReadOnly(f"{path_of(self)}: the state is not written here (del {name})")

    def __delitem__(self, key: object) -> NoReturn:
        raise ReadOnly(f"{path_of(self)}: the state is not written here (del [{key!r}])")

    def __repr__(self) -> str:
        """What is there, if that is little: an assertion that fails shows it. Is no look."""
        left = REPR_MAX
        glance = self._glance

        def shown(cell: Cell[Any]) -> str:
            nonlocal left
            left -= 1
            parts: list[str] = []
            hidden = (RESERVED if cell.above is None else COLLAPSED,)
            for key, child in (cell.below or {}).items():
                if key not in hidden and glance.is_there(child):
                    if left <= 0:
                        parts.append("...")
                        break
                    parts.append(f"{key!r}: {shown(child)}")
            return f"{{{', '.join(parts)}}}" if parts else repr(glance.version(cell).value)

        cell = cell_of(self)
        return shown(cell) if glance.is_there(cell) else f"<nothing at {cell.path}>"


def _key(key: object) -> Key | None:
    """A key as it is in a path, None if that can't be one."""
    if isinstance(key, int) and not isinstance(key, bool):
        return int(key)  # a counter is an int that knows more
    return str(key) if isinstance(key, str) else None


def _copy(value: Value) -> Value:
    """A value that the predicate may change."""
    return [*map(_copy, value)] if isinstance(value, list) else value


class Live(Node):
    """The whole state, and who is there."""

    __slots__ = ()

    def presence(self, blade: object) -> str | None:
        """How a blade is: "up", "busy", "late", "silent", "bye" or "lost", as `blades` shows it.

        Of its processes, the best; None where there was never one of this name. O(processes).
        """
        if isinstance(blade, Node):
            return None
        glance = self._glance
        there = glance.world.cell((RESERVED, "presence", str(blade)))
        return best_status([_status(glance, there, key) for key in glance.keys(there)])

    @property
    def blades(self) -> set[str]:
        """The names of the blades that are there: up, busy or late. O(processes)."""
        there = self._glance.world.cell((RESERVED, "presence"))
        names = map(str, self._glance.keys(there))
        return {name for name in names if self.presence(name) in THERE}


class Samples:
    """The totals of one counter, as far back as anybody asks. O(1) a sample."""

    __slots__ = ("at", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at: list[tuple[int, int | float]] = []

    def add(self, at_ns: int, total: int | float) -> None:
        """Note a total; what is older than needed goes."""
        self.at.append((at_ns, total))
        oldest_ns = at_ns - round(self.seconds * SECOND)
        while len(self.at) > 1 and self.at[1][0] <= oldest_ns:
            del self.at[0]

    def total_at(self, at_ns: int) -> int | float:
        """The total at a time, or the first that is known."""
        earlier = [total for stamp, total in self.at if stamp <= at_ns]
        return earlier[-1] if earlier else self.at[0][1]


def _status(glance: Glance, blade: Cell[Any], process: Key) -> str | None:
    record = glance.world.child(blade, process)

    def said(key: str) -> object:
        cell = glance.world.child(record, key)
        glance.cells.append(cell)
        return glance.version(cell).value

    return status_of(said)


class _Counted(Protocol):
    _cell: Cell[Any]
    _glance: Glance


def _rate(count: _Counted, total: int | float, seconds: float) -> float:
    glance, cell = count._glance, count._cell  # pyright: ignore[reportPrivateUsage]
    samples = glance.samples.get(cell)
    if samples is None:
        samples = glance.samples[cell] = Samples(seconds)
        samples.add(glance.version(cell).stamp, total)
    samples.seconds = max(samples.seconds, seconds)
    begin_ns = glance.now_ns - round(seconds * SECOND)
    for stamp, _ in samples.at:
        if stamp > begin_ns:
            glance.recheck(stamp + round(seconds * SECOND))
            break
    return (total - samples.total_at(begin_ns)) / seconds


class Count(int):
    """A counter of ints."""

    _cell: Cell[Any]
    _glance: Glance

    def __new__(cls, value: int, cell: Cell[Any], glance: Glance) -> Count:
        count = super().__new__(cls, value)
        count._cell = cell
        count._glance = glance
        return count

    def rate(self, seconds: float) -> float:
        """By how much it grew in the last so many seconds, per second.

        What was counted before anybody asked does not count. O(changes in that time).
        """
        return _rate(self, int(self), seconds)


class Amount(float):
    """A counter of floats."""

    _cell: Cell[Any]
    _glance: Glance

    def __new__(cls, value: float, cell: Cell[Any], glance: Glance) -> Amount:
        amount = super().__new__(cls, value)
        amount._cell = cell
        amount._glance = glance
        return amount

    def rate(self, seconds: float) -> float:
        """As `Count.rate`."""
        return _rate(self, float(self), seconds)


def cell_of(node: Node) -> Cell[Any]:
    """Where a node is."""
    return node._cell  # pyright: ignore[reportPrivateUsage]


def path_of(node: Node) -> str:
    """Where a node is, as text; "" is the root."""
    return cell_of(node).path


def key_of(node: Node) -> Key:
    """The last key of where a node is: "42" of intents/42."""
    return cell_of(node).key


def above(node: Node, levels: int = 1) -> Node:
    """The node so many keys up; the root has none above. O(levels)."""

    def look() -> Node:
        cell = cell_of(node)
        for _ in range(levels):
            cell = cell.above or cell
        return Node(cell, node._glance)  # pyright: ignore[reportPrivateUsage]

    return _held(node, look)


def total(node: Node, pattern: str) -> int | float:
    """The sum of the counters below that match, also of what was forgotten; 0 if none does.

    `*` is one key. O(places that match up to each part).

    Raises:
        ConfigError: this is no pattern, or has `**`.
    """
    if "**" in key_texts(pattern):
        raise ConfigError(f"total({pattern!r}): `**` is not for here")
    return _held(node, lambda: _total(node, pattern))


def said_by(node: Node, key: Key) -> str | None:
    """The blade whose word a value is; None for what is absent, and for counters. O(1)."""

    def look() -> str | None:
        glance = node._glance  # pyright: ignore[reportPrivateUsage]
        child = glance.world.child(cell_of(node), key)
        glance.cells.append(child)
        version = glance.version(child)
        return blade_of(version.writer) or None if version.shows else None

    return _held(node, look)


def plain(node: Node) -> Any:
    """A copy as plain dicts and values; all of it is looked at. O(size)."""
    return _held(node, lambda: _plain(node))


def _held(node: Node, look: Callable[[], T]) -> T:
    found: T = node._held(look)  # pyright: ignore[reportPrivateUsage]
    return found


def _total(node: Node, pattern: str) -> int | float:
    glance = node._glance  # pyright: ignore[reportPrivateUsage]
    cells = [cell_of(node)]
    for part in path_keys(pattern):
        if part == "*":
            glance.key_cells += cells
            below = [child for cell in cells for child in (cell.below or {}).values()]
            cells = [c for c in below if c.key != RESERVED or c.above is not glance.world.root]
        else:
            cells = [glance.world.child(cell, part) for cell in cells]
    glance.cells += cells
    found = [v.value for v in map(glance.version, cells) if v.kind == COUNTER]
    return sum(value for value in found if isinstance(value, int | float))


def quantile(node: Node, share: float) -> float:
    """The number that so many of those observed there are not above, within 1 %; 1 is the greatest.

    Where nothing was observed it has no answer. O(buckets log buckets).
    """
    found = quantiles(_observed(node), [share])
    if not found:
        raise Undefined(path_of(node))
    return found[0]


def _observed(node: Node) -> dict[int, int]:
    """How often what was observed there, by bucket; empty where nothing was."""
    return _held(node, lambda: _buckets(node))


def _buckets(node: Node) -> dict[int, int]:
    glance = node._glance  # pyright: ignore[reportPrivateUsage]
    found: dict[int, int] = {}
    for key in glance.keys(cell_of(node)):
        at = bucket_at(key)
        number = None if at is None else glance.see(glance.world.child(cell_of(node), key))
        if at is not None and isinstance(number, Count):
            found[at] = max(int(number), 0)
    return found


def _plain(node: Node) -> Any:
    glance = node._glance  # pyright: ignore[reportPrivateUsage]
    here = glance.see(cell_of(node))
    if not isinstance(here, Node):
        return here
    return {key: _plain(value) if isinstance(value := node[key], Node) else value for key in node}
