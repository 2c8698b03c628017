"""Clocks that step back and forth under a process that counts and the collector of its host."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.collector.batch import Acknowledge, Persist, Restored
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.process_id import process_id
from shardlog.crdt.stamp import MAX_SKEW_NS
from shardlog.handler.outbox import Outbox, Pace
from shardlog.handler.shard import Shard
from tests.collector.network import stored

if TYPE_CHECKING:
    from shardlog.crdt.replication.messages import Report

SECOND = 10**9
HOUR = 3600 * SECOND
NOW = 1_700_000_000 * SECOND
STEPS = (-5 * HOUR, -2 * HOUR, -HOUR // 2, HOUR // 2, 2 * HOUR, 5 * HOUR)


class Host:
    """A process, whose outboxes succeed one another as its shell has them do, and its collector.

    With life files the collector may crash and what is under way be lost, and who has ended leaves
    an exit file. Without, a break is clean, and who ends sends its last before its successor.
    """

    def __init__(self, *, has_life: bool) -> None:
        self.has_life = has_life
        self.wall_ns = NOW
        self.now_ns = 0
        self.counted = self.said = 0
        self.queue: list[Shard] = []
        self.batches: list[Persist] = []
        self.machine = self.start_collector()
        self.acknowledged: dict[str, int] = {}
        self.exits: dict[str, list[Report]] = {}
        self.wire: list[Report] = []
        self.processes: list[str] = []
        self.ending: list[Outbox] = []
        self.box = self.begin()

    def start_collector(self) -> Sidecar:
        """A collector that goes on with what its store holds."""
        restored = stored(self.batches, "replica-1") if self.batches else None
        return Sidecar(
            SidecarConfig(listen="ipc:///c", to=(), host="node", store="/s"),
            restored or Restored(replica="replica-1"),
            process="node@node::1:1:cc",
            epoch="epoch-1",
            now_ns=self.wall_ns,
            bytes_max=10_000,
        )

    def begin(self) -> Outbox:
        """A new process."""
        nonce = f"{len(self.processes):x}"
        process = process_id("blade", "node", "boot", 1, self.wall_ns, nonce)
        self.processes.append(process)
        box = Outbox(process, "blade", {"host": "node"}, pace=Pace(200))
        box.has_life = self.has_life
        return box

    def renew(self) -> None:
        """What the shell does before it hands over what was logged."""
        old = self.box
        if self.ending or not old.clock.is_ahead(self.wall_ns):
            return
        is_connected = old.connected
        old.receive_close(self.wall_ns)
        if self.has_life:
            old.receive_acknowledged(self.acknowledged.get(old.process, 0))
            self.leave(old)
        else:
            self.ending.append(old)
        self.box = self.begin()
        if is_connected:
            self.box.receive_connected(self.wall_ns)

    def leave(self, old: Outbox) -> None:
        """Its exit file."""
        self.exits[old.process] = list(old.last_reports(self.now_ns, self.wall_ns))

    def log(self, n: int) -> None:
        """Count, and write where nobody has written."""
        self.counted += n
        self.said += 1
        path = f"said/{self.said}"
        self.queue.append(Shard(self.wall_ns, [(path, self.said)], [], [("n", n)], {}, 0))

    def gather(self) -> None:
        """The outbox gets what was logged."""
        self.renew()
        for shard in self.queue:
            is_ahead = shard.time_ns > self.wall_ns + MAX_SKEW_NS
            self.box.receive(shard._replace(time_ns=self.wall_ns) if is_ahead else shard)
        self.queue.clear()

    def send(self, *, refused: bool = False) -> None:
        """A report of each outbox goes off, those that end first; or is not taken."""
        for box in (*self.ending, self.box):
            report = box.next_report(self.now_ns, self.wall_ns) if box.connected else None
            if report is not None and refused:
                box.put_back(report)
            elif report is not None:
                self.wire.append(report)
            box.check_invariants()
        self.ending = [box for box in self.ending if box.has_unsent()]

    def arrive(self) -> None:
        """All that is under way arrives."""
        for report in self.wire:
            self.machine.receive(report, self.wall_ns)
        self.wire.clear()

    def turn(self, *, crashes: bool = False) -> None:
        """A round of the collector: its scan, its timer, its batch."""
        if self.has_life:
            for process, reports in list(self.exits.items()):
                if all(report.process != process for report in self.wire):
                    self.machine.ended(process, reports, self.wall_ns)
            self.machine.alive(self.box.process, self.wall_ns)
        self.machine.handle_timer(self.wall_ns)
        for effect in self.machine.take_effects():
            if isinstance(effect, Persist) and not crashes:
                self.batches.append(effect)
                for due in self.machine.persisted(self.wall_ns):
                    if isinstance(due, Acknowledge):
                        self.acknowledged[due.process] = due.sequence
                    else:
                        self.exits.pop(due.process, None)
        if crashes:
            self.machine = self.start_collector()
            self.break_link()

    def break_link(self) -> None:
        """With life files all that is under way is lost, else it arrives."""
        if not self.has_life:
            self.arrive()
        self.wire.clear()
        for box in (*self.ending, self.box):
            box.receive_disconnected()

    def connect(self) -> None:
        """The link is up."""
        for box in (*self.ending, self.box):
            if not box.connected:
                box.receive_connected(self.wall_ns)

    def do(self, event: str | int) -> None:
        """One thing that happens; a number is a step of the clock."""
        self.now_ns += SECOND
        self.wall_ns += SECOND
        match event:
            case int():
                self.wall_ns = max(NOW - 10 * HOUR, min(self.wall_ns + event, NOW + 10 * HOUR))
            case "log":
                self.log(3)
            case "gather":
                self.gather()
            case "send" | "refused":
                self.send(refused=event == "refused")
            case "arrive":
                self.arrive()
            case "hear":
                self.box.receive_acknowledged(self.acknowledged.get(self.box.process, 0))
            case "break":
                self.break_link()
            case "connect":
                self.connect()
            case "crash":
                self.turn(crashes=self.has_life)
            case _:
                self.turn()
        assert self.machine.state.total("n") <= self.counted, "above what was counted"

    def settle(self) -> None:
        """Let everything arrive, log once more, and let that arrive."""
        rest = ("send", "arrive", "turn") * 20
        for event in ("connect", "gather", *rest, "log", "gather", *rest):
            self.do(event)

    def check(self) -> None:
        """All that was counted is there once; what was said last came in; who ended has left."""
        assert self.machine.state.total("n") == self.counted
        leaves = self.machine.state.map.leaves
        assert f"said/{self.said}" in leaves, "what is said after a step is refused"
        paths = [f"shardlog/presence/blade/{process}/status" for process in self.processes]
        *ended, current = map(leaves.get, paths)
        assert all(leaf is not None and leaf.value == "bye" for leaf in ended)
        # What was under way at a step is refused, and is not repeated where it steps forth again.
        assert current is None or current.value == "up"


EVENTS = (
    *("log", "log", "log", "gather", "gather", "send", "send", "arrive", "turn", "turn", "hear"),
    *("refused", "connect", "connect", "break", "crash", *STEPS),
)


def run(host: Host, history: list[Any]) -> None:
    """All of it, to the end."""
    for event in history:
        host.do(event)
    host.settle()
    host.check()


def run_all(kind: type[Host], histories: list[list[Any]], has_life: bool) -> None:
    """Each with a host of its own."""
    for history in histories:
        run(kind(has_life=has_life), history)


@given(st.lists(st.sampled_from(EVENTS), max_size=60), st.booleans())
def test_totals_are_exact_however_the_clock_steps(history: list[Any], has_life: bool) -> None:
    """Never above what was counted, and all of it in the end, though the process changes its id;
    its predecessors have left, and what is said under the new id is let in.
    """
    run(Host(has_life=has_life), history)


class KeepsItsId(Host):
    def renew(self) -> None:
        pass


class LosesWhatIsNotAcknowledged(Host):
    def leave(self, old: Outbox) -> None:
        super().leave(old)
        reports = self.exits[old.process]
        self.exits[old.process] = [msgspec.structs.replace(said, totals=[]) for said in reports]


class EndsUnheard(Host):
    def renew(self) -> None:
        super().renew()
        self.ending.clear()


class CountsOn(Host):
    def begin(self) -> Outbox:
        counted = getattr(self, "counted", 0) if self.processes else 0
        box = super().begin()
        if counted:
            box.receive(Shard(self.wall_ns, [], [], [("n", counted)], {}, 0))
        return box


@pytest.mark.parametrize(
    ("mutant", "has_life"),
    [
        (KeepsItsId, True),
        (KeepsItsId, False),
        (LosesWhatIsNotAcknowledged, True),
        (EndsUnheard, False),
        (CountsOn, True),
        (CountsOn, False),
    ],
)
def test_plausible_mistakes_at_the_switch_show(mutant: type[Host], has_life: bool) -> None:
    """Each fails under some schedule of the kind that the right one passes."""
    rng = Random(1)
    histories = [rng.choices(EVENTS, k=60) for _ in range(100)]
    run_all(Host, histories, has_life)
    with pytest.raises(AssertionError):
        run_all(mutant, histories, has_life)


def test_small_steps_change_nothing() -> None:
    """Below an hour the stamps go on, under the same id, and are let in."""
    host = Host(has_life=True)
    run(host, ["connect", "log", "gather", "send", "arrive", -HOUR + 10 * SECOND, "log", "gather"])
    assert len(host.processes) == 1
    assert host.machine.refused == {}


@pytest.mark.parametrize("has_life", [True, False])
def test_where_all_had_arrived_a_step_leaves_nothing_to_refuse(has_life: bool) -> None:
    """The old id's last words hold no stamp that nobody would take; it has left all the same."""
    host = Host(has_life=has_life)
    said = ["connect", "log", "gather", *["send"] * 9, "arrive", "turn", "hear"]
    run(host, [*said, -2 * HOUR])
    assert len(host.processes) == 2
    assert host.machine.refused == {}
