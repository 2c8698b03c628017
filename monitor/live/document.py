"""What live tests say, as what JSON can say. Pure.

A run is one document, `ReportDocument`; while tests run for ever, each new verdict is one,
`TransitionDocument`, that goes on a line. Times are ISO-8601 UTC, verdicts their words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from shardlog.monitor.live.report import overall
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from shardlog.monitor.live.instance import Transition
    from shardlog.monitor.live.report import Judged, Report, TestReport


class Took(TypedDict):
    """How long it took those that passed, in ms: half of them, and 99 of 100."""

    p50: int
    p99: int


class ConditionDocument(TypedDict):
    """What is said of one property of an instance."""

    property: str
    verdict: str
    reason: str
    message: str
    since: str


class InstanceDocument(TypedDict):
    """One instance that has not passed. `explanation`: lines, none where it was not asked for."""

    label: str
    path: str
    verdict: str
    since: str
    conditions: list[ConditionDocument]
    explanation: list[str]


class TestDocument(TypedDict):
    """One test. `counts`: how many instances there are of each verdict that there is one of."""

    name: str
    pattern: str
    verdict: str
    counts: dict[str, int]
    took_ms: Took | None
    instances: list[InstanceDocument]


class ReportDocument(TypedDict):
    """All tests, the worst first. `judged`: up to when; `cut`: up to when all hosts have told."""

    verdict: str
    judged: str
    cut: str
    doubt: str
    tests: list[TestDocument]


class TransitionDocument(TypedDict):
    """A property has got another verdict."""

    test: str
    label: str
    path: str
    property: str
    verdict: str
    reason: str
    message: str
    since: str
    judged: str


def report_document(report: Report) -> ReportDocument:
    """All that is said. O(its size)."""
    return {
        "verdict": str(overall(report)),
        "judged": iso_utc(report.judged_ns),
        "cut": iso_utc(report.cut_ns),
        "doubt": report.doubt,
        "tests": [_test(report, test) for test in report.tests],
    }


def transition_document(transition: Transition) -> TransitionDocument:
    """One new verdict. O(1)."""
    instance, asked, condition = transition
    return {
        "test": instance.test.name,
        "label": instance.label,
        "path": instance.cell.path,
        "property": asked.name,
        "verdict": str(condition.verdict),
        "reason": condition.reason,
        "message": condition.message,
        "since": iso_utc(condition.since_ns),
        "judged": iso_utc(condition.judged_ns),
    }


def _test(report: Report, test: TestReport) -> TestDocument:
    return {
        "name": test.name,
        "pattern": test.pattern,
        "verdict": str(overall(report, test)),
        "counts": {str(verdict): number for verdict, number in test.counts.items()},
        "took_ms": None
        if test.took_ms is None
        else {"p50": test.took_ms[0], "p99": test.took_ms[1]},
        "instances": [_instance(judged) for judged in test.instances],
    }


def _instance(judged: Judged) -> InstanceDocument:
    return {
        "label": judged.label,
        "path": judged.path,
        "verdict": str(judged.verdict),
        "since": iso_utc(judged.condition.since_ns),
        "conditions": [
            {
                "property": name,
                "verdict": str(condition.verdict),
                "reason": condition.reason,
                "message": condition.message,
                "since": iso_utc(condition.since_ns),
            }
            for name, condition in judged.conditions
        ],
        "explanation": [*judged.explanation],
    }
