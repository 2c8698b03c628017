"""What went wrong meanwhile, for explanations: groups of errors, as in `shardlog errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from shardlog.crdt.path import ERRORS, path_keys

if TYPE_CHECKING:
    from collections.abc import Container

    from shardlog.crdt.delta import Value
    from shardlog.monitor.live.world import Cell, World

ID_DIGITS = 6
"""So many of a group's id are told: enough to find it by."""


class Errors(NamedTuple):
    """Of one group of errors, how many a blade has had in all, and when the last one was."""

    group: str
    message: str
    blade: str
    number: int
    last_ns: int


def errors_of(world: World[Any], blades: Container[str], since_ns: int) -> tuple[Errors, ...]:
    """Of which groups these blades had an error since a time, the most frequent first.

    O(groups x hosts x blades).
    """
    there = world.known(path_keys(ERRORS))
    found: list[Errors] = []
    for group, cell in _below(there).items():
        message = _value(_below(cell).get("about"), "message")
        for host, lasts in _below(_below(cell).get("last")).items():
            counts = _below(_below(cell).get("count")).get(host)
            for blade, last in _below(lasts).items():
                last_ns, number = last.version.value, _value(counts, blade)
                if blade not in blades or not isinstance(last_ns, int) or last_ns < since_ns:
                    continue
                said = message if isinstance(message, str) else ""
                number = number if isinstance(number, int) else 0
                found.append(Errors(str(group)[:ID_DIGITS], said, str(blade), number, last_ns))
    return tuple(sorted(found, key=lambda errors: -errors.number))


def _below(cell: Cell[Any] | None) -> dict[Any, Cell[Any]]:
    return {} if cell is None else cell.below or {}


def _value(cell: Cell[Any] | None, key: object) -> Value:
    child = _below(cell).get(key)
    return None if child is None else child.version.value
