"""What a process repeats, drops and retires where a life file tells what has arrived."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt import counter
from shardlog.crdt.path import is_within
from shardlog.handler.backlog import Limits
from shardlog.handler.outbox import Outbox, Pace
from tests.handler.receiver import (
    AMOUNTS,
    MS,
    PATHS,
    Receiver,
    Sequential,
    flush,
    hand_over,
    outbox,
    shard,
    shards,
)

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount, Value
    from shardlog.crdt.replication.messages import Report
    from shardlog.handler.shard import Shard

IDLE_MS = 10

counts = st.builds(
    shard,
    st.just(1),
    counts=st.dictionaries(st.sampled_from(PATHS), st.sampled_from(AMOUNTS), max_size=2),
)
happenings = st.sampled_from(
    [
        *("send", "send", "send", "refused", "arrive", "arrive", "store", "store", "hear", "hear"),
        *("hole", "break", "up", "up", "crash", "again", "wait", "wait"),
    ]
)


class Life:
    """A process with a life file, and the collectors that come and go.

    What has arrived is held by the collector, and lost with it, until it is stored; then the
    acknowledgement is written, as far as the chain of reports goes without a gap.
    """

    def __init__(self, size: int = 150, limits: Limits = Limits()) -> None:  # noqa: B008
        self.box = outbox(limits, Pace(size, idle_ms=IDLE_MS))
        self.box.has_life = True
        self.stored = Receiver()
        self.under_way: list[Report] = []
        self.held: list[Report] = []
        self.arrived: list[Report] = []
        self.chain = self.acknowledged = 0
        self.now_ns = 0

    def do(self, event: str) -> None:
        """One thing that happens."""
        box = self.box
        self.now_ns += 1
        if event == "up":
            box.receive_connected(self.now_ns)
        elif event == "break":
            self.under_way.clear()
            box.receive_disconnected()
        elif event == "hole" and self.under_way:  # a break that the process has not noticed yet
            del self.under_way[0]
        elif event == "crash":
            self.held.clear()
            self.under_way = self.under_way[1:]
            self.chain = self.acknowledged
        elif event == "arrive":
            self.arrive()
        elif event == "store":
            self.store()
        elif event == "hear":
            box.receive_acknowledged(self.acknowledged)
        elif event == "again" and self.arrived:
            self.held.append(self.arrived[len(self.arrived) // 2])
        elif event == "wait":
            self.now_ns += 2 * IDLE_MS * MS
            box.handle_timer(self.now_ns)
        elif event in ("send", "refused") and box.connected:
            self.under_way += hand_over(box, self.now_ns, refused=event == "refused")
        box.check_invariants()

    def arrive(self) -> None:
        """All that is under way arrives."""
        for report in self.under_way:
            if report.follows in (0, self.chain):
                self.chain = report.sequence
        self.held += self.under_way
        self.arrived += self.under_way
        self.under_way.clear()

    def store(self) -> None:
        """What the collector holds is stored, then acknowledged."""
        for report in self.held:
            self.stored.receive(report)
        self.held.clear()
        self.acknowledged = self.chain

    def settle(self) -> None:
        """A last connection on which all arrives."""
        for event in ("break", "up"):
            self.do(event)
        for _ in range(1_000):
            if not self.box.has_unacknowledged():
                return
            for event in ("send", "arrive", "store", "hear"):
                self.do(event)
        raise AssertionError("it never ends")


@given(st.lists(st.one_of(shards, shards, happenings), max_size=30))
def test_an_acknowledgement_that_falls_has_all_totals_said_again(
    history: list[Shard | str],
) -> None:
    """A new store, which knows nothing, hears every total that is kept, and then acknowledges."""
    life = Life()
    for event in history:
        if isinstance(event, str):
            life.do(event)
        else:
            life.box.receive(event)
    life.settle()
    totals = life.box._backlog.totals  # pyright: ignore[reportPrivateUsage]
    kept = dict(totals.items)
    life.acknowledged = 0
    life.arrived.clear()
    life.do("hear")
    life.settle()
    assert {total.path: total for report in life.arrived for total in report.totals} == kept
    assert totals.known.keys() == kept.keys()


@given(st.lists(st.one_of(shards, shards, happenings), max_size=60), st.sampled_from([1, 150]))
def test_collector_ends_up_with_what_was_logged(history: list[Shard | str], size: int) -> None:
    """Whatever was lost, refused, repeated or retired: in the end each register and each count
    shows as if all shards had been applied one by one.
    """
    life, sequential = Life(size), Sequential()
    for event in history:
        if isinstance(event, str):
            life.do(event)
        else:
            life.box.receive(event)
            sequential.apply(event)
    life.settle()

    assert life.stored.registers() == sequential.registers()
    assert life.stored.counters() == sequential.counters()


@given(st.lists(st.one_of(counts, counts, happenings), max_size=80), st.sampled_from([1, 150]))
def test_sums_are_exact(history: list[Shard | str], size: int) -> None:
    """Each count is added once, also where collectors die with what they had not stored and idle
    totals are retired; at no time is there more than was counted.
    """
    life = Life(size)
    sums: dict[str, Amount] = {}
    for event in history:
        if isinstance(event, str):
            life.do(event)
        else:
            life.box.receive(event)
            for path, amount in event.counts:
                sums[path] = counter.add(sums.get(path, 0), amount)
        for path, tally in life.stored.tallies.items():
            assert is_within(path, "shardlog") or counter.leq(tally.total, sums[path])
    life.settle()

    added = {path: tally.total for path, tally in life.stored.tallies.items()}
    assert {path: total for path, total in added.items() if total} == {
        path: total for path, total in sums.items() if total
    }


@given(st.lists(st.one_of(shards, shards, happenings), max_size=60), st.sampled_from([1, 150]))
def test_last_reports_are_all_that_is_missing(history: list[Shard | str], size: int) -> None:
    """Whenever a process ends, what it leaves, and what is stored, are all that it logged."""
    life, sequential = Life(size), Sequential()
    for event in history:
        if isinstance(event, str):
            life.do(event)
        else:
            life.box.receive(event)
            sequential.apply(event)
    life.box.receive_close(life.now_ns)
    life.do("hear")
    stored = copy.deepcopy(life.stored)
    reports = [*life.box.last_reports(life.now_ns, life.now_ns)]
    for report in reports:
        stored.receive(report)

    assert [report.final for report in reports] == [False] * (len(reports) - 1) + [True]
    assert [report.follows for report in reports[:1]] == [0]
    assert stored.own("presence/blade/p/status") == "bye"
    assert stored.registers() == sequential.registers()
    assert stored.counters() == sequential.counters()


@given(st.lists(st.one_of(shards, happenings), max_size=60))
def test_chain_is_that_of_the_reports_handed_over(history: list[Shard | str]) -> None:
    """Each report says which one went before it on this connection, the first that none did."""
    life, last = Life(1), 0
    for event in history:
        if not isinstance(event, str):
            life.box.receive(event)
            continue
        before = len(life.under_way)
        life.do(event)
        if event == "up":
            last = 0
        elif event == "send" and len(life.under_way) > before:
            assert life.under_way[-1].follows == last
            last = life.under_way[-1].sequence


def connected(limits: Limits = Limits()) -> Life:  # noqa: B008
    """A process whose first words are stored and acknowledged."""
    life = Life(100_000, limits)
    life.settle()
    return life


def exchange(life: Life) -> None:
    """All that is said arrives, is stored and acknowledged."""
    for event in ("send", "arrive", "store", "hear"):
        life.do(event)


def test_report_that_died_with_its_collector_comes_again() -> None:
    """5 dies in a collector's queue, 6 and 7 reach its successor: nothing of 5 is taken for
    acknowledged, and after the reconnect 8 begins the chain anew, with all three in it.
    """
    life = connected()
    for number in range(3):
        life.box.receive(shard(writes={f"r{number}": 1}, counts={f"c{number}": 1}))
        life.do("send")
    died, *others = life.under_way
    life.under_way = [*others]
    for event in ("arrive", "store", "hear"):
        life.do(event)

    assert [report.follows for report in others] == [died.sequence, died.sequence + 1]
    assert life.acknowledged < died.sequence
    for event in ("break", "up", "send"):
        life.do(event)
    (again,) = life.under_way
    assert (again.sequence, again.follows) == (died.sequence + 3, 0)
    assert [total.path for total in again.totals] == ["c0", "c1", "c2"]
    assert {write.path for write in again.writes} >= {"r0", "r1", "r2"}


def test_what_is_acknowledged_is_not_repeated() -> None:
    """Registers and floors are dropped; totals stay, but only news of them is sent."""
    life = connected()
    life.box.receive(shard(writes={"a": 1}, erases=("e",), counts={"c": 1, "d": 1}))
    exchange(life)
    size, _ = life.box.size()
    life.box.receive(shard(counts={"d": 1}))
    for event in ("break", "up", "send"):
        life.do(event)
    (report,) = life.under_way

    assert size == 2
    assert [(total.path, total.amount) for total in report.totals] == [("d", 2)]
    assert all(is_within(write.path, "shardlog") for write in report.writes)
    assert report.erases == []


def test_what_was_written_meanwhile_is_not_acknowledged() -> None:
    """An acknowledgement concerns what was sent then, not what has taken its place."""
    life = connected()
    life.box.receive(shard(1, writes={"a": "old"}))
    life.do("send")
    life.box.receive(shard(2, writes={"a": "new"}))
    for event in ("arrive", "store", "hear", "send"):
        life.do(event)

    assert [write.value for write in life.under_way[0].writes] == ["new"]


def test_acknowledgement_says_nothing_of_what_was_sent_later() -> None:
    """The report behind the one that is acknowledged may be lost, and comes again."""
    life = connected()
    for number in range(2):
        life.box.receive(shard(writes={f"r{number}": 1}))
        life.do("send")
    life.box.receive_acknowledged(life.under_way[0].sequence)
    for event in ("break", "up", "send"):
        life.do(event)
    (report,) = life.under_way

    repeated = [write.path for write in report.writes if not is_within(write.path, "shardlog")]
    assert repeated == ["r1"]


def test_generation_is_that_of_the_report_that_was_handed_over() -> None:
    """A total that was put back has not begun: others may be retired before it is."""
    life = connected()
    life.box.receive(shard(counts={"c": 1}))
    for event in ("refused", "send"):
        life.do(event)
    (report,) = life.under_way

    assert [total.generation for total in report.totals] == [report.sequence]


def test_acknowledgement_of_what_was_not_sent_is_ignored() -> None:
    """A number that is too large, as a torn or foreign file may hold, does nothing."""
    life = connected()
    life.box.receive(shard(writes={"a": 1}))
    life.do("send")
    life.box.receive_acknowledged(life.under_way[0].sequence + 1)

    assert life.box.has_unacknowledged()
    assert life.box.size()[0] == 1


def test_unacknowledged_registers_outlast_the_window() -> None:
    """Where there are acknowledgements, nothing is dropped for its age."""
    life = connected()
    life.box.receive(shard(writes={"a": 1}))
    life.do("send")
    life.box.handle_timer(life.now_ns + 3_600_000 * MS)

    assert life.box.size()[0] == 1


@pytest.mark.parametrize("has_life", [True, False])
@pytest.mark.parametrize("floor", [shard(erases=("n",)), shard(writes={"n": "text"})])
def test_what_was_sent_does_not_give_way_while_the_link_is_down(
    floor: Shard, *, has_life: bool
) -> None:
    """What ends a count may have been lost with the link: without it, too much would show."""
    life = connected(Limits(paths=20))
    life.box.has_life = has_life
    life.box.receive(shard(counts={"n": 5}))
    exchange(life)
    life.box.receive(floor)
    for event in ("send", "break"):
        life.do(event)
    life.box.receive(shard(counts={"n": 1}))
    life.box.receive(shard(writes={f"w/{number}": 0 for number in range(50)}))
    life.box.check_invariants()
    for event in ("up", "send", "arrive", "store"):
        life.do(event)

    assert life.stored.counters() == {"n": 1}
    assert life.box.refused["paths"] > 30


def test_erase_does_not_give_way_while_it_may_be_lost_with_the_collector() -> None:
    """The link is up, so writes do that were sent; an erase only goes once it is acknowledged."""
    life = connected(Limits(paths=20))
    life.box.receive(shard(counts={"n": 5}))
    exchange(life)
    life.box.receive(shard(erases=("n",)))
    life.do("send")
    life.box.receive(shard(counts={"n": 1}))
    for number in range(50):
        life.box.receive(shard(writes={f"w/{number}": 0}))
        life.do("send")
    assert life.box.refused == {}
    for number in range(50):
        life.box.receive(shard(erases=(f"e/{number}",)))
        life.do("send")
    assert life.box.refused["paths"] > 30
    for event in ("arrive", "crash"):
        life.do(event)
    life.settle()

    assert life.stored.counters() == {"n": 1}


def test_idle_total_is_retired_and_begins_anew() -> None:
    """It is dropped and said to be; the note is repeated until it has arrived; a later count is of
    a greater generation.
    """
    life = connected()
    life.box.receive(shard(counts={"c": 5}))
    exchange(life)
    (row,) = [mark for path, mark in life.stored.marks.items() if path == "c"]
    for event in ("wait", "send", "break", "up", "send"):
        life.do(event)
    (report,) = life.under_way

    assert [(note.path, note.generation) for note in report.retired] == [("c", row.generation)]
    assert report.totals == []
    for event in ("arrive", "store", "hear"):
        life.do(event)
    assert life.box.size()[0] == 0
    assert life.stored.marks == {}
    life.box.receive(shard(counts={"c": 2}))
    exchange(life)
    assert life.stored.marks["c"].generation > row.generation
    assert life.stored.counters() == {"c": 7}


def test_nothing_is_retired_while_an_earlier_generation_may_be_lost() -> None:
    """The receiver would ignore it: `early` is sent first and lost, `late` is acknowledged before
    `early` has been repeated, and the repetition is lost as well.
    """
    life = Life(1)
    life.settle()
    for path in ("early", "late"):
        life.box.receive(shard(counts={path: 1}))
        life.do("send")
    life.do("break")
    life.box.receive(shard(counts={"late": 1}))
    life.do("up")
    while not any(total.path == "early" for r in life.under_way for total in r.totals):
        for event in ("arrive", "store", "hear", "wait", "send"):
            life.do(event)
    for event in ("hole", "send", "arrive", "store"):
        life.do(event)
    life.settle()

    assert life.stored.counters() == {"early": 1, "late": 2}


def test_repetition_ends_with_a_report_that_was_handed_over() -> None:
    """If the last of it was put back, what is in it may still be lost, and nothing is retired."""
    life = connected()
    life.box.receive(shard(counts={"c": 1}))
    exchange(life)
    life.do("up")
    life.do("refused")
    life.box.receive(shard(writes={f"r{number}": "x" * 30_000 for number in range(5)}))
    for event in ("send", "arrive", "store", "hear", "wait"):
        life.do(event)
    life.do("send")

    assert life.under_way[0].retired == []


def test_without_a_life_file_nothing_is_retired() -> None:
    """All totals are kept, and repeated."""
    life = Life(100_000)
    life.box.has_life = False
    life.box.receive(shard(counts={"c": 1}))
    for event in ("up", "send", "wait", "send", "wait", "break", "up", "send"):
        life.do(event)

    assert [[total.path for total in report.totals] for report in life.under_way[-1:]] == [["c"]]
    assert not any(report.retired for report in life.under_way)


def test_table_of_counters_is_bounded() -> None:
    """A process that counts at ever new paths keeps those of the last moments, and so does its
    collector; none is refused, and none is counted less than once.
    """
    life = Life(100_000, Limits(paths=1_000))
    life.settle()
    largest, rows = 0, 0
    for start in range(0, 50_000, 100):
        life.box.receive(shard(counts={f"n/{n}": 1 for n in range(start, start + 100)}))
        life.now_ns += IDLE_MS * MS // 3
        if start % 7_000 == 0:
            life.do("refused")
        if start % 9_000 == 0:
            for event in ("send", "crash", "break", "up"):
                life.do(event)
        box = life.box
        for report in flush(box, life.now_ns):
            life.under_way.append(report)
        for event in ("arrive", "store", "hear"):
            life.do(event)
        box.handle_timer(life.now_ns)
        largest, rows = max(largest, box.size()[0]), max(rows, len(life.stored.marks))
    life.settle()

    assert largest <= 1_000
    assert rows <= 1_000
    assert life.box.refused == {}
    assert len(life.stored.counters()) == 50_000
    assert set(life.stored.counters().values()) == {1}


def test_at_the_end_nothing_is_said_behind_the_final_report() -> None:
    """While its acknowledgement is awaited there are no signs of life, and then it is known."""
    life = connected()
    life.box.receive_close(99)
    life.do("send")
    (final,) = life.under_way

    assert final.final
    assert life.box.next_report(life.now_ns + 10_000 * MS, 1) is None
    assert life.box.has_unacknowledged()
    for event in ("arrive", "store", "hear"):
        life.do(event)
    assert not life.box.has_unacknowledged()


def test_final_report_that_cannot_be_sent_is_made_anew() -> None:
    """What is in it is refused; that the process ends is said all the same."""
    presence: dict[str, Value] = {}
    box = Outbox("p", "blade", presence)
    box.receive_connected(1)
    box.receive_close(2)
    report = box.next_report(0, 0)
    assert report is not None
    box.discard(report, "why", 3)

    assert [(again.final, again.follows) for again in flush(box)] == [(True, 0)]
