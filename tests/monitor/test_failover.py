"""I2 over restarts: what a monitor shows of a count never goes down, whoever is killed."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from shardlog.crdt.replication.messages import Apply, Ask, Changes, Install
from shardlog.monitor.machine import Following
from shardlog.monitor.replica import Replica
from tests.collector.test_tree import TOTAL
from tests.collector.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from shardlog.crdt.replication.messages import Delta, SnapshotChunk, StreamMessage


class Monitor:
    """A monitor of one node of a tree, on the tree's time and its lossy links."""

    def __init__(self, network: Tree, node: int) -> None:
        self.node = node
        self.replica = Replica()
        self.following = Following(Random(1))
        self._network = network
        network.watch = self

    def receive(self, message: StreamMessage) -> None:
        """Take in what the node says, and ask it what is to be asked."""
        self.following.receive(message, self._network.now_ns)
        self.step()

    def step(self) -> None:
        """Obey, and let time pass for the machine."""
        network = self._network
        self.following.handle_timer(network.now_ns)
        for effect in self.following.take_effects():
            match effect:
                case Apply(delta):
                    self.replica.apply(_changes(delta))
                case Install(_, chunks, deltas):
                    self.replica.install(
                        [*map(_changes, chunks)], [*map(_changes, deltas)], network.now_ns
                    )
                case Ask(_, request):
                    if network.rng.random() >= network.loss:
                        network.aggregators[self.node].request(
                            "serve", b"monitor", request, network.now_ns
                        )

    def total(self) -> int | float:
        """What it shows."""
        return self.replica.total(TOTAL)


def _changes(message: Delta | SnapshotChunk) -> Changes:
    assert isinstance(message.body, Changes)
    return message.body


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("has_store", [True, False])
def test_a_total_never_goes_down_at_a_monitor(
    seed: int, *, has_store: bool, tmp_path: Path
) -> None:
    """The aggregator is killed again and again under loss. With a store, or where all its hosts
    return, a monitor never shows less than it did; and in the end all that was counted."""
    network = Tree(
        ((0,), (0,), (0,)), ((),), seed, loss=0.1, folder=tmp_path if has_store else None
    )
    monitor = Monitor(network, 0)
    network.run(3000)
    shown = 0.0
    for _ in range(150):
        network.say(network.rng.randrange(3))
        if network.rng.random() < 0.05:
            network.kill(0)
            network.run(15_000 if network.rng.random() < 0.7 else 1000)
        network.run(network.rng.randint(1, 1000))
        monitor.step()
        assert shown <= monitor.total() <= network.counted
        shown = monitor.total()
    network.heal()
    assert monitor.total() == network.counted
    assert monitor.following.note == ""
    assert monitor.following.stale_since_ns(network.now_ns) is None


def test_what_a_departed_host_counted_stays_for_30_seconds_and_then_goes_with_a_word() -> None:
    """Without a store an aggregator that is killed has lost a host that left. A monitor shows its
    counts, as stale, for 30 s, and then says whose are missing."""
    network = Tree(((0,), (0,)), ((),), seed=1, loss=0.0)
    monitor = Monitor(network, 0)
    for host in range(2):
        network.say(host)
    network.run(5000)
    before = monitor.total()
    network.cut.add(("up", 0, 0))
    network.run(70_000)
    network.kill(0)
    network.run(29_000)
    assert monitor.total() == before == network.counted
    assert monitor.following.stale_since_ns(network.now_ns) is not None
    network.run(5000)
    assert monitor.total() < before
    assert "less than before of host-0" in monitor.following.note
    network.cut.clear()
    network.run(5000)
    assert monitor.total() == network.counted
    assert monitor.following.note == ""
