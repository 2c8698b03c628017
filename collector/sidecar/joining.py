"""The reports that wait at a collector, those of one process joined: the more wait, the less work
is each.

Theory. Everything in a report is absolute, so of consecutive reports of a process only the newest
write and the newest total of each path matter: together they are the report that the process would
have sent if it had flushed once instead of several times (Almeida et al., "Delta State Replicated
Data Types", 2016, section 5: deltas that wait are joined). So what a collector does for a report it
does once for all that wait, and its work follows the paths that changed, not the log calls.

Joined are reports of one connection with none missing between them. The joined one follows what the
first did, and has the sequence and the sums of the last. A report is applied floors first, then
writes, then totals, and what is joined must mean the same in that order: so one with floors begins
anew, nothing is joined to one that retires or is final, and nothing where a write is at or above a
total, which it may have ended. Nor where `{}` follows a scalar, whose floor stays. What begins a
repetition stands alone: its sequence is the baseline of a process that a lost replica may have
heard.

Of a report that a later one supersedes, as that one says, nothing is needed: it is dropped at once.
So at first no more of a report is read than where it stands, and only what is left is decoded and
checked, which takes several times as long.

Known anomalies. What is superseded is not refused where it is not valid; and what is not valid
takes along what it superseded. A write that is superseded by one that is then refused, as the
clock of its process has leapt ahead between the two, is lost, as it is if the handler conflates
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.wire.codec import decode_head, decode_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.replication.messages import Report
    from shardlog.crdt.wire.schema import ReportHead

KEPT_MAX = 32
"""So many reports of a process are kept that do not supersede one another."""


class _Kept(NamedTuple):
    """A report; `follows` is what it, or the first that it superseded, follows."""

    sequence: int
    follows: int
    frame: bytes


class _Chain:
    """Reports of one process with none missing between them."""

    __slots__ = ("_kept",)

    def __init__(self, head: ReportHead, frame: bytes) -> None:
        self._kept = [_Kept(head.sequence, head.follows, frame)]

    def take(self, head: ReportHead, frame: bytes) -> bool:
        """Take the report if it is the next, and there is room. O(what it supersedes)."""
        kept, follows = self._kept, head.follows
        if not kept[-1].sequence == follows < head.sequence:
            return False
        while kept and 0 < head.since <= kept[-1].sequence:
            follows = kept.pop().follows
        if len(kept) >= KEPT_MAX:
            return False
        kept.append(_Kept(head.sequence, follows, frame))
        return True

    def join(self) -> Iterator[Report | RemoteProtocolError]:
        """What is left, joined where that means the same. O(its items)."""
        joined: _Joined | None = None
        for _, follows, frame in self._kept:
            try:
                report = replace(decode_report(frame), follows=follows)
            except RemoteProtocolError as error:
                if joined is not None:
                    yield joined.report()
                joined = None
                yield error
                continue
            if joined is None or not joined.take(report):
                if joined is not None:
                    yield joined.report()
                joined = _Joined(report)
        if joined is not None:
            yield joined.report()


class _Joined:
    """A report, or several that follow one another as one."""

    def __init__(self, report: Report) -> None:
        self._first = self._last = report
        self._writes = {write.path: write for write in report.writes}
        self._totals = {total.path: total for total in report.totals}
        self._ends: set[str] | None = None
        """Where a write would be at or above a total, once it is asked."""

    def take(self, report: Report) -> bool:
        """Join the next report, if that means the same. O(its items), and those before, once."""
        last = self._last
        if last.follows == 0 or last.retired or last.final or report.erases:
            return False
        if self._ends is None:
            self._ends = set(_at_and_above(self._totals))
        writes = {write.path: write for write in report.writes}
        for path, write in writes.items():
            older = self._writes.get(path, write)
            if path in self._ends or (type(write.value) is dict and type(older.value) is not dict):
                return False
        self._ends.update(
            _at_and_above(t.path for t in report.totals if t.path not in self._totals)
        )
        self._writes |= writes
        self._totals |= {total.path: total for total in report.totals}
        self._last = report
        return True

    def report(self) -> Report:
        """All that they say. O(items)."""
        if self._first is self._last:
            return self._first
        return replace(
            self._last,
            follows=self._first.follows,
            erases=self._first.erases,
            writes=[*self._writes.values()],
            totals=[*self._totals.values()],
        )


def join(frames: Iterable[bytes]) -> Iterator[Report | RemoteProtocolError]:
    """The reports in these frames, joined where they can be, and what is wrong with the others.

    Those of one process are in order. O(size).
    """
    chains: dict[str, _Chain] = {}
    for frame in frames:
        try:
            head = decode_head(frame)
        except RemoteProtocolError as error:
            yield error
            continue
        chain = chains.get(head.process)
        if chain is not None:
            if chain.take(head, frame):
                continue
            yield from chain.join()
        chains[head.process] = _Chain(head, frame)
    for chain in chains.values():
        yield from chain.join()


def _at_and_above(paths: Iterable[str]) -> Iterator[str]:
    """The paths and their prefixes; an escaped slash gives one more, which is harmless."""
    for path in paths:
        yield path
        end = path.rfind("/")
        while end >= 0:
            yield path[:end]
            end = path.rfind("/", 0, end)
