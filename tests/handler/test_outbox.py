"""What a process sends, and what a receiver has of it in the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt import counter
from shardlog.crdt.delta import item_bytes
from shardlog.crdt.path import is_within
from shardlog.crdt.wire.codec import decode_report, encode
from shardlog.handler.backlog import Limits
from shardlog.handler.outbox import Outbox, Pace
from tests.handler.receiver import (
    MS,
    PATHS,
    SECOND,
    Receiver,
    Sequential,
    connected,
    flush,
    hand_over,
    outbox,
    shard,
    shards,
)

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount
    from shardlog.crdt.replication.messages import Report
    from shardlog.handler.shard import Shard

happenings = ["send", "send", "refused", "arrive", "again", "lost", "break", "up", "up", "wait"]
events = st.one_of(shards, shards, st.sampled_from(happenings))
resets = st.one_of(
    st.builds(shard, st.just(1), counts=st.just({"a/b": 1})),
    st.builds(shard, st.just(1), erases=st.sampled_from([("a",), ("a/b",)])),
    st.sampled_from([event for event in happenings if event != "lost"]),
)


class Link:
    """A link on which reports are under way, refused, lost with all behind them, or come again.

    At a `break` all that was under way arrives, though the sender cannot know.
    """

    def __init__(self, box: Outbox) -> None:
        self.box = box
        self.receiver = Receiver()
        self.under_way: list[Report] = []
        self.arrived: list[Report] = []
        self.now_ns = 0

    def do(self, event: str) -> None:
        """One thing that happens."""
        box = self.box
        self.now_ns += 1
        if event == "up" and not box.connected:
            box.receive_connected(self.now_ns)
        elif event in ("lost", "break"):
            if event == "break":
                self.arrive()
            self.under_way.clear()
            box.receive_disconnected()
        elif event == "wait":
            self.now_ns += 70 * SECOND
            self.arrive()
            box.handle_timer(self.now_ns)
        elif event == "arrive":
            self.arrive()
        elif event == "again" and self.arrived:
            self.receiver.receive(self.arrived[len(self.arrived) // 2])
        elif event in ("send", "refused") and box.connected:
            self.under_way += hand_over(box, self.now_ns, refused=event == "refused")
        box.check_invariants()

    def arrive(self) -> None:
        """All that is under way arrives."""
        for report in self.under_way:
            self.receiver.receive(report)
        self.arrived += self.under_way
        self.under_way.clear()

    def settle(self) -> None:
        """A last connection on which all arrives."""
        self.do("lost")
        self.do("up")
        while self.box.has_unsent():
            self.do("send")
        self.arrive()


@given(st.lists(events, max_size=40), st.sampled_from([1, 150, 100_000]))
def test_receiver_ends_up_with_what_was_logged(history: list[Shard | str], size: int) -> None:
    """Whatever was refused, lost at a break, repeated or duplicated: in the end the receiver shows
    each register and each count as if all shards had been applied one by one.
    """
    link, sequential = Link(outbox(pace=Pace(size))), Sequential()
    for event in history:
        if isinstance(event, str):
            link.do(event)
        else:
            link.box.receive(event)
            sequential.apply(event)
            link.box.check_invariants()
    link.settle()

    assert link.receiver.registers() == sequential.registers()
    assert link.receiver.counters() == sequential.counters()


@given(st.lists(resets, max_size=40))
def test_no_count_is_lost_or_doubled(history: list[Shard | str]) -> None:
    """Where no report is lost, all that was ever counted was added once, erased counts included."""
    link, counted = Link(outbox(pace=Pace(150))), dict.fromkeys(PATHS, 0)
    sums: dict[str, Amount] = {**counted}
    for event in history:
        if isinstance(event, str):
            link.do(event)
        else:
            link.box.receive(event)
            for path, amount in event.counts:
                sums[path] = counter.add(sums[path], amount)
    link.do("up")
    while link.box.has_unsent():
        link.do("send")
    link.arrive()

    added = {path: tally.total for path, tally in link.receiver.tallies.items()}
    assert {path: added.get(path, 0) for path in PATHS} == sums


@given(st.lists(events, max_size=60))
def test_memory_is_bounded(history: list[Shard | str]) -> None:
    """However much is logged, at most as many registers, and totals, as the limit are held, as many
    floors that a `{}` has left behind, and the few that shardlog writes; and no more bytes.
    """
    limits = Limits(paths=3, bytes=300)
    link = Link(outbox(limits, Pace(150)))
    for event in history:
        if isinstance(event, str):
            link.do(event)
        else:
            link.box.receive(event)
            link.box.check_invariants()
        own = 4 + 2 * len(link.box.refused)
        paths, size = link.box.size()
        assert paths <= 2 * limits.paths + own
        assert size <= 2 * limits.bytes + own * 150


@given(st.lists(shards, max_size=30))
def test_what_is_refused_is_counted(history: list[Shard]) -> None:
    """With nobody there and no room, each item is held, conflated into one that is, or refused."""
    box = outbox(Limits(paths=2))
    sequential = Sequential()
    for logged in history:
        box.receive(logged)
        sequential.apply(logged)
    link = Link(box)
    link.settle()

    if "paths" not in box.refused:
        assert link.receiver.registers() == sequential.registers()
        assert link.receiver.counters() == sequential.counters()
    else:
        path = "shardlog/health/blade/blade/refused/paths"
        assert link.receiver.tallies[path].total == box.refused["paths"]
        assert link.receiver.own("health/blade/blade/first/paths") in PATHS


@given(st.lists(events, max_size=40))
def test_sequences_rise_and_are_used_once(history: list[Shard | str]) -> None:
    """Each report has the next sequence, that of a refused one is not used again, and no total
    comes in a generation that is later than its report.
    """
    box = outbox(pace=Pace(1))
    link = Link(box)
    seen: list[Report] = []
    take = box.next_report

    def next_report(now_ns: int, wall_ns: int) -> Report | None:
        report = take(now_ns, wall_ns)
        seen.extend([] if report is None else [report])
        return report

    box.next_report = next_report  # type: ignore[method-assign]
    for event in history:
        link.do(event) if isinstance(event, str) else box.receive(event)

    assert [report.sequence for report in seen] == [*range(1, len(seen) + 1)]
    for report in seen:
        assert all(0 < total.generation <= report.sequence for total in report.totals)


def test_registers_conflate_to_the_newest_and_counts_to_their_sum() -> None:
    """A thousand log calls are one report of two items."""
    box = connected(outbox())
    for number in range(1000):
        box.receive(shard(10 * number, writes={"a/b": number}, counts={"c": 1}))
    (report,) = flush(box)
    (total,) = report.totals

    assert [(write.path, write.value) for write in report.writes] == [("a/b", 999)]
    assert (total.path, total.amount) == ("c", 1000)
    assert total.born < 20
    assert total.last > 9990


def test_nothing_is_due_before_there_is_something_to_say() -> None:
    """A report without anything is due each heartbeat interval, and says that the process lives."""
    box = connected(outbox())

    assert box.next_report(999 * MS, 7) is None
    assert box.next_timer_ns() == 1_000 * MS
    heartbeat = box.next_report(1_000 * MS, 7)
    assert heartbeat is not None
    assert (heartbeat.sent_ns, heartbeat.final) == (7, False)
    assert (heartbeat.writes, heartbeat.erases, heartbeat.totals) == ([], [], [])


def test_presence_is_said_again_after_each_break() -> None:
    """Who, where and since when; `up` comes with a new stamp, above a `lost` said meanwhile."""
    box = outbox()
    box.receive_connected(10)
    (first,) = flush(box)
    box.receive_disconnected()
    box.receive_connected(20)
    (second,) = flush(box)

    top = "shardlog/presence/blade/p"
    assert {write.path: write.value for write in first.writes} == {
        f"{top}/host": "node",
        f"{top}/pid": 1,
        f"{top}/started": 5,
        f"{top}/status": "up",
    }
    assert [write.stamp for write in second.writes] == [20] * 4


def test_last_report_is_final_and_says_bye() -> None:
    """All that is left goes first; only the report behind which nothing follows is final."""
    box = connected(outbox(pace=Pace(1)))
    box.receive(shard(writes={"a": 1, "b": 2}))
    box.receive_close(99)
    reports = flush(box)

    assert [report.final for report in reports] == [False] * (len(reports) - 1) + [True]
    receiver = Receiver()
    for report in reports:
        receiver.receive(report)
    assert receiver.own("presence/blade/p/status") == "bye"


def test_final_report_that_was_refused_is_due_again() -> None:
    """A process that could not say bye has not said it."""
    box = connected(outbox())
    box.receive_close(99)
    report = box.next_report(0, 0)
    assert report is not None
    box.put_back(report)

    assert box.has_unsent()
    assert [again.final for again in flush(box)] == [True]


def test_what_was_sent_is_repeated_within_the_window_only() -> None:
    """After a break a register comes again if it was sent lately, a total always."""
    for waited_ms, repeated in ((59_000, {"a"}), (61_000, set[str]())):
        box = connected(outbox())
        box.receive(shard(writes={"a": 1}, counts={"c": 1}))
        flush(box)
        box.handle_timer(waited_ms * MS)
        box.receive_disconnected()
        box.receive_connected(1)
        (report,) = flush(box, waited_ms * MS)

        assert {w.path for w in report.writes if not is_within(w.path, "shardlog")} == repeated
        assert [total.path for total in report.totals] == ["c"]


def test_window_stands_still_while_the_link_is_down() -> None:
    """What was sent just before the break is repeated, however long the break."""
    box = connected(outbox())
    box.receive(shard(writes={"a": 1}))
    flush(box)
    box.receive_disconnected()
    box.handle_timer(3600 * SECOND)
    box.receive_connected(1)
    (report,) = flush(box, 3600 * SECOND)

    assert "a" in {write.path for write in report.writes}


def test_reports_are_split_by_size() -> None:
    """No report is larger than its goal and one item."""
    goal = 4_000
    box = connected(outbox(pace=Pace(goal)))
    box.receive(shard(writes={f"r/{n}": "x" * 500 for n in range(100)}))
    reports = flush(box)

    sizes = [sum(map(item_bytes, report.writes)) for report in reports]
    assert sum(len(report.writes) for report in reports) == 100
    assert max(sizes) < goal + 600
    assert len(sizes) < 20


def test_time_of_a_report_says_up_to_when_all_is_said() -> None:
    """While more is to follow it stays at what it was: nothing older than it is unsent."""
    box = connected(outbox(pace=Pace(1)))
    box.receive(shard(writes={"a": 1, "b": 2, "c": 3}))

    assert [report.sent_ns for report in flush(box, 0, wall_ns=99)] == [0, 0, 99]


def test_floor_stands_between_the_old_total_and_the_new() -> None:
    """Count, erase, count: the old total, the floor and the new total arrive in this order, in
    reports of which each applies erases before totals.
    """
    box = connected(outbox())
    box.receive(shard(1, counts={"a/c": 5}))
    box.receive(shard(2, erases=("a",)))
    box.receive(shard(3, counts={"a/c": 2}))
    ended, floor = flush(box)

    assert [(total.amount, total.generation) for total in ended.totals] == [(5, ended.sequence)]
    assert [erase.path for erase in floor.erases] == ["a"]
    assert [(total.amount, total.generation) for total in floor.totals] == [(2, floor.sequence)]
    assert ended.totals[0].last < floor.erases[0].stamp < floor.totals[0].born


def test_ended_generation_that_is_repeated_takes_in_no_later_one() -> None:
    """After a break the old generation is repeated; one that ends meanwhile was sent in part, so
    that only its own number says what the receiver lacks of it.
    """
    link = Link(connected(outbox()))
    for logged in (
        shard(counts={"c": 1}),
        shard(erases=("c",)),  # ends the first generation, which is sent as such
        shard(counts={"c": 10}),  # sent as the second
    ):
        link.box.receive(logged)
    while link.box.has_unsent():
        link.do("send")
    link.do("break")
    link.do("up")
    link.box.receive(shard(counts={"c": 100}))
    link.box.receive(shard(erases=("c",)))
    while link.box.has_unsent():
        link.do("send")
    link.arrive()

    assert link.receiver.tallies["c"].total == 111
    assert link.receiver.counters() == {}


def test_scalar_that_gives_way_to_presence_leaves_its_floor() -> None:
    """a/b, then a scalar at a, then `{}` at a: what the scalar overwrote stays overwritten."""
    box = connected(outbox())
    receiver = Receiver()
    box.receive(shard(1, writes={"a/b": 1}))
    for report in flush(box):
        receiver.receive(report)
    box.receive(shard(2, writes={"a": "scalar"}))
    box.receive(shard(3, writes={"a": {}}))
    for report in flush(box):
        receiver.receive(report)

    assert receiver.registers() == {"a": {}}


def test_stamps_rise_though_the_clock_steps_back() -> None:
    """The later log call wins, whatever the clock says."""
    box = connected(outbox())
    box.receive(shard(1_000, writes={"a": "first"}))
    before = box.next_report(0, 0)
    box.receive(shard(10, writes={"a": "second"}))
    after = box.next_report(0, 0)

    assert before is not None
    assert after is not None
    assert before.writes[0].stamp < after.writes[0].stamp


def test_refusals_are_counted_and_the_first_is_named() -> None:
    """How many, by reason, is a counter; the first sample of each reason a register."""
    box = outbox()
    for sample in ("a/b: too deep", "c: too deep"):
        box.receive(shard()._replace(refused={"depth": (2, sample)}))
    box.receive_connected(1)
    receiver = Receiver()
    for report in flush(box):
        receiver.receive(report)

    assert box.refused == {"depth": 4}
    assert receiver.tallies["shardlog/health/blade/blade/refused/depth"].total == 4
    assert receiver.own("health/blade/blade/first/depth") == "a/b: too deep"


@pytest.mark.parametrize("reason", ["paths", "bytes"])
def test_what_was_sent_gives_way_before_anything_is_refused(reason: str) -> None:
    """Connected, a process may write any number of paths: only what waits has a limit. While the
    link is down, what was sent may be lost, and waits too.
    """
    limits = Limits(paths=50) if reason == "paths" else Limits(bytes=50 * 100)
    box = connected(outbox(limits))
    for number in range(500):
        box.receive(shard(number, writes={f"r/{number}": "x" * 20}))
        flush(box)
    assert box.refused == {}

    box.receive_disconnected()
    for number in range(500):
        box.receive(shard(number, writes={f"s/{number}": "x" * 20}))
    assert box.refused == {reason: 500}


def test_erase_and_overwrite_are_taken_though_there_is_no_room() -> None:
    """What frees places is never refused for want of them."""
    box = outbox(Limits(paths=4))
    box.receive(shard(writes={"a/0": 0, "a/1": 1, "b/0": 0, "b/1": 1}))
    box.receive(shard(erases=("a",), writes={"b": 1}))
    link = Link(box)
    link.settle()

    assert box.refused == {}
    assert link.receiver.registers() == {"b": 1}


def test_total_that_would_not_fit_is_refused() -> None:
    """A total beyond 64 bits is not sent; what it was stays."""
    box = connected(outbox())
    box.receive(shard(counts={"c": counter.PART_MAX}))
    box.receive(shard(counts={"c": 1}))
    (report,) = flush(box)

    assert [t.amount for t in report.totals if t.path == "c"] == [counter.PART_MAX]
    assert box.refused == {"overflow": 1}


@pytest.mark.parametrize("amount", [counter.PART_MAX + 1, (0, 0, 2**64, 0)])
def test_first_total_of_a_path_that_would_not_fit_is_refused(amount: Amount) -> None:
    """What was added within one round may be too much at once: all else is sent."""
    box = connected(outbox())
    box.receive(shard(counts={"c": amount, "d": 2}))
    (report,) = flush(box)

    assert {t.path: t.amount for t in decode_report(encode(report)).totals} == {
        "d": 2,
        "shardlog/health/blade/blade/refused/overflow": 1,
    }


def test_what_cannot_be_sent_is_refused_and_forgotten() -> None:
    """One report that no frame can be made of does not hold up the others."""
    box = connected(outbox())
    box.receive(shard(writes={"a": 1}, erases=("e",), counts={"c": 1}))
    report = box.next_report(0, 0)
    assert report is not None
    box.discard(report, "why", 1)
    box.check_invariants()

    assert box.refused == {"encoding": 3}
    paths = Counter(write.path for report in flush(box) for write in report.writes)
    assert paths == {"shardlog/health/blade/blade/first/encoding": 1}


def test_report_says_what_was_counted_at_all_paths_so_far() -> None:
    """Also what was erased since, once and for all; what a limit refused was not."""
    box = outbox(Limits(paths=9))
    box.receive_connected(0)
    box.receive(shard(1, counts={"a": 1, "b": (0, 0, 2, 0)}))
    assert flush(box)[-1].counted == (1, 0, 2, 0)
    box.receive(shard(2, erases=("a",)))
    box.receive(shard(3, counts={"a": 4}))
    flush(box)
    box.receive_disconnected()
    box.receive_connected(4)
    assert {report.counted for report in flush(box)} == {(5, 0, 2, 0)}
    for number in range(20):
        box.receive(shard(5, counts={f"more/{number}": 1}))
    taken = 20 - box.refused["paths"]
    (*_, last) = box.last_reports(6, 6)
    assert last.counted == (5 + taken, 0, 2, 0)


def test_sum_of_counts_leaves_out_what_shardlog_itself_keeps() -> None:
    """As collectors do, whose sums it is compared with: errors are counted there."""
    box = outbox()
    box.receive_connected(0)
    box.receive(shard(1, counts={"a": 3, "shardlog/errors/x/n": 4, "shardlogs": 5}))

    assert flush(box)[-1].counted == 8


def test_sum_of_counts_that_is_too_large_to_be_sent_is_cut() -> None:
    """Each of them can be sent, and is."""
    box = outbox()
    box.receive_connected(0)
    box.receive(shard(1, counts={"a": counter.PART_MAX, "b": 1}))

    (report,) = flush(box)
    assert (report.counted, len(report.totals)) == (counter.PART_MAX, 2)


def test_erased_count_is_sent_again_until_it_is_acknowledged() -> None:
    """Nothing of it would show, but it was counted: a link that breaks may have lost it."""
    box = outbox()
    box.has_life = True
    box.receive_connected(0)
    box.receive(shard(1, counts={"a": 3}))
    (lost,) = flush(box)
    box.receive(shard(2, erases=("a",)))
    flush(box)
    box.receive_disconnected()
    box.receive_connected(3)

    reports = flush(box)
    assert [total for report in reports for total in report.totals] == lost.totals
    box.receive_acknowledged(reports[-1].sequence)
    box.receive_disconnected()
    box.receive_connected(4)
    assert [total for report in flush(box) for total in report.totals] == []
