"""Collectors, aggregators and the links between them, in one process, on virtual time.

The machines are the real ones. A link loses, repeats and delays messages as its seed says, but
keeps those of one sender in order, as a connection does; `heal` makes all links perfect.
"""

from __future__ import annotations

import heapq
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.aggregator.machine import Aggregator
from shardlog.collector.batch import Persist, Restored
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import Total, Write
from shardlog.crdt.replication.messages import Answer, Ask, Confirm, Publish, Report, Tell
from shardlog.crdt.retention import Retention
from shardlog.crdt.wire.codec import decode_stream, encode
from tests.simulation.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shardlog.collector.aggregator.memory import Remembered
    from shardlog.crdt.replication.messages import Delta, Heartbeat, StreamMessage

MS = 1_000_000
START = 1_700_000_000_000 * MS


def stored(batches: list[Persist], replica: str) -> Restored:
    """What a store of a replica, unless it was replaced, holds after these batches."""
    store = MemoryStore(replica)
    for batch in batches:
        store.commit(batch)
    return store.load()


class Network:
    """So many hosts, each with one process that counts and writes, under so many aggregators."""

    def __init__(
        self,
        hosts: int,
        aggregators: int,
        seed: int,
        loss: float = 0.2,
        retention: Retention | None = None,
    ) -> None:
        self.retention = retention or Retention()
        self.reports: list[list[Report]] = [[] for _ in range(hosts)]
        self.rng = Random(seed)
        self.now_ns = START
        self.loss = loss
        self.counted = 0
        self._intents: dict[tuple[int, str], Total] = {}
        self._order = count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._arrivals: dict[tuple[str, int, int], int] = {}
        self._totals = [0] * hosts
        self._stores: list[list[Persist]] = [[] for _ in range(hosts)]
        self._epochs = count()
        self.sidecars = [self._start(host) for host in range(hosts)]
        self.aggregators = [self.start_aggregator() for _ in range(aggregators)]

    def start_aggregator(
        self,
        to: tuple[str, ...] = (),
        remembered: Sequence[Remembered] | None = None,
        peer: tuple[str, ...] = (),
        lower_bound: str = "",
    ) -> Aggregator:
        """A new aggregator: empty, or one that remembers what comes out of a store."""
        epoch = next(self._epochs)
        store = None if remembered is None else "/s"
        return Aggregator(
            AggregatorConfig(
                listen="ipc:///l",
                serve="ipc:///v",
                to=to,
                store=store,
                peer=peer,
                retention=self.retention,
            ),
            source=f"aggregator-{epoch}",
            epoch=f"epoch-{epoch}",
            rng=self.rng,
            now_ns=self.now_ns,
            bytes_max=2000,
            remembered=remembered or (),
            lower_bound=lower_bound,
        )

    def restart(self, host: int) -> None:
        """Kill a host's collector and start it again on what its store holds."""
        self.sidecars[host] = self._start(host)

    def put_back(self, host: int, batches: int) -> None:
        """Kill a host's collector and start it again on a copy of its store from so long ago."""
        del self._stores[host][batches:]
        self.restart(host)

    def host_of(self, replica: str) -> int | None:
        """The host at which a replica collects now, None if at none."""
        hosts = (host for host, sidecar in enumerate(self.sidecars) if sidecar.replica == replica)
        return next(hosts, None)

    def say(self, host: int) -> None:
        """The host's process counts, writes, and sends its whole total."""
        amount = self.rng.randint(1, 9)
        self.counted += amount
        self._totals[host] += amount
        process = f"blade-{host}@host-{host}:1"
        report = Report(
            process,
            self._totals[host],
            self.now_ns,
            False,
            [
                Write(f"hosts/{host}/at", self.now_ns, 0, amount),
                Write("last", self.now_ns, 0, host),
            ],
            [],
            [Total(f"hosts/{host}/n", 1, START, self.now_ns, self._totals[host])],
        )
        self.deliver(host, report)

    def count(self, host: int, record: str, *, age_ms: int = 0) -> None:
        """The host's process counts in a record and writes there, so long ago, and says it now."""
        amount = self.rng.randint(1, 9)
        self.counted += amount
        at_ns = self.now_ns - age_ms * MS
        path = f"intents/{record}/n"
        total = self._intents.get((host, path), Total(path, 1, at_ns, at_ns, 0))
        assert isinstance(total.amount, int)
        total = Total(path, 1, total.born, max(total.last, at_ns), total.amount + amount)
        self._intents[host, path] = total
        write = Write(f"intents/{record}/by", at_ns, 0, host)
        process = f"blade-{host}@host-{host}:1"
        self.deliver(host, Report(process, 1, self.now_ns, False, [write], [], [total]))

    def deliver(self, host: int, report: Report) -> None:
        """A report reaches its collector, at once."""
        self.reports[host].append(report)
        self.sidecars[host].receive(report, self.now_ns)
        self._obey_sidecar(host)

    def run(self, duration_ms: int) -> None:
        """Let virtual time pass; timers and deliveries happen in their order."""
        end_ns = self.now_ns + duration_ms * MS
        while self.now_ns < end_ns:
            while self._events and self._events[0][0] <= self.now_ns:
                heapq.heappop(self._events)[2]()
            for host, sidecar in enumerate(self.sidecars):
                if sidecar.next_timer_ns() <= self.now_ns:
                    sidecar.handle_timer(self.now_ns)
                    self._obey_sidecar(host)
            for aggregator in self.aggregators:
                if aggregator.next_timer_ns() <= self.now_ns:
                    aggregator.handle_timer(self.now_ns)
                    self._obey_aggregator(aggregator)
            timers = [sidecar.next_timer_ns() for sidecar in self.sidecars]
            timers += [aggregator.next_timer_ns() for aggregator in self.aggregators]
            events = [self._events[0][0]] if self._events else []
            self.now_ns = max(self.now_ns, min([*timers, *events, end_ns]))

    def heal(self) -> None:
        """From now on nothing is lost; enough time for everybody to notice."""
        self.loss = 0.0
        self.run(90_000)

    def _start(self, host: int) -> Sidecar:
        batches = self._stores[host]
        return Sidecar(
            SidecarConfig(
                listen="ipc:///c",
                to=("ipc:///l",),
                host=f"host-{host}",
                store="/s",
                retention=self.retention,
            ),
            stored(batches, f"replica-{host}"),
            process=f"host-{host}@host-{host}:{len(batches)}",
            epoch=f"epoch-{next(self._epochs)}",
            now_ns=self.now_ns,
            bytes_max=2000,
        )

    def _send(self, link: tuple[str, int, int], deliver: Callable[[], None]) -> None:
        for _ in range(1 + (self.rng.random() < self.loss / 4)):
            if self.rng.random() < self.loss:
                continue
            delay_ns = self.rng.randint(0, 50 * MS)
            at_ns = max(self.now_ns + delay_ns, self._arrivals.get(link, 0))
            self._arrivals[link] = at_ns
            heapq.heappush(self._events, (at_ns, next(self._order), deliver))

    def _obey_sidecar(self, host: int) -> None:
        sidecar = self.sidecars[host]
        for effect in sidecar.take_effects():
            match effect:
                case Persist():
                    self._stores[host].append(effect)
                    sidecar.persisted(self.now_ns)
                case Publish("up", message):
                    self._transmit(host, message)
                case Answer("up", peer, message):
                    index = int(peer)
                    self._send(("chunk", host, index), partial(self._hear, index, message))
                case Confirm(peer, message):
                    index, name = int(peer), sidecar.replica
                    said = partial(self._confirmed, index, name, message.number)
                    self._send(("heard", host, index), said)
                case _:
                    pass

    def _confirmed(self, index: int, child: str, number: int) -> None:
        self.aggregators[index].confirmed(child, number)

    def _tell(self, index: int, tell: Tell) -> None:
        host = self.host_of(tell.child)
        if host is not None:
            self._send(("tell", index, host), partial(self._told, host, index, tell))

    def _told(self, host: int, index: int, tell: Tell) -> None:
        self.sidecars[host].pass_down(str(index).encode(), tell.message)
        self._obey_sidecar(host)

    def _transmit(self, host: int, message: Delta | Heartbeat) -> None:
        for index in range(len(self.aggregators)):
            self._send(("up", host, index), partial(self._hear, index, message))

    def _hear(self, index: int, message: StreamMessage) -> None:
        self.aggregators[index].receive(decode_stream(encode(message)), self.now_ns)
        self._obey_aggregator(self.aggregators[index])

    def _obey_aggregator(self, aggregator: Aggregator) -> None:
        index = next(i for i, other in enumerate(self.aggregators) if other is aggregator)
        for effect in aggregator.take_effects():
            if isinstance(effect, Ask):
                host = self.host_of(effect.source)
                if host is not None:
                    self._send(("ask", index, host), partial(self._ask, host, index, effect))
            elif isinstance(effect, Tell):
                self._tell(index, effect)

    def _ask(self, host: int, index: int, ask: Ask) -> None:
        self.sidecars[host].request("up", str(index).encode(), ask.message)
        self._obey_sidecar(host)
