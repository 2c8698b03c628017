"""What really was said and counted, and what a cluster must therefore show.

Nothing here uses what is being tested: it hears of log calls, of reports that are sent and read,
and of transactions, and knows what must be there by rules of its own. What it calls exact, and what
it only bounds, is in README.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.counter import lengthen
from shardlog.crdt.entry import difference
from tests.simulation.owner import Owner
from tests.simulation.paths import billionths, family_of, prefixes, record_of
from tests.simulation.steps import HOUR, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.crdt.delta import Value
    from shardlog.crdt.replication.messages import PassDown, Report
    from shardlog.crdt.state import State
    from shardlog.handler.shard import Shard
    from shardlog.monitor.change import Change
    from tests.simulation.nodes import Collector
    from tests.simulation.steps import Layout

MAX_SKEW_NS = HOUR
OUTBOX_ITEMS_PER_PATH = 5
"""A register, a floor, a total, an ended total and a note that one is retired."""


class Violation(AssertionError):
    """Something that must never be, was."""


class Mark(NamedTuple):
    """A register or a floor, as somebody let it in: `value` is None for a floor."""

    path: str
    stamp: int
    writer: str
    value: list[Value] | None


class ProcessTruth:
    """What one process said."""

    def __init__(self, process: str, truth: Truth) -> None:
        self.id = process
        self.is_killed = False
        self.counted: dict[str, int] = {}
        """By path, in billionths: what its outbox was told."""
        self.since: dict[str, int] = {}
        """The same, since the newest floor of its own over the path."""
        self.heard: dict[str, int] = {}
        """By path: what a collector has stored of it."""
        self.said: dict[str, tuple[int, bool]] = {}
        """By path, its newest register or floor: the stamp, and whether it is a floor."""
        self.stored: dict[str, int] = {}
        """By path: the newest stamp that was in a report that a collector has stored."""
        self.generations: dict[str, int] = {}
        """By path: that of the total that a collector has stored."""
        self.line = self.stored_line = 0
        """Up to which report nothing is missing, as a collector reads, and as its store has it."""
        self.carried: dict[int, dict[str, int]] = {}
        self.reports: list[Report] = []
        self._paths: set[str] = set()
        self._truth = truth
        self._stamp = 0

    def log(self, shard: Shard) -> None:
        """It logs: from now on, and not before, this may show."""
        for path, amount in shard.counts:
            family = family_of(path)
            if family is not None:
                counted = self._truth.counted
                counted[family] = counted.get(family, 0) + lengthen(amount)[0]

    def gather(self, shard: Shard) -> None:
        """Its outbox is told."""
        if shard.erases:
            stamp = self.stamp(shard.time_ns)
            for path in shard.erases:
                self._cover(path)
                self.said[path] = (stamp, True)
        if shard.writes:
            stamp = self.stamp(shard.time_ns)
            for path, value in shard.writes:
                if value != {}:
                    self._cover(path)
                self.said[path] = (stamp, False)
        if shard.counts:
            self.stamp(shard.time_ns)
            for path, amount in shard.counts:
                n = billionths(amount)
                self.counted[path] = self.counted.get(path, 0) + n
                self.since[path] = self.since.get(path, 0) + n
        self._paths.update(path for path, _ in shard.counts)
        self._paths.update(path for path, _ in shard.writes)
        self._paths.update(shard.erases)

    def start_above(self, stamp: int, wall_ns: int) -> None:
        """Its predecessor's stamps lead the clock."""
        if stamp < wall_ns + MAX_SKEW_NS:
            self._stamp = stamp

    def say_presence(self, wall_ns: int) -> None:
        """It says something of its own, unless that would be refused."""
        if self._stamp < wall_ns + MAX_SKEW_NS:
            self.stamp(wall_ns)

    def stamp(self, wall_ns: int) -> int:
        """Its next stamp."""
        self._stamp = max(wall_ns, self._stamp + 1)
        return self._stamp

    def send(self, report: Report) -> None:
        """A report was made: all that was counted until now at its paths is in it."""
        self.carried[report.sequence] = {t.path: self.counted.get(t.path, 0) for t in report.totals}
        self.reports.append(report)

    def check_bound(self, items: int) -> None:
        """I9: what waits is bounded by the number of paths, however long nobody listens."""
        if items > OUTBOX_ITEMS_PER_PATH * len(self._paths) + 2:
            raise Violation(f"{self.id} holds {items} items of {len(self._paths)} paths")

    def _cover(self, top: str) -> None:
        below = f"{top}/"
        for path in [p for p in self.since if p == top or p.startswith(below)]:
            del self.since[path]
        for path in [p for p in self.said if p.startswith(below)]:
            del self.said[path]


class Truth:
    """What all processes said, and what all collectors heard."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.processes: dict[str, ProcessTruth] = {}
        self.counted: dict[str, int] = {}
        """By family of paths."""
        self.marks: list[Mark] = []
        """All registers and floors that were let in and stored, by whoever heard of them."""
        self.said: set[tuple[str, int, str]] = set()
        """The path, stamp and writer of all that were let in."""
        self.has_stepped = False
        self.has_slept = False
        self.has_lost_store = self.has_gone_back = False
        self.is_unnoted = False
        """Whether only followers could know that a store went back."""
        self._owners: dict[str, Owner] = {}
        self._stored_owners: dict[str, Owner] = {}
        self._unsaved: dict[str, list[tuple[Report, list[Mark], bool]]] = {}
        self._unsaved_floors: dict[str, list[Mark]] = {}
        self.has_lost_aggregator = False
        """Whether one died that remembers nothing: what it alone had of a lost store is lost."""
        self._in_memory: set[str] = set()
        self._has_lost_memory = False
        """Whether a collector died that had shown what its disk did not take: it may go down."""
        self._highest: dict[str, dict[str, int]] = {}
        self._sums: dict[str, dict[str, int]] = {}

    def begin(self, process: str) -> ProcessTruth:
        """A process has started."""
        if process in self.processes:
            raise Violation(f"two processes are {process}")
        truth = self.processes[process] = ProcessTruth(process, self)
        return truth

    def receive(self, collector: Collector, report: Report, wall_ns: int) -> None:
        """A collector reads a report."""
        marks = self._marks(report, wall_ns)
        process = self.processes[report.process]
        in_line = report.follows in (0, process.line)
        if in_line:
            process.line = max(process.line, report.sequence)
        self.said.update((mark.path, mark.stamp, mark.writer) for mark in marks)
        self._unsaved.setdefault(collector.name, []).append((report, marks, in_line))

    def take_in(self, collector: Collector, report: Report, wall_ns: int) -> None:
        """A collector takes in a report, or several of a process that waited, joined.

        Of counts from before and from behind an erase, joined, it keeps all or nothing, as of those
        that the process itself sends in one report.
        """
        if self.layout.erases:
            marks = self._marks(report, wall_ns)
            self._owners.setdefault(collector.name, Owner()).receive(report, marks)

    def persisted(self, collector: Collector) -> None:
        """All that a collector has read is stored."""
        self._in_memory.discard(collector.name)
        if collector.name in self._owners:
            self._stored_owners[collector.name] = self._owners[collector.name].copy()
        self.marks += self._unsaved_floors.pop(collector.name, ())
        for report, marks, in_line in self._unsaved.pop(collector.name, ()):
            process = self.processes[report.process]
            process.stored_line = process.line
            self.marks += marks
            for total in report.totals:
                if total.generation <= process.generations.get(total.path, -1) or in_line:
                    process.generations[total.path] = total.generation
                    process.heard[total.path] = process.carried[report.sequence][total.path]
            said = [(item.path, item.stamp) for item in report.writes]
            said += [(item.path, item.stamp) for item in report.erases]
            for path, stamp in said:
                process.stored[path] = max(process.stored.get(path, 0), stamp)

    def not_persisted(self, collector: Collector) -> None:
        """It goes on in memory."""
        self._in_memory.add(collector.name)

    def lose_store(self, collector: Collector, *, goes_back: bool = True) -> None:
        """From now on totals are lower bounds."""
        self.has_lost_store = True
        self.has_gone_back = self.has_gone_back or goes_back
        self._owners.pop(collector.name, None)
        self._stored_owners.pop(collector.name, None)

    def pass_down(self, collector: Collector, message: PassDown) -> None:
        """A parent passes down floors: a collector merges those that concern what it has.

        Somebody said them; but where a register was told that is stored nowhere, as its process and
        its collector died, this may be all that is left of it.
        """
        for floor in message.floors:
            mark = Mark(floor.path, floor.stamp, message.writers[floor.writer], None)
            if not mark.path.startswith("shardlog") and mark[:3] not in self.said:
                raise Violation(f"I3: {collector.name} is passed {mark}, which nobody said")
            if not collector.machine.state.at_and_below(mark.path):
                continue
            self._unsaved_floors.setdefault(collector.name, []).append(mark)
            if self.layout.erases:
                self._owners.setdefault(collector.name, Owner()).floor(mark.path, mark.stamp)

    def died(self, collector: Collector) -> None:
        """What was not stored is lost; what was shown of it too."""
        self._unsaved_floors.pop(collector.name, None)
        for report, _, _ in self._unsaved.pop(collector.name, ()):
            process = self.processes[report.process]
            process.line = process.stored_line
        if collector.name in self._owners:
            stored = self._stored_owners.get(collector.name)
            self._owners[collector.name] = stored.copy() if stored else Owner()
        if collector.name in self._in_memory:
            self._has_lost_memory = True
            self.lose_store(collector)

    def restarted(self, collector: Collector) -> None:
        """What a collector shows begins with what its store has."""
        self.forget_highest(collector.name)

    def forget_highest(self, name: str) -> None:
        """A node starts anew: what it shows may be less than before."""
        self._highest.pop(name, None)

    def look_at_collector(self, collector: Collector, wall_ns: int) -> None:
        """After a batch."""
        self.look_at(collector.name, collector.machine.state)

    def look_at(self, name: str, state: State) -> None:
        """I1 and I2, of what is in a state."""
        sums: dict[str, int] = {}
        for path in state.counting:
            family = family_of(path)
            if family is not None:
                for entry in state.entries(path).values():
                    shown = entry.amount if not entry.base else difference(entry)
                    n = shown if type(shown) is int else lengthen(shown)[0]
                    sums[family] = sums.get(family, 0) + n
        self._check_sums(name, sums)

    def look_at_changes(self, name: str, changes: Iterable[Change]) -> None:
        """I1 and I2, of what a monitor is told."""
        sums = self._sums.setdefault(name, {})
        for change in changes:
            if change.kind == "counter":
                family = family_of("/".join(map(str, change.path)))
                if family is not None:
                    new = change.new if isinstance(change.new, int) else 0
                    old = change.old if isinstance(change.old, int) else 0
                    sums[family] = sums.get(family, 0) + new - old
        self._check_sums(name, sums)

    def expected(self) -> dict[str, int]:
        """By path, in billionths: what was counted and can't be lost."""
        result: dict[str, int] = {}
        for process in self.processes.values():
            for path, n in (process.heard if process.is_killed else process.counted).items():
                result[path] = result.get(path, 0) + n
        return result

    def kept(self) -> dict[str, int]:
        """By path, in billionths: what was counted and not erased."""
        owners = self._owners.values()
        result: dict[str, int] = {}
        for path in sorted({path for owner in owners for path in owner.kept}):
            floor = max(owner.floor_over(path) for owner in owners)
            result[path] = sum(owner.shown(path, floor) for owner in owners)
        return result

    def visible(self) -> dict[str, Mark]:
        """I3: the registers that show, if all marks are applied in (stamp, writer) order."""
        newest: dict[str, Mark] = {}
        floors: dict[str, tuple[int, str]] = {}
        below: dict[str, tuple[int, str]] = {}
        nothing = (0, "")
        for mark in self.marks:
            at = (mark.stamp, mark.writer)
            path = mark.path
            if mark.value is not None:
                known = newest.get(path)
                if known is None or at > (known.stamp, known.writer):
                    newest[path] = mark
            if mark.value is None or mark.value != [{}]:
                floors[path] = max(floors.get(path, nothing), at)
            for prefix in prefixes(path):
                below[prefix] = max(below.get(prefix, nothing), at)
        result: dict[str, Mark] = {}
        for path, mark in newest.items():
            at = (mark.stamp, mark.writer)
            if any(floors.get(prefix, nothing) >= at for prefix in prefixes(path)):
                continue
            if floors.get(path, nothing) > at:
                continue
            if mark.value != [{}] and below.get(path, nothing) > at:
                continue
            result[path] = mark
        return result

    def due(self, now_ns: int) -> set[str]:
        """The records of which something may be forgotten by now."""
        return {
            record_of(mark.path)
            for mark in self.marks
            if (kept_ns := self.kept_ns(mark.path)) is not None and mark.stamp + kept_ns < now_ns
        }

    def kept_ns(self, path: str) -> int | None:
        """How long a register is kept."""
        if "/" not in path:
            return None
        if self.layout.retention_s and path.startswith(("t/", "cfg/")):
            return self.layout.retention_s * SECOND
        return 24 * HOUR

    def _marks(self, report: Report, wall_ns: int) -> list[Mark]:
        """The registers and floors of a report that are let in."""
        marks = [Mark(w.path, w.stamp, report.process, [w.value]) for w in report.writes]
        marks += [Mark(e.path, e.stamp, report.process, None) for e in report.erases]
        return [mark for mark in marks if self._is_admitted(mark, wall_ns)]

    def _is_admitted(self, mark: Mark, wall_ns: int) -> bool:
        if mark.path.startswith("shardlog"):
            return False
        kept_ns = self.kept_ns(mark.path)
        is_old = kept_ns is not None and mark.stamp + kept_ns < wall_ns
        return not is_old and mark.stamp <= wall_ns + MAX_SKEW_NS

    def _check_sums(self, name: str, sums: dict[str, int]) -> None:
        counted = self.counted
        highest = self._highest.setdefault(name, {})
        for family, n in sums.items():
            if n > counted.get(family, 0):
                raise Violation(
                    f"I1: {name} shows {n} at {family}, where {counted.get(family, 0)} were counted"
                )
        has_lost_all = self.has_gone_back and self.has_lost_aggregator
        if self.layout.erases or self._has_lost_memory or has_lost_all:
            return
        for family, n in highest.items():
            if sums.get(family, 0) < n:
                raise Violation(
                    f"I2: {name} shows {sums.get(family, 0)} at {family}, after {n} before"
                )
        highest.update(sums)
