"""A failure as a story that a person can read: one line a step, then what was violated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.runner import Outcome
    from tests.simulation.steps import Layout, Schedule


def tell(schedule: Schedule, outcome: Outcome) -> str:
    """The story of one run of a schedule."""
    lines = [f"seed {schedule.seed}: {_words(schedule.layout)}"]
    lines += [f"{at_ns / 1e9:12.3f} s  {words}" for at_ns, words in outcome.story]
    lines.append(outcome.violation or "all that must hold does")
    return "\n".join(lines)


def literal(schedule: Schedule) -> str:
    """The schedule as Python text, to be kept in regressions.py."""
    steps = "".join(f"        {step!r},\n" for step in schedule.steps)
    return f"Schedule(\n    {schedule.seed},\n    {schedule.layout!r},\n    (\n{steps}    ),\n)"


def _words(layout: Layout) -> str:
    kept = f"records kept {layout.retention_s} s" if layout.retention_s else "records kept a day"
    shared = "life files" if layout.has_life else "no life files"
    return (
        f"{layout.hosts} hosts, {layout.aggregators} aggregators, {layout.monitors} monitors, "
        f"{kept}, {shared}"
    )
