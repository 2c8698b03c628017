"""Following a node event by event, from a thread that may wait for them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from shardlog.crdt.endpoint import check_address
from shardlog.crdt.errors import Unreachable
from shardlog.monitor.client import Link
from shardlog.monitor.feed import ROWS_MAX, Feed

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from shardlog.crdt.replication.messages import Changes, Heartbeat
    from shardlog.monitor.feed import Event


class Inbox:
    """A feed under a lock. What a link calls is as in `Feed`; it never waits for who takes."""

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self._feed = Feed(rows_max)
        self._moved = threading.Condition()
        self._is_woken = False
        self._is_closed = False

    def take(self, timeout_s: float) -> list[Event]:
        """All that waits, in order; waits for something, or for `wake`, for at most so long."""
        with self._moved:
            self._moved.wait_for(lambda: self._feed.waits or self._is_woken, max(timeout_s, 0))
            self._is_woken = False
            return self._feed.take()

    def wake(self) -> None:
        """End a `take` that waits, or the next one; from any thread."""
        with self._moved:
            self._is_woken = True
            self._moved.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first `Whole`; whether it was there."""
        with self._moved:
            self._moved.wait_for(lambda: self._feed.is_shown or self._is_closed, timeout_s)
            return self._feed.is_shown

    def trust(self, *, is_whole: bool, doubt: str, now_ns: int) -> None:
        """From the link: whether what shows is in doubt."""
        with self._telling():
            self._feed.trust(is_whole=is_whole, doubt=doubt, now_ns=now_ns)

    def install(self, chunks: Sequence[Changes], deltas: Sequence[Changes], now_ns: int) -> None:
        """From the link: all that shows."""
        with self._telling():
            self._feed.install(chunks, deltas, now_ns)

    def apply(self, changes: Changes, now_ns: int) -> None:
        """From the link: what has changed."""
        with self._telling():
            self._feed.apply(changes, now_ns)

    def hear(self, heartbeat: Heartbeat | None, now_ns: int) -> None:
        """From the link: the last heartbeat."""
        with self._telling():
            self._feed.hear(heartbeat, now_ns)

    def wants_whole(self) -> bool:
        """For the link: whether all is to be asked for anew."""
        with self._moved:
            return self._feed.wants_whole()

    def close(self) -> None:
        """From the link: nothing more will come."""
        with self._moved:
            self._is_closed = True
            self._moved.notify_all()

    @contextlib.contextmanager
    def _telling(self) -> Generator[None]:
        with self._moved:
            yield
            if self._feed.waits:
                self._moved.notify_all()


@contextlib.contextmanager
def follow(url: str, *, timeout_ms: int = 5000, rows_max: int = ROWS_MAX) -> Generator[Inbox]:
    """Follow what an aggregator, or a collector, serves at `url`, for as long as the block.

    Begins when the first `Whole` waits to be taken.

    Raises:
        ConfigError: `url` is not an address.
        Unreachable: the snapshot was not there after `timeout_ms`.
    """
    check_address(url, insecure=True)  # who only reads opens nothing to others
    inbox = Inbox(rows_max)
    link = Link(url, inbox)
    link.start()
    try:
        if not inbox.wait(timeout_ms / 1000):
            raise Unreachable(link.problem())
        yield inbox
    finally:
        link.close()
