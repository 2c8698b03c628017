"""What a collector's machine and its store say to each other: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardlog.crdt.counter import Mark
    from shardlog.crdt.delta import Entry
    from shardlog.crdt.lww_map import Floor, Leaf


@dataclass(frozen=True, slots=True)
class Persist:
    """Effect: write all this in one transaction. A register without leaf and floor is gone."""

    version: int
    marks: tuple[tuple[str, str, Mark], ...]
    entries: tuple[Entry, ...]
    registers: tuple[tuple[str, Leaf | None, Floor | None], ...]
    gone: tuple[str, ...] = ()
    """The paths of entries that are no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a store holds when it is opened; a new one holds its replica's name alone."""

    replica: str
    version: int = 0
    marks: dict[str, dict[str, Mark]] = field(default_factory=dict[str, "dict[str, Mark]"])
    entries: tuple[Entry, ...] = ()
    registers: tuple[tuple[str, Leaf | None, Floor | None], ...] = ()
