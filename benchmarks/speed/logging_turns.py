"""Handlers that take turns, each in a process of its own: what cases 1, 2 and 3 share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.speed.case import TURNS
from benchmarks.speed.loggers import BURST, HANDLERS, NULL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

BURSTS = 10


class Cost(NamedTuple):
    """What one log call took in one turn, in µs of CPU: beyond that of a NullHandler."""

    caller: float
    total: float
    """In the process that logs, and in the one that receives."""


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

    def __init__(self, name: str, folder: Path, exits: ExitStack) -> None:
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

    def turn(self) -> Cost:
        """What one log call took, that of a NullHandler included."""
        before_ns = self._receiver.cpu_ns() if self._receiver else 0
        caller, process = map(float, self._process.ask(str(BURSTS)).split())
        after_ns = self._receiver.cpu_ns() if self._receiver else 0
        return Cost(caller, process + (after_ns - before_ns) / (BURSTS * BURST * 1000))


def costs(
    names: Iterable[str], tell: Callable[[str], object]
) -> tuple[dict[str, list[Cost]], dict[str, str]]:
    """What each handler took in each turn, and which could not be had, and why."""
    costs: dict[str, list[Cost]] = {}
    missing: dict[str, str] = {}
    with ExitStack() as exits:
        contenders: dict[str, Contender] = {}
        for name in (NULL, *names):
            tell(f"start {name}")
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="shardlog-")))
            try:
                contenders[name] = Contender(name, folder, exits)
                costs[name] = []
            except RuntimeError as error:
                missing[name] = str(error)
        for turn in range(TURNS + 1):
            for name, contender in contenders.items():
                tell(f"{name}: turn {turn} of {TURNS}")
                cost = contender.turn()
                if turn:
                    costs[name].append(cost)
    null = costs.pop(NULL)
    return {
        name: [
            Cost(a.caller - b.caller, a.total - b.total) for a, b in zip(all_of, null, strict=True)
        ]
        for name, all_of in costs.items()
    }, missing


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
