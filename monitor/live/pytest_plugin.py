"""`pytest --shardlog URL`: live tests in pytest, and tests of pytest that wait for the cluster.

    def test_answer(live):
        i = live.intents["42"]
        with live.within(90):
            eventually(lambda: i.host in i.resolution)
        always(lambda: not i.errors, during=10)

Functions under `each` and `once` in a module that pytest collects are tests of their own. They are
judged from the begin of the run, beside all others, and come last: then they are waited for.

Every run of pytest loads this module, so it loads nothing but what pytest has loaded; all else is
loaded when it is used.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType

    from shardlog.monitor.cluster import Cluster
    from shardlog.monitor.live.declared import Test
    from shardlog.monitor.live.eager import Eager, Whole
    from shardlog.monitor.live.engine import Engine
    from shardlog.monitor.live.report import Report, TestReport
    from shardlog.monitor.live.session import Followed, Session

SECOND = 10**9
FOR_S = 30.0
BEGIN_S = 5.0
EXPLAINED_MAX = 10
"""So many of a test's instances are explained where it fails."""
NEEDS = "needs a cluster: give --shardlog URL, such as --shardlog tcp://127.0.0.1:7410"


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the command line takes."""
    group = parser.getgroup("shardlog", "live tests of a cluster that logs with shardlog")
    group.addoption(
        "--shardlog",
        metavar="URL",
        help="what to connect to: an aggregator, or `collect --serve`; without it the tests that "
        "need `live` or `cluster`, and functions under @each and @once, are skipped",
    )
    group.addoption(
        "--shardlog-for",
        metavar="DURATION",
        type=_duration_s,
        default=FOR_S,
        help="functions under @each and @once are judged from the begin of the run; once all other "
        "tests are done they are waited for until nothing is open, at most for so long, as 90s or "
        "5m (default: 30s). What holds then has passed.",
    )
    group.addoption(
        "--shardlog-lateness-ms",
        metavar="MS",
        type=_at_least(0),
        default=2000,
        help="how long to wait, behind a deadline, for what was said in time (default: 2000)",
    )
    group.addoption(
        "--shardlog-predicate-timeout-ms",
        metavar="MS",
        type=_at_least(1),
        default=1000,
        help="a predicate that takes longer is ended, and its test inconclusive (default: 1000)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin with nothing open, and end so."""
    config.stash[RUN] = run = Run(config)
    config.add_cleanup(run.close)


class Run:
    """One run of pytest: its session of live tests, which is there once somebody asks for it."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.option
        self.url: str | None = option.shardlog
        self.lateness_ms: int = option.shardlog_lateness_ms
        self._for_s: float = option.shardlog_for
        self._predicate_timeout_ms: int = option.shardlog_predicate_timeout_ms
        self.is_interrupted = False
        """Whether there was a Ctrl-C: nobody waits for anything any more."""
        self._open = ExitStack()
        self._session: tuple[Session, Followed] | None = None
        self._tests: list[Test] = []
        self._reports: dict[str, TestReport] | None = None
        self.doubt = ""
        """Why keys may be missing at the end, "" if none is."""

    def begin(self, items: Iterable[pytest.Item]) -> None:
        """Judge what is to be run from now on, and connect if anything needs that.

        Raises:
            UsageError: nobody answers there, or the URL is none.
        """
        from shardlog.crdt.errors import ConfigError, Unreachable

        wanted = False
        for item in items:
            if isinstance(item, LiveItem):
                if any(item.test.name == other.name for other in self._tests):
                    item.test.name = item.nodeid
                self._tests.append(item.test)
            wanted |= not {"live", "cluster"}.isdisjoint(getattr(item, "fixturenames", ()))
        if wanted or self._tests:
            try:
                self.session()
            except (ConfigError, Unreachable) as error:
                raise pytest.UsageError(f"--shardlog: {error}") from error

    def session(self) -> tuple[Session, Followed]:
        """What judges, and what it follows.

        Raises:
            Unreachable: nobody answers.
        """
        if self._session is None:
            from shardlog.monitor.follow import follow
            from shardlog.monitor.live.session import Followed, Session

            assert self.url is not None
            source = Followed(self._open.enter_context(follow(self.url)))
            session = Session(
                self._tests,
                source,
                lateness_ms=self.lateness_ms,
                predicate_timeout_ms=self._predicate_timeout_ms,
            )
            self._session = self._open.enter_context(session), source
            session.wait_for(lambda engine: engine.is_begun, BEGIN_S)
        return self._session

    def report(self, test: Test) -> TestReport:
        """What is said of a test, once nothing of any is open, or time is up: that is the end."""
        if self._reports is None:
            from shardlog.monitor.live.report import overall, report

            session, source = self.session()
            session.wait_for(self._is_settled, self._for_s)

            def ended(engine: Engine) -> Report:
                engine.end(max(engine.now_ns, source.now_ns()))
                return report(engine, explained_max=EXPLAINED_MAX)

            told = session.read(ended)
            said = [one._replace(verdict=overall(told, one)) for one in told.tests]
            self._reports = {one.name: one for one in said}
            self.doubt = told.doubt
        return self._reports[test.name]

    def close(self) -> None:
        """End what is open."""
        self._open.close()

    def _is_settled(self, engine: Engine) -> bool:
        from shardlog.monitor.live.report import is_settled

        return is_settled(engine, [engine.groups[test.name] for test in self._tests])


RUN: pytest.StashKey[Run] = pytest.StashKey()
TAKER: pytest.StashKey[Eager] = pytest.StashKey()


class LiveItem(pytest.Function):
    """A function under `each` or `once`: what pytest runs is the waiting for its verdict."""

    test: Test

    @classmethod
    def of(cls, parent: pytest.Module, name: str, function: Any, test: Test) -> LiveItem:
        """The item of a function that a module has."""
        from shardlog.monitor.live.declared import Test

        @functools.wraps(function)
        def judged() -> None:
            item.judge()

        # Its arguments are no fixtures.
        judged.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
        item: LiveItem = cls.from_parent(  # pyright: ignore[reportUnknownMemberType]
            parent, name=name, callobj=judged
        )
        item.test = Test(test.function, test.pattern)
        return item

    def setup(self) -> None:
        """Wait. What can't be told is an error, and no failure."""
        super().setup()
        run = self.config.stash[RUN]
        if run.url is None:
            pytest.skip(NEEDS)

        from shardlog.monitor.live.eager import LiveUnknown
        from shardlog.monitor.live.verdict import Verdict

        report = run.report(self.test)
        if report.verdict is Verdict.IDLE:
            pattern = report.pattern
            pytest.skip(
                f"never reached: {_counts(report)}"
                if report.counts
                else f"never instantiated: nothing matched {pattern!r}"
            )
        if report.verdict not in (Verdict.PASS, Verdict.HOLDING, Verdict.FAIL):
            raise LiveUnknown(f"inconclusive: {_explained(report, run.doubt)}")

    def judge(self) -> None:
        """Fail if it has failed."""
        from shardlog.monitor.live.eager import LiveFailure
        from shardlog.monitor.live.verdict import Verdict

        report = self.config.stash[RUN].report(self.test)
        if report.verdict is Verdict.FAIL:
            raise LiveFailure(_explained(report))


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> pytest.Item | None:
    """What is marked in a module is a test."""
    declared = sys.modules.get("shardlog.monitor.live.declared")
    if declared is None or not isinstance(collector, pytest.Module):
        return None
    test: Any = getattr(obj, declared.MARK, None)
    return LiveItem.of(collector, name, obj, test) if isinstance(test, declared.Test) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that are judged beside all others come last."""
    items.sort(key=lambda item: isinstance(item, LiveItem))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Judge from before the first test."""
    run = session.config.stash[RUN]
    if run.url is not None and not session.config.option.collectonly:
        run.begin(session.items)
    try:
        return (yield)
    except KeyboardInterrupt as interrupt:
        run.is_interrupted = True
        if run.url is not None and interrupt.__traceback__ is not None:
            _cut(interrupt.__traceback__)
        raise


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Generator[Cluster]:
    """The cluster at --shardlog, as `shardlog.monitor.connect` gives it: what shows now."""
    from shardlog.monitor import connect

    url = request.config.stash[RUN].url
    if url is None:
        pytest.skip(NEEDS)
    with connect(url) as cluster:
        yield cluster


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Generator[Whole]:
    """The cluster's state, to wait for: `eventually` and its like wait, and raise, in this test.

    `live.intents["42"].host` is what is there now; in a predicate, what is there when it is asked.
    `live.within(90)` is a budget for a block, `live.expect({...}, within=30)` a partial document.
    """
    run = request.config.stash[RUN]
    if run.url is None:
        pytest.skip(NEEDS)

    from shardlog.monitor.live import properties
    from shardlog.monitor.live.eager import Eager

    session, source = run.session()
    taker = Eager(session, source.now_ns, run.lateness_ms)
    request.node.stash[TAKER] = taker
    token = properties.TAKER.set(taker)
    yield taker.live
    properties.TAKER.reset(token)
    if not run.is_interrupted:
        taker.forget()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """What was to be seen until the test ends is judged when it ends."""
    result = yield
    if TAKER in item.stash:
        item.stash[TAKER].settle()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[Any],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is shown up to the line that has asked; only its text, where there is no line."""
    has_line = True
    if call.excinfo is not None and "shardlog.monitor.live.eager" in sys.modules:
        from shardlog.crdt.errors import ShardlogError
        from shardlog.monitor.live.eager import LiveFailure

        if isinstance(call.excinfo.value, LiveFailure | ShardlogError):
            has_line = _cut(call.excinfo.tb)
    report = yield
    if not has_line and call.excinfo is not None:
        report.longrepr = str(call.excinfo.value)
    return report


def _cut(traceback: TracebackType) -> bool:
    """Leave of a traceback what leads to the library; whether that ends in a line of a test."""
    from shardlog.monitor.live.eager import is_own

    last = traceback
    while last.tb_next is not None:
        frame = last.tb_next.tb_frame
        if is_own(frame) and frame.f_globals is not globals():
            last.tb_next = None
            break
        last = last.tb_next
    name: str = last.tb_frame.f_globals["__name__"]
    return name.partition(".")[0] not in ("_pytest", "pluggy", "shardlog")


def _explained(report: TestReport, doubt: str = "") -> str:
    """What is said of a test that has not passed."""
    from shardlog.monitor.live.eager import printable

    lines = [f"{report.name}: {_counts(report) or 'never instantiated'}"]
    for judged in report.instances[:EXPLAINED_MAX]:
        lines += ["", *map(printable, judged.explanation)]
    if (more := len(report.instances) - EXPLAINED_MAX) > 0:
        lines += ["", f"and {more} more"]
    if doubt:
        lines += ["", f"in doubt: {printable(doubt)}"]
    return "\n".join(lines)


def _counts(report: TestReport) -> str:
    return ", ".join(f"{number} {verdict}" for verdict, number in report.counts.items())


def _duration_s(text: str) -> float:
    from shardlog.crdt.errors import ConfigError
    from shardlog.crdt.retention import parse_duration

    try:
        return parse_duration(text) / SECOND
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _at_least(least: int) -> Callable[[str], int]:
    def milliseconds(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of ms from {least} on")
        return int(text)

    return milliseconds
