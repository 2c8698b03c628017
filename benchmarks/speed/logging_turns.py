"""Handlers that take turns, each in a process of its own: what cases 1, 2 and 3 share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.speed.case import TURNS, in_turns
from benchmarks.speed.loggers import BURST, HANDLERS, SHARDLOG, TOTAL_BURSTS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Told:
    """A process that answers lines by lines."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def ask(self, line: str = "") -> str:
        """Its answer to the line; without one, its next line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if line:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.process.args!r} has ended")
        return answer

    def end(self) -> None:
        """Close its standard input, and wait."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=20)

    def cpu_ns(self) -> int:
        """The CPU time that it has taken."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)  # clock_getcpuclockid(3)


class Contender:
    """A handler in a process of its own, and who receives what it sends.

    Raises:
        RuntimeError: one of them has ended before it was ready.
    """

    def __init__(self, name: str, exits: ExitStack) -> None:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="shardlog-")))
        receiver, _ = HANDLERS[name]
        address = ""
        self._receiver: Told | None = None
        if receiver == "collector":
            address, self._receiver = collector(folder, exits)
        elif receiver:
            self._receiver = Told("benchmarks.speed.receivers", receiver, str(folder / "received"))
            exits.callback(self._receiver.end)
            address = f"127.0.0.1:{self._receiver.ask()}"
        self._process = Told("benchmarks.speed.loggers", name, str(folder), address)
        exits.callback(self._process.end)
        self._process.ask()

    def caller(self, handler: str) -> float:
        """The µs that a call takes of the calling thread."""
        return float(self._process.ask(f"caller {handler}"))

    def total(self, handler: str) -> float:
        """The µs that a call takes in all, of this process and of who receives."""
        before_ns = self._received_ns()
        took = float(self._process.ask(f"total {handler}"))
        received_ns = self._received_ns() - before_ns if handler == "own" else 0
        return took + received_ns / (TOTAL_BURSTS * BURST * 1000)

    def _received_ns(self) -> int:
        return self._receiver.cpu_ns() if self._receiver else 0


Measure = Callable[[Contender, str], float]
"""One of a contender's ways to tell what a call takes, by one of its process's handlers."""

ROUNDS: dict[Measure, int] = {Contender.caller: 9, Contender.total: 1}
"""In one turn. A burst is short, as the speed of a machine may change within a second."""


def multiples(
    measure: Measure, tell: Callable[[str], object]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """What each takes as a multiple of what QueueHandler takes in the same process, beyond what a
    NullHandler takes, in each turn; and who could not be had, and why.
    """
    missing: dict[str, str] = {}
    with ExitStack() as exits:
        turns: dict[str, Callable[[], float]] = {}
        for name in HANDLERS:
            tell(f"start {name}")
            try:
                turns[name] = partial(_multiple, Contender(name, exits), measure, "own", "queue")
            except RuntimeError as error:
                missing[name] = str(error)
        return in_turns(turns, TURNS, tell), missing


def count_to_plain(tell: Callable[[str], object]) -> list[float]:
    """What a log call with a count takes, as a multiple of one without, in each turn."""
    with ExitStack() as exits:
        shardlog = Contender(SHARDLOG, exits)
        turn = partial(_multiple, shardlog, Contender.caller, "count", "own")
        return in_turns({SHARDLOG: turn}, TURNS, tell)[SHARDLOG]


def _multiple(contender: Contender, measure: Measure, of: str, to: str) -> float:
    rounds: list[float] = []
    for _ in range(ROUNDS[measure]):
        null, less, more = (measure(contender, handler) for handler in ("null", to, of))
        rounds.append((more - null) / (less - null))
    return median(rounds)


def collector(folder: Path, exits: ExitStack) -> tuple[str, Told]:
    """A collector, which publishes to an aggregator, as in life."""
    listen, store = f"tcp://127.0.0.1:{_free_port()}", str(folder / "store")
    aggregator = Told(
        "shardlog.cli.main", "aggregate", "--listen", listen, "--serve", f"ipc://{folder}/serve"
    )
    exits.callback(_stop, aggregator)
    aggregator.ask()
    address = f"ipc://{folder}/collector.sock"
    process = Told(
        "shardlog.cli.main", "collect", "--listen", address, "--to", listen, "--store", store
    )
    exits.callback(_stop, process)
    process.ask()
    return address, process


def _stop(told: Told) -> None:
    told.process.terminate()
    told.end()


def _free_port() -> int:
    """A port of which the next is free too."""
    while True:
        with suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            second.bind(("127.0.0.1", port + 1))
            return port
