"""What a process has to say and has not said yet: a buffer that conflates, and its counters. Pure.

Theory. What waits is not a queue of messages but the state that the receiver lacks: per path the
newest register, the newest floor and the counter's total. Writes to one path conflate to the
newest, counts to their sum, so that memory is bounded by the number of distinct paths however long
nobody listens; this is a delta buffer whose deltas are joined as they come (Almeida et al., "Delta
State Replicated Data Types", 2016, section 5). Everything in a report is absolute: it may be sent
again, and after a reconnect all that is not acknowledged is. What is acknowledged is dropped, but
for totals: these stay until they are idle, and are then said to be retired. Without a life file
nothing tells what arrived: totals are kept for the life of the process, what else was sent for a
time window, which stands still while the link is down. An acknowledgement that falls says that a
store was lost: then totals that had arrived are said again too, and counts go on from them.

A receiver ignores a total that it does not hold and whose generation is not above the highest that
was retired. So nothing is retired before an acknowledgement covers a whole repetition: then no
total of an earlier generation can be under way any more.

How items displace one another is said in `shardlog.handler.backlog`. Where a floor ends the
generation of a counter, the receiver must hear the old total, the floor and the new total in this
order. So it applies a report's erases first, then its writes, then its totals; a report that
carries ended totals carries nothing else; and totals wait until all floors are out.

Each report also says what was counted at all paths so far, which is added up beside the totals: so
it can be told, further on, whether all of it has arrived.

Times. `now_ns` is a reading of a monotonic clock, for intervals; `wall_ns` is what stamps are made
of, and may jump.

Known anomalies. Without a life file, registers that were sent longer than the window before the
link broke and yet were not read by the receiver are lost with it; totals never are. After a step
back of the clock by more than an hour, registers and floors that did not arrive before it are
refused by the collector, and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt import counter
from shardlog.crdt.delta import Erase, Write
from shardlog.crdt.path import RESERVED, path_text
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.stamp import StampClock
from shardlog.handler.backlog import Backlog, Limits
from shardlog.handler.shelf import UNSENT, Sent, take_totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.delta import Amount, Retired, Total, Value
    from shardlog.handler.shard import Shard

MS = 1_000_000
SAMPLE_CHARACTERS = 300
_OWN = f"{RESERVED}/"
"""What is counted there, as errors are, is in no sum by which counts are checked."""


class Pace(NamedTuple):
    """How much goes into one report (bytes), and the intervals (ms)."""

    report_bytes: int = 256 << 10
    heartbeat_interval_ms: int = 1_000
    repeat_window_ms: int = 60_000
    idle_ms: int = 600_000


class _Said(NamedTuple):
    """Where the last report said something, and since which all have: 0 if it must not be lost."""

    since: int
    written: frozenset[str]
    counted: frozenset[tuple[str, int]]


class Outbox:
    """The buffer of one process: `receive` shards, send each `next_report`, `put_back` what failed.

    It starts unconnected; the first report is due when `receive_connected` was called. `has_life`
    is to be set where there is a life file, that is, where acknowledgements come from. Once its
    `clock` is ahead of the wall clock, it is to be closed, and another to go on for it.
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
        self.clock = StampClock()
        self.connected = False
        self.has_life = False
        self.refused: dict[str, int] = {}
        self._presence = {**presence}
        self._presence_path = path_text((RESERVED, "presence", blade, process))
        self._health_path = path_text((RESERVED, "health", "blade", blade))
        self._pace = pace
        self._counted: Amount = 0  # beside the totals, so that these can be checked by it
        self._backlog = Backlog(limits)
        self._sequence = self._acknowledged = 0
        self._follows = 0  # the last report on this connection
        self._whole = 0  # the one that ended its repetition
        self._said = _Said(0, frozenset(), frozenset())
        self._complete_ns = self._complete_before_ns = 0
        self._closing = False
        self._final_is_due = False
        self._next_heartbeat_ns = 0

    def receive(self, shard: Shard) -> None:
        """Take in a shard: its erases, then its writes, then its counts. O(leaves + dropped)."""
        clock, backlog, time_ns = self.clock, self._backlog, shard.time_ns
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
                refused_by = backlog.count(path, stamp, amount)
                if refused_by is None and not path.startswith(_OWN):
                    self._counted = counter.add(self._counted, amount)
                self._check(path, refused_by)

    def refuse(self, reason: str, times: int, sample: str, wall_ns: int) -> None:
        """Count what was turned away; the first sample of each reason is named in the state."""
        stamp = self.clock.stamp(wall_ns)
        if reason not in self.refused:
            self._say(f"{self._health_path}/{path_text(('first', reason))}", stamp, sample)
        self.refused[reason] = self.refused.get(reason, 0) + times
        path = f"{self._health_path}/{path_text(('refused', reason))}"
        self._backlog.count(path, stamp, times, own=True)

    def receive_connected(self, wall_ns: int) -> None:
        """A link is up; nothing tells what of the rest arrived, so it is sent again. O(items)."""
        self.connected = True
        self._follows = self._whole = 0
        self._final_is_due = self._closing
        self._complete_ns = self._complete_before_ns = 0
        self._backlog.repeat(has_life=self.has_life)
        self._say_presence("bye" if self._closing else "up", wall_ns)

    def receive_disconnected(self) -> None:
        """The link is down: nothing that was sent is forgotten until it is up again."""
        self.connected = False
        self._backlog.hold()

    def receive_acknowledged(self, sequence: int) -> None:
        """All up to this report of this connection is stored; one not sent is ignored. O(that).

        Less than before says that the store was lost: all totals are said again.
        """
        if sequence < self._acknowledged:
            self._acknowledged = self._follows = self._whole = 0
            self._backlog.unlearn()
        elif self._acknowledged < sequence <= self._follows:
            self._acknowledged = sequence
            self._backlog.acknowledge(sequence)

    def say(self, key: str, value: Value, wall_ns: int) -> None:
        """Say how the process is, in its presence record; after each break again. O(1)."""
        self._presence[key] = value
        if not self.clock.is_ahead(wall_ns):
            self._say(f"{self._presence_path}/{key}", self.clock.stamp(wall_ns), value)

    def receive_close(self, wall_ns: int) -> None:
        """The process ends: say so, in a last report that is marked as final."""
        self._closing = self._final_is_due = True
        self._say_presence("bye", wall_ns)

    def has_unsent(self) -> bool:
        """Whether anything waits that is more than a sign of life. O(1)."""
        return self._final_is_due or self._backlog.has_unsent()

    def has_unacknowledged(self) -> bool:
        """Whether anything that was said, or is to be said, may not have arrived. O(1)."""
        return self.has_unsent() or self._acknowledged < self._follows

    def next_timer_ns(self) -> int:
        """When a report is due even if nothing happens."""
        return self._next_heartbeat_ns

    def handle_timer(self, now_ns: int) -> None:
        """Retire what is idle, or forget what was sent longer ago than the window. O(dropped)."""
        if not self.connected:
            return
        if not self.has_life:
            self._backlog.drop_sent(now_ns - self._pace.repeat_window_ms * MS)
        elif 0 < self._whole <= self._acknowledged:
            self._backlog.retire(now_ns - self._pace.idle_ms * MS)

    def next_report(self, now_ns: int, wall_ns: int) -> Report | None:
        """The next report to send, None if there is nothing to say; its sequence is then used up.

        What is in it counts as sent unless it is put back. Its `sent_ns` is a time up to which all
        is said: it stands still until the last of several reports. O(its items).
        """
        if not self.has_unsent() and (self._closing or now_ns < self._next_heartbeat_ns):
            return None
        self._sequence += 1
        sent = Sent(self._sequence, now_ns)
        self._next_heartbeat_ns = now_ns + self._pace.heartbeat_interval_ms * MS
        backlog, budget = self._backlog, self._pace.report_bytes
        writes: list[Write] = []
        erases: list[Erase] = []
        retired: list[Retired] = []
        if backlog.ended.unsent:
            totals, _ = take_totals(backlog.ended, budget, sent)
        else:
            erases, budget = backlog.erases.take(budget, sent)
            writes, budget = backlog.writes.take(budget, sent)
            totals, budget = take_totals(backlog.totals, budget, sent)
            retired, budget = backlog.retired.take(budget, sent)
        final = False
        if not backlog.has_unsent():
            self._complete_before_ns, self._complete_ns = self._complete_ns, wall_ns
            final, self._final_is_due = self._final_is_due, False
            self._whole = self._whole or self._sequence
        follows, self._follows = self._follows, self._sequence
        head = (self.process, self._sequence, self._complete_ns, final)
        counted = counter.cut(self._counted)
        is_alone = final or not follows or bool(erases or retired)
        since = self._supersede(writes, totals, is_alone=is_alone)
        return Report(*head, writes, erases, totals, follows, retired, counted, since)

    def last_reports(self, now_ns: int, wall_ns: int) -> Iterator[Report]:
        """All that is not acknowledged, once more, as on a new connection; the last is final.

        To be called at the very end, after `receive_close`. O(items).
        """
        self.receive_connected(wall_ns)
        while (report := self.next_report(now_ns, wall_ns)) is not None:
            yield report

    def put_back(self, report: Report) -> None:
        """The newest report was not sent: what is in it waits again. O(its items)."""
        self._backlog.put_back(report)
        self._complete_ns = self._complete_before_ns
        self._withdraw(report)

    def discard(self, report: Report, why: str, wall_ns: int) -> None:
        """The newest report cannot be sent, ever: what is in it is refused. O(its items)."""
        self.refuse("encoding", len(self._backlog.discard(report)), why, wall_ns)
        self._withdraw(report)

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
        assert self._whole <= self._follows <= self._sequence
        assert self._acknowledged <= self._sequence

    def _supersede(self, writes: list[Write], totals: list[Total], *, is_alone: bool) -> int:
        """The first report that the newest supersedes, 0 if none. O(items).

        One that `is_alone` supersedes none, and none supersedes it. Nor does one with a `{}`: that
        leaves the floor of a scalar that was there.
        """
        said, sequence = self._said, self._sequence
        written = frozenset([write.path for write in writes])
        counted = frozenset([(total.path, total.generation) for total in totals])
        is_anew = (
            said.since > 0
            and not is_alone
            and written >= said.written
            and counted >= said.counted
            and not any(type(write.value) is dict for write in writes)
        )
        since = said.since if is_anew else 0
        self._said = _Said(0 if is_alone else since or sequence, written, counted)
        return since

    def _withdraw(self, report: Report) -> None:
        self._follows = report.follows
        self._final_is_due |= report.final
        if self._whole == report.sequence:
            self._whole = 0

    def _check(self, path: str, reason: str | None) -> None:
        if reason is not None:
            self.refuse(reason, 1, path, self.clock.last_ns)

    def _say(self, path: str, stamp: int, value: Value) -> None:
        if type(value) is str:
            value = value[:SAMPLE_CHARACTERS]
        self._backlog.write(Write(path, stamp, 0, value), own=True)

    def _say_presence(self, status: str, wall_ns: int) -> None:
        if self.clock.is_ahead(wall_ns):
            return  # it would be refused; who reads a final report says bye for it
        stamp = self.clock.stamp(wall_ns)
        for key, value in {**self._presence, "status": status}.items():
            self._say(f"{self._presence_path}/{key}", stamp, value)
