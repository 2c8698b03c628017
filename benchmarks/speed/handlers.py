"""Case 1: what a log call takes of the thread that logs.

The CPU time of the calling thread in `log.info(message, extra=...)`, three leaves, less that of the
same call with a NullHandler; consumers are alive, and their queues never full. What is logged and
how everyone is set up is said in `benchmarks.speed.loggers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.speed.case import Case, Goal, ratio
from benchmarks.speed.loggers import HANDLERS, NULL, QUEUE, SHARDLOG, SHARDLOG_COUNT
from benchmarks.speed.logging_turns import costs

if TYPE_CHECKING:
    from collections.abc import Callable


def measure(tell: Callable[[str], object]) -> Case:
    """Measure it."""
    names = [name for name in HANDLERS if name not in (NULL, SHARDLOG_COUNT)]
    measured, missing = costs(names, tell)
    values = {name: [cost.caller for cost in of] for name, of in measured.items()}
    goals = [Goal(f"{SHARDLOG} to {QUEUE}", ratio(values, SHARDLOG, QUEUE), 0.35)]
    goals += [
        Goal(f"{SHARDLOG} to {name}", ratio(values, SHARDLOG, name), 1.0)
        for name in values
        if name not in (SHARDLOG, QUEUE)
    ]
    return Case(1, "A log call with three leaves, for its caller", "µs", values, missing, goals)
