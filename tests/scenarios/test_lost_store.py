"""A collector's store is deleted, or an older copy of it put back, while blades count on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shardlog.monitor import connect
from tests.helpers import WAIT_S, eventually, free_pair
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from shardlog.crdt.replication.messages import HostStatus
    from shardlog.monitor import Cluster as Replica

BLADE = """
import logging, sys, time
from shardlog.handler import ShardHandler, count
log = logging.getLogger("blade")
log.setLevel(logging.INFO)
log.addHandler(ShardHandler(sys.argv[1], "blade"))
n = 0
for line in sys.stdin:
    for _ in range(int(line)):
        log.info("at work", extra={"work": {f"path-{n % 7}": {"n": count()}}})
        n += 1
    print(n, flush=True)
"""
TOTAL = "work/*/n"
SHARDLOG = str(Path(sys.executable).parent / "shardlog")


class Blade:
    """A process that counts as often as it is told."""

    def __init__(self, endpoint: str) -> None:
        self.counted = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", BLADE, endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def count(self, times: int) -> None:
        """Count so often."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        self.counted = int(self._process.stdout.readline())

    def end(self) -> None:
        """Let it end in order."""
        self._process.communicate(timeout=WAIT_S)


def shows(replica: Replica, total: int) -> None:
    eventually(lambda: replica.total(TOTAL) == total, f"{TOTAL} is {total}")


def status(replica: Replica, replica_name: str) -> HostStatus | None:
    return next((host for host in replica.hosts if host.replica == replica_name), None)


def live(replica: Replica) -> HostStatus | None:
    return next((host for host in replica.hosts if host.status == "live"), None)


def named(cluster: Cluster) -> list[str]:
    return (Path(f"{cluster.folder}/node-1.sock.life") / "replica").read_text().split()


def settles(replica: Replica, cluster: Cluster, old: str) -> HostStatus:
    """Wait until another replica is live and the old one is said to be replaced; the other."""

    def is_settled() -> bool:
        new, before = live(replica), status(replica, old)
        return (
            new is not None
            and new.replica != old
            and before is not None
            and before.status == "replaced"
        )

    eventually(is_settled, "another replica goes on")
    new = live(replica)
    assert new is not None
    assert named(cluster)[0] == new.replica
    assert new.replaces == [old]
    return new


def is_heard_again(replica: Replica, before: str | None) -> None:
    """Wait until the new collector has heard the blade: what comes from then on is counted."""
    eventually(lambda: replica.blades()[0]["heard"] != before, "the blade is heard again")


def never_above(replica: Replica, blade: Blade, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert replica.total(TOTAL) <= blade.counted
        time.sleep(0.02)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_store_that_is_deleted_or_damaged_counts_nothing_twice(is_damaged: bool) -> None:
    """What was shown stays, what comes is added, and the state says `lower bound`: also when the
    blade ends while no collector is there, and after another restart."""
    with running() as cluster, connect(cluster.url) as replica:
        node = cluster.collectors["node-1"]
        store = cluster.folder / "node-1" / "store"
        blade = Blade(cluster.endpoint())
        blade.count(70)
        shows(replica, 70)
        heard = replica.blades()[0]["heard"]
        (old,) = named(cluster)
        node.kill()
        if is_damaged:
            (store / "state.sqlite").write_bytes(b"no database " * 1000)
            (store / "state.sqlite-wal").unlink(missing_ok=True)
        else:
            shutil.rmtree(store)
        node.start()
        new = settles(replica, cluster, old)
        assert "lost" in new.lower_bound
        assert node.log().count("which collected here") == 1
        is_heard_again(replica, heard)
        never_above(replica, blade, 1.5)
        shows(replica, 70)
        blade.count(30)
        shows(replica, 100)
        node.kill()
        blade.count(7)
        blade.end()
        node.start()
        shows(replica, 107)
        assert named(cluster) == [new.replica, old]


def test_an_older_copy_of_a_store_counts_nothing_twice() -> None:
    """The aggregator knows more than the copy holds: it is told, another replica goes on, and what
    was shown never goes down nor above what was counted."""
    with running() as cluster, connect(cluster.url) as replica:
        node = cluster.collectors["node-1"]
        store = cluster.folder / "node-1" / "store"
        blade = Blade(cluster.endpoint())
        blade.count(10)
        shows(replica, 10)
        node.kill()
        shutil.copytree(store, cluster.folder / "copy")
        (old,) = named(cluster)
        node.start()
        blade.count(60)
        shows(replica, 70)
        heard = replica.blades()[0]["heard"]
        node.kill()
        shutil.rmtree(store)
        shutil.copytree(cluster.folder / "copy", store)
        node.start()
        new = settles(replica, cluster, old)
        assert "went back in time" in new.lower_bound
        assert node.log().count("went back in time") == 1
        is_heard_again(replica, heard)
        never_above(replica, blade, 1.5)
        assert replica.total(TOTAL) == 70
        blade.count(30)  # the first total of each path is a baseline
        is_heard_again(replica, replica.blades()[0]["heard"])
        shown = int(replica.total(TOTAL))
        assert 70 <= shown <= 100
        blade.count(30)
        shows(replica, shown + 30)
        blade.end()
        node.kill()
        node.start()
        never_above(replica, blade, 1.5)
        shows(replica, shown + 30)
        assert named(cluster) == [new.replica, old]
        ledger = subprocess.run([SHARDLOG, "check", "--ledger", "--connect", cluster.url])
        assert ledger.returncode in (0, 3), (
            "of the old one not all may have been told, nothing is wrong"
        )


def test_an_older_copy_is_noticed_where_nobody_else_knows_more() -> None:
    """All processes have ended, the aggregator is new: the version beside the socket says it."""
    with running() as cluster:
        node = cluster.collectors["node-1"]
        store = cluster.folder / "node-1" / "store"
        blade = Blade(cluster.endpoint())
        blade.count(10)
        with connect(cluster.url) as replica:
            shows(replica, 10)
            node.kill()
            shutil.copytree(store, cluster.folder / "copy")
            node.start()
            blade.count(60)
            shows(replica, 70)
        blade.end()
        node.kill()
        cluster.aggregator.kill()
        shutil.rmtree(store)
        shutil.copytree(cluster.folder / "copy", store)
        cluster.aggregator.start()
        node.start()
        with connect(cluster.url) as replica:
            eventually(lambda: any("went back in time" in h.lower_bound for h in replica.hosts))
            assert replica.total(TOTAL) <= 70


def test_a_deleted_store_without_a_runtime_directory_is_a_new_one() -> None:
    """Over tcp nothing is named: all totals are new to it, and nobody says `lower bound`."""
    with running() as cluster:
        endpoint = free_pair()
        node = cluster.start_collector("node-2", "--listen", endpoint)
        blade = Blade(endpoint)
        blade.count(10)
        with connect(cluster.url) as replica:
            shows(replica, 10)
        cluster.aggregator.kill()
        node.kill()
        shutil.rmtree(cluster.folder / "node-2" / "store")
        cluster.aggregator.start()
        node.start()
        blade.count(5)
        with connect(cluster.url) as replica:  # one that was there would wait for the old replica
            shows(replica, 15)
            eventually(lambda: bool(replica.hosts))
            assert {host.lower_bound for host in replica.hosts} == {""}
        blade.end()
