"""A node that serves monitors, in a thread of the test: the real state and stream, real sockets.

It loses deltas when told to, and restarts as another run of itself.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

import msgspec
import zmq

from shardlog.collector import follow
from shardlog.crdt.counter import amount
from shardlog.crdt.delta import Entry
from shardlog.crdt.endpoint import snapshot_address
from shardlog.crdt.replication.messages import LANES, Answer, Delta, Heartbeat, HostStatus, Publish
from shardlog.crdt.replication.view import View
from shardlog.crdt.state import State
from shardlog.crdt.wire import codec
from tests.helpers import free_pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.crdt.delta import Value

WRITER = "scraper-1@node-1:boot:7:1:x"


class Server:
    """Serves a state that the test writes; a context manager."""

    def __init__(self, url: str = "", *, interval_ms: int = 1000, bytes_max: int = 256) -> None:
        self.url = url or free_pair()
        self.state = State()
        self.hosts = [HostStatus("node-1", "replica-1", "live", 0, 0)]
        self.settling = self.lower_bound = self.retention = ""
        self.refused: dict[str, int] = {}
        self.ahead_ns = 0
        """How far its clock is ahead of that of the test."""
        self.requests = 0
        self.deltas_to_lose = 0
        self.is_mute = False
        """Whether it publishes nothing."""
        self.is_deaf = False
        """Whether it answers nobody."""
        self.lanes = LANES
        """How many lanes its heartbeats tell of."""
        self._interval_ms = interval_ms
        self._bytes_max = bytes_max
        self._stamps = count(1_764_063_000_000_000_000)
        self._epochs = count(1)
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, source: str = "aggregator-1") -> None:
        """Begin to serve, as a new epoch of `source`."""
        epoch = f"epoch-{next(self._epochs)}"
        is_bound = threading.Event()
        self._view = View(
            self.state, source, epoch, interval_ms=self._interval_ms, bytes_max=self._bytes_max
        )
        self._thread = threading.Thread(target=self._run, args=(is_bound,), daemon=True)
        self._thread.start()
        assert is_bound.wait(10)

    def stop(self) -> None:
        """End, and close the sockets."""
        self._orders.put(None)
        self._thread.join()

    def write(self, path: str, value: Value, writer: str = WRITER) -> None:
        """Write a register."""
        self._order(lambda: self.state.write(path, next(self._stamps), writer, value))

    def erase(self, path: str, writer: str = WRITER) -> None:
        """Erase what is at and below a path."""
        self._order(lambda: self.state.erase(path, next(self._stamps), writer))

    def count(self, path: str, total: int | float, replica: str = "replica-1") -> None:
        """Set what a replica has counted at a path."""
        stamp = next(self._stamps)
        self._order(lambda: self.state.put(replica, Entry(path, stamp, amount(total))))

    def beat(self) -> None:
        """Send a heartbeat at once."""
        self._order(lambda: self._beat(self._xpub))

    def send(self, frame: bytes) -> None:
        """Publish bytes, whatever they are."""
        self._order(lambda: self._xpub.send(frame))

    def _order(self, order: Callable[[], object]) -> None:
        """Have the thread do something, and what follows from it, and wait until it is done."""
        is_done = threading.Event()
        self._orders.put(order)
        self._orders.put(is_done.set)
        assert not self._thread.is_alive() or is_done.wait(10)

    def _run(self, is_bound: threading.Event) -> None:
        with (
            follow.new_context() as context,
            follow.router_bind(context, snapshot_address(self.url)) as router,
            follow.xpub_bind(context, self.url) as xpub,
        ):
            self._xpub = xpub
            is_bound.set()
            beat_s = 0.0
            while True:
                with contextlib.suppress(queue.Empty):
                    order = self._orders.get(timeout=0.005)
                    if order is None:
                        return
                    order()
                for effect in self._view.publish(self.state.take_touched()):
                    self._publish(xpub, effect)
                subscriptions = follow.drain(xpub)
                if subscriptions or time.monotonic() > beat_s:
                    beat_s = time.monotonic() + self._interval_ms / 1000
                    self._beat(xpub)
                for peer, frame in follow.drain_multipart(router):
                    self.requests += 1
                    answer = self._view.answer(peer, codec.decode_request(frame))
                    self._answer(router, answer)

    def _beat(self, xpub: zmq.Socket[bytes]) -> None:
        beat = self._view.heartbeat(
            time.time_ns() + self.ahead_ns,
            self.hosts,
            self.refused,
            settling=self.settling,
            lower_bound=self.lower_bound,
            retention=self.retention,
        )
        self._publish(xpub, beat)

    def _publish(self, xpub: zmq.Socket[bytes], effect: Publish) -> None:
        if self.is_mute:
            return
        if isinstance(effect.message, Delta) and self.deltas_to_lose:
            self.deltas_to_lose -= 1
            return
        message = effect.message
        if isinstance(message, Heartbeat):
            sequences = message.sequences[: self.lanes]
            message = msgspec.structs.replace(message, sequences=sequences)
        xpub.send(codec.encode_published(message))

    def _answer(self, router: zmq.Socket[bytes], answer: Answer) -> None:
        if not self.is_deaf:
            follow.offer(router, [answer.peer, codec.encode(answer.message)])
