"""Case 2: what a log call takes in all, of whatever thread or process.

As case 1, but the CPU time of the whole process that logs, its background threads included, and of
the process that receives: shardlog's collector, which stores and publishes, and for others one that
only writes to a file what comes. QueueHandler and structlog write their file themselves.
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
    values, missing = multiples(Contender.total, tell)
    values[QUEUE] = [1.0] * len(values[SHARDLOG])
    goals = [Goal(f"{SHARDLOG} to {QUEUE}", ratio(values, SHARDLOG, QUEUE), 1.0)]
    title = "A log call with three leaves, in all threads and the receiver"
    return Case(2, title, f"x {QUEUE}", values, missing, goals)
