"""What one collector must make of counts and floors, as a list of the counts that it keeps.

The rule of design and of `shardlog.crdt.entry`, without totals and bases: a floor that reaches the
collector takes along all that it keeps at and below its path, if any of that is older than the
floor; a count that comes behind a newer floor is not kept. Where nothing is erased, all is kept.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.paths import billionths, prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.crdt.delta import Amount
    from shardlog.crdt.replication.messages import Report
    from tests.simulation.truth import Mark


class Kept(NamedTuple):
    """Counts of one process that came in one report: their first and last stamp, their sum."""

    born: int
    last: int
    billionths: int


class Owner:
    """What a collector keeps of what was counted."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Kept, ...]] = {}
        self.floors: dict[str, int] = {}
        self._resets: dict[str, int] = {}
        self._heard: dict[tuple[str, str], tuple[int, Amount]] = {}
        self._lines: dict[str, int] = {}

    def copy(self) -> Owner:
        """As it is now."""
        owner = copy(self)
        for name, value in vars(self).items():
            setattr(owner, name, value.copy())
        return owner

    def receive(self, report: Report, marks: Iterable[Mark]) -> None:
        """Hear a report, of whose registers and floors these were let in."""
        for mark in marks:
            if mark.value is None or mark.value != [{}]:
                self.floor(mark.path, mark.stamp)
        line = self._lines.get(report.process, 0)
        in_line = report.follows in (0, line)
        for total in report.totals:
            key = (report.process, total.path)
            generation, heard = self._heard.get(key, (-1, 0))
            if total.generation < generation or (total.generation > generation and not in_line):
                continue
            known = heard if total.generation == generation else 0
            self._heard[key] = (total.generation, total.amount)
            floor = self.floor_over(total.path)
            # Counts that add up to nothing have been counted all the same, and have their age.
            if total.amount != known and total.last > floor:
                more = billionths(total.amount) - billionths(known)
                born = max(total.born, floor + 1, self._resets.get(total.path, 0) + 1)
                kept = self.kept.get(total.path, ())
                self.kept[total.path] = (*kept, Kept(born, total.last, more))
        if in_line:
            self._lines[report.process] = max(line, report.sequence)

    def floor_over(self, path: str) -> int:
        """The newest floor at the path or above it, 0 if there is none."""
        return max(self.floors.get(p, 0) for p in (path, *prefixes(path)))

    def shown(self, path: str, floor: int) -> int:
        """What is to be seen of this by whoever knows this floor over the path, in billionths."""
        kept = self.kept.get(path, ())
        return sum(k.billionths for k in kept) if any(k.last > floor for k in kept) else 0

    def floor(self, top: str, stamp: int) -> None:
        """Hear of a floor."""
        if stamp <= self.floors.get(top, 0):
            return
        self.floors[top] = stamp
        for path, kept in self.kept.items():
            if path == top or path.startswith(f"{top}/"):
                floor = self.floor_over(path)
                if self._resets.get(path, 0) < floor and any(k.born <= floor for k in kept):
                    self.kept[path] = ()
                    self._resets[path] = floor
