"""What eight processes of a host say to its collector, as frames made beforehand, and who sends it.

Each process works on twenty records at a time, and each log call says something about one of them,
drawn at random: a message, two registers and two counts. The handler's real reader and outbox make
reports of that, one each flush interval. What they made in CYCLE flushes is repeated with later
stamps, higher sequences and higher totals: what a process says that goes on like this.

For Redis the same is made as RESP, the bytes that its clients send: of each report one HSET of all
registers and one HINCRBY of each count, all in one hash of the process, which is the fewest
commands; and of each log call one HSET and two HINCRBY.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq
from msgspec.structs import replace

from shardlog.crdt.process_id import process_id
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.wire import codec
from shardlog.handler import count
from shardlog.handler.connection import options
from shardlog.handler.life import Life, life_of
from shardlog.handler.outbox import Outbox
from shardlog.handler.shard import ShardReader

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PROCESSES = 8
RECORDS = 20
FLUSH_NS = 50_000_000
CYCLE = 40
HOST = "node-1"
ANSWERS_AT_ONCE = 8
"""So many pipelines are sent before their answers are read."""


class Size(NamedTuple):
    """How many log calls are in one report, and how many reports each process sends."""

    shards: int
    reports: int


class Said(NamedTuple):
    """What one process says: what a collector reads, and what Redis does.

    `ends` is the path and the stamp of what is said last.
    """

    process: str
    frames: list[bytes]
    ends: tuple[str, int]
    pipelines: list[tuple[bytes, int]]
    """Bytes, and how many answers there will be, of each report."""
    calls: list[tuple[bytes, int]]
    """The same of as many log calls as the first reports carry."""


def cores() -> tuple[set[int], set[int]]:
    """The core of whoever receives, and those of all others."""
    *others, receiver = sorted(os.sched_getaffinity(0))
    return {receiver}, set(others) or {receiver}


def prepare(number: int, size: Size) -> Said:
    """What the process of this number says. O(reports)."""
    rng = random.Random(number)
    blade = f"scraper-{number}"
    now_ns = time.time_ns() - (size.reports + CYCLE) * FLUSH_NS
    process = process_id(blade, HOST, "6f1c2a90", 1000 + number, now_ns, f"{number:08x}")
    outbox = Outbox(process, blade, {"host": HOST, "pid": 1000 + number, "started": now_ns})
    outbox.receive_connected(now_ns)
    reader = ShardReader(blade)
    calls: list[bytes] = []

    def flush(at_ns: int, shards: int) -> Report:
        for call in range(shards):
            record = logging.LogRecord(
                "scraper", logging.INFO, __file__, 1, "page %d of %s", (call, "pages.local"), None
            )
            path = ("intents", str(100 * number + rng.randrange(RECORDS)), "resolution", blade)
            page = rng.randrange(1_000_000)
            said: dict[str, Any] = {
                "url": f"https://pages.local/{page}",
                "seconds": page / 1_000_000,
                "tries": count(1),
                "item_collected": count(page % 8),
            }
            record.__dict__[path[0]] = {path[1]: {path[2]: {path[3]: {"pages.local": said}}}}
            shard = reader.read(record, at_ns + call * FLUSH_NS // shards)
            outbox.receive(shard)
            calls.append(_hset(blade, shard.writes) + b"".join(_hincrby(blade, shard.counts)))
        report = outbox.next_report(at_ns - now_ns + FLUSH_NS, at_ns + FLUSH_NS)
        assert report is not None
        assert not outbox.has_unsent()
        return report

    first = flush(now_ns, max(size.shards, 50 * RECORDS))  # all records are begun with
    calls.clear()
    cycle = [flush(now_ns + n * FLUSH_NS, size.shards) for n in range(1, CYCLE + 1)]
    before = {total.path: total.amount for total in first.totals}
    after = before | {total.path: total.amount for report in cycle for total in report.totals}
    pipelines: list[tuple[bytes, int]] = []
    known = dict(before)
    for report in cycle:
        counts = [(t.path, _int(t.amount) - _int(known[t.path])) for t in report.totals]
        known |= {total.path: total.amount for total in report.totals}
        increments = _hincrby(blade, counts)
        writes = [(write.path, write.value) for write in report.writes]
        pipelines.append((_hset(blade, writes) + b"".join(increments), 1 + len(increments)))
    reports = [first]
    for n in range(size.reports):
        report, turns = cycle[n % CYCLE], n // CYCLE
        more = {path: turns * (_int(after[path]) - _int(before[path])) for path in before}
        later_ns, later = turns * CYCLE * FLUSH_NS, turns * CYCLE
        reports.append(
            replace(
                report,
                sequence=report.sequence + later,
                sent_ns=report.sent_ns + later_ns,
                writes=[replace(w, stamp=w.stamp + later_ns) for w in report.writes],
                totals=[
                    replace(t, last=t.last + later_ns, amount=_int(t.amount) + more[t.path])
                    for t in report.totals
                ],
                follows=report.follows + later,
                since=report.since + later if report.since else 0,
                counted=_int(report.counted) + sum(more.values()),
            )
        )
    last = next(write for write in reversed(reports[-1].writes) if write.path == f"{blade}/msg")
    return Said(
        process,
        [codec.encode(report) for report in reports],
        (last.path, last.stamp),
        [pipelines[n % CYCLE] for n in range(size.reports)],
        [(call, 3) for call in calls],
    )


def serve(commands: Connection, number: int, size: Size) -> None:
    """Be one sender, on a core that is not the receiver's, until told to end."""
    os.sched_setaffinity(0, cores()[1])
    said = prepare(number, size)
    commands.send((said.process, said.ends))
    context = zmq.Context()
    while True:
        command, *arguments = commands.recv()
        if command == "push":
            life: Life | None = life_of(arguments[0], said.process) if arguments[1] else None
            push = context.socket(zmq.PUSH)
            for option, value in options(arguments[0]).items():
                push.set(option, value)
            push.connect(arguments[0])
            push.send(said.frames[0])
            commands.recv()
            for frame in said.frames[1:]:
                push.send(frame)
            push.close(linger=-1)
            commands.recv()
            if life is not None:
                life.close()
        elif command == "redis":
            pipelines = {"reports": said.pipelines, "calls": said.calls}[arguments[1]]
            at_once = ANSWERS_AT_ONCE * (1 if arguments[1] == "reports" else size.shards)
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(arguments[0])
                commands.send("connected")
                commands.recv()
                for at in range(0, len(pipelines), at_once):
                    part = pipelines[at : at + at_once]
                    link.sendall(b"".join(data for data, _ in part))
                    answers = sum(answers for _, answers in part)
                    while answers:
                        answers -= link.recv(1 << 16).count(b"\n")
            commands.send(time.perf_counter())
        else:
            context.term()
            return


def _int(amount: object) -> int:
    assert type(amount) is int
    return amount


def _hset(key: str, writes: list[tuple[str, Any]]) -> bytes:
    fields = [field for path, value in writes for field in (path, str(value))]
    return _command("HSET", key, *fields)


def _hincrby(key: str, counts: list[Any]) -> list[bytes]:
    return [_command("HINCRBY", key, path, str(n)) for path, n in counts]


def _command(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)
