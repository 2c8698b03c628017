"""What log handlers do to the programs that use them: `make torture`.

Two tables, ShardHandler beside others: hostile extras, and ways to begin and to end. They are
printed, and kept in benchmarks/results/. Exit code 1: ShardHandler has missed a goal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.status import Status

from benchmarks.environment import environment
from benchmarks.report import ROOT, Rows, about, goal, goal_rows, keep, show
from benchmarks.torture_blade import SCENARIOS
from benchmarks.torture_handlers import HANDLERS
from benchmarks.torture_lifecycle import (
    exit_without_receiver,
    import_ms,
    lifecycle,
    threads_before_first_call,
)
from benchmarks.torture_values import HOSTILE

REQUIREMENTS = ROOT / "benchmarks" / "requirements-torture.txt"
CASE_S_MAX = 180

CALL_US_MAX = 1000.0
EXIT_S_MAX = 0.5
IMPORT_RATIO_MAX = 3.0
WHOLE = ("exit", "end", "term-handled", "mp-fork", "mp-forkserver", "mp-spawn", "fork-exit", "late")
"""The scenarios in which nothing may be missing: the program ends in an orderly way."""

out = Console(stderr=True)


def main() -> int:
    """Torture, print, keep."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--alone", action="store_true", help="ShardHandler only, nothing is kept")
    flags = parser.parse_args()
    try:
        with out.status("torture") as status:
            report = torture(status, ["shard"] if flags.alone else list(HANDLERS))
    except KeyboardInterrupt:
        return 130
    if flags.json:
        print(json.dumps(report, indent=1))
    else:
        show(tables(report), report["about"], Console())
    if not flags.alone:
        keep("torture", report, tables(report))
    return 0 if all(goal["met"] for goal in report["goals"]) else 1


def torture(status: Status, handlers: list[str]) -> dict[str, Any]:
    """Measure everything; what could not be is missing."""
    hostile: dict[str, dict[str, Any]] = {}
    ends: dict[str, dict[str, Any]] = {}
    exits: dict[str, float | None] = {}
    for handler in handlers:
        status.update(f"{HANDLERS[handler]}: its environment")
        python = python_for(handler)
        if python is None:
            continue
        hostile[handler] = {}
        for row in hostile_rows(handler, python):
            hostile[handler][row.pop("case")] = row
            status.update(f"{HANDLERS[handler]}: {len(hostile[handler])} of {len(HOSTILE)} extras")
        ends[handler] = {}
        for row in lifecycle(handler, python):
            ends[handler][row.pop("scenario")] = row
            status.update(f"{HANDLERS[handler]}: {len(ends[handler])} of {len(SCENARIOS)} ends")
        status.update(f"{HANDLERS[handler]}: the end without a receiver")
        exits[handler] = exit_without_receiver(handler, python, 5 if handler == "shard" else 1)
    status.update("imports")
    report = {
        "about": about(),
        "hostile": hostile,
        "lifecycle": ends,
        "exit_without_receiver_s": exits,
        "import_ms": import_ms("zmq", "shardlog.handler"),
        "threads_before_first_call": threads_before_first_call(),
    }
    return {**report, "goals": goals(report)}


def python_for(handler: str) -> str | None:
    """The Python that has what the handler needs; None if that cannot be had."""
    if handler != "otel":
        return sys.executable
    python, missing = environment("torture", REQUIREMENTS)
    if missing:
        out.print(f"{HANDLERS[handler]} is missing: pip cannot install {', '.join(missing)}")
    return None if missing else str(python)


def hostile_rows(handler: str, python: str) -> Iterator[dict[str, Any]]:
    """The rows of one handler as they come; after a crash or a hang there are no more."""
    with _process([python, "-m", "benchmarks.torture_hostile", handler]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)


@contextmanager
def _process(command: list[str]) -> Generator[subprocess.Popen[str]]:
    # `timeout` of coreutils ends it where it hangs: reading its lines has no time limit.
    process = subprocess.Popen(
        ["timeout", str(CASE_S_MAX), *command],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What ShardHandler promises, and whether that was so."""
    cases, ends = report["hostile"]["shard"], report["lifecycle"]["shard"]
    fine = [case for case in cases.values() if case["outcome"] in ("ok", "marked")]
    slowest = max((case["us"] for case in cases.values()), default=0.0)
    missing = sum(abs(ends[name]["expected"] - ends[name]["arrived"]) for name in WHOLE)
    seconds = report["exit_without_receiver_s"]["shard"]
    ratio = round(report["import_ms"]["shardlog.handler"] / report["import_ms"]["zmq"], 2)
    threads = report["threads_before_first_call"]
    rows = [
        ("hostile extras taken or marked", len(fine), f"{len(HOSTILE)}", len(fine) == len(HOSTILE)),
        ("slowest of their calls, us", slowest, f"<= {CALL_US_MAX:.0f}", slowest <= CALL_US_MAX),
        ("calls missing or doubled after an orderly end", missing, "0", missing == 0),
        (
            "later end without a collector, s",
            seconds,
            f"<= {EXIT_S_MAX}",
            seconds is not None and seconds <= EXIT_S_MAX,
        ),
        (
            "import, times that of zmq in CPU",
            ratio,
            f"< {IMPORT_RATIO_MAX}",
            ratio < IMPORT_RATIO_MAX,
        ),
        ("threads before the first call", threads, "0", threads == 0),
    ]
    return [goal(name, value, limit, met=met) for name, value, limit, met in rows]


def tables(report: dict[str, Any]) -> list[Rows]:
    """All that is shown of a report."""
    names = list(HANDLERS.values())
    hostile, ends = report["hostile"], report["lifecycle"]
    exits = report["exit_without_receiver_s"]
    return [
        Rows(
            "Hostile extras: what becomes of them, and what the log call takes, us",
            ["extra", *names],
            [[case, *(_case(hostile, name, case) for name in HANDLERS)] for case in HOSTILE],
        ),
        Rows(
            "Beginnings and ends: log calls that arrive, and what the program takes, s",
            ["program", "calls", *names],
            [
                [title, str(calls), *(_end(ends, name, scenario) for name in HANDLERS)]
                for scenario, (title, calls, _) in SCENARIOS.items()
            ]
            + [
                ["without a receiver: later end, s", "", *(_exit(exits, name) for name in HANDLERS)]
            ],
        ),
        goal_rows("Goals of ShardHandler", report["goals"]),
    ]


def _case(hostile: dict[str, Any], handler: str, case: str) -> str:
    if handler not in hostile:
        return "missing"
    row = hostile[handler].get(case)
    return f"{row['outcome']} {row['us']:,.0f}" if row else "crashed"


def _end(ends: dict[str, Any], handler: str, scenario: str) -> str:
    if handler not in ends:
        return "missing"
    row = ends[handler][scenario]
    seconds = "hangs" if row["seconds"] is None else f"{row['seconds']:.1f} s"
    return f"{row['arrived']} ({seconds})"


def _exit(exits: dict[str, Any], handler: str) -> str:
    if handler not in exits:
        return "missing"
    return "hangs" if exits[handler] is None else f"{exits[handler]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
