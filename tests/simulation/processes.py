"""Processes that log, as their collector and the outside see them: outbox, link and life file."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from shardlog.collector.sidecar.life import Bad, Seen
from shardlog.crdt.process_id import process_id
from shardlog.crdt.stamp import MAX_SKEW_NS
from shardlog.handler.outbox import Outbox, Pace
from tests.simulation.clockwork import Node
from tests.simulation.steps import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.crdt.replication.messages import Report
    from shardlog.handler.shard import Shard
    from tests.simulation.nodes import Collector
    from tests.simulation.steps import Layout

HEARTBEAT_MS = 2000
PIPE_FRAMES_MAX = 4
"""As the handler's SNDHWM."""
UNREAD_FRAMES_MAX = 3
"""What a collector that does not read lets each process put in before it is full."""
PATIENCE_NS = SECOND
"""As the handler's, at its end."""


class LifeFile:
    """The life file of a process, and its exit file."""

    def __init__(self) -> None:
        self.is_held = True
        self.acknowledged = 0
        self.left: list[Report] | None = None


class MemoryFolder:
    """The life files beside one collector, as `LifeFolder` shows them."""

    def __init__(self, read: Callable[[Report], None]) -> None:
        self.files: dict[str, LifeFile] = {}
        self.replicas: tuple[str, ...] = ()
        self.version = 0
        self.stamps: dict[str, int] = {}
        self._read = read

    def scan(self) -> tuple[list[Seen], list[Bad]]:
        seen = [Seen(p, file.is_held, file.left is not None) for p, file in self.files.items()]
        return seen, []

    def left_by(self, process: str) -> tuple[list[Report], list[Bad]]:
        file = self.files.get(process)
        left = file.left or [] if file else []
        for report in left:
            self._read(report)
        return left, []

    def acknowledge(self, process: str, sequence: int) -> None:
        if process in self.files:
            self.files[process].acknowledged = sequence

    def remove(self, process: str) -> None:
        self.files.pop(process, None)

    def lead(self, blade: str, stamp: int) -> None:
        self.stamps[blade] = stamp

    def drop_stamps(self, now_ns: int) -> list[Bad]:
        self.stamps = {blade: stamp for blade, stamp in self.stamps.items() if stamp > now_ns}
        return []


class Process(Node):
    """A process that logs: an outbox, its thread, its socket and its life file."""

    def __init__(self, collector: Collector, number: int, layout: Layout) -> None:
        super().__init__(collector.clockwork, f"process {number}")
        self.number = number
        self.collector = collector
        self._layout = layout
        self._renewals = 0
        self._ids: list[str] = []
        self._begin()
        self.is_killed = False
        self.unread = 0
        self._queue: deque[Shard] = deque()
        self._pipe: deque[Report] = deque()
        self._signs: deque[tuple[int, bool]] = deque()
        """What the socket tells of its connection, and from when on."""
        self._session = 0
        """The connection: what was sent on an earlier one is lost. 0: there is none."""
        self._sessions = 0
        self._rng = self.clockwork.rng(self.name)
        self._last_arrival_ns = 0
        self._closing_ns: int | None = None
        self._is_told_to_close = False
        self.is_up = True
        self.life = 1
        self._seek()
        self.wake_at(self.clockwork.now_ns)

    def _begin(self) -> None:
        """A process begins: its id, its outbox, its life file."""
        collector, wall_ns = self.collector, self.wall_ns
        blade, nonce = f"blade-{collector.host}", f"{self.number:x}-{self._renewals}"
        self.id = process_id(blade, f"host-{collector.host}", "boot", self.number, wall_ns, nonce)
        self._ids.append(self.id)
        pace = Pace(self._layout.report_bytes, HEARTBEAT_MS, idle_ms=self._layout.idle_ms)
        self.outbox = Outbox(self.id, blade, {}, pace=pace)
        self.truth = collector.truth.begin(self.id)
        self.file: LifeFile | None = None
        self._last_load = 0
        if self._layout.has_life:
            stamp = collector.folder.stamps.get(blade, 0)
            self.file = collector.folder.files[self.id] = LifeFile()
            self.outbox.has_life = True
            self.outbox.clock.start_above(stamp, wall_ns)
            self.truth.start_above(stamp, wall_ns)

    @property
    def wall_ns(self) -> int:
        return self.clockwork.now_ns + self.collector.skew_ns

    def log(self, shard: Shard) -> None:
        """A log call: the thread takes it up within 50 ms."""
        if self._closing_ns is None:
            self.truth.log(shard)
            self._queue.append(shard)
            self.wake_at(self.clockwork.now_ns + self._rng.randrange(50) * MS)

    def exit(self) -> None:
        """End as one should."""
        if self._closing_ns is None:
            self._closing_ns = self.clockwork.monotonic_ns
            self.wake_at(self._closing_ns)

    def kill(self) -> None:
        """End at once. Of what is under way some may still arrive."""
        if self.is_up:
            self.is_up, self.is_killed = False, True
            self.truth.is_killed = True
            self._pipe.clear()
            if self._rng.random() < 0.5:
                self._session = 0
            if self.file is not None:
                self.file.is_held = False

    def break_link(self) -> None:
        """Lose the connection, and what is under way; a new one is tried."""
        if self._session and self.is_up:
            self._session = 0
            self._sign(self._rng.randrange(20) * MS, is_up=False)
            self._seek()

    def lose_collector(self) -> None:
        """The collector has died, with all that it had not read."""
        self.unread = 0
        self.break_link()
        self._session = 0

    def is_settled(self) -> bool:
        """Whether all that it said is known to have arrived."""
        if not self.is_up:
            return not any(process in self.collector.folder.files for process in self._ids)
        if any(process in self.collector.folder.files for process in self._ids[:-1]):
            return False
        if self._queue or self._pipe or self.unread or self.outbox.has_unsent():
            return False
        is_stored = self.file is None or self.file.acknowledged >= self._last_load
        return self._session > 0 and self.outbox.connected and is_stored

    def turn(self) -> int:
        """As `shardlog.handler.shell`."""
        now_ns, wall_ns = self.clockwork.monotonic_ns, self.wall_ns
        self._gather(wall_ns)
        outbox = self.outbox
        while self._signs and self._signs[0][0] <= self.clockwork.now_ns:
            if self._signs.popleft()[1]:
                self._connected(wall_ns)
            else:
                outbox.receive_disconnected()
        self._hear()
        outbox.handle_timer(now_ns)
        is_full = outbox.connected and not self._send(now_ns, wall_ns)
        if self._closing_ns is not None:
            is_said = outbox.connected and not outbox.has_unsent()
            is_done = not outbox.has_unacknowledged() if self.file is not None else is_said
            if is_done or now_ns - self._closing_ns > PATIENCE_NS:
                self._end(now_ns, wall_ns)
                return 0
            return 20 * MS
        if is_full or not outbox.connected:
            return 100 * MS if is_full else SECOND
        return max(outbox.next_timer_ns() - now_ns, 0)

    def flow(self) -> None:
        """The collector has read: what waits in the pipe may go on."""
        while self._pipe and self._session and self.unread < UNREAD_FRAMES_MAX:
            self._put_on_wire(self._pipe.popleft())

    def _connected(self, wall_ns: int) -> None:
        self.truth.say_presence(wall_ns)
        self.outbox.receive_connected(wall_ns)

    def _renew(self, wall_ns: int) -> None:
        """The clock has stepped back too far: a new process goes on over the same link."""
        is_connected = self.outbox.connected
        self.truth.say_presence(wall_ns)
        self.outbox.receive_close(wall_ns)
        self._leave(self.clockwork.monotonic_ns, wall_ns)
        self._renewals += 1
        self._begin()
        if is_connected:
            self._connected(wall_ns)

    def _gather(self, wall_ns: int) -> None:
        if not self._is_told_to_close and self.outbox.clock.is_ahead(wall_ns):
            self._renew(wall_ns)
        while self._queue:
            shard = self._queue.popleft()
            if shard.time_ns > wall_ns + MAX_SKEW_NS:
                shard = shard._replace(time_ns=wall_ns)
            self.truth.gather(shard)
            self.outbox.receive(shard)
        if self._closing_ns is not None and not self._is_told_to_close:
            self._is_told_to_close = True
            self.truth.say_presence(wall_ns)
            self.outbox.receive_close(wall_ns)

    def _hear(self) -> None:
        if self.file is not None:
            self.outbox.receive_acknowledged(self.file.acknowledged)

    def _send(self, now_ns: int, wall_ns: int) -> bool:
        """Whether all could be handed over."""
        outbox = self.outbox
        while (report := outbox.next_report(now_ns, wall_ns)) is not None:
            if not self._hand_over(report):
                outbox.put_back(report)
                return False
            if report.writes or report.erases or report.totals or report.retired or report.final:
                self._last_load = report.sequence
            self.truth.send(report)
        self.truth.check_bound(outbox.size()[0])
        return True

    def _hand_over(self, report: Report) -> bool:
        if self._session and not self._pipe and self.unread < UNREAD_FRAMES_MAX:
            self._put_on_wire(report)
            return True
        if len(self._pipe) < PIPE_FRAMES_MAX:
            self._pipe.append(report)
            return True
        return False

    def _put_on_wire(self, report: Report) -> None:
        self.unread += 1
        clockwork = self.clockwork
        delay_ns = int(self._rng.random() * min(clockwork.delay_ns, 20 * MS))
        self._last_arrival_ns = max(clockwork.now_ns + delay_ns, self._last_arrival_ns)
        clockwork.flying += 1
        clockwork.sent += 1
        clockwork.at(self._last_arrival_ns, partial(self._arrive, report, self._session))

    def _arrive(self, report: Report, session: int) -> None:
        self.clockwork.flying -= 1
        if session == self._session and self.collector.is_up:
            self.collector.hear(self, report)

    def _seek(self) -> None:
        """Try to connect, soon."""
        at_ns = self.clockwork.now_ns + (50 + self._rng.randrange(100)) * MS
        self.clockwork.at(at_ns, self.connect)

    def connect(self) -> None:
        """If the collector is there: what waits in the pipe goes first."""
        if not self.is_up or self._session or not self.collector.is_up:
            return
        if self.clockwork.now_ns < self.paused_ns:
            self.clockwork.at(self.paused_ns, self.connect)
            return
        self._sessions += 1
        self._session = self._sessions
        self._last_arrival_ns = self.clockwork.now_ns
        self.unread = 0
        self.flow()
        self._sign(self._rng.choice((0, 5, 80)) * MS, is_up=True)

    def _sign(self, delay_ns: int, *, is_up: bool) -> None:
        at_ns = self.clockwork.now_ns + delay_ns
        self._signs.append((max(at_ns, self._signs[-1][0]) if self._signs else at_ns, is_up))
        self.wake_at(self._signs[-1][0])

    def _end(self, now_ns: int, wall_ns: int) -> None:
        self._leave(now_ns, wall_ns)
        if self.file is not None:
            self._pipe.clear()
        self.is_up = False

    def _leave(self, now_ns: int, wall_ns: int) -> None:
        """What has not arrived goes into the exit file; the lock is free."""
        if self.file is None:
            self.truth.is_killed = True  # nobody tells it whether its last words arrived
            return
        self._hear()
        if self.outbox.has_unacknowledged():
            self.truth.say_presence(wall_ns)
            self.file.left = [*self.outbox.last_reports(now_ns, wall_ns)]
            for report in self.file.left:
                self.truth.send(report)
        self.file.is_held = False
