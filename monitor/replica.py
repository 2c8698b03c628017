"""A read-only replica of what shows: rows by path, what changed in them, and views of subtrees.

Whoever serves has merged already, so nothing merges here: a row replaces what showed at its path.
What is told is the difference to what was shown before, also where a whole snapshot replaces all.

The root key `shardlog`, under which shardlog keeps what it knows itself, shows only to those who
name it: the view of the root leaves it out, and a pattern reaches it only if it begins with it.
"""

from __future__ import annotations

import math
from itertools import starmap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from shardlog.crdt.counter import BILLION
from shardlog.crdt.delta import COUNTER, ERASED, FORGOTTEN, REGISTER
from shardlog.crdt.path import RESERVED, Pattern, is_within, path_keys, path_text
from shardlog.crdt.path_index import PathIndex
from shardlog.crdt.process_id import blade_of
from shardlog.crdt.replication.messages import Changes
from shardlog.monitor.change import ABSENT, Change
from shardlog.monitor.rows import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.delta import Value
    from shardlog.crdt.path import Keys

Tree: TypeAlias = dict[str | int, Any]
"""A subtree: nested dicts, and values at the ends."""


class Shown(NamedTuple):
    """What shows at a path: kind REGISTER or COUNTER, and which process said it when, in ns."""

    kind: Literal[0, 1]
    value: Value
    stamp: int
    writer: str


class _Reason(NamedTuple):
    """Why nothing shows any more: kind ERASED or FORGOTTEN, by which process, when."""

    kind: Literal[2, 3]
    stamp: int
    writer: str


_KINDS: dict[Literal[0, 1], Literal["register", "counter"]] = {
    REGISTER: "register",
    COUNTER: "counter",
}
_GONE: dict[Literal[2, 3], Literal["erased", "forgotten"]] = {
    ERASED: "erased",
    FORGOTTEN: "forgotten",
}


class Selection:
    """Which paths a pattern selects, and which of them may be looked at.

    >>> Selection("**").matches("intents/42"), Selection("**").matches("shardlog/presence/a")
    (True, False)
    >>> Selection("shardlog/**").matches("shardlog/presence/a")
    True
    """

    def __init__(self, pattern: str, *, collapsed: bool = False) -> None:
        self._pattern = Pattern(pattern, collapsed=collapsed)
        self.prefix = self._pattern.prefix
        self._names_reserved = is_within(self.prefix, RESERVED)

    def matches(self, path: str) -> bool:
        """Whether the canonical text `path` is selected. Complexity: `Pattern.matches`."""
        return self._pattern.matches(path) and (
            self._names_reserved or not is_within(path, RESERVED)
        )


class Replica:
    """What a node shows, as far as it told.

    >>> from shardlog.crdt.replication.messages import Row
    >>> replica = Replica()
    >>> row = Row("intents/42/host", REGISTER, "scraper-1", 5, 0)
    >>> replica.apply(Changes(["orchestrator@a:1:2:3:4"], [row]))[0].by
    'orchestrator'
    >>> replica.view(("intents",))
    {'42': {'host': 'scraper-1'}}
    """

    def __init__(self) -> None:
        self._rows: dict[str, Shown] = {}
        self._index = PathIndex()

    def apply(self, changes: Changes) -> list[Change]:
        """Take in a delta; what looks different now. O(rows x (depth + log n))."""
        return [change for change in starmap(self._take, _said(changes)) if change is not None]

    def install(
        self, chunks: Iterable[Changes], deltas: Iterable[Changes], now_ns: int
    ) -> list[Change]:
        """Replace all by a snapshot and the deltas behind it; what looks different from before.

        Of what is gone, and no delta says why, it is known only that this was noticed `now_ns`: it
        counts as erased, by nobody. O(rows of both x (depth + log n)).
        """
        said: dict[str, Shown | _Reason] = {}
        for changes in (*chunks, *deltas):
            said.update(_said(changes))
        unknown = _Reason(ERASED, now_ns, "")
        for path in self._rows:
            said.setdefault(path, unknown)
        return [change for change in starmap(self._take, said.items()) if change is not None]

    def has(self, keys: Keys) -> bool:
        """Whether there is a value at these keys or below them. O(depth)."""
        path = path_text(keys)
        return not keys or path in self._rows or self._index.has_below(path)

    def view(self, keys: Keys) -> Any:
        """A copy of what shows at and below these keys: nested dicts, or one value. O(result).

        Raises:
            KeyError: nothing shows there. The root is always there, and may be empty.
        """
        if not keys:
            return self._tree((p for p in self._index if not is_within(p, RESERVED)), 0)
        path = path_text(keys)
        if self._index.has_below(path):
            return self._tree(self._index.below(path), len(keys))
        if path in self._rows:
            return _copy(self._rows[path].value)
        raise KeyError(*keys)

    def chunk(self, after: str | None, bytes_max: int) -> tuple[Changes, str | None]:
        """What shows behind the path `after`, as about so many bytes; and what the next is behind.

        That is None where nothing follows. O(log n + rows).
        """
        batch = Batch()
        last = None
        for path in self._index.after(after):
            if batch.size >= bytes_max:
                return batch.take(), last
            batch.add(path, *self._rows[path])
            last = path
        return batch.take(), None

    def shown(self, path: str) -> Shown | None:
        """What shows at the canonical text `path`. O(1)."""
        return self._rows.get(path)

    def rows(self, pattern: str) -> list[tuple[Keys, Shown]]:
        """What a pattern selects, sorted by path text. O(rows below its literal start)."""
        return [(path_keys(path), shown) for path, shown in self._select(Selection(pattern))]

    def total(self, pattern: str) -> int | float:
        """The sum of the counters that a pattern selects, collapsed ones included; exact.

        Ints add up as ints, floats as integers of 1e-9. O(rows below its literal start).
        """
        sum_ = 0
        is_float = False
        for value in self._counters(pattern):
            is_float |= isinstance(value, float)
            sum_ += billionths(value)
        return sum_ / BILLION if is_float else sum_ // BILLION

    def sum(self) -> tuple[int, int]:
        """The sum of all counters of users, in billionths; and by how many it may be off. O(n).

        That is where counters are so large that a float can't say all of their billionths.
        """
        total = slack = 0
        for value in self._counters("**"):
            total += billionths(value)
            if isinstance(value, float):
                slack += round(math.ulp(value) * BILLION / 2)
        return total, slack

    def check_invariants(self) -> None:
        """Raise AssertionError where the index and the rows differ. O(n)."""
        assert list(self._index) == sorted(self._rows)

    def _counters(self, pattern: str) -> Iterator[int | float]:
        for _, shown in self._select(Selection(pattern, collapsed=True)):
            if shown.kind == COUNTER and isinstance(shown.value, int | float):
                yield shown.value

    def _select(self, selection: Selection) -> Iterator[tuple[str, Shown]]:
        start = selection.prefix
        for path in [start, *self._index.below(start)] if start else self._index:
            shown = self._rows.get(path)
            if shown is not None and selection.matches(path):
                yield path, shown

    def _take(self, path: str, said: Shown | _Reason) -> Change | None:
        return self._show(path, said) if isinstance(said, Shown) else self._hide(path, said)

    def _show(self, path: str, shown: Shown) -> Change | None:
        before = self._rows.get(path)
        if before is not None and _is_same(before, shown):
            return None
        if before is None:
            self._index.add(path)
        self._rows[path] = shown
        old = ABSENT if before is None else before.value
        by = blade_of(shown.writer) or None
        return Change(path_keys(path), old, shown.value, None, by, shown.stamp, _KINDS[shown.kind])

    def _hide(self, path: str, reason: _Reason) -> Change | None:
        before = self._rows.pop(path, None)
        if before is None:
            return None
        self._index.remove(path)
        by = blade_of(reason.writer) or None
        gone = _GONE[reason.kind]
        kind = _KINDS[before.kind]
        return Change(path_keys(path), before.value, ABSENT, gone, by, reason.stamp, kind)

    def _tree(self, paths: Iterable[str], depth: int) -> Tree:
        """The paths are sorted, so what is above comes first: `{}`, or a value, which gives way.

        Both show between two deltas that turn a value into a dict.
        """
        tree: Tree = {}
        for path in paths:
            *inner, last = path_keys(path)[depth:]
            node = tree
            for key in inner:
                if not isinstance(node.get(key), dict):
                    node[key] = {}
                node = node[key]
            node[last] = _copy(self._rows[path].value)
        return tree


def billionths(value: int | float) -> int:
    """A total that shows, in billionths; exact but for floats so large that they can't say them."""
    if isinstance(value, int):
        return value * BILLION
    fraction, whole = math.modf(value)
    return int(whole) * BILLION + round(fraction * BILLION)


def _said(changes: Changes) -> Iterator[tuple[str, Shown | _Reason]]:
    for row in changes.rows:
        writer = changes.writers[row.writer] if row.writer >= 0 else ""
        if row.kind == REGISTER or row.kind == COUNTER:
            yield row.path, Shown(row.kind, row.value, row.stamp, writer)
        else:
            yield row.path, _Reason(row.kind, row.stamp, writer)


def _is_same(a: Shown, b: Shown) -> bool:
    """Whether rows are the same to the last bit: True is not 1, and NaN is NaN."""
    return (a.stamp, a.writer, a.kind) == (b.stamp, b.writer, b.kind) and (
        repr(a.value) == repr(b.value)
    )


def _copy(value: Value) -> Any:
    """A value that the caller may change: only lists, and `{}`, can be changed at all."""
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return {} if value == {} else value
