"""Figures that follow from counters side by side, and what no expression may do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.errors import ConfigError
from shardlog.monitor.derived import NAMES, PERFORMANCE, Expression, Figure, figures
from shardlog.monitor.rates import Look, Rate

NUMBERS = st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3)
TEXTS = st.recursive(
    st.one_of(st.sampled_from(["a", "b"]), st.floats(0.01, 9).map(repr), st.just("7")),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
        inner.map("-({})".format),
    ),
    max_leaves=8,
)


@given(TEXTS, NUMBERS, NUMBERS)
def test_expressions_say_what_python_says(text: str, a: float, b: float) -> None:
    """Of numbers; by zero nothing is divided."""
    try:
        expected = eval(text, {}, {"a": a, "b": b})
    except ZeroDivisionError:
        expected = None

    found = Expression(text)({"a": a, "b": b})
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert math.isclose(found, expected, rel_tol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "a ** b",
        "a // b",
        "a % b",
        "f(a)",
        "a.b",
        "a[0]",
        "'a'",
        "True",
        "a if b else 1",
        "lambda: 1",
        "(a := 1)",
        "[a]",
        "a < b",
        "a and b",
        "~a",
        "1j",
        "a; b",
        "a, b",
        "(" * 300 + "a" + ")" * 300,
        "-" * 999 + "a",
        "1" * 1001,
        "a\0",
    ],
)
def test_all_else_is_refused(text: str) -> None:
    """In one line that says what an expression is, or it is a number after all."""
    if text.startswith("-"):  # deep, and right
        assert Expression("--a").names == {"a"}
        return
    with pytest.raises(ConfigError, match="is no expression"):
        Expression(text)


def look(*rates: Rate) -> Look:
    return Look(1, (1.0, 10.0, 66.0, 300.0), list(rates), [], [], is_known=True)


def test_figures_of_the_running_example() -> None:
    """From the five counters of a domain, in each window and in all."""
    counted = zip(NAMES, (10, 2.5, 20, 40, 30), strict=True)
    rates = [Rate(f"a/d/{name}", n, (n, n, None, None), True) for name, n in counted]
    rates.append(Rate("a/e/tries", 1, (1, 1, 1, 1), True))

    assert figures(look(*rates), {}) == [
        Figure("a/d", "collected per try", 2.0, (2.0, 2.0, None, None), True),
        Figure("a/d", "seconds per try", 0.25, (0.25, 0.25, None, None), True),
        Figure("a/d", "items per minute", None, (1200.0, 120.0, None, None), True),
        Figure("a/d", "send loss", 0.25, (0.25, 0.25, None, None), True),
    ]
    assert len(PERFORMANCE) == 4


def test_configured_figures_are_where_their_counters_are() -> None:
    """One of a known name takes its place."""
    rates = [
        Rate("x/good", 3, (1, 0, None, 3), True),
        Rate("x/bad", 1, (1, 0, 0, 1), False),
        Rate("y/good", 3, (1, 0, None, 3), True),
    ]
    derived = {"share": Expression("good / (good + bad)")}

    assert figures(look(*rates), derived) == [
        Figure("x", "share", 0.75, (0.5, None, None, 0.75), True)
    ]
