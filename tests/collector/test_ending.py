"""Acknowledgements and ends: what a process may forget, and what its collector may, at its end."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.collector.batch import Acknowledge, Persist, Remove, Restored
from shardlog.collector.sidecar.closed import BUCKET_IDS, KEPT_MAX, ClosedIds
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import Erase, Retired, Total, Write
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.retention import Retention
from tests.collector.network import stored

SECOND = 1_000_000_000
DAY = 24 * 3600 * SECOND
NOW = 1_700_000_000 * SECOND
P = f"blade@node:boot:1:{NOW}:aa"


def sidecar(restored: Restored | None = None, now_ns: int = NOW, **said: Any) -> Sidecar:
    return Sidecar(
        SidecarConfig(listen="ipc:///c", to=(), host="node-1", store="/s", **said),
        restored or Restored(replica="replica-1"),
        process="node-1@node-1::1:1:cc",
        epoch="epoch-1",
        now_ns=now_ns,
        bytes_max=10_000,
    )


def report(
    sequence: int,
    *totals: Total,
    follows: int = 0,
    process: str = P,
    final: bool = False,
    writes: tuple[Write, ...] = (),
    retired: tuple[Retired, ...] = (),
) -> Report:
    return Report(
        process, sequence, NOW, final, list(writes), [], list(totals), follows, list(retired)
    )


def total(generation: int, n: int, path: str = "n") -> Total:
    return Total(path, generation, NOW, NOW, n)


def settle(machine: Sidecar, batches: list[Persist], now_ns: int = NOW) -> list[Any]:
    """Obey what the machine asks for, on a disk that works; what is due then."""
    due: list[Any] = []
    for effect in machine.take_effects():
        if isinstance(effect, Persist):
            batches.append(effect)
            due += machine.persisted(now_ns)
    return due


def refuse_to_write(machine: Sidecar, now_ns: int) -> Persist:
    """The batch that the machine asks for, on a disk that is full."""
    (batch,) = [effect for effect in machine.take_effects() if isinstance(effect, Persist)]
    machine.not_persisted(batch, "disk full", now_ns)
    return batch


def status(machine: Sidecar, process: str = P) -> Any:
    leaf = machine.state.map.leaves.get(f"shardlog/presence/blade/{process}/status")
    return leaf and leaf.value


def test_a_report_is_acknowledged_when_the_chain_up_to_it_is_stored() -> None:
    """Behind a hole nothing is acknowledged, though it counts, until a repetition begins."""
    machine, batches = sidecar(), list[Persist]()
    machine.receive(report(1, total(1, 1)), NOW)
    machine.receive(report(2, total(1, 2), follows=1), NOW)
    assert settle(machine, batches) == [Acknowledge(P, 2)]
    machine.receive(report(4, total(1, 4), follows=3), NOW)
    assert settle(machine, batches) == []
    assert machine.state.total("n") == 4
    machine.receive(report(5, total(1, 4)), NOW)
    machine.receive(report(6, total(1, 5), follows=5), NOW)
    assert settle(machine, batches) == [Acknowledge(P, 6)]
    machine.receive(report(3, total(1, 3), follows=2), NOW)
    machine.receive(report(1, total(1, 1)), NOW)
    assert settle(machine, batches) == []
    assert stored(batches, "r").lines[P].last == 6


def test_a_generation_does_not_begin_behind_a_hole() -> None:
    """What ended the one before, a floor, may be what is missing: when it comes, with the
    repetition, it takes what was counted before it and no more."""
    machine = sidecar()
    machine.receive(report(1, total(1, 5)), NOW)
    after = NOW + 2
    machine.receive(report(3, Total("n", 3, after, after, 7), follows=2), NOW)
    assert machine.state.total("n") == 5
    machine.receive(
        Report(P, 4, NOW, False, [], [Erase("n", NOW + 1, 0)], [Total("n", 3, after, after, 7)]),
        NOW,
    )
    assert machine.state.total("n") == 7


def test_nothing_is_due_until_a_persist_has_succeeded() -> None:
    """After a failure neither acknowledgement nor removal; the next success makes both due."""
    machine = sidecar()
    gone = P.replace("aa", "bb")
    machine.receive(report(1, total(1, 1)), NOW)
    machine.ended(gone, [report(1, total(1, 2), process=gone, final=True)], NOW)
    (failed,) = [e for e in machine.take_effects() if isinstance(e, Persist)]
    machine.not_persisted(failed, "disk full", NOW)
    machine.note("something", NOW)
    (batch,) = [e for e in machine.take_effects() if isinstance(e, Persist)]
    machine.receive(report(2, total(1, 9), follows=1), NOW)
    assert machine.persisted(NOW) == [Acknowledge(P, 1), Remove(gone)]
    after = stored([batch], "replica-1")
    assert after.lines[P].last == 1
    assert [e.amount for e in after.entries if e.path == "n"] == [3]
    assert (set(after.marks), set(after.lines), len(after.closed)) == ({P}, {P}, 1)


def test_a_report_that_carries_nothing_is_no_reason_to_write() -> None:
    """It moves the chain; the line and its acknowledgement go with the next batch."""
    machine, batches = sidecar(), list[Persist]()
    machine.receive(report(1, total(1, 1)), NOW)
    settle(machine, batches)
    machine.receive(report(2, follows=1), NOW)
    assert machine.take_effects() == []
    machine.receive(report(3, total(1, 2), follows=2), NOW)
    assert settle(machine, batches) == [Acknowledge(P, 3)]


def test_a_retired_path_leaves_no_mark_and_an_old_total_of_it_adds_nothing() -> None:
    """The row goes, here and in the store; what comes late is ignored, what is new counts anew."""
    machine, batches = sidecar(), list[Persist]()
    machine.receive(report(1, total(1, 5), total(1, 3, "m")), NOW)
    machine.receive(report(2, follows=1, retired=(Retired("n", 1),)), NOW)
    settle(machine, batches)
    assert set(stored(batches, "replica-1").marks[P]) == {"m"}
    for restored in (None, stored(batches, "replica-1")):
        machine = machine if restored is None else sidecar(restored)
        machine.receive(report(1, total(1, 5), total(1, 3, "m")), NOW)
        assert (machine.state.total("n"), machine.state.total("m")) == (5, 3)
    machine.receive(report(3, total(3, 2), follows=2), NOW)
    machine.receive(report(2, follows=1, retired=(Retired("n", 1),)), NOW)
    machine.receive(report(3, total(3, 2), follows=2), NOW)
    assert machine.state.total("n") == 7


def test_who_said_its_last_has_left_and_who_did_not_is_lost() -> None:
    """What the exit file holds decides too; all that is left of either is its closed id."""
    machine, batches = sidecar(), list[Persist]()
    said, killed, unheard = (P.replace("aa", nonce) for nonce in ("a1", "a2", "a3"))
    up = {p: Write(f"shardlog/presence/blade/{p}/status", NOW, 0, "up") for p in (said, killed)}
    for p in (said, killed):
        machine.receive(report(1, total(1, 2), process=p, writes=(up[p],)), NOW)
    machine.ended(said, [report(2, total(1, 3), process=said, final=True)], NOW)
    machine.ended(killed, [], NOW)
    machine.ended(unheard, [report(1, total(1, 4), process=unheard, final=True)], NOW)
    assert {type(due) for due in settle(machine, batches)} == {Remove}
    assert [status(machine, p) for p in (said, killed, unheard)] == ["bye", "lost", "bye"]
    assert machine.state.total("n") == 9
    after = stored(batches, "replica-1")
    assert (after.marks, after.lines, len(after.closed)) == ({}, {}, 3)


def test_reports_of_a_closed_process_are_refused_and_counted() -> None:
    """Also after a restart, and when its id is forgotten: it started below the watermark."""
    machine, batches = sidecar(), list[Persist]()
    machine.ended(P, [report(1, total(1, 2))], NOW)
    settle(machine, batches)
    for now_ns in (NOW, NOW + DAY // 2, NOW + 2 * DAY):
        machine.handle_timer(now_ns)
        machine.receive(report(1, total(1, 2)), now_ns)
        assert machine.refused == {"closed": 1}
        settle(machine, batches)
        machine = sidecar(stored(batches, "replica-1"), now_ns)
        assert machine.state.total("n") == 2
    after = stored(batches, "replica-1")
    assert (after.closed, after.watermark_ns) == ((), NOW + 1)
    young = f"blade@node:boot:2:{NOW + DAY}:cc"
    machine.receive(report(1, total(1, 1), process=young), NOW + 2 * DAY)
    assert machine.state.total("n") == 3


def test_who_is_alive_is_heard_though_it_started_below_the_watermark() -> None:
    """A process that said nothing for days is no closed one: its life file is locked."""
    machine = sidecar(Restored(replica="r", watermark_ns=NOW + 1))
    machine.receive(report(1, total(1, 2)), NOW)
    assert machine.refused == {"closed": 1}
    machine.alive(P, NOW)
    machine.receive(report(1, total(1, 2)), NOW)
    assert machine.state.total("n") == 2


def test_a_silent_process_whose_file_is_locked_is_not_lost() -> None:
    """SIGSTOP is no death: it stays up while it is seen alive, and is up again when it is."""
    machine = sidecar()
    up = Write(f"shardlog/presence/blade/{P}/status", NOW, 0, "up")
    machine.receive(report(1, writes=(up,)), NOW)
    for second in range(1, 60):
        machine.alive(P, NOW + second * SECOND)
        machine.handle_timer(NOW + second * SECOND)
        assert status(machine) == "up"
    for second in range(60, 70):
        machine.handle_timer(NOW + second * SECOND)
    assert status(machine) == "lost"
    machine.alive(P, NOW + 70 * SECOND)
    assert status(machine) == "up"


def let_pass(machine: Sidecar, since_ns: int, duration_ns: int) -> None:
    """Let time pass as a shell does: by a timer a second, and coarser where it is long."""
    step = max(SECOND, duration_ns // 100)
    for at_ns in range(since_ns, since_ns + duration_ns, step):
        machine.handle_timer(at_ns)


def test_without_a_life_file_last_words_close_and_so_does_a_day_of_silence() -> None:
    """Where no folder is shared there is nothing else to go by."""
    kept = Retention({"shardlog/presence/*/*": "forever"})
    machine, batches = sidecar(retention=kept), list[Persist]()
    other = P.replace("aa", "bb")
    machine.receive(report(1, total(1, 1)), NOW)
    machine.receive(report(1, total(1, 1), process=other, final=True), NOW)
    let_pass(machine, NOW, 20 * SECOND)
    assert settle(machine, batches) == [Acknowledge(P, 1), Remove(other)]
    assert set(stored(batches, "replica-1").lines) == {P}
    for second in range(20, 24 * 3600 + 60, 1):
        machine.handle_timer(NOW + second * SECOND)
        machine.take_effects() if second % 100 == 0 else None
    settle(machine, batches)
    assert status(machine) == "lost"
    machine.receive(report(2, total(1, 2), follows=1), NOW + DAY)
    assert machine.refused == {"closed": 1}


def test_last_words_behind_a_hole_close_nothing() -> None:
    """What is missing may be in an exit file that is not read yet."""
    machine, batches = sidecar(), list[Persist]()
    machine.receive(report(1, total(1, 1)), NOW)
    machine.receive(report(3, total(1, 3), follows=2, final=True), NOW)
    assert not machine.said_last(P)
    let_pass(machine, NOW, 60 * SECOND)
    assert settle(machine, batches) == [Acknowledge(P, 1)]
    machine.receive(report(4, total(1, 3), final=True), NOW)
    assert machine.said_last(P)


def test_thousands_of_processes_leave_their_closed_ids_and_nothing_else() -> None:
    """Marks, lines and who is watched are empty, in memory and in the store."""
    machine, batches = sidecar(), list[Persist]()
    for n in range(2000):
        process = f"blade@node:boot:{n}:{NOW + n}:aa"
        machine.receive(report(1, total(1, 1), total(1, 2, "m"), process=process), NOW)
        machine.ended(process, [], NOW)
        if n % 100 == 0:
            settle(machine, batches)
    settle(machine, batches)
    after = stored(batches, "replica-1")
    assert (after.marks, after.lines, len(after.closed)) == ({}, {}, 2000)
    ledger, watched = machine._ledger, machine._presence  # pyright: ignore[reportPrivateUsage]
    assert (ledger.marks, ledger.lines, len(watched), len(ledger.closed)) == ({}, {}, 0, 2000)
    assert (machine.state.total("n"), machine.state.total("m")) == (2000, 4000)
    for now_ns in (NOW + DAY + SECOND, NOW + 2 * DAY):
        machine.handle_timer(now_ns)
    settle(machine, batches)
    assert (len(ledger.closed), stored(batches, "replica-1").closed) == (0, ())


def test_processes_that_end_while_the_disk_is_full_leave_no_marks_to_be_written() -> None:
    """What is to be written again grows by what stays, not by all that came and went meanwhile."""
    machine = sidecar()
    for n in range(50):
        process, at_ns = f"blade@node:boot:{n}:{NOW}:aa", NOW + n * SECOND
        machine.receive(report(1, total(1, 1, "a"), total(1, 1, "b"), process=process), at_ns)
        refuse_to_write(machine, at_ns)
        machine.receive(report(2, total(1, 2, "a"), follows=1, process=process), at_ns)
        machine.ended(process, [], at_ns)
        batch = refuse_to_write(machine, at_ns)
        assert ({mark[0] for mark in batch.marks}, len(batch.ended)) == ({process}, n + 1)
    machine.note("something", NOW)
    assert refuse_to_write(machine, NOW).marks == ()
    assert machine.state.total("a") == 100


def test_closed_ids_are_bounded_in_number_and_in_bytes() -> None:
    """Beyond a million the oldest go, and the watermark with them; 64 bytes each at most."""
    closed = ClosedIds()
    tracemalloc.start()
    for n in range(20 * BUCKET_IDS):
        closed.add(f"b@n:x:1:{n + 1}:a", NOW)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 64 * len(closed)
    assert "b@n:x:1:5:a" in closed
    assert "b@n:x:1:5:b" not in closed
    closed._size += KEPT_MAX - 20 * BUCKET_IDS + 1  # pyright: ignore[reportPrivateUsage]
    assert closed.forget(NOW)
    assert closed.watermark_ns == BUCKET_IDS + 1
    assert closed.forgotten == BUCKET_IDS + 1
    assert closed.refuses("b@n:x:1:5:b")
    assert not closed.refuses(f"b@n:x:1:{BUCKET_IDS + 1}:b")


def test_an_id_from_the_future_does_not_shut_out_all_others() -> None:
    """The watermark never moves beyond the time at which the id was closed."""
    closed = ClosedIds()
    closed.add(f"b@n:x:1:{NOW + 10**6 * DAY}:a", NOW)
    assert closed.forget(NOW + 2 * DAY)
    assert not closed.refuses(f"b@n:x:1:{NOW + SECOND}:b")


class Model:
    """A process that counts, its collector, and a link that loses, repeats and reorders reports.

    The process forgets what is acknowledged, and retires idle paths; its collector crashes between
    any two steps of its batch, and goes on with what its store holds.
    """

    def __init__(self) -> None:
        self.machine = sidecar()
        self.batches: list[Persist] = []
        self.counted = {"a": 0, "b": 0}
        self.at_sequence: list[dict[str, int]] = [dict(self.counted)]
        self.totals: dict[str, tuple[int, int]] = {}  # path -> generation, amount
        self.carried: dict[str, int] = {}
        self.first_kept: dict[str, bool] = {}
        self.retired: dict[str, tuple[int, int]] = {}  # path -> generation, carried
        self.dirty: set[str] = set()
        self.sequence = self.previous = self.acknowledged = 0
        self.wire: list[Report] = []
        self.sent: list[Report] = []

    def count(self, path: str) -> None:
        self.counted[path] += 1
        generation, amount = self.totals.get(path, (0, 0))
        self.totals[path] = (generation, amount + 1)
        self.dirty.add(path)

    def send(self, final: bool = False) -> Report:
        self.sequence += 1
        totals: list[Total] = []
        for path in sorted(self.dirty):
            generation, amount = self.totals[path]
            generation = generation or self.sequence
            self.totals[path] = (generation, amount)
            self.carried[path] = self.sequence
            totals.append(total(generation, amount, path))
        self.dirty = set()
        retired: list[Retired] = []
        for path, (generation, at) in self.retired.items():
            if at == 0:
                self.retired[path] = (generation, self.sequence)
                retired.append(Retired(path, generation))
        said = report(
            self.sequence, *totals, follows=self.previous, final=final, retired=tuple(retired)
        )
        self.previous = self.sequence
        self.at_sequence.append(dict(self.counted))
        self.sent.append(said)
        return said

    def reconnect(self) -> None:
        self.previous = 0
        self.dirty |= {p for p in self.totals if self.carried.get(p, 0) > self.acknowledged}
        self.retired = {
            p: (generation, 0 if at > self.acknowledged else at)
            for p, (generation, at) in self.retired.items()
        }

    def retire(self, path: str) -> None:
        """Only when all is acknowledged: no older generation may be unknown to the collector."""
        if path in self.totals and not self.dirty and self.sequence == self.acknowledged:
            generation, _ = self.totals.pop(path)
            del self.carried[path]
            self.retired[path] = (generation, 0)

    def deliver(self, index: int, *, again: bool) -> None:
        """Any report under way arrives; or again, late or after all, one that was ever sent."""
        reports = self.sent if again else self.wire
        if reports:
            said = (
                reports[-1 - index % len(reports)] if again else reports.pop(index % len(reports))
            )
            self.machine.receive(said, NOW)

    def step(self, crash: str) -> list[Any]:
        """One batch of the collector, which may crash before or after it is stored."""
        due: list[Any] = []
        for effect in self.machine.take_effects():
            if not isinstance(effect, Persist) or crash == "before":
                continue
            if crash == "disk":
                self.machine.not_persisted(effect, "disk full", NOW)
                continue
            self.batches.append(effect)
            due = self.machine.persisted(NOW)
        if crash in ("before", "after"):
            due = []
            self.machine = sidecar(stored(self.batches, "replica-1"))
        for what in due:
            if isinstance(what, Acknowledge):
                assert what.sequence > self.acknowledged
                self.acknowledged = what.sequence
        self.check()
        return due

    def check(self) -> None:
        kept = {e.path: e.amount for e in stored(self.batches, "replica-1").entries}
        for path, n in self.counted.items():
            assert self.machine.state.total(path) <= n, "above what was counted"
            amount = kept.get(path, 0)
            assert isinstance(amount, int)
            assert amount >= self.at_sequence[self.acknowledged][path], "not stored"

    def end(self, crashes: list[str]) -> None:
        """It ends with all in order: what is not acknowledged is in the exit file."""
        self.reconnect()
        exit_file = [self.send(final=True)]
        for crash in [*crashes, "none"]:
            self.machine.ended(P, exit_file, NOW)
            if Remove(P) in self.step(crash):
                break
        else:
            raise AssertionError("its files were never removed")


happenings = st.one_of(
    st.tuples(st.sampled_from(["count", "retire"]), st.sampled_from(["a", "b"])),
    st.tuples(st.sampled_from(["send", "send", "reconnect", "lose"]), st.just("")),
    st.tuples(st.just("deliver"), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("again"), st.integers(0, 9)),
    st.tuples(
        st.just("step"), st.sampled_from(["none", "none", "none", "before", "after", "disk"])
    ),
)


@given(
    st.lists(happenings, min_size=30, max_size=100),
    st.lists(st.sampled_from(["before", "after", "disk"]), max_size=3),
)
def test_totals_are_exact_whatever_is_lost_repeated_or_restarted(
    history: list[tuple[str, Any]], crashes: list[str]
) -> None:
    """Never above what was counted, what is acknowledged is stored, and in the end all is there;
    then nothing that comes late, and no second reading of the exit file, adds anything."""
    model = Model()
    for what, which in history:
        match what:
            case "count":
                model.count(which)
            case "retire":
                model.retire(which)
            case "send":
                model.wire.append(model.send())
            case "reconnect":
                model.reconnect()
            case "lose":
                model.wire = model.wire[1:]
            case "deliver" | "again":
                model.deliver(which, again=what == "again")
            case _:
                model.step(which)
        model.check()
    model.end(crashes)
    assert {path: model.machine.state.total(path) for path in "ab"} == model.counted
    for now_ns in (NOW, NOW + 2 * DAY, NOW + 4 * DAY):
        model.machine.handle_timer(now_ns)
        for late in model.sent:
            model.machine.receive(late, now_ns)
        model.machine.ended(P, model.sent[-1:], now_ns)
        model.step("after")
        assert {path: model.machine.state.total(path) for path in "ab"} == model.counted
    after = stored(model.batches, "replica-1")
    assert (after.marks, after.lines) == ({}, {})


@pytest.mark.parametrize("size", [0, 1, BUCKET_IDS, BUCKET_IDS + 1])
def test_closed_ids_come_back_from_their_rows(size: int) -> None:
    """After a restart they are numbered on from where they were."""
    closed = ClosedIds()
    rows = [closed.add(f"b@n:x:1:{n + 1}:a", NOW) for n in range(size)]
    again = ClosedIds(rows, 0)
    assert len(again) == size
    assert again.add("b@n:x:1:1:z", NOW).number == size + 1
    assert all(f"b@n:x:1:{n + 1}:a" in again for n in range(size))
