"""The aggregator's machine: the streams of many hosts become the cluster's state and its stream.

Theory of operation. Each source is followed by a `Follower` of its own; what it applies or installs
merges into one `State`, in which every replica keeps its own entries and versions. Composition is
that merge and nothing else: two aggregators that heard the same versions hold equal states, in
whatever order they heard them, so several may run side by side without an election.

A source that another of its host goes on for is replaced: what it told stays, it is waited for no
more, and if it is heard again, its store went back in time. It is told so by a request that knows
more of it than it can hold, and goes on as another.

The effects of a batch: Publish, then Answer, then Ask, Log last.

Known anomalies. A host that was never heard since the start is not missed: its counts are not in
the totals until its first heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

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

REPLACED = 2**63 - 1
"""The version at which a replaced source is known: no store holds as much."""

AggregatorEffect = Publish | Answer | Ask | Log


@dataclass(slots=True)
class _Source:
    """One stream and the host it speaks for."""

    follower: Follower
    host: str = ""
    watermark_ns: int = 0
    lower_bound: str = ""
    replaces: list[str] = field(default_factory=list[str])
    retention: str = ""


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
        self._heirs: dict[str, _Source] = {}
        """Those that go on for others."""
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
            source = _Source(self._follower(message.source))
            self._sources[message.source] = source
            for heir in self._heirs.values():
                if message.source in heir.replaces:
                    self._replace(source, heir)
        if isinstance(message, Heartbeat) and message.hosts:
            self._note(source, message.hosts[0])
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
        return [
            HostStatus(
                source.host,
                name,
                _status(source.follower, now_ns),
                source.follower.heard_ns,
                source.watermark_ns,
                self.state.versions.get(name, 0),
                source.lower_bound,
                source.replaces,
                source.retention,
            )
            for name, source in self._sources.items()
        ]

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
            source = self._sources[delta.source]
            known = source.follower
            source.follower = self._follower(delta.source, known.run, known.version)

    def _follower(self, source: str, run: str = "", version: int = 0) -> Follower:
        return Follower(source, lanes=(0,), rng=self._rng, run=run, version=version)

    def _note(self, source: _Source, status: HostStatus) -> None:
        """What a host says of itself."""
        source.host = status.host
        source.watermark_ns = status.watermark_ns
        source.lower_bound = status.lower_bound
        source.retention = status.retention
        if source.replaces != status.replaces:
            source.replaces = status.replaces
            self._heirs[source.follower.source] = source
            for name in status.replaces:
                if name in self._sources:
                    self._replace(self._sources[name], source)

    def _replace(self, source: _Source, by: _Source) -> None:
        """Another source of its host goes on for one."""
        if source is by or source.host not in ("", by.host):
            return
        source.follower.version = REPLACED
        source.follower.run = source.follower.run or by.follower.source
        self._waiting.pop(source.follower.source, None)
        self._end_sync(source.follower.source)

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


def _status(follower: Follower, now_ns: int) -> Literal["live", "syncing", "stale", "replaced"]:
    if follower.version == REPLACED:
        return "replaced"
    if follower.is_stale(now_ns):
        return "stale"
    return "live" if follower.phase == "live" else "syncing"
