"""Case 3: what one count takes of the thread that counts.

A count by a handle that is kept, `counter(...).add()`, and by a log call, `extra={... count(1)}`.
What counts alone is the CPU time of the calling thread, in bursts with pauses; the path changes
from call to call, among ten. Everyone is set up as its documentation advises:

    shardlog           ten counters that are kept, a handler and a collector behind them
    prometheus_client  `labels(...).inc()`, as most programs have it; with the child that `labels`
                       returns kept; and in multiprocess mode, which is by memory-mapped files
    OpenTelemetry      a counter of a MeterProvider with a PeriodicExportingMetricReader
    statsd             `StatsClient.incr`, a datagram each, to a socket that is read

The last goal compares log calls, less what they take with a NullHandler, see case 1.
"""

from __future__ import annotations

import io
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.speed.case import TURNS, Case, Goal, in_turns, ratio
from benchmarks.speed.loggers import load
from benchmarks.speed.logging_turns import Told, collector, count_to_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    Add = Callable[[int], object]

ADD = "shardlog counter().add()"
INC = "prometheus_client labels().inc()"
BURST = 10_000
BURSTS = 10
PAUSE_S = 0.05
DOMAINS = [f"pages-{number}.local" for number in range(10)]


def _shardlog(address: str) -> Add:
    handler = load("shardlog.handler")
    handler.ShardHandler(address, "scraper-1")
    counters = [handler.counter("item_scraped", domain, "tries") for domain in DOMAINS]
    return lambda at: counters[at % 10].add()


def _prometheus(address: str) -> Add:
    family = load("prometheus_client").Counter("tries", "Tries", ["domain"])
    return lambda at: family.labels(DOMAINS[at % 10]).inc()


def _prometheus_kept(address: str) -> Add:
    family = load("prometheus_client").Counter("tries", "Tries", ["domain"])
    kept = [family.labels(domain) for domain in DOMAINS]
    return lambda at: kept[at % 10].inc()


def _otel(address: str) -> Add:
    metrics, export = load("opentelemetry.sdk.metrics"), load("opentelemetry.sdk.metrics.export")
    out = io.StringIO()
    reader = export.PeriodicExportingMetricReader(export.ConsoleMetricExporter(out=out))
    meter = metrics.MeterProvider(metric_readers=[reader]).get_meter("scraper")
    tries = meter.create_counter("tries")
    attributes = [{"domain": domain} for domain in DOMAINS]
    return lambda at: tries.add(1, attributes[at % 10])


def _statsd(address: str) -> Add:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))

    def read() -> None:
        while receiver.recv(512):
            pass

    threading.Thread(target=read, daemon=True).start()
    client = load("statsd").StatsClient("127.0.0.1", receiver.getsockname()[1])
    names = [f"{domain.replace('.', '_')}.tries" for domain in DOMAINS]
    return lambda at: client.incr(names[at % 10])


CONTENDERS: dict[str, Callable[[str], Add]] = {
    ADD: _shardlog,
    INC: _prometheus,
    "prometheus_client, child kept": _prometheus_kept,
    "prometheus_client, multiprocess": _prometheus,
    "OpenTelemetry counter": _otel,
    "statsd over UDP": _statsd,
}


def measure(tell: Callable[[str], object]) -> Case:
    """Measure it."""
    missing: dict[str, str] = {}
    with ExitStack() as exits:
        turns: dict[str, Callable[[], float]] = {}
        for name in CONTENDERS:
            tell(f"start {name}")
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="shardlog-")))
            address = collector(folder, exits)[0] if name == ADD else ""
            environment = {"PROMETHEUS_MULTIPROC_DIR": str(folder)} if "multi" in name else {}
            told = Told("benchmarks.speed.counting", name, address, environment=environment)
            exits.callback(told.end)
            try:
                told.ask()
                turns[name] = partial(_turn, told)
            except RuntimeError as error:
                missing[name] = str(error)
        values = in_turns(turns, TURNS, tell)
    goals = [
        Goal(f"{ADD} to {INC}", ratio(values, ADD, INC), 0.5),
        Goal("shardlog log.info with a count to one without", median(count_to_plain(tell)), 1.2),
    ]
    return Case(3, "One count, for its caller", "µs", values, missing, goals)


def _turn(told: Told) -> float:
    return float(told.ask("go"))


def main() -> None:
    """Count when told to, until the standard input ends; prints the µs of one count."""
    add = CONTENDERS[sys.argv[1]](sys.argv[2])

    def burst() -> int:
        started = time.thread_time_ns()
        for at in range(BURST):
            add(at)
        return time.thread_time_ns() - started

    def nothing(at: int) -> Any:
        return DOMAINS[at % 10]

    def empty() -> int:
        started = time.thread_time_ns()
        for at in range(BURST):
            nothing(at)
        return time.thread_time_ns() - started

    print("ready", flush=True)
    for _ in sys.stdin:
        burst()
        spent = 0
        for _ in range(BURSTS):
            spent += burst() - empty()
            time.sleep(PAUSE_S)
        print(spent / (BURST * BURSTS * 1000), flush=True)


if __name__ == "__main__":
    main()
