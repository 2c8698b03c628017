"""The streams that an aggregator passes on to those above it: one a replica, as they were heard.

Theory of operation. A fragment is passed on as it is, once, by whichever route it came first. Its
versions are the replica's, so whoever hears it from several nodes has it once. What is numbered
anew is the stream: where a replica was installed from a snapshot there is no fragment for what lies
between, so the stream begins a new epoch and those above ask for a snapshot, which is answered from
the state. An epoch names every node on the way, so that a node notices its own words.

Heartbeats, one a replica, go out in turns spread over the interval: all at once would overflow the
queues of those above, and all of them would be resynced for nothing.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from shardlog.collector.aggregator.roll import passed_epoch
from shardlog.collector.aggregator.settling import JUST_STARTED
from shardlog.crdt.replication.messages import Answer, Publish
from shardlog.crdt.replication.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.collector.aggregator.roll import Roll
    from shardlog.crdt.delta import Fragment
    from shardlog.crdt.replication.messages import SnapshotRequest
    from shardlog.crdt.state import State

MS = 1_000_000
BEATS_AT_ONCE = 50


class Upward:
    """All streams that the node of this name passes on. The name is that of no earlier run."""

    def __init__(
        self, state: State, roll: Roll, node: str, *, interval_ms: int, bytes_max: int
    ) -> None:
        self.settling = JUST_STARTED
        self.lower_bound = ""
        self._state = state
        self._roll = roll
        self._node = node
        self._interval_ms = interval_ms
        self._bytes_max = bytes_max
        self._streams: dict[str, Publisher] = {}
        self._turns: deque[str] = deque()
        self._numbers = count(1)
        self._beat_ns = 0
        self._published: list[Publish] = []
        self._requests: list[tuple[bytes, SnapshotRequest]] = []

    def begin(self, replica: str, epoch: str, now_ns: int) -> None:
        """Pass a replica on as a new stream, where that of `epoch` can't be continued or begins."""
        if replica not in self._streams:
            self._turns.append(replica)
        self._streams[replica] = Publisher(
            replica,
            passed_epoch(epoch, self._node, next(self._numbers)),
            lanes=1,
            interval_ms=self._interval_ms,
            via=self._node,
        )
        self._beat(replica, now_ns)

    def publish(self, fragment: Fragment) -> None:
        """Pass a fragment on, which was news here."""
        stream = self._streams[fragment.replica]
        self._published.append(Publish("up", stream.delta(0, fragment)))

    def request(self, peer: bytes, request: SnapshotRequest) -> bool:
        """Take in a request for a chunk; False if there is no such replica."""
        if request.source not in self._streams:
            return False
        self._requests.append((peer, request))
        return True

    def subscribed(self, now_ns: int) -> None:
        """Somebody new follows: the next turn begins now."""
        self._beat_ns = now_ns

    def next_timer_ns(self) -> int:
        """When the next turn of heartbeats is due."""
        return self._beat_ns

    def handle_timer(self, now_ns: int) -> None:
        """Beat for as many replicas as may be at once. Steps of the clock do no harm. O(beats)."""
        interval_ns = self._interval_ms * MS
        if now_ns < self._beat_ns <= now_ns + interval_ns:
            return
        beats = min(len(self._turns), BEATS_AT_ONCE)
        for _ in range(beats):
            self._beat(self._turns[0], now_ns)
            self._turns.rotate(-1)
        self._beat_ns = now_ns + interval_ns * max(beats, 1) // max(len(self._turns), 1)

    def take_effects(self) -> Iterator[Publish | Answer]:
        """What is to be published, in order, and then the answers."""
        yield from self._published
        for peer, request in self._requests:
            fragment, following = self._state.snapshot(
                request.source, request.after, self._bytes_max
            )
            stream = self._streams[request.source]
            chunk = stream.chunk(request, fragment, following)
            alterations = self._roll.replicas[request.source].alterations
            yield Answer("up", peer, msgspec.structs.replace(chunk, alterations=alterations))
        self._published, self._requests = [], []

    def _beat(self, replica: str, now_ns: int) -> None:
        beat = self._streams[replica].heartbeat(
            now_ns,
            [self._roll.passed_on(replica, now_ns)],
            {},
            settling=self.settling,
            lower_bound=self.lower_bound,
        )
        self._published.append(Publish("up", beat))
