"""Connecting to a node: a thread that owns its sockets and follows what the node serves."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Protocol

import zmq

from shardlog.collector import follow
from shardlog.crdt.endpoint import check_address, snapshot_address
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.replication.messages import (
    LANES,
    Apply,
    Ask,
    Changes,
    Heartbeat,
    Install,
    SnapshotChunk,
)
from shardlog.crdt.wire import codec
from shardlog.monitor.board import Board
from shardlog.monitor.cluster import Cluster
from shardlog.monitor.machine import Following

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shardlog.crdt.replication.messages import Delta, StreamMessage

MS = 1_000_000
CLOSE_PATIENCE_S = 2.0


def connect(url: str, *, timeout_ms: int = 5000) -> Cluster:
    """Follow what an aggregator, or a collector, serves at `url`.

    Waits until all of it is there; within a running event loop `async with`, or the first read,
    does that instead. Several may be open at once.

    Raises:
        ConfigError: `url` is not an address.
        Unreachable: the snapshot was not there after `timeout_ms`.
    """
    check_address(url, insecure=True)  # who only reads opens nothing to others
    board = Board()
    link = Link(url, board)
    link.start()
    cluster = Cluster(url, board, link, timeout_ms=timeout_ms)
    if not _is_in_event_loop():
        cluster.wait()
    return cluster


class Sink(Protocol):
    """Where a link writes what it learns, in its thread: nothing here may wait for long.

    All times are wall clock at the start of the link plus what has gone by since: they never step.
    """

    def trust(self, *, is_whole: bool, doubt: str, now_ns: int) -> None:
        """Something is missing unless `is_whole`; `doubt` is why that, or what shows, is in doubt.

        Both are said before what comes with them if they are bad news, and behind it in any case.
        """
        ...

    def install(self, chunks: Sequence[Changes], deltas: Sequence[Changes], now_ns: int) -> None:
        """All that shows is this snapshot, with the deltas behind it."""
        ...

    def apply(self, changes: Changes, now_ns: int) -> None:
        """This has changed."""
        ...

    def hear(self, heartbeat: Heartbeat | None, now_ns: int) -> None:
        """What the run that shows said last; it may have been told before."""
        ...

    def wants_whole(self) -> bool:
        """Whether all is to be asked for anew; said once."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class Link(threading.Thread):
    """Follows one address and writes into the sink what it learns; all sockets are this thread's.

    What is taken, and when, is decided by its `Following`.
    """

    def __init__(self, url: str, sink: Sink) -> None:
        super().__init__(name="shardlog-monitor", daemon=True)
        self._url = url
        self._sink = sink
        self._context = follow.new_context()
        self._sub = follow.sub_connect(self._context, url, [b""])
        self._dealer = follow.dealer_connect(self._context, snapshot_address(url))
        self._following = Following(random.Random())
        self._request: bytes | None = None
        self._wall_clock_ns = time.time_ns() - time.monotonic_ns()
        self._refused = ""
        self._is_closing = False
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)

    def close(self) -> None:
        """End the thread and wait for it, within bounds; may be repeated.

        It may wait itself for a lock that nobody gives back: a Ctrl-C between taking a lock and
        the `with` that would release it leaves it locked. That must not keep the program.
        """
        self._is_closing = True
        if self.is_alive():  # not in a forked child, which has the sockets but not the thread
            with contextlib.suppress(OSError):  # it has just ended
                self._waker.send(b"\0")
        # A garbage collection may end up here in any thread: this one cannot wait for itself.
        if threading.current_thread() is not self:
            self.join(CLOSE_PATIENCE_S)

    def stale_since_ns(self) -> int | None:
        """Since when what shows is not what the node has. Wall clock, ns."""
        since_ns = self._following.stale_since_ns(time.monotonic_ns())
        return None if since_ns is None else since_ns + self._wall_clock_ns

    def note(self) -> str:
        """Why what shows is not what the node has, or lacks something; one line, or ""."""
        return self._following.note

    def problem(self) -> str:
        """Why there is no snapshot, in one line."""
        if self._refused:
            return f"{self._url}: what comes from there is not understood ({self._refused})"
        if self._following.is_heard:
            return f"{self._url}: the node there is heard, but its snapshot does not come"
        return f"{self._url}: nobody answers; an aggregator, or `collect --serve`, serves monitors"

    def run(self) -> None:
        """Receive, step, obey, re-arm, until closed."""
        poller = zmq.Poller()
        poller.register(self._sub, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        try:
            while not self._is_closing:
                # Without a connection a request would get nowhere: it waits for one here.
                waiting = zmq.POLLOUT if self._request is not None else 0
                poller.register(self._dealer, zmq.POLLIN | waiting)
                ready = dict(poller.poll(self._timeout_ms()))
                now_ns = time.monotonic_ns()
                for frame in follow.drain(self._sub) if self._sub in ready else ():
                    self._receive(codec.decode_published, frame, now_ns)
                for frame in follow.drain(self._dealer) if self._dealer in ready else ():
                    self._receive(codec.decode_stream, frame, now_ns)
                if self._sink.wants_whole():
                    self._following.resync(now_ns)
                self._following.handle_timer(now_ns)
                self._tell(now_ns)
                if self._request is not None and follow.offer(self._dealer, [self._request]):
                    self._request = None
        finally:
            self._sub.close()
            self._dealer.close()
            self._context.term()
            self._waker.close()
            self._woken.close()
            self._sink.close()

    def _timeout_ms(self) -> int | None:
        now_ns = time.monotonic_ns()
        following = self._following
        timers = (following.next_timer_ns(), following.next_doubt_ns(now_ns))
        timer_ns = min((timer for timer in timers if timer is not None), default=None)
        return None if timer_ns is None else max(timer_ns - now_ns, 0) // MS + 1

    def _receive(self, decode: Callable[[bytes], StreamMessage], frame: bytes, now_ns: int) -> None:
        try:
            message = decode(frame)
            _check(message)
            self._following.receive(message, now_ns)
        except RemoteProtocolError as error:
            self._refused = str(error)
            return
        self._refused = ""
        self._tell(now_ns)

    def _tell(self, now_ns: int) -> None:
        """Write down what follows from what came; bad news first, for what comes is in doubt."""
        at_ns = now_ns + self._wall_clock_ns
        is_whole, doubt = self._following.is_whole, self._following.doubt(now_ns)
        if doubt:
            self._sink.trust(is_whole=is_whole, doubt=doubt, now_ns=at_ns)
        for effect in self._following.take_effects():
            match effect:
                case Apply(delta):
                    self._sink.apply(_changes(delta), at_ns)
                case Install(_, chunks, deltas):
                    self._sink.install([*map(_changes, chunks)], [*map(_changes, deltas)], at_ns)
                case Ask(_, request):
                    self._request = codec.encode(request)
        self._sink.hear(self._following.heartbeat, at_ns)
        self._sink.trust(is_whole=is_whole, doubt=doubt, now_ns=at_ns)


def _check(message: StreamMessage) -> None:
    if isinstance(message, Heartbeat):
        if len(message.sequences) != LANES:
            raise RemoteProtocolError("lanes", "collectors send there, monitors are not served")
    else:
        _changes(message)


def _changes(message: Delta | SnapshotChunk) -> Changes:
    if not isinstance(message.body, Changes):
        raise RemoteProtocolError("body", "this is no stream of changes")
    return message.body


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
