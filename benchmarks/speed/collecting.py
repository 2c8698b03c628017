"""Case 5: how many log calls the collector of a host takes in, on one core, from eight processes.

Who receives has a core of its own; eight processes that send, as fast as it takes, have the others.
What they send is made beforehand, see `benchmarks.speed.collecting_load`. What counts is the time
from the word to send until all is taken in: by a bare loop when it has decoded the last frame, by
Redis when it has answered the last command, by the collector when it has published what was said
last, behind the commit of its store to the disk, and somebody who follows it has read that. A turn
in which a receiver without a disk did not work nearly all the time is taken again.

A process that logs in a loop makes some 50,000 calls a second; a report carries what it logs in
50 ms. Here that is 1,000 calls, at 20,000 a second, each of a message, two registers and two counts
in one of twenty records: 81 leaves, 40 of them counts. At 1,000 calls a second it would be nearly
as many leaves, and all rates but that of *as logged* lower by the same factor. Reports of single
calls are not measured: on one core eight processes can't send so many of them that a bare loop on
another has no rest. The paths stay the same: what new ones cost is in case 8.

- *bare loop*: a PULL socket with the collector's own options, `recv`, and msgspec into the same
  structs; it keeps nothing.
- *Redis*: its own server without persistence, which is faster than any: what it has is gone with
  it, while the collector has committed to the disk what it publishes. It is spoken to over a Unix
  socket, with pipelines of eight reports from each of the eight connections, as its documentation
  advises for throughput (redis.io, "Redis pipelining"); all bytes are made beforehand, so that no
  client library counts. Counts are HINCRBY, registers one HSET with many fields. *conflated* gets
  what the reports have. A Redis client does not conflate: *as logged* is one HSET and two HINCRBY
  of each log call. Neither orders registers by their stamps, or repeats what was lost.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.environment import CACHE
from benchmarks.speed.case import Case, Goal, in_turns, ratio
from benchmarks.speed.collecting_load import CYCLE, HOST, PROCESSES, Size, cores, serve
from shardlog.collector import follow
from shardlog.crdt.delta import Fragment
from shardlog.crdt.replication.messages import Delta, Report
from shardlog.crdt.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

SIZE = Size(1_000, 3_000)
BUSY = 0.85
"""Who receives without a disk must work for this part of the time."""
TRIES = 5
REDIS_MISSING = "redis-server is not on PATH: apt install redis-server"


def measure(tell: Callable[[str], object]) -> Case:
    """Measure, in turns."""
    missing: dict[str, str] = {}
    tell(f"{PROCESSES} processes make their reports")
    with senders(SIZE) as crowd:
        contenders: dict[str, Callable[[], float]] = {
            "shardlog collector": crowd.collector,
            "bare loop": partial(_busy, crowd.bare),
        }
        if shutil.which("redis-server") is None:
            missing["Redis"] = REDIS_MISSING
        else:
            contenders["Redis, conflated"] = partial(_busy, partial(crowd.redis, "reports"))
            contenders["Redis, as logged"] = partial(_busy, partial(crowd.redis, "calls"))
        values = in_turns(contenders, tell=tell)
    goals = [
        Goal(
            f"the collector, of {name}",
            ratio(values, "shardlog collector", name),
            0.6 if name == "bare loop" else 3,
            is_floor=True,
        )
        for name in values
        if name != "shardlog collector"
    ]
    title = "What one core takes in"
    return Case(5, title, "log calls/s", values, missing, goals)


class Crowd:
    """The eight processes, ready to send."""

    def __init__(self, size: Size) -> None:
        self._size = size
        spawn = multiprocessing.get_context("spawn")
        self._links: list[Any] = []
        self._senders: list[Any] = []
        for number in range(PROCESSES):
            link, other = spawn.Pipe()
            sender = spawn.Process(target=serve, args=(other, number, size), daemon=True)
            sender.start()
            self._links.append(link)
            self._senders.append(sender)
        said = [link.recv() for link in self._links]
        self._ends: dict[str, int] = dict(ends for _, ends in said)

    def close(self) -> None:
        """End them."""
        self._tell("end")
        for sender in self._senders:
            sender.join()

    def bare(self) -> tuple[float, float]:
        """Log calls a second of a loop that decodes, and the part of the time that it worked."""
        with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
            address = f"ipc://{folder}/bare.sock"
            spawn = multiprocessing.get_context("spawn")
            link, other = spawn.Pipe()
            frames = PROCESSES * (1 + self._size.reports)
            receiver = spawn.Process(target=_receive, args=(other, address, frames), daemon=True)
            receiver.start()
            link.recv()
            self._tell("push", address, False)
            link.recv()
            begun = self._go()
            ended, busy = link.recv()
            self._go()
            receiver.join()
        return self._rate(ended - begun), busy / (ended - begun)

    def collector(self) -> float:
        """Log calls a second of `shardlog collect`."""
        with ExitStack() as stack:
            # The store is on the disk of the checkout: a temporary folder may be memory.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="c-", dir=CACHE))
            sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="shardlog-"))
            context = follow.new_context()
            stack.callback(context.term)
            up = f"ipc://{sockets}/up.sock"
            sub = follow.sub_bind(context, up)
            stack.callback(sub.close)
            listen = f"ipc://{sockets}/collector.sock"
            command = [sys.executable, "-c", "from shardlog.cli.main import main; main()"]
            command += ["collect", "--listen", listen, "--to", up, "--host", HOST]
            collector = subprocess.Popen(
                [*command, "--store", folder], stdout=subprocess.PIPE, text=True
            )
            stack.callback(_end, collector)
            assert collector.stdout is not None
            collector.stdout.readline()
            _pin(collector.pid)
            self._tell("push", listen, True)
            _follow(sub, dict.fromkeys(self._ends, 0))
            begun = self._go()
            _follow(sub, self._ends)
            ended = time.perf_counter()
            self._go()
        return self._rate(ended - begun)

    def redis(self, what: str) -> tuple[float, float]:
        """As `bare`, of Redis: of conflated `reports`, or of single `calls`."""
        with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
            address = f"{folder}/redis.sock"
            command = ["redis-server", "--port", "0", "--unixsocket", address, "--save", ""]
            server = subprocess.Popen(
                [*command, "--appendonly", "no", "--dir", folder], stdout=subprocess.DEVNULL
            )
            try:
                while not Path(address).is_socket():
                    time.sleep(0.01)
                _pin(server.pid)
                self._tell("redis", address, what)
                for link in self._links:
                    link.recv()
                before = _processor_s(server.pid)
                begun = self._go()
                ended = max(link.recv() for link in self._links)
                busy = _processor_s(server.pid) - before
            finally:
                _end(server)
        part = 1 if what == "reports" else CYCLE / self._size.reports
        return self._rate(ended - begun) * part, busy / (ended - begun)

    def _tell(self, *command: object) -> None:
        for link in self._links:
            link.send(command)

    def _go(self) -> float:
        now = time.perf_counter()
        self._tell("go")
        return now

    def _rate(self, seconds: float) -> float:
        return PROCESSES * self._size.reports * self._size.shards / seconds


@contextmanager
def senders(size: Size) -> Generator[Crowd]:
    """The eight processes, for as long as the block."""
    crowd = Crowd(size)
    try:
        yield crowd
    finally:
        crowd.close()


def _receive(link: Any, address: str, frames: int) -> None:
    """The bare loop."""
    os.sched_setaffinity(0, cores()[0])
    context = follow.new_context()
    pull = follow.pull_bind(context, address)
    decode = msgspec.msgpack.Decoder(Report).decode
    link.send("ready")
    for _ in range(PROCESSES):
        decode(memoryview(pull.recv())[1:])
    link.send("all are there")
    before = time.process_time()
    for _ in range(frames - PROCESSES):
        decode(memoryview(pull.recv())[1:])
    link.send((time.perf_counter(), time.process_time() - before))
    pull.close()
    context.term()


def _follow(sub: follow.Socket, ends: dict[str, int]) -> None:
    """Read what is published until a stamp has come at each of these paths."""
    missing = dict(ends)
    while missing:
        if not sub.poll(60_000):
            raise TimeoutError(f"nothing is published any more; {missing} is missing")
        message = codec.decode_published(sub.recv())
        if not isinstance(message, Delta) or not isinstance(message.body, Fragment):
            continue
        for write in message.body.writes:
            if write.stamp >= missing.get(write.path, write.stamp + 1):
                del missing[write.path]


def _pin(process: int) -> None:
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores()[0])


def _processor_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _busy(run: Callable[[], tuple[float, float]]) -> float:
    """A rate at which the receiver was busy.

    Raises:
        RuntimeError: it never was.
    """
    part = 0.0
    for _ in range(TRIES):
        rate, part = run()
        if part >= BUSY:
            return rate
    raise RuntimeError(f"who receives worked {part:.0%} of the time: others use this machine")


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait()
