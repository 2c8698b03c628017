"""Books: what balances, what is named where it does not, and what is not trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt import counter
from shardlog.crdt.counter import BILLION, PART_MAX
from shardlog.crdt.delta import REGISTER
from shardlog.monitor.balance import Book, Comparison, Sample, books
from shardlog.monitor.replica import Shown

if TYPE_CHECKING:
    from shardlog.crdt.delta import Value

FINE: dict[str, Any] = {
    "counted": 10,
    "heard": 9,
    "refused": 1,
    "baseline": 0,
    "visible": 2,
    "moved": 5,
    "erased": 2,
    "collapsed": [3, 0, 0, 0],
    "erased_collapsed": 1,
    "overflow": 1,
    "undelivered": [],
}


def book(host: str = "node-1", **said: Value) -> Book:
    terms = {**FINE, **said}
    (found,) = books(
        (("shardlog", "health", "ledger", host, "replica-1", term), Shown(REGISTER, value, 1, ""))
        for term, value in terms.items()
    )
    return found


def test_book_that_balances_has_no_fault() -> None:
    """All terms of all three equations."""
    assert list(book().faults()) == []


@pytest.mark.parametrize(
    ("said", "term", "says"),
    [
        ({"counted": 12}, "undelivered", "12 counted by its processes, 2 of them not delivered"),
        (
            {"counted": 12, "undelivered": [["scraper-1@node-1:b:1:1:a", 12, 2]]},
            "undelivered",
            "12 counted by scraper-1, 2 of them not delivered",
        ),
        ({"counted": 9}, "heard", "it heard 1 more than its processes counted"),
        ({"visible": 1}, "visible", "of 9 that it heard, 1 are not in its counters"),
        ({"erased": 4}, "visible", "its counters have 2 more than it heard"),
        ({"collapsed": 1}, "collapsed", "of 5 that went on at ~, 2 are not there"),
        ({"overflow": 3}, "collapsed", "at ~ are 2 more than went there"),
        (
            {"visible": [1, 0, 0, 500_000_000]},
            "visible",
            "of 9 that it heard, 1 are not in its counters",
        ),
    ],
)
def test_term_that_is_off_is_named(said: dict[str, Value], term: str, says: str) -> None:
    """With its host, and by how much."""
    fault = next(book("node-2", **said).faults())

    assert (fault.host, fault.term, fault.says, fault.known) == ("node-2", term, says, True)


@given(
    st.sampled_from([term for term in FINE if term != "undelivered"]),
    st.sampled_from([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 1, 0)]),
)
def test_no_term_may_be_off_by_anything(term: str, more: tuple[int, ...]) -> None:
    """Not by a billionth, nor by +1 and -1, which together are nothing."""
    amount = book().terms[term]
    assert amount is not None
    parts = zip(counter.lengthen(amount), more, strict=True)

    assert list(book("node-1", **{term: [part + n for part, n in parts]}).faults())


@pytest.mark.parametrize(
    "value", [None, "x", -1, True, [1, 2], [1, 2, 3, -4], [1, 2, 3, "x"], PART_MAX, 1.5, {}]
)
def test_term_that_was_not_told_is_not_known(value: Value) -> None:
    """A part that is PART_MAX was cut; anybody may have written the rest."""
    (fault, *_) = book(refused=value).faults()

    assert (fault.term, fault.known) == ("undelivered", False)
    assert fault.says == "refused can't be told"


def sample(held: int, shown: float, slack: int = 0) -> Sample:
    fine = book(visible=held, collapsed=0)
    return Sample([fine], round(shown * BILLION), slack, [])


def test_what_shows_must_be_what_hosts_have() -> None:
    """Where nothing moves, to the billionth."""
    assert Comparison().agrees(sample(5, 5))
    for shown in (4, 6, 5 + 1e-9, 5 - 1e-9):
        comparison = Comparison()
        assert not any(comparison.agrees(sample(5, shown)) for _ in range(3))


def test_float_that_can_not_say_its_billionths_may_be_off_by_them() -> None:
    """No more than by its rounding."""
    assert Comparison().agrees(sample(5, 5 + 3e-9, slack=3))
    assert Comparison().agrees(sample(5, 5 - 3e-9, slack=3))
    assert not Comparison().agrees(sample(5, 5 + 4e-9, slack=3))
    assert not Comparison().agrees(sample(5, 5 - 4e-9, slack=3))


def test_what_moves_must_show_between_before_and_after() -> None:
    """Hosts tell of it from time to time, counters show at once."""
    moving = Comparison()
    assert [moving.agrees(sample(*at)) for at in ((5, 7), (5, 9), (10, 11))] == [False, False, True]

    behind = Comparison()
    assert not any(behind.agrees(sample(held, held - 3)) for held in (5, 5, 7, 7))
