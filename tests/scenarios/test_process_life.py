"""Processes that end while their collector is away or dies: nothing is lost and nothing doubled."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shardlog.cli.ledger import examine_ledger
from shardlog.monitor import connect
from tests.helpers import eventually
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from shardlog.monitor import Cluster as Replica

BLADE = """
import logging, signal, sys, time
from shardlog.handler import ShardHandler, count
blade, endpoint, tally, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
log = logging.getLogger("blade")
log.setLevel(logging.INFO)
log.addHandler(ShardHandler(endpoint, blade))
n, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    log.info("at work", extra={"work": {blade: {f"path-{n % 20}": {"n": count()}}, "last": n}})
    n += 1
    time.sleep(0.0005)
open(tally, "w").write(str(n))
"""


def start(cluster: Cluster, blade: str, seconds: float) -> subprocess.Popen[bytes]:
    arguments = [blade, cluster.endpoint(), str(cluster.folder / blade), str(seconds)]
    return subprocess.Popen([sys.executable, "-c", BLADE, *arguments])


def tally(cluster: Cluster, blade: str) -> int:
    return int(Path(cluster.folder / blade).read_text())


def works(replica: Replica, blade: str) -> None:
    eventually(lambda: replica.total(f"work/{blade}/*/n") > 0, f"{blade} is at work")


def shows(replica: Replica, blade: str, counted: int) -> None:
    eventually(lambda: replica.total(f"work/{blade}/*/n") == counted, f"{blade} counted {counted}")


def test_processes_that_end_while_the_collector_is_away_are_counted_exactly() -> None:
    """One that spoke before, and one that the collector never heard: both exact after its return,
    and their files are gone.
    """
    with running() as cluster, connect(cluster.url) as replica:
        known = start(cluster, "known", 2.0)
        works(replica, "known")
        cluster.collectors["node-1"].kill()
        unheard = start(cluster, "unheard", 0.5)
        assert known.wait(60) == unheard.wait(60) == 0
        cluster.collectors["node-1"].start()
        for blade in ("known", "unheard"):
            shows(replica, blade, tally(cluster, blade))
        folder = cluster.folder / "node-1.sock.life"
        eventually(
            lambda: {file.name for file in folder.iterdir()} == {"replica", "version"},
            "the files of the ended are left",
        )
        assert {row["status"] for row in replica.blades()} == {"bye"}


def test_a_paused_process_is_not_lost_and_a_killed_one_is() -> None:
    """SIGSTOP beyond the time of silence: silent; kill -9: lost, and its counts stay."""
    with running() as cluster, connect(cluster.url) as replica:
        paused, killed = (start(cluster, blade, 60) for blade in ("paused", "killed"))
        try:
            for blade in ("paused", "killed"):
                works(replica, blade)
            paused.send_signal(signal.SIGSTOP)
            killed.kill()

            def status(blade: str) -> str | None:
                return next(row["status"] for row in replica.blades() if row["blade"] == blade)

            eventually(lambda: status("killed") == "lost")
            end = time.monotonic() + 6
            while time.monotonic() < end:
                assert status("paused") != "lost"
                time.sleep(0.1)
            eventually(lambda: status("paused") == "silent")
            assert replica.total("work/killed/*/n") > 0
        finally:
            for process in (paused, killed):
                process.kill()
                process.wait()


def test_totals_equal_what_processes_counted_while_everything_is_killed() -> None:
    """Collector, aggregator and blades die at random for 10 s, and until there were 16 blades: what
    ended by itself is exact, what was killed is never above what it logged. The books balance.
    """
    rng = random.Random(3)
    with running() as cluster, connect(cluster.url) as replica:
        ended: list[tuple[str, subprocess.Popen[bytes]]] = []
        end = time.monotonic() + 10
        while time.monotonic() < end or len(ended) < 16:
            name = f"blade-{len(ended)}"
            ended.append((name, start(cluster, name, rng.uniform(0.3, 2))))
            time.sleep(rng.uniform(0.1, 0.5))
            node = rng.choice([cluster.aggregator, *cluster.collectors.values(), None, None])
            if node is not None:
                node.kill()
                time.sleep(rng.uniform(0, 0.5))
                node.start()
            if rng.random() < 0.15:
                rng.choice(ended)[1].kill()
        for _, process in ended:
            process.wait(60)
        for name, process in ended:
            if process.returncode == 0:
                shows(replica, name, tally(cluster, name))
        assert [finding.status for finding in examine_ledger(cluster.url, timeout_ms=5000)] == [
            "fine"
        ]
        assert sum(process.returncode == 0 for _, process in ended) > 10
