"""How many log calls arrive, however the program that logs begins and ends; what the end costs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from benchmarks.torture_blade import LATE_S, SCENARIOS
from shardlog.monitor import connect
from tests.helpers import free_pair
from tests.scenarios.processes import running

ROOT = Path(__file__).parents[1]
SETTLED_S = 2.0
"""When nothing more has arrived for as long, nothing more will."""
HUNG_S = 60.0
BEST_OF = 5


def environ() -> dict[str, str]:
    """The environment of programs that are timed: they find compiled modules, as installed ones."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "pycache")}


class Receiver(Protocol):
    """What the programs of one handler log to."""

    address: str

    def arrived(self, run: str) -> int:
        """How many log calls of the run have come so far."""
        ...


def run_blade(python: str, handler: str, scenario: str, address: str, run: str) -> float | None:
    """The seconds that a program takes from start to end; None if it hangs."""
    command = [python, "-m", "benchmarks.torture_blade", handler, scenario, address, run]
    started = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            process.wait(HUNG_S)
            return time.monotonic() - started
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Children of a program that ended may still be there: a forkserver, one that hangs.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run_scenario(
    receiver: Receiver, late: Receiver | None, python: str, handler: str, scenario: str
) -> dict[str, Any]:
    """What arrived of one program's log calls, of how many, and what the program took."""
    run = f"{handler}-{scenario}"
    expected = SCENARIOS[scenario][1]
    seconds = run_blade(python, handler, scenario, (late or receiver).address, run)
    arrived, changed = 0, time.monotonic()
    while arrived < expected and time.monotonic() < changed + SETTLED_S:
        now = (late or receiver).arrived(run)
        if now > arrived:
            arrived, changed = now, time.monotonic()
        time.sleep(0.05)
    return {
        "arrived": arrived,
        "expected": expected,
        "seconds": None if seconds is None else round(seconds, 2),
    }


def lifecycle(handler: str, python: str) -> Iterator[dict[str, Any]]:
    """Run all scenarios of one handler, one row for each."""
    with (_shard if handler == "shard" else _peer)(handler, python) as (receiver, late):
        for scenario in SCENARIOS:
            who = late if scenario == "late" else None
            if who is not None:
                threading.Thread(target=who.start_late, daemon=True).start()
            yield {"scenario": scenario, **run_scenario(receiver, who, python, handler, scenario)}


def exit_without_receiver(handler: str, python: str, best_of: int = BEST_OF) -> float | None:
    """The seconds by which a program's end is late because nobody receives what it logged.

    The best of a few; None if it hangs.
    """

    def best(name: str, number: int) -> float | None:
        times = [run_blade(python, name, "exit", _nowhere(handler), "none") for _ in range(number)]
        return min((seconds for seconds in times if seconds is not None), default=None)

    with_handler, without = best(handler, best_of), best("", BEST_OF)
    if with_handler is None or without is None:
        return None
    return round(with_handler - without, 3)


def _nowhere(handler: str) -> str:
    port = free_pair().rpartition(":")[2]
    return "ipc:///nonexistent/shardlog.sock" if handler == "shard" else f"127.0.0.1:{port}"


class _Late(Protocol):
    """A receiver that starts while a program runs."""

    address: str

    def start_late(self) -> None:
        """Start in LATE_S."""
        ...

    def arrived(self, run: str) -> int:
        """As a receiver."""
        ...


class _Cluster:
    """A collector, behind it an aggregator, behind it a monitor, which is asked."""

    def __init__(self, nodes: Any, monitor: Any, host: str) -> None:
        self._nodes, self._monitor, self._host = nodes, monitor, host
        self.address: str = nodes.endpoint(host)

    def start_late(self) -> None:
        time.sleep(LATE_S)
        self._nodes.start_collector(self._host)

    def arrived(self, run: str) -> int:
        return int(self._monitor.total(f"torture/{run}/calls"))


class _Process:
    """A receiver of a handler that is compared."""

    def __init__(self, handler: str, python: str) -> None:
        self._port = free_pair().rpartition(":")[2]
        self._command = [python, "-m", "benchmarks.torture_receivers", handler, self._port]
        self._process: subprocess.Popen[str] | None = None
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
        self._process = process

    def start_late(self) -> None:
        time.sleep(LATE_S)
        self.start()

    def arrived(self, run: str) -> int:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return 0
        process.stdin.write(f"{run}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def _shard(handler: str, python: str) -> Generator[tuple[Receiver, _Late]]:
    with running() as nodes, connect(nodes.url) as monitor:
        yield _Cluster(nodes, monitor, "node-1"), _Cluster(nodes, monitor, "late")


@contextmanager
def _peer(handler: str, python: str) -> Generator[tuple[Receiver, _Late]]:
    receiver, late = _Process(handler, python), _Process(handler, python)
    try:
        receiver.start()
        yield receiver, late
    finally:
        receiver.stop()
        late.stop()


def threads_before_first_call() -> int:
    """How many threads the handler has before anything is logged."""
    script = (
        "import logging, pathlib\n"
        "from shardlog.handler import ShardHandler\n"
        "logging.getLogger().addHandler(ShardHandler('ipc:///nonexistent/shardlog.sock', 'b'))\n"
        "print(len(list(pathlib.Path('/proc/self/task').iterdir())) - 1)"
    )
    return int(_python(script))


def import_ms(*modules: str) -> dict[str, float]:
    """What each import takes in a fresh process: the best of a few, in ms of processor time.

    Processor time does not count what else runs on this machine.
    """
    script = (
        "import time; started = time.process_time(); import {}\n"
        "print((time.process_time() - started) * 1000)"
    )
    best = dict.fromkeys(modules, float("inf"))
    for _ in range(2 * BEST_OF):
        for module in modules:
            best[module] = min(best[module], round(float(_python(script.format(module))), 1))
    return best


def _python(script: str) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environ(), capture_output=True, check=True)
    return done.stdout.decode()
