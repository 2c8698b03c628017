"""What one case of the benchmark is, and how contenders take turns.

Absolute times of a shared machine say little. So contenders take turns, A B A B, each turn in the
same state of the machine; a ratio is the median of the ratios of single turns.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TURNS = 7


class Goal(NamedTuple):
    """A ratio that is promised: at most `limit`, or at least where `is_floor`."""

    what: str
    value: float
    limit: float
    is_floor: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it is as promised."""
        return self.value >= self.limit if self.is_floor else self.value <= self.limit


class Case(NamedTuple):
    """What was measured of one kind of work, by contender: a value of each turn, in `unit`."""

    number: int
    title: str
    unit: str
    values: dict[str, list[float]]
    missing: dict[str, str]
    """The contenders that could not be had, and why."""
    goals: list[Goal]


def in_turns(
    contenders: Mapping[str, Callable[[], float]],
    turns: int = TURNS,
    tell: Callable[[str], object] = lambda said: None,
) -> dict[str, list[float]]:
    """A value of each contender in each turn. The first turn warms up, and does not count."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, run in contenders.items():
            tell(f"{name}: turn {turn} of {turns}")
            value = run()
            if turn:
                values[name].append(value)
    return values


def ratio(values: Mapping[str, list[float]], of: str, to: str) -> float:
    """The median of what `of` takes in a turn as a multiple of what `to` takes in the same turn.

    >>> ratio({"a": [1.0, 2.0, 9.0], "b": [2.0, 4.0, 2.0]}, "a", "b")
    0.5
    """
    return median(a / b for a, b in zip(values[of], values[to], strict=True))
