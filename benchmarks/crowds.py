"""What processes cost a collector, while they live and after they went: `make bench`.

The collector's real machine and store, without sockets, on virtual time:

1. A crowd: a hundred thousand processes come, count on shared paths and in a record of their own,
   and go: most say bye, some leave an exit file, some are killed. Beside them live the residents of
   a usual host. What is left when the records of the crowd are forgotten, and when its closed ids
   are too? It is compared with what fifty processes leave, one of each blade: the same totals.
2. What one more of each thing takes: a total, a live process at a path, a closed id.
3. What one counter takes on the wire, beyond its path.

Results are printed, and kept in benchmarks/results/. Exit code 1: a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.crowds_host import SECOND, START_NS, Host, Size, outbox, reports
from benchmarks.report import Rows, about, goal, goal_rows, keep, show
from shardlog.crdt.delta import Entry, Fragment, Total
from shardlog.crdt.replication.messages import Delta, Report
from shardlog.crdt.retention import Retention
from shardlog.crdt.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rich.status import Status

PROCESSES = 100_000
RESIDENTS = 100
PATHS = 100
"""So many counters each resident has."""
BLADES = 50
"""So many names of blades are in the crowd, and as many totals are left of it."""
AT_ONCE = BLADES
"""So many of the crowd are there at once, for a second of virtual time: no more than few are."""
SHARED = 5
RETENTION = Retention({"*/*": "1h", "shardlog/presence/*/*": "1h", "shardlog/health/*/*": "1h"})
HOUR_S = 3600
FORGOTTEN_S = 2 * HOUR_S
"""After so long the records of the crowd are forgotten, and its closed ids are not."""
OVER_S = 26 * HOUR_S
"""After so long its closed ids are forgotten too."""
BATCHES = (1, 100, 10_000)
MANY = 10_000
"""Of so many the mean is taken."""

out = Console(stderr=True)


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="crowds", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="how many come and go")
    parser.add_argument("--try", action="store_true", dest="tries", help="nothing is kept")
    flags = parser.parse_args()
    tracemalloc.start()
    try:
        with out.status("crowds") as status:
            report: dict[str, Any] = {
                "about": about(),
                "processes": flags.processes,
                "crowds": crowds(status, flags.processes),
                "each": each(status),
                "wire": wire(),
            }
    except KeyboardInterrupt:
        return 130
    report["goals"] = goals(report)
    if flags.json:
        print(json.dumps(report, indent=1))
    else:
        show(tables(report), report["about"], Console())
    if not flags.tries:
        keep("crowds", report, tables(report))
    return 0 if all(row["met"] for row in report["goals"]) else 1


@contextmanager
def hosted(retention: Retention = RETENTION) -> Generator[Host]:
    """A collector for as long as the block."""
    with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
        host = Host(Path(folder), retention)
        try:
            yield host
        finally:
            host.close()


def crowd(processes: int, tell: Callable[[str], object]) -> dict[str, Size]:
    """What a collector takes when so many processes have gone."""
    sizes: dict[str, Size] = {}
    with hosted() as host:
        residents = list(move_in(host))
        for came in range(0, processes, AT_ONCE):
            tell(f"{came:,} of {processes:,} processes came and went")
            pass_by(host, came, min(AT_ONCE, processes - came))
            stay(host, residents, 1)
        sizes["gone"] = host.size()
        gone_ns = host.now_ns
        for what, seconds in (("forgotten", FORGOTTEN_S), ("over", OVER_S)):
            tell(f"the records of {processes:,} processes are forgotten")
            while host.now_ns < gone_ns + seconds * SECOND:
                stay(host, residents, 60)
            sizes[what] = host.size()
    return sizes


def resident(processes: int) -> dict[str, int]:
    """The resident set then, in a process of its own where nothing is traced."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        sizes = pool.submit(crowd, processes, str).result()
    return {what: size.resident for what, size in sizes.items()}


def crowds(status: Status, processes: int) -> dict[str, dict[str, dict[str, int]]]:
    """What a collector takes after few, and after many."""
    measured: dict[str, dict[str, dict[str, int]]] = {}
    for name, number in (("few", BLADES), ("crowd", processes)):
        sizes = crowd(number, lambda said: status.update(f"crowds: {said}"))
        status.update(f"crowds: the resident set of {number:,} processes")
        residents = resident(number)
        measured[name] = {
            what: size._asdict() | {"resident": residents[what]} for what, size in sizes.items()
        }
    return measured


def move_in(host: Host) -> Iterator[str]:
    """The residents come: each counts at paths of its blade, which last while it lives."""
    for number in range(RESIDENTS):
        blade = f"resident-{number}"
        said = outbox(blade, number, host.now_ns)
        paths = [f"{blade}/pages/{n}/tries" for n in range(PATHS)]
        for report in reports(said, paths, host.now_ns):
            host.hear(report)
        yield said.process
    host.settle()


def stay(host: Host, residents: list[str], seconds: int) -> None:
    """Time passes, and the residents live."""
    host.now_ns += seconds * SECOND
    for process in residents:
        host.machine.alive(process, host.now_ns)
    host.settle()


def pass_by(host: Host, first: int, number: int) -> None:
    """Processes come, count, and go, each in one of the ways that there are."""
    machine, now_ns = host.machine, host.now_ns
    for n in range(first, first + number):
        blade = f"crowd-{n % BLADES}"
        said = outbox(blade, n, now_ns)
        record = f"intents/{n}/resolution/{blade}/item_scraped/pages.local"
        paths = [f"load/{n % SHARED}/tries", f"{record}/tries", f"{record}/item_sent"]
        for report in reports(said, paths, now_ns):
            host.hear(report)
        match n % 10:
            case 0:  # kill -9
                machine.ended(said.process, [], now_ns)
            case 1:  # the collector was away: an exit file
                said.receive_close(now_ns)
                machine.ended(said.process, list(said.last_reports(now_ns, now_ns)), now_ns)
            case _:
                said.receive_close(now_ns)
                for report in reports(said, paths[:1], now_ns):
                    host.hear(report)
                machine.ended(said.process, [], now_ns)
    host.settle()


def each(status: Status) -> dict[str, dict[str, float]]:
    """The bytes that one more takes, in memory and on the disk: the mean of many."""
    paths = [
        f"intents/{n}/resolution/scraper-1/item_scraped/pages.local/tries" for n in range(MANY)
    ]
    measured = {
        "a path": {
            "memory": round(sum(map(sys.getsizeof, paths)) / MANY, 1),
            "disk": round(sum(map(len, paths)) / MANY, 1),
        }
    }
    with hosted() as host:
        count_at(host, 1, paths[:1])
        before = host.size()
        for number, what in ((2, "a total, and a process there"), (3, "one more process there")):
            status.update(f"the bytes of {what}")
            count_at(host, number, paths)
            after = host.size()
            measured[what] = {
                "memory": round((after.memory - before.memory) / MANY, 1),
                "disk": round((after.disk - before.disk) / MANY, 1),
            }
            before = after
    return measured


def count_at(host: Host, number: int, paths: list[str]) -> None:
    """A process that has said something before counts at all these paths."""
    said = outbox("scraper-1", number, host.now_ns)
    for beat in range(1000):
        heartbeat = said.next_report(host.now_ns + beat * SECOND, host.now_ns)
        assert heartbeat is not None
        host.hear(heartbeat)
    for report in reports(said, paths, host.now_ns, 1000):
        host.hear(report)
        host.settle()
    assert host.machine.state.counting.keys() >= set(paths)


def wire() -> dict[str, dict[str, float]]:
    """The bytes of a counter beyond its path, in batches: of a delta, and of a report."""
    rng = random.Random(1)
    measured: dict[str, dict[str, float]] = {"delta": {}, "report": {}}
    for number in BATCHES:
        entries: list[Entry] = []
        totals: list[Total] = []
        for n in range(number):
            path = f"intents/{n}/resolution/scraper-1/item_scraped/pages.local/tries"
            last = START_NS - rng.randrange(SECOND // 20)
            born = last - rng.randrange(HOUR_S * SECOND)
            amount = rng.randrange(1, 10_000)
            entries.append(Entry(path, last, amount, born=born))
            totals.append(Total(path, rng.randrange(1, 50_000), born, last, amount))
        names = sum(len(entry.path) for entry in entries)
        fragment = Fragment("5f0c3a7b9d1e2f40", 70_000, 70_001, [], [], [], entries)
        delta = Delta("5f0c3a7b9d1e2f40", "9d1e2f405f0c3a7b", 0, 70_000, fragment)
        process = outbox("scraper-1", 4711, START_NS).process
        report = Report(process, 50_000, START_NS, False, [], [], totals, 49_999)
        for kind, frame in (
            ("delta", codec.encode_published(delta)),
            ("report", codec.encode(report)),
        ):
            measured[kind][str(number)] = round((len(frame) - names) / number, 1)
    return measured


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What is promised, and whether that was so."""
    found, each, wire = report["crowds"], report["each"], report["wire"]
    rows: list[dict[str, Any]] = []
    few, crowd = found["few"], found["crowd"]
    for of in ("memory", "disk"):
        left = 100 * (crowd["over"][of] / few["over"][of] - 1)
        what = f"left of a crowd in {of} beyond its totals, % of what is there without"
        rows.append(goal(what, round(left, 2), "<= 1", met=left <= 1))
    for of in ("memory", "disk"):
        left = crowd["forgotten"][of] - crowd["over"][of]
        ids = round(left / report["processes"], 1)
        rows.append(goal(f"a closed id in {of}, bytes", ids, "<= 64", met=ids <= 64))
    cell = each["one more process there"]["memory"]
    rows.append(goal("a live (process, path) in memory, bytes", cell, "<= 100", met=cell <= 100))
    for number in BATCHES[1:]:
        size = wire["delta"][str(number)]
        what = f"a counter in a delta of {number:,}, bytes beyond its path"
        rows.append(goal(what, size, "<= 16", met=size <= 16))
    return rows


def tables(report: dict[str, Any]) -> list[Rows]:
    """All that is shown of a report."""
    return [
        Rows(
            f"A collector with residents, after few processes and after {report['processes']:,}",
            ["kB", *Size._fields],
            [
                [f"{name}, {when}", *(f"{size[of] / 1000:,.1f}" for of in Size._fields)]
                for name, sizes in report["crowds"].items()
                for when, size in sizes.items()
            ],
        ),
        Rows(
            "The bytes of one more",
            ["", "memory", "disk"],
            [[what, str(row["memory"]), str(row["disk"])] for what, row in report["each"].items()],
        ),
        Rows(
            "The bytes of a counter on the wire, beyond its path, in batches of",
            ["", *(f"{number:,}" for number in BATCHES)],
            [[kind, *map(str, row.values())] for kind, row in report["wire"].items()],
        ),
        goal_rows("Goals", report["goals"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
