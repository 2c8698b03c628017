"""What live tests say, as Prometheus scrapes it from a real server."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shardlog.crdt.errors import ConfigError
from shardlog.monitor.live import metrics as metrics_module
from shardlog.monitor.live import report as reports
from shardlog.monitor.live.metrics import Metrics
from shardlog.monitor.live.verdict import Verdict
from tests.helpers import WAIT_S
from tests.live.verdicts import START, judged

if TYPE_CHECKING:
    from collections.abc import Iterator

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """A server at a free port of this machine."""
    metrics = Metrics("127.0.0.1:0")
    yield metrics
    metrics.close()


def scrape(metrics: Metrics) -> tuple[dict[str, str], Samples]:
    """The types of all metrics, and all samples."""
    with urlopen(metrics.url, timeout=WAIT_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = answer.read().decode()
    types: dict[str, str] = {}
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        types[family.name] = family.type
        for sample in family.samples:
            samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return types, samples


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """The key of a sample."""
    return f"shardlog_{name}", frozenset(labels.items())


def test_scrape_says_what_the_report_says(metrics: Metrics) -> None:
    """States, numbers, finals, times, the next deadline, and up to when it is judged."""
    metrics.report = reports.report(judged())
    types, samples = scrape(metrics)

    assert types == {
        "shardlog_live_test_state": "gauge",
        "shardlog_live_test_instances": "gauge",
        "shardlog_live_test_verdicts": "counter",
        "shardlog_live_test_time_to_verdict_seconds": "histogram",
        "shardlog_live_test_slack_seconds": "gauge",
        "shardlog_judged_timestamp_seconds": "gauge",
        "shardlog_judged_in_doubt": "gauge",
    }
    for verdict in Verdict:
        state = samples[of("live_test_state", test="answered", state=str(verdict))]
        assert state == (verdict is Verdict.FAIL)
    assert samples[of("live_test_state", test="unreached", state="idle")] == 1
    assert samples[of("live_test_instances", test="answered", verdict="overdue")] == 1
    assert samples[of("live_test_instances", test="sane", verdict="holding")] == 3
    assert samples[of("live_test_instances", test="sane", verdict="fail")] == 0
    assert samples[of("live_test_verdicts_total", test="answered", verdict="fail")] == 1
    assert samples[of("live_test_verdicts_total", test="answered", verdict="pass")] == 1
    assert of("live_test_verdicts_total", test="sane", verdict="blind") not in samples
    took = {"test": "answered"}
    assert samples[of("live_test_time_to_verdict_seconds_bucket", le="1.0", **took)] == 0
    assert samples[of("live_test_time_to_verdict_seconds_bucket", le="2.5", **took)] == 1
    assert samples[of("live_test_time_to_verdict_seconds_bucket", le="+Inf", **took)] == 1
    assert samples[of("live_test_time_to_verdict_seconds_count", **took)] == 1
    assert samples[of("live_test_time_to_verdict_seconds_sum", **took)] == 2.0
    assert samples[of("live_test_slack_seconds", test="answered")] == 1.5
    assert of("live_test_slack_seconds", test="there") not in samples
    assert samples[of("judged_timestamp_seconds")] == START / 10**9 + 30
    assert samples[of("judged_in_doubt")] == 0


def test_in_doubt_nothing_has_passed_of_which_there_may_be_more(metrics: Metrics) -> None:
    """A test of keys is blind at best; what is there once says itself what it lacks."""
    tests = tuple(
        reports.TestReport(name, pattern, Verdict.PASS, {Verdict.PASS: 1}, None, {}, None, ())
        for name, pattern in (("each", "jobs/*"), ("once", ""))
    )
    metrics.report = reports.Report(Verdict.PASS, START, START, "the link is silent", tests)
    _, samples = scrape(metrics)

    assert samples[of("judged_in_doubt")] == 1
    states = {
        (name, str(verdict)): samples[of("live_test_state", test=name, state=str(verdict))]
        for name in ("each", "once")
        for verdict in Verdict
    }
    assert {key for key, value in states.items() if value} == {("each", "blind"), ("once", "pass")}
    assert samples[of("live_test_verdicts_total", test="each", verdict="pass")] == 1


def test_labels_are_of_tests_and_never_of_keys(metrics: Metrics) -> None:
    """However many instances there are, the number of samples is that of the tests."""
    metrics.report = reports.report(judged())
    _, samples = scrape(metrics)

    assert {name for _, labels in samples for name, _ in labels} == {
        "test",
        "state",
        "verdict",
        "le",
    }
    named = {value for _, labels in samples for name, value in labels if name == "test"}
    assert named == {"answered", "sane", "there", "unreached"}


def test_any_name_of_a_test_can_be_scraped(metrics: Metrics) -> None:
    """Quotes, backslashes and line breaks in a label are escaped."""
    name = 'a"b\\c\nd{}, é'
    test = reports.TestReport(name, "", Verdict.PASS, {Verdict.PASS: 1}, (9, 9), {9: 1}, None, ())
    metrics.report = reports.Report(Verdict.PASS, START, START, "", (test,))
    _, samples = scrape(metrics)

    assert samples[of("live_test_verdicts_total", test=name, verdict="pass")] == 1


def test_before_the_first_report_there_is_nothing(metrics: Metrics) -> None:
    """It answers, and says no verdict that nobody has given."""
    assert scrape(metrics) == ({}, {})


def test_whoever_connects_and_says_nothing_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor whoever says half of it: a connection each would use up threads and descriptors."""
    monkeypatch.setattr(metrics_module, "PATIENCE_S", 0.05)
    with contextlib.closing(Metrics("127.0.0.1:0")) as metrics:
        metrics.report = reports.report(judged())
        place = ("127.0.0.1", int(metrics.url.split(":")[2].split("/")[0]))
        for said in (b"", b"GET /metrics HT"):
            with socket.create_connection(place, WAIT_S) as other:
                other.sendall(said)
                assert other.recv(1) == b""  # TimeoutError where it is kept
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "address",
    [
        "",
        "9464",
        ":9464",
        "host:",
        "host:x",
        "host:65536",
        "::1:9",
        "a..b:9464",
        f"{'a' * 64}:9464",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(address: str) -> None:
    """And the line names it."""
    with pytest.raises(ConfigError) as error:
        Metrics(address)
    assert repr(address) in str(error.value)
    assert "\n" not in str(error.value)


def test_port_that_is_taken_is_refused_in_one_line() -> None:
    """As somebody else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError) as error:
            Metrics(address)
    assert str(error.value) == f"can't serve metrics at {address}: Address already in use"


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed it is told how, in one line."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError) as error:
        Metrics("127.0.0.1:0")
    assert str(error.value) == "metrics need prometheus-client: pip install 'shardlog[metrics]'"
