"""Case 8, the nodes: what load costs a collector, and what hosts cost an aggregator.

Both on virtual time and without sockets: the real machines, codecs and store, fed with the frames
that arrive within seconds. What counts is processor time.

A collector: eight processes log about 20 records each, at more and more log calls a second, and
each flushes every 50 ms. What it costs should follow the paths that changed, and not the calls.

An aggregator: each host sends, each second, one heartbeat and one delta of ten registers and ten
counters at paths of its own, and the aggregator publishes what shows to monitors. A host should
cost about the same beside ten and beside a thousand. That each host is told once who else there is,
which is quadratic, is over before.
"""

from __future__ import annotations

import gc
import random
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.crowds_host import Host
from benchmarks.environment import CACHE
from benchmarks.speed.case import Case, Goal, in_turns, ratio
from benchmarks.speed.collecting_load import FLUSH_NS, PROCESSES, Said, Size, prepare
from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.aggregator.machine import Aggregator
from shardlog.collector.sidecar.joining import join
from shardlog.crdt.delta import Entry, Fragment, Write
from shardlog.crdt.replication.messages import Ask, HostStatus, Publish, Report, Tell
from shardlog.crdt.replication.publisher import Publisher
from shardlog.crdt.retention import Retention
from shardlog.crdt.wire import codec
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000
CALLS = (100, 1_000)
"""Log calls of one process in one flush: 16,000 and 160,000 a second of all eight."""
FLUSHES = 60
HOSTS = (10, 100, 1_000)
SECONDS = 4
TURNS_PER_SECOND = 20
"""So often an aggregator takes in what has arrived: hosts speak at all times of a second."""
COUNTED = 10
TURNS = 5


def measure_collector(tell: Callable[[str], object]) -> Case:
    """What a second of load costs a collector, by log calls a second."""
    crowds = {
        calls: [prepare(number, Size(calls, FLUSHES)) for number in range(PROCESSES)]
        for calls in CALLS
    }
    names = {
        f"shardlog collector, {PROCESSES * calls * SECOND // FLUSH_NS:,} calls/s": crowd
        for calls, crowd in crowds.items()
    }
    contenders = {name: partial(_collect, crowd) for name, crowd in names.items()}
    values = in_turns(contenders, TURNS, tell)
    few, many = names
    times = CALLS[1] // CALLS[0]
    goal = Goal(f"a collector at {times} times the log calls", ratio(values, many, few), 1.3)
    return Case(8, "A second of a collector, at the same paths", "ms", values, {}, [goal])


def measure_aggregator(tell: Callable[[str], object]) -> Case:
    """What one host costs an aggregator a second, by the number of hosts."""
    values = in_turns(
        {
            f"shardlog aggregator, each of {hosts:,} hosts": partial(_aggregate, hosts)
            for hosts in HOSTS
        },
        TURNS,
        tell,
    )
    few, *_, many = values
    what = f"a host beside {HOSTS[-1]:,} over one beside {HOSTS[0]}"
    goal = Goal(what, ratio(values, many, few), 1.5)
    return Case(8, "A second of an aggregator, for each host", "ms", values, {}, [goal])


def _collect(crowd: list[Said]) -> float:
    with tempfile.TemporaryDirectory(prefix="c-", dir=CACHE) as folder:
        host = Host(Path(folder), Retention())
        try:
            host.now_ns = time.time_ns()
            for said in crowd:
                host.machine.receive(codec.decode_report(said.frames[0]), host.now_ns)
            host.settle()
            gc.collect()
            begun = time.process_time()
            for flush in range(1, FLUSHES + 1):
                host.now_ns += FLUSH_NS
                for report in join(said.frames[flush] for said in crowd):
                    assert isinstance(report, Report)
                    host.machine.receive(report, host.now_ns)
                host.settle()
            took = time.process_time() - begun
        finally:
            host.close()
    return 1e3 * took * SECOND / (FLUSHES * FLUSH_NS)


class _Source:
    """A host as its aggregator hears it."""

    def __init__(self, number: int) -> None:
        self.host = f"node-{number}"
        self.stream = Publisher(f"replica-{number}", f"epoch-{number}", lanes=1, interval_ms=1000)
        self.version = 0

    def heartbeat(self, now_ns: int) -> bytes:
        status = HostStatus(self.host, self.stream.source, "live", now_ns, now_ns, self.version)
        return codec.encode_published(self.stream.heartbeat(now_ns, [status], {}))

    def chunk(self, ask: Ask) -> bytes:
        body = Fragment(self.stream.source, 0, self.version, [], [], [], [])
        return codec.encode(self.stream.chunk(ask.message, body, None))

    def delta(self, now_ns: int) -> bytes:
        self.version += 1
        top = f"intents/{self.host}/resolution/{self.host}/item_scraped"
        body = Fragment(
            self.stream.source,
            self.version - 1,
            self.version,
            [f"{self.host}@{self.host}:6f1c:1:1:aa"],
            [Write(f"{top}/url-{n}", now_ns, 0, f"https://{now_ns}") for n in range(COUNTED)],
            [],
            [Entry(f"{top}/tries-{n}", now_ns, self.version) for n in range(COUNTED)],
        )
        return codec.encode_published(self.stream.delta(0, body))


def _aggregate(hosts: int) -> float:
    now_ns = time.time_ns()
    machine = Aggregator(
        AggregatorConfig(listen="tcp://127.0.0.1:7400", serve="tcp://127.0.0.1:7410"),
        source="aggregator",
        epoch="epoch",
        rng=random.Random(1),
        now_ns=now_ns,
        bytes_max=FRAME_BYTES_GOAL,
    )
    sources = {f"replica-{number}": _Source(number) for number in range(hosts)}
    asked: list[Ask] = []

    def turn(frames: list[bytes]) -> None:
        for frame in frames:
            machine.receive(codec.decode_published(frame), now_ns)
        machine.handle_timer(now_ns)
        for effect in machine.take_effects():
            if isinstance(effect, Publish):
                codec.encode_published(effect.message)
            elif isinstance(effect, Ask):
                asked.append(effect)
            elif isinstance(effect, Tell):
                codec.encode(effect.message)
                machine.confirmed(effect.child, effect.message.number)

    turn([source.heartbeat(now_ns) for source in sources.values()])
    while asked:
        ask = asked.pop()
        machine.receive(codec.decode_stream(sources[ask.source].chunk(ask)), now_ns)
        turn([])
    turn([source.delta(now_ns) for source in sources.values()])
    now_ns += SECOND
    turn([source.heartbeat(now_ns) for source in sources.values()])
    assert all(host.status == "live" for host in machine.hosts(now_ns))
    step_ns = SECOND // TURNS_PER_SECOND
    arriving: list[list[bytes]] = []
    for step in range(SECONDS * TURNS_PER_SECOND):
        at_ns = now_ns + (step + 1) * step_ns
        speaking = list(sources.values())[step % TURNS_PER_SECOND :: TURNS_PER_SECOND]
        arriving.append([f for s in speaking for f in (s.delta(at_ns), s.heartbeat(at_ns))])
    gc.collect()
    begun = time.process_time()
    for frames in arriving:
        now_ns += step_ns
        turn(frames)
    took = time.process_time() - begun
    assert not asked
    assert all(host.status == "live" for host in machine.hosts(now_ns))
    return 1e3 * took / (SECONDS * hosts)
