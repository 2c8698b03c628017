"""`pytest --shardlog`, run as people run it, against a cluster of real processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.helpers import WAIT_S, eventually
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = "pytester"

GUIDE = Path(__file__).parents[2] / "docs" / "livetests-pytest.md"
PLUGIN = ("-p", "shardlog.monitor.live.pytest_plugin")
"""By its module: where the project is installed pytest finds it by itself."""
CONFTEST = """
import logging
import pytest
from shardlog.handler import ShardHandler, count

@pytest.fixture(scope="session")
def log():
    logger = logging.getLogger("orchestrator")
    logger.setLevel("INFO")
    handler = ShardHandler(endpoint="{endpoint}", blade="orchestrator")
    logger.addHandler(handler)
    yield lambda **extra: logger.info("said", extra=extra)
    handler.close()

@pytest.fixture
def ask(log):
    def ask(intent, host):
        log(intents={{intent: {{"host": host}}}})
        log(intents={{intent: {{"resolution": {{host: {{"state": "started"}}}}}}}})
        log(intents={{intent: {{"resolution": {{host: {{"state": "done"}}}}, "pages": count(3)}}}})
    return ask
"""
HEAD = """
import os, signal, time
import pytest
from shardlog.monitor.live import *
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(
    pytester: pytest.Pytester, cluster: Cluster, tests: str, *arguments: str
) -> pytest.RunResult:
    """Run these tests, `log` of which logs to the cluster's first host."""
    pytester.makeconftest(CONFTEST.format(endpoint=cluster.endpoint()))
    pytester.makepyfile(HEAD + tests)
    connect = ("--shardlog", cluster.url, "--shardlog-lateness-ms", "300")
    return pytester.runpytest_subprocess(*PLUGIN, *connect, *arguments, timeout=WAIT_S)


def test_the_examples_of_the_guide_pass(pytester: pytest.Pytester, cluster: Cluster) -> None:
    """Each of them; and it names what is raised, and each option."""
    text = GUIDE.read_text()
    help_text = pytester.runpytest_subprocess(*PLUGIN, "--help").stdout.str()
    options = {*re.findall(r"^ *(--shardlog[a-z-]*)", help_text, re.MULTILINE)}
    assert len(options) == 4
    assert all(f"`{option} " in text for option in options)
    assert all(f"`{error}`" in text for error in ("LiveFailure", "LiveUnknown"))

    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    run(pytester, cluster, "\n".join(blocks)).assert_outcomes(passed=2)


def test_what_is_asked_for_is_waited_for_given_back_or_raised(
    pytester: pytest.Pytester, cluster: Cluster
) -> None:
    """In a test with `live`; how it ended is said by two exceptions, never one."""
    tests = """
def test_values(live, ask, cluster):
    intent = live.intents["v1"]
    assert not intent
    ask("v1", "scraper-1")
    assert eventually(lambda: intent.pages, within=20) == 3
    assert eventually(lambda: intent.resolution, within=20) == {"scraper-1": {"state": "done"}}
    assert intent.host == "scraper-1"
    while "v1" not in cluster[()].get("intents", {}):  # it hears for itself, and may be behind
        time.sleep(0.01)
    assert cluster["intents", "v1", "host"] == "scraper-1"
    assert plain(intent)["pages"] == total(live, "intents/v1/pages") == 3
    assert key_of(intent) == "v1" and said_by(intent, "host") == "orchestrator"
    assert above(intent, 2) == live and [*above(intent.host_of_nobody)] == [*intent]
    assert "orchestrator" in live.blades and live.presence("orchestrator") == "up"
    assert always(lambda: intent.pages == 3, during=0.2) is True
    assert never(lambda: intent.pages == 4, during=0.2) is None

def test_what_is_not_there_any_more_when_it_is_asked_again(live, log):
    leaf = live.intents["v2"].errors
    eventually(lambda: not leaf, within=20)
    log(intents={"v2": {"errors": 1}})
    eventually(lambda: live.intents["v2"].errors == 1, within=20)
    with pytest.raises(LiveFailure):
        eventually(lambda: not live.intents["v2"].errors, within=0.1)

def test_budgets(live):
    with live.within(600):
        with live.within(0.1), pytest.raises(LiveFailure, match=r"not within 0[.\\d]* s"):
            eventually(lambda: live.nothing)
        with pytest.raises(LiveFailure, match=r"not within 0\\.2 s: nothing is absent"):
            live.expect({"nothing": 1}, within=0.2)
    with live.within(0.3), pytest.raises(LiveFailure, match=r"before rung 2/2 'two', 0[.\\d]* s"):
        ladder(rung("one", lambda: True), rung("two", lambda: live.nothing))
    with pytest.raises(Exception, match="within= is missing: until when is it owed"):
        eventually(lambda: live.nothing)

def test_what_lacks_a_duration(live):
    with pytest.raises(Exception, match="during= is missing: how long is it watched"):
        always(lambda: live.nothing)

def test_what_breaks(live):
    with pytest.raises(LiveFailure, match="broken"):
        never(lambda: live.blades, during=60)

def test_what_says_that_it_fails(live):
    with pytest.raises(LiveFailure, match="not within 0 s: no way"):
        eventually(lambda: pytest.fail("no way"), within=0)

@pytest.mark.parametrize("ask", [
    lambda live: always(lambda: live.nothing > 3, during=0.1),
    lambda live: eventually(lambda: 1 / 0, within=0.1),
])
def test_what_can_not_be_told(live, ask):
    with pytest.raises(LiveUnknown, match="it never had an answer|ZeroDivisionError"):
        ask(live)

def test_nothing_is_asked_any_more(live, request):
    from shardlog.monitor.live.pytest_plugin import RUN
    session, _ = request.config.stash[RUN].session()
    assert session.read(lambda engine: [*engine.groups]) == []

def test_seen(live, log):
    sometimes(lambda: live.light == "green")
    moves(lambda: live.light, every=60)
    log(light="green")
"""
    run(pytester, cluster, tests).assert_outcomes(passed=10)


def test_a_failure_shows_what_pytest_knows_and_what_shardlog_knows(
    pytester: pytest.Pytester, cluster: Cluster
) -> None:
    """The assertion with its values, the explanation, and the test's lines; none of the library."""
    tests = """
def test_right_host(live, ask):
    ask("f1", "scraper-9")
    def check():
        assert live.intents["f1"].host == "scraper-1"
    eventually(check, within=1)

def test_seen(live):
    sometimes(lambda: live.color == "red", "it is red")

def test_how_long(live):
    eventually(lambda: live.color)
"""
    result = run(pytester, cluster, tests)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            ">       assert live.intents*",
            "E       AssertionError: assert 'scraper-9' == 'scraper-1'",
            ">       eventually(check, within=1)",
            "E       *LiveFailure: eventually check FAIL: not within 1 s: assert 'scraper-9' == *",
            "E         *intents/f1/host: *'scraper-9'",
            "E         complete   node-1 to *",
            "it is red FAIL: not seen in this run",
            ">       eventually(lambda: live.color)",
            "E       *ConfigError: eventually live.color: within= is missing: *",
        ]
    )
    assert not re.search(r"^\S+\.py:\d+: (?!AssertionError|Live|ConfigError)", result.stdout.str())
    for part in ("properties.py", "eager.py", "engine.py", "pluggy/"):
        assert part not in result.stdout.str()


def test_what_is_not_heard_is_unknown_and_no_failure(pytester: pytest.Pytester) -> None:
    """The collector is killed: nobody can tell what its blades did, nor what jobs they have."""
    tests = """
def test_blind(live, log):
    log(alarm="off")
    log(jobs={"1": {"state": "done"}})
    eventually(lambda: live.alarm == "off" and live.jobs, within=20)
    os.kill(COLLECTOR, signal.SIGKILL)
    eventually(lambda: live.alarm == "on", within=6)

@once
def is_on(live):
    return eventually(lambda: live.alarm == "on", within=6)

@each("jobs/*")
def is_done(job, live):
    return eventually(lambda: job.state == "done", within=20)

@once
def is_off(live):
    return sometimes(lambda: live.alarm == "off")
"""
    with running() as cluster:
        collector = cluster.collectors["node-1"]
        tests = tests.replace("COLLECTOR", str(collector.process.pid))
        result = run(pytester, cluster, tests, "--shardlog-for", "1s")
        collector.wait()
    result.assert_outcomes(passed=1, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "inconclusive: is_on: 1 blind",
            "is_on BLIND: node-1 has not been heard since *",
            "inconclusive: is_done: 1 pass",
            "in doubt: node-1 has not been heard since *",
            "E *LiveUnknown: eventually live.alarm == * BLIND: node-1 has not been heard since *",
        ]
    )


def test_without_a_cluster_what_needs_one_is_skipped(pytester: pytest.Pytester) -> None:
    """And it is said how to give it; all else runs."""
    tests = """
def test_plain(): pass
def test_live(live): assert False
def test_cluster(cluster): assert False
@once
def holds(live): return always(lambda: live.alarm == "off")
"""
    pytester.makepyfile(HEAD + tests)
    result = pytester.runpytest_subprocess(*PLUGIN, "-rs")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["*needs a cluster: give --shardlog URL*"])


def test_who_has_no_live_tests_pays_for_none(pytester: pytest.Pytester) -> None:
    """No sockets, no engine: each run of pytest loads the plugin."""
    pytester.makepyfile("def test_plain(): pass")
    script = f"import pytest, sys; pytest.main([*{PLUGIN!r}]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "1 passed" in done.stdout
    assert {name for name in loaded if name.partition(".")[0] in ("zmq", "msgspec")} == set()
    assert [name for name in loaded if name.startswith("shardlog.monitor.live.")] == [PLUGIN[1]]


def test_functions_under_each_and_once_are_tests_that_come_last(
    pytester: pytest.Pytester, cluster: Cluster
) -> None:
    """Judged from the begin; passed, failed, in error or skipped as the worst instance is."""
    tests = """
@each("jobs/*")
def is_done(job, live):
    def done():
        assert job.state == "done"
    return eventually(done, "done", within=0.5)

@each("jobs/*")
def is_begun(job, live):
    return eventually(lambda: job.state, within=10)

@each("jobs/*")
def is_owed(job, live):
    return eventually(lambda: job.bill, within=600)

@each("rooms/*")
def is_warm(room, live):
    return eventually(lambda: room.fire, within=1)

@once
@pytest.mark.skip(reason="some other day")
def is_skipped(live):
    return always(lambda: False)

@once
def was_seen(live):
    return sometimes(lambda: live.jobs["1"].state == "begun")

class TestNothing:
    @once
    def is_no_test(live):
        return always(lambda: False)

def test_jobs(log, live):
    log(jobs={"1": {"state": "begun"}, "2": {"state": "done"}})
    eventually(lambda: len(live.jobs) == 2, within=20)
    log(jobs={"1": {"state": "done for"}})
"""
    options = ("--shardlog-for", "3s", "-v", "--junitxml=junit.xml")
    result = run(pytester, cluster, tests, *options)
    result.assert_outcomes(passed=3, failed=1, errors=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*::test_jobs PASSED *",
            "*::is_done FAILED *",
            "*::is_begun PASSED *",
            "*::is_owed ERROR *",
            "*::is_warm SKIPPED *",
            "*::is_skipped SKIPPED *",
            "*::was_seen PASSED *",
            "inconclusive: is_owed: 2 pending",
            "is_done: 1 fail, 1 pass",
            "is_done?1? FAIL: not within 0.5 s: *assert 'done for' == 'done'",
            "*jobs/1/state: *'done for'",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "pytest_plugin.py:" not in result.stdout.str().partition("short test summary")[0]
    cases = ElementTree.parse(pytester.path / "junit.xml").iter("testcase")
    outcomes = {case.get("name"): [part.tag for part in case] for case in cases}
    assert outcomes == {
        "test_jobs": [],
        "is_done": ["failure"],
        "is_begun": [],
        "is_owed": ["error"],
        "is_warm": ["skipped"],
        "is_skipped": ["skipped"],
        "was_seen": [],
    }


def test_two_files_may_have_a_test_of_one_name(pytester: pytest.Pytester, cluster: Cluster) -> None:
    """Each is judged by its own function."""
    test = HEAD + "@once\ndef holds(live):\n    return always(lambda: {}, at='arrival')\n"
    pytester.makepyfile(test_one=test.format("True"), test_two=test.format("False"))
    result = run(pytester, cluster, "", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_one.py::holds PASSED *", "test_two.py::holds FAILED *"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--shardlog", "nonsense"), "ERROR: --shardlog: *nonsense*"),
        (("--shardlog-for", "soon"), "*--shardlog-for: 'soon' is no duration*"),
        (("--shardlog-lateness-ms", "-1"), "*'-1' is no number of ms from 0 on*"),
    ],
)
def test_options_that_are_wrong_are_said_in_a_line(
    pytester: pytest.Pytester, arguments: tuple[str, ...], says: str
) -> None:
    """And it is a usage error of pytest."""
    pytester.makepyfile("def test_live(live): pass")
    result = pytester.runpytest_subprocess(*PLUGIN, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_ctrl_c_ends_the_waiting(pytester: pytest.Pytester, cluster: Cluster) -> None:
    """At once, whatever is left of the time."""
    pytester.makepyfile(
        HEAD
        + """
def test_waits(live):
    open("waits", "w").close()
    eventually(lambda: live.nothing, within=6000)
"""
    )
    command = [sys.executable, "-m", "pytest", *PLUGIN, "--shardlog", cluster.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: (pytester.path / "waits").exists())
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert re.search(r"test_ctrl_c\S+\.py:\d+: KeyboardInterrupt", said)
