"""What live tests say, as JSON."""

from __future__ import annotations

import json
from typing import Any

from shardlog.monitor.feed import Doubt
from shardlog.monitor.live import document
from shardlog.monitor.live.report import report
from shardlog.monitor.live.verdict import Verdict
from tests.live.verdicts import judged


def find(name: str, said: document.ReportDocument) -> document.TestDocument:
    """One test of a document."""
    return next(test for test in said["tests"] if test["name"] == name)


def test_report_says_each_test_and_each_instance_that_has_not_passed() -> None:
    """The worst first, with counts, times and conditions; and JSON takes it as it is."""
    said = document.report_document(report(judged()))

    assert json.loads(json.dumps(said)) == said
    assert [test["name"] for test in said["tests"]] == ["answered", "sane", "unreached", "there"]
    assert said["verdict"] == "fail"
    assert said["judged"] == "2025-11-24T16:00:30.000000Z"
    assert said["doubt"] == ""
    test = find("answered", said)
    assert (test["pattern"], test["verdict"]) == ("jobs/*", "fail")
    assert test["counts"] == {"fail": 1, "blind": 1, "overdue": 1, "pending": 1, "pass": 1}
    assert test["took_ms"] == {"p50": 2000, "p99": 2000}
    assert [each["path"] for each in test["instances"]] == [
        "jobs/bad",
        "jobs/away",
        "jobs/late",
        "jobs/open",
    ]
    failed = test["instances"][0]
    assert failed["label"] == "answered[bad]"
    assert failed["since"] == "2025-11-24T16:00:08.000000Z"
    assert failed["explanation"][0] == "answered[bad] FAIL: not within 5 s"
    assert failed["conditions"] == [
        {
            "property": "eventually job.done",
            "verdict": "fail",
            "reason": "DeadlineExceeded",
            "message": "not within 5 s",
            "since": "2025-11-24T16:00:08.000000Z",
        }
    ]
    unreached = find("unreached", said)
    assert (unreached["verdict"], unreached["counts"], unreached["took_ms"]) == ("idle", {}, None)


def test_transition_is_one_line() -> None:
    """Whoever follows reads a line for each new verdict, in order."""
    engine = judged()
    said = [document.transition_document(each) for each in engine.take_effects()]
    of_bad = [each["verdict"] for each in said if each["label"] == "answered[bad]"]

    assert of_bad == ["pending", "overdue", "fail"]
    assert all("\n" not in json.dumps(each) for each in said)
    assert said[-1]["test"] in {"answered", "sane", "there"}
    there: Any = next(each for each in said if each["test"] == "there")
    assert (there["label"], there["path"]) == ("there", "")


def test_doubt_is_said() -> None:
    """A report of what may not be all says why."""
    engine = judged()
    engine.receive(Doubt(engine.now_ns, "the link is silent"))
    said = document.report_document(report(engine))
    assert said["doubt"] == "the link is silent"
    assert (said["verdict"], find("there", said)["verdict"]) == ("fail", "pass")

    tests = tuple(
        test._replace(verdict=Verdict.PASS) for test in report(engine).tests if test.pattern
    )
    said = document.report_document(report(engine)._replace(tests=tests))
    assert {said["verdict"], *(test["verdict"] for test in said["tests"])} == {"blind"}
