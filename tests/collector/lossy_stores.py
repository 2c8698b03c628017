"""A host whose store is lost, or replaced by an older copy, while processes count; on virtual time.

The processes are real outboxes, the collector and the aggregators real machines. A link to a
collector keeps its order and loses what is on it when the collector dies, as a connection does;
those to the aggregators lose, and may be cut off for a while.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Literal

from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.aggregator.machine import Aggregator
from shardlog.collector.batch import STEP, Acknowledge, Name, Persist, Remove
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import REGISTER
from shardlog.crdt.path import path_keys
from shardlog.crdt.process_id import process_id
from shardlog.crdt.replication.messages import Answer, Ask, Log, Publish
from shardlog.handler.outbox import Outbox, Pace
from shardlog.handler.shard import Shard
from shardlog.monitor.balance import Fault, books
from shardlog.monitor.replica import Shown
from tests.collector.network import MS, START, stored

if TYPE_CHECKING:
    from shardlog.crdt.replication.messages import HostStatus, Report, StreamMessage

SECOND = 1000 * MS
PATHS = ("a/n", "b/n", "c/n")
ERASED = "c/n"
Store = tuple[str, list[Persist], list[tuple[str, int]]]
"""The replica that it was made as, what was written, and its runs."""
Fate = Literal["kept", "lost", "copy"]


class Process:
    """One that counts; `wire` is what it has sent and nobody has read."""

    def __init__(self, name: str, now_ns: int, *, has_life: bool) -> None:
        self.outbox = Outbox(
            process_id("blade", "node-1", "boot", 1, now_ns, name),
            "blade",
            {},
            pace=Pace(idle_ms=3000),
        )
        self.outbox.has_life = has_life
        self.wire: list[Report] = []
        self.acknowledged = 0
        self.has_erased = False

    @property
    def name(self) -> str:
        """Its process id."""
        return self.outbox.process


class World:
    """One host under two aggregators. `is_named`: there is a runtime directory."""

    def __init__(self, seed: int, *, is_named: bool = True, bytes_max: int = 2000) -> None:
        self.rng = Random(seed)
        self.bytes_max = bytes_max
        self.now_ns = START
        self.is_named = is_named
        self.named: tuple[str, ...] = ()
        self.counted = dict.fromkeys(PATHS, 0)
        self.losses = 0
        self.is_unnoticed = False
        """Whether a store may have gone back that nobody ever knew, or knows, to be further."""
        self.logs: list[str] = []
        self.disk_works = True
        self.is_behind = False
        """Whether the store lacks what was published."""
        self.has_untold_exits = False
        self.cut = [False, False]
        self.loss = 0.1
        self._number = 0
        self.store: Store = self._new_store()
        self.copies: list[Store] = []
        self.exits: dict[str, list[Report]] = {}
        self.processes: list[Process] = []
        self.aggregators = [self.new_aggregator() for _ in range(2)]
        self.machine = self._start()

    def new_aggregator(self) -> Aggregator:
        """One that knows nothing."""
        return Aggregator(
            AggregatorConfig(listen="ipc:///l", serve="ipc:///v"),
            source="aggregator",
            epoch=self._name("epoch"),
            rng=self.rng,
            now_ns=self.now_ns,
            bytes_max=self.bytes_max,
        )

    def count(self) -> None:
        """Some process, perhaps a new one, counts."""
        if not self.processes or (len(self.processes) < 4 and self.rng.random() < 0.05):
            process = Process(self._name("p"), self.now_ns, has_life=self.is_named)
            process.outbox.receive_connected(self.now_ns)
            self.processes.append(process)
        path, n = self.rng.choice(PATHS), self.rng.randint(1, 9)
        self.counted[path] += n
        shard = Shard(self._tick(), [], [], [(path, n)], {}, 10)
        self.rng.choice(self.processes).outbox.receive(shard)

    def erase(self) -> None:
        """Some process erases a path, always the same, but see the known anomaly of the backlog."""
        if self.processes:
            process = self.rng.choice(self.processes)
            if process.has_erased and process.outbox.has_unacknowledged():
                return
            process.has_erased = True
            process.outbox.receive(Shard(self._tick(), [], [ERASED], [], {}, 10))

    def renew(self, index: int) -> None:
        """An aggregator is replaced by one that knows nothing."""
        self.is_unnoticed |= self.losses > 0
        self.aggregators[index] = self.new_aggregator()

    def send(self, process: Process) -> None:
        """It says one report, if it has anything to say."""
        process.outbox.receive_acknowledged(process.acknowledged)
        process.outbox.handle_timer(self.now_ns)
        report = process.outbox.next_report(self.now_ns, self.now_ns)
        if report is not None:
            process.wire.append(report)

    def deliver(self, process: Process, reports: int) -> None:
        """The collector reads so many of its reports."""
        for report in process.wire[:reports]:
            self.machine.receive(report, self.now_ns)
        del process.wire[:reports]

    def end(self, process: Process) -> None:
        """It ends in order; what nobody has acknowledged is in its exit file."""
        self.processes.remove(process)
        process.outbox.receive_acknowledged(process.acknowledged)
        process.outbox.receive_close(self.now_ns)
        if self.is_named:
            self.exits[process.name] = list(process.outbox.last_reports(self.now_ns, self.now_ns))
        else:
            while process.outbox.has_unsent():
                self.send(process)
        self.deliver(process, len(process.wire))
        if not self.is_named:
            self.tick(0)  # what it says at its end is nowhere else

    def tick(self, duration_ms: int) -> None:
        """Time passes; the collector looks who lives and who has ended, and closes a batch."""
        self.now_ns += duration_ms * MS
        if self.is_named:
            for process in self.processes:
                self.machine.alive(process.name, self.now_ns)
            for name, reports in list(self.exits.items()):
                self.machine.ended(name, reports, self.now_ns)
                self.has_untold_exits |= not self.disk_works
        self.machine.handle_timer(self.now_ns)
        self._obey()
        for index, aggregator in enumerate(self.aggregators):
            aggregator.handle_timer(self.now_ns)
            self._obey_aggregator(index)

    def crash(self, fate: Fate) -> None:
        """The collector dies between two batches or within one, and starts again."""
        if self.has_untold_exits:
            fate = "kept"  # the known anomaly of exit files
        effects = self.machine.take_effects()
        for effect in effects[: self.rng.randint(0, len(effects))]:
            match effect:
                case Persist() if self.disk_works:
                    self._write(effect)
                case Persist():
                    self.is_behind = True
                case Publish("up", message):
                    self._tell(message)
                case _:
                    pass
        copies = self._known_copies()
        if fate == "copy" and not copies:
            fate = "kept"
        if fate == "lost":
            self.store = self._new_store()
        elif fate == "copy":
            replica, batches, runs = self.rng.choice(copies)
            self.store = replica, list(batches), list(runs)
        self.losses += fate != "kept" or self.is_behind
        restored = stored(self.store[1], self.store[0])
        known = (a.state.versions.get(restored.replica, 0) for a in self.aggregators)
        is_named = self.is_named and self.named[:1] != (restored.replica,)
        if not is_named and (fate == "copy" or self.is_behind):
            self.is_unnoticed |= max(known) <= restored.version + 1
        self.disk_works = True
        self.is_behind = False
        self.has_untold_exits = False
        for process in self.processes:
            process.wire.clear()
            process.outbox.receive_disconnected()
        self.machine = self._start()
        self.tick(0)
        for process in self.processes:
            process.outbox.receive_connected(self.now_ns)

    def copy(self) -> None:
        """Somebody makes a copy of the store."""
        replica, batches, runs = self.store
        self.copies.append((replica, list(batches), list(runs)))

    def step(self) -> None:
        """Something happens."""
        chance = self.rng.random()
        if chance < 0.35:
            self.count()
        elif chance < 0.6 and self.processes:
            self.send(self.rng.choice(self.processes))
        elif chance < 0.75 and self.processes:
            self.deliver(self.rng.choice(self.processes), self.rng.randint(1, 3))
        elif chance < 0.97:
            self.tick(self.rng.choice([1, 50, 1100, 3000]))
        elif chance < 0.98 and self.processes:
            self.end(self.rng.choice(self.processes))
        else:
            index = self.rng.randrange(2)
            self.cut[index] = not self.cut[index]

    def heal(self) -> None:
        """All links work, all processes end, and there is time for everybody to notice."""
        self.loss, self.cut, self.disk_works = 0.0, [False, False], True
        for process in list(self.processes):
            self.end(process)
        for _ in range(150):
            self.tick(1000)

    def shown(self, index: int, path: str) -> int | float:
        """What an aggregator shows."""
        return self.aggregators[index].state.total(path)

    def statuses(self, index: int) -> dict[str, HostStatus]:
        """What an aggregator says of its sources."""
        return {status.replica: status for status in self.aggregators[index].hosts(self.now_ns)}

    def faults(self) -> list[Fault]:
        """What does not balance in the books of the replica that collects: no others are told."""
        rows = [
            (path_keys(path), Shown(REGISTER, shown.value, 0, ""))
            for path, shown in self.machine.state.rows("shardlog/health/ledger")
        ]
        told = books(rows)
        assert {book.replica for book in told} <= {self.machine.replica}
        return [fault for book in told for fault in book.faults()]

    def check(self) -> None:
        """Nobody shows more than was counted, and all but what is on its way is in the books."""
        assert {fault.term for fault in self.faults()} <= {"undelivered"}
        for index in range(2):
            for path, counted in self.counted.items():
                assert self.shown(index, path) <= counted, "above what was counted"

    def check_healed(self) -> None:
        """Exact where nothing was lost; else the lower bound is said, if one is short."""
        self.check()
        if not self.is_unnoticed:  # else something is missing indeed
            assert self.faults() == []
        for index in range(2):
            short = [p for p in PATHS if self.shown(index, p) < self.counted[p]]
            status = self.statuses(index)[self.machine.replica]
            assert status.status == "live"
            if set(short) - {ERASED}:
                assert self.losses, f"{short} too low, and nothing was lost"
                assert status.lower_bound or self.is_unnoticed, f"{short} too low, nobody says so"

    def _start(self) -> Sidecar:
        replica, batches, runs = self.store
        epoch = self._name("run")
        restored = replace(stored(batches, replica), runs=tuple(runs))
        runs.append((epoch, restored.version + 1))
        batches.append(
            Persist(restored.version + STEP, (), (), (), watermark_ns=restored.watermark_ns)
        )
        return Sidecar(
            SidecarConfig(listen="ipc:///c", to=("ipc:///l",), host="node-1", store="/s"),
            restored,
            process=self._name("node-1@node-1:boot:1:1"),
            epoch=epoch,
            now_ns=self.now_ns,
            bytes_max=self.bytes_max,
            named=self.named if self.is_named else None,
        )

    def _known_copies(self) -> list[Store]:
        """The copies that may be put back: without a runtime directory those of the replica that is
        there and of whom it replaced. For any other it would be a store that is lost, see the known
        anomaly of these over tcp."""
        there = stored(self.store[1], self.store[0])
        known = (there.replica, *there.replaces)
        return [c for c in self.copies if self.is_named or stored(c[1], c[0]).replica in known]

    def _new_store(self) -> Store:
        return self._name("replica"), [], []

    def _name(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._number}"

    def _tick(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def _obey(self) -> None:
        for effect in self.machine.take_effects():
            match effect:
                case Persist():
                    self._persist(effect)
                case Name(replicas):
                    self.named = replicas
                case Publish("up", message):
                    self._tell(message)
                case Answer("up", peer, message):
                    self._hear(int(peer), message)
                case Log(text):
                    self.logs.append(text)
                case _:
                    pass

    def _persist(self, batch: Persist) -> None:
        if not self.disk_works:
            self.is_behind = True
            self.machine.not_persisted(batch, "disk full", self.now_ns)
            return
        self._write(batch)
        self.has_untold_exits = False
        for due in self.machine.persisted(self.now_ns):
            match due:
                case Acknowledge(process, sequence):
                    for living in self.processes:
                        if living.name == process and self.is_named:
                            living.acknowledged = sequence
                case Remove(process):
                    self.exits.pop(process, None)

    def _write(self, batch: Persist) -> None:
        _, batches, runs = self.store
        batches.append(batch)
        self.is_behind = False
        if batch.identity is not None:
            runs[:] = [(batch.identity.replica, batch.version)]

    def _tell(self, message: StreamMessage) -> None:
        for index in range(2):
            self._hear(index, message)

    def _hear(self, index: int, message: StreamMessage) -> None:
        if not self.cut[index] and self.rng.random() >= self.loss:
            self.aggregators[index].receive(message, self.now_ns)
            self._obey_aggregator(index)

    def _obey_aggregator(self, index: int) -> None:
        for effect in self.aggregators[index].take_effects():
            if (
                isinstance(effect, Ask)
                and effect.source == self.machine.replica
                and not self.cut[index]
                and self.rng.random() >= self.loss
            ):
                self.machine.request("up", str(index).encode(), effect.message)


def lossy_run(
    seed: int, *, is_named: bool = True, fates: tuple[Fate, ...] = (), bytes_max: int = 2000
) -> World:
    """A random history, in which a store may meet these fates; checked all along, then healed."""
    world = World(seed, is_named=is_named, bytes_max=bytes_max)
    for _ in range(world.rng.randint(50, 400)):
        world.step()
        chance = world.rng.random()
        if chance < 0.02:
            world.crash(world.rng.choice(("kept", *fates)))
        elif chance < 0.04:
            world.copy()
        elif chance < 0.05:
            world.erase()
        elif chance < 0.06 and fates:
            world.disk_works = not world.disk_works
        elif chance < 0.065:
            world.renew(world.rng.randrange(2))
        world.check()
    world.heal()
    world.check_healed()
    return world
