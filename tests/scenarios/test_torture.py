"""The benchmark of hostile extras and ends still runs, and tells a missed goal."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report import show
from benchmarks.torture import goals, tables
from benchmarks.torture_blade import SCENARIOS
from benchmarks.torture_values import HOSTILE

ROOT = Path(__file__).parents[2]


def test_hostile_extras_pass_through_the_handler() -> None:
    """All twenty go through a real ShardHandler and arrive, whole or marked."""
    command = [sys.executable, "-m", "benchmarks.torture_hostile", "shard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]

    assert [row["case"] for row in rows] == list(HOSTILE)
    assert {row["outcome"] for row in rows} == {"ok", "marked"}


def report(outcome: str, missing: int, seconds: float | None) -> dict[str, Any]:
    """A report of ShardHandler alone, in which all cases went alike."""
    about = {"python": "3.11"}
    hostile = {case: {"outcome": outcome, "us": 9.5} for case in HOSTILE}
    ends = {
        name: {"arrived": calls - missing, "expected": calls, "seconds": seconds}
        for name, (_, calls, _) in SCENARIOS.items()
    }
    measured: dict[str, Any] = {
        "about": about,
        "hostile": {"shard": hostile},
        "lifecycle": {"shard": ends},
        "exit_without_receiver_s": {"shard": seconds},
        "import_ms": {"zmq": 20.0, "shardlog.handler": 40.0},
        "threads_before_first_call": 0,
    }
    return {**measured, "goals": goals(measured)}


def test_goals_are_met_or_missed() -> None:
    """A call that raises, one that is missing and an end that hangs each miss a goal."""
    missed = {goal["goal"] for goal in report("RAISES", 1, None)["goals"] if not goal["met"]}

    assert all(goal["met"] for goal in report("ok", 0, 0.25)["goals"])
    assert missed == {
        "hostile extras taken or marked",
        "calls missing or doubled after an orderly end",
        "later end without a collector, s",
    }


def test_tables_show_what_is_missing() -> None:
    """Handlers that could not be had are in the tables as missing, and a hang as a hang."""
    text = io.StringIO()
    missed = report("marked", 1, None)
    show(tables(missed), missed["about"], Console(file=text, width=200))

    assert "marked 10" in text.getvalue()
    assert "199 (hangs)" in text.getvalue()
    assert "missing" in text.getvalue()
    assert "MISSED" in text.getvalue()
