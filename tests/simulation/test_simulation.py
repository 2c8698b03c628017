"""Whole clusters in one process: a fixed share of schedules, and all that ever failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.report import ROOT
from tests.simulation import __main__ as command
from tests.simulation.generate import generate
from tests.simulation.mutants import FAILED_DESIGNS, applied
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.runner import run
from tests.simulation.shrink import shrink
from tests.simulation.steps import (
    Break,
    CrashAggregator,
    CrashCollector,
    Cut,
    Exit,
    FailStore,
    Kill,
    Layout,
    Log,
    Pause,
    Schedule,
    Start,
    StepClock,
    Wait,
)
from tests.simulation.story import literal, tell

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = 400
SEEDS_PER_TEST = 50
SHRINKING_RUNS = 300

TRACES = """
from tests.simulation.generate import generate
from tests.simulation.runner import run
print([run(generate(seed), traced=True).trace for seed in range(12)])
"""


@pytest.mark.parametrize("start", range(0, SEEDS, SEEDS_PER_TEST))
def test_whatever_fails_all_invariants_hold(start: int) -> None:
    """I1 to I9, in all schedules of a fixed share."""
    for seed in range(start, start + SEEDS_PER_TEST):
        if run(generate(seed)).violation is not None:
            shrunk = shrink(generate(seed), SHRINKING_RUNS)
            pytest.fail(f"{tell(shrunk, run(shrunk))}\n\n{literal(shrunk)}")


@pytest.mark.parametrize("schedule", REGRESSIONS.values(), ids=REGRESSIONS.keys())
def test_what_failed_once_fails_no_more(schedule: Schedule) -> None:
    """Each schedule that ever violated something."""
    outcome = run(schedule)
    assert outcome.violation is None, tell(schedule, outcome)


def test_a_seed_is_one_history_whatever_the_hash_seed() -> None:
    """Who did what when, and what all held in the end, are the same in any process."""
    traces = [
        subprocess.run(
            [sys.executable, "-c", TRACES],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert len(set(traces[0].split(","))) > 10


def test_steps_that_name_what_is_not_there_do_nothing() -> None:
    """So every part of a schedule is a schedule."""
    steps = (
        Log(7, (("n", 1),)),
        Kill(7),
        Exit(7),
        Break(7),
        Start(9, 8),
        Start(0, 8, parent=7),
        Start(0, 8),
        Start(1, 8),
        Pause("process 7", 10),
        CrashCollector(9, "at rest", 10),
        CrashAggregator(9, 10),
        FailStore(9, 10),
        Cut("collector 9", "aggregator 9", 10),
        StepClock("collector 9", 10),
        Wait(10),
    )
    assert run(Schedule(1, Layout(), steps)).violation is None


def test_a_failure_is_told_in_a_few_lines() -> None:
    """Of a hundred steps those are left without which it would not fail."""
    mutant = next(m for m in FAILED_DESIGNS if m.mistake.startswith("re-adding"))
    with applied(mutant):
        seed = next(s for s in range(100) if run(generate(s)).violation is not None)
        shrunk = shrink(generate(seed), SHRINKING_RUNS)
        outcome = run(shrunk)
    assert outcome.violation is not None
    assert len(shrunk.steps) <= 8
    story = tell(shrunk, outcome)
    assert "counts +" in story
    assert "dies" in story
    assert run(shrunk).violation is None


def test_runs_go_on_where_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was run at a commit is noted, and not run again."""
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "SEEDS_PER_CHUNK", 2)
    assert command.simulate(range(4), minutes=1, jobs=2) == 0
    assert command.simulate(range(2, 7), minutes=1, jobs=1) == 0
    (path,) = tmp_path.iterdir()
    said = json.loads(path.read_text(encoding="utf-8"))
    assert said["seeds"] == [[0, 7]]
    assert said["schedules"] == 7
    assert said["steps"] == sum(len(generate(seed).steps) for seed in range(7))
    assert "7 schedules" in capsys.readouterr().out
