"""Reports that wait are joined: what becomes of them is what became of each alone."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.collector.batch import Persist
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.joining import KEPT_MAX, join
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import Amount, Erase, Retired, Total, Value, Write
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.wire.codec import decode_report, encode
from shardlog.handler.outbox import Outbox, Pace
from tests.collector.network import stored
from tests.handler.receiver import shard

if TYPE_CHECKING:
    from shardlog.collector.batch import Restored

SECOND = 1_000_000_000
MS = 1_000_000
NOW = 1_700_000_000 * SECOND
FAR = NOW + 7_200 * SECOND
"""So far ahead that a process says no more of its presence."""
PROCESS = "scraper-1@node-1:boot:1:1:aa"
AMOUNTS: list[Amount] = [1, 7, (0, 5, 2, 0)]
VALUES: list[Value] = [1, "text", None, b"bytes", [1, [2]]]
TAILS = ["a", "a/b", "a/b/c", "a/c", "b", "b/c"]


class Life:
    """A process that says all kinds of things, over a link that comes and goes."""

    def __init__(self, number: int, rng: Random) -> None:
        self.rng = rng
        self.blade = f"blade-{number}"
        process = f"{self.blade}@node-1:boot:{number}:{NOW}:aa"
        self.box = Outbox(process, self.blade, {"pid": number}, pace=Pace(200, idle_ms=500))
        self.box.has_life = True
        self.box.receive_connected(NOW)
        self.sent: list[int] = []
        self.last = "counts", [self.blade]

    def say(self, now_ns: int) -> None:
        """One log call."""
        rng = self.rng
        kind = rng.choices(("counts", "values", "{}", "erase"), (6, 6, 1, 1))[0]
        paths = [f"{self.blade}/{tail}" for tail in rng.sample(TAILS, rng.randint(1, 3))]
        if kind in ("counts", "values") and rng.random() < 0.9:  # usually one path has one kind
            paths = [f"{path}/{kind}" for path in paths]
        if rng.random() < 0.5:  # the same again, as most programs do
            kind, paths = self.last
        self.last = kind, paths
        if kind == "counts":
            said = shard(now_ns, counts=dict.fromkeys(paths, rng.choice(AMOUNTS)))
        elif kind == "erase":
            said = shard(now_ns, erases=(paths[0],))
        else:
            value = {} if kind == "{}" else rng.choice(VALUES)
            said = shard(now_ns, writes=dict.fromkeys(paths, value))
        self.box.receive(said)

    def send(self, now_ns: int) -> list[bytes]:
        """What it flushes, now and then after its link broke, or its words arrived."""
        chance = self.rng.random()
        if chance < 0.03:
            self.box.receive_disconnected()
            self.box.receive_connected(now_ns)
            self.sent.clear()
        elif chance < 0.2 and self.sent:
            self.box.receive_acknowledged(self.rng.choice(self.sent))
            self.box.handle_timer(now_ns)
        frames: list[bytes] = []
        while (report := self.box.next_report(now_ns, now_ns)) is not None:
            self.sent.append(report.sequence)
            frames.append(encode(report))
        self.box.check_invariants()
        return frames if self.rng.random() < 0.97 else frames[:-1]


class Collector:
    """A machine, and all that it persisted."""

    def __init__(self, named: tuple[str, ...] | None = None) -> None:
        self.machine = Sidecar(
            SidecarConfig(
                listen="ipc:///c", to=(), host="node-1", store="/s", presence_interval_ms=0
            ),
            stored([], "replica-1"),
            process=f"node-1@node-1::1:{NOW}:cc",
            epoch="epoch-1",
            now_ns=NOW,
            bytes_max=1 << 20,
            named=named,
        )
        self.batches: list[Persist] = []

    def settle(self, now_ns: int) -> None:
        """Close the batch."""
        self.machine.handle_timer(now_ns)
        for effect in self.machine.take_effects():
            if isinstance(effect, Persist):
                self.batches.append(effect)
                self.machine.persisted(now_ns)
        self.machine.check_invariants()

    def shown(self) -> list[Any]:
        """All that shows, but for that."""
        return [row for row in self.machine.state.rows() if not row[0].endswith("/heard")]

    def rows(self) -> Restored:
        """What its store holds, in one order, but for when processes were heard."""
        held = stored(self.batches, "replica-1")
        return replace(
            held,
            entries=tuple(sorted(held.entries, key=lambda entry: entry.path)),
            registers=tuple(
                sorted(
                    (row for row in held.registers if not row[0].endswith("/heard")),
                    key=lambda row: row[0],
                )
            ),
        )


@pytest.mark.parametrize("seed", range(40))
def test_what_is_joined_leaves_what_each_report_alone_would_leave(seed: int) -> None:
    """Store, state and books are equal, whatever processes say, erase, repeat, retire and lose."""
    rng = Random(seed)
    lives = [Life(number, rng) for number in range(3)]
    alone, joined = Collector(), Collector()
    now_ns, joins, anew = NOW, 0, 0
    for _ in range(40):
        waiting: list[bytes] = []
        for _ in range(rng.randint(1, 12)):
            now_ns += rng.randint(1, 100) * MS
            life = rng.choice(lives)
            for _ in range(rng.randint(0, 4)):
                life.say(now_ns)
            waiting += life.send(now_ns)
        for frame in waiting:
            single = decode_report(frame)
            anew += single.since > 0
            alone.machine.receive(single, now_ns)
        taken = list(join(waiting))
        joins += len(waiting) - len(taken)
        for report in taken:
            assert isinstance(report, Report)
            joined.machine.receive(report, now_ns)
        alone.settle(now_ns)
        joined.settle(now_ns)
        assert joined.rows() == alone.rows()
        assert joined.shown() == alone.shown()
    assert joins > 50
    assert anew > 5


def chain(*reports: dict[str, Any]) -> list[Report]:
    """Reports of one process in line; the first follows another."""
    made = [Report(PROCESS, n, NOW, False, [], [], [], n - 1) for n in range(2, len(reports) + 2)]
    return [_with(report, said) for report, said in zip(made, reports, strict=True)]


def _with(report: Report, said: dict[str, Any]) -> Report:
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    return Report(**(fields | said))


def join_all(reports: list[Report]) -> list[Report | RemoteProtocolError]:
    return list(join(map(encode, reports)))


def write(path: str, value: Any, stamp: int = 1) -> Write:
    return Write(path, stamp, 0, value)


def test_reports_at_the_same_paths_become_one_with_the_newest_of_each() -> None:
    """It follows what the first followed, and has the sequence and the sums of the last."""
    reports = chain(
        *(
            {"writes": [write("a", n, n)], "totals": [Total("n", 1, 1, n, n)], "counted": n}
            for n in range(1, 5)
        )
    )
    (report,) = join_all(reports)
    assert report == _with(reports[-1], {"follows": 1})


def test_reports_at_several_paths_become_one_with_all_of_them() -> None:
    """What only an earlier one says is not lost, nor the floors with which the first begins."""
    (report,) = join_all(
        chain(
            {"erases": [Erase("a", 1, 0)], "writes": [write("a/x", 1, 2)]},
            {"writes": [write("a/y", 1, 3)], "totals": [Total("n", 3, 1, 1, 1)]},
            {"writes": [write("a/x", 2, 4)]},
        )
    )
    assert isinstance(report, Report)
    assert {w.path: w.value for w in report.writes} == {"a/x": 2, "a/y": 1}
    assert (report.totals, report.erases) == ([Total("n", 3, 1, 1, 1)], [Erase("a", 1, 0)])


def test_what_is_superseded_is_not_even_decoded() -> None:
    """What is wrong in it harms nobody, and the others are in line."""
    first, wrong, newest, last = chain(
        {"writes": [write("a", 1)], "totals": [Total("n", 3, 1, 1, 1)]},
        {"writes": [write("b\\", 2)]},
        {"writes": [write("b", 3)], "since": 3},
        {"writes": [write("b", 4)], "erases": [Erase("b", 1, 0)]},
    )
    assert join_all([first, wrong, newest, last]) == [
        _with(
            newest,
            {
                "follows": 1,
                "writes": [*first.writes, *newest.writes],
                "totals": first.totals,
            },
        ),
        last,
    ]


def test_what_is_superseded_behind_a_hole_still_stands() -> None:
    """It is another connection's, or was said before something that is missing."""
    first, second = chain({"writes": [write("a", 1)]}, {"writes": [write("a", 2)], "since": 2})
    again = _with(second, {"sequence": 9, "follows": 8})
    assert join_all([first, again]) == [first, again]


def flush(box: Outbox) -> list[Report]:
    """All that it has to say."""
    return list(iter(lambda: box.next_report(NOW, NOW), None))


def test_a_report_says_anew_what_those_before_it_said() -> None:
    """At the same paths or more, in the same generations, and nothing is erased."""
    box = Life(1, Random(1)).box
    said = [
        shard(NOW, writes={"a": 0}, counts={"n": 1}),
        shard(NOW, writes={"a": 1}, counts={"n": 1}),
        shard(NOW, writes={"a": 2}, counts={"n": 1}),
        shard(NOW, writes={"a": 3, "b": 1}, counts={"n": 1}),
        shard(NOW, writes={"a": 4}, counts={"n": 1}),
        shard(NOW, writes={"a": 5}, counts={"n": 1}),
        shard(NOW, writes={"a": {}}, counts={"n": 1}),
        shard(NOW, erases=("n",), counts={"m": 1}),
        shard(NOW, counts={"m": 1}),
        shard(NOW, counts={"m": 1}),
        shard(NOW, writes={"m": 1}, counts={"m": 1}),
    ]
    before = flush(box)
    assert not any(report.since for report in before)
    reports: list[Report] = []
    for each in said:
        box.receive(each)
        reports += flush(box)
    since = [report.since and report.since - before[-1].sequence for report in reports]
    assert since == [0, 1, 1, 1, 0, 5, 0, 0, 0, 0, 10, 10, 0]


def test_no_report_supersedes_the_last() -> None:
    """What comes behind it, as from another thread, leaves it: it says how the process ended."""
    box = Life(1, Random(1)).box
    box.receive(shard(FAR, counts={"n": 1}))
    flush(box)
    box.receive_close(NOW)
    (last,) = flush(box)
    box.receive(shard(FAR, counts={"n": 1}))
    (behind,) = flush(box)
    assert (last.final, behind.final, behind.since) == (True, False, 0)


def test_no_report_supersedes_the_first_of_a_connection() -> None:
    """Its sequence is the baseline of what a lost store may have heard."""
    box = Life(1, Random(1)).box
    box.receive_acknowledged(flush(box)[-1].sequence)
    box.receive(shard(FAR, writes={"a": 1}))
    flush(box)
    box.receive_disconnected()
    box.receive_connected(NOW)
    (first,) = flush(box)
    box.receive(shard(FAR, writes={"a": 2}))
    (behind,) = flush(box)
    assert (first.follows, behind.follows, behind.since) == (0, first.sequence, 0)


def test_an_empty_dict_supersedes_no_scalar() -> None:
    """The scalar's floor stays, also where the handler has forgotten that it was there."""
    box = Life(1, Random(1)).box
    box.has_life = False
    box.receive(shard(NOW, writes={"a": 1}))
    flush(box)
    box.handle_timer(NOW + 120 * SECOND)
    box.receive(shard(NOW, writes={"a": {}}))
    (report,) = flush(box)
    assert (report.erases, report.since) == ([], 0)


APART: list[list[dict[str, Any]]] = [
    [{}, {"follows": 0}],
    [{"follows": 0}, {}],
    [{}, {"sequence": 4, "follows": 3}],
    [{}, {"sequence": 2, "follows": 2}],
    [{}, {"erases": [Erase("a", 1, 0)]}],
    [{"retired": [Retired("a", 1)]}, {}],
    [{"final": True}, {}],
    [{"totals": [Total("a/n", 1, 1, 1, 1)]}, {"writes": [write("a", 1)]}],
    [{"totals": [Total("a", 1, 1, 1, 1)]}, {"writes": [write("a", 1)]}],
    [{"writes": [write("a", 1)]}, {"writes": [write("a", {})]}],
]


@pytest.mark.parametrize("said", APART)
def test_what_would_mean_something_else_is_not_joined(said: list[dict[str, Any]]) -> None:
    """Behind a hole, around floors and repetitions, where a write may end a total."""
    reports = chain(*said)
    assert join_all(reports) == reports


def test_what_is_not_valid_is_refused_alone() -> None:
    """The error is told, and what is beside it is taken, behind a hole if it came later."""
    reports = chain(
        {"writes": [write("a", 1)]},
        {"writes": [write("b\\", 1)]},
        {"writes": [write("c", 1)]},
    )
    first, error, last = join([encode(reports[0]), encode(reports[1]), encode(reports[2])])
    assert (first, last) == (reports[0], reports[2])
    assert isinstance(error, RemoteProtocolError)
    assert error.reason == "malformed"


def test_what_is_no_report_is_refused_and_the_others_are_joined() -> None:
    """A frame of somebody else tears no chain."""
    first, last = chain({"writes": [write("a", 1)]}, {"writes": [write("a", 2)]})
    error, report = join([encode(first), b"\x01\xc0", encode(last)])
    assert isinstance(error, RemoteProtocolError)
    assert report == _with(last, {"follows": 1})


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3 * KEPT_MAX))
def test_whatever_paths_follow_one_another_the_newest_of_each_is_kept(paths: list[str]) -> None:
    """Also where more wait than are kept at once: then there are several, in order."""
    reports = chain(*({"writes": [write(path, n, n)]} for n, path in enumerate(paths)))
    found: dict[str, Any] = {}
    for report in join_all(reports):
        assert isinstance(report, Report)
        found |= {w.path: w.value for w in report.writes}
    assert found == {path: n for n, path in enumerate(paths)}


def test_what_a_joined_report_first_carries_is_counted_after_a_loss() -> None:
    """The baseline of a process is where its first report begins, not where what is joined ends."""
    machine = Collector(named=("lost",)).machine
    counted = Total("new", 3, 1, 2, 5)
    again = {"follows": 0, "totals": [Total("old", 1, 1, 2, 9), counted]}
    first, repetition = join_all(chain({}, {"totals": [counted]}, {"totals": [counted]}, again))
    for report in (first, repetition):
        assert isinstance(report, Report)
        machine.receive(report, NOW)
    assert (machine.state.total("new"), machine.state.total("old")) == (5, 0)
