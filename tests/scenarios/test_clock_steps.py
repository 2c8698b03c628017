"""Processes whose clock steps back, as it does when it is set: real ones, under real collectors.

A process of a test reads its clock with an offset, which its own code changes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shardlog.crdt.life import EXIT, LIFE, STAMP, life_folder, unpack_frames
from shardlog.crdt.wire.codec import decode_report
from shardlog.monitor import connect
from tests.helpers import WAIT_S, eventually, free_pair
from tests.scenarios.processes import running

if TYPE_CHECKING:
    from collections.abc import Generator

    from shardlog.crdt.replication.messages import Report

HOUR = 3600 * 10**9
START = """if True:
    import sys, time
    clock, offset_ns = time.time_ns, int(sys.argv[2])
    time.time_ns = lambda: clock() + offset_ns
    import logging
    from shardlog.handler import ShardHandler, count
    log = logging.getLogger("blade")
    log.setLevel("INFO")
    handler = ShardHandler(sys.argv[1], "b")
    log.addHandler(handler)
    def say(what, n=1):
        log.info(what, extra={"n": count(n), "said": {what: True}, "last": what})
    say("before", 3)
    """


def run(endpoint: str, rest: str = "", offset_ns: int = 0) -> str:
    """A process that says "before", does the rest and ends; what it printed, without complaints."""
    with process(endpoint, rest, offset_ns) as child:
        out, errors = child.communicate(timeout=WAIT_S)
        assert errors == ""
        return out


@contextmanager
def process(endpoint: str, rest: str, offset_ns: int = 0) -> Generator[subprocess.Popen[str]]:
    """Such a process, which is gone after the block."""
    arguments = [sys.executable, "-c", START + rest, endpoint, str(offset_ns)]
    pipe = subprocess.PIPE
    child = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def left(folder: Path) -> list[Report]:
    """What exit files say, of whatever endpoint in the folder."""
    frames = (unpack_frames(path.read_bytes()) for path in folder.glob(f"*/*{EXIT}"))
    return [decode_report(frame) for found in frames for frame in found]


@pytest.mark.parametrize("link", ["ipc", "tcp"])
def test_process_goes_on_under_a_new_id_when_its_clock_steps_back(link: str) -> None:
    """By two hours, twice: the totals are exact, what is said after a step is seen at once, the old
    ids have left and the newest is up, until it leaves too.
    """
    rest = f"""
    for what in ("between", "after"):
        handler.flush()
        offset_ns -= {2 * HOUR}
        say(what)
    handler.flush()
    print("said", flush=True)
    sys.stdin.readline()
    """
    with running() as cluster, connect(cluster.url) as replica:
        endpoint = cluster.endpoint()
        if link == "tcp":
            endpoint = free_pair()
            cluster.start_collector("node-2", "--listen", endpoint)

        def statuses() -> list[str | None]:
            return [row["status"] for row in replica.blades()]

        with process(endpoint, rest) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "said\n"
            eventually(lambda: replica.total("n") == 5)
            assert set(replica["said"]) == {"before", "between", "after"}
            eventually(lambda: sorted(map(str, statuses())) == ["bye", "bye", "up"])
            child.communicate("\n", timeout=WAIT_S)
        eventually(lambda: statuses() == ["bye"] * 3)
        assert replica.total("n") == 5


def test_without_a_collector_each_id_leaves_an_exit_file(tmp_path: Path) -> None:
    """The old id's at the step, its lock free; the new one counts from zero, by the new clock."""
    rest = f"""
    handler.flush()
    offset_ns -= {2 * HOUR}
    say("after")
    handler.flush()
    print(clock() - {2 * HOUR}, flush=True)
    """
    started_ns = time.time_ns()
    late_ns = int(run(f"ipc://{tmp_path}/c.sock", rest))
    reports = left(tmp_path)
    totals = {t.amount: t.last for report in reports for t in report.totals if t.path == "n"}

    assert len({report.process for report in reports}) == len([*tmp_path.glob(f"*/*{LIFE}")]) == 2
    assert all(report.final for report in reports)
    assert set(totals) == {3, 1}
    assert totals[1] <= late_ns < started_ns <= totals[3]


def test_what_was_logged_right_before_a_step_is_stamped_by_the_new_clock(tmp_path: Path) -> None:
    """It waits for the handler's thread, which reads the clock after the step: two hours less."""
    rest = f"""
    import threading
    caller = threading.get_ident()
    time.time_ns = lambda: clock() + {2 * HOUR} * (threading.get_ident() == caller)
    for what in ("1", "2", "3"):
        say(what)
        handler.flush()
    """
    run(f"ipc://{tmp_path}/c.sock", rest)
    (report,) = left(tmp_path)

    assert [total.amount for total in report.totals if total.path == "n"] == [6]
    assert max(write.stamp for write in report.writes) <= time.time_ns()


def test_next_process_of_a_blade_wins_over_its_predecessor_when_the_clock_stepped_back() -> None:
    """Within an hour: its stamps start above the admitted ones, also when the collector learns of
    the step from its store only; and the file that says so is there for as long as it takes.
    """
    with running() as cluster, connect(cluster.url) as replica:
        endpoint = cluster.endpoint()
        folder = Path(life_folder(endpoint) or "")
        run(endpoint, "say('other')")
        eventually(lambda: replica.total("n") == 4)
        assert [*folder.glob(f"*{STAMP}")] == []

        run(endpoint, "say('ahead')", offset_ns=HOUR // 2)
        eventually(lambda: replica["last"] == "ahead")
        eventually(lambda: len([*folder.glob(f"*{STAMP}")]) == 1)
        run(endpoint, "say('restarted')")
        eventually(lambda: replica["last"] == "restarted")

        collector = cluster.collectors["node-1"]
        collector.stop()
        for path in folder.glob(f"*{STAMP}"):
            path.unlink()
        collector.start()
        run(endpoint, "say('again')")
        eventually(lambda: replica["last"] == "again")
        assert replica.total("n") == 16
