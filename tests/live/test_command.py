"""A run of `shardlog test`, whoever reads what it says, and whatever becomes of that."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from shardlog.cli import test as command
from shardlog.cli.test import Lines, Run
from shardlog.monitor.live import each, eventually
from shardlog.monitor.live.declared import MARK, Test
from shardlog.monitor.live.metrics import Metrics
from shardlog.monitor.live.session import Followed, Session
from shardlog.monitor.live.verdict import Verdict
from tests import helpers
from tests.helpers import WAIT_S
from tests.live.node import Node

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from shardlog.monitor.live.instance import Transition
    from shardlog.monitor.live.report import Report
    from shardlog.monitor.live.view import Live
    from shardlog.monitor.live.view import Node as Place


@each("items/*")
def done(item: Place, _: Live) -> None:
    eventually(lambda: item.state == "done", within=60)


DONE: Test = getattr(done, MARK)


class Paused(contextlib.AbstractContextManager[object]):
    """A reader who reads no further until it is let."""

    def __init__(self) -> None:
        self.is_shown, self.is_let = threading.Event(), threading.Event()
        self.heard: list[Transition] = []
        self.left_out = 0

    def __exit__(self, *exception: object) -> None:
        """Nothing is open."""

    def show(self, heard: Sequence[Transition], left_out: int, session: Session) -> None:
        del session
        self.heard += heard
        self.left_out += left_out
        self.is_shown.set()
        assert self.is_let.wait(WAIT_S)

    def end(self, last: Report, replay: Sequence[str]) -> None:
        raise AssertionError


@contextlib.contextmanager
def going_on(run: Run) -> Generator[None]:
    """It goes on until the block ends."""
    reader, writer = os.pipe()
    thread = threading.Thread(
        target=lambda: run.to_the_end(reader, until_settled=False, seconds=None)
    )
    thread.start()
    try:
        yield
    finally:
        os.write(writer, b"x")
        thread.join(WAIT_S)
        os.close(reader)
        os.close(writer)
    assert not thread.is_alive()


def test_who_does_not_read_on_keeps_no_other_program_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Metrics go on; of what waits to be read a part is left out, and how much that is, is told."""
    monkeypatch.setattr(command, "HEARD_MAX", 10)
    node, show = Node(), Paused()
    node.begin(a=0)
    with contextlib.closing(Metrics("127.0.0.1:0")) as served:

        def passed() -> int:
            report = served.report
            return 0 if report is None else report.tests[0].counts.get(Verdict.PASS, 0)

        with going_on(Run([DONE], Followed(node.inbox), show, served, None, 2000, 1000)):
            try:
                assert show.is_shown.wait(WAIT_S)
                for number in range(50):
                    node.write(**{f"items/{number}/state": "done"})
                helpers.eventually(lambda: passed() == 50, "the metrics say so")
                assert show.heard == []
            finally:
                show.is_let.set()
    assert (len(show.heard), show.left_out) == (10, 40)


def test_where_lines_are_printed_doubt_is_told_and_time_does_not_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Once when it begins, and once when it is over: what all begin with is no news."""
    node, show = Node(), Lines(is_quiet=False, tells_doubt=True)
    with Session([DONE], Followed(node.inbox)) as session:

        def judged_to() -> object:
            show.show([], 0, session)
            return show._status.status  # pyright: ignore[reportPrivateUsage]

        judged_to()
        node.begin(a=0)
        assert session.wait_for(lambda engine: bool(engine.hosts.known), WAIT_S)
        judged_to()
        node.inbox.trust(is_whole=True, doubt="not heard", now_ns=node.here_ns)
        assert session.wait_for(lambda engine: engine.doubt == "not heard", WAIT_S)
        assert judged_to() == judged_to()
        node.inbox.trust(is_whole=True, doubt="", now_ns=node.here_ns)
        assert session.wait_for(lambda engine: engine.doubt == "", WAIT_S)
        judged_to()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition("Z: ")[2] for line in err.splitlines()] == [
        "not heard",
        "what shows is all there again",
    ]
