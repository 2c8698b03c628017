"""The aggregator's machine: the streams of many hosts become the cluster's state and its stream.

Theory of operation. Each source is followed by a `Follower` of its own; what it applies or installs
merges into one `State`, in which every replica keeps its own entries and versions. Composition is
that merge and nothing else: two aggregators that heard the same versions hold equal states, in
whatever order they heard them, so several may run side by side without an election.

The effects of a batch: Publish, then Answer, then Ask, Log last.

Known anomalies. A host that was never heard since the start is not missed: its counts are not in
the totals until its first heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from shardlog.collector.aggregator.clock_offset import ClockOffset
from shardlog.crdt.delta import Fragment
from shardlog.crdt.errors import LocalProtocolError
from shardlog.crdt.replication.follower import Follower
from shardlog.crdt.replication.messages import (
    Answer,
    Apply,
    Ask,
    Delta,
    Heartbeat,
    HostStatus,
    Install,
    Log,
    Publish,
    SnapshotRequest,
    StreamMessage,
)
from shardlog.crdt.replication.view import View
from shardlog.crdt.state import State

if TYPE_CHECKING:
    from random import Random

    from shardlog.collector.aggregator.config import AggregatorConfig

MS = 1_000_000

AggregatorEffect = Publish | Answer | Ask | Log


@dataclass(slots=True)
class _Source:
    """One stream and the host it speaks for."""

    follower: Follower
    host: str = ""
    watermark_ns: int = 0
    clock: ClockOffset = field(default_factory=ClockOffset)


class Aggregator:
    """One aggregator. `source` and `epoch` name its own stream, see `Publisher`."""

    def __init__(
        self,
        config: AggregatorConfig,
        *,
        source: str,
        epoch: str,
        rng: Random,
        now_ns: int,
        bytes_max: int,
    ) -> None:
        self.state = State()
        self.refused: dict[str, int] = {}
        self._config = config
        self._rng = rng
        self._sources: dict[str, _Source] = {}
        self._view = View(
            self.state,
            source,
            epoch,
            interval_ms=config.heartbeat_interval_ms,
            bytes_max=bytes_max,
        )
        self._beat_ns = now_ns
        self._requests: list[tuple[bytes, SnapshotRequest]] = []
        self._beats: list[Publish] = []
        self._syncing: dict[str, None] = {}
        self._waiting: dict[str, Ask] = {}
        self._asks: list[Ask] = []
        self._logs: list[Log] = []

    def receive(self, message: StreamMessage, now_ns: int) -> None:
        """Take in a message of a host's stream. O(size), each item as `State.merge`."""
        if not isinstance(message, Heartbeat) and (
            not isinstance(message.body, Fragment) or message.body.replica != message.source
        ):
            self.refuse("body", f"{message.source!r} sent what no collector sends")
            return
        source = self._sources.get(message.source)
        if source is None:
            if len(self._sources) >= self._config.sources_max:
                self.refuse("sources", f"{message.source!r} is one more than can be followed")
                return
            source = _Source(Follower(message.source, lanes=(0,), rng=self._rng))
            self._sources[message.source] = source
        if isinstance(message, Heartbeat) and message.hosts:
            source.host = message.hosts[0].host
            source.watermark_ns = message.hosts[0].watermark_ns
            source.clock.hear(message.at_ns, now_ns)
        source.follower.receive(message, now_ns)
        self._obey(source.follower)

    def request(self, peer: bytes, request: SnapshotRequest) -> None:
        """Take in a monitor's request for a chunk; it is answered behind this batch."""
        self._requests.append((peer, request))

    def subscribed(self, now_ns: int) -> None:
        """A new monitor follows: beat at once, so that it need not wait for the next beat.

        All who follow hear it, so that one per batch is enough.
        """
        if not self._beats:
            self._beats.append(self._view.heartbeat(now_ns, self.hosts(now_ns), self.refused))

    def refuse(self, reason: str, detail: str) -> None:
        """Count something that was turned away, and name the first of each reason."""
        if reason not in self.refused:
            self._logs.append(Log(f"refused ({reason}): {detail}; further ones are only counted"))
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def hosts(self, now_ns: int) -> list[HostStatus]:
        """How complete each host's part is. O(hosts)."""
        statuses: list[HostStatus] = []
        for name, source in self._sources.items():
            status: Literal["live", "syncing", "stale"] = "live"
            if source.follower.is_stale(now_ns):
                status = "stale"
            elif source.follower.phase != "live":
                status = "syncing"
            said = (source.host, name, status, source.follower.heard_ns, source.watermark_ns)
            statuses.append(HostStatus(*said, offset_ns=source.clock.offset_ns))
        return statuses

    def next_timer_ns(self) -> int:
        """When `handle_timer` is due."""
        timers = (source.follower.next_timer_ns() for source in self._sources.values())
        return min([self._beat_ns, *(timer for timer in timers if timer is not None)])

    def handle_timer(self, now_ns: int) -> None:
        """Beat, and ask again for what did not come. O(sources). Steps of the clock do no harm."""
        for name, source in list(self._sources.items()):
            source.follower.handle_timer(now_ns)
            self._obey(source.follower, is_late=True)
            if name in self._syncing and source.follower.is_stale(now_ns):
                self._end_sync(name)
        interval_ns = self._config.heartbeat_interval_ms * MS
        if not now_ns < self._beat_ns <= now_ns + interval_ns:
            self._beat_ns = now_ns + interval_ns
            self.subscribed(now_ns)

    def take_effects(self) -> list[AggregatorEffect]:
        """Close the batch: Publish, Answer, Ask, Log, in this order. O(what changed)."""
        effects: list[AggregatorEffect] = [*self._view.publish(self.state.take_touched())]
        effects += self._beats
        effects += (self._view.answer(*request) for request in self._requests)
        effects += self._asks
        effects += self._logs
        self._beats, self._requests, self._asks, self._logs = [], [], [], []
        return effects

    def _obey(self, follower: Follower, *, is_late: bool = False) -> None:
        for effect in follower.take_effects():
            match effect:
                case Apply(delta):
                    self._merge(delta)
                case Install(source, chunks, deltas):
                    bodies = [c.body for c in chunks if isinstance(c.body, Fragment)]
                    self.state.install(source, bodies[0].to_version, bodies)
                    for delta in deltas:
                        self._merge(delta)
                    self._waiting.pop(source, None)
                    self._end_sync(source)
                case Ask():
                    if is_late and effect.source in self._syncing:
                        self._end_sync(effect.source)  # it has not answered: others first
                    self._ask(effect)

    def _merge(self, delta: Delta) -> None:
        assert isinstance(delta.body, Fragment)
        try:
            self.state.merge(delta.body)
        except LocalProtocolError as error:
            # Sequences without a hole, versions with one: its next message starts from nothing.
            self.refuse("versions", str(error))
            self._sources.pop(delta.source, None)

    def _ask(self, ask: Ask) -> None:
        """Pass on a request, if not too many others are under way; else it waits its turn."""
        if ask.source in self._syncing or len(self._syncing) < self._config.syncs_max:
            self._syncing[ask.source] = None
            self._asks.append(ask)
        else:
            self._waiting[ask.source] = ask

    def _end_sync(self, source: str) -> None:
        self._syncing.pop(source, None)
        while self._waiting and len(self._syncing) < self._config.syncs_max:
            waiting = next(iter(self._waiting))
            self._ask(self._waiting.pop(waiting))
