"""`... ENDPOINT BLADE WHERE`: 2,000 log calls, and some from places where locks are a trap.

The number of these is in the state as `lifecycle/BLADE/expected`; newer Pythons drop a log call
that is made within another one, which `lifecycle/BLADE/dropping` says.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from types import FrameType

from tests.scenarios.lifecycle.blade import configure, count_up


class Last:
    """Logs when it is collected, which a cycle can only be by the garbage collector."""

    collected = 0

    def __init__(self, log: logging.Logger) -> None:
        self.log = log
        self.me = self

    def __del__(self) -> None:
        Last.collected += 1
        count_up(self.log, 1, "inner")


class Talkative:
    """Logs whenever its text is asked for."""

    asked = 0

    def __init__(self, log: logging.Logger) -> None:
        self.log = log

    def __repr__(self) -> str:
        Talkative.asked += 1
        count_up(self.log, 1, "inner")
        return "talkative"


def from_del(log: logging.Logger) -> int:
    """Collections come every few allocations, in the middle of log calls as elsewhere."""
    gc.set_threshold(5)
    for _ in range(2000):
        Last(log)
        count_up(log, 1)
    gc.collect()
    return Last.collected


def from_signals(log: logging.Logger) -> int:
    """A timer interrupts log calls, and logs."""
    caught = 0

    def on_alarm(number: int, frame: FrameType | None) -> None:
        nonlocal caught
        caught += 1
        count_up(log, 1, "inner")

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    count_up(log, 2000)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return caught


def from_repr(log: logging.Logger) -> int:
    """An argument of a log call logs while the call formats it."""
    talkative = Talkative(log)
    for _ in range(2000):
        count_up(log, 1)
        log.info("%r", talkative)
    return Talkative.asked


def after_configuring_twice(log: logging.Logger) -> int:
    """The second configuration replaces the handler of the first."""
    count_up(log, 1000)
    log = configure()
    count_up(log, 1000)
    return 0


def main(where: str) -> None:
    """Log from there."""
    log = configure()
    places = {
        "del": from_del,
        "signal": from_signals,
        "repr": from_repr,
        "twice": after_configuring_twice,
    }
    said = {"expected": places[where](log), "dropping": hasattr(logging.Logger, "_tls")}
    logging.getLogger("blade").info("done", extra={"lifecycle": {sys.argv[2]: said}})


main(sys.argv[3])
