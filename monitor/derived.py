"""Figures that are calculated from counters that lie side by side. Pure.

Where the counters of a subtree are called so, its figures are known too, in each window from what
was counted in it. An expression is names of counters, numbers, + - * / and brackets, and no more:
it is parsed as Python and each part is looked at, nothing is evaluated. `seconds` stands for the
length of the window. What is divided by zero, or needs what is unknown, is unknown.

How a blade does, by the five names with which the running example counts:

    collected per try    item_collected / tries
    seconds per try      time_spent / tries
    items per minute     60 * item_collected / seconds
    send loss            1 - item_sent / item_sent_tries
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import key_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shardlog.monitor.rates import Look, Rate

SECONDS = "seconds"
CHARACTERS_MAX = 1000


class Figure(NamedTuple):
    """One figure of a subtree: in all, and in each window; None where that is unknown."""

    path: str
    name: str
    total: float | None
    windows: tuple[float | None, ...]
    moves: bool


class Expression:
    """How a figure is calculated.

    >>> expression = Expression("60 * (a - 1) / seconds")
    >>> sorted(expression.names), expression({"a": 3, "seconds": 10.0})
    (['a', 'seconds'], 12.0)
    >>> expression({"a": None, "seconds": 10.0}), expression({"a": 3, "seconds": 0})
    (None, None)

    Raises:
        ConfigError: this is no expression, or there is more in it.
    """

    def __init__(self, text: str) -> None:
        try:
            if len(text) > CHARACTERS_MAX:
                raise ValueError
            self._root = ast.parse(text.strip(), mode="eval").body
            self.names = frozenset(_names(self._root))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(
                f"{text[:60]!r} is no expression: names of counters, numbers, + - * / and brackets"
            ) from error

    def __call__(self, values: Mapping[str, int | float | None]) -> float | None:
        """The figure, None if it is not known. O(len).

        Raises:
            KeyError: there is no value for one of the names.
        """
        if any(values[name] is None for name in self.names):
            return None
        try:
            return _value(self._root, values)
        except (ZeroDivisionError, OverflowError):
            return None


def figures(look: Look, derived: Mapping[str, Expression]) -> list[Figure]:
    """Those of all subtrees that have what they need, by path. O(rates x expressions).

    PERFORMANCE is known where all NAMES are, but for what is called the same in `derived`.
    """
    subtrees: dict[str, dict[str, Rate]] = {}
    for rate in look.rates:
        *above, name = key_texts(rate.path)
        subtrees.setdefault("/".join(above), {})[name] = rate
    found: list[Figure] = []
    for path, rates in sorted(subtrees.items()):
        known = {**PERFORMANCE, **derived} if rates.keys() >= {*NAMES} else derived
        for name, expression in known.items():
            if expression.names <= {*rates, SECONDS}:
                found.append(_figure(path, name, expression, rates, look.seconds))
    return found


def _figure(
    path: str,
    name: str,
    expression: Expression,
    rates: Mapping[str, Rate],
    seconds: tuple[float, ...],
) -> Figure:
    needed = [rates[counter] for counter in expression.names if counter in rates]
    windows = tuple(
        expression(
            {**{counter: rate.counts[number] for counter, rate in rates.items()}, SECONDS: span}
        )
        for number, span in enumerate(seconds)
    )
    totals = {**{counter: rate.total for counter, rate in rates.items()}, SECONDS: None}
    return Figure(path, name, expression(totals), windows, any(rate.moves for rate in needed))


def _names(node: ast.expr) -> Iterable[str]:
    match node:
        case ast.Name(name):
            return (name,)
        case ast.Constant(int() | float() as number) if not isinstance(number, bool):
            return ()
        case ast.UnaryOp(ast.USub() | ast.UAdd(), operand):
            return _names(operand)
        case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right):
            return (*_names(left), *_names(right))
        case _:
            raise ValueError


def _value(node: ast.expr, values: Mapping[str, int | float | None]) -> float:
    match node:
        case ast.Name(name):
            return float(values[name] or 0)
        case ast.UnaryOp(operator, operand):
            value = _value(operand, values)
            return -value if isinstance(operator, ast.USub) else value
        case ast.BinOp(left, operator, right):
            a, b = _value(left, values), _value(right, values)
            match operator:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case _:
                    return a / b
        case _:
            assert isinstance(node, ast.Constant)
            assert isinstance(node.value, int | float)
            return float(node.value)


NAMES = ("tries", "time_spent", "item_collected", "item_sent_tries", "item_sent")
PERFORMANCE = {
    "collected per try": Expression("item_collected / tries"),
    "seconds per try": Expression("time_spent / tries"),
    "items per minute": Expression("60 * item_collected / seconds"),
    "send loss": Expression("1 - item_sent / item_sent_tries"),
}
