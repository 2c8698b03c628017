"""A receiver in a few lines, what it should show in the end, and shards for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from shardlog.crdt import counter
from shardlog.crdt.lww_map import LwwMap
from shardlog.crdt.path import is_within
from shardlog.crdt.stamp import StampClock
from shardlog.handler.backlog import Limits
from shardlog.handler.outbox import Outbox, Pace
from shardlog.handler.shard import Shard

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount, Value
    from shardlog.crdt.replication.messages import Report

MS = 1_000_000
SECOND = 1_000 * MS
PATHS = ("a", "a/b", "a/b/c", "a/d", "e", "e/f", "ab")
VALUES: tuple[Value, ...] = (1, "text", [1, None], {})
AMOUNTS: tuple[Amount, ...] = (0, 1, 7, (0, 0, 2, 0), (0, 500_000_000, 0, 0))


def outbox(limits: Limits = Limits(), pace: Pace = Pace()) -> Outbox:  # noqa: B008
    """An outbox of the process `p` of the blade `blade`."""
    presence: dict[str, Value] = {"host": "node", "pid": 1, "started": 5}
    return Outbox("p", "blade", presence, limits=limits, pace=pace)


def shard(
    time_ns: int = 1,
    *,
    writes: dict[str, Value] | None = None,
    erases: tuple[str, ...] = (),
    counts: dict[str, Amount] | None = None,
) -> Shard:
    """A shard."""
    return Shard(time_ns, [*(writes or {}).items()], [*erases], [*(counts or {}).items()], {}, 0)


def flush(box: Outbox, now_ns: int = 0, wall_ns: int = 0) -> list[Report]:
    """All reports that are due."""
    reports: list[Report] = []
    while (report := box.next_report(now_ns, wall_ns)) is not None:
        reports.append(report)
        box.check_invariants()
    return reports


def hand_over(box: Outbox, now_ns: int, *, refused: bool) -> list[Report]:
    """The next report, if there is one and the link does not refuse it."""
    report = box.next_report(now_ns, now_ns)
    if report is not None and refused:
        box.put_back(report)
    return [] if report is None or refused else [report]


def connected(box: Outbox) -> Outbox:
    """The outbox, with a link and its first words said."""
    box.receive_connected(1)
    assert flush(box)
    return box


@dataclass
class Tally:
    """A counter at a receiver: what was added, what of it a floor covers, the newest such floor."""

    born: int
    total: Amount = 0
    base: Amount = 0
    reset: int = 0


@dataclass
class Receiver:
    """A collector in a few lines: newest stamps, greatest totals, floors before totals, these
    before the retired ones, whose rows are dropped.
    """

    map: LwwMap = field(default_factory=LwwMap)
    marks: dict[str, counter.Mark] = field(default_factory=dict[str, counter.Mark])
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    retired: int = 0

    def receive(self, report: Report) -> None:
        """Take in a report, again if need be."""
        for erase in report.erases:
            self.map.erase(erase.path, erase.stamp, report.process)
            self._cover(erase.path, erase.stamp)
        for write in report.writes:
            self.map.write(write.path, write.stamp, report.process, write.value)
            if write.value != {}:
                self._cover(write.path, write.stamp)
        for total in report.totals:
            mark = self.marks.get(total.path, counter.NEVER)
            if mark is counter.NEVER and total.generation <= self.retired:
                continue
            self.marks[total.path], more = mark.advance(total.generation, total.amount)
            tally = self.tallies.setdefault(total.path, Tally(total.born))
            tally.total = counter.add(tally.total, more)
        for path, generation in ((note.path, note.generation) for note in report.retired):
            self.retired = max(self.retired, generation)
            if self.marks.get(path, counter.NEVER).generation <= generation:
                self.marks.pop(path, None)

    def registers(self) -> dict[str, Value]:
        """What shows, shardlog's own left out."""
        leaves = self.map.leaves.items()
        return {
            path: leaf.value
            for path, leaf in leaves
            if self.map.is_visible(path) and not is_within(path, "shardlog")
        }

    def counters(self) -> dict[str, int | float]:
        """What shows, zeros and shardlog's own left out."""
        values = {
            path: counter.value(counter.excess(tally.total, tally.base))
            for path, tally in self.tallies.items()
            if not is_within(path, "shardlog")
        }
        return {path: value for path, value in values.items() if value}

    def own(self, path: str) -> Value:
        """The value of one of shardlog's own registers."""
        return self.map.leaves[f"shardlog/{path}"].value

    def _cover(self, top: str, floor: int) -> None:
        for path, tally in self.tallies.items():
            if is_within(path, top) and tally.born <= floor and tally.reset < floor:
                tally.base, tally.reset = tally.total, floor


@dataclass
class Sequential:
    """The same shards, applied one by one where they are logged."""

    map: LwwMap = field(default_factory=LwwMap)
    totals: dict[str, Amount] = field(default_factory=dict[str, "Amount"])
    clock: StampClock = field(default_factory=StampClock)

    def apply(self, shard: Shard) -> None:
        """Apply a shard: erases, writes, counts."""
        stamp = self.clock.stamp(shard.time_ns)
        for path in shard.erases:
            self.map.erase(path, stamp, "p")
            self._cover(path)
        stamp = self.clock.stamp(shard.time_ns)
        for path, value in shard.writes:
            self.map.write(path, stamp, "p", value)
            if value != {}:
                self._cover(path)
        for path, amount in shard.counts:
            self.totals[path] = counter.add(self.totals.get(path, 0), amount)

    def _cover(self, top: str) -> None:
        for path in [path for path in self.totals if is_within(path, top)]:
            del self.totals[path]

    def registers(self) -> dict[str, Value]:
        """What shows."""
        leaves = self.map.leaves.items()
        return {path: leaf.value for path, leaf in leaves if self.map.is_visible(path)}

    def counters(self) -> dict[str, int | float]:
        """What shows, zeros left out."""
        values = {path: counter.value(total) for path, total in self.totals.items()}
        return {path: value for path, value in values.items() if value}


shards = st.builds(
    shard,
    st.integers(0, 50),
    writes=st.dictionaries(st.sampled_from(PATHS), st.sampled_from(VALUES), max_size=2),
    erases=st.lists(st.sampled_from(PATHS), max_size=1).map(tuple),
    counts=st.dictionaries(st.sampled_from(PATHS), st.sampled_from(AMOUNTS), max_size=2),
)
