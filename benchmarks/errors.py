"""What a storm of errors does to all else: `make errors`.

Four blades on one host raise and log 2,500 exceptions a second each, every one of a type of its
own, for ten seconds. A fifth logs a line 20 times a second, with the time; a monitor sees how late
each comes. Then all is counted, and `shardlog errors` is run.

Goals: every error counted; of a host 1,000 groups, and `overflow`; a line no later than three
intervals of flushing; the memory of a blade, and of the collector, grows by 64 MB at most.
The best of three runs counts: the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report import Rows, about, goal, goal_rows, keep, show
from shardlog.handler import ShardHandler
from shardlog.handler.errors import GROUPS_MAX
from shardlog.handler.shell import FLUSH_INTERVAL_NS
from shardlog.monitor import connect
from tests.helpers import eventually
from tests.scenarios.processes import Cluster, running

BLADES = 4
RATE = 2_500
SECONDS = 10
RUNS = 3
PROBE_S = 0.05
STARTING_S = 5
LATE_MS_MAX = 3 * FLUSH_INTERVAL_NS // 1_000_000
GROWTH_MB_MAX = 64


def storm(blade: str, seconds: int, start: float) -> dict[str, float]:
    """One blade's part, at a time: how many it logged, what a log call took, and how it grew."""
    handler = ShardHandler(blade=blade)
    log = logging.Logger("blade")  # noqa: LOG001 - nobody else is to hear it
    log.addHandler(handler)
    log.error("first")
    time.sleep(max(start - time.time(), 0))
    before = resident_mb(os.getpid())
    began = time.perf_counter()
    number = 1
    took_s = 0.0
    while (gone_s := time.perf_counter() - began) < seconds:
        while number <= gone_s * RATE:
            number += 1
            error: type[Exception] = type(f"Error{blade}{number}", (Exception,), {})
            try:
                raise error(f"number {number}")
            except error:
                asked = time.perf_counter()
                log.exception("failed")
                took_s += time.perf_counter() - asked
        time.sleep(0.002)
    grown = resident_mb(os.getpid()) - before
    handler.close()
    return {"logged": number, "call_us": took_s / number * 1e6, "grown_mb": grown}


def probe(seconds: int) -> dict[str, float]:
    """Logs lines beside the storm."""
    handler = ShardHandler(blade="probe")
    log = logging.Logger("probe")  # noqa: LOG001
    log.addHandler(handler)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        log.info("line", extra={"probe": {"at": time.time_ns()}})
        time.sleep(PROBE_S)
    handler.close()
    return {}


def resident_mb(pid: int) -> float:
    """What a process takes of the machine's memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def run(blades: int, seconds: int) -> dict[str, float]:
    """One storm, and what it came to."""
    with running() as cluster, connect(cluster.url) as seen:
        collector = cluster.collectors["node-1"].process.pid
        late_ms: list[float] = []
        with seen.watch("probe/at") as lines:
            probing = begin(cluster, seconds + STARTING_S + 4, "--probe")
            next(iter(lines))
            before = resident_mb(collector)
            began, most = time.time() + STARTING_S, before  # not what it takes to start them
            storms = [
                begin(cluster, seconds, f"--blade=blade{n}", f"--at={began}") for n in range(blades)
            ]
            for change in lines:
                if time.time() < began:
                    continue
                assert isinstance(change.new, int)
                late_ms.append((time.time_ns() - change.new) / 1e6)
                if time.time() > began + seconds + 1:
                    break
                most = max(most, resident_mb(collector))
        said = [json.loads(process.communicate()[0]) for process in storms]
        probing.communicate()
        logged = sum(each["logged"] for each in said)
        counts = "shardlog/errors/*/count/**"
        try:
            eventually(lambda: seen.total(counts) >= logged, "all are counted")
        except AssertionError:
            print(f"{seen.total(counts)} of {logged} were counted", file=sys.stderr)
        began = time.perf_counter()
        command = [sys.executable, "-m", "shardlog.cli.main", "errors", "--connect", cluster.url]
        report = subprocess.run(command, capture_output=True, text=True, check=True)
        shown_s = time.perf_counter() - began
        assert "beyond the bound on groups" in report.stdout or logged < GROUPS_MAX
        late_ms.sort()
        return {
            "logged": logged,
            "missing": logged - seen.total(counts),
            "groups": len([name for name in seen["shardlog", "errors"] if name != "overflow"]),
            "late_p50_ms": late_ms[len(late_ms) // 2],
            "late_p99_ms": late_ms[len(late_ms) * 99 // 100],
            "late_max_ms": late_ms[-1],
            "call_us": sum(each["call_us"] for each in said) / len(said),
            "blade_mb": max(each["grown_mb"] for each in said),
            "collector_mb": most - before,
            "report_s": shown_s,
        }


def begin(cluster: Cluster, seconds: int, *role: str) -> subprocess.Popen[str]:
    """One process of the storm."""
    command = [sys.executable, "-m", "benchmarks.errors", *role, "--seconds", str(seconds)]
    environment = {**os.environ, "SHARDLOG_ENDPOINT": cluster.endpoint()}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="errors", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--try", action="store_true", dest="is_try", help="keep nothing, run once")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"how long ({SECONDS})")
    parser.add_argument("--blades", type=int, default=BLADES, help=f"how many ({BLADES})")
    parser.add_argument("--blade", default="", help="one blade's part alone")
    parser.add_argument("--at", type=float, default=0.0, help="when it begins")
    parser.add_argument("--probe", action="store_true", help="the lines beside the storm alone")
    flags = parser.parse_args()
    if flags.blade or flags.probe:
        if flags.probe:
            said = probe(flags.seconds)
        else:
            said = storm(flags.blade, flags.seconds, flags.at)
        print(json.dumps(said))
        return 0
    runs: list[dict[str, float]] = []
    with Console(stderr=True).status("errors") as status:
        for number in range(1 if flags.is_try else RUNS):
            status.update(f"run {number + 1}")
            runs.append(run(flags.blades, flags.seconds))
    report = assess(runs)
    if flags.json:
        print(json.dumps(report, indent=1))
    else:
        show(tables(report), report["about"], Console())
    if not flags.is_try:
        keep("errors", report, tables(report))
    return int(not all(row["met"] for row in report["goals"]))


def assess(runs: list[dict[str, float]]) -> dict[str, Any]:
    """What was promised: the worst of all counts, the best of all times and sizes."""
    missing = max(each["missing"] for each in runs)
    groups = max(each["groups"] for each in runs)
    late = round(min(each["late_p99_ms"] for each in runs), 1)
    grown = round(min(max(each["blade_mb"], each["collector_mb"]) for each in runs), 1)
    goals = [
        goal("errors that are not counted", missing, "0", met=missing == 0),
        goal("groups of the host", groups, f"<= {GROUPS_MAX}", met=groups <= GROUPS_MAX),
        goal("a line beside it, p99, ms", late, f"<= {LATE_MS_MAX}", met=late <= LATE_MS_MAX),
        goal("growth, MB", grown, f"<= {GROWTH_MB_MAX}", met=grown <= GROWTH_MB_MAX),
    ]
    return {"about": about(), "runs": runs, "goals": goals}


def tables(report: dict[str, Any]) -> list[Rows]:
    """All runs, and the goals."""
    names = [*report["runs"][0]]
    rows = [[f"{each[name]:,.4g}" for name in names] for each in report["runs"]]
    heads = [name.replace("_", " ") for name in names]
    return [Rows("Runs", heads, rows), goal_rows("Goals", report["goals"])]


if __name__ == "__main__":
    sys.exit(main())
