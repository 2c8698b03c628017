"""A run of `shardlog test`, whoever reads what it says, and whatever becomes of that."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
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
from tests.monitor.server import Server

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


OWED = """
from shardlog.monitor.live import eventually, once

@once
def owed(live):
    return eventually(lambda: live.answer, within=0.1)
"""


def on_a_full_disk(folder: Path, answer: str, *arguments: str) -> tuple[int, str, list[str]]:
    """What `shardlog test` says where no file may grow: its code, output, and lines of errors."""
    tests = folder / "livetests.py"
    tests.write_text(OWED)
    shardlog = str(Path(sys.executable).parent / "shardlog")
    limited = ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", shardlog]
    with Server() as server:
        server.write(answer, "yes")
        done = subprocess.run(
            [*limited, "test", str(tests), "--until-settled", "--connect", server.url, *arguments],
            capture_output=True,
            text=True,
            timeout=2 * WAIT_S,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize(("answer", "exit_code"), [("other", 1), ("answer", 2)])
def test_where_no_report_can_be_written_the_verdict_is_told(
    tmp_path: Path, answer: str, exit_code: int
) -> None:
    """And is the exit code, if bad; the report of before stays, and nothing is left beside it."""
    file = tmp_path / "junit.xml"
    file.write_text("<testsuites/>")
    code, out, errors = on_a_full_disk(tmp_path, answer, "--junit", str(file))

    assert (code, errors) == (
        exit_code,
        [f"shardlog test: {file}: File too large: it is not whole"],
    )
    assert ("✗ owed FAIL: not within 0.1 s" in out) is (exit_code == 1)
    assert "; judged to " in out.splitlines()[-1]
    assert file.read_text() == "<testsuites/>"
    assert {entry.name for entry in tmp_path.iterdir()} == {"livetests.py", "junit.xml"}


@pytest.mark.parametrize(("answer", "exit_code"), [("other", 1), ("answer", 2)])
def test_where_nothing_can_be_recorded_it_is_judged_all_the_same(
    tmp_path: Path, answer: str, exit_code: int
) -> None:
    """That is said once, and no command is named that would judge the recording."""
    code, out, (error,) = on_a_full_disk(tmp_path, answer, "--record", str(tmp_path / "run"))

    assert (code, error.endswith(": File too large: it is not whole")) == (exit_code, True)
    assert ("✗ owed FAIL: not within 0.1 s" in out) is (exit_code == 1)
    assert "replay" not in out


def test_report_goes_where_it_was(tmp_path: Path) -> None:
    """Behind a link, with the permissions that it had."""
    file, link = tmp_path / "junit.xml", tmp_path / "link"
    file.write_text("<testsuites/>")
    file.chmod(0o600)
    link.symlink_to(file)
    with Server() as server:
        server.write("answer", "yes")
        tests = tmp_path / "livetests.py"
        tests.write_text(OWED)
        arguments = [str(tests), "--connect", server.url, "--until-settled", "--junit", str(link)]
        shardlog = str(Path(sys.executable).parent / "shardlog")
        subprocess.run([shardlog, "test", *arguments], check=True, timeout=2 * WAIT_S)

    assert (link.is_symlink(), file.stat().st_mode & 0o777) == (True, 0o600)
    assert "owed" in file.read_text()
