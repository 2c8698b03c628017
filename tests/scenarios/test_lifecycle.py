"""Whatever becomes of a process: what it counted is in the cluster's state, once.

Each program runs on this Python and on every other from 3.11 on that is found.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shardlog.monitor import connect
from tests.helpers import WAIT_S, eventually
from tests.scenarios.interpreters import ROOT, environment, has, others, prepared
from tests.scenarios.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.monitor import Cluster as View
    from tests.scenarios.processes import Cluster

OTHERS = others()


@dataclass
class Program:
    """A program under `lifecycle/` that runs as a blade of its own."""

    blade: str
    process: subprocess.Popen[str]

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code, and what it said on stdout. It has no complaints."""
        out, errors = self.process.communicate(timeout=WAIT_S)
        assert errors == ""
        return self.process.returncode, out


@dataclass
class Runner:
    """Runs programs by one interpreter, as blades of one cluster, and sees what arrives."""

    python: Path
    version: str
    cluster: Cluster
    view: View

    def start(self, module: str, how: str, endpoint: str | None = None) -> Program:
        """Start a program; its blade's name says which it is."""
        blade = f"{module}-{how}-{self.version}"
        process = subprocess.Popen(
            [
                *(str(self.python), "-W", "ignore::DeprecationWarning"),  # 3.12 warns of any fork
                *("-m", f"tests.scenarios.lifecycle.{module}"),
                *(endpoint or self.cluster.endpoint(), blade, how),
            ],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return Program(blade, process)

    def run(self, module: str, how: str) -> str:
        """Run a program, which ends well; the name of its blade."""
        program = self.start(module, how)
        code, _ = program.end()
        assert code == 0
        return program.blade

    def total(self, blade: str, key: str) -> int | float:
        """What has arrived."""
        return self.view.total(f"lifecycle/{blade}/{key}")

    def arrives(self, blade: str, key: str, number: int) -> None:
        """Exactly so many arrive."""
        eventually(lambda: self.total(blade, key) >= number, f"{blade} {key}")
        assert self.total(blade, key) == number

    def arrives_but_for(self, blade: str, key: str, number: int, lost: int) -> None:
        """So many arrive, at most so many fewer, never more."""
        eventually(lambda: self.total(blade, key) >= number - lost, f"{blade} {key}")
        assert self.total(blade, key) <= number

    def statuses(self, blade: str) -> list[str | None]:
        """What is known of the blade's processes."""
        return [row["status"] for row in self.view.blades() if row["blade"] == blade]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster for all tests here; each program is a blade with a name of its own."""
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def view(cluster: Cluster) -> Iterator[View]:
    """What a monitor sees of it."""
    with connect(cluster.url) as view:
        yield view


@pytest.fixture(scope="module", params=["this", *OTHERS])
def runner(request: pytest.FixtureRequest, cluster: Cluster, view: View) -> Runner:
    """One interpreter after another."""
    if request.param == "this":
        version = ".".join(map(str, sys.version_info[:2]))
        return Runner(Path(sys.executable), version, cluster, view)
    python, why_not = prepared(request.param, OTHERS[request.param])
    if python is None:
        pytest.skip(why_not)
    return Runner(python, request.param, cluster, view)


@pytest.mark.parametrize("how", ["exit", "fall", "sigterm_handled", "atexit"])
def test_process_that_ends_itself_loses_nothing(runner: Runner, how: str) -> None:
    """2,000 of 2,000 after sys.exit, after the end of the program, after a SIGTERM whose handler
    exits, and where the first is logged at exit; and the blade has said bye.
    """
    blade = runner.run("ending", how)

    runner.arrives(blade, "calls", 2000)
    eventually(lambda: runner.statuses(blade) == ["bye"], f"{blade} says bye")


@pytest.mark.parametrize(
    ("how", "code"),
    [("sigterm", -signal.SIGTERM), ("kill", -signal.SIGKILL), ("os_exit", 0)],
)
def test_process_that_is_ended_loses_at_most_its_last_flush(
    runner: Runner, how: str, code: int
) -> None:
    """Never more than was counted, and nothing missing but the 200 logged in the last moment."""
    program = runner.start("ending", how)

    assert program.end()[0] == code
    runner.arrives_but_for(program.blade, "calls", 2000, lost=200)


@pytest.mark.parametrize("how", ["fork", "forkserver", "spawn", "os_fork"])
def test_child_counts_as_a_process_of_its_own(runner: Runner, how: str) -> None:
    """200 of 200 from a child, however it came; and 200 of 200 from its parent."""
    blade = runner.run("children", how)

    runner.arrives(blade, "child", 200)
    runner.arrives(blade, "calls", 200)
    eventually(lambda: runner.statuses(blade) == ["bye"] * 2, f"{blade} says bye")


def test_child_that_leaves_by_os_exit_loses_at_most_its_last_flush(runner: Runner) -> None:
    """Nothing tells a handler of os._exit: the 20 log calls just before it may be missing."""
    blade = runner.run("children", "os_fork_os_exit")

    runner.arrives_but_for(blade, "child", 200, lost=20)
    runner.arrives(blade, "calls", 200)


@pytest.mark.parametrize("where", ["del", "signal", "repr"])
def test_log_calls_from_within_others_arrive(runner: Runner, where: str) -> None:
    """Nothing blocks or is lost where a garbage collection, a signal handler or an argument's
    repr logs in the middle of a log call.
    """
    blade = runner.run("places", where)

    runner.arrives(blade, "calls", 2000)
    eventually(lambda: ("lifecycle", blade, "expected") in runner.view)
    expected = runner.view["lifecycle", blade, "expected"]
    assert expected > 10
    dropped = expected if runner.view["lifecycle", blade, "dropping"] else 0
    runner.arrives_but_for(blade, "inner", expected, lost=dropped)


def test_configuring_logging_twice_loses_nothing(runner: Runner) -> None:
    """The first handler is closed and says bye; the second is a process of its own."""
    blade = runner.run("places", "twice")

    runner.arrives(blade, "calls", 2000)
    eventually(lambda: runner.statuses(blade) == ["bye"] * 2, f"{blade} says bye")


@pytest.mark.parametrize("what", ["threads", "asyncio", "gevent"])
def test_crowds_of_writers_lose_nothing(runner: Runner, what: str) -> None:
    """Ten threads, tasks or greenlets: 2,000 of 2,000."""
    if what == "gevent" and not has(runner.python, "gevent"):
        pytest.skip(f"no gevent for Python {runner.version}")
    blade = runner.run("crowds", what)

    runner.arrives(blade, "calls", 2000)


def test_without_a_collector_a_process_ends_and_its_memory_is_bounded(runner: Runner) -> None:
    """20,000 log calls with nobody there are held as a few items: what they add up to."""
    program = runner.start("ending", "nobody", runner.cluster.endpoint("nobody"))
    code, out = program.end()
    items, size = map(int, out.split())

    assert code == 0
    assert items == 2
    assert size < 1000


def test_collector_that_comes_later_gets_all(runner: Runner) -> None:
    """A blade that lives for 5 s, and a collector that starts 3 s after it: 2,000 of 2,000."""
    host = f"late-{runner.version}"
    program = runner.start("ending", "late", runner.cluster.endpoint(host))
    time.sleep(3)
    runner.cluster.start_collector(host)

    assert program.end()[0] == 0
    runner.arrives(program.blade, "calls", 2000)
