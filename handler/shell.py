"""The handler's shell: one thread, one context, one socket around the outbox.

It sends at once when it was idle, and lets shards gather for a while when it is busy: log calls do
not even wake it then. ZeroMQ's own queue is kept short and is never where anything waits: until a
handshake has succeeded nothing is handed over, and what is not taken goes back into the outbox.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import zmq

from shardlog.crdt.wire import codec

if TYPE_CHECKING:
    from _queue import SimpleQueue

    from shardlog.handler.link import Link

SECOND = 1_000_000_000
FLUSH_INTERVAL_NS = SECOND // 20
PAUSE_MIN_NS = SECOND // 1_000
PAUSE_MAX_NS = SECOND // 10
"""While nobody is there, or no more is taken, the thread looks again at doubling intervals."""
FLUSH_PATIENCE_NS = SECOND // 10
CLOSE_PATIENCE_NS = {True: SECOND, None: SECOND * 35 // 100, False: SECOND // 4}
"""How long `close` waits if somebody is, may be, or seems not to be there; `flush` if not."""
LINGER_MS = 250
RETRY_SECONDS = 1.0
_SIGNS: dict[int, bool | None] = {
    zmq.EVENT_CONNECTED: True,
    zmq.EVENT_HANDSHAKE_SUCCEEDED: True,
    zmq.EVENT_DISCONNECTED: None,
    zmq.EVENT_CONNECT_RETRIED: False,
}
"""What an event says of whether somebody is there. Between the first two a busy host takes time."""


def run(link: Link) -> None:
    """Serve a link until it was closed; whatever fails, begin again with a new socket."""
    sender = _Sender(link)
    while True:
        try:
            sender.serve()
        except Exception as error:
            sender.fail(error)
        if link.closed_ns is not None:
            return
        link.rest(RETRY_SECONDS, idle=False)


class _Sender:
    """What the thread knows."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._outbox = link.outbox
        self._answers: list[SimpleQueue[None]] = []
        self._down_since_ns = time.monotonic_ns()
        self._next_flush_ns = 0
        self._pause_ns = PAUSE_MIN_NS
        self._was_connected = False
        self._sees_peer: bool | None = None
        self._has_closed = False

    def serve(self) -> None:
        """Gather, look at the link, send, rest; until it was closed and all is said."""
        connection = _Connection(self._link.endpoint)
        try:
            while True:
                now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
                self._gather(wall_ns)
                self._watch(connection, now_ns, wall_ns)
                self._outbox.handle_timer(now_ns)
                if self._outbox.connected:
                    self._send(connection, now_ns, wall_ns)
                self._answer(now_ns)
                if self._is_over(now_ns):
                    return
                self._rest()
        finally:
            connection.close(LINGER_MS if self._was_connected else 0)

    def fail(self, error: Exception) -> None:
        """Note that the connection has failed."""
        self._down_since_ns = time.monotonic_ns()
        self._outbox.receive_disconnected()
        self._outbox.refuse("internal", 1, f"{type(error).__name__}: {error}", time.time_ns())

    def _gather(self, wall_ns: int) -> None:
        """Hand the outbox what was put in, up to and including what a flush waits for."""
        link = self._link
        while link.flushes:
            self._answers.append(link.flushes.popleft())
        is_closed = link.closed_ns is not None
        for shard in link.take_shards():
            self._outbox.receive(shard)
        refused = link.take_refused()
        if refused:
            self._outbox.refuse("queue", refused, "too many shards were waiting", wall_ns)
        if is_closed and not self._has_closed:
            self._has_closed = True
            self._outbox.receive_close(wall_ns)

    def _watch(self, connection: _Connection, now_ns: int, wall_ns: int) -> None:
        for event in connection.events():
            self._sees_peer = _SIGNS[event]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._was_connected = True
                self._pause_ns = PAUSE_MIN_NS
                self._outbox.receive_connected(wall_ns)
            elif event == zmq.EVENT_DISCONNECTED:
                self._down_since_ns = now_ns
                self._outbox.receive_disconnected()
        if self._has_closed and self._sees_peer is False:
            connection.hurry()

    def _send(self, connection: _Connection, now_ns: int, wall_ns: int) -> None:
        outbox = self._outbox
        while (report := outbox.next_report(now_ns, wall_ns)) is not None:
            self._next_flush_ns = now_ns + FLUSH_INTERVAL_NS
            try:
                frame = codec.encode(report)
            except (TypeError, ValueError, OverflowError) as error:
                outbox.discard(report, str(error), wall_ns)
                continue
            if not connection.send(frame):
                outbox.put_back(report)
                return

    def _answer(self, now_ns: int) -> None:
        """Tell who waits in a flush that all is handed over, or that nobody is there."""
        is_away = not self._outbox.connected and not self._sees_peer
        if self._is_done() or (is_away and now_ns - self._down_since_ns > FLUSH_PATIENCE_NS):
            while self._answers:
                self._answers.pop().put(None)

    def _rest(self) -> None:
        """Wait for something to do."""
        link, outbox = self._link, self._outbox
        if not self._is_done():
            link.rest(self._pause_ns / SECOND, idle=False)
            hurried = self._has_closed or bool(self._answers)
            self._pause_ns = min(2 * self._pause_ns, PAUSE_MAX_NS // (10 if hurried else 1))
            return
        self._pause_ns = PAUSE_MIN_NS
        link.rest((outbox.next_timer_ns() - time.monotonic_ns()) / SECOND, idle=True)
        gather_ns = self._next_flush_ns - time.monotonic_ns()
        if gather_ns > 0 and not link.flushes and link.closed_ns is None:
            link.rest(gather_ns / SECOND, idle=False)

    def _is_done(self) -> bool:
        return self._outbox.connected and not self._outbox.has_unsent()

    def _is_over(self, now_ns: int) -> bool:
        """Whether a closed link has said all, or waited long enough."""
        if not self._has_closed or self._link.closed_ns is None:
            return False
        patience_ns = CLOSE_PATIENCE_NS[self._was_connected or self._sees_peer]
        return self._is_done() or now_ns - self._link.closed_ns > patience_ns


class _Connection:
    """A PUSH socket with a context and a monitor of its own. Only one thread may use it."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.BLOCKY, 0)
        try:
            self._socket = self._context.socket(zmq.PUSH)
            for option, value in options(endpoint).items():
                self._socket.setsockopt(option, value)
            self._monitor = self._socket.get_monitor_socket(sum(_SIGNS))
            self._socket.connect(endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._has_hurried = False

    def events(self) -> list[int]:
        """What happened to the link since the last call, of what `_SIGNS` lists."""
        events: list[int] = []
        while True:
            try:
                frame = self._monitor.recv_multipart(zmq.NOBLOCK)[0]
            except zmq.Again:
                return events
            events.append(int.from_bytes(frame[:2], sys.byteorder))

    def send(self, frame: bytes) -> bool:
        """Hand a frame to ZeroMQ; whether it took it. Never waits."""
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def hurry(self) -> None:
        """Try to connect now, whenever the next try was due. Does so once."""
        if not self._has_hurried:
            self._has_hurried = True
            self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)

    def close(self, linger_ms: int) -> None:
        """Close all, after at most `linger_ms` for what was handed over."""
        self._socket.disable_monitor()
        self._socket.close(linger=linger_ms)
        self._context.destroy(linger=linger_ms)


def options(endpoint: str) -> dict[int, int]:
    """What the socket is set to."""
    chosen: dict[int, int] = {
        zmq.SNDHWM: 4,
        zmq.IMMEDIATE: 0,
        zmq.LINGER: 0,
        # At random, so that many blades do not come back at one moment.
        zmq.RECONNECT_IVL: 50 + int.from_bytes(os.urandom(2), "big") % 101,
        zmq.RECONNECT_IVL_MAX: 2_000,
    }
    if endpoint.startswith("tcp:"):
        chosen |= {
            zmq.IPV6: 1,
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: 15,
            zmq.TCP_KEEPALIVE_INTVL: 5,
            zmq.TCP_KEEPALIVE_CNT: 3,
            zmq.TCP_MAXRT: 20_000,
        }
    return chosen
