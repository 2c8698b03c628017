"""What one thread learns of a cluster, where all others may read it."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from shardlog.monitor.replica import Replica
from shardlog.monitor.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from shardlog.crdt.replication.messages import Changes, Heartbeat
    from shardlog.monitor.change import Change

    T = TypeVar("T")


class Board:
    """A replica under a lock, and those who watch it. A watch that nobody holds is dropped."""

    def __init__(self) -> None:
        self.heartbeat: Heartbeat | None = None
        """The server's last; what it tells of has been taken in, or `is_whole` is no more."""
        self.is_whole = False
        """Whether nothing is known to be missing of what the server has said."""
        self._moved = threading.Condition()
        self._replica = Replica()
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._is_complete = False
        self._is_closed = False

    def trust(self, *, is_whole: bool, doubt: str, now_ns: int) -> None:
        """Note whether something is missing; of all other doubt `Cluster` asks the link."""
        self.is_whole &= is_whole

    def hear(self, heartbeat: Heartbeat | None, now_ns: int) -> None:
        """Note what the server said last."""
        self.heartbeat = heartbeat

    def wants_whole(self) -> bool:
        """Never: nothing that was written here is lost."""
        return False

    def install(self, chunks: Sequence[Changes], deltas: Sequence[Changes], now_ns: int) -> None:
        """Replace all by a snapshot. Complexity: `Replica.install`."""
        with self._moved:
            self._tell(self._replica.install(chunks, deltas, now_ns))
            self._is_complete = self.is_whole = True
            self._moved.notify_all()

    def apply(self, changes: Changes, now_ns: int) -> None:
        """Take in a delta. Complexity: `Replica.apply`."""
        with self._moved:
            self._tell(self._replica.apply(changes))

    def close(self) -> None:
        """Nothing more will come: end all waiting. What was learned stays."""
        with self._moved:
            self._is_closed = True
            self._moved.notify_all()
            for watch in list(self._watches):
                watch.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first whole snapshot; whether it is there."""
        with self._moved:
            self._moved.wait_for(lambda: self._is_complete or self._is_closed, max(timeout_s, 0))
            return self._is_complete

    def read(self, question: Callable[[Replica], T]) -> T:
        """What the replica answers; nothing moves meanwhile."""
        with self._moved:
            return question(self._replica)

    def watch(self, pattern: str, owner: object = None) -> Watch:
        """All changes that come after this call; as long as it is held, `owner` is."""
        watch = Watch(pattern, owner)
        with self._moved:
            if self._is_closed:
                watch.close()
            self._watches.add(watch)
        return watch

    def _tell(self, changes: list[Change]) -> None:
        if changes:
            for watch in list(self._watches):
                watch.push(changes)
