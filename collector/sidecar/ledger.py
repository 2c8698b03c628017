"""The ledger of one replica: what each process has counted, and what that adds up to.

Theory. Per (process, path) the highest total heard is kept as a mark; only what a report has
beyond it is added to the replica's own entry of that path. Totals are absolute, so a report may
come twice, late or in another order and adds nothing the second time (Almeida and Baquero,
"Scalable Eventually Consistent Counters over Unreliable Networks", 2013, section 4, do the same
with a handoff). Marks, lines, closed ids and entries change together and are persisted together.

A mark goes when its process says that the path is retired: it does so only of what is acknowledged,
so that everything which it ever sent of that generation is in the entry already. What is kept is
one number per process, its highest retired generation: a total without a mark and not above it is
old. All marks of a process go, its line too, when it has ended: then its id is closed.

The chain: a report that follows the last one in line, or begins a repetition of all that is not
acknowledged (`follows` 0), moves the line. A report behind a hole is taken in, and moves nothing;
one that is late never moves it back. A total that begins a generation is not heard behind a hole:
the floor that ended the one before may be what is missing, and would take along, when it comes,
what was counted after it. The repetition brings both, in order.

A replica that goes on for a lost one, or for one whose store went back in time, must count nothing
that this one may have counted, and cannot know what that was. But sequences of a process only rise,
and generations are sequences: what a report carries for the first time was carried by none before.
So the sequence of the first report heard of a process is its `baseline`. A total of a lower
generation may have been counted: its first hearing sets the mark, and counts nothing. One that is
not lower was first carried by a report that the lost replica never had, and counts in full. No
clock decides, except that processes which started after the loss was noticed need none of this.
Where the store went back, the totals that were heard in this run keep their marks, since these are
above whatever was heard before; those of the store itself are dropped.

Processes are asked to say all again, by an acknowledgement of nothing: that sets the marks of idle
paths before anything more is counted there.

`shardlog.collector.sidecar.sums` keeps the sums of all that, by which it can be checked.

What is owed to processes, an acknowledgement or the removal of their files, is owed from the moment
at which a batch is taken, and is due once a batch is persisted: `take_due` hands it out then. A
batch that failed is in the next one, so what it owed is due with that.

Known anomalies. What was counted between a lost replica's last words and a baseline is missing;
where the store went back, also the next count of an idle path whose process was acknowledged anew
before it saw that it was asked. An exit file that was taken in while the store could not be written
is counted again if the store is then lost as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.collector.batch import NO_SUMS, UNHEARD, Acknowledge, Identity, Persist, Remove
from shardlog.collector.sidecar.closed import ClosedIds
from shardlog.collector.sidecar.sums import Sums
from shardlog.crdt import counter
from shardlog.crdt.delta import Entry
from shardlog.crdt.entry import count_on, reset_by
from shardlog.crdt.process_id import started_ns
from shardlog.crdt.replication.messages import REPLACED_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.collector.batch import Closed, Line, Restored
    from shardlog.crdt.delta import Amount, Retired, Total
    from shardlog.crdt.lww_map import Floor, Leaf
    from shardlog.crdt.replication.messages import Report
    from shardlog.crdt.state import State


class Ledger:
    """Marks, lines and closed ids of a replica; its entries are in `state`, for snapshots."""

    def __init__(self, state: State, restored: Restored) -> None:
        self.identity = Identity(
            restored.replica, restored.lost_ns, restored.lower_bound, restored.replaces
        )
        self.lines = restored.lines
        self.marks = restored.marks
        self.closed = ClosedIds(restored.closed, restored.watermark_ns)
        self._state = state
        self._first: dict[str, int] = {}
        """The first sequence that this run heard of each process."""
        self._unheard = {process: set(rows) for process, rows in self.marks.items()}
        """The marks of the store whose totals this run has not heard."""
        self._dirty_identity: Identity | None = None
        self._is_dirty = False
        self._dirty_marks: dict[tuple[str, str], counter.Mark | None] = {}
        self._dirty_entries: dict[str, Entry] = {}
        self._gone: dict[str, None] = {}
        self._dirty_lines: dict[str, None] = {}
        self._ended: dict[str, None] = {}
        self._dirty_closed: list[Closed] = []
        self._owed: dict[str, Acknowledge | Remove] = {}
        self._due: dict[str, Acknowledge | Remove] = {}
        for entry in restored.entries:
            state.put(self.replica, entry)
        heard = (p for p, line in self.lines.items() if line != UNHEARD or p in self.marks)
        self.sums = Sums(restored.sums, restored.entries, heard)

    @property
    def replica(self) -> str:
        """The name of the replica."""
        return self.identity.replica

    @property
    def is_dirty(self) -> bool:
        """Whether anything is to be persisted now; a line that only moved goes with the next."""
        return self._is_dirty

    @property
    def has_counts(self) -> bool:
        """Whether anything is to be persisted but lines, and which replica it is."""
        rows = (self._dirty_marks, self._dirty_entries, self._gone, self._ended, self._dirty_closed)
        return any(rows) or self._dirty_identity is not None or self.sums.is_dirty

    def knows(self, process: str) -> bool:
        """Whether a process was heard, or seen alive, and is not closed. O(1)."""
        return process in self.lines

    def last(self, process: str) -> int:
        """The sequence up to which nothing of a process is missing. O(1)."""
        return self.lines.get(process, UNHEARD).last

    def know(self, process: str) -> None:
        """A process is there, so it is not one that was closed and forgotten. O(1)."""
        if process not in self.lines:
            self._move(process, UNHEARD)
            if self._may_be_counted(process):
                self._owed[process] = Acknowledge(process, 0)

    def hear(self, report: Report) -> None:
        """A report of a process has come: its first may set its baseline. O(1).

        What its connection sent before it ends with what it follows.
        """
        process = report.process
        if process in self._first:
            return
        sequence = min(report.sequence, report.follows + 1) if report.follows else report.sequence
        self._first[process] = sequence
        line = self.lines.get(process, UNHEARD)
        if self._may_be_counted(process) and not line.baseline:
            self._move(process, line._replace(baseline=max(sequence, 1)))
            self._is_dirty = True

    def is_in_line(self, report: Report) -> bool:
        """Whether nothing is missing before a report. O(1)."""
        return report.follows in (0, self.last(report.process))

    def is_news(self, process: str, total: Total, *, in_line: bool) -> bool:
        """Whether this total is to be heard, and changes anything. O(1)."""
        old = self.marks.get(process, {}).get(total.path)
        if old is None:
            return in_line and total.generation > self.lines.get(process, UNHEARD).retired
        if total.generation > old.generation:
            return in_line
        if (old.generation, old.amount) == (total.generation, total.amount):
            self._unheard.get(process, set()).discard(total.path)
        return old.advance(total.generation, total.amount)[0] != old

    def count(self, process: str, total: Total, now_ns: int, to: str | None = None) -> bool:
        """Hear a total that is news; False if the sum is too large to be kept. O(depth).

        It is refused then. A stamp ahead of `now_ns` is cut to it. What is new is added at the
        path `to`, if that is another than the total's own.
        """
        path = total.path
        old = self.marks.get(process, {}).get(path, counter.NEVER)
        mark, more = old.advance(total.generation, total.amount)
        if old.generation < total.generation < self.lines.get(process, UNHEARD).baseline:
            more = 0
        if more and not self.add(to or path, more, total.born, total.last, now_ns):
            self.refuse(process, total)
            return False
        entry = self._state.entry(self.replica, path)
        path = path if entry is None else entry.path  # one text for all processes
        self.sums.hear(process, total, more, to or path)
        self.marks.setdefault(process, {})[path] = self._dirty_marks[process, path] = mark
        self._unheard.get(process, set()).discard(path)
        self._is_dirty = True
        return True

    def refuse(self, process: str, total: Total) -> None:
        """Do not let in a total that is news. O(1).

        Its generation gets a mark all the same, of nothing: once a later one is retired, a total
        that comes again would not be news. Not so where a lost replica may have counted it: what is
        not heard there is in the baseline.
        """
        old = self.marks.get(process, {}).get(total.path, counter.NEVER)
        if old.generation < total.generation < self.lines.get(process, UNHEARD).baseline:
            return
        _, more = old.advance(total.generation, total.amount)
        if self.sums.refuse(process, total, more) and total.generation > old.generation:
            mark = counter.Mark(total.generation, 0)
            self.marks.setdefault(process, {})[total.path] = mark
            self._dirty_marks[process, total.path] = mark
            self._unheard.setdefault(process, set()).add(total.path)
        self._is_dirty = True

    def add(self, path: str, more: Amount, born: int, last: int, now_ns: int) -> bool:
        """Add to the replica's own entry; False if the sum is too large to be kept. O(depth)."""
        old = self._state.entry(self.replica, path) or Entry(path, 0, 0)
        entry = count_on(old, more, (born, last), self._floor_over(path), now_ns)
        if not counter.fits(entry.amount):
            return False
        self._put(entry)
        return True

    def reset(self, top: str) -> None:
        """A floor at `top` is new: what was counted below it shows no more. O(rows below)."""
        for path in self._state.counters(top):
            old = self._state.entry(self.replica, path)
            if old is not None:
                entry = reset_by(old, self._state.map.floor_over(path))
                if entry is not old:
                    self._put(entry)

    def collapse(self, path: str, to: str) -> Entry | None:
        """Move what the entry at a path shows to another path; its entry then. O(depth).

        The entry that it leaves is to be forgotten by the state.

        Raises:
            OverflowError: the sum there is too large to be kept; what was to be added is lost.
        """
        self._gone[path] = None
        self._is_dirty = True
        self._dirty_entries.pop(path, None)
        old = self._state.entries(path)[self.replica]
        moved = self._state.moved(self.replica, path, to)
        self.sums.remove(old, shows=moved is not None)
        if moved is None:
            return None
        if not counter.fits(moved.amount):
            self.sums.overflow(old)
            raise OverflowError(f"{path!r} has counted more than {to!r} can hold besides")
        self._put(moved)
        return moved

    def retire(self, process: str, retired: Retired) -> None:
        """Drop the mark of a path that a process has dropped. O(1)."""
        rows = self.marks.get(process, {})
        row = rows.get(retired.path)
        if row is not None and row.generation == retired.generation:
            del rows[retired.path]
            self._dirty_marks[process, retired.path] = None
            self._is_dirty = True
            if not rows:
                del self.marks[process]
        line = self.lines.get(process, UNHEARD)
        if retired.generation > line.retired:
            self._move(process, line._replace(retired=retired.generation))
            self._is_dirty = True

    def follow(self, report: Report) -> None:
        """A report was taken in: move the line of its process if nothing is missing. O(1)."""
        if report.process not in self.lines:
            self.know(report.process)
            self._is_dirty = True
        line = self.lines[report.process]
        self.sums.say(report.process, report.counted, has_baseline=line.baseline > 0)
        if self.is_in_line(report) and report.sequence > line.last:
            self._move(report.process, line._replace(last=report.sequence))
            self._owed[report.process] = Acknowledge(report.process, report.sequence)
            # One that carries nothing is no reason to wait for the disk.
            self._is_dirty = self._is_dirty or bool(
                report.final or report.writes or report.erases or report.totals
            )

    def close(self, process: str, now_ns: int) -> None:
        """A process has ended, and all of it is in: its rows go. O(its rows).

        One that is closed already is only owed the removal of its files again.
        """
        self._owed[process] = Remove(process)
        self._is_dirty = True
        self._ended[process] = None
        self._first.pop(process, None)
        self._unheard.pop(process, None)
        self.marks.pop(process, None)
        self.lines.pop(process, None)
        self._dirty_lines.pop(process, None)
        self.sums.close(process)
        if process not in self.closed:
            self._dirty_closed.append(self.closed.add(process, now_ns))

    def forget(self, now_ns: int) -> None:
        """Forget closed ids that are a day old."""
        if self.closed.forget(now_ns):
            self._is_dirty = True

    def succeed(self, successor: str, lost: Iterable[str], why: str, lost_ns: int) -> None:
        """Go on as another replica for those that were lost, with no entries. O(rows).

        Registers and closed ids stay. The arguments are those of its `Identity`.
        """
        replaces = dict.fromkeys((*self.identity.replaces, *lost))
        self._gone |= dict.fromkeys(
            path for path, by in self._state.counting.items() if self.replica in by
        )
        self._dirty_entries = {}
        self._state.succeed(successor)
        for process, paths in self._unheard.items():
            rows = self.marks.pop(process, {})
            self._dirty_marks |= dict.fromkeys((process, path) for path in paths & rows.keys())
            heard = {path: mark for path, mark in rows.items() if path not in paths}
            if heard:
                self.marks[process] = heard
        self._unheard = {}
        self.sums = Sums(NO_SUMS, (), ())
        for process, line in self.lines.items():
            self._move(process, line._replace(baseline=self._first.get(process, 0)))
            self._owed[process] = Acknowledge(process, 0)
        self.identity = self._dirty_identity = Identity(
            successor, lost_ns, why, tuple(replaces)[-REPLACED_MAX:]
        )
        self._is_dirty = True

    def take_dirty(
        self, version: int, registers: tuple[tuple[str, Leaf | None, Floor | None], ...]
    ) -> Persist:
        """All that changed since the last call, and these registers. O(its rows)."""
        batch = Persist(
            version,
            tuple((process, path, mark) for (process, path), mark in self._dirty_marks.items()),
            tuple(self._dirty_entries.values()),
            registers,
            gone=tuple(self._gone),
            lines=tuple((process, self.lines[process]) for process in self._dirty_lines),
            ended=tuple(self._ended),
            closed=tuple(self._dirty_closed),
            forgotten=self.closed.forgotten,
            watermark_ns=self.closed.watermark_ns,
            identity=self._dirty_identity,
            sums=self.sums.take_dirty(),
        )
        self._dirty_identity = None
        self._dirty_marks, self._dirty_entries, self._dirty_lines = {}, {}, {}
        self._gone, self._ended, self._dirty_closed, self._is_dirty = {}, {}, [], False
        self._due |= self._owed
        self._owed = {}
        return batch

    def take_due(self) -> list[Acknowledge | Remove]:
        """The last batch is persisted: what its processes are owed. O(its processes)."""
        due, self._due = self._due, {}
        return list(due.values())

    def put_back(self, batch: Persist) -> None:
        """What of a batch could not be persisted is to be persisted again. O(batch)."""
        self._ended = dict.fromkeys(batch.ended) | self._ended
        marks = {(p, path): mark for p, path, mark in batch.marks if p not in self._ended}
        self._dirty_marks = marks | self._dirty_marks
        self._gone = (
            dict.fromkeys(p for p in batch.gone if p not in self._dirty_entries) | self._gone
        )
        entries = {entry.path: entry for entry in batch.entries if entry.path not in self._gone}
        self._dirty_entries = entries | self._dirty_entries
        lines = {process: None for process, _ in batch.lines if process in self.lines}
        self._dirty_lines = lines | self._dirty_lines
        self._dirty_closed = [*batch.closed, *self._dirty_closed]
        self._dirty_identity = batch.identity or self._dirty_identity
        self.sums.put_back(batch.sums)
        self._is_dirty = True

    def _may_be_counted(self, process: str) -> bool:
        """Whether a replica that was lost may have heard of a process."""
        return 0 < self.identity.lost_ns >= started_ns(process)

    def _floor_over(self, path: str) -> int:
        """The newest stamp of a floor at or above a path, 0 if there is none. O(depth) at most."""
        state = self._state
        # Where no register is at or above a counter and nothing is erased, there is none: most of
        # what is counted costs half of what it does with the search.
        if path in state.counting and not state.map.floors and not state.is_mixed:
            return 0
        return state.map.floor_over(path)

    def _put(self, entry: Entry) -> None:
        self.sums.put(self._state.entry(self.replica, entry.path), entry)
        self._state.put(self.replica, entry)
        self._dirty_entries[entry.path] = entry
        self._gone.pop(entry.path, None)
        self._is_dirty = True

    def _move(self, process: str, line: Line) -> None:
        self.lines[process] = line
        self._dirty_lines[process] = None
