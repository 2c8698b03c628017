"""The receiving end of a stream: unknown -> syncing -> live, without holes.

Theory of operation. The rules of "Clone" and CHP (ZeroMQ guide, chapter 5; RFC 12), with what they
lack: an epoch, a test for gaps, and a heartbeat that carries the sequences.

    unknown   the first heartbeat starts the first request. Asking only then closes the race between
              subscription and snapshot: whatever is published from here on arrives. A delta does
              not: only heartbeats say for whom a replica goes on, and what is taken in of it must
              not be there beside what is yet taken in of that one.
    syncing   deltas are buffered, chunks collected. Each chunk carries the sequences as of its
              making. When the last one is there and the buffer reaches from the first chunk's
              sequences to the last one's without a hole, chunks and deltas are installed at once.
              A hole, an overflow of the buffer or a new epoch begins again; a chunk that does
              not come is asked for again, with growing, jittered pauses.
    live      sequence <= known: a repetition, dropped. known + 1: applied. Beyond: a gap, back to
              syncing. A heartbeat that knows more than was heard: the tail was lost, likewise.

What a source once told it does not take back: a snapshot of another run of it, whose version is
below the one that is known, is that of a store that went back in time, and is not installed. Each
request says the run and the version that are known, so that the source learns of it and goes on
under another name; until then it is asked again, with growing pauses.

A source that has not been heard for three of its heartbeat intervals is *stale*; what it said is
kept. It is an observation beside the three states: a stale source that speaks again has either not
moved on, or shows a gap.

The effects come in this order: Apply and Install as the stream goes, Ask last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shardlog.crdt.delta import Fragment
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.replication.messages import (
    Apply,
    Ask,
    Delta,
    Heartbeat,
    Install,
    SnapshotChunk,
    SnapshotRequest,
    run_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from shardlog.crdt.replication.messages import StreamMessage

MS = 1_000_000
RETRY_MS_MIN = 500
RETRY_MS_MAX = 30_000
MISSED_HEARTBEATS = 3
BUFFER_DELTAS_MAX = 10_000


class Follower:
    """Follows one source over the given lanes, on one route: `via` who passes it on, "" if none.

    `run` and `version` say how far the replica is known, of a stream of fragments; "" and 0 if
    nothing is. Who follows it on several routes says so before it hands anything in.
    """

    def __init__(
        self,
        source: str,
        *,
        lanes: Sequence[int],
        rng: Random,
        via: str = "",
        buffer_deltas_max: int = BUFFER_DELTAS_MAX,
        run: str = "",
        version: int = 0,
    ) -> None:
        self.source = source
        self.via = via
        self.phase: Literal["unknown", "syncing", "live"] = "unknown"
        self.heard_ns = 0
        self.gaps = 0
        self.run = run
        self.version = version
        self._rng = rng
        self._lanes = tuple(lanes)
        self._buffer_deltas_max = buffer_deltas_max
        self._epoch = ""
        self._interval_ms = 1000
        self._known: dict[int, int] = {}
        self._buffer: list[Delta] = []
        self._chunks: list[SnapshotChunk] = []
        self._request = 0
        self._retry_ms = RETRY_MS_MIN
        self._retry_ns: int | None = None
        self._ask: Ask | None = None
        self._effects: list[Apply | Install] = []

    def receive(self, message: StreamMessage, now_ns: int) -> None:
        """Take in a message of this source. O(1), or O(buffer) while syncing.

        Raises:
            RemoteProtocolError: it does not have the lanes that are followed; nothing changed.
        """
        if not isinstance(message, Delta) and len(message.sequences) <= max(self._lanes):
            raise RemoteProtocolError("malformed", f"a stream of {len(message.sequences)} lanes")
        if isinstance(message, SnapshotChunk):
            self._receive_chunk(message, now_ns)
            return
        self.heard_ns = now_ns
        if self.phase == "unknown" and isinstance(message, Delta):
            return
        if self.phase == "unknown" or message.epoch != self._epoch:
            self._epoch = message.epoch
            self._buffer.clear()
            self._retry_ms = RETRY_MS_MIN
            self._sync(now_ns)
        if isinstance(message, Heartbeat):
            self._interval_ms = message.interval_ms
            if self.phase == "live" and any(
                message.sequences[lane] > self._known[lane] for lane in self._lanes
            ):
                self._gap(now_ns)
        elif message.lane in self._lanes:
            self._receive_delta(message, now_ns)

    def resync(self, now_ns: int) -> None:
        """What was applied does not fit what is known: ask for a snapshot, as after a gap."""
        self._buffer.clear()
        self._gap(now_ns)

    def begin_again(self) -> None:
        """What was installed does not stand any more: the next heartbeat starts a request."""
        self.phase = "unknown"
        self._retry_ns = None

    def is_stale(self, now_ns: int) -> bool:
        """Whether the source has been silent for three of its intervals."""
        return now_ns - self.heard_ns > MISSED_HEARTBEATS * self._interval_ms * MS

    def next_timer_ns(self) -> int | None:
        """When `handle_timer` has something to do, None if never."""
        return self._retry_ns

    def handle_timer(self, now_ns: int) -> None:
        """Ask again for a chunk that did not come, or from the start for deltas that did not.

        A clock that stepped back makes nothing wait longer than its own pause.
        """
        self.heard_ns = min(self.heard_ns, now_ns)
        if self._retry_ns is None:
            return
        self._retry_ns = min(self._retry_ns, now_ns + 2 * self._retry_ms * MS)
        if now_ns < self._retry_ns:
            return
        self._retry_ms = min(2 * self._retry_ms, RETRY_MS_MAX)
        if self._chunks and self._chunks[-1].next is None:
            self._sync(now_ns)
        else:
            self._ask_chunk(now_ns)

    def take_effects(self) -> list[Apply | Install | Ask]:
        """What is to be done now, in order; each effect is handed out once."""
        effects: list[Apply | Install | Ask] = [*self._effects]
        self._effects = []
        if self._ask is not None:
            effects.append(self._ask)
            self._ask = None
        return effects

    def _receive_delta(self, delta: Delta, now_ns: int) -> None:
        if self.phase == "syncing":
            if len(self._buffer) >= self._buffer_deltas_max:
                self._buffer.clear()
                self._sync(now_ns)
            self._buffer.append(delta)
            self._try_install(now_ns)
        elif delta.sequence == self._known[delta.lane] + 1:
            self._known[delta.lane] = delta.sequence
            self._effects.append(Apply(delta))
            self._know(delta)
        elif delta.sequence > self._known[delta.lane]:
            self._buffer.append(delta)
            self._gap(now_ns)

    def _receive_chunk(self, chunk: SnapshotChunk, now_ns: int) -> None:
        awaited = self._chunks[-1].next if self._chunks else None
        if (
            self.phase != "syncing"
            or (chunk.epoch, chunk.request, chunk.after) != (self._epoch, self._request, awaited)
            or (self._chunks and awaited is None)
        ):
            return
        self._chunks.append(chunk)
        if chunk.next is None:
            self._ask = None
            self._try_install(now_ns)
        else:
            self._ask_chunk(now_ns)

    def _try_install(self, now_ns: int) -> None:
        if not self._chunks or self._chunks[-1].next is not None:
            return
        known = {lane: self._chunks[0].sequences[lane] for lane in self._lanes}
        behind: list[Delta] = []
        for delta in self._buffer:
            if delta.sequence == known[delta.lane] + 1:
                known[delta.lane] = delta.sequence
                behind.append(delta)
            elif delta.sequence > known[delta.lane]:
                self._sync(now_ns)
                return
        if any(known[lane] < self._chunks[-1].sequences[lane] for lane in self._lanes):
            return
        newest = behind[-1] if behind else self._chunks[0]
        if self._is_back(newest):
            self._chunks = []
            self._request += 1
            return
        self._know(newest)
        self._effects.append(Install(self.source, tuple(self._chunks), tuple(behind)))
        self._known = known
        self._chunks = []
        self._buffer = []
        self._retry_ns = None
        self._retry_ms = RETRY_MS_MIN
        self.phase = "live"

    def _is_back(self, newest: Delta | SnapshotChunk) -> bool:
        """Whether another run of the source has less than is known of it."""
        body = newest.body
        is_less = isinstance(body, Fragment) and body.to_version < self.version
        return is_less and run_of(newest.epoch) != self.run

    def _know(self, newest: Delta | SnapshotChunk) -> None:
        if isinstance(newest.body, Fragment):
            self.run = run_of(newest.epoch)
            self.version = max(self.version, newest.body.to_version)

    def _gap(self, now_ns: int) -> None:
        self.gaps += 1
        self._sync(now_ns)

    def _sync(self, now_ns: int) -> None:
        self.phase = "syncing"
        self._chunks = []
        self._request += 1
        self._ask_chunk(now_ns)

    def _ask_chunk(self, now_ns: int) -> None:
        after = self._chunks[-1].next if self._chunks else None
        source = self.source if self.via else ""
        request = SnapshotRequest(self._request, after, source, self.run, self.version)
        self._ask = Ask(self.source, request, self.via)
        self._retry_ns = now_ns + int(self._retry_ms * (1 + self._rng.random())) * MS
