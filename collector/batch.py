"""What a collector's machine, its store and its life files say to each other: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shardlog.crdt.counter import Mark
    from shardlog.crdt.delta import Amount, Entry
    from shardlog.crdt.lww_map import Floor, Leaf


STEP = 2
"""By so many versions a fragment with counts, or a run, is above what was before it.

The one between is that of registers that were told, and not stored before the run ended.
"""


class Line(NamedTuple):
    """How far a process was heard without a hole, and the highest generation that it retired.

    `baseline`: a lost replica may have counted all totals of lower generations; 0 if there is none.
    """

    last: int
    retired: int
    baseline: int = 0


UNHEARD = Line(0, -1)


class Closed(NamedTuple):
    """A process that has ended: `key` is a hash of its id; rows are numbered as they come."""

    number: int
    key: int
    started_ns: int
    closed_ns: int


class SavedSums(NamedTuple):
    """The rows of a replica's sums, see `shardlog.collector.sidecar.sums`.

    `refused` has totals that were turned away, by process, path and generation; 0 is no more.
    """

    rows: dict[str, tuple[Amount, ...]]
    refused: dict[tuple[str, str, int], Amount]


NO_SUMS = SavedSums({}, {})


class Identity(NamedTuple):
    """Which replica a store is, and what it goes on for.

    `lost_ns`: processes that started until then may have been counted by one that was lost, which
    is when that was noticed, and `max_skew` more; 0 if none was. `lower_bound`: why its counts may
    be too low, "" if they are not. `replaces`: those that were lost, oldest first.
    """

    replica: str
    lost_ns: int = 0
    lower_bound: str = ""
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Persist:
    """Effect: write all this in one transaction, in the order of the fields.

    A mark that is None was retired; a register without leaf and floor is gone. Of a process that
    has `ended` all marks, its line and its sums go; where another `identity` goes on, all sums that
    were there before. Closed ids numbered below `forgotten` go.
    """

    version: int
    marks: tuple[tuple[str, str, Mark | None], ...]
    entries: tuple[Entry, ...]
    registers: tuple[tuple[str, Leaf | None, Floor | None], ...]
    gone: tuple[str, ...] = ()
    """The paths of entries that are no more."""
    lines: tuple[tuple[str, Line], ...] = ()
    ended: tuple[str, ...] = ()
    closed: tuple[Closed, ...] = ()
    forgotten: int = 0
    watermark_ns: int = 0
    sums: SavedSums = NO_SUMS
    clocks: tuple[tuple[str, int | None], ...] = ()
    """What others have said of records, None for one that is forgotten."""
    members: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """As in `shardlog.collector.sidecar.members`."""
    identity: Identity | None = None
    """Another replica goes on in this store; None as long as it is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a store holds when it is opened; a new one holds its replica's name alone."""

    replica: str
    version: int = 0
    watermark_ns: int = 0
    marks: dict[str, dict[str, Mark]] = field(default_factory=dict[str, "dict[str, Mark]"])
    lines: dict[str, Line] = field(default_factory=dict[str, Line])
    closed: tuple[Closed, ...] = ()
    entries: tuple[Entry, ...] = ()
    registers: tuple[tuple[str, Leaf | None, Floor | None], ...] = ()
    sums: SavedSums = NO_SUMS
    clocks: dict[str, int] = field(default_factory=dict[str, int])
    members: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    lost_ns: int = 0
    lower_bound: str = ""
    replaces: tuple[str, ...] = ()
    """These three as in `Identity`."""
    runs: tuple[tuple[str, int], ...] = ()
    """The latest runs of the replica, in order, and the version up to which what was told by the
    time that each opened the store may be in it: one above what it held, see STEP."""


@dataclass(frozen=True, slots=True)
class Name:
    """Effect: note that the first of these replicas collects here, and goes on for the others.

    Upwards it is to be known by its name from now on.
    """

    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Effect: tell a process that the store has all its reports up to this one."""

    process: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Lead:
    """Effect: make known that the stamps of a blade lead the clock, and are below this one."""

    blade: str
    stamp: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Effect: remove the life file and the exit file of a process: the store has all of it."""

    process: str
