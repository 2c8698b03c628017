"""What an aggregator with a store remembers: all that it showed, over kill -9 and full disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shardlog.collector.aggregator.store import Store
from shardlog.crdt.delta import Erase, Total, Write
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.retention import Retention
from tests.collector.network import MS, START
from tests.collector.test_tree import GLOBAL, REGIONS, TOTAL, statuses
from tests.collector.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from shardlog.crdt.delta import Value


@pytest.mark.parametrize("seed", range(12))
def test_a_total_never_goes_down_where_there_is_a_store(seed: int, tmp_path: Path) -> None:
    """I2 over restarts: nodes with stores are killed at random under loss, and none ever shows less
    than it did; in the end all show what was counted."""
    network = Tree(REGIONS, GLOBAL, seed, folder=tmp_path)
    shown = [0.0] * 3
    for _ in range(40):
        network.say(network.rng.randrange(4))
        if network.rng.random() < 0.1:
            network.restart(network.rng.randrange(4))
        if network.rng.random() < 0.2:
            network.kill(network.rng.randrange(3))
        network.run(network.rng.randint(1, 1000))
        for node, aggregator in enumerate(network.aggregators):
            assert shown[node] <= aggregator.state.total(TOTAL) <= network.counted
            shown[node] = aggregator.state.total(TOTAL)
    network.heal()
    assert network.aggregators[2].state.total(TOTAL) == network.counted


@pytest.mark.parametrize("seed", range(12))
def test_what_is_loaded_is_what_was_there(seed: int, tmp_path: Path) -> None:
    """Counts, scalars over dicts and back, erases and forgetting, in any order: a node that starts
    on the store has the state of the one that wrote it, row for row."""
    retention = Retention({"jobs/*": "10m"})
    network = Tree(((0,),), ((),), seed, loss=0.1, folder=tmp_path, retention=retention)
    rng = network.rng
    totals: dict[str, Total] = {}
    for sequence in range(1, 80):
        at_ns = network.now_ns
        job = f"jobs/{rng.randrange(4)}"
        path = rng.choice([job, f"{job}/a", f"{job}/a/b", f"{job}/c"])
        values: list[Value] = [1, "x", {}]
        value = rng.choice(values)
        writes = [Write(path, at_ns, 0, value)] if rng.random() < 0.6 else []
        erases = [Erase(path, at_ns + 1, 0)] if rng.random() < 0.2 else []
        if rng.random() < 0.5:
            path = f"{job}/n"
            before = totals.get(path, Total(path, 1, at_ns, at_ns, 0))
            assert isinstance(before.amount, int)
            totals[path] = Total(path, 1, before.born, at_ns, before.amount + 1)
        counted = [totals[path]] if path in totals else []
        process = "blade-0@host-0:1"
        network.deliver(0, Report(process, sequence, at_ns, False, writes, erases, counted))
        network.run(rng.choice([1, 300, 3000, 300_000]))
        before_kill = network.aggregators[0].state.digest()
        network.kill(0)
        assert network.aggregators[0].state.digest() == before_kill
        network.aggregators[0].state.check_invariants()
    assert network.aggregators[0].state.total("jobs/~/n")


def test_hosts_are_remembered_as_stale_since_they_were_heard(tmp_path: Path) -> None:
    """Right after a restart all hosts are there, departed ones too, each stale since when; those
    that are still there are live again a moment later, and it is told to those above."""
    network = Tree(REGIONS, GLOBAL, seed=3, loss=0.0, folder=tmp_path)
    for host in range(4):
        network.say(host)
    network.run(3000)
    network.cut.add(("up", 0, 0))
    left_ns = network.now_ns
    network.run(60_000)
    network.kill(0)
    network.kill(2)
    for node in (0, 2):
        aggregator = network.aggregators[node]
        hosts = {status.host: status for status in aggregator.hosts(network.now_ns)}
        assert {status.status for status in hosts.values()} == {"stale"}
        assert left_ns - 6000 * MS <= hosts["host-0"].since_ns <= left_ns + 100 * MS
        assert hosts["host-1"].since_ns >= network.now_ns - 6000 * MS
    network.run(10_000)
    assert statuses(network, 2) == {"host-0": "stale"} | dict.fromkeys(
        ("host-1", "host-2", "host-3"), "live"
    )
    assert network.aggregators[2].state.total(TOTAL) == network.counted


def test_a_full_disk_is_said_once_and_made_good_once_it_is_not(tmp_path: Path) -> None:
    """Nothing stops while the store can't be written; when it can again, it has all of it."""
    network = Tree(((0,),), ((),), seed=1, loss=0.0, folder=tmp_path)
    network.say(0)
    network.run(3000)
    network.disk_is_full = True
    for _ in range(20):
        network.say(0)
        network.run(1000)
    assert network.aggregators[0].state.total(TOTAL) == network.counted
    assert network.aggregators[0].refused["store"] > 1
    assert len(network.logs) == 1
    network.disk_is_full = False
    network.run(10_000)
    network.kill(0)
    assert network.aggregators[0].state.total(TOTAL) == network.counted


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    """One count among a thousand rows: its row, and those by which the host says that it lives."""
    network = Tree(((0,),), ((),), seed=1, loss=0.0, folder=tmp_path)
    writes = [Write(f"rows/{i}", START, 0, i) for i in range(1000)]
    network.deliver(0, Report("blade-0@host-0:1", 1, START, False, writes, [], []))
    network.run(10_000)
    network.written.clear()
    network.say(0)
    network.run(1000)
    rows = [row for batch in network.written for part in batch.parts for row in part.rows]
    paths = {write.path for row in rows for write in row.writes}
    paths |= {entry.path for row in rows for entry in row.entries}
    assert {"hosts/0/n", "hosts/0/at", "last"} <= paths
    assert len(paths) < 10


def test_what_an_erase_or_a_scalar_takes_leaves_the_store(tmp_path: Path) -> None:
    """A store does not grow by what is gone: below an erase and below a scalar no rows stay."""
    network = Tree(((0,),), ((),), seed=1, loss=0.0, folder=tmp_path)
    process = "blade-0@host-0:1"
    writes = [Write(f"{top}/{i}", START, 0, i) for top in ("a", "b") for i in range(100)]
    network.deliver(0, Report(process, 1, START, False, writes, [], []))
    network.run(3000)
    at_ns = network.now_ns
    over = [Write("b", at_ns, 0, "scalar")]
    network.deliver(0, Report(process, 2, at_ns, False, over, [Erase("a", at_ns, 0)], []))
    network.run(3000)
    ((_, rows),) = network.stores[0].load()
    kept = {item.path for item in rows.writes if item.path[0] in "ab"}
    assert kept == {"b"}
    assert {item.path for item in rows.erases} == {"a"}


def test_a_damaged_store_is_set_aside(tmp_path: Path) -> None:
    """It is kept under another name, and a new one begun: live hosts fill it again; that totals may
    lack what others had said is told with their reason."""
    Store(str(tmp_path)).close()
    (tmp_path / "cluster.sqlite").write_bytes(b"no database" * 100)
    store = Store(str(tmp_path))
    assert store.load() == []
    assert (tmp_path / "cluster.sqlite.corrupt-1").exists()
    assert "cluster.sqlite.corrupt-1" in store.lower_bound
    store.close()
