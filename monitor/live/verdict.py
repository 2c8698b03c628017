"""What a live test says: one of seven verdicts, from pass to fail.

Theory. A property is judged while the run goes on, so true and false alone won't do. RV-LTL (Bauer,
Leucker, Schallhart, "Comparing LTL Semantics for Runtime Verification", 2010) adds what it looks
like as yet: presumably true (`holding`), presumably false (`pending`, and `overdue` once the time
is up). `blind` is Jepsen's `:unknown`: evidence may be missing. `idle` was never reached, as an
`always` whose subject never came: no pass. The verdicts are totally ordered, and whoever adds up
takes the worst, so adding up is commutative, associative and idempotent.

`pass` and `fail` are final: nothing that comes later changes them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(IntEnum):
    """What is said of a property, the worst last.

    >>> roll_up([Verdict.PASS, Verdict.BLIND, Verdict.IDLE])
    <Verdict.BLIND: 5>
    >>> str(Verdict.PASS), Verdict.PASS.is_final, Verdict.HOLDING.is_final
    ('pass', True, False)
    """

    PASS = 0
    HOLDING = 1
    IDLE = 2
    PENDING = 3
    OVERDUE = 4
    BLIND = 5
    FAIL = 6

    @property
    def is_final(self) -> bool:
        """Whether it never changes any more."""
        return self in (Verdict.PASS, Verdict.FAIL)

    def __str__(self) -> str:
        return self.name.lower()


class Condition(NamedTuple):
    """A verdict, and what is to be said of it.

    `reason` is one word for machines, `message` one line for people. `since_ns`: since when it is
    so; `judged_ns`: up to when what happened is in it. Both are times of the monitor.
    """

    verdict: Verdict
    reason: str
    message: str
    since_ns: int
    judged_ns: int


def roll_up(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; `idle` if there is none. O(n)."""
    return max(verdicts, default=Verdict.IDLE)
