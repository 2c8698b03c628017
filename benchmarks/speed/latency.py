"""From a log call to who waits for it: case 6.

shardlog is what a user has: a blade (this process), a collector, an aggregator and a monitor, each
a process, at their defaults. A probe is one log call with one register, or one count, and is there
when `watch` hands it out. Beside it, the same machine, the same addresses (ipc, then tcp twice) and
as many bytes as shardlog's first frame has:

- three bare ZeroMQ hops: PUSH to PULL, PUB to SUB, PUB to SUB; three plain loops in Python that
  block in `recv`, as pyzmq's documentation has them: no poller, no asyncio, copying, which is the
  faster way for messages below 64 KiB.
- three plain hops: what the semantics of a register demand of four processes, by the plainest
  Python. A handler's `emit` leaves a value to its thread, which encodes and sends it; the two in
  between decode it, put it in a dictionary, encode it and publish it; the last decodes it, puts it
  in a dictionary and leaves it to another thread, as `watch` does. Nothing is checked, merged,
  numbered or looked after; two messages and two timers at once are not thought of. Once more, where
  the first in between commits a row before it publishes, which is what a count demands.
- Redis pub/sub: one hop to the server and one from it, over its unix socket, with the hiredis
  parser, which is what redis-py advises; the server keeps nothing (`--save "" --appendonly no`).
- a bare commit: one row by SQLite, as a collector's store has it (WAL, synchronous=full), on the
  same disk. A count is shown only behind one.

Idle is a probe each 15 to 25 ms; one that the next overtakes was there when that was. Under load a
blade counts at half the rate that it can keep up for 3 s with nothing refused, and says probes
itself, each of a path of its own: what it says then waits for its next flush.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import zmq

from benchmarks.speed.case import TURNS, Case, Goal, in_turns
from benchmarks.speed.latency_ends import PROBE, Item, commit, item_encoder, open_store
from shardlog.handler import ShardHandler, count
from shardlog.handler.shell import FLUSH_INTERVAL_NS
from shardlog.monitor import connect
from tests.helpers import free_pair
from tests.scenarios.processes import running

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PROBES = 100
"""Of each turn."""
PAYLOAD_BYTES = 162
"""What shardlog's first frame has, with a log call's message and one register."""
LOAD_SECONDS = 3
MS = 1_000_000

REGISTER, COUNTER = "shardlog: a register", "shardlog: a count"
HOPS, PLAIN = "three bare ZeroMQ hops", "three hops, understood and kept"
STORED = "three hops, understood and stored"
REDIS, COMMIT = "Redis pub/sub", "a bare SQLite commit"
LOADED = "shardlog: a register, under load"

Probe: TypeAlias = "Callable[[], list[float]]"
"""Says all probes of a turn; the latency of each, in ms."""


def measure(tell: Callable[[str], object]) -> Case:
    """Medians of turns; the 99th percentiles are of all turns, those under load of one each."""
    probes: dict[str, Probe] = {}
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latency-")))
        cluster = stack.enter_context(running())
        for name, probe in stack.enter_context(_shardlog(cluster.url, cluster.endpoint())).items():
            probes[name] = probe
        probes[HOPS] = stack.enter_context(_hops(folder))
        probes[PLAIN] = stack.enter_context(_plain(folder))
        probes[STORED] = stack.enter_context(_plain(folder, "stored"))
        try:
            probes[REDIS] = stack.enter_context(_redis(folder))
        except FileNotFoundError:
            missing[REDIS] = "apt install redis-server"
        except ImportError:
            missing[REDIS] = "pip install redis hiredis"
        probes[COMMIT] = stack.enter_context(_commit(folder))
        all_ms: dict[str, list[list[float]]] = {name: [] for name in probes}

        def turn(name: str) -> float:
            all_ms[name].append(probes[name]())
            return median(all_ms[name][-1])

        p50 = in_turns({name: partial(turn, name) for name in probes}, tell=tell)
        tell("the most that a blade can say")
        most = _most(cluster.url, cluster.endpoint())
        tell(f"half of that, {most / 2:,.0f} calls a second")
        loaded = [_load(cluster.url, cluster.endpoint(), most / 2)[0] for _ in range(TURNS)]
    values = {f"{name}, p50": turns for name, turns in p50.items()}
    for name, turns in all_ms.items():
        values[f"{name}, p99"] = [_p99([ms for one in turns[1:] for ms in one])]
    values[f"{LOADED}, p50"] = [median(turn) for turn in loaded]
    values[f"{LOADED}, p99"] = [_p99(turn) for turn in loaded]
    flush_ms = FLUSH_INTERVAL_NS / MS
    counts = [
        c / (1.5 * hops + stored)
        for c, hops, stored in zip(p50[COUNTER], p50[HOPS], p50[COMMIT], strict=True)
    ]
    registers = [r / hops for r, hops in zip(p50[REGISTER], p50[HOPS], strict=True)]
    under_load = median(values[f"{LOADED}, p99"]) / flush_ms
    return Case(
        6,
        f"From a log call to who waits for it: idle, and at {most / 2:,.0f} calls a second",
        "ms",
        values,
        missing,
        [
            Goal("a register when idle: bare hops", median(registers), 1.5),
            Goal("a count when idle: 1.5 x bare hops + a bare commit", median(counts), 1),
            Goal("a register under load, p99: flush intervals", under_load, 5),
        ],
    )


class _Probes:
    """Probes of one kind, numbered from 1, and the process that says when each was there."""

    def __init__(self, say: Callable[[int], object], end: subprocess.Popen[str]) -> None:
        self._say = say
        self._end = end
        self._said = 0

    def __call__(self) -> list[float]:
        """The latencies of a turn, in ms."""
        sent_ns: list[int] = []
        for _ in range(PROBES):
            _rest()
            self._said += 1
            sent_ns.append(time.perf_counter_ns())
            self._say(self._said)
        return _latencies_ms(sent_ns, self._said - PROBES + 1, self._end)


def _latencies_ms(sent_ns: list[int], first: int, end: subprocess.Popen[str]) -> list[float]:
    """Of probes from number `first` on. One that a newer one overtook was there with that."""
    latencies_ms: list[float] = []
    while len(latencies_ms) < len(sent_ns):
        number, at_ns = map(int, _line(end))
        latencies_ms += [
            (at_ns - sent) / MS for sent in sent_ns[len(latencies_ms) : number - first + 1]
        ]
    return latencies_ms


@contextlib.contextmanager
def _shardlog(url: str, endpoint: str) -> Generator[dict[str, Probe]]:
    log = logging.getLogger("benchmarks.latency")
    log.propagate = False
    log.setLevel(logging.INFO)
    handler = ShardHandler(endpoint=endpoint, blade="blade")
    log.addHandler(handler)
    with _process("shardlog_end", url, PROBE) as end:
        yield {
            REGISTER: _Probes(lambda n: log.info("probe", extra={PROBE: {"register": n}}), end),
            COUNTER: _Probes(lambda n: log.info("probe", extra={PROBE: {"count": count()}}), end),
        }
    log.removeHandler(handler)
    handler.close()


@contextlib.contextmanager
def _hops(folder: Path) -> Generator[Probe]:
    first, second, third = f"ipc://{folder}/hop.sock", free_pair(), free_pair()
    context = zmq.Context()
    with (
        context,
        context.socket(zmq.PUSH) as push,
        _process("relay_second", second, third),
        _process("relay_first", first, second),
        _process("bare_end", third) as end,
    ):
        push.connect(first)
        padding = bytes(PAYLOAD_BYTES - 8)
        probes = _Probes(lambda n: push.send(n.to_bytes(8, "big") + padding), end)
        time.sleep(1)  # subscriptions say nothing when they are there
        yield probes


@contextlib.contextmanager
def _plain(folder: Path, store: str = "") -> Generator[Probe]:
    first, second, third = f"ipc://{folder}/plain{store}.sock", free_pair(), free_pair()
    stores = (f"{folder}/{store}.sqlite",) if store else ()
    log = logging.getLogger(f"benchmarks.plain{store}")
    log.propagate = False
    log.setLevel(logging.INFO)
    with (
        _process("plain_aggregator", second, third),
        _process("plain_collector", first, second, *stores),
        _process("plain_end", third) as end,
    ):
        handler = _PlainHandler(first)
        log.addHandler(handler)
        time.sleep(1)  # as above
        yield _Probes(lambda n: log.info("probe", extra={PROBE: n}), end)
        log.removeHandler(handler)
        handler.close()


class _PlainHandler(logging.Handler):
    """Leaves a value to a thread, which alone has the socket, and sends it."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._said: SimpleQueue[Item | None] = SimpleQueue()
        self._writer = "w" * (PAYLOAD_BYTES - 30)
        self._thread = threading.Thread(target=self._send, args=(endpoint,))
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        self._said.put(Item(self._writer, PROBE, time.time_ns(), record.__dict__[PROBE]))

    def close(self) -> None:
        self._said.put(None)
        self._thread.join()
        super().close()

    def _send(self, endpoint: str) -> None:
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.connect(endpoint)
            while (item := self._said.get()) is not None:
                push.send(item_encoder.encode(item))


@contextlib.contextmanager
def _redis(folder: Path) -> Generator[Probe]:
    importlib.import_module("hiredis")  # which redis-py takes if it is there
    redis = importlib.import_module("redis")
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    server = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.05)
        publisher = redis.Redis(unix_socket_path=str(path))
        padding = bytes(PAYLOAD_BYTES - 8)
        with _process("redis_end", str(path)) as end:
            yield _Probes(lambda n: publisher.publish(PROBE, n.to_bytes(8, "big") + padding), end)
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def _commit(folder: Path) -> Generator[Probe]:
    db = open_store(f"{folder}/bare.sqlite")

    def probe() -> list[float]:
        latencies_ms: list[float] = []
        for n in range(PROBES):
            _rest()
            began_ns = time.perf_counter_ns()
            commit(db, PROBE, n)
            latencies_ms.append((time.perf_counter_ns() - began_ns) / MS)
        return latencies_ms

    yield probe
    db.close()


def _most(url: str, endpoint: str) -> float:
    """The most calls a second that a blade can make with nothing refused: at first all it can."""
    rate = 0.0
    while True:
        _, calls, blade = _load(url, endpoint, rate)
        with connect(url) as cluster:
            if ("shardlog", "health", "blade", blade, "refused") not in cluster:
                return calls
        rate = 0.8 * calls


def _load(url: str, endpoint: str, rate: float) -> tuple[list[float], float, str]:
    """The latencies in ms of what a blade says that logs so often, how often it did, its name."""
    blade = f"load-{time.monotonic_ns()}"
    with _process("shardlog_end", url, f"{PROBE}/{blade}/*") as end:
        with _process("load", endpoint, blade, f"{rate:g}", f"{LOAD_SECONDS}") as loader:
            sent_ns: list[int] = []
            while (words := _line(loader))[0] != "calls":
                sent_ns.append(int(words[1]))
        return _latencies_ms(sent_ns, 1, end), float(words[1]), blade


@contextlib.contextmanager
def _process(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """One of the others, see `benchmarks.speed.latency_ends`; it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.speed.latency_ends", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert _line(process) == ["ready"]
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"{process.args!r} has ended"
    return line.split()


def _rest() -> None:
    time.sleep(random.uniform(0.015, 0.025))


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]
