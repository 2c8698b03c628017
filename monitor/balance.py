"""The books of a cluster: whether what was counted is what shows. Pure.

Theory. What is counted is conserved, so its sums balance, see `shardlog.collector.sidecar.sums`:
there every collector measures the terms of its replica, and tells them, each as of one moment.
Here they are compared, replica by replica, and what a monitor sees with what all replicas have.

While counting goes on, what shows is newer than the terms. It is fine then if it lies between what
the replicas had before, as told, and what they have later: that finds only what is missing of more
than was counted meanwhile. As soon as nothing moves, both must be equal.

Known anomalies. Where a register and a counter meet, or an erase has not reached the collector of
what it erases, less shows than replicas have. The rest of a replica that was replaced by another
may be newer than what it has told of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt import counter
from shardlog.crdt.counter import BILLION, PART_MAX, add, excess
from shardlog.crdt.path import RESERVED
from shardlog.crdt.process_id import blade_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.delta import Amount, Value
    from shardlog.crdt.path import Keys
    from shardlog.monitor.replica import Shown
    from shardlog.monitor.views import Doubt

LEDGER = f"{RESERVED}/health/ledger/*/*/*"
"""Selects {host}/{replica}/{term}."""

_BALANCES = (
    ("counted", ("heard", "refused", "baseline"), "undelivered", "heard"),
    ("heard", ("visible", "moved", "erased"), "visible", "visible"),
    ("moved", ("collapsed", "erased_collapsed", "overflow"), "collapsed", "collapsed"),
)
"""What must be the sum of what, and which term is off if that is too low, or too high."""
_TERMS = tuple(dict.fromkeys(term for whole, parts, *_ in _BALANCES for term in (whole, *parts)))


class Fault(NamedTuple):
    """A term that is off, and where; or of which nothing can be said, if it is not `known`."""

    host: str
    term: str
    says: str
    known: bool = True


class Book(NamedTuple):
    """The terms of one replica; None is one that was not told, or can't be."""

    host: str
    replica: str
    terms: dict[str, Amount | None]
    undelivered: list[tuple[str, int | float, int | float]]
    """Process, what it counted, and what is missing of that."""

    def faults(self) -> Iterator[Fault]:
        """What does not balance in it. O(1)."""
        for whole, parts, low, high in _BALANCES:
            expected, said = self.terms[whole], [self.terms[part] for part in parts]
            if expected is None or None in said:
                names = ", ".join(t for t in (whole, *parts) if self.terms[t] is None)
                yield Fault(self.host, low, f"{names} can't be told", known=False)
            if expected is None:
                continue
            found: Amount = 0
            for amount in said:
                found = found if amount is None else add(found, amount)
            missing, surplus = excess(expected, found), excess(found, expected)
            if missing and None not in said:
                yield from self._missing(whole, low, expected, missing)
            if surplus:
                yield Fault(self.host, high, _SURPLUS[whole].format(counter.value(surplus)))

    def _missing(self, whole: str, term: str, expected: Amount, missing: Amount) -> Iterator[Fault]:
        if whole == "counted" and self.undelivered:
            for process, counted, lost in self.undelivered:
                who = blade_of(process) or "processes that have ended"
                says = f"{counted} counted by {who}, {lost} of them not delivered"
                yield Fault(self.host, term, says)
        else:
            says = _MISSING[whole].format(counter.value(expected), counter.value(missing))
            yield Fault(self.host, term, says)


_MISSING = {
    "counted": "{} counted by its processes, {} of them not delivered",
    "heard": "of {} that it heard, {} are not in its counters",
    "moved": "of {} that went on at ~, {} are not there",
}
_SURPLUS = {
    "counted": "it heard {} more than its processes counted",
    "heard": "its counters have {} more than it heard",
    "moved": "at ~ are {} more than went there",
}


class Sample(NamedTuple):
    """All books as of now, what shows beside them, and what may be missing of both."""

    books: list[Book]
    shown: int
    """The sum of all counters, in billionths, which may be off by `slack`, as floats are."""
    slack: int
    doubts: list[Doubt]

    def sums(self) -> dict[str, Amount]:
        """Each term over all replicas; 0 where nothing was told. O(replicas)."""
        sums: dict[str, Amount] = dict.fromkeys(_TERMS, 0)
        for book in self.books:
            for term, amount in book.terms.items():
                sums[term] = add(sums[term], amount or 0)
        return sums

    def held(self) -> int:
        """What all replicas have, in billionths. O(replicas)."""
        sums = self.sums()
        return _billionths(sums["visible"]) + _billionths(sums["collapsed"])


class Comparison:
    """What shows beside what the replicas have, over several samples."""

    def __init__(self) -> None:
        self._held_before: int | None = None
        self._shown_between: int | None = None

    def agrees(self, sample: Sample) -> bool:
        """Whether there was a sample between what was held before, and what is by now. O(1)."""
        held, shown, slack = sample.held(), sample.shown, sample.slack
        before = self._held_before
        self._held_before = held if before is None else min(before, held)
        if shown + slack >= self._held_before:
            between = self._shown_between
            self._shown_between = shown if between is None else min(between, shown)
        return self._shown_between is not None and self._shown_between - slack <= held


def books(rows: Iterable[tuple[Keys, Shown]]) -> list[Book]:
    """The books that the rows tell which LEDGER selects. O(rows)."""
    found: dict[tuple[str, str], dict[str, Value]] = {}
    for (*_, host, replica, term), shown in rows:
        found.setdefault((str(host), str(replica)), {})[str(term)] = shown.value
    return [
        Book(
            *names,
            {term: _amount(said.get(term)) for term in _TERMS},
            _undelivered(said.get("undelivered")),
        )
        for names, said in found.items()
    ]


def number(billionths: int) -> int | float:
    """So many billionths as people write it.

    >>> number(3_000_000_000), number(210_000_000)
    (3, 0.21)
    """
    return billionths / BILLION if billionths % BILLION else billionths // BILLION


def _billionths(amount: Amount) -> int:
    positive, positive_part, negative, negative_part = counter.lengthen(amount)
    return (positive - negative) * BILLION + positive_part - negative_part


def _amount(value: Value) -> Amount | None:
    """Anybody may have written it; a part that is PART_MAX was cut."""
    parts = value if isinstance(value, list) else [value, 0, 0, 0]
    naturals = [part for part in parts if type(part) is int and 0 <= part < PART_MAX]
    if len(parts) != 4 or len(naturals) != 4:
        return None
    return counter.shorten((naturals[0], naturals[1], naturals[2], naturals[3]))


def _undelivered(value: Value) -> list[tuple[str, int | float, int | float]]:
    rows: list[tuple[str, int | float, int | float]] = []
    for row in value if isinstance(value, list) else ():
        match row:
            case [str(process), (int() | float()) as counted, (int() | float()) as missing]:
                rows.append((process, counted, missing))
            case _:
                pass
    return rows
