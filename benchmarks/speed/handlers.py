"""Case 1: what a log call takes of the thread that logs.

The CPU time of the calling thread in `log.info(message, extra=...)`, three leaves, less that of the
same call with a NullHandler, as a multiple of QueueHandler's; consumers are alive, and their queues
never full. What is logged and how everyone is set up is said in `benchmarks.speed.loggers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.speed.case import Case, Goal, ratio
from benchmarks.speed.loggers import QUEUE, SHARDLOG
from benchmarks.speed.logging_turns import Contender, multiples

if TYPE_CHECKING:
    from collections.abc import Callable


def measure(tell: Callable[[str], object]) -> Case:
    """Measure it."""
    values, missing = multiples(Contender.caller, tell)
    values[QUEUE] = [1.0] * len(values[SHARDLOG])
    goals = [Goal(f"{SHARDLOG} to {QUEUE}", ratio(values, SHARDLOG, QUEUE), 0.35)]
    goals += [
        Goal(f"{SHARDLOG} to {name}", ratio(values, SHARDLOG, name), 1.0)
        for name in values
        if name not in (SHARDLOG, QUEUE)
    ]
    title = "A log call with three leaves, for its caller"
    return Case(1, title, f"x {QUEUE}", values, missing, goals)
