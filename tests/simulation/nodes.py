"""The nodes of a simulated cluster: the real machines, and what their shells do around them.

Each `turn` is one turn of the loop of a shell, without its sockets: take what has arrived, hand it
to the machine, obey. What is not simulated is said in README.md.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.aggregator.machine import Aggregator
from shardlog.collector.aggregator.memory import Remember
from shardlog.collector.batch import Lead, Name, Persist
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.joining import join
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.collector.sidecar.watch import LifeWatch
from shardlog.crdt.process_id import process_id
from shardlog.crdt.replication.messages import (
    Answer,
    Apply,
    Ask,
    Changes,
    Confirm,
    Delta,
    Heartbeat,
    Install,
    PassDown,
    Publish,
    Report,
    SnapshotChunk,
    Tell,
)
from shardlog.crdt.retention import Retention
from shardlog.crdt.wire.codec import encode
from shardlog.monitor.machine import Following
from shardlog.monitor.replica import Replica
from tests.simulation.clockwork import Cable, Node
from tests.simulation.memory_store import MemoryStore, RememberedStore
from tests.simulation.processes import HEARTBEAT_MS, MemoryFolder, Process
from tests.simulation.steps import HOUR, MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.collector.sidecar.life import LifeFolder
    from shardlog.crdt.replication.messages import SnapshotRequest, StreamMessage
    from tests.simulation.clockwork import Clockwork
    from tests.simulation.steps import CrashPoint, Layout
    from tests.simulation.truth import Truth

READ_FRAMES_MAX = 2
"""How many reports a collector takes in at once."""
DOOM_NS = SECOND // 2
"""A collector that is to die in its next batch dies by then, if there is none."""


class Collector(Node):
    """The collector of a host, its store, its life folder, and the processes that are there."""

    def __init__(self, cluster: Cluster, host: int) -> None:
        super().__init__(cluster.clockwork, f"collector {host}")
        self.host = host
        self.truth = cluster.truth
        self.store = MemoryStore(f"replica-{host}")
        self.backup: MemoryStore | None = None
        self.folder = MemoryFolder(self._read_left)
        self.processes: list[Process] = []
        self.disk_is_full = False
        self.machine: Sidecar = cast("Sidecar", None)
        self._cluster = cluster
        self._config = SidecarConfig(
            listen="ipc:///c",
            to=("ipc:///l",),
            host=f"host-{host}",
            store="/s",
            heartbeat_interval_ms=HEARTBEAT_MS,
            lost_after_ms=3 * HEARTBEAT_MS,
            presence_interval_ms=20_000,
            retention=retention_of(cluster.layout),
        )
        self._watch: LifeWatch | None = None
        self._inbox: list[tuple[Process, Report]] = []
        self._from_above: list[tuple[int, SnapshotRequest | PassDown]] = []
        self._subscribed = False
        self._doom: CrashPoint | None = None
        self._down_ns = 0
        self._stores = 0

    def start(self) -> None:
        """Start on what the store holds; take in what was left before anybody is answered."""
        if self.is_up:
            return
        self.is_up = True
        self.life += 1
        wall_ns, now_ns = self.wall_ns, self.clockwork.now_ns
        epoch = f"epoch-{self.host}-{self.life}"
        restored = self.store.load()
        self.store.begin(epoch)
        self.machine = Sidecar(
            self._config,
            restored,
            process=process_id(
                f"host-{self.host}", f"host-{self.host}", "", 1, wall_ns, f"{self.life:04x}"
            ),
            epoch=epoch,
            now_ns=wall_ns,
            bytes_max=self._cluster.layout.bytes_max,
            named=self.folder.replicas if self._cluster.layout.has_life else None,
            named_version=self.folder.version,
        )
        self.truth.restarted(self)
        self._inbox, self._from_above = [], []
        self._watch = None
        if self._cluster.layout.has_life:
            self._watch = watch = LifeWatch(cast("LifeFolder", self.folder), self.machine)
            watch.start(wall_ns)
            self._obey()
            while watch.has_more and self.is_up:
                watch.look(wall_ns, now_ns, is_drained=True)
                self._obey()
        for process in self.processes:
            self.clockwork.at(now_ns + process.number * MS + 50 * MS, process.connect)
        for aggregator in self.parents:
            self._cluster.meet(self, aggregator)
        self.wake_at(now_ns)

    @property
    def parents(self) -> list[AggregatorNode]:
        """The aggregators to which it publishes."""
        return self._cluster.parents_of(self)

    def named(self) -> str:
        """What it is known by upwards."""
        return self.machine.replica

    def lose_store(self) -> None:
        """Its disk is gone; a new store is another replica."""
        self.truth.lose_store(self, goes_back=False)
        self._stores += 1
        self.store = MemoryStore(f"replica-{self.host}-{self._stores}")

    def go_back(self) -> None:
        """Its disk is what it was when the backup was made."""
        if self.backup is not None:
            self.truth.lose_store(self)
            self.store = self.backup.copy()
            if self.life % 4:  # no version could be noted beside the socket
                self.folder.version = 0
                self.truth.is_unnoted = True

    def crash(self, when: CrashPoint, down_ns: int) -> None:
        """Die, at once or in the next batch, and start again so much later."""
        if not self.is_up:
            return
        self._down_ns = down_ns
        if when == "at rest":
            self._die()
            return
        self._doom = when
        run = self.life

        def give_up() -> None:
            if self.is_up and self.life == run:
                self._die()

        self.clockwork.at(self.clockwork.now_ns + DOOM_NS, give_up)

    def hear(self, process: Process, report: Report) -> None:
        """A report has arrived."""
        self._inbox.append((process, report))
        self.wake_at(self.clockwork.now_ns)

    def hear_from_above(self, aggregator: int, message: SnapshotRequest | PassDown) -> None:
        """A parent has asked, or passed something down."""
        self._from_above.append((aggregator, message))

    def subscribe(self) -> None:
        """Somebody new follows."""
        self._subscribed = True

    def turn(self) -> int:
        """As `shardlog.collector.sidecar.shell`."""
        machine, wall_ns, now_ns = self.machine, self.wall_ns, self.clockwork.now_ns
        inbox, self._inbox = self._inbox[:READ_FRAMES_MAX], self._inbox[READ_FRAMES_MAX:]
        for process, report in inbox:
            self._read(report)
            process.unread = max(process.unread - 1, 0)
        for joined in join(encode(report) for _, report in inbox):
            assert isinstance(joined, Report)
            self.truth.take_in(self, joined, wall_ns)
            machine.receive(joined, wall_ns)
        for process in dict.fromkeys(process for process, _ in inbox):
            process.flow()
        if self._subscribed:
            self._subscribed = False
            machine.subscribed("up", wall_ns)
        from_above, self._from_above = self._from_above, []
        for aggregator, message in from_above:
            if isinstance(message, PassDown):
                self.truth.pass_down(self, message)
                machine.pass_down(b"%d" % aggregator, message)
            else:
                machine.request("up", b"%d" % aggregator, message)
        if self._watch is not None:
            self._watch.look(wall_ns, now_ns, is_drained=not self._inbox)
        machine.handle_timer(wall_ns)
        self._obey()
        has_more = self._inbox or (self._watch is not None and self._watch.has_more)
        rest_ns = min(machine.next_timer_ns() - self.wall_ns, HEARTBEAT_MS * MS)
        return 0 if has_more else rest_ns

    def _read(self, report: Report) -> None:
        self.truth.receive(self, report, self.wall_ns)

    def _read_left(self, report: Report) -> None:
        self._read(report)
        self.truth.take_in(self, report, self.wall_ns)

    def _obey(self) -> None:
        machine, wall_ns = self.machine, self.wall_ns
        has_changed = False
        for effect in machine.take_effects():
            match effect:
                case Persist():
                    has_changed = True
                    if self._doom == "before the commit":
                        self._die()
                        return
                    self._persist(effect)
                    if not self.is_up:
                        return
                case Name(replicas):
                    self.folder.replicas, self.folder.version = replicas, 0
                    self.truth.forget_highest(self.name)
                case Lead(blade, stamp):
                    self.folder.lead(blade, stamp)
                case Publish(_, message):
                    for aggregator in self.parents:
                        wire = self._cluster.cable(self, aggregator).wire("stream")
                        wire.send(aggregator, partial(aggregator.hear, message))
                    if self._doom == "within publishing" and isinstance(message, Delta):
                        self._die()
                        return
                case Answer(_, peer, chunk):
                    aggregator = self._cluster.aggregators[int(peer)]
                    wire = self._cluster.cable(self, aggregator).wire("chunks")
                    wire.send(aggregator, partial(aggregator.hear, chunk))
                case Confirm(peer, heard):
                    aggregator = self._cluster.aggregators[int(peer)]
                    wire = self._cluster.cable(self, aggregator).wire("chunks")
                    name = self.named()
                    wire.send(aggregator, partial(aggregator.hear_confirmed, name, heard.number))
                case _:
                    pass
        if has_changed:
            self.truth.look_at_collector(self, wall_ns)

    def _persist(self, batch: Persist) -> None:
        machine, wall_ns = self.machine, self.wall_ns
        if self.disk_is_full:
            machine.not_persisted(batch, "disk full", wall_ns)
            self.truth.not_persisted(self)
            return
        self.store.commit(batch)
        self.truth.persisted(self)
        if self._doom == "behind the commit":
            self._die()
            return
        self.folder.version = batch.version
        due = machine.persisted(wall_ns)
        if self._doom == "before acknowledging":
            self._die()
        elif self._watch is not None:
            if self._doom == "within acknowledging":
                self._watch.obey(due[: len(due) // 2])
                self._die()
            else:
                self._watch.obey(due)

    def _die(self) -> None:
        self.is_up = False
        self._doom = None
        self.clockwork.at(self.clockwork.now_ns + self._down_ns, self.start)
        self.truth.died(self)
        for process in self.processes:
            process.lose_collector()


class AggregatorNode(Node):
    """An aggregator. In a tree the last one is above all others."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__(cluster.clockwork, f"aggregator {number}")
        self.number = number
        self.machine: Aggregator = cast("Aggregator", None)
        self._cluster = cluster
        self._rng = self.clockwork.rng(self.name)
        layout = cluster.layout
        self.is_regional = layout.is_tree and number < layout.aggregators
        self._config = AggregatorConfig(
            listen="ipc:///l",
            serve="ipc:///v",
            to=("ipc:///g",) if self.is_regional else (),
            store="/s" if layout.remembers else None,
            heartbeat_interval_ms=HEARTBEAT_MS,
            retention=retention_of(layout),
        )
        self._store = RememberedStore() if layout.remembers else None
        self._inbox: list[StreamMessage] = []
        self._confirmed: list[tuple[str, int]] = []
        self._from_above: list[tuple[int, SnapshotRequest | PassDown]] = []
        self._requests: list[tuple[int, SnapshotRequest]] = []
        self._subscribed: dict[Literal["up", "serve"], None] = {}
        self._named: set[str] = set()

    def start(self) -> None:
        """Start, with what it remembers."""
        if self.is_up:
            return
        self.is_up = True
        self.life += 1
        self.machine = Aggregator(
            self._config,
            source=f"{self.name}-{self.life}",
            epoch=f"epoch-{self.life}",
            rng=self._rng,
            now_ns=self.wall_ns,
            bytes_max=self._cluster.layout.bytes_max,
            remembered=() if self._store is None else self._store.load(),
        )
        self._inbox, self._confirmed, self._from_above, self._requests = [], [], [], []
        if self._store is None:
            self._cluster.truth.forget_highest(self.name)
        for child in self._cluster.children_of(self):
            self._cluster.meet(child, self)
        for parent in self._cluster.parents_of(self):
            self._cluster.meet(self, parent)
        for monitor in self._cluster.monitors:
            if monitor.aggregator is self:
                wire = self._cluster.cable(self, monitor).wire("subscription")
                wire.send(self, partial(self.subscribe, "serve"))
        self.wake_at(self.clockwork.now_ns)

    def crash(self) -> None:
        """Die."""
        self.is_up = False
        if self._store is None:
            self._cluster.truth.has_lost_aggregator = True
            self._forget_highest()

    def _forget_highest(self) -> None:
        """What its monitors were told of hosts that no heartbeat of it has named may go down."""
        held = {replica for replica, version in self.machine.state.versions.items() if version}
        if held - self._named or self.clockwork.loss:
            for monitor in self._cluster.monitors:
                if monitor.aggregator is self:
                    monitor.unsure_of = self.machine.node

    def named(self) -> str:
        """What it is known by upwards."""
        return self.machine.node

    def hear(self, message: StreamMessage) -> None:
        """A message has arrived from below."""
        self._inbox.append(message)

    def hear_confirmed(self, child: str, number: int) -> None:
        """A child has taken in what it was told."""
        self._confirmed.append((child, number))

    def hear_from_above(self, aggregator: int, message: SnapshotRequest | PassDown) -> None:
        """A parent has asked, or passed something down."""
        self._from_above.append((aggregator, message))

    def ask(self, monitor: int, request: SnapshotRequest) -> None:
        """A monitor's request for a chunk has arrived."""
        self._requests.append((monitor, request))

    def subscribe(self, channel: Literal["up", "serve"] = "up") -> None:
        """Somebody new follows."""
        self._subscribed[channel] = None

    def turn(self) -> int:
        """As `shardlog.collector.aggregator.shell`."""
        machine, wall_ns = self.machine, self.wall_ns
        inbox, self._inbox = self._inbox, []
        has_changed = False
        for message in inbox:
            machine.receive(message, wall_ns)
            has_changed = has_changed or not isinstance(message, Heartbeat)
        confirmed, self._confirmed = self._confirmed, []
        for child, number in confirmed:
            machine.confirmed(child, number)
        for channel in self._subscribed:
            machine.subscribed(channel, wall_ns)
        self._subscribed.clear()
        requests, self._requests = self._requests, []
        for monitor, request in requests:
            machine.request("serve", b"%d" % monitor, request, wall_ns)
        from_above, self._from_above = self._from_above, []
        for aggregator, said in from_above:
            if isinstance(said, PassDown):
                machine.pass_down(b"%d" % aggregator, said)
            else:
                machine.request("up", b"%d" % aggregator, said, wall_ns)
        machine.handle_timer(wall_ns)
        for effect in machine.take_effects():
            self._obey(effect)
        if has_changed:
            self._cluster.truth.look_at(self.name, machine.state)
        return min(machine.next_timer_ns() - self.wall_ns, HEARTBEAT_MS * MS)

    def _obey(self, effect: object) -> None:
        cluster = self._cluster
        match effect:
            case Remember():
                assert self._store is not None
                self._store.commit(effect)
                self.machine.remembered()
            case Publish("serve", message):
                if isinstance(message, Heartbeat):
                    self._named = {host.replica for host in message.hosts if host.version}
                for monitor in cluster.monitors:
                    if monitor.aggregator is self:
                        wire = cluster.cable(self, monitor).wire("stream")
                        wire.send(monitor, partial(monitor.hear, message))
            case Publish("up", message):
                for parent in cluster.parents_of(self):
                    wire = cluster.cable(self, parent).wire("stream")
                    wire.send(parent, partial(parent.hear, message))
            case Answer("serve", peer, chunk):
                monitor = cluster.monitors[int(peer)]
                wire = cluster.cable(self, monitor).wire("chunks")
                wire.send(monitor, partial(monitor.hear, chunk))
            case Answer("up", peer, chunk):
                parent = cluster.aggregators[int(peer)]
                wire = cluster.cable(self, parent).wire("chunks")
                wire.send(parent, partial(parent.hear, chunk))
            case Confirm(peer, heard):
                parent = cluster.aggregators[int(peer)]
                wire = cluster.cable(self, parent).wire("chunks")
                wire.send(parent, partial(parent.hear_confirmed, self.named(), heard.number))
            case Ask(source, request, via):
                self._send_down(via or source, request)
            case Tell(name, passed):
                self._send_down(name, passed)
            case _:
                pass

    def _send_down(self, name: str, message: SnapshotRequest | PassDown) -> None:
        """To the child of this name, if it is still known by it."""
        for child in self._cluster.children_of(self):
            if child.is_up and child.named() == name:
                wire = self._cluster.cable(child, self).wire("requests")
                wire.send(child, partial(child.hear_from_above, self.number, message))


class Monitor(Node):
    """A monitor of one aggregator, which adds up what it is told has changed."""

    def __init__(self, cluster: Cluster, number: int, aggregator: AggregatorNode) -> None:
        super().__init__(cluster.clockwork, f"monitor {number}")
        self.number = number
        self.aggregator = aggregator
        self.replica = Replica()
        self.following = Following(self.clockwork.rng(self.name))
        self._cluster = cluster
        self.unsure_of = ""
        """A run of its aggregator that has died, and had hosts that no heartbeat may have named."""
        self._inbox: list[StreamMessage] = []
        self.is_up = True
        self.life = 1

    def hear(self, message: StreamMessage) -> None:
        """A message has arrived."""
        self._inbox.append(message)

    def turn(self) -> int:
        """As `shardlog.monitor.client`."""
        now_ns = self.clockwork.now_ns
        inbox, self._inbox = self._inbox, []
        for message in inbox:
            self.following.receive(message, now_ns)
            self._obey()
        self.following.handle_timer(now_ns)
        self._obey()
        timer_ns = self.following.next_timer_ns()
        return HOUR if timer_ns is None else timer_ns - now_ns

    def _obey(self) -> None:
        truth = self._cluster.truth
        for effect in self.following.take_effects():
            match effect:
                case Apply(delta):
                    truth.look_at_changes(self.name, self.replica.apply(_changes(delta)))
                case Install(source, chunks, deltas):
                    # It has waited long enough, and says what is missing; or it could not know.
                    if self.following.note or self.unsure_of not in ("", source):
                        truth.forget_highest(self.name)
                        self.unsure_of = ""
                    changes = self.replica.install(
                        [*map(_changes, chunks)], [*map(_changes, deltas)], self.wall_ns
                    )
                    truth.look_at_changes(self.name, changes)
                case Ask(_, request):
                    wire = self._cluster.cable(self.aggregator, self).wire("requests")
                    asked = partial(self.aggregator.ask, self.number, request)
                    wire.send(self.aggregator, asked)


class Cluster:
    """All nodes, and what connects them."""

    def __init__(self, clockwork: Clockwork, layout: Layout, truth: Truth) -> None:
        self.clockwork = clockwork
        self.layout = layout
        self.truth = truth
        self._cables: dict[tuple[str, str], Cable] = {}
        self.processes: dict[int, Process] = {}
        self.collectors: list[Collector] = []
        nodes = layout.aggregators + layout.is_tree
        self.aggregators = [AggregatorNode(self, n) for n in range(nodes)]
        self.monitors = [
            Monitor(self, n, self.aggregators[-1 - n % nodes]) for n in range(layout.monitors)
        ]
        self.collectors += [Collector(self, n) for n in range(layout.hosts)]
        for node in self.servers():
            node.start()

    def servers(self) -> list[Collector | AggregatorNode]:
        """All nodes that hold a state."""
        return [*self.collectors, *self.aggregators]

    def nodes(self) -> dict[str, Node]:
        """All nodes, by name."""
        nodes: list[Node] = [*self.collectors, *self.aggregators, *self.monitors]
        return {node.name: node for node in (*nodes, *self.processes.values())}

    def cable(self, lower: Node, upper: Node) -> Cable:
        """What connects two nodes."""
        return self.cable_between(lower.name, upper.name)

    def cable_between(self, lower: str, upper: str) -> Cable:
        """What connects two nodes, by name."""
        cable = self._cables.get((lower, upper))
        if cable is None:
            cable = self._cables[lower, upper] = Cable(self.clockwork, lower, upper)
        return cable

    def cables(self) -> Iterable[Cable]:
        """All that carried something."""
        return self._cables.values()

    def parents_of(self, child: Node) -> list[AggregatorNode]:
        """The aggregators that follow a node."""
        *regional, top = self.aggregators
        if not self.layout.is_tree:
            return self.aggregators if isinstance(child, Collector) else []
        if isinstance(child, Collector):
            return [regional[child.host % len(regional)]]
        return [] if child is top else [top]

    def children_of(self, parent: AggregatorNode) -> list[Collector | AggregatorNode]:
        """The nodes that an aggregator follows."""
        return [node for node in self.servers() if parent in self.parents_of(node)]

    def hosts_of(self, aggregator: AggregatorNode) -> list[Collector]:
        """The collectors whose streams reach an aggregator."""
        is_top = self.layout.is_tree and aggregator is self.aggregators[-1]
        return [c for c in self.collectors if is_top or aggregator in self.parents_of(c)]

    def meet(self, child: Collector | AggregatorNode, parent: AggregatorNode) -> None:
        """A new connection: the child is told that somebody follows."""
        if child.is_up and parent.is_up:
            wire = self.cable(child, parent).wire("subscription")
            wire.send(child, child.subscribe)

    def start_process(self, host: int, number: int) -> None:
        """A process starts, if that number was never used."""
        if number not in self.processes and host < len(self.collectors):
            collector = self.collectors[host]
            process = self.processes[number] = Process(collector, number, self.layout)
            collector.processes.append(process)


def retention_of(layout: Layout) -> Retention:
    """The table that all collectors have."""
    if not layout.retention_s:
        return Retention()
    return Retention({"t/*": f"{layout.retention_s}s", "cfg/*": f"{layout.retention_s}s"})


def _changes(message: Delta | SnapshotChunk) -> Changes:
    assert isinstance(message.body, Changes)
    return message.body
