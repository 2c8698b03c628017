"""The aggregator's machine: the streams of many hosts become the cluster's state and its stream.

Theory of operation. Each route to a replica is followed by a `Follower` of its own; what it applies
or installs merges into one `State`, in which every replica keeps its own entries and versions.
Composition is that merge and nothing else: two aggregators that heard the same versions hold equal
states, in whatever order and on whatever routes they heard them, so several may run side by side
without an election, and below one another: `Upward` passes on what is heard, `Roll` knows who is
there.

The effects of a batch: Remember BEFORE Publish, so that a restart on what was remembered takes
nothing back that was seen; then Answer, then Ask, Log last. Whether Remember failed is told at
once.

Known anomalies. Without a store, a host that was never heard since the start is not missed: its
counts are not in the totals until its first heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from shardlog.collector.aggregator.departed import Departed
from shardlog.collector.aggregator.downwards import Downwards
from shardlog.collector.aggregator.memory import HEARD_NS, Host, Memory, Remember, Remembered
from shardlog.collector.aggregator.roll import Known, Roll, Route, fitting, names_node
from shardlog.collector.aggregator.settling import Settling
from shardlog.collector.aggregator.twin import AnswerTwin, AskTwin, Fetched, Twin, chunk, roster
from shardlog.collector.aggregator.upward import Upward
from shardlog.crdt.delta import Fragment
from shardlog.crdt.errors import LocalProtocolError
from shardlog.crdt.replication.follower import Follower
from shardlog.crdt.replication.messages import (
    Answer,
    Apply,
    Ask,
    Confirm,
    Delta,
    Heard,
    Heartbeat,
    HostStatus,
    Install,
    Log,
    Member,
    PassDown,
    Publish,
    Roster,
    RosterRequest,
    SnapshotChunk,
    SnapshotRequest,
    StreamMessage,
    Tell,
    run_of,
)
from shardlog.crdt.replication.view import View
from shardlog.crdt.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from shardlog.collector.aggregator.config import AggregatorConfig

MS = 1_000_000
SOON_NS = 100 * MS

AggregatorEffect: TypeAlias = (
    Remember | Publish | Answer | AnswerTwin | Ask | AskTwin | Tell | Confirm | Log
)
Channel: TypeAlias = Literal["up", "serve"]


class Aggregator:
    """One aggregator. `source` is a name that no earlier run had; with `epoch` see `Publisher`.

    `lower_bound` says why what is `remembered` may not be all that was ever heard.
    """

    def __init__(
        self,
        config: AggregatorConfig,
        *,
        source: str,
        epoch: str,
        rng: Random,
        now_ns: int,
        bytes_max: int,
        remembered: Iterable[Remembered] = (),
        lower_bound: str = "",
    ) -> None:
        self.state = State()
        self.refused: dict[str, int] = {}
        self._config = config
        self._rng = rng
        self.node = source
        self._roll = Roll(self.state, interval_ms=config.heartbeat_interval_ms)
        self._up = (
            Upward(
                self.state,
                self._roll,
                source,
                interval_ms=config.heartbeat_interval_ms,
                bytes_max=bytes_max,
            )
            if config.to
            else None
        )
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
        self._syncing: dict[tuple[str, str], None] = {}
        self._waiting: dict[tuple[str, str], Ask] = {}
        self._unwhole: dict[tuple[str, str], Follower] = {}
        """Those who wait for a snapshot, by route."""
        self._asks: list[Ask] = []
        self._logs: list[Log] = []
        self._down = Downwards(self.state, config.retention, bytes_max)
        self._departed = Departed(self.state, config.retention, self._down.clock)
        self._tells: list[Tell] = []
        self._confirmed: dict[bytes, int] = {}
        self._memory = Memory(self.state) if config.store else None
        self._is_forgetful = False
        self._lower_bound = lower_bound
        self._restore(remembered, now_ns)
        self._settling = Settling(
            self._roll, interval_ms=config.heartbeat_interval_ms, now_ns=now_ns
        )
        self._twins = {
            address: Twin(address, self._roll, self.state, rng=rng, now_ns=now_ns)
            for address in config.peer
        }
        self._bytes_max = bytes_max
        self._answers: list[AnswerTwin] = []
        self._twin_asks: list[AskTwin] = []

    def receive(self, message: StreamMessage, now_ns: int) -> None:
        """Take in a message of a replica's stream. O(size), each item as `State.merge`."""
        replica, via = message.source, message.via
        if not isinstance(message, Heartbeat) and not _is_part(message):
            self.refuse("body", f"{replica!r} sent what no collector sends")
            return
        if not run_of(message.epoch):
            self.refuse("epoch", f"{replica!r} does not name its run")
            return
        if self.node in (replica, via) or names_node(message.epoch, self.node):
            self.refuse("circle", f"{replica!r} came back by way of {via!r}: see their --to")
            return
        route = self._route(replica, via)
        if route is None:
            self.refuse("sources", f"{replica!r} is one more than can be followed")
            return
        route.follower.run, route.follower.version = self._roll.extent(replica, via)
        route.follower.receive(message, now_ns)
        if not via and not isinstance(message, SnapshotChunk):
            self._roll.replicas[replica].heard_ns = now_ns
        if isinstance(message, Heartbeat):
            self._roll.hear(replica, route, message, now_ns)
        self._obey(route.follower, now_ns)

    def request(self, channel: Channel, peer: bytes, request: SnapshotRequest, now_ns: int) -> None:
        """Take in a request for a chunk; it is answered behind this batch.

        Upwards it names a replica. One that is not known yet is not answered, nor one of which the
        owner has to be asked something first: it will be asked for again.
        """
        if channel == "serve":
            self._requests.append((peer, request))
        elif self._up is not None and request.source in self._roll.replicas:
            if self._roll.doubts(request.source, request.run, request.version):
                for route in self._roll.replicas[request.source].routes.values():
                    route.follower.run, route.follower.version = request.run, request.version
                    route.follower.resync(now_ns)
                    self._obey(route.follower, now_ns)
            else:
                self._up.request(peer, request)

    def pass_down(self, peer: bytes, message: PassDown) -> None:
        """Take in what a node above passes down, to be passed on; it is told so. O(size)."""
        self._down.hear(message)
        self._confirmed[peer] = message.number

    def confirmed(self, child: str, number: int) -> None:
        """A node that is followed has heard what it was told. O(that)."""
        self._down.heard(child, number)

    def request_of_twin(
        self, peer: bytes, request: RosterRequest | SnapshotRequest, now_ns: int
    ) -> None:
        """Answer a twin: which replicas are known, or a chunk of one. O(replicas or chunk)."""
        if isinstance(request, RosterRequest):
            self._answers.append(AnswerTwin(peer, roster(self._roll, request, now_ns)))
            return
        answer = chunk(self._roll, self.state, self.node, request, self._bytes_max)
        if answer is not None:
            self._answers.append(AnswerTwin(peer, answer))

    def receive_from_twin(self, address: str, message: Roster | SnapshotChunk, now_ns: int) -> None:
        """Take in what the twin at an address answers. O(size)."""
        if isinstance(message, SnapshotChunk) and not (_is_part(message) and run_of(message.epoch)):
            self.refuse("body", f"the twin at {address} sent what none sends")
            return
        twin = self._twins[address]
        twin.receive(message, now_ns)
        self._obey_twin(twin, now_ns)

    def subscribed(self, channel: Channel, now_ns: int) -> None:
        """Somebody new follows: beat at once, so that they need not wait for the next beat.

        All who follow hear it, so that one per batch is enough.
        """
        if channel == "up":
            if self._up is not None:
                self._up.subscribed(now_ns)
        else:
            self._beat(now_ns)

    def refuse(self, reason: str, detail: str) -> None:
        """Count something that was turned away, and name the first of each reason."""
        if reason not in self.refused:
            self._logs.append(Log(f"refused ({reason}): {detail}; further ones are only counted"))
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def hosts(self, now_ns: int) -> list[HostStatus]:
        """How complete each host's part is. O(routes)."""
        return self._roll.statuses(now_ns)

    def next_timer_ns(self) -> int:
        """When `handle_timer` is due. O(snapshots that are under way)."""
        timers = (follower.next_timer_ns() for follower in self._unwhole.values())
        up = [] if self._up is None else [self._up.next_timer_ns()]
        twins = (twin.next_timer_ns() for twin in self._twins.values())
        due = [timer for timer in (*timers, *twins) if timer is not None]
        return min([self._beat_ns, *up, *due])

    def handle_timer(self, now_ns: int) -> None:
        """Beat, and ask again for what did not come. Steps of the clock do no harm.

        O(routes) with each beat, else O(snapshots that are under way).
        """
        for follower in list(self._unwhole.values()):
            self._time(follower, now_ns)
        for twin in self._twins.values():
            twin.handle_timer(now_ns)
            self._obey_twin(twin, now_ns)
        if self._memory is not None and self._memory.handle_timer(now_ns):
            for replica, known in self._roll.replicas.items():
                if known.run and now_ns - known.heard_ns <= 2 * HEARD_NS:
                    self._memory.heard(replica)
        interval_ns = self._config.heartbeat_interval_ms * MS
        if not now_ns < self._beat_ns <= now_ns + interval_ns:
            self._beat_ns = now_ns + interval_ns
            for replica, route in self._roll.routes():
                self._time(route.follower, now_ns)
                is_over = route.follower.is_stale(now_ns) or self._roll.is_replaced(replica)
                if is_over and (route.follower.via, replica) in self._syncing:
                    self._end_sync((route.follower.via, replica))
            for key in self._roll.tidy(now_ns):
                self._unwhole.pop(key, None)
                self._waiting.pop(key, None)
                self._end_sync(key)
            self._sweep(now_ns)
            self._beat(now_ns)
        if self._up is not None:
            self._up.handle_timer(now_ns)

    def take_effects(self) -> list[AggregatorEffect]:
        """Close the batch: Remember, Publish, Answer, Ask, Tell, Confirm, Log. O(what changed)."""
        effects: list[AggregatorEffect] = []
        remember = None if self._memory is None else self._memory.take(self._host)
        if remember is not None:
            effects.append(remember)
        effects += self._view.publish(self.state.take_touched())
        effects += self._beats
        effects += [] if self._up is None else self._up.take_effects()
        effects += (self._view.answer(*request) for request in self._requests)
        effects += self._answers
        effects += self._asks
        effects += self._twin_asks
        effects += self._tells
        effects += (Confirm(peer, Heard(number)) for peer, number in self._confirmed.items())
        effects += self._logs
        self._beats, self._requests, self._answers = [], [], []
        self._asks, self._twin_asks, self._tells, self._logs = [], [], [], []
        self._confirmed = {}
        return effects

    def remembered(self) -> None:
        """The last Remember was written."""
        if self._is_forgetful:
            self._logs.append(Log("the store is written again, and has all"))
        self._is_forgetful = False

    def not_remembered(self, batch: Remember, why: str) -> None:
        """The last Remember was not written: it goes on in memory, and tries again in a while."""
        if self._memory is not None:
            self._memory.put_back(batch)
        if not self._is_forgetful:
            self._logs.append(
                Log(f"{why}: it goes on in memory; a restart loses hosts that leave now")
            )
        self._is_forgetful = True
        self.refused["store"] = self.refused.get("store", 0) + 1

    def _sweep(self, now_ns: int) -> None:
        """Pass down what is news, and forget what is due of those who have departed."""
        for replica, known in self._roll.replicas.items():
            if known.host:
                self._down.tell_of(Member(replica, known.host))
        self._tells += self._down.sweep(self._roll.reach(now_ns), now_ns)
        for replica in self._departed.sweep(self._roll.departed(now_ns), now_ns):
            known = self._roll.replicas[replica]
            known.alterations += 1
            for route in known.routes.values():
                route.follower.begin_again()
            if self._memory is not None:
                self._memory.replaced(replica)

    def _beat(self, now_ns: int) -> None:
        if self._beats:
            return
        hosts = self.hosts(now_ns)
        twins = (twin.settling(now_ns) for twin in self._twins.values())
        settling = self._settling.why(hosts, now_ns, next(filter(None, twins), ""))
        lower_bound = self._lower_bound or self._roll.lower_bound()
        if not settling:
            lower_bound = lower_bound or self._roll.missing()
        if self._up is not None:
            self._up.settling, self._up.lower_bound = settling, lower_bound
        named = fitting(hosts)
        if len(named) < len(hosts):
            unnamed = f"{len(hosts) - len(named)} more hosts do not fit into a heartbeat"
            self.refuse("hosts", unnamed)
            lower_bound = lower_bound or unnamed
        beat = self._view.heartbeat(
            now_ns,
            named,
            self.refused,
            settling=settling,
            lower_bound=lower_bound,
            retention=self._config.retention.digest,
        )
        self._beats.append(beat)

    def _restore(self, remembered: Iterable[Remembered], now_ns: int) -> None:
        for host, rows in remembered:
            self.state.install(host.replica, host.version, [rows])
            known = Known(
                host=host.host,
                run=host.run,
                heard_ns=min(host.heard_ns, now_ns),
                said_ns=host.said_ns,
                watermark_ns=host.watermark_ns,
                lower_bound=host.lower_bound,
                replaces=host.replaces,
                retention=host.retention,
                alterations=1,
            )
            self._roll.add(host.replica, known)
            if self._up is not None:
                self._up.begin(host.replica, host.run, now_ns)
        self.state.take_touched()  # nobody follows yet

    def _host(self, replica: str) -> Host:
        known = self._roll.replicas[replica]
        return Host(
            replica=replica,
            host=known.host,
            run=known.run,
            version=self.state.versions.get(replica, 0),
            heard_ns=known.heard_ns,
            said_ns=known.said_ns,
            watermark_ns=known.watermark_ns,
            lower_bound=known.lower_bound,
            replaces=known.replaces,
            retention=known.retention,
        )

    def _route(self, replica: str, via: str) -> Route | None:
        """The route on which a replica is heard, a new one if there is room."""
        known = self._roll.replicas.get(replica)
        route = None if known is None else known.routes.get(via)
        if route is not None:
            return route
        if len(self._roll) >= self._config.sources_max:
            return None
        if known is None:
            known = Known()
            self._roll.add(replica, known)
        route = Route(Follower(replica, via=via, lanes=(0,), rng=self._rng))
        self._roll.add_route(known, route)
        return route

    def _time(self, follower: Follower, now_ns: int) -> None:
        follower.run, follower.version = self._roll.extent(follower.source, follower.via)
        follower.handle_timer(now_ns)
        self._obey(follower, now_ns, is_late=True)

    def _obey(self, follower: Follower, now_ns: int, *, is_late: bool = False) -> None:
        for effect in follower.take_effects():
            match effect:
                case Apply(delta):
                    self._merge(delta, follower, now_ns)
                case Install():
                    if self._take_snapshot(effect.source, effect.chunks, now_ns, follower.via):
                        self._down.begin(follower.via or follower.source)
                        for delta in effect.deltas:
                            self._merge(delta, follower, now_ns)
                    else:
                        follower.run, follower.version = self._roll.extent(
                            follower.source, follower.via
                        )
                        follower.resync(now_ns)
                    self._waiting.pop((follower.via, effect.source), None)
                    self._end_sync((follower.via, effect.source))
                case Ask():
                    if is_late and (effect.via, effect.source) in self._syncing:
                        self._end_sync((effect.via, effect.source))  # no answer: others first
                    self._ask(effect)
        if follower.next_timer_ns() is None:
            self._unwhole.pop((follower.via, follower.source), None)
        else:
            self._unwhole[follower.via, follower.source] = follower

    def _obey_twin(self, twin: Twin, now_ns: int) -> None:
        for effect in twin.take_effects():
            match effect:
                case AskTwin():
                    self._twin_asks.append(effect)
                case Fetched(status, chunks):
                    self._take_fetched(status, chunks, now_ns)

    def _take_fetched(
        self, status: HostStatus, chunks: tuple[SnapshotChunk, ...], now_ns: int
    ) -> None:
        """Take a replica from a twin: it is stale, unless it is heard here."""
        if status.replica not in self._roll.replicas:
            if len(self._roll) >= self._config.sources_max:
                self.refuse("sources", f"{status.replica!r} is one more than can be known")
                return
            known = Known(
                host=status.host,
                heard_ns=min(now_ns, status.since_ns),
                said_ns=status.since_ns,
                watermark_ns=status.watermark_ns,
                lower_bound=status.lower_bound,
                replaces=status.replaces,
                retention=status.retention,
            )
            self._roll.add(status.replica, known)
        self._take_snapshot(status.replica, chunks, now_ns, None)

    def _take_snapshot(
        self, replica: str, chunks: tuple[SnapshotChunk, ...], now_ns: int, via: str | None
    ) -> bool:
        """Take a snapshot that is newer than what is known: equal versions are equal contents.

        It came on the route `via`, from a twin if that is None.

        False if its owner may have less than what is known here, or some of it was forgotten by
        whoever passes it on while it was under way: then its chunks are of two parts.
        """
        alterations = chunks[0].alterations
        if any(chunk.alterations != alterations for chunk in chunks):
            return False
        epoch = chunks[0].epoch
        bodies = [c.body for c in chunks if isinstance(c.body, Fragment)]
        version, held = bodies[0].to_version, self.state.versions.get(replica, -1)
        run = run_of(epoch)
        known = self._roll.replicas[replica]
        is_other = run != known.run
        if via is not None:
            self._roll.learn(chunks[0].members)
            if not self._roll.vouch(replica, run, via):
                return False
        elif version > held:
            known.run = run
        for body in bodies:
            self._down.learn(body)
        if replica not in self.state.versions:
            # Monitors must not take back what is new, and no heartbeat names yet.
            self._beat_ns = min(self._beat_ns, now_ns + SOON_NS)
        is_mended = version == held and known.alterations > 0 and not alterations
        if version > held or is_mended:
            known.alterations = alterations or int(via is None)
            self.state.install(replica, version, bodies)
            self._departed.changed(replica)
            if self._memory is not None:
                self._memory.replaced(replica)
        if self._up is not None and (version > held or is_mended or is_other):
            self._up.begin(replica, epoch, now_ns)
        return True

    def _merge(self, delta: Delta, follower: Follower, now_ns: int) -> None:
        assert isinstance(delta.body, Fragment)
        known = self.state.versions.get(delta.source, 0)
        is_news = delta.body.to_version > known
        if is_news and run_of(delta.epoch) != self._roll.replicas[delta.source].run:
            follower.resync(now_ns)
            return
        try:
            self.state.merge(delta.body)
        except LocalProtocolError as error:
            # Sequences without a hole, versions with one: nobody who keeps the rules sends that.
            self.refuse("versions", str(error))
            follower.resync(now_ns)
        else:
            if not is_news:
                return
            self._down.learn(delta.body)
            self._departed.changed(delta.source)
            if self._memory is not None:
                self._memory.merged(delta.body)
            if self._up is not None:
                self._up.publish(delta.body)

    def _ask(self, ask: Ask) -> None:
        """Pass on a request, if not too many others are under way; else it waits its turn."""
        key = (ask.via, ask.source)
        if key in self._syncing or len(self._syncing) < self._config.syncs_max:
            self._syncing[key] = None
            self._asks.append(ask)
        else:
            self._waiting[key] = ask

    def _end_sync(self, key: tuple[str, str]) -> None:
        self._syncing.pop(key, None)
        while self._waiting and len(self._syncing) < self._config.syncs_max:
            waiting = next(iter(self._waiting))
            self._ask(self._waiting.pop(waiting))


def _is_part(message: Delta | SnapshotChunk) -> bool:
    """Whether it holds what its source keeps, and not what shows or what others keep."""
    return isinstance(message.body, Fragment) and message.body.replica == message.source
