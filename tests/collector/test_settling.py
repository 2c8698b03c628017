"""Settling: after a start an aggregator says why it may not have heard all yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.replication.messages import Heartbeat, Publish
from tests.collector.network import MS
from tests.collector.test_tree import GLOBAL, REGIONS
from tests.collector.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path


def settling(network: Tree, node: int) -> str:
    """Why the node may not have heard all yet, as it says to monitors."""
    return beat(network, node).settling


def lower_bound(network: Tree, node: int) -> str:
    """Why it may never have all, as it says to monitors."""
    return beat(network, node).lower_bound


def beat(network: Tree, node: int) -> Heartbeat:
    """The node's next heartbeat to monitors."""
    network.aggregators[node].subscribed("serve", network.now_ns)
    (message,) = [
        effect.message
        for effect in network.aggregators[node].take_effects()
        if isinstance(effect, Publish)
        and effect.channel == "serve"
        and isinstance(effect.message, Heartbeat)
    ]
    return message


def test_it_settles_once_all_are_live_and_three_heartbeats_have_passed() -> None:
    """A new aggregator says that it has just started, and nothing more 3 s later; what happens to a
    host after that is the host's status, and no settling."""
    network = Tree(((0,), (0,)), ((),), seed=1, loss=0.0)
    network.run(2000)
    assert "just started" in settling(network, 0)
    network.run(2000)
    assert settling(network, 0) == ""
    network.cut.add(("up", 0, 0))
    network.run(10_000)
    assert settling(network, 0) == ""


def test_hosts_that_are_remembered_are_waited_for(tmp_path: Path) -> None:
    """A host that was there before the restart and is not yet: said, until it is live."""
    network = Tree(((0,), (0,), (0,)), ((),), seed=1, loss=0.0, folder=tmp_path)
    network.run(10_000)
    network.cut |= {("up", 0, 0), ("up", 1, 0)}
    network.kill(0)
    network.run(10_000)
    assert settling(network, 0) == "2 of 3 hosts are not live yet"
    network.cut.clear()
    network.run(3000)
    assert settling(network, 0) == ""


def test_hosts_that_had_left_before_the_restart_are_not_waited_for(tmp_path: Path) -> None:
    """Silent for more than a minute when the aggregator ended: it has left, and is shown stale."""
    network = Tree(((0,), (0,)), ((),), seed=1, loss=0.0, folder=tmp_path)
    network.run(10_000)
    network.cut.add(("up", 0, 0))
    network.run(90_000)
    network.kill(0)
    network.run(5000)
    assert settling(network, 0) == ""


def test_nobody_is_waited_for_longer_than_a_minute(tmp_path: Path) -> None:
    """A host that left during the restart does not keep the aggregator settling for ever."""
    network = Tree(((0,), (0,)), ((),), seed=1, loss=0.0, folder=tmp_path)
    network.run(10_000)
    network.cut.add(("up", 0, 0))
    network.kill(0)
    network.run(50_000)
    assert "1 of 2" in settling(network, 0)
    network.run(12_000)
    assert settling(network, 0) == ""


def test_who_is_above_settles_no_sooner_than_those_below(tmp_path: Path) -> None:
    """A region that was restarted and lacks a host: the global node, new too, says so."""
    network = Tree(REGIONS, GLOBAL, seed=1, loss=0.0, folder=tmp_path)
    network.run(10_000)
    network.cut.add(("up", 0, 0))
    network.kill(0)
    network.stores[2].close()
    del network.stores[2]  # the node above remembers nothing
    network.kill(2)
    network.run(10_000)
    assert settling(network, 0) == "1 of 2 hosts are not live yet"
    assert settling(network, 2) == (
        "an aggregator below is settling: 1 of 2 hosts are not live yet"
    )
    network.cut.clear()
    network.run(4000)
    assert [settling(network, node) for node in range(3)] == ["", "", ""]


def test_a_clock_that_steps_back_does_not_prolong_it() -> None:
    """An hour back while it settles: it is over within a minute, not within an hour."""
    network = Tree(((0,),), ((),), seed=1, loss=0.0)
    network.run(1000)
    (node,) = network.aggregators
    back_ns = network.now_ns - 3600 * 1000 * MS
    said = "nothing"
    for second in range(65):
        node.handle_timer(back_ns + second * 1000 * MS)
        for effect in node.take_effects():
            if isinstance(effect, Publish) and isinstance(effect.message, Heartbeat):
                said = effect.message.settling
    assert said == ""


def test_what_may_never_be_whole_is_told_to_those_above_and_to_monitors() -> None:
    """A region whose memory was damaged says so in its heartbeats, and the node above it too."""
    network = Tree(REGIONS, GLOBAL, seed=1, loss=0.0)
    network.kill(0, lower_bound="it was damaged")
    network.run(5000)
    assert [lower_bound(network, node) for node in range(3)] == [
        "it was damaged",
        "",
        "it was damaged",
    ]
