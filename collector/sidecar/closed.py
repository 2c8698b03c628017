"""The ids of processes that have ended: nothing that still comes from one is counted again.

Theory. An ended process leaves no marks, so a repeated total of it would count anew. Its id is
therefore remembered for a day, as a hash of 63 bits: with a million of them a new process is
mistaken for an ended one once in 10^13. To forget an id is to move the watermark above its start:
whatever is not known and started below the watermark may have been forgotten, and is refused.

Ids are kept in buckets, in the order of closing, each a sorted array: 8 bytes an id, and a bucket
is forgotten as a whole. A process that is known is never looked up here, so that the search through
all buckets is paid once per process.

Known anomaly. A start that lies after the closing, by a clock that stepped or an id that was made
up, does not move the watermark further than the closing: else one such id would shut out all
others.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shardlog.collector.batch import Closed
from shardlog.crdt.process_id import started_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR_NS = 3600 * 10**9
KEPT_NS = 24 * HOUR_NS
KEPT_MAX = 1_000_000
BUCKET_IDS = 4096
BUCKET_NS = HOUR_NS


def closed_key(process: str) -> int:
    """What is remembered of an id: 63 bits, as a store's integers have. O(len)."""
    digest = hashlib.blake2b(process.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(slots=True)
class _Bucket:
    """Ids that were closed one after the other."""

    opened_ns: int
    closed_ns: int = 0
    started_ns: int = 0
    end: int = 0
    keys: array[int] = field(default_factory=lambda: array("Q"))


class ClosedIds:
    """The closed ids of one replica."""

    def __init__(self, rows: Iterable[Closed] = (), watermark_ns: int = 0) -> None:
        self.watermark_ns = watermark_ns
        self._buckets: deque[_Bucket] = deque()
        self._size = 0
        self._next = 1
        self._forgotten = 0
        for row in rows:
            self._put(row)

    def __len__(self) -> int:
        return self._size

    @property
    def forgotten(self) -> int:
        """Rows numbered below this are forgotten."""
        return self._forgotten

    def refuses(self, process: str) -> bool:
        """Whether a process that is not known has, or may have, ended. O(buckets x log)."""
        return started_ns(process) < self.watermark_ns or process in self

    def __contains__(self, process: str) -> bool:
        key = closed_key(process)
        return any(_has(bucket.keys, key) for bucket in self._buckets)

    def add(self, process: str, now_ns: int) -> Closed:
        """Close an id; the row that a store keeps of it. O(bucket) at worst."""
        started = min(started_ns(process), now_ns)
        row = Closed(self._next, closed_key(process), started, now_ns)
        self._put(row)
        return row

    def forget(self, now_ns: int) -> bool:
        """Forget what is a day old, and the oldest beyond the limit; whether there was any."""
        before = self._forgotten
        while self._buckets and (
            self._size > KEPT_MAX or now_ns - self._buckets[0].closed_ns > KEPT_NS
        ):
            bucket = self._buckets.popleft()
            self._size -= len(bucket.keys)
            self._forgotten = bucket.end
            self.watermark_ns = max(self.watermark_ns, bucket.started_ns + 1)
        return self._forgotten != before

    def _put(self, row: Closed) -> None:
        bucket = self._buckets[-1] if self._buckets else None
        is_full = bucket is not None and (
            len(bucket.keys) >= BUCKET_IDS or abs(row.closed_ns - bucket.opened_ns) >= BUCKET_NS
        )
        if bucket is None or is_full:
            bucket = _Bucket(row.closed_ns)
            self._buckets.append(bucket)
        bucket.closed_ns = max(bucket.closed_ns, row.closed_ns)
        bucket.started_ns = max(bucket.started_ns, row.started_ns)
        bucket.end = self._next = row.number + 1
        insort(bucket.keys, row.key)
        self._size += 1


def _has(keys: array[int], key: int) -> bool:
    at = bisect_left(keys, key)
    return at < len(keys) and keys[at] == key
