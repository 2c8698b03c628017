"""What shardlog costs beside others that do the same work: `make bench`.

Printed, and kept in benchmarks/results/, with a chart. With `--check` the exit code is 1 where a
goal is missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.environment import CACHE, environment
from benchmarks.report import RESULTS, ROOT, Rows, about, goal, goal_rows, keep, show

if TYPE_CHECKING:
    from benchmarks.speed.case import Case

CASES = {
    1: "handlers",
    2: "handlers_cpu",
    3: "counting",
    4: "merging",
    5: "collecting",
    6: "latency",
    7: "memory",
    8: "growth",
}
"""The module of each case, which are as numbered in docs/performance.md."""
REQUIREMENTS = ROOT / "benchmarks" / "requirements-speed.txt"

out = Console(stderr=True)


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit code 1 where a goal is missed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--case", type=int, action="append", choices=CASES, help="this alone; nothing is kept"
    )
    flags = parser.parse_args()
    if Path(sys.prefix) != CACHE / "speed-venv":
        with out.status("the environment of those who are compared"):
            python, missing = environment("speed", REQUIREMENTS, with_shardlog=True)
        if missing:
            out.print(f"pip cannot install {', '.join(missing)}")
        os.execv(python, [str(python), "-m", "benchmarks.speed", *sys.argv[1:]])
    report: dict[str, Any] = {"about": about(), "cases": [], "goals": []}
    try:
        with out.status("bench") as status:
            for number in flags.case or CASES:
                module = importlib.import_module(f"benchmarks.speed.{CASES[number]}")

                def tell(said: str, number: int = number) -> None:
                    status.update(f"case {number}: {said}")

                found: Case | list[Case] = module.measure(tell)
                for case in found if isinstance(found, list) else [found]:
                    goals = [g._asdict() for g in case.goals]
                    report["cases"].append(case._asdict() | {"goals": goals})
                    report["goals"] += [
                        goal(
                            f"{number}. {g.what}",
                            round(g.value, 3),
                            f"{'>=' if g.is_floor else '<='} {g.limit:g}",
                            met=g.is_met,
                        )
                        for g in case.goals
                    ]
    except KeyboardInterrupt:
        return 130
    if flags.json:
        print(json.dumps(report, indent=1))
    else:
        show(tables(report), report["about"], Console())
    if not flags.case:
        from benchmarks.speed.chart import draw

        keep("speed", report, tables(report))
        draw(report["cases"], RESULTS / "speed.svg")
    return 1 if flags.check and not all(row["met"] for row in report["goals"]) else 0


def tables(report: dict[str, Any]) -> list[Rows]:
    """All that is shown of a report."""
    return [
        *(
            Rows(
                f"{case['number']}. {case['title']}, {case['unit']}",
                ["", "median", "least", "most"],
                [
                    [name, *(f"{value:,.4g}" for value in (median(v), min(v), max(v)))]
                    for name, v in case["values"].items()
                ]
                + [[name, f"missing: {why}", "", ""] for name, why in case["missing"].items()],
            )
            for case in report["cases"]
        ),
        goal_rows("Goals", report["goals"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
