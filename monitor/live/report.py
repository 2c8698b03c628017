"""What an engine says of all its tests at one time: where tables, files and pages start from. Pure.

The verdict of a run is the worst of its tests, and blind at best in doubt: see `overall`. As an
exit code it is 0 for pass and holding, 1 for fail, and 3 where it can't be told: blind, overdue,
pending, and what was never reached.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from shardlog.monitor.live.explain import explain, headline, worst
from shardlog.monitor.live.verdict import Condition, Verdict, roll_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.monitor.live.engine import Engine
    from shardlog.monitor.live.instance import Group, Instance

EXPLAINED_MAX = 20
"""So many of a test's instances are explained, the worst first."""


class Judged(NamedTuple):
    """One instance: what it is called, and what is said of it. Lines are "" of what passed."""

    label: str
    path: str
    born_ns: int
    verdict: Verdict
    headline: str
    conditions: tuple[tuple[str, Condition], ...]
    """Of each property: what it asks for, and its condition."""
    explanation: tuple[str, ...]

    @property
    def condition(self) -> Condition:
        """Of the property that says what its verdict is. O(properties)."""
        return max((condition for _, condition in self.conditions), key=lambda one: one.verdict)


class TestReport(NamedTuple):
    """One test. `instances` are those that have not passed, the worst first."""

    name: str
    pattern: str
    verdict: Verdict
    """Of its instances; of the test, `overall` says it."""
    counts: dict[Verdict, int]
    """How many instances there are of each verdict, the worst first."""
    took_ms: tuple[int, int] | None
    """Of those that passed: how long that took half of them, and 99 of 100; None if none did."""
    took_by_ms: dict[int, int]
    """How many of those took how long: ms, cut to two digits."""
    due_ns: int | None
    """The next deadline."""
    instances: tuple[Judged, ...]


class Report(NamedTuple):
    """All tests, the worst first. `judged_ns`: up to when; `doubt`: why keys may be missing."""

    verdict: Verdict
    """Of all instances; of the run, `overall` says it."""
    judged_ns: int
    cut_ns: int
    doubt: str
    tests: tuple[TestReport, ...]


def report(
    engine: Engine, *, explained_max: int = EXPLAINED_MAX, listed_max: int | None = None
) -> Report:
    """What is said now. O(open instances log of what is listed + what is explained).

    `listed_max`: so many instances of each test at most, the worst; all are counted.
    """
    groups = engine.groups.values()
    tests = [_test(engine, group, explained_max, listed_max) for group in groups]
    tests.sort(key=lambda test: -test.verdict)
    verdict = roll_up(test.verdict for test in tests)
    return Report(verdict, engine.now_ns, engine.cut_ns, why_in_doubt(engine), tuple(tests))


def unexplained(engine: Engine) -> Report:
    """The same without explanations, for those who look often."""
    return report(engine, explained_max=0)


def why_in_doubt(engine: Engine) -> str:
    """Why keys may be missing that were said, "" if none is. O(processes) if a host is not live."""
    return engine.doubt or engine.hosts.why_keys_missing()


def overall(report: Report, test: TestReport | None = None) -> Verdict:
    """The verdict of a run, or of a test of it: what all who are told of it are told.

    While keys may be missing a test of keys is blind at best, whatever has passed: of what is not
    there nobody says so. A test that is run once has its one instance, which does. O(tests).
    """
    if test is None:
        return roll_up(overall(report, test) for test in report.tests)
    is_blind = bool(report.doubt and test.pattern)
    return roll_up([test.verdict, *([Verdict.BLIND] if is_blind else [])])


def is_settled(engine: Engine, groups: Iterable[Group] | None = None) -> bool:
    """Whether all that there is has a verdict that stays, or holds, and each test has something.

    Of all tests, or those of these groups. O(1) while something is pending, O(open instances) else,
    and O(processes) if a host is not live.
    """
    asked = [*(engine.groups.values() if groups is None else groups)]
    if not all(group.is_settled() for group in asked):
        return False
    return not any(group.test.parts for group in asked) or not why_in_doubt(engine)


def exit_code(verdict: Verdict) -> int:
    """0, 1 or 3.

    >>> [exit_code(verdict) for verdict in Verdict]
    [0, 0, 3, 3, 3, 3, 1]
    """
    if verdict is Verdict.FAIL:
        return 1
    return 0 if verdict in (Verdict.PASS, Verdict.HOLDING) else 3


def _test(engine: Engine, group: Group, explained_max: int, listed_max: int | None) -> TestReport:
    found = [*group.failures_kept(), *group.open.values()]
    if listed_max is None:
        found.sort(key=_worst_first)
    else:
        found = nsmallest(listed_max, found, key=_worst_first)
    counts = group.counts()
    dues = [i.due_ns for i in group.open.values() if i.due_ns is not None]
    return TestReport(
        group.test.name,
        group.test.pattern,
        max(counts, default=Verdict.IDLE),
        counts,
        group.quantiles_ms(),
        dict(group.took_ms),
        min(dues, default=None),
        tuple(_judged(engine, instance, n < explained_max) for n, instance in enumerate(found)),
    )


def _worst_first(instance: Instance) -> tuple[int, int]:
    return -instance.verdict, instance.born_ns


def _judged(engine: Engine, instance: Instance, is_explained: bool) -> Judged:
    return Judged(
        instance.label,
        instance.cell.path if instance.test.parts else "",
        instance.born_ns,
        instance.verdict,
        headline(instance, worst(instance)),
        tuple(
            (asked.name, instance.condition(at, engine.now_ns))
            for at, asked in enumerate(instance.asked)
        ),
        tuple(explain(engine, instance)) if is_explained else (),
    )
