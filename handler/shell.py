"""The handler's shell: one thread, one context, one socket around the outbox.

It sends at once when little is said, and lets shards gather for a while when it is busy: log calls
do not even wake it then. How long it rests behind a report grows with the number of shards in that,
so up to 100 log calls a second each goes at once, and from there on they soon gather for the whole
interval. ZeroMQ's own queue is kept short and is never where anything waits: until a handshake has
succeeded nothing is handed over, and what is not taken goes back into the outbox.

What is handed over may still be lost, so each round looks into the life file for what has arrived.
What had not when the time to close was up is left in the exit file.

When the clock has stepped back so far that all stamps would be refused, a new process goes on over
the same link. The old one ends as at close: by its exit file, or where there can be none by reports
that go before those of the new one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shardlog.crdt.stamp import MAX_SKEW_NS
from shardlog.crdt.wire import codec
from shardlog.handler.condition import Condition
from shardlog.handler.conflation import conflated
from shardlog.handler.connection import CONNECTED, DISCONNECTED, SIGNS, Connection
from shardlog.handler.life import life_of

if TYPE_CHECKING:
    from _queue import SimpleQueue

    from shardlog.crdt.replication.messages import Report
    from shardlog.handler.life import Life
    from shardlog.handler.link import Link
    from shardlog.handler.outbox import Outbox

SECOND = 1_000_000_000
FLUSH_INTERVAL_NS = SECOND // 20
SHARD_INTERVAL_NS = SECOND // 100
"""How long shards gather at most, and for each that the last report carried."""
PAUSE_MIN_NS = SECOND // 1_000
PAUSE_MAX_NS = SECOND // 10
"""While nobody is there, or no more is taken, the thread looks again at doubling intervals."""
FLUSH_PATIENCE_NS = SECOND // 10
CLOSE_PATIENCE_NS = {True: SECOND, None: SECOND * 35 // 100, False: SECOND // 4}
"""How long `close` waits if somebody is, may be, or seems not to be there; `flush` if not."""
LINGER_MS = 250
"""For what was handed over and is in no life file."""
RETRY_SECONDS = 1.0


def run(link: Link) -> None:
    """Serve a link until it was closed; whatever fails, begin again with a new socket."""
    sender = _Sender(link)
    while True:
        try:
            sender.serve()
        except Exception as error:
            sender.fail(error)
        if link.closed_ns is not None:
            sender.end()
            return
        link.rest(RETRY_SECONDS, idle=False)


def gather_ns(shards: int) -> int:
    """How long shards gather behind a report that carried so many.

    >>> [gather_ns(shards) // 1_000_000 for shards in (0, 1, 2, 100)]
    [0, 10, 20, 50]
    """
    return min(shards * SHARD_INTERVAL_NS, FLUSH_INTERVAL_NS)


class _Sender:
    """What the thread knows."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._outbox = link.outbox
        self._condition = Condition()
        self._ending: list[Outbox] = []
        """Who goes without an exit file, and has not said its last."""
        self._answers: list[SimpleQueue[None]] = []
        self._down_since_ns = time.monotonic_ns()
        self._next_flush_ns = 0
        self._shards = 0
        """Gathered since the last report."""
        self._pause_ns = PAUSE_MIN_NS
        self._was_connected = False
        self._sees_peer: bool | None = None
        self._has_closed = False
        self._life = self._begin_life()

    def serve(self) -> None:
        """Gather, look at the link, send, rest; until it was closed and all is said."""
        connection = Connection(self._link.endpoint)
        try:
            while True:
                now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
                queue = self._link.waiting()
                self._gather(wall_ns)
                if self._outbox.connected and not self._has_closed:
                    self._condition.tell(self._outbox, queue, now_ns, wall_ns)
                self._watch(connection, now_ns, wall_ns)
                self._hear()
                self._outbox.handle_timer(now_ns)
                if self._outbox.connected:
                    self._send(connection, now_ns, wall_ns)
                self._answer(now_ns)
                if self._is_over(now_ns):
                    return
                self._rest()
        finally:
            connection.close(LINGER_MS if self._was_connected and self._life is None else 0)

    def fail(self, error: Exception) -> None:
        """Note that the connection has failed."""
        self._down_since_ns = time.monotonic_ns()
        for outbox in self._outboxes():
            outbox.receive_disconnected()
        self._outbox.refuse("internal", 1, f"{type(error).__name__}: {error}", time.time_ns())

    def end(self) -> None:
        """After the last try: leave what has not arrived in the exit file, and free the lock."""
        wall_ns = time.time_ns()
        if self._life is not None:
            self._gather(wall_ns)
        self._leave(wall_ns)

    def _leave(self, wall_ns: int) -> None:
        if self._life is None:
            return
        self._hear()
        if self._outbox.has_unacknowledged():
            reports = self._outbox.last_reports(time.monotonic_ns(), wall_ns)
            frames = [self._encode(self._outbox, report, wall_ns) for report in reports]
            self._life.leave([frame for frame in frames if frame is not None])
        self._life.close()
        self._life = None

    def _renew(self, wall_ns: int) -> None:
        """Go on as a new process, if what the old one says from now on would be refused."""
        old = self._outbox
        if self._ending or not old.clock.is_ahead(wall_ns):
            return
        is_connected = old.connected
        old.receive_close(wall_ns)
        if self._life is None:
            self._ending.append(old)
        self._leave(wall_ns)
        self._outbox = self._link.renew(wall_ns)
        self._life = self._begin_life()
        if is_connected:
            self._outbox.receive_connected(wall_ns)

    def _begin_life(self) -> Life | None:
        """The life file, where there can be one."""
        outbox = self._outbox
        try:
            life = life_of(self._link.endpoint, outbox.process)
        except OSError as error:
            outbox.refuse("life", 1, str(error), time.time_ns())
            return None
        outbox.has_life = life is not None
        if life is not None:
            outbox.clock.start_above(life.stamp, time.time_ns())
        return life

    def _outboxes(self) -> list[Outbox]:
        return [*self._ending, self._outbox]

    def _hear(self) -> None:
        """Tell the outbox what has arrived."""
        if self._life is not None:
            self._outbox.receive_acknowledged(self._life.acknowledged())

    def _gather(self, wall_ns: int) -> None:
        """Hand the outbox what was put in, up to and including what a flush waits for."""
        link = self._link
        while link.flushes:
            self._answers.append(link.flushes.popleft())
        is_closed = link.closed_ns is not None
        if not self._has_closed:
            self._renew(wall_ns)
        hurry = is_closed or bool(self._answers)
        for shard in conflated(link.take_shards(hurry=hurry)):
            if shard.time_ns > wall_ns + MAX_SKEW_NS:  # the clock has stepped back since
                shard = shard._replace(time_ns=wall_ns)
            self._outbox.receive(shard)
            self._shards += 1
        refused = link.take_refused()
        if refused:
            self._outbox.refuse("queue", refused, "too many shards were waiting", wall_ns)
        if is_closed and not self._has_closed:
            self._has_closed = True
            self._condition.end(self._outbox, wall_ns)
            self._outbox.receive_close(wall_ns)

    def _watch(self, connection: Connection, now_ns: int, wall_ns: int) -> None:
        for event in connection.events():
            self._sees_peer = SIGNS[event]
            if event == CONNECTED:
                self._was_connected = True
                self._pause_ns = PAUSE_MIN_NS
                for outbox in self._outboxes():
                    outbox.receive_connected(wall_ns)
            elif event == DISCONNECTED:
                self._down_since_ns = now_ns
                for outbox in self._outboxes():
                    outbox.receive_disconnected()
        if self._has_closed and self._sees_peer is False:
            connection.hurry()

    def _send(self, connection: Connection, now_ns: int, wall_ns: int) -> None:
        for outbox in self._outboxes():
            while (report := outbox.next_report(now_ns, wall_ns)) is not None:
                self._next_flush_ns = now_ns + gather_ns(self._shards)
                frame = self._encode(outbox, report, wall_ns)
                if frame is not None and not connection.send(frame):
                    outbox.put_back(report)
                    return
        self._ending.clear()
        self._shards = 0

    def _encode(self, outbox: Outbox, report: Report, wall_ns: int) -> bytes | None:
        """The frame of the newest report; None if there is none, and it is discarded."""
        try:
            return codec.encode(report)
        except (TypeError, ValueError, OverflowError) as error:
            outbox.discard(report, str(error), wall_ns)
            return None

    def _answer(self, now_ns: int) -> None:
        """Tell who waits in a flush that all is handed over, or that nobody is there."""
        is_away = not self._outbox.connected and not self._sees_peer
        if self._is_said() or (is_away and now_ns - self._down_since_ns > FLUSH_PATIENCE_NS):
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
        idle_ns = outbox.next_timer_ns() - time.monotonic_ns()
        if link.has_errors():
            idle_ns = min(idle_ns, FLUSH_INTERVAL_NS)
        link.rest(idle_ns / SECOND, idle=True)
        left_ns = self._next_flush_ns - time.monotonic_ns()
        if left_ns > 0 and not link.flushes and link.closed_ns is None:
            link.rest(left_ns / SECOND, idle=False)

    def _is_said(self) -> bool:
        return self._outbox.connected and not any(box.has_unsent() for box in self._outboxes())

    def _is_done(self) -> bool:
        """Whether there is nothing to do but to wait for more; at the end all must have arrived."""
        if self._has_closed and self._life is not None:
            return not self._outbox.has_unacknowledged()
        return self._is_said()

    def _is_over(self, now_ns: int) -> bool:
        """Whether a closed link has said all, or waited long enough."""
        if not self._has_closed or self._link.closed_ns is None:
            return False
        patience_ns = CLOSE_PATIENCE_NS[self._was_connected or self._sees_peer]
        return self._is_done() or now_ns - self._link.closed_ns > patience_ns
