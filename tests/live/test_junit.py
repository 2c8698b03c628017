"""What live tests say, as JUnit XML: by a schema, and as a parser reads it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from shardlog.monitor.live import report as reports
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.junit import junit, sayable
from shardlog.monitor.live.verdict import Condition, Verdict
from tests.live.verdicts import START, answered, declared, judged, unreached

SCHEMA = xmlschema.XMLSchema10(Path(__file__).parent / "junit.xsd")


def outcomes(text: str) -> dict[str, tuple[str, str]]:
    """Of each testcase: which kind it is, "" is a pass, and of what type."""
    found: dict[str, tuple[str, str]] = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('classname')}: {case.get('name')}"
        found[name] = (case[0].tag, case[0].get("type", "")) if len(case) else ("", "")
    return found


def said_of(verdict: Verdict, text: str, reason: str = "Reason") -> reports.Report:
    """A report of one instance, with a text wherever one goes."""
    condition = Condition(verdict, reason, text, START, START)
    conditions = (("eventually x", condition),)
    instance = reports.Judged(
        f"t[{text}]", "t", START, verdict, f"t {text}", conditions, (text, text)
    )
    shown = () if verdict is Verdict.PASS else (instance,)  # what has passed is only counted
    test = reports.TestReport("t", "jobs/*", verdict, {verdict: 1}, None, {}, None, shown)
    return reports.Report(verdict, START, START, text, (test,))


def test_each_verdict_has_its_place() -> None:
    """What failed is a failure, what is blind an error, what is open skipped; passes are one."""
    text = junit(reports.report(judged()))

    SCHEMA.validate(text)
    assert outcomes(text) == {
        "answered: answered[bad]": ("failure", "DeadlineExceeded"),
        "answered: answered[away]": ("error", "blind"),
        "answered: answered[late]": ("skipped", ""),
        "answered: answered[open]": ("skipped", ""),
        "answered: 1 passed": ("", ""),
        "sane: sane[bad]": ("error", "blind"),
        "sane: sane[away]": ("error", "blind"),
        "sane: 3 passed": ("", ""),
        "unreached: unreached": ("skipped", ""),
        "there: 1 passed": ("", ""),
    }


def test_strict_calls_what_is_inconclusive_an_error() -> None:
    """Nothing is skipped then, and all else is as before."""
    report = reports.report(judged())
    text = junit(report, strict=True)

    SCHEMA.validate(text)
    strict, usual = outcomes(text), outcomes(junit(report))
    inconclusive = {name for name, (kind, _) in usual.items() if kind == "skipped"}
    assert {strict[name][0] for name in inconclusive} == {"error"}
    assert {strict[name][1] for name in inconclusive} == {"overdue", "pending", "idle"}
    assert all(strict[name] == said for name, said in usual.items() if name not in inconclusive)


@pytest.mark.parametrize(("strict", "kind"), [(False, ("skipped", "")), (True, ("error", "blind"))])
def test_what_has_passed_in_doubt_is_inconclusive(strict: bool, kind: tuple[str, str]) -> None:
    """As the exit code says: there may be instances that nobody was told of."""
    said = reports.report(judged())
    there, answered = (next(t for t in said.tests if t.name == n) for n in ("there", "answered"))
    passed = answered._replace(verdict=Verdict.PASS, counts={Verdict.PASS: 12}, instances=())
    doubtful = said._replace(doubt="the link is silent", tests=(there, answered, passed))
    text = junit(doubtful, strict=strict)

    SCHEMA.validate(text)
    found = outcomes(text)
    assert (found["answered: 12 passed"], found["answered: answered"]) == (("", ""), kind)
    assert found["there: 1 passed"] == ("", "")
    assert "there: there" not in found
    assert text.count("inconclusive: the link is silent") == 1
    certain = outcomes(junit(said._replace(tests=(passed,)), strict=strict))
    assert certain == {"answered: 12 passed": ("", "")}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_each_verdict_is_valid_alone(verdict: Verdict, strict: bool) -> None:
    """By the schema, and with counts that are those of what is in it."""
    text = junit(said_of(verdict, "why"), strict=strict)

    SCHEMA.validate(text)
    number = 2 if verdict in (Verdict.PASS, Verdict.HOLDING) else 1  # as the run is in doubt
    for suite in ElementTree.fromstring(text).iter("testsuite"):
        assert int(suite.get("tests", "")) == len(suite.findall("testcase")) == number
        for kind, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.get(count, "")) == len(suite.findall(f"testcase/{kind}"))


def test_failure_says_why() -> None:
    """The headline is the message, the explanation the text."""
    root = ElementTree.fromstring(junit(reports.report(judged())))
    failure = root.find(".//failure")

    assert failure is not None
    assert failure.get("message") == "answered[bad] FAIL: not within 5 s"
    lines = (failure.text or "").splitlines()
    assert lines[0] == "answered[bad] FAIL: not within 5 s"
    assert any("jobs/bad/done is absent" in line for line in lines)
    skipped = root.find(".//skipped")
    assert skipped is not None
    assert (skipped.get("message") or "").startswith("inconclusive: answered[late] OVERDUE")


def test_passes_say_how_long_they_took() -> None:
    """As properties of their test, and the slowest as the time of the one testcase."""
    root = ElementTree.fromstring(junit(reports.report(judged())))
    suite = next(suite for suite in root if suite.get("name") == "answered")
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}

    assert properties["p50"] == properties["p99"] == "2 s"
    passed = next(case for case in suite.iter("testcase") if case.get("name") == "1 passed")
    assert passed.get("time") == "2.000"


def test_nothing_heard_is_no_pass() -> None:
    """Tests that never began are there, and say why."""
    text = junit(reports.report(Engine([declared(answered), declared(unreached)])))

    SCHEMA.validate(text)
    assert set(outcomes(text).values()) == {("skipped", "")}
    assert text.count("nothing has been heard yet") >= 2


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_can_be_said(text: str) -> None:
    """What XML can't hold is escaped; all else comes out as it went in."""
    document = junit(said_of(Verdict.FAIL, text))

    document.encode()
    root = ElementTree.fromstring(document)
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.text == f"{sayable(text)}\n{sayable(text)}"
    assert failure.get("message") == f"t {sayable(text)}"


@pytest.mark.parametrize(
    "text", ["\x00", "\x1b[2J", "\ud800", "\ufffe", "\x0b", "\r", "]]>", "<&\"'"]
)
def test_hostile_texts_are_valid(text: str) -> None:
    """Control characters, lone surrogates, and what looks like XML."""
    document = junit(said_of(Verdict.BLIND, text))

    SCHEMA.validate(document)
    assert text.isprintable() or text not in document
