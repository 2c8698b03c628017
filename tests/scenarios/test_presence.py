"""Processes that end, stop, wait and work for long: each is shown as what it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shardlog.monitor import connect
from shardlog.monitor.presence import remark
from shardlog.monitor.views import iso_utc
from tests.helpers import eventually
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from collections.abc import Generator

    from shardlog.monitor import Cluster as Replica
    from shardlog.monitor.presence import Blade

BLADE = """
import logging, os, sys, threading, time
from shardlog.handler import ShardHandler, busy
log = logging.getLogger("blade")
log.setLevel(logging.INFO)
log.addHandler(ShardHandler(sys.argv[1], sys.argv[2], version="scrape_pages==1.4"))
log.info("hello from %s", sys.argv[2])
exec(sys.argv[3])
"""
WAIT = "time.sleep(600)"
GO = "sys.stdin.readline()"
"""How a program waits until the test lets it go on."""
SHARDLOG = str(Path(sys.executable).parent / "shardlog")


class Blades:
    """Programs that log as blades of one cluster."""

    def __init__(self, cluster: Cluster, replica: Replica) -> None:
        self._cluster = cluster
        self._replica = replica
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, blade: str, program: str, *before: str) -> subprocess.Popen[bytes]:
        """Start one, and wait until it is shown: then the kernel is asked how it ends, too."""
        arguments = [self._cluster.endpoint(), blade, program]
        process = subprocess.Popen(
            [*before, sys.executable, "-c", BLADE, *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._started.append(process)
        eventually(lambda: self.row(blade) is not None, f"{blade} is there")
        return process

    def row(self, blade: str) -> Blade | None:
        """Its process, of those that were started the last."""
        return next((r for r in reversed(self._replica.blades()) if r["blade"] == blade), None)

    def shows(self, blade: str, status: str, remarked: str) -> None:
        """Wait until it is shown so; `remarked` is what the remark begins with."""

        def is_so() -> bool:
            row = self.row(blade)
            return row is not None and (
                row["status"] == status and remark(row).startswith(remarked)
            )

        try:
            eventually(is_so)
        except AssertionError as error:
            raise AssertionError(f"not {status} ({remarked}): {self.row(blade)}") from error

    def is_unheard(self, blade: str, collector: str) -> bool:
        """Whether it is shown as of a collector that is not heard, whatever else is remarked."""
        row = self.row(blade)
        return row is not None and f"collector {collector} not heard since " in remark(row)

    def end(self) -> None:
        """End all."""
        for process in self._started:
            process.kill()
            process.communicate()


def go_on(process: subprocess.Popen[bytes]) -> None:
    """Let a program go on that waits in `GO`."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


@contextmanager
def blades(*hosts: str) -> Generator[tuple[Cluster, Replica, Blades]]:
    with running(*hosts) as cluster, connect(cluster.url) as replica:
        found = Blades(cluster, replica)
        try:
            yield cluster, replica, found
        finally:
            found.end()


ENDS = {
    "clean": ("", "bye", "exit 0"),
    "three": ("sys.exit(3)", "bye", "exit 3"),
    "raised": ("raise SystemExit(4)", "bye", "exit 4"),
    "uncaught": ("1 / 0", "bye", "exit 1, ZeroDivisionError"),
    "at-once": ("os._exit(5)", "lost", "exit 5"),
    "aborted": ("os.abort()", "lost", "SIGABRT"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how a process ended")
def test_each_end_is_shown_as_what_it_was() -> None:
    """By exit code, exception or signal, whether or not it said bye; and what it said last, also
    where its successor has spoken since.
    """
    with blades() as (_, _, there):
        killed, told = there.start("killed", WAIT), there.start("told", WAIT)
        before = there.row("killed")
        for blade, (program, _, _) in ENDS.items():
            go_on(there.start(blade, f"log.handlers[0].flush(); {GO}; {program}"))
        killed.kill()
        told.terminate()
        there.shows("killed", "lost", "SIGKILL")
        there.shows("told", "lost", "SIGTERM")
        for blade, (_, status, remarked) in ENDS.items():
            there.shows(blade, status, remarked)
            row = there.row(blade)
            assert row is not None
            assert (row["words"], row["version"]) == (f"hello from {blade}", "scrape_pages==1.4")
        there.start("killed", WAIT)

        def killed_said() -> list[tuple[str | None, str | None]]:
            return [
                (row["status"], row["words"])
                for row in there._replica.blades()  # pyright: ignore[reportPrivateUsage]
                if before is not None and row["process"] == before["process"]
            ]

        eventually(lambda: killed_said() == [("lost", "hello from killed")])


@contextmanager
def limited_group() -> Generator[str]:
    """A cgroup of 64 MiB: the file that takes its members. Skips where none can be made."""
    name = f"shardlog-test-{os.getpid()}"
    first = Path("/sys/fs/cgroup/memory") / name
    limits = {"memory.limit_in_bytes": "64M", "memory.memsw.limit_in_bytes": "64M"}
    if not first.parent.is_dir():
        first = Path("/sys/fs/cgroup") / name
        limits = {"memory.max": "64M", "memory.swap.max": "0"}
    try:
        first.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        for file, limit in limits.items():
            if (first / file).exists():
                (first / file).write_text(limit)
        if not any((first / file).exists() for file in limits):
            pytest.skip("cgroups of this machine limit no memory")
        yield str(first / "cgroup.procs")
    finally:
        with suppress(OSError):
            first.rmdir()


def test_process_that_the_kernel_killed_for_memory_is_shown_so() -> None:
    """In a cgroup that gives it too little; one that is killed otherwise there is not."""
    with blades() as (_, _, there), limited_group() as members:
        join = ("sh", "-c", f'echo $$ > {members} && exec "$@"', "sh")
        other = there.start("other", WAIT, *join)
        go_on(there.start("eater", f"{GO}; x = [bytearray(10**6) for _ in range(500)]", *join))
        there.shows("eater", "lost", "SIGKILL, out of memory")
        time.sleep(2)  # not in the same second
        other.kill()
        there.shows("other", "lost", "SIGKILL")
        row = there.row("other")
        assert row is not None
        assert row["cause"] is None
        there.end()


def test_memory_error_is_an_uncaught_exception() -> None:
    """Where a limit of the process itself is what fails, it ends by itself."""
    program = (
        f"import resource; {GO}\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "x = bytearray(2**31)"
    )
    with blades() as (_, _, there):
        go_on(there.start("eater", program))
        there.shows("eater", "bye", "exit 1, MemoryError")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a process is stopped")
def test_stopped_process_is_silent_and_comes_back() -> None:
    """SIGSTOP: it lives and says nothing; SIGCONT: up."""
    with blades() as (_, _, there):
        stopped = there.start("stopped", WAIT)
        stopped.send_signal(signal.SIGSTOP)
        there.shows("stopped", "silent", "stopped")
        stopped.send_signal(signal.SIGCONT)
        there.shows("stopped", "up", "")


HOLD = f"{GO}; import re; re.match('(a+)+b', 'a' * 60)"
"""Runs in C for long, and lets no other thread run."""


def test_process_that_lets_no_thread_run_is_silent_unless_it_declared_that() -> None:
    """A regular expression that backtracks for ever; within a declared task first it is busy."""
    with blades() as (_, _, there):
        held = there.start("held", HOLD)
        go_on(held)
        there.shows("held", "silent", "")
        held.kill()
        declared = there.start("declared", f"with busy('matching', seconds=20): {HOLD}")
        there.shows("declared", "busy", "matching, until ")
        go_on(declared)
        there.shows("declared", "silent", "matching, until ")
        row = there.row("declared")
        assert row is not None
        assert row["busy"] is not None
        assert iso_utc(time.time_ns()) >= row["busy"]["until"]


def test_long_task_is_busy_and_then_late() -> None:
    """For as long as it said; a computation in Python that declared nothing is up."""
    program = f"{GO}\nwith busy('rendering', seconds=6): {GO}\n{WAIT}"
    with blades() as (_, _, there):
        there.start("undeclared", "while True: pass")
        declared = there.start("declared", program)
        go_on(declared)
        there.shows("declared", "busy", "rendering, until ")
        there.shows("declared", "late", "rendering, was due ")
        go_on(declared)
        there.shows("declared", "up", "")
        there.shows("undeclared", "up", "")
        row = there.row("undeclared")
        assert row is not None
        assert (row["busy"], row["main"]) == (None, None)


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="the kernel does not count turns here"
)
def test_main_thread_that_waits_for_ever_is_said_with_where() -> None:
    """A lock that nobody frees, beside a loop that sleeps: only the first is said to wait."""
    program = "def locked(): lock = threading.Lock(); lock.acquire(); lock.acquire()\nlocked()"
    with blades() as (_, _, there):
        there.start("looping", "while True: time.sleep(0.3)")
        there.start("hung", program)
        there.shows("hung", "up", "main thread waits in __main__:locked < ")

        def is_up() -> bool:
            row = there.row("looping")
            return row is not None and (row["status"], row["main"]) == ("up", None)

        eventually(is_up)


def test_lost_collector_is_stale_and_so_is_what_it_told() -> None:
    """kill -9 of one of two: its row and its processes' say since when; all is well on return."""
    with blades("node-1", "node-2") as (cluster, replica, there):
        there.start("scraper", WAIT)

        def status(name: str) -> list[str]:
            return [node["status"] for node in replica.nodes() if node["node"] == name]

        eventually(lambda: status(cluster.url) == ["live"])  # it has just started itself
        there.shows("scraper", "up", "")  # as it is then, it stays
        cluster.collectors["node-1"].kill()
        eventually(lambda: status("node-1") == ["stale"])
        eventually(lambda: there.is_unheard("scraper", "node-1"))
        there.shows("scraper", "up", "")
        eventually(lambda: status("node-2") == status(cluster.url) == ["live"])
        cluster.collectors["node-1"].start()
        eventually(lambda: status("node-1") == ["live"])

        def is_up_and_heard() -> bool:
            row = there.row("scraper")
            return row is not None and (row["status"], row["unheard_since"]) == ("up", None)

        eventually(is_up_and_heard)


def shardlog(cluster: Cluster, *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [SHARDLOG, "blades", "--json", "--connect", cluster.url, *arguments],
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout or "[]")


def tells(
    cluster: Cluster, code: int, *arguments: str, rows: list[tuple[str, str]] | None = None
) -> None:
    """Wait until `blades` exits so, and shows these; on a busy machine who is live may just be
    silent.
    """
    told: tuple[int, Any] = (-1, [])

    def is_so() -> bool:
        nonlocal told
        told = shardlog(cluster, *arguments)
        shown = [(row.get("blade") or row["kind"], row["status"]) for row in told[1]]
        return told[0] == code and rows in (None, shown)

    try:
        eventually(is_so)
    except AssertionError as error:
        raise AssertionError(f"not {code}, {rows}: {told}") from error


def test_blades_tells_who_is_expected_and_not_there() -> None:
    """Exit 1 where nobody of that name is there; 3 while it may be on a host that is not heard,
    also where it was up when that was heard last. Who is lost on a host that is heard is missing,
    whatever other hosts are.
    """
    with blades("node-1", "node-2") as (cluster, replica, there):
        there.start("scraper", WAIT)
        there.start("gone", WAIT).kill()
        there.shows("gone", "lost", "")
        eventually(lambda: not replica.doubts())
        rows = [("gone", "lost"), ("scraper", "up"), ("spotter", "never seen")]
        tells(cluster, 1, "--expected", "scraper", "--expected", "spotter", rows=rows)
        tells(cluster, 0, "--expected", "scraper")
        file = cluster.folder / "shardlog.toml"
        file.write_text('[monitor]\nexpected = ["spotter"]\n')
        tells(cluster, 1, "--config", str(file))
        cluster.collectors["node-2"].kill()
        eventually(
            lambda: ("node-2", "stale") in [(n["node"], n["status"]) for n in replica.nodes()]
        )
        tells(cluster, 3, "--config", str(file))
        tells(cluster, 1, "--expected", "gone")
        tells(cluster, 0, "--expected", "scraper")
        rows = [("aggregator", "live"), ("collector", "live"), ("collector", "stale")]
        tells(cluster, 0, "--nodes", rows=rows)
        there.shows("scraper", "up", "")
        cluster.collectors["node-1"].kill()
        eventually(lambda: there.is_unheard("scraper", "node-1"))
        tells(cluster, 3, "--expected", "scraper")


def test_watch_prints_a_line_for_each_change() -> None:
    """Who is there at first, then what changes, until it is interrupted."""
    with blades() as (cluster, _, there):
        scraper = there.start("scraper", WAIT)
        command = [SHARDLOG, "blades", "--watch", "--connect", cluster.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdout is not None
            first = [watch.stdout.readline() for _ in range(3)]
            scraper.kill()
            line = watch.stdout.readline()
            while " lost" not in line:
                line = watch.stdout.readline()
            watch.send_signal(signal.SIGINT)
        assert watch.returncode == 0
        assert sorted(text.split("  ", 1)[1].split(" ")[0] for text in first) == [
            "node",
            "node",
            "scraper",
        ]
        assert f"scraper {scraper.pid} on " in line
