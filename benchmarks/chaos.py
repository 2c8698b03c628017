"""Counts that stay exact while everything is killed: `make chaos`.

Real processes on this machine: eight blades that count as fast as they may, their collector and an
aggregator. For a while all of them are killed at random (kill -9) and started again; some blades
end in an orderly way, a part of these while no collector is there. Then what each process counted,
path by path, is compared with the tally that it kept beside shardlog (`benchmarks.chaos_blade`). A
monitor that was connected all the time has looked whether the total ever went down.

Twice: with records that are kept, and with records that are forgotten after 5 s, so that their
counts collapse; there all nodes are killed once more before that is over, and once more after.

Results are printed, and kept in benchmarks/results/. Exit code 1: a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.chaos_blade import PATTERN, Tally, counted_at
from benchmarks.chaos_sight import Sight
from benchmarks.chaos_storm import Storm, cluster_of
from benchmarks.report import Rows, about, goal, goal_rows, keep, show
from shardlog.monitor import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.status import Status

    from benchmarks.chaos_sight import Dip
    from benchmarks.chaos_storm import Run
    from shardlog.monitor import Cluster as View

BLADES = 8
SECONDS = 60.0
SETTLED_S = 60.0
"""When it is not settled after so long, it will not be."""
REACHED_S = 10.0
"""For so long an aggregator that was started again may lack what it was not told yet."""
RETENTIONS = {"kept": "24h", "collapsed": "5s"}
COLLAPSED = "~"

out = Console(stderr=True)


def main() -> int:
    """Storm twice, print, keep."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each storm")
    parser.add_argument("--blades", type=int, default=BLADES, help="how many count at once")
    parser.add_argument("--seed", type=int, default=1, help="of what is killed when")
    parser.add_argument("--try", action="store_true", dest="tries", help="nothing is kept")
    flags = parser.parse_args()
    report: dict[str, Any] = {"about": about() | {"seed": str(flags.seed)}}
    try:
        with out.status("chaos") as status:
            for name, retention in RETENTIONS.items():
                status.update(f"{name}: it begins")
                rng = random.Random(flags.seed)
                report[name] = storm(
                    status, name, {"intents/*": retention}, rng, flags.blades, flags.seconds
                )
    except KeyboardInterrupt:
        return 130
    report["goals"] = goals(report)
    if flags.json:
        print(json.dumps(report, indent=1))
    else:
        show(tables(report), report["about"], Console())
    if not flags.tries:
        keep("chaos", report, tables(report))
    return 0 if all(row["met"] for row in report["goals"]) else 1


def storm(
    status: Status,
    name: str,
    retention: dict[str, str],
    rng: random.Random,
    blades: int,
    seconds: float,
) -> dict[str, Any]:
    """One storm and what it left."""
    with cluster_of(retention) as cluster, connect(cluster.url) as view:
        sight = Sight(view, PATTERN)
        sight.start()
        storm = Storm(cluster, blades, rng)
        try:
            began_s = time.monotonic()
            while (now_s := time.monotonic()) < began_s + seconds:
                storm.blow(min(now_s + 1, began_s + seconds))
                killed = ", ".join(f"{times} {what}s" for what, times in storm.kills.items())
                status.update(f"{name}: {now_s - began_s:.0f} of {seconds:.0f} s; killed: {killed}")
            storm.end()
            status.update(f"{name}: the last settles")
            settle(lambda: storm.is_quiet() and all(row["right"] for row in verdicts(storm, view)))
            totals = [view.total(PATTERN)]
            if name == "collapsed":
                totals += collapse(status, storm, view)
        finally:
            storm.close()
            sight.close()
        rows = verdicts(storm, view)
        within, across = sort_dips(sight.dips, storm)
        return {
            "seconds": seconds,
            "runs": rows,
            "kills": dict(storm.kills),
            "totals": totals,
            "expected": sum(row["arrived"] for row in rows),
            "refused": view.total("shardlog/health/**/refused/*"),
            "records": sorted(intents(view)),
            "looks": sight.looks,
            "dips": [vars(dip) for dip in within],
            "dips_after_aggregators": [vars(dip) for dip in across],
        }


def collapse(status: Status, storm: Storm, view: View) -> list[float]:
    """The total after a restart of all nodes, after all records are gone, and after another."""
    totals: list[float] = []
    before = view.total(PATTERN)
    for what in ("before", "after"):
        status.update(f"collapsed: all nodes start again {what} the last records go")
        storm.kill_nodes("collector", "aggregator")
        settle(lambda: view.total(PATTERN) == before)
        totals.append(view.total(PATTERN))
        status.update("collapsed: the last records go")
        settle(lambda: set(intents(view)) == {COLLAPSED})
        totals.append(view.total(PATTERN))
    return totals


def settle(condition: Callable[[], bool]) -> None:
    """Wait until it holds, but not for ever: the verdict comes later."""
    end_s = time.monotonic() + SETTLED_S
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.1)


def intents(view: View) -> dict[str, Any]:
    """All intents that a monitor shows now; an aggregator that has just started may show none."""
    found: dict[str, Any] = view[()].get("intents", {})
    return found


def arrivals(view: View) -> dict[str, dict[str, int]]:
    """What arrived, by blade and intent."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for intent, said in intents(view).items():
        for blade, answer in said["resolution"].items():
            found[blade][intent] = sum(item["tries"] for item in answer["item_scraped"].values())
    return found


def is_right(tally: Tally, arrived: dict[str, int], *, has_left: bool) -> bool:
    """Whether what arrived is what it must be, at each path that is left, and in all.

    Of a process that left: exactly what it counted. Of one that was killed: all that its collector
    had acknowledged, and nothing that it had not begun to count.

    >>> tally = Tally(begun=1201, done=1200, flushed=900, stored=1100, first_ns=0, last_ns=1)
    >>> is_right(tally, {"0": 1000, "1": 100}, has_left=False)
    True
    >>> is_right(tally, {"0": 999, "1": 200}, has_left=False)
    False
    """
    least, most = (tally.done, tally.done) if has_left else (tally.stored, tally.begun)
    is_whole = COLLAPSED not in arrived
    return least <= sum(arrived.values()) <= most and all(
        (counted_at(int(intent), least) if is_whole else 0) <= n <= counted_at(int(intent), most)
        for intent, n in arrived.items()
        if intent != COLLAPSED
    )


def verdicts(storm: Storm, view: View) -> list[dict[str, Any]]:
    """What became of the counts of each process."""
    found = arrivals(view)
    return [verdict(storm, run, found.get(run.blade, {})) for run in storm.runs]


def verdict(storm: Storm, run: Run, by_intent: dict[str, int]) -> dict[str, Any]:
    """What became of the counts of one."""
    tally, arrived = run.tally, sum(by_intent.values())
    seconds = (tally.last_ns - tally.first_ns) / 1e9
    return {
        "blade": run.blade,
        "end": "left" if run.has_left else "killed",
        "left_alone": run.left_alone,
        "had_collector": storm.had_collector(run),
        "counted": tally.done,
        "arrived": arrived,
        "missing": max(tally.done - arrived, 0),
        "unflushed": tally.done - tally.flushed,
        "unstored": tally.done - tally.stored,
        "per_s": round(tally.done / seconds) if seconds > 0.5 else None,
        "right": is_right(tally, by_intent, has_left=run.has_left),
    }


def sort_dips(dips: list[Dip], storm: Storm) -> tuple[list[Dip], list[Dip]]:
    """Those while the aggregator was there, and those that its start explains."""
    within: list[Dip] = []
    across: list[Dip] = []
    for dip in dips:
        is_explained = any(
            outage.killed_s <= dip.began_s <= outage.ready_s + REACHED_S
            for outage in storm.outages["aggregator"]
        )
        (across if is_explained else within).append(dip)
    return within, across


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What is promised, and whether that was so."""
    rows: list[dict[str, Any]] = []
    for name in RETENTIONS:
        found = report[name]
        left = [run for run in found["runs"] if run["end"] == "left"]
        killed = [run for run in found["runs"] if run["end"] == "killed"]
        wrong = sum(not run["right"] for run in left)
        out_of_bounds = sum(not run["right"] for run in killed)
        beside = [run for run in killed if run["had_collector"] and run["counted"]]
        late = sum(run["missing"] > run["unflushed"] for run in beside)
        dips = len(found["dips"])
        rows += [
            goal(f"{name}: processes that left and are not exact", wrong, "0", met=not wrong),
            goal(
                f"{name}: killed ones that show what was not counted, or lack what was stored",
                out_of_bounds,
                "0",
                met=not out_of_bounds,
            ),
            goal(
                f"{name}: of {len(beside)} killed beside a collector lost more than the flush",
                late,
                "0",
                met=bool(beside) and not late,
            ),
            goal(f"{name}: log calls refused", found["refused"], "0", met=not found["refused"]),
            goal(f"{name}: times that a total went down", dips, "0", met=not dips),
        ]
        dips = len(found["dips_after_aggregators"])
        what = f"{name}: times that a total went down as an aggregator started"
        rows.append(goal(what, dips, "0", met=not dips))
    found = report["collapsed"]
    changes = len({*found["totals"], found["expected"]}) - 1
    is_gone = found["records"] == [COLLAPSED]
    rows += [
        goal("collapsed: times that the total changed", changes, "0", met=not changes),
        goal("collapsed: records left", len(found["records"]) - 1, "0", met=is_gone),
    ]
    return rows


def tables(report: dict[str, Any]) -> list[Rows]:
    """All that is shown of a report."""
    heads = ["", *RETENTIONS]
    columns = [summary(report[name]) for name in RETENTIONS]
    rows = [[what, *(column[what] for column in columns)] for what in columns[0]]
    return [
        Rows("Chaos: what was killed, and what became of the counts", heads, rows),
        goal_rows("Goals", report["goals"]),
    ]


def summary(found: dict[str, Any]) -> dict[str, str]:
    """One storm in a few lines."""
    runs = found["runs"]
    killed = [run for run in runs if run["end"] == "killed" and run["counted"]]
    left = [run for run in runs if run["end"] == "left"]
    rates = [run["per_s"] for run in runs if run["per_s"]] or [0]
    counted = sum(run["counted"] for run in runs)
    missing = [run["missing"] for run in killed] or [0]
    beside = [run["missing"] for run in killed if run["had_collector"]]
    across = found["dips_after_aggregators"]
    longest_s = max((dip["ended_s"] - dip["began_s"] for dip in across), default=0)
    return {
        "counts": f"{counted:,}",
        "counts/s of a blade, median (least, most)": (
            f"{statistics.median(rates):,.0f} ({min(rates):,}, {max(rates):,})"
        ),
        "kills of collector, aggregator, blades": ", ".join(
            str(found["kills"].get(what, 0)) for what in ("collector", "aggregator", "blade")
        ),
        "processes": str(len(runs)),
        "left by themselves (without a collector)": (
            f"{len(left)} ({sum(run['left_alone'] for run in left)})"
        ),
        "of these not exact": str(sum(not run["right"] for run in left)),
        "killed at work (beside a collector)": (
            f"{len(killed)} ({sum(run['had_collector'] for run in killed)})"
        ),
        "missing of a killed one, median (most)": (
            f"{statistics.median(missing):,.0f} ({max(missing):,})"
        ),
        "of those beside a collector, median (most)": (
            f"{statistics.median(beside):,.0f} ({max(beside):,})" if beside else "none"
        ),
        "missing in all": f"{sum(run['missing'] for run in runs):,}",
        "a monitor's looks at the total": f"{found['looks']:,}",
        "it went down": str(len(found["dips"])),
        "it went down as an aggregator started (longest)": f"{len(across)} ({longest_s:.1f} s)",
    }


if __name__ == "__main__":
    sys.exit(main())
