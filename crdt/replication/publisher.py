"""The sending end of a stream: numbers deltas, beats, and answers for snapshots.

Theory. A stream is (source, epoch, lane, sequence): the epoch is drawn anew at every start of the
source, sequences are contiguous from 1 within it. The heartbeat travels on the same link and tells
the newest sequence of every lane: without it the loss of the last delta before a quiet time would
never be noticed (ZeroMQ guide, chapter 5, "Clone"; CHP, RFC 12, whose HUGZ lacks just this).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.replication.messages import (
    TEXT_CHARACTERS_MAX,
    Delta,
    Heartbeat,
    SnapshotChunk,
)

if TYPE_CHECKING:
    from shardlog.crdt.delta import Fragment
    from shardlog.crdt.replication.messages import Changes, HostStatus, SnapshotRequest

MS = 1_000_000


class Publisher:
    """One stream of `lanes` lanes. All methods O(lanes) or better.

    >>> stream = Publisher("replica-1", "epoch-1", lanes=1, interval_ms=1000)
    >>> stream.delta(0, None).sequence, stream.delta(0, None).sequence
    (1, 2)
    >>> stream.heartbeat(5, [], {}).sequences
    [2]
    """

    def __init__(
        self, source: str, epoch: str, *, lanes: int, interval_ms: int, via: str = ""
    ) -> None:
        self.source = source
        self.epoch = epoch
        self.via = via
        self.next_heartbeat_ns = 0
        self._interval_ms = interval_ms
        self._sequences = [0] * lanes

    def delta(self, lane: int, body: Fragment | Changes) -> Delta:
        """The next delta of a lane."""
        self._sequences[lane] += 1
        return Delta(self.source, self.epoch, lane, self._sequences[lane], body, self.via)

    def heartbeat(
        self,
        now_ns: int,
        hosts: list[HostStatus],
        refused: dict[str, int],
        *,
        settling: str = "",
        lower_bound: str = "",
        retention: str = "",
    ) -> Heartbeat:
        """A heartbeat; the next is due one interval later."""
        self.next_heartbeat_ns = now_ns + self._interval_ms * MS
        return Heartbeat(
            self.source,
            self.epoch,
            now_ns,
            self._interval_ms,
            list(self._sequences),
            hosts,
            dict(refused),
            self.via,
            settling[:TEXT_CHARACTERS_MAX],
            lower_bound[:TEXT_CHARACTERS_MAX],
            retention,
        )

    def chunk(
        self, request: SnapshotRequest, body: Fragment | Changes, following: str | None
    ) -> SnapshotChunk:
        """The answer to a request, as things stand after the last delta."""
        return SnapshotChunk(
            self.source,
            self.epoch,
            request.request,
            request.after,
            following,
            list(self._sequences),
            body,
            self.via,
        )
