"""What live tests cost at 100,000 live intents: `make live`.

One engine with one ladder of two rungs for every intent; fed as by a monitor's link, with deltas of
one row. All intents are asked; each starts, and says how it goes, and none ends, until the deltas
are counted. Then all deadlines come, spread over some seconds, at the real clock.

Goals: 30,000 deltas judged per second, 5 kB per live intent, its state included, and a deadline's
verdict 20 ms after it at the latest. The best of five runs counts: the machine is shared.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report import Rows, about, goal, goal_rows, keep, show
from shardlog.crdt.delta import COUNTER, REGISTER
from shardlog.crdt.replication.messages import LANES, Changes, Heartbeat, HostStatus, Row
from shardlog.monitor.feed import Heard, Moved, Whole
from shardlog.monitor.live.declared import Test
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.garbage import freeze_survivors
from shardlog.monitor.live.properties import ladder, rung
from shardlog.monitor.live.verdict import Verdict

INTENTS = 100_000
RUNS = 5
SECOND = 10**9
SPREAD_S = 10
"""Over how long the deadlines are spread."""
WRITERS = ["orchestrator@node-1:1:1:1:1", "scraper-1@node-2:1:1:1:1"]

STEPS = ("asked", "started", "counted", "counted again")

DELTAS_MIN = 30_000
BYTES_MAX = 5_000
LATE_MS_MAX = 20


def answered(intent: Any, live: Any) -> Any:
    """The running example's: the scraper starts, and somebody else receives."""
    del live
    return ladder(
        rung("started", lambda: intent.host in intent.resolution, within=1000),
        rung("received", lambda: any(h != intent.host for h in intent.resolution), within=2000),
    )


def asked(intent: int, at_ns: int) -> list[Row]:
    """What the orchestrator says."""
    path = f"intents/{intent}"
    return [
        Row(f"{path}/host", REGISTER, "scraper-1", at_ns, 0),
        Row(f"{path}/module", REGISTER, "scrape_pages==1.4", at_ns + 1, 0),
    ]


def started(intent: int, at_ns: int) -> Row:
    """What the scraper says first."""
    return Row(f"intents/{intent}/resolution/scraper-1/state", REGISTER, "started", at_ns, 1)


def counted(intent: int, n: int, at_ns: int) -> Row:
    """What the scraper counts."""
    path = f"intents/{intent}/resolution/scraper-1/item_scraped/pages.local/tries"
    return Row(path, COUNTER, n, at_ns, -1)


def heard(at_ns: int) -> Heard:
    """All hosts are live, and have told all."""
    hosts = [HostStatus(f"node-{n}", f"r{n}", "live", 0, at_ns) for n in (1, 2)]
    return Heard(at_ns, Heartbeat("a", "e", at_ns, 1000, [0] * LANES, hosts, {}))


def events(intents: int, what: str, now_ns: int) -> Iterator[Moved]:
    """One delta for each intent."""
    for intent in range(intents):
        at_ns = now_ns + intent
        match what:
            case "asked":
                rows = asked(intent, at_ns)
            case "started":
                rows = [started(intent, at_ns)]
            case _:
                rows = [counted(intent, 1 + (what != "counted"), at_ns)]
        yield Moved(at_ns, Changes(WRITERS, rows))


def begun(now_ns: int) -> Engine:
    """An engine that has heard all hosts."""
    engine = Engine([Test(answered, "intents/*")])
    engine.receive(Whole(now_ns, ()))
    engine.receive(heard(now_ns))
    return engine


def deltas_per_s(intents: int) -> float:
    """How many deltas of one row are judged in a second."""
    now_ns = time.time_ns()
    engine = begun(now_ns)
    taken_s = 0.0
    for what in STEPS:
        made = [*events(intents, what, now_ns)]  # what is measured is judging, not making
        gc.collect()
        began = time.perf_counter()
        for event in made:
            engine.receive(event)
            engine.take_effects()
        taken_s += time.perf_counter() - began
    check(engine, intents)
    return len(STEPS) * intents / taken_s


def bytes_per_intent(intents: int) -> float:
    """What an intent takes of the machine's memory, with its state."""
    now_ns = time.time_ns()
    engine = begun(now_ns)
    gc.collect()
    before = resident_bytes()
    for what in STEPS:
        for event in events(intents, what, now_ns):
            engine.receive(event)
            engine.take_effects()
    gc.collect()
    used = resident_bytes() - before
    check(engine, intents)
    return used / intents


def check(engine: Engine, intents: int) -> None:
    """All have started, and wait to be received."""
    (group,) = engine.groups.values()
    assert group.counts() == {Verdict.PENDING: intents}
    assert all("2/2" in instance.asked[0].message for instance in group.open.values())


def lateness_ms(intents: int) -> float:
    """How late the latest verdict was, when all deadlines come at the real clock."""

    def due(intent: Any, live: Any) -> Any:
        del live
        at_s = intent.after
        return ladder(rung("started", lambda: intent.host in intent.resolution, within=at_s))

    engine = Engine([Test(due, "intents/*")], lateness_ms=0)
    begin_ns = time.time_ns()
    engine.receive(Whole(begin_ns, ()))
    engine.receive(heard(begin_ns))
    for intent in range(intents):
        path = f"intents/{intent}"
        rows = [
            Row(f"{path}/host", REGISTER, "scraper-1", begin_ns, 0),
            Row(f"{path}/after", REGISTER, 60 + SPREAD_S * intent / intents, begin_ns, 0),
        ]
        engine.receive(Moved(begin_ns, Changes(WRITERS, rows)))
    engine.take_effects()
    gc.collect()
    # From here on the clock runs; the first deadline is now.
    offset_ns = begin_ns + 60 * SECOND - time.time_ns()
    worst_ns = judged = 0
    while judged < intents:
        due_ns = engine.next_timer_ns()
        assert due_ns is not None
        now_ns = time.time_ns() + offset_ns
        if due_ns > now_ns:
            time.sleep((due_ns - now_ns) / SECOND)
            continue
        engine.handle_timer(now_ns)
        late_ns = time.time_ns() + offset_ns - due_ns
        failed = sum(t.condition.verdict is Verdict.FAIL for t in engine.take_effects())
        if failed:
            judged += failed
            worst_ns = max(worst_ns, late_ns)
    return worst_ns / 1e6


MEASURES = {
    "bytes_per_intent": bytes_per_intent,
    "deltas_per_s": deltas_per_s,
    "late_ms": lateness_ms,
}
"""Each in a process of its own."""


def resident_bytes() -> int:
    """What this process takes of the machine's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="live", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--measure", choices=MEASURES, help="this alone, once")
    parser.add_argument("--intents", type=int, default=INTENTS, help=f"how many ({INTENTS})")
    flags = parser.parse_args()
    freeze_survivors()  # as `shardlog test` does
    if flags.measure is not None:
        print(MEASURES[flags.measure](flags.intents))
        return 0
    runs: list[dict[str, float]] = []
    with Console(stderr=True).status("live") as status:
        for number in range(RUNS):
            run: dict[str, float] = {}
            for name in MEASURES:
                status.update(f"run {number + 1} of {RUNS}: {name}")
                command = [sys.executable, "-m", "benchmarks.live", "--measure", name]
                run[name] = float(subprocess.run(command, check=True, capture_output=True).stdout)
            runs.append(run)
    report = assess(runs)
    if flags.json:
        print(json.dumps(report, indent=1))
    else:
        show(tables(report), report["about"], Console())
    keep("live", report, tables(report))
    return int(not all(row["met"] for row in report["goals"]))


def assess(runs: list[dict[str, float]]) -> dict[str, Any]:
    """The best of each, and what was promised."""
    deltas = round(max(run["deltas_per_s"] for run in runs))
    used = round(min(run["bytes_per_intent"] for run in runs))
    late = round(min(run["late_ms"] for run in runs), 2)
    goals = [
        goal("deltas judged per second", deltas, f">= {DELTAS_MIN}", met=deltas >= DELTAS_MIN),
        goal("bytes per live intent", used, f"<= {BYTES_MAX}", met=used <= BYTES_MAX),
        goal("the latest verdict, ms", late, f"<= {LATE_MS_MAX}", met=late <= LATE_MS_MAX),
    ]
    return {"about": about(), "intents": INTENTS, "runs": runs, "goals": goals}


def tables(report: dict[str, Any]) -> list[Rows]:
    """All runs, and the goals."""
    heads = ["run", "deltas/s", "bytes per intent", "latest verdict, ms"]
    rows = [
        [str(n), *(f"{run[name]:,.4g}" for name in ("deltas_per_s", "bytes_per_intent", "late_ms"))]
        for n, run in enumerate(report["runs"], start=1)
    ]
    return [Rows("Runs", heads, rows), goal_rows("Goals", report["goals"])]


if __name__ == "__main__":
    sys.exit(main())
