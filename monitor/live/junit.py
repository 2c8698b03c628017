"""What live tests say, as JUnit XML, which continuous integration reads. Pure.

The format has no standard. What is written here is what both schemas in use ask for, that of Apache
Ant's JUnit tasks and that of Jenkins: the attributes and elements that either of them requires,
and only those that both know.

    testsuite   a test
    testcase    an instance that has not passed; all that have are one, `12 passed`
    failure     fail; `type` is the reason, the text the explanation
    error       blind, as `type` says: evidence is missing, or the test itself raised
    skipped     inconclusive: idle, pending, overdue, a test of which there is no instance, and
                one of keys while the run is in doubt; an error if strict

What holds has passed, for the run is over. The times of instances are how long each was judged,
that of those that passed how long 99 of 100 of them took; that of a test is the longest.

What XML 1.0 can't say, control characters and lone surrogates, is escaped as Python would.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from shardlog.monitor.live.report import overall
from shardlog.monitor.live.verdict import Verdict
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from shardlog.monitor.live.report import Judged, Report, TestReport

SECOND = 10**9
_UNSAYABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Also \r, of which a parser makes \n."""


class _Case(NamedTuple):
    name: str
    took_ns: int
    kind: str
    """failure, error, skipped, or "" """
    type: str = ""
    message: str = ""
    text: str = ""


def junit(report: Report, *, strict: bool = False) -> str:
    """The document. With `strict`, what is inconclusive is an error. O(its size)."""
    root = ElementTree.Element("testsuites")
    for number, test in enumerate(report.tests):
        root.append(_suite(report, test, number, strict))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def sayable(text: str) -> str:
    r"""The text, with what XML 1.0 has no way to say escaped. O(len).

    >>> print(sayable("caf\xe9 \x1b[2J \ud800 \uffff\n"), end="")
    café \x1b[2J \ud800 \uffff
    """
    return _UNSAYABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def _suite(report: Report, test: TestReport, number: int, strict: bool) -> Element:
    cases = [*_cases(report, test, strict)]
    verdict = overall(report, test)
    if verdict is Verdict.BLIND and not any(case.kind for case in cases):
        cases.append(_inconclusive(test.name, 0, verdict, report.doubt, "", strict))
    kinds = [case.kind for case in cases]
    suite = ElementTree.Element(
        "testsuite",
        name=sayable(test.name),
        package="",
        id=str(number),
        hostname="localhost",
        timestamp=iso_utc(report.judged_ns)[:19],
        tests=str(len(cases)),
        failures=str(kinds.count("failure")),
        errors=str(kinds.count("error")),
        skipped=str(kinds.count("skipped")),
        time=_seconds(max(case.took_ns for case in cases)),
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report, test).items():
        ElementTree.SubElement(properties, "property", name=name, value=sayable(value))
    suite.extend(_element(test, case) for case in cases)
    ElementTree.SubElement(suite, "system-out")
    ElementTree.SubElement(suite, "system-err")
    return suite


def _properties(report: Report, test: TestReport) -> dict[str, str]:
    said = {
        "verdict": str(overall(report, test)),
        "pattern": test.pattern,
        "judged": iso_utc(report.judged_ns),
        "doubt": report.doubt,
        **{str(verdict): str(number) for verdict, number in test.counts.items()},
    }
    if test.took_ms is not None:
        said["p50"], said["p99"] = (f"{took_ms / 1000:g} s" for took_ms in test.took_ms)
    return said


def _cases(report: Report, test: TestReport, strict: bool) -> Iterator[_Case]:
    for judged in test.instances:
        if judged.verdict is not Verdict.HOLDING:
            yield _case(report, judged, strict)
    passes = test.counts.get(Verdict.PASS, 0) + test.counts.get(Verdict.HOLDING, 0)
    if passes:
        took_ms = 0 if test.took_ms is None else test.took_ms[1]
        yield _Case(f"{passes} passed", took_ms * SECOND // 1000, "")
    elif not test.instances:
        why = report.doubt or "nothing came that it is about"
        yield _inconclusive(test.name, 0, Verdict.IDLE, why, "", strict)


def _case(report: Report, judged: Judged, strict: bool) -> _Case:
    condition = judged.condition
    text = "\n".join(judged.explanation) or judged.headline
    until_ns = condition.since_ns if judged.verdict is Verdict.FAIL else report.judged_ns
    took_ns = max(until_ns - judged.born_ns, 0)
    if judged.verdict is Verdict.FAIL:
        reason, headline = condition.reason, judged.headline
        return _Case(judged.label, took_ns, "failure", reason, headline, text)
    if judged.verdict is Verdict.BLIND:
        return _Case(judged.label, took_ns, "error", "blind", judged.headline, text)
    return _inconclusive(judged.label, took_ns, judged.verdict, judged.headline, text, strict)


def _inconclusive(
    name: str, took_ns: int, verdict: Verdict, why: str, text: str, strict: bool
) -> _Case:
    kind = "error" if strict else "skipped"
    return _Case(name, took_ns, kind, str(verdict), f"inconclusive: {why}", text)


def _element(test: TestReport, case: _Case) -> Element:
    element = ElementTree.Element(
        "testcase",
        name=sayable(case.name),
        classname=sayable(test.name),
        time=_seconds(case.took_ns),
    )
    if case.kind:
        said = {"message": sayable(case.message)}
        if case.kind != "skipped":
            said["type"] = sayable(case.type)
        ElementTree.SubElement(element, case.kind, said).text = sayable(case.text)
    return element


def _seconds(ns: int) -> str:
    return f"{ns / SECOND:.3f}"
