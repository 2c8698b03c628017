"""What deltas are made of: writes, erases, counter totals and entries, as plain immutable data.

These are the words that every room shares. They are msgspec structs, sent as arrays: a later
version may add fields at the end, with a default. There is no index and no merging here, so that
a blade, which only makes them, loads nothing but this.

A `writer` is an index into the `writers` of the message that carries the write, which are process
ids: a name travels once per message and not once per leaf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    Value: TypeAlias = None | bool | int | float | str | bytes | list[Any] | dict[str, Any]
else:
    Value = Any  # msgspec decodes no union of str and bytes: the codec checks values by itself
"""What a register holds. A list holds the same, but no dict; a dict is only ever `{}`: presence."""

Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""Times, sequences, versions and generations: what 63 bits hold."""

Amount: TypeAlias = int | tuple[int, int, int, int]
"""A counter's total, see `shardlog.crdt.counter`.

The codec checks it: with a constraint on any of these msgspec 0.22 frees what it does not own.
"""

PATH_CHARACTERS_MAX = 32 << 10
"""More than any shard's path has."""

Path: TypeAlias = Annotated[str, msgspec.Meta(max_length=PATH_CHARACTERS_MAX)]
"""The text of a path, see `shardlog.crdt.path`."""

REGISTER: Literal[0] = 0
COUNTER: Literal[1] = 1
ERASED: Literal[2] = 2
FORGOTTEN: Literal[3] = 3
"""What a path shows: a register, a counter, or that it is gone, and how."""


class Write(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A register's newest write. `stamp` is wall-clock ns, strictly increasing per process."""

    path: Path
    stamp: Natural
    writer: Natural
    value: Value


class Erase(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A floor: nothing at or below `path` that is not newer than (stamp, writer) is visible.

    A scalar is its own floor and needs none of these.
    """

    path: Path
    stamp: Natural
    writer: Natural


class Total(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one process counted at a path so far: always the total, never the increment.

    `generation` is the sequence of the frame that first carried it; `born` and `last` are the
    stamps of its first and its newest count.
    """

    path: Path
    generation: Natural
    born: Natural
    last: Natural
    amount: Amount


class Retired(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A path whose total a process has dropped, as it is idle and acknowledged.

    The generation is that of the total: one not above it is old news from then on.
    """

    path: Path
    generation: Natural


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One replica's entry of the cluster's counter at a path: the sum of its processes' totals.

    What shows is amount - base; `reset` is the newest floor that its owner applied, see
    `shardlog.crdt.entry`. `born` is known to the owner alone: it is not published.
    """

    path: Path
    last: Natural
    amount: Amount
    base: Amount = 0
    reset: Natural = 0
    born: Natural = 0


class Forgotten(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that the replica has at and below `record`, up to the stamp `cut`, is no more.

    What its counters showed is at the record's sibling `~` from this version on.
    """

    record: Path
    cut: Natural


class Fragment(msgspec.Struct, array_like=True, frozen=True, tag="fragment"):
    """What changed at a replica from one of its versions to a later one.

    Applies iff from_version <= known < to_version. It is idempotent: all in it is absolute. What
    is forgotten goes first.
    """

    replica: str
    from_version: Natural
    to_version: Natural
    writers: list[str]
    writes: list[Write]
    erases: list[Erase]
    entries: list[Entry]
    forgotten: list[Forgotten] = []


def item_bytes(item: Write | Erase | Total | Entry | Retired) -> int:
    """An upper bound of the bytes that an item takes on the wire. O(len of its value).

    >>> item_bytes(Write("a/b", 1, 0, "text"))
    57
    """
    path = item.path
    size = 45 + (len(path) if path.isascii() else 4 * len(path))
    if type(item) is Write:
        return size + _value_bytes(item.value)
    return size + (82 if type(item) is Entry else 36)


def published(entry: Entry) -> tuple[str | Amount, ...]:
    """What of an entry goes to others: its first fields, as long as they say something. O(1).

    >>> published(Entry("a", 9, 7, born=1)), published(Entry("a", 9, 7, base=5, reset=4, born=1))
    (('a', 9, 7), ('a', 9, 7, 5, 4))
    """
    if entry.base or entry.reset:
        return entry.path, entry.last, entry.amount, entry.base, entry.reset
    return entry.path, entry.last, entry.amount


def name_bytes(name: str) -> int:
    """An upper bound of the bytes that the name of a writer takes in a message. O(len)."""
    return _value_bytes(name)


def _value_bytes(value: Value) -> int:
    if type(value) is str:
        return 5 + (len(value) if value.isascii() else 4 * len(value))
    if type(value) is bytes:
        return 5 + len(value)
    if type(value) is list:
        return 5 + sum(map(_value_bytes, value))
    return 9
