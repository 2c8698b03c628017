"""Counting, and erasing what was counted, in any order, against a list of what is kept."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt import counter, entry
from shardlog.crdt.delta import Entry

NOW = 20


class Event(NamedTuple):
    """A count of `n` whose first and last are stamped so, or a floor where n is 0."""

    n: int
    born: int
    last: int


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What reaches an owner, in any order. The floors of a path are its own and those above it."""
    count = st.tuples(st.sampled_from([1, 2, 5, -3]), st.integers(1, 9), st.integers(0, 3))
    floor = st.tuples(st.just(0), st.integers(1, 12), st.just(0))
    drawn = draw(st.lists(st.one_of(count, floor), max_size=12))
    return [Event(n, born, born + span) for n, born, span in drawn]


class Kept:
    """The rules by brute force: a floor that concerns what is kept takes all of it."""

    def __init__(self) -> None:
        self.floor = 0
        self.counts: list[Event] = []

    def take(self, event: Event) -> None:
        """Hear of a count or a floor."""
        if event.n == 0:
            self.floor = max(self.floor, event.last)
            if any(count.born <= self.floor for count in self.counts):
                self.counts = []
        elif event.last > self.floor:
            self.counts.append(event._replace(born=max(event.born, self.floor + 1)))

    def value(self) -> int | None:
        """What must show."""
        return sum(count.n for count in self.counts) if self.counts else None


def shown(one: Entry, floor: int) -> int | float | None:
    """What a follower shows that knows this entry and this floor."""
    if one.last > max(one.reset, floor):
        return counter.value(entry.difference(one))
    return None


def check_owner(history: list[Event], module: ModuleType = entry) -> None:
    """After every event: the owner shows what is kept, and so does who knows no floor at all."""
    kept, own = Kept(), Entry("a", 0, 0)
    for event in history:
        kept.take(event)
        before = own
        if event.n == 0:
            own = module.reset_by(own, kept.floor)
        else:
            more = counter.amount(event.n)
            own = module.count_on(own, more, (event.born, event.last), kept.floor, NOW)
        assert counter.leq(before.amount, own.amount)
        assert counter.leq(before.base, own.base)
        assert counter.leq(own.base, own.amount)
        assert own.reset >= before.reset
        assert shown(own, 0) == shown(own, kept.floor) == kept.value()
        assert module.reset_by(own, kept.floor) == own


@given(histories())
def test_an_erase_takes_what_was_counted_before_it_reached_the_owner(history: list[Event]) -> None:
    """What shows is what was counted since; without a floor it is all that was counted."""
    check_owner(history)


@given(histories())
def test_without_a_floor_the_order_of_counts_leaves_no_trace(history: list[Event]) -> None:
    """Counts alone add up to one entry, first or last stamp first."""
    counts = [event for event in history if event.n]
    results: list[Entry] = []
    for order in (counts, counts[::-1]):
        own = Entry("a", 0, 0)
        for event in order:
            own = entry.count_on(own, counter.amount(event.n), (event.born, event.last), 0, NOW)
        results.append(own)
    assert results[0] == results[1]
    assert results[0].base == results[0].reset == 0


def test_a_stamp_ahead_is_cut_but_stays_above_the_floor() -> None:
    """A clock that was ahead when it erased, and is still ahead, counts on."""
    own = entry.count_on(Entry("a", 0, 0), 5, (1, 1), 0, now_ns=10)
    own = entry.reset_by(own, 30)
    own = entry.count_on(own, 2, (31, 99), 30, now_ns=10)
    assert shown(own, 30) == 2
    assert own.last == 31
