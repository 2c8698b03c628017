"""The books of a replica: they balance after every batch, or name what is wrong."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from shardlog.collector.batch import Acknowledge, Persist, Restored
from shardlog.collector.sidecar import sums
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.ledger import Ledger
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt import counter
from shardlog.crdt.delta import REGISTER, Entry, Total
from shardlog.crdt.path import path_keys
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.retention import Retention
from shardlog.crdt.state import State
from shardlog.handler.outbox import Outbox, Pace
from shardlog.monitor.balance import Book, Fault, books
from shardlog.monitor.replica import Shown
from tests.collector.network import stored
from tests.handler.receiver import shard

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount, Value

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
PATHS = ("intents/1/n", "intents/2/n", "intents/2/n/x", "intents/3/m", "plain", "a/b", "a/b/c")
TOPS = ("intents/1", "intents/2/n", "plain", "a", "a/b")
AMOUNTS: tuple[Amount, ...] = (1, 7, (0, 0, 2, 0), (0, 210_000_000, 0, 0), (1, 0, 0, 500_000_000))


class Rig:
    """A collector on virtual time, and processes with real outboxes."""

    def __init__(self, seed: int = 0, **said: Any) -> None:
        self.rng = Random(seed)
        self.now_ns = NOW
        self.said: dict[str, Any] = {
            "presence_interval_ms": 0,
            "retention": Retention({"intents/*": "60s"}),
            **said,
        }
        self.batches: list[Persist] = []
        self.machine = self.start()
        self.boxes: list[Outbox] = []
        self.flying: dict[str, list[Report]] = {}
        self.sent: list[Report] = []
        self.erasing: set[str] = set()
        self.counted: Amount = 0
        self.disk_works = True
        self.begun = 0

    def start(self, restored: Restored | None = None) -> Sidecar:
        return Sidecar(
            SidecarConfig(listen="ipc:///c", to=(), host="node-1", store="/s", **self.said),
            restored or stored(self.batches, "replica-1"),
            process=f"node-1@node-1::1:{self.now_ns}:cc",
            epoch="epoch-1",
            now_ns=self.now_ns,
            bytes_max=1000,
        )

    def begin(self) -> Outbox:
        """Another process, connected."""
        self.begun += 1
        process = f"blade-{self.begun}@node-1:boot:{self.begun}:{self.now_ns}:aa"
        pace = Pace(report_bytes=200, idle_ms=5000)
        box = Outbox(process, f"blade-{self.begun}", {"pid": self.begun}, pace=pace)
        box.has_life = True
        box.receive_connected(self.now_ns)
        self.boxes.append(box)
        return box

    def count(self, box: Outbox, path: str, amount: Amount) -> None:
        self.counted = counter.add(self.counted, amount)
        box.receive(shard(self.now_ns, counts={path: amount}))

    def send(self, box: Outbox) -> None:
        """All that it has to say, heard."""
        self.arrive(box)
        while (report := box.next_report(self.now_ns, self.now_ns)) is not None:
            self.hear(report)
        box.check_invariants()

    def fly(self, box: Outbox) -> None:
        """The next report, on its way; a connection keeps them in order."""
        report = box.next_report(self.now_ns, self.now_ns)
        if report is not None:
            self.flying.setdefault(box.process, []).append(report)

    def arrive(self, box: Outbox) -> None:
        for report in self.flying.pop(box.process, []):
            self.hear(report)

    def hear(self, report: Report) -> None:
        self.sent.append(report)
        self.machine.receive(report, self.now_ns)

    def close_batch(self) -> None:
        """Obey the machine; who is acknowledged hears of it."""
        for effect in self.machine.take_effects():
            if isinstance(effect, Persist):
                if not self.disk_works:
                    self.machine.not_persisted(effect, "full", self.now_ns)
                    continue
                self.batches.append(effect)
                for due in self.machine.persisted(self.now_ns):
                    if isinstance(due, Acknowledge):
                        for box in self.boxes:
                            if box.process == due.process:
                                box.receive_acknowledged(due.sequence)

    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND
        for box in self.boxes:
            box.handle_timer(self.now_ns)
        self.machine.handle_timer(self.now_ns)

    def book(self) -> Book:
        """What it tells of its sums, as of now."""
        self.wait(1)
        self.close_batch()
        if self.disk_works:
            self.machine.check_invariants()
        rows = [
            (path_keys(path), Shown(REGISTER, shown.value, 0, ""))
            for path, shown in self.machine.state.rows("shardlog/health/ledger")
        ]
        (book,) = books(rows)
        return book

    def faults(self) -> list[Fault]:
        return list(self.book().faults())

    def end(self, box: Outbox) -> None:
        """A process ends, and leaves what was not acknowledged."""
        self.boxes.remove(box)
        self.flying.pop(box.process, None)
        box.receive_close(self.now_ns)
        reports = list(box.last_reports(self.now_ns, self.now_ns))
        self.sent += reports
        self.machine.ended(box.process, reports, self.now_ns)

    def may_erase(self, box: Outbox) -> bool:
        """Whether all was acknowledged since it last did: see the known anomaly of the backlog."""
        if box.process in self.erasing and box.has_unacknowledged():
            return False
        self.erasing.add(box.process)
        return True

    def step(self) -> None:
        """Something happens, by chance."""
        rng, box = self.rng, self.rng.choice(self.boxes)
        match rng.randrange(16):
            case 0 | 1 | 2 | 3 | 4:
                self.count(box, rng.choice(PATHS), rng.choice(AMOUNTS))
            case 5 if self.may_erase(box):
                box.receive(shard(self.now_ns, erases=(rng.choice(TOPS),)))
            case 6 if self.may_erase(box):
                box.receive(shard(self.now_ns, writes={rng.choice(TOPS): rng.choice(VALUES)}))
            case 7:
                self.fly(box)
            case 8:
                self.fly(box)
                self.arrive(box)
            case 9:  # a connection breaks, with what is on its way
                self.flying.pop(box.process, None)
                box.receive_disconnected()
                box.receive_connected(self.now_ns)
            case 10:
                report = box.next_report(self.now_ns, self.now_ns)
                if report is not None:
                    box.put_back(report)
            case 11 if self.sent:
                self.machine.receive(rng.choice(self.sent), self.now_ns)
            case 12:
                self.wait(rng.choice((0, 1, 3, 10, 70)))
            case 13:
                self.end(box)
                self.begin()
            case 14 if self.disk_works:
                self.close_batch()
                self.machine = self.start()
            case 15:
                self.disk_works = rng.random() < 0.7
            case _:
                pass
        if rng.random() < 0.5:
            self.close_batch()


VALUES: tuple[Value, ...] = (1, {}, "text")


@pytest.mark.parametrize("paths_max", [1000, 9, 22])
def test_books_balance_after_every_batch(paths_max: int) -> None:
    """However it goes: reports lost, repeated and late, processes that end, restarts, a full disk,
    erases, forgotten records, a limit that refuses. What is not delivered yet is all that is off.
    """
    refused = 0
    for seed in range(40):
        rig = Rig(seed, paths_max=paths_max)
        for _ in range(3):
            rig.begin()
        for _ in range(80):
            rig.step()
            if rig.rng.random() < 0.3:
                assert {fault.term for fault in rig.faults()} <= {"undelivered"}, seed
        rig.disk_works = True
        for box in rig.boxes:
            rig.send(box)
        rig.wait(70)
        book = rig.book()
        assert list(book.faults()) == [], seed
        assert book.terms["counted"] == rig.counted, seed
        refused += counter.value(book.terms["refused"] or 0) != 0
    assert (refused == 0) == (paths_max == 1000)


def rig_with_counts() -> tuple[Rig, Outbox]:
    """Something visible, something at `~`, something erased, all delivered."""
    rig = Rig()
    box = rig.begin()
    rig.count(box, "intents/1/n", 5)
    rig.count(box, "plain", 3)
    rig.send(box)
    rig.wait(70)
    rig.close_batch()
    rig.count(box, "intents/2/n", 2)
    rig.send(box)
    box.receive(shard(rig.now_ns, erases=("plain",)))
    rig.send(box)
    rig.close_batch()
    return rig, box


def test_terms_say_what_became_of_each_count() -> None:
    """Each is measured by itself."""
    rig, _ = rig_with_counts()
    book = rig.book()

    assert list(book.faults()) == []
    assert book.terms == {
        "counted": 10,
        "heard": 10,
        "refused": 0,
        "baseline": 0,
        "visible": 2,
        "moved": 5,
        "erased": 3,
        "collapsed": 5,
        "erased_collapsed": 0,
        "overflow": 0,
    }


def test_lost_excess_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A total whose mark moves, though nothing was added, leaves the entries too low."""
    rig, box = rig_with_counts()

    def lose(_: Ledger, *__: Any) -> bool:
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", lose)
        rig.count(box, "intents/2/n", 4)
        rig.send(box)

    assert rig.faults() == [
        Fault("node-1", "visible", "of 14 that it heard, 4 are not in its counters")
    ]


def test_doubled_entry_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added twice leaves them too high."""
    rig, box = rig_with_counts()
    add = Ledger.add

    def twice(ledger: Ledger, *what: Any) -> bool:
        return add(ledger, *what) and add(ledger, *what)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", twice)
        rig.count(box, "intents/2/n", 4)
        rig.send(box)

    assert rig.faults() == [Fault("node-1", "visible", "its counters have 4 more than it heard")]


def test_dropped_collapse_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaves a record and does not arrive at `~` is missing there."""
    rig, _ = rig_with_counts()
    moved = State.moved

    def drop(state: State, replica: str, path: str, to: str) -> Entry | None:
        return moved(state, replica, path, to) and state.entries(to)[replica]

    with monkeypatch.context() as patch:
        patch.setattr(State, "moved", drop)
        rig.wait(70)
        rig.close_batch()

    assert rig.faults() == [Fault("node-1", "collapsed", "of 7 that went on at ~, 2 are not there")]


def test_damaged_store_is_found() -> None:
    """Entries are added up anew when it is opened: what was lost there is missing."""
    rig, _ = rig_with_counts()
    rig.close_batch()
    saved = stored(rig.batches, "replica-1")
    kept = tuple(entry for entry in saved.entries if entry.path != "intents/2/n")
    rig.machine = rig.start(
        Restored(
            replica="replica-1",
            version=saved.version,
            marks=saved.marks,
            lines=saved.lines,
            entries=kept,
            sums=saved.sums,
        )
    )

    assert [fault.term for fault in rig.faults()] == ["visible"]


def test_process_that_dies_amid_its_reports_is_named() -> None:
    """It told how much it had counted, and part of that never came."""
    rig, other = rig_with_counts()
    box = rig.begin()
    for number in range(20):
        rig.count(box, f"intents/9/{number}", 1)
    rig.fly(box)
    rig.arrive(box)
    (fault,) = rig.faults()
    assert fault.term == "undelivered"
    assert fault.says.startswith("20 counted by blade-2, ")

    rig.boxes = [other]
    rig.machine.ended(box.process, (), rig.now_ns)
    (fault,) = rig.faults()
    assert "by processes that have ended" in fault.says


def test_more_heard_than_counted_is_found() -> None:
    """As by increments that are sent as totals, or by two processes of one id."""
    rig, box = rig_with_counts()
    forged = Report(box.process, 1, rig.now_ns, False, [], [], [Total("x", 1, NOW, NOW, 7)])
    rig.hear(forged)

    assert rig.faults() == [Fault("node-1", "heard", "it heard 7 more than its processes counted")]


def test_refused_total_is_counted_once_and_no_more_when_it_comes_in() -> None:
    """It comes again with each connection, and in once there is room."""
    rig = Rig(paths_max=4)  # three are taken by the presence of the process
    box = rig.begin()
    rig.count(box, "intents/1/n", 1)
    rig.count(box, "intents/2/n", 4)
    rig.send(box)
    for _ in range(3):
        box.receive_disconnected()
        box.receive_connected(rig.now_ns)
        rig.send(box)
    assert rig.book().terms["refused"] == 4
    rig.close_batch()
    rig.said["paths_max"] = 1000
    rig.machine = rig.start()
    assert rig.book().terms["refused"] == 4

    rig.count(box, "intents/2/n", 1)
    rig.send(box)
    book = rig.book()
    assert (book.terms["refused"], list(book.faults())) == (0, [])


def test_more_refused_totals_than_can_be_known_leave_the_term_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says so, instead of what may be wrong; also after a restart."""
    monkeypatch.setattr(sums, "REFUSED_MAX", 2)
    rig = Rig(paths_max=1)
    box = rig.begin()
    for number in range(4):
        rig.count(box, f"intents/{number}/n", 1)
    rig.send(box)
    rig.close_batch()
    rig.machine = rig.start()

    assert rig.faults() == [Fault("node-1", "undelivered", "refused can't be told", known=False)]


def test_sum_that_is_too_large_to_be_sent_is_unknown() -> None:
    """Each counter fits; that they do not together is no loss."""
    rig = Rig()
    box = rig.begin()
    rig.count(box, "intents/1/n", 2**62)
    rig.count(box, "intents/2/n", 2**62)
    rig.send(box)

    assert {(fault.term, fault.known) for fault in rig.faults()} == {
        ("undelivered", False),
        ("visible", False),
    }


def test_more_undelivered_than_can_be_sent_is_unknown_and_ends_no_collector() -> None:
    """Whoever makes up processes makes up what they counted; nor is its next start in danger."""
    rig = Rig()
    for n in range(3):
        process = f"made-up@node-1:boot:{n}:{NOW}:aa"
        made_up = Report(process, 1, NOW, True, [], [], [], counted=counter.PART_MAX)
        rig.machine.receive(made_up, NOW)
    for _ in range(6):
        rig.wait(1)
    rig.close_batch()
    for _ in range(2):
        book = rig.book()
        assert [row[0] for row in book.undelivered] == [""]
        assert (book.terms["counted"], book.terms["heard"]) == (None, 0)
        assert [fault.known for fault in book.faults()] == [False]
        rig.machine = rig.start()


def test_store_of_an_earlier_version_begins_with_what_it_holds() -> None:
    """All there counts as heard; of a process that lives on, all until its next report."""
    rig, box = rig_with_counts()
    saved = stored(rig.batches, "replica-1")
    rig.machine = rig.start(
        Restored(
            replica="replica-1",
            version=saved.version,
            marks=saved.marks,
            lines=saved.lines,
            entries=saved.entries,
            registers=saved.registers,
        )
    )
    rig.count(box, "intents/2/n", 4)
    rig.send(box)
    rig.count(box, "intents/2/n", 1)
    rig.send(box)
    book = rig.book()

    assert list(book.faults()) == []
    assert (book.terms["baseline"], book.terms["visible"]) == (10, 7)


def test_sums_are_told_only_when_they_change() -> None:
    """A quiet host writes nothing."""
    rig, _ = rig_with_counts()
    rig.book()
    for _ in range(2):
        rig.wait(1)
        rig.close_batch()
    told = [path for batch in rig.batches[-2:] for path, *_ in batch.registers]

    assert not [path for path in told if path.startswith("shardlog/health/ledger")]
