"""Amounts as a lattice, exact sums, and the marks that turn totals into news."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shardlog.crdt.counter import (
    BILLION,
    COUNT_MAX,
    NEVER,
    PART_MAX,
    Mark,
    add,
    amount,
    excess,
    fits,
    is_amount,
    join,
    lengthen,
    leq,
    shorten,
    value,
)
from shardlog.crdt.delta import Amount

PART = st.integers(0, 4)
AMOUNT: st.SearchStrategy[Amount] = st.one_of(
    st.integers(0, 9), st.tuples(PART, PART, PART, PART).map(shorten)
)
COUNT = st.one_of(
    st.integers(-COUNT_MAX, COUNT_MAX),
    st.floats(-COUNT_MAX, COUNT_MAX),
    st.floats(-2, 2),
    st.booleans(),
)


@given(AMOUNT, AMOUNT, AMOUNT)
def test_join_is_a_least_upper_bound(a: Amount, b: Amount, c: Amount) -> None:
    """Commutative, associative, idempotent, monotone; above both, and below all that is."""
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(a, 0) == a
    assert leq(a, join(a, b))
    assert leq(a, b) == (join(a, b) == b)
    assert leq(join(a, b), c) == (leq(a, c) and leq(b, c))
    if leq(a, b):
        assert leq(join(a, c), join(b, c))


@given(AMOUNT, AMOUNT, AMOUNT)
def test_leq_is_a_partial_order(a: Amount, b: Amount, c: Amount) -> None:
    """Reflexive, antisymmetric, transitive, with 0 at the bottom."""
    assert leq(0, a)
    assert leq(a, a)
    assert (leq(a, b) and leq(b, a)) == (a == b)
    assert leq(a, c) or not (leq(a, b) and leq(b, c))


@given(AMOUNT, AMOUNT, AMOUNT)
def test_excess_and_add_belong_together(a: Amount, b: Amount, c: Amount) -> None:
    """Adding what is beyond gives the join; what was added is what is beyond."""
    assert add(b, excess(a, b)) == join(a, b)
    assert excess(add(a, b), a) == b
    assert excess(a, a) == 0
    assert add(a, b) == add(b, a)
    assert add(a, add(b, c)) == add(add(a, b), c)
    assert leq(a, add(a, b))


@given(AMOUNT, AMOUNT)
def test_all_results_are_in_canonical_form(a: Amount, b: Amount) -> None:
    """Every operation gives amounts: an int where only the first part is there."""
    for result in (a, join(a, b), add(a, b), excess(a, b)):
        assert is_amount(result)
        assert shorten(lengthen(result)) == result
        assert type(result) is int or any(lengthen(result)[1:])


@pytest.mark.parametrize(
    "wrong", [-1, (5, 0, 0, 0), (0, 0, 0, 0), (-1, 0, 1, 0), (1, 0, 0, -1), (0, 0, -3, 0)]
)
def test_what_is_no_canonical_amount_is_told(wrong: Amount) -> None:
    """Negative parts, and the long form of what has a short one."""
    assert not is_amount(wrong)


def rounded(n: int | float) -> Fraction:
    """The number, to the nearest billionth of its fraction part."""
    if isinstance(n, int):
        return Fraction(n)
    fraction, whole = math.modf(n)
    return int(whole) + Fraction(round(fraction * BILLION), BILLION)


@given(st.lists(COUNT, max_size=12), st.randoms(use_true_random=False))
def test_sums_are_exact_in_any_order(counts: list[int | float], random: Random) -> None:
    """What shows is the exact sum of the rounded counts, rounded to a float once, at the end."""
    totals: list[Amount] = []
    for _ in range(2):
        total: Amount = 0
        for n in counts:
            total = add(total, amount(n))
        totals.append(total)
        random.shuffle(counts)
    exact = sum(map(rounded, counts), Fraction(0))

    assert totals[0] == totals[1]
    assert value(totals[0]) == (int(exact) if isinstance(value(totals[0]), int) else float(exact))


@given(st.lists(st.one_of(st.integers(-9, 9), st.integers(-9, 9).map(float))))
def test_whole_numbers_never_become_floats(counts: list[int | float]) -> None:
    """Ints stay ints, and so do floats without a fraction."""
    total: Amount = 0
    for n in counts:
        total = add(total, amount(n))

    assert type(value(total)) is int
    assert value(total) == sum(counts)


@given(COUNT)
def test_an_amount_stands_for_the_number_counted(n: int | float) -> None:
    """Up to half a billionth, and with the same sign; the parts of a count fit."""
    assert abs(Fraction(value(amount(n))) - Fraction(n)) <= Fraction(1, 10**9)
    assert is_amount(amount(n))
    assert fits(amount(n))


def test_a_subclass_of_float_counts_as_a_float() -> None:
    """Scientific libraries' floats are subclasses: their fraction counts too."""

    class Float64(float):
        pass

    assert amount(Float64(0.5)) == amount(0.5)


@pytest.mark.parametrize(
    "n", [math.nan, math.inf, -math.inf, COUNT_MAX + 1, -COUNT_MAX - 1, 2.0**54, 10**400]
)
def test_what_is_no_number_to_count_is_refused(n: int | float) -> None:
    """NaN, infinities, and numbers at which floats are no longer whole."""
    with pytest.raises(ValueError):
        amount(n)


def test_fits_is_about_every_part() -> None:
    """64 signed bits, each part on its own."""
    assert fits((PART_MAX, PART_MAX, PART_MAX, PART_MAX))
    assert not fits(PART_MAX + 1)
    assert not fits((0, 0, 0, PART_MAX + 1))


@st.composite
def reports(draw: st.DrawFn) -> list[tuple[int, Amount]]:
    """What one process says of one path: totals that ascend within each generation."""
    said: list[tuple[int, Amount]] = []
    for generation in sorted(draw(st.sets(st.integers(0, 5), min_size=1, max_size=3))):
        total: Amount = 0
        for more in draw(st.lists(AMOUNT, min_size=1, max_size=4)):
            total = add(total, more)
            said.append((generation, total))
    return said


def heard(mark: Mark, said: list[tuple[int, Amount]]) -> tuple[Mark, Amount]:
    """The mark after hearing these totals, and the sum of what they added."""
    added: Amount = 0
    for generation, total in said:
        mark, more = mark.advance(generation, total)
        added = add(added, more)
    return mark, added


@st.composite
def shuffled_reports(
    draw: st.DrawFn,
) -> tuple[list[tuple[int, Amount]], list[tuple[int, Amount]], list[tuple[int, Amount]]]:
    """What was said; the same in order, with old repetitions between; the same in any order."""
    said = draw(reports())
    woven: list[tuple[int, Amount]] = []
    for report in said:
        woven.append(report)
        woven.extend(draw(st.lists(st.sampled_from(woven), max_size=2)))
    return said, woven, draw(st.permutations(woven))


def check_marks(
    said: list[tuple[int, Amount]],
    woven: list[tuple[int, Amount]],
    shuffled: list[tuple[int, Amount]],
    never: Mark = NEVER,
) -> None:
    """Any order gives the same mark; what was added is what was counted.

    In order, that is the newest total of each generation. Within one generation, order and
    repetition do not matter; a generation that is heard after a greater one adds nothing.
    """
    newest = dict(said)
    expected: Amount = 0
    for total in newest.values():
        expected = add(expected, total)

    last = type(never)(*said[-1])
    assert heard(never, said) == heard(never, woven) == (last, expected)
    assert heard(never, shuffled)[0] == last
    for generation, total in newest.items():
        own = [report for report in shuffled if report[0] == generation]
        assert heard(never, own) == (type(never)(generation, total), total)


@given(shuffled_reports())
def test_marks_do_not_depend_on_order_or_repetition(
    case: tuple[list[tuple[int, Amount]], list[tuple[int, Amount]], list[tuple[int, Amount]]],
) -> None:
    """The mark is the join of what was heard, and each generation adds its total once."""
    check_marks(*case)


@given(reports(), reports())
def test_what_an_advance_adds_is_never_negative(
    said: list[tuple[int, Amount]], other: list[tuple[int, Amount]]
) -> None:
    """Even totals that contradict one another add nothing below zero, and marks only rise."""
    mark = NEVER
    for generation, total in said + other:
        following, more = mark.advance(generation, total)
        assert is_amount(more)
        assert following.generation >= mark.generation
        if following.generation == mark.generation:
            assert leq(mark.amount, following.amount)
        mark = following
    assume(mark != NEVER)
    assert mark.advance(mark.generation, mark.amount) == (mark, 0)
