"""Programs that log and end: python -m benchmarks.torture_blade HANDLER SCENARIO ADDRESS RUN

An empty HANDLER is none. RUN names the log calls, so that a receiver can tell them from others'.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.torture_handlers import install

CALLS = 2000
CHILD_CALLS = 200
LATE_S = 3.0
"""How long after the program's start the receiver of the scenario `late` starts."""

logger = logging.getLogger("torture")


class Blade:
    """A program: its handler, where it logs to, and what its calls are named by."""

    def __init__(self, handler: str, address: str, run: str) -> None:
        self.handler, self.address, self.run = handler, address, run

    def install(self) -> None:
        """Set the handler up in this process."""
        install(self.handler, self.address)

    def log(self, calls: int = CALLS, run: str = "") -> None:
        """Log that many times: for ShardHandler as counts, so that each call shows."""
        run = run or self.run
        one: Any = 1
        if self.handler == "shard":
            from shardlog.handler import count

            one = count()
        for number in range(calls):
            extra = {"torture": {run: {"calls": one, "last": number}}}
            logger.info("torture %s %d", run, number, extra=extra)


def _exit(blade: Blade) -> None:
    blade.install()
    blade.log()
    sys.exit(0)


def _end(blade: Blade) -> None:
    blade.install()
    blade.log()


def _late(blade: Blade) -> None:
    blade.install()
    blade.log()
    time.sleep(LATE_S + 2)


def _terminate(blade: Blade) -> None:
    blade.install()
    blade.log()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def _terminate_handled(blade: Blade) -> None:
    def leave(number: int, frame: object) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    _terminate(blade)


def _kill(blade: Blade) -> None:
    blade.install()
    blade.log()
    os.kill(os.getpid(), signal.SIGKILL)


def log_as_child(blade: Blade, *, is_new: bool) -> None:
    """What a child of multiprocessing does; a new one has inherited no handler."""
    if is_new:
        blade.install()
    blade.log(CHILD_CALLS)


def _child(method: str) -> Callable[[Blade], None]:
    def run(blade: Blade) -> None:
        blade.install()
        blade.log(1, "parent")
        context: Any = multiprocessing.get_context(method)
        is_new = {"is_new": method != "fork"}
        child = context.Process(target=log_as_child, args=(blade,), kwargs=is_new)
        child.start()
        child.join(30)

    return run


def _forked(leave: Callable[[int], Any]) -> Callable[[Blade], None]:
    def run(blade: Blade) -> None:
        blade.install()
        blade.log(1, "parent")
        child = os.fork()
        if child == 0:
            blade.log(CHILD_CALLS)
            leave(0)
        os.waitpid(child, 0)

    return run


SCENARIOS: dict[str, tuple[str, int, Callable[[Blade], None]]] = {
    "exit": ("2000, then sys.exit", CALLS, _exit),
    "end": ("2000, then the end", CALLS, _end),
    "term-handled": ("2000, then SIGTERM, handled", CALLS, _terminate_handled),
    "term": ("2000, then SIGTERM, default", CALLS, _terminate),
    "kill": ("2000, then SIGKILL", CALLS, _kill),
    "mp-fork": ("child of multiprocessing, fork", CHILD_CALLS, _child("fork")),
    "mp-forkserver": ("child of multiprocessing, forkserver", CHILD_CALLS, _child("forkserver")),
    "mp-spawn": ("child of multiprocessing, spawn", CHILD_CALLS, _child("spawn")),
    "fork-exit": ("child of os.fork, sys.exit", CHILD_CALLS, _forked(sys.exit)),
    "fork-_exit": ("child of os.fork, os._exit", CHILD_CALLS, _forked(os._exit)),
    "late": (f"2000, receiver comes {LATE_S:.0f} s late", CALLS, _late),
}
"""By short name: what it is, how many calls should arrive, the program."""


def main() -> None:
    """Run one program."""
    handler, scenario, address, run = sys.argv[1:]
    SCENARIOS[scenario][2](Blade(handler, address, run))


if __name__ == "__main__":
    main()
