"""A network whose aggregators pass on to one another, as `above` says, on virtual time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from shardlog.collector.aggregator.memory import Remember
from shardlog.collector.aggregator.store import Store
from shardlog.collector.aggregator.twin import AnswerTwin, AskTwin
from shardlog.crdt.replication.messages import (
    Answer,
    Ask,
    Confirm,
    Delta,
    Heartbeat,
    Log,
    Publish,
    Tell,
)
from tests.collector.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shardlog.collector.aggregator.machine import Aggregator
    from shardlog.crdt.replication.messages import (
        Roster,
        RosterRequest,
        SnapshotChunk,
        SnapshotRequest,
        StreamMessage,
    )
    from shardlog.crdt.retention import Retention


class Watcher(Protocol):
    """Who follows what a node serves."""

    node: int

    def receive(self, message: StreamMessage) -> None:
        """Take in what the node says."""
        ...


class Tree(Network):
    """Hosts under nodes: `feeds` says to which nodes each host speaks, `above` what each passes on.

    Nodes are numbered as in `aggregators`. With a `folder` each has a store in it. `twins` says
    whom each node asks for what it lacks.
    """

    def __init__(
        self,
        feeds: Sequence[Sequence[int]],
        above: Sequence[Sequence[int]],
        seed: int,
        loss: float = 0.2,
        *,
        folder: Path | None = None,
        twins: Sequence[Sequence[int]] = (),
        retention: Retention | None = None,
    ) -> None:
        self.feeds = feeds
        self.above = above
        self.twins = twins
        self.cut: set[tuple[str, int, int]] = set()
        """Links that carry nothing: ("up", host, node), ("pass", node, node), ("twin", ...)."""
        self.beats: list[tuple[int, Heartbeat]] = []
        """Which node passed on which heartbeat."""
        self.disk_is_full = False
        """Whether no store of a node can be written."""
        self.written: list[Remember] = []
        self.logs: list[str] = []
        self.watch: Watcher | None = None
        self._names: dict[str, int] = {}
        self.stores = {node: Store(str(folder / str(node))) for node in range(len(above)) if folder}
        super().__init__(len(feeds), 0, seed, loss, retention)
        self.aggregators = [self.start_node(node) for node in range(len(above))]

    def start_node(self, node: int, lower_bound: str = "") -> Aggregator:
        """A new aggregator at a place in the tree; it has what the store there has."""
        to = tuple(f"ipc:///{n}" for n in self.above[node])
        store = self.stores.get(node)
        peer = tuple(f"ipc:///{n}" for n in self.twins[node]) if self.twins else ()
        aggregator = self.start_aggregator(
            to, None if store is None else store.load(), peer, lower_bound
        )
        self._names = {name: n for name, n in self._names.items() if n != node}
        self._names[aggregator.node] = node
        return aggregator

    def kill(self, node: int, *, lower_bound: str = "") -> None:
        """Kill a node, and start it again; `lower_bound` says what its store has lost."""
        self.aggregators[node] = self.start_node(node, lower_bound)

    def _serve(self, node: int, message: StreamMessage) -> None:
        """What a node says to those who watch it: to `watch`, if that is set."""
        watch = self.watch
        if watch is not None and watch.node == node:
            self._send(("serve", node, 0), partial(watch.receive, message))

    def _transmit(self, host: int, message: Delta | Heartbeat) -> None:
        for node in self.feeds[host]:
            if ("up", host, node) not in self.cut:
                self._send(("up", host, node), partial(self._hear, node, message))

    def _obey_aggregator(self, aggregator: Aggregator) -> None:
        node = next(n for n, other in enumerate(self.aggregators) if other is aggregator)
        for effect in aggregator.take_effects():
            match effect:
                case Remember():
                    self._remember(node, effect)
                case Publish("up", message):
                    if isinstance(message, Heartbeat):
                        self.beats.append((node, message))
                    for parent in self.above[node]:
                        self._pass(node, parent, message)
                case Answer("up", peer, message):
                    self._pass(node, int(peer), message)
                case Publish("serve", message):
                    self._serve(node, message)
                case Answer("serve", _, message):
                    self._serve(node, message)
                case AskTwin(address, message):
                    twin = int(address.removeprefix("ipc:///"))
                    self._send(("ask twin", node, twin), partial(self._twin, node, twin, message))
                case AnswerTwin(peer, message):
                    answer = partial(self._answer_twin, int(peer), f"ipc:///{node}", message)
                    self._send(("twin", node, int(peer)), answer)
                case Log(text):
                    self.logs.append(text)
                case Tell(child, _):
                    self._tell_node(node, child, effect)
                case Confirm(peer, message):
                    said = partial(self._confirmed, int(peer), aggregator.node, message.number)
                    self._send(("heard node", node, int(peer)), said)
                case Ask(source, _, via):
                    self._ask_node(node, source, via, effect)
                case _:
                    pass

    def _remember(self, node: int, batch: Remember) -> None:
        if self.disk_is_full:
            self.aggregators[node].not_remembered(batch, "the disk is full")
        else:
            self.stores[node].commit(batch)
            self.written.append(batch)
            self.aggregators[node].remembered()

    def _twin(self, node: int, twin: int, message: RosterRequest | SnapshotRequest) -> None:
        if ("twin", node, twin) not in self.cut:
            self.aggregators[twin].request_of_twin(str(node).encode(), message, self.now_ns)
            self._obey_aggregator(self.aggregators[twin])

    def _answer_twin(self, node: int, address: str, message: Roster | SnapshotChunk) -> None:
        self.aggregators[node].receive_from_twin(address, message, self.now_ns)
        self._obey_aggregator(self.aggregators[node])

    def _pass(self, node: int, parent: int, message: StreamMessage) -> None:
        if ("pass", node, parent) not in self.cut:
            # One sender, one order: deltas and chunks travel on links of their own.
            kind = "pass" if isinstance(message, Delta | Heartbeat) else "passed chunk"
            self._send((kind, node, parent), partial(self._hear, parent, message))

    def _ask_node(self, node: int, source: str, via: str, ask: Ask) -> None:
        if not via:
            host = self.host_of(source)
            if host is not None:
                self._send(("ask", node, host), partial(self._ask, host, node, ask))
        elif via in self._names:
            child = self._names[via]
            self._send(("ask node", node, child), partial(self._asked, child, node, ask))

    def _tell_node(self, node: int, child: str, tell: Tell) -> None:
        if child in self._names:
            below = self._names[child]
            self._send(("tell node", node, below), partial(self._told_node, below, node, tell))
        else:
            self._tell(node, tell)

    def _told_node(self, child: int, node: int, tell: Tell) -> None:
        self.aggregators[child].pass_down(str(node).encode(), tell.message)
        self._obey_aggregator(self.aggregators[child])

    def _asked(self, child: int, node: int, ask: Ask) -> None:
        self.aggregators[child].request("up", str(node).encode(), ask.message, self.now_ns)
        self._obey_aggregator(self.aggregators[child])
