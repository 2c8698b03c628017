"""The sums by which a replica's books are checked: what was counted, and what became of it.

Theory. Conservation: what processes count is neither lost nor made on its way. So of all user
paths together, and in every batch,

    counted = heard + refused + baseline + undelivered     between the processes and the replica
    heard = visible + moved + erased                       in the entries of what is not forgotten
    moved = collapsed + erased_collapsed + overflow        in those at `~`

and, without what lies in between, counted = visible + collapsed + erased + refused + undelivered.
Each term is measured where it happens, and none but `baseline` is computed from the others, or the
check could not fail:

    counted     what each process says that it has counted so far, in each of its reports
    heard       what was added of its totals; a repetition adds nothing
    refused     what was turned away of its totals, as at a limit
    baseline    what a replica that was lost may have counted, or this one before sums were kept
    visible     the total of the entries, without what they had when they were erased
    moved       what left entries for `~`, or went there at once because it was so old
    collapsed   as visible, at `~`
    erased, erased_collapsed
                what entries had when they were erased, also those that are no more
    overflow    what left entries, and did not fit at `~`

An amount has four ascending parts, so that +1 and -1 are not nothing. Sums may be larger than any
amount that can be sent: they are Python's ints.

visible, collapsed and the bases of entries are added up anew from the entries at every start, and
kept up to date from there. The others are persisted in the transaction of what they are about.

A total that is turned away comes again, and later perhaps in: so it is known by process, path and
generation, in a bounded table. What that can't hold leaves `refused` unknown.

Of a process that a lost replica may have heard nobody knows what that had counted: all that is
neither heard nor refused here is its baseline. A replica that goes on for a lost one begins without
sums, as it does without entries; those of the lost one are kept where its entries are.

Known anomalies. Nothing of a process with such a baseline can be found to be undelivered. What a
process counts and refuses itself, at a limit of its own, is not counted. In a store of an earlier
version everything there is taken as heard, and everything that a process had counted until its next
report as delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shardlog.collector.batch import SavedSums
from shardlog.crdt import counter
from shardlog.crdt.counter import add, excess
from shardlog.crdt.entry import difference
from shardlog.crdt.path import RESERVED, is_within
from shardlog.crdt.retention import is_collapsed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.crdt.delta import Amount, Entry, Total

REFUSED_MAX = 10_000
"""How many totals that were turned away are known one by one."""
NAMED_MAX = 5
"""How many processes are named of which something is not delivered."""
ENDED = ""
"""The name of the row of all processes that have ended, and of the replica itself."""


class Undelivered(NamedTuple):
    """A process of which something is missing; "" are those that have ended."""

    process: str
    counted: Amount
    missing: Amount


@dataclass(slots=True)
class _Account:
    """What one process counted, or all that have ended."""

    counted: Amount = 0
    heard: Amount = 0
    refused: Amount = 0
    baseline: Amount = 0

    def amounts(self) -> tuple[Amount, ...]:
        return self.counted, self.heard, self.refused, self.baseline

    def missing(self) -> Amount:
        return excess(self.counted, add(add(self.heard, self.refused), self.baseline))


@dataclass(slots=True)
class _Own:
    """What is persisted of the replica itself; `unknown` is 1 if `refused` is."""

    moved: Amount = 0
    overflow: Amount = 0
    erased: Amount = 0
    erased_collapsed: Amount = 0
    unknown: int = 0

    def amounts(self) -> tuple[Amount, ...]:
        return self.moved, self.overflow, self.erased, self.erased_collapsed, self.unknown


class _Entries:
    """The sums of what entries show, and of their bases."""

    __slots__ = ("bases", "shown")

    def __init__(self) -> None:
        self.shown = [0, 0, 0, 0]
        self.bases = [0, 0, 0, 0]

    def put(self, entry: Entry, sign: int) -> None:
        """An entry comes, or goes if `sign` is -1."""
        _add_to(self.shown, difference(entry), sign)
        if entry.base:
            _add_to(self.bases, entry.base, sign)


class Sums:
    """The sums of one replica. All methods O(len of the path) unless they say otherwise."""

    def __init__(self, saved: SavedSums, entries: Iterable[Entry], heard: Iterable[str]) -> None:
        """`heard` are the processes that were heard of; O(entries)."""
        self._accounts = {name: _Account(*row[:4]) for name, row in saved.rows.items()}
        self._refused = dict(saved.refused)
        self._here = _Entries()
        self._collapsed = _Entries()
        self._unsaid = {process for process in heard if process not in saved.rows}
        self._dirty: dict[str, None] = {}
        self._dirty_refused: dict[tuple[str, str, int], None] = {}
        held: Amount = 0
        moved: Amount = 0
        for entry in entries:
            self.put(None, entry)
            if not _is_reserved(entry.path):
                held = add(held, entry.amount)
                moved = add(moved, entry.amount) if is_collapsed(entry.path) else moved
        if ENDED in saved.rows:
            self._own = _Own(*saved.rows[ENDED][4:])  # type: ignore[arg-type]
        else:
            self._own = _Own(moved=moved)
            self._accounts[ENDED] = _Account(counted=held, heard=held)
            self._dirty[ENDED] = None

    def say(self, process: str, counted: Amount, *, has_baseline: bool) -> None:
        """What is in a report was heard, and it tells what its process has counted so far.

        `has_baseline`: what of that is not known here may have been counted by a lost replica.
        """
        account = self._account(process)
        was = account.counted, account.baseline
        account.counted = counter.join(account.counted, counted)
        if has_baseline or process in self._unsaid:
            self._unsaid.discard(process)
            account.baseline = excess(account.counted, add(account.heard, account.refused))
        if (account.counted, account.baseline) != was:
            self._dirty[process] = None

    def hear(self, process: str, total: Total, more: Amount, to: str) -> None:
        """A total came in, and had so much that is new, which was added at the path `to`."""
        if _is_reserved(total.path):
            return
        account = self._account(process)
        account.heard = add(account.heard, more)
        if is_collapsed(to):
            self._own.moved = add(self._own.moved, more)
            self._dirty[ENDED] = None
        self._dirty[process] = None
        row = (process, total.path, total.generation)
        if row in self._refused:  # what comes in may be less than what was refused before
            self._turn_away(row, excess(self._refused[row], more))

    def refuse(self, process: str, total: Total, more: Amount) -> bool:
        """A total was turned away, which has so much that is new; whether that is known now."""
        row = (process, total.path, total.generation)
        if not _is_reserved(total.path):
            self._turn_away(row, counter.join(self._refused.get(row, 0), more))
        return row in self._refused

    def put(self, old: Entry | None, new: Entry) -> None:
        """An entry was set, in the place of an older one."""
        if _is_reserved(new.path):
            return
        entries = self._collapsed if is_collapsed(new.path) else self._here
        if old is not None:
            was, now = old.amount, new.amount
            if isinstance(was, int) and isinstance(now, int) and old.base == new.base == 0:
                entries.shown[0] += now - was  # as nearly all are: 0.4 us instead of 1.4 us
                return
            entries.put(old, -1)
        entries.put(new, 1)

    def remove(self, entry: Entry, *, shows: bool) -> None:
        """An entry goes, with what was erased of it; if it `shows` nothing any more, with all."""
        if _is_reserved(entry.path):
            return
        own, left = self._own, difference(entry)
        gone = entry.base if shows else entry.amount
        if is_collapsed(entry.path):
            self._collapsed.put(entry, -1)
            own.erased_collapsed = add(own.erased_collapsed, gone)
        else:
            self._here.put(entry, -1)
            own.erased = add(own.erased, gone)
            if shows:
                own.moved = add(own.moved, left)
        self._dirty[ENDED] = None

    def overflow(self, entry: Entry) -> None:
        """What an entry showed when it went did not fit at `~`."""
        if not _is_reserved(entry.path):
            self._own.overflow = add(self._own.overflow, difference(entry))
            self._dirty[ENDED] = None

    def close(self, process: str) -> None:
        """A process has ended: its sums go on in those of all that have. O(refused)."""
        account = self._accounts.pop(process, None)
        self._dirty.pop(process, None)
        self._unsaid.discard(process)
        if account is None:
            return
        ended = self._accounts[ENDED]
        self._accounts[ENDED] = _Account(*map(add, ended.amounts(), account.amounts()))
        self._dirty[ENDED] = None
        for row in [row for row in self._refused if row[0] == process]:
            del self._refused[row]
            self._dirty_refused.pop(row, None)

    def terms(self) -> dict[str, Amount]:
        """The sums by their names. O(processes)."""
        whole = _Account()
        for account in self._accounts.values():
            whole = _Account(*map(add, whole.amounts(), account.amounts()))
        own, here, collapsed = self._own, self._here, self._collapsed
        return {
            "counted": whole.counted,
            "heard": whole.heard,
            "refused": whole.refused,
            "baseline": whole.baseline,
            "visible": _amount(here.shown),
            "moved": own.moved,
            "erased": add(own.erased, _amount(here.bases)),
            "collapsed": _amount(collapsed.shown),
            "erased_collapsed": add(own.erased_collapsed, _amount(collapsed.bases)),
            "overflow": own.overflow,
        }

    @property
    def is_unknown(self) -> bool:
        """Whether more was turned away than `refused` knows."""
        return bool(self._own.unknown)

    def undelivered(self) -> list[Undelivered]:
        """Of whom most is missing, NAMED_MAX at most. O(processes)."""
        found = [
            Undelivered(process, account.counted, missing)
            for process, account in self._accounts.items()
            if (missing := account.missing())
        ]
        found.sort(key=lambda row: counter.lengthen(row.missing), reverse=True)
        return found[:NAMED_MAX]

    @property
    def is_dirty(self) -> bool:
        """Whether anything is to be persisted."""
        return bool(self._dirty or self._dirty_refused)

    def take_dirty(self) -> SavedSums:
        """What is to be persisted since the last call. O(its rows)."""
        rows = {name: self._row(name) for name in self._dirty}
        refused = {row: self._refused.get(row, 0) for row in self._dirty_refused}
        self._dirty, self._dirty_refused = {}, {}
        return SavedSums(rows, refused)

    def put_back(self, saved: SavedSums) -> None:
        """What could not be persisted is to be persisted again. O(its rows)."""
        self._dirty |= dict.fromkeys(name for name in saved.rows if name in self._accounts)
        self._dirty_refused |= dict.fromkeys(saved.refused)

    def check_invariants(self, entries: Iterable[Entry]) -> None:
        """Raise AssertionError unless what is kept up to date is what these entries have."""
        anew = Sums(SavedSums({ENDED: self._row(ENDED)}, {}), entries, ())
        for mine, theirs in (
            (self._here, anew._here),
            (self._collapsed, anew._collapsed),
        ):
            assert (mine.shown, mine.bases) == (theirs.shown, theirs.bases)

    def _account(self, process: str) -> _Account:
        account = self._accounts.get(process)
        if account is None:
            account = self._accounts[process] = _Account()
            self._dirty[process] = None
        return account

    def _row(self, name: str) -> tuple[Amount, ...]:
        own = self._own.amounts() if name == ENDED else ()
        return (*self._accounts[name].amounts(), *own)

    def _turn_away(self, row: tuple[str, str, int], more: Amount) -> None:
        old = self._refused.get(row, 0)
        if more == old:
            return
        if row not in self._refused and len(self._refused) >= REFUSED_MAX:
            self._own.unknown = 1
            self._dirty[ENDED] = None
            return
        account = self._account(row[0])
        account.refused = add(excess(account.refused, old), more)
        if more:
            self._refused[row] = more
        else:
            del self._refused[row]
        self._dirty[row[0]] = self._dirty_refused[row] = None


def _is_reserved(path: str) -> bool:
    return path.startswith(RESERVED) and is_within(path, RESERVED)


def _add_to(parts: list[int], amount: Amount, sign: int) -> None:
    if isinstance(amount, int):
        parts[0] += sign * amount
    else:
        for at, part in enumerate(amount):
            parts[at] += sign * part


def _amount(parts: list[int]) -> Amount:
    return counter.shorten((parts[0], parts[1], parts[2], parts[3]))
