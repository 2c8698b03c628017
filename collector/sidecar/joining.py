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

A report at all paths of those before it supersedes them: these are dropped at once. So at first no
more of a report is decoded than that takes, its outline, and only what is left is decoded as a
whole and checked: 11 us for 81 items, instead of 70 us.

Known anomalies. What is superseded is not refused where it is not valid; and what is not valid
takes along what it superseded. A write that is superseded by one that is then refused, as the
clock of its process has leapt ahead between the two, is lost, as it is if the handler conflates
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.wire.codec import decode_outline, decode_report
from shardlog.crdt.wire.schema import ReportOutline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.delta import Total, Write
    from shardlog.crdt.replication.messages import Report

KEPT_MAX = 32
"""So many reports of a process are kept that do not supersede one another."""


class _Chain:
    """Reports of one process that can be joined."""

    __slots__ = ("_counted", "_ends", "_first", "_frames", "_last", "_written")

    def __init__(self, head: ReportOutline | Report, frame: bytes) -> None:
        self._first = frame
        self._frames = [frame]
        self._last = head
        self._written = {write.path for write in head.writes}
        self._counted = {total.path for total in head.totals}
        self._ends: set[str] | None = None
        """Where a write would be at or above a total, once there is more than one report."""

    def take(self, head: ReportOutline | Report, frame: bytes) -> bool:
        """Take the next report of the process, if it can be joined. O(its items)."""
        last = self._last
        if (
            head.follows != last.sequence
            or head.sequence <= last.sequence
            or last.follows == 0
            or head.erases
            or last.retired
            or last.final
            or len(self._frames) >= KEPT_MAX
        ):
            return False
        writes = [write.path for write in head.writes]
        totals = [total.path for total in head.totals]
        is_known = self._written.issuperset(writes) and self._counted.issuperset(totals)
        if not (is_known and self._ends is not None) and not self._learn(writes, totals):
            return False
        if (
            is_known
            and len(writes) == len(self._written)
            and len(totals) == len(self._counted)
            and type(head) is ReportOutline
        ):
            self._frames = [frame]
        else:
            self._frames.append(frame)
        self._last = head
        return True

    def join(self) -> list[Report | RemoteProtocolError]:
        """The joined report; several, and errors, where there may be none. O(items left)."""
        taken = [_decoded(frame) for frame in self._frames]
        reports = [report for report in taken if not isinstance(report, RemoteProtocolError)]
        if len(reports) < len(taken):
            return taken
        if self._frames[0] is not self._first:
            first = _decoded(self._first)
            if isinstance(first, RemoteProtocolError):
                return [first, *taken]
            reports[0] = replace(reports[0], follows=first.follows, erases=first.erases)
        writes: dict[str, Write] = {}
        totals: dict[str, Total] = {}
        for report in reports:
            for write in report.writes:
                older = writes.pop(write.path, write)
                if type(write.value) is dict and type(older.value) is not dict:
                    return [*reports]
                writes[write.path] = write
            for total in report.totals:
                totals[total.path] = total
        return [
            replace(
                reports[-1],
                follows=reports[0].follows,
                erases=reports[0].erases,
                writes=[*writes.values()],
                totals=[*totals.values()],
            )
        ]

    def _learn(self, writes: list[str], totals: list[str]) -> bool:
        """Whether all writes may go before all totals, these too; they are known then."""
        written, counted = self._written.union(writes), self._counted.union(totals)
        if self._ends is None:
            ends = set(_at_and_above(counted))
        else:
            ends = self._ends.union(_at_and_above(counted - self._counted))
        if not ends.isdisjoint(written):
            return False
        self._written, self._counted, self._ends = written, counted, ends
        return True


def join(frames: Iterable[bytes]) -> Iterator[Report | RemoteProtocolError]:
    """The reports in these frames, joined where they can be, and what is wrong with the others.

    Those of one process are in order. O(size).
    """
    chains: dict[str, _Chain] = {}
    for frame in frames:
        try:
            head = decode_outline(frame) or decode_report(frame)
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


def _decoded(frame: bytes) -> Report | RemoteProtocolError:
    try:
        return decode_report(frame)
    except RemoteProtocolError as error:
        return error


def _at_and_above(paths: Iterable[str]) -> Iterator[str]:
    """The paths and their prefixes; an escaped slash gives one more, which is harmless."""
    for path in paths:
        yield path
        end = path.rfind("/")
        while end >= 0:
            yield path[:end]
            end = path.rfind("/", 0, end)
