"""A recording served to monitors, as the node that was recorded would have.

Theory of operation. The events are taken in when they are due: as long after the first as they came
then, divided by the speed. What they move is published as one stream of one run, also where the
recorder had turned to another run of the node: a later `Whole` is published as its difference to
what showed. A heartbeat says of the hosts what was last heard of them then, and that all is
`settling` while the recording is in doubt. At its end the last state goes on being served.

Publish comes before Answer, as what is answered holds what was published; Log comes last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from shardlog.crdt.delta import ERASED, FORGOTTEN
from shardlog.crdt.path import path_text
from shardlog.crdt.replication.messages import LANES, Answer, Log, Publish, lane_of
from shardlog.crdt.replication.publisher import Publisher
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.replica import Replica
from shardlog.monitor.rows import Batch, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.replication.messages import Changes, Heartbeat, SnapshotRequest
    from shardlog.monitor.change import Change
    from shardlog.monitor.feed import Event

INTERVAL_MS = 1000
EVENTS_MAX = 256
"""So many events are taken in before others are looked after."""

ReplayEffect: TypeAlias = Publish | Answer | Log


class Replay:
    """Serves events from `now_ns` on, at a multiple of the speed at which they came.

    `source` is a name that no earlier run had; `bytes_max` is about how large a message may be.
    """

    def __init__(
        self, events: Iterator[Event], *, source: str, speed: float, now_ns: int, bytes_max: int
    ) -> None:
        self._events = events
        self._speed = speed
        self._bytes_max = bytes_max
        self._stream = Publisher(source, source, lanes=LANES, interval_ms=INTERVAL_MS)
        self._replica = Replica()
        self._heard: Heartbeat | None = None
        self._doubt = ""
        self._started_ns = now_ns
        self._coming = next(events, None)
        self._first_ns = 0 if self._coming is None else self._coming.at_ns
        self._published: list[Publish] = []
        self._answers: list[Answer] = []
        self._logs: list[Log] = []

    def request(self, peer: bytes, request: SnapshotRequest) -> None:
        """Answer a request for a chunk. O(log n + chunk)."""
        body, following = self._replica.chunk(request.after, self._bytes_max)
        chunk = self._stream.chunk(request, body, following)
        self._answers.append(Answer("serve", peer, chunk))

    def subscribed(self, now_ns: int) -> None:
        """Somebody new follows: beat at once."""
        self._beat(now_ns)

    def next_timer_ns(self) -> int:
        """When `handle_timer` is due."""
        beat_ns = self._stream.next_heartbeat_ns
        return beat_ns if self._coming is None else min(beat_ns, self._due_ns(self._coming))

    def handle_timer(self, now_ns: int) -> None:
        """Take in what is due, up to EVENTS_MAX events, and beat. O(as `Replica`)."""
        for _ in range(EVENTS_MAX):
            if self._coming is None or self._due_ns(self._coming) > now_ns:
                break
            self._take(self._coming)
            self._coming = next(self._events, None)
            if self._coming is None:
                self._logs.append(Log("this was all; its last state is served until it is ended"))
        if now_ns >= self._stream.next_heartbeat_ns:
            self._beat(now_ns)

    def take_effects(self) -> list[ReplayEffect]:
        """What is to be done now, in order."""
        effects: list[ReplayEffect] = [*self._published, *self._answers, *self._logs]
        self._published, self._answers, self._logs = [], [], []
        return effects

    def _due_ns(self, event: Event) -> int:
        return self._started_ns + int((event.at_ns - self._first_ns) / self._speed)

    def _take(self, event: Event) -> None:
        match event:
            case Whole(at_ns, changes):
                self._publish_all(self._replica.install(changes, (), at_ns))
            case Moved(_, changes):
                self._replica.apply(changes)
                if changes.rows:
                    self._publish(lane_of(changes.rows[0].path), changes)
            case Heard(_, heartbeat):
                self._heard = heartbeat
            case Doubt(_, reason):
                self._doubt = reason

    def _publish_all(self, changes: list[Change]) -> None:
        batches: dict[int, Batch] = {}
        for change in changes:
            path = path_text(change.path)
            batch = batches.setdefault(lane_of(path), Batch())
            shown = self._replica.shown(path)
            if shown is None:
                kind = FORGOTTEN if change.gone == "forgotten" else ERASED
                batch.add(path, kind, None, change.at_ns, "")
            else:
                batch.add(path, *shown)
        for lane, batch in batches.items():
            self._publish(lane, batch.take())

    def _publish(self, lane: int, changes: Changes) -> None:
        for part in split(changes, self._bytes_max):
            self._published.append(Publish("serve", self._stream.delta(lane, part)))

    def _beat(self, now_ns: int) -> None:
        heard = self._heard
        doubt = f"the recording is in doubt: {self._doubt}" if self._doubt else ""
        beat = self._stream.heartbeat(
            now_ns,
            [] if heard is None else heard.hosts,
            {} if heard is None else heard.refused,
            settling=doubt or ("" if heard is None else heard.settling),
            lower_bound="" if heard is None else heard.lower_bound,
            retention="" if heard is None else heard.retention,
        )
        self._published.append(Publish("serve", beat))
