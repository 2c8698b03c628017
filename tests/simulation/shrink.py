"""From a schedule that fails to a short one that fails in the same way.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002):
ever smaller runs of steps are left out while it still fails; then each step that is left, and the
layout, is made smaller.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.runner import run
from tests.simulation.steps import Layout, Log, Schedule, Step, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS_MAX = 2000


def shrink(schedule: Schedule, runs_max: int = RUNS_MAX) -> Schedule:
    """The shortest schedule found, within so many runs, that violates the same invariant."""
    kind = _kind(run(schedule).violation)
    left = runs_max

    def fails(steps: tuple[Step, ...], layout: Layout) -> bool:
        nonlocal left
        left -= 1
        return (
            left >= 0
            and _kind(run(replace(schedule, steps=steps, layout=layout)).violation) == kind
        )

    steps, layout = schedule.steps, schedule.layout
    before = None
    while before != (steps, layout) and left > 0:
        before = (steps, layout)
        steps = _without(steps, layout, fails)
        for at in range(len(steps)):
            for smaller in _smaller(steps[at]):
                changed = (*steps[:at], smaller, *steps[at + 1 :])
                if fails(changed, layout):
                    steps = changed
                    break
        for plainer in _plainer(layout):
            if fails(steps, plainer):
                layout = plainer
    return replace(schedule, steps=steps, layout=layout)


def _without(
    steps: tuple[Step, ...], layout: Layout, fails: Callable[[tuple[Step, ...], Layout], bool]
) -> tuple[Step, ...]:
    size = max(len(steps) // 2, 1)
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if fails(fewer, layout):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def _smaller(step: Step) -> Iterator[Step]:
    if isinstance(step, Log):
        for kind in ("counts", "writes", "erases"):
            said = getattr(step, kind)
            for at in range(len(said)):
                yield replace(step, **{kind: said[:at] + said[at + 1 :]})
    elif isinstance(step, Wait):
        yield from (Wait(ms) for ms in (1, 100, 1000) if ms < step.ms)


def _plainer(layout: Layout) -> Iterator[Layout]:
    plain = Layout()
    yield replace(layout, aggregators=1)
    yield replace(layout, hosts=1)
    yield replace(layout, monitors=0)
    yield replace(layout, bytes_max=plain.bytes_max)
    yield replace(layout, report_bytes=plain.report_bytes)
    yield replace(layout, idle_ms=plain.idle_ms)
    yield replace(layout, ends=False)
    yield replace(layout, replays=False)


def _kind(violation: str | None) -> str | None:
    """The same failure, whatever its numbers."""
    return None if violation is None else re.sub(r"\d+", "#", violation.split("\n")[0])
