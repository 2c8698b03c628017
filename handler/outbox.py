"""What a process has to say and has not said yet: a buffer that conflates, and its counters. Pure.

Theory. What waits is not a queue of messages but the state that the receiver lacks: per path the
newest register, the newest floor and the counter's total. Writes to one path conflate to the
newest, counts to their sum, so that memory is bounded by the number of distinct paths however long
nobody listens; this is a delta buffer whose deltas are joined as they come (Almeida et al., "Delta
State Replicated Data Types", 2016, section 5). Everything in a report is absolute: it may be sent
again, and after a reconnect it is, since nothing tells what of it arrived. Totals are kept for the
life of the process, what else was sent for a time window, which stands still while the link is
down.

How items displace one another is said in `shardlog.handler.backlog`. Where a floor ends the
generation of a counter, the receiver must hear the old total, the floor and the new total in this
order. So it applies a report's erases first, then its writes, then its totals; a report that
carries ended totals carries nothing else; and totals wait until all floors are out.

Times. `now_ns` is a reading of a monotonic clock, for intervals; `wall_ns` is what stamps are made
of, and may jump.

Known anomalies. Registers that were sent longer than the window before the link broke and yet were
not read by the receiver are lost with it; totals never are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.delta import Erase, Total, Write
from shardlog.crdt.path import RESERVED, path_text
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.stamp import StampClock
from shardlog.handler.backlog import UNSENT, Backlog, Limits

if TYPE_CHECKING:
    from shardlog.crdt.delta import Value
    from shardlog.handler.shard import Shard
    from shardlog.handler.shelf import Shelf

MS = 1_000_000
SAMPLE_CHARACTERS = 300


class Pace(NamedTuple):
    """How much goes into one report (bytes), and the intervals (ms)."""

    report_bytes: int = 256 << 10
    heartbeat_interval_ms: int = 1_000
    repeat_window_ms: int = 60_000


class Outbox:
    """The buffer of one process: `receive` shards, send each `next_report`, `put_back` what failed.

    It starts unconnected; the first report is due when `receive_connected` was called.
    """

    def __init__(
        self,
        process: str,
        blade: str,
        presence: dict[str, Value],
        *,
        limits: Limits = Limits(),  # noqa: B008 - it is immutable
        pace: Pace = Pace(),  # noqa: B008
    ) -> None:
        self.process = process
        self.connected = False
        self.refused: dict[str, int] = {}
        self._presence = presence
        self._presence_path = path_text((RESERVED, "presence", blade, process))
        self._health_path = path_text((RESERVED, "health", "blade", blade))
        self._pace = pace
        self._clock = StampClock()
        self._backlog = Backlog(limits)
        self._sequence = 0
        self._complete_ns = self._complete_before_ns = 0
        self._closing = False
        self._final_is_due = False
        self._next_heartbeat_ns = 0

    def receive(self, shard: Shard) -> None:
        """Take in a shard: its erases, then its writes, then its counts. O(leaves + dropped)."""
        clock, backlog, time_ns = self._clock, self._backlog, shard.time_ns
        for reason, (times, sample) in shard.refused.items():
            self.refuse(reason, times, sample, time_ns)
        if shard.erases:
            stamp = clock.stamp(time_ns)
            for path in shard.erases:
                self._check(path, backlog.erase(Erase(path, stamp, 0)))
        if shard.writes:
            stamp = clock.stamp(time_ns)
            for path, value in shard.writes:
                self._check(path, backlog.write(Write(path, stamp, 0, value)))
        if shard.counts:
            stamp = clock.stamp(time_ns)
            for path, amount in shard.counts:
                self._check(path, backlog.count(path, stamp, amount))

    def refuse(self, reason: str, times: int, sample: str, wall_ns: int) -> None:
        """Count what was turned away; the first sample of each reason is named in the state."""
        stamp = self._clock.stamp(wall_ns)
        if reason not in self.refused:
            self._say(f"{self._health_path}/{path_text(('first', reason))}", stamp, sample)
        self.refused[reason] = self.refused.get(reason, 0) + times
        path = f"{self._health_path}/{path_text(('refused', reason))}"
        self._backlog.count(path, stamp, times, own=True)

    def receive_connected(self, wall_ns: int) -> None:
        """A link is up; whoever is there may know nothing, so all is sent again. O(items)."""
        self.connected = True
        self._final_is_due = self._closing
        self._complete_ns = self._complete_before_ns = 0
        self._backlog.repeat()
        self._say_presence("bye" if self._closing else "up", wall_ns)

    def receive_disconnected(self) -> None:
        """The link is down: nothing that was sent is forgotten until it is up again."""
        self.connected = False

    def receive_close(self, wall_ns: int) -> None:
        """The process ends: say so, in a last report that is marked as final."""
        self._closing = self._final_is_due = True
        self._say_presence("bye", wall_ns)

    def has_unsent(self) -> bool:
        """Whether anything waits that is more than a sign of life. O(1)."""
        return self._final_is_due or self._backlog.has_unsent()

    def next_timer_ns(self) -> int:
        """When a report is due even if nothing happens."""
        return self._next_heartbeat_ns

    def handle_timer(self, now_ns: int) -> None:
        """Forget what was sent longer ago than the window. O(forgotten)."""
        if self.connected:
            self._backlog.drop_sent(now_ns - self._pace.repeat_window_ms * MS)

    def next_report(self, now_ns: int, wall_ns: int) -> Report | None:
        """The next report to send, None if there is nothing to say; its sequence is then used up.

        What is in it counts as sent unless it is put back. Its `sent_ns` is a time up to which all
        is said: it stands still until the last of several reports. O(its items).
        """
        if not self.has_unsent() and now_ns < self._next_heartbeat_ns:
            return None
        self._sequence += 1
        self._next_heartbeat_ns = now_ns + self._pace.heartbeat_interval_ms * MS
        backlog, budget = self._backlog, self._pace.report_bytes
        writes: list[Write] = []
        erases: list[Erase] = []
        if backlog.ended.unsent:
            totals = self._take_totals(backlog.ended, budget, now_ns)
        else:
            erases, budget = backlog.erases.take(budget, now_ns)
            writes, budget = backlog.writes.take(budget, now_ns)
            totals = self._take_totals(backlog.totals, budget, now_ns)
        final = False
        if not backlog.has_unsent():
            self._complete_before_ns, self._complete_ns = self._complete_ns, wall_ns
            final, self._final_is_due = self._final_is_due, False
        return Report(
            self.process, self._sequence, self._complete_ns, final, writes, erases, totals
        )

    def put_back(self, report: Report) -> None:
        """The newest report was not sent: what is in it waits again. O(its items)."""
        backlog = self._backlog
        backlog.erases.put_back(report.erases)
        backlog.writes.put_back(report.writes)
        backlog.totals.put_back(report.totals)
        backlog.ended.put_back(report.totals)
        self._final_is_due |= report.final
        self._complete_ns = self._complete_before_ns

    def discard(self, report: Report, why: str, wall_ns: int) -> None:
        """The newest report cannot be sent, ever: what is in it is refused. O(its items)."""
        backlog = self._backlog
        for erase in report.erases:
            backlog.erases.drop(erase.path)
        for write in report.writes:
            backlog.writes.drop(write.path)
        for total in report.totals:
            backlog.totals.drop(total.path)
            backlog.ended.drop(total.path)
        paths = [item.path for items in (report.erases, report.writes) for item in items]
        paths += (total.path for total in report.totals)
        for path in paths:
            backlog.tidy(path)
        self.refuse("encoding", len(paths), why, wall_ns)

    def size(self) -> tuple[int, int]:
        """How many items are held, and an upper bound of their bytes. O(1)."""
        return self._backlog.size()

    def check_invariants(self) -> None:
        """Raise AssertionError unless all that is kept agrees. O(items)."""
        self._backlog.check_invariants()
        backlog = self._backlog
        for shelf in (backlog.totals, backlog.ended):
            assert all(shelf.items[path].generation != UNSENT for path in shelf.sent)
            assert all(total.generation <= self._sequence for total in shelf.items.values())

    def _check(self, path: str, reason: str | None) -> None:
        if reason is not None:
            self.refuse(reason, 1, path, self._clock.last_ns)

    def _say(self, path: str, stamp: int, value: Value) -> None:
        if type(value) is str:
            value = value[:SAMPLE_CHARACTERS]
        self._backlog.write(Write(path, stamp, 0, value), own=True)

    def _say_presence(self, status: str, wall_ns: int) -> None:
        stamp = self._clock.stamp(wall_ns)
        for key, value in {**self._presence, "status": status}.items():
            self._say(f"{self._presence_path}/{key}", stamp, value)

    def _take_totals(self, shelf: Shelf[Total], budget: int, now_ns: int) -> list[Total]:
        """Totals to send; a new one's generation is the sequence of this report."""
        totals, _ = shelf.take(budget, now_ns)
        for at, total in enumerate(totals):
            if total.generation == UNSENT:
                totals[at] = shelf.items[total.path] = Total(
                    total.path, self._sequence, total.born, total.last, total.amount
                )
        return totals
