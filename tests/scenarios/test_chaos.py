"""The benchmark of counts under chaos still runs, and would tell a count that is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import RETENTIONS, goals, is_right
from benchmarks.chaos_blade import STEP, Tally
from benchmarks.chaos_sight import Dip

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_counts_are_exact_while_everything_is_killed() -> None:
    """Two short storms, of records that are kept and of such that collapse: all goals are met, and
    something was killed, and some processes left.
    """
    command = [sys.executable, "-m", "benchmarks.chaos", "--try", "--json"]
    storm = ["--seconds", "5", "--blades", "4"]
    done = subprocess.run([*command, *storm], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)

    assert [row for row in report["goals"] if not row["met"]] == []
    for name in RETENTIONS:
        assert report[name]["kills"]["blade"] > 1
        assert {run["end"] for run in report[name]["runs"]} == {"left", "killed"}
        assert report[name]["expected"] > STEP


TALLY = Tally(
    begun=STEP + 201, done=STEP + 200, flushed=STEP, stored=STEP + 100, first_ns=0, last_ns=1
)


@pytest.mark.parametrize(
    ("first", "second", "if_left", "if_killed"),
    [
        (STEP, 200, True, True),
        (STEP, 201, False, True),  # the last was not known to be done
        (STEP, 202, False, False),  # more than was begun
        (STEP, 100, False, True),
        (STEP, 99, False, False),  # less than was stored
        (STEP - 1, 201, False, False),  # enough in all, but not at its path
        (STEP + 1, 150, False, False),
    ],
)
def test_what_arrived_is_judged_path_by_path(
    first: int, second: int, if_left: bool, if_killed: bool
) -> None:
    """Of a process that left exactly what it counted is right, of a killed one what is between the
    acknowledged and the begun.
    """
    arrived = {"0": first, "1": second}
    assert is_right(TALLY, arrived, has_left=True) == if_left
    assert is_right(TALLY, arrived, has_left=False) == if_killed


def test_what_has_collapsed_is_judged_in_all() -> None:
    """Where a part is at `~`, the sum decides."""
    assert is_right(TALLY, {"1": 50, "~": STEP + 150}, has_left=True)
    assert not is_right(TALLY, {"1": 50, "~": STEP + 151}, has_left=True)


def test_goals_are_missed_by_what_is_wrong() -> None:
    """A wrong count, a lost flush, a refused call, a dip and a total that changed each miss one."""
    run: dict[str, Any] = {"right": False, "missing": 9, "unflushed": 8, "counted": 10}
    found: dict[str, Any] = {
        "runs": [run | {"end": end, "had_collector": True} for end in ("left", "killed")],
        "refused": 1,
        "dips": [vars(Dip(1.0, 2.0, 3))],
        "dips_after_aggregators": [vars(Dip(1.0, 2.0, 3))],
        "totals": [7, 8],
        "expected": 7,
        "records": ["5", "~"],
    }

    assert not any(row["met"] for row in goals(dict.fromkeys(RETENTIONS, found)))


def test_a_flush_that_nothing_was_seen_of_is_no_goal_met() -> None:
    """Where no process was killed beside a collector nothing says that its last flush is all that
    is missing.
    """
    found: dict[str, Any] = {
        "runs": [],
        "refused": 0,
        "dips": [],
        "dips_after_aggregators": [],
        "totals": [7],
        "expected": 7,
        "records": ["~"],
    }
    missed = [row for row in goals(dict.fromkeys(RETENTIONS, found)) if not row["met"]]

    assert len(missed) == len(RETENTIONS)
    assert all("than the flush" in row["goal"] for row in missed)
