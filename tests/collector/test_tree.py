"""Aggregators that pass on to one another: every route, loss, restart and circle, one state."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from shardlog.crdt.delta import Entry, Fragment
from shardlog.crdt.replication.messages import (
    Ask,
    Delta,
    Heartbeat,
    HostStatus,
    Publish,
    SnapshotChunk,
)
from tests.collector.network import MS, START, Network
from tests.collector.tree import Tree

if TYPE_CHECKING:
    from shardlog.collector.aggregator.machine import Aggregator

TOTAL = "hosts/*/n"
REGIONS = ((0,), (0,), (1,), (1,))
"""Two hosts under each of two regional aggregators."""
GLOBAL = ((2,), (2,), ())
"""Both regions, 0 and 1, under a global one, 2."""
TWINS = ((0, 1), (0, 1), (0, 1, 2))
"""Two hosts that speak to both of two twins, a third also to the one above."""


def statuses(network: Network, node: int) -> dict[str, str]:
    """What a node says of each host."""
    hosts = network.aggregators[node].hosts(network.now_ns)
    return {status.host: status.status for status in hosts}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("feeds", [REGIONS, TWINS])
def test_every_count_reaches_the_top_exactly_over_losses_and_restarts(
    feeds: tuple[tuple[int, ...], ...], seed: int
) -> None:
    """Two regions under a global node, or twins under one that hears a host itself too: whatever is
    lost and whoever restarts, no total is ever too high, and in the end every one is right."""
    network = Tree(feeds, GLOBAL, seed)
    for _ in range(40):
        network.say(network.rng.randrange(len(feeds)))
        if network.rng.random() < 0.1:
            network.restart(network.rng.randrange(len(feeds)))
        if network.rng.random() < 0.1:
            network.kill(network.rng.randrange(3))
        network.run(network.rng.randint(1, 1500))
        for aggregator in network.aggregators:
            assert aggregator.state.total(TOTAL) <= network.counted
    network.heal()
    *regions, top = network.aggregators
    assert top.state.total(TOTAL) == network.counted
    assert set(statuses(network, 2).values()) == {"live"}
    if feeds is TWINS:
        assert {node.state.digest() for node in regions} == {top.state.digest()}
    top.state.check_invariants()
    assert not top.refused


def test_three_floors_equal_a_node_that_hears_all_itself() -> None:
    """Region, country, world: the top's digest is that of an aggregator right above the hosts."""
    feeds = [(0, 3) for _ in range(20)]
    network = Tree(feeds, ((1,), (2,), (), ()), seed=4)
    for _ in range(60):
        network.say(network.rng.randrange(20))
        network.run(100)
    network.heal()
    digests = {aggregator.state.digest() for aggregator in network.aggregators}
    assert len(digests) == 1
    assert network.aggregators[2].state.total(TOTAL) == network.counted


def test_fragments_are_passed_on_as_they_were_and_once() -> None:
    """Without loss, what twins pass on is what they heard, and the one above applies each once."""
    network = Tree(((0, 1),), GLOBAL, seed=1, loss=0.0)
    network.run(3000)
    network.say(0)
    network.run(1000)
    versions = network.aggregators[2].state.versions
    assert versions == network.sidecars[0].state.versions
    network.run(10_000)
    hosts = network.aggregators[2].hosts(network.now_ns)
    assert [host.version for host in hosts] == list(versions.values())


def test_a_host_is_as_live_as_its_best_route() -> None:
    """One of two twins is cut off from a host: the one above still has it live, by the other."""
    network = Tree(((0, 1),), GLOBAL, seed=2, loss=0.0)
    network.run(3000)
    network.cut.add(("up", 0, 0))
    network.run(10_000)
    assert statuses(network, 0) == {"host-0": "stale"}
    assert statuses(network, 2) == {"host-0": "live"}
    network.say(0)
    network.run(2000)
    assert network.aggregators[2].state.total(TOTAL) == network.counted
    network.cut.add(("up", 0, 1))
    network.run(10_000)
    assert statuses(network, 2) == {"host-0": "stale"}


def test_a_host_that_left_before_is_told_to_those_above() -> None:
    """A global node that is new learns from the region what a departed host had counted, and that
    it is stale, since when."""
    network = Tree(REGIONS, GLOBAL, seed=3, loss=0.0)
    for host in range(4):
        network.say(host)
    network.run(3000)
    network.cut.add(("up", 0, 0))
    left_ns = network.now_ns
    network.run(60_000)
    network.kill(2)
    network.run(10_000)
    top = network.aggregators[2]
    assert top.state.total(TOTAL) == network.counted
    (left,) = [status for status in top.hosts(network.now_ns) if status.host == "host-0"]
    assert left.status == "stale"
    assert left_ns - 2000 * MS <= left.since_ns <= left_ns


@pytest.mark.parametrize("seed", range(8))
def test_what_a_replaced_replica_had_told_is_told_to_those_above(seed: int) -> None:
    """Two stores go back in time under a region, whatever is lost: the global node has what their
    replicas had told before, whose owners nobody can ask any more, as the region has it, and a
    global node that is new as well."""
    network = Tree(((0,), (0,)), ((1,), ()), seed)
    for _ in range(2):
        for _ in range(10):
            network.say(network.rng.randrange(2))
            network.run(network.rng.randint(1, 1500))
        network.put_back(0, 1)
        network.put_back(1, 1)
    for is_new in (False, True):
        if is_new:
            network.kill(1)
        network.heal()
        region, top = network.aggregators
        told = [status.status for status in top.hosts(network.now_ns)]
        assert sorted(told) == ["live", "live", *["replaced"] * (len(told) - 2)]
        assert len(told) > 2
        assert top.state.digest() == region.state.digest()


def test_nodes_that_pass_on_in_a_circle_refuse_their_own_words() -> None:
    """Two nodes name each other: each refuses what it said itself, and counts it; a host that both
    hear and that goes is stale at both; its counts are right."""
    network = Tree(((0, 1), (0,)), ((1,), (0,)), seed=5, loss=0.0)
    for host in range(2):
        network.say(host)
    network.run(10_000)
    first, second = network.aggregators
    assert first.state.digest() == second.state.digest()
    assert first.state.total(TOTAL) == network.counted
    assert first.refused["circle"]
    network.cut |= {("up", 0, 0), ("up", 0, 1)}
    network.run(20_000)
    assert statuses(network, 0) == statuses(network, 1) == {"host-0": "stale", "host-1": "live"}


def test_a_hole_between_versions_asks_for_a_snapshot() -> None:
    """Sequences without a hole and versions with one: refused, and the snapshot is asked for."""
    network = Network(hosts=1, aggregators=1, seed=1, loss=0.0)
    (aggregator,) = network.aggregators
    network.say(0)
    network.run(3000)
    far = Fragment("replica-0", 90, 91, [], [], [], [Entry("hosts/0/n", 1, 99)])
    network.sidecars[0].subscribed("up", network.now_ns)
    effects = network.sidecars[0].take_effects()
    (beat,) = [e.message for e in effects if isinstance(e, Publish)]
    assert isinstance(beat, Heartbeat)
    delta = Delta("replica-0", beat.epoch, 0, beat.sequences[0] + 1, far)
    aggregator.receive(delta, network.now_ns)
    aggregator.handle_timer(network.now_ns)
    asks = [e for e in aggregator.take_effects() if isinstance(e, Ask)]
    assert [ask.source for ask in asks] == ["replica-0"]
    assert aggregator.refused == {"versions": 1}
    assert aggregator.state.total(TOTAL) == network.counted


def test_a_stream_that_names_no_run_is_refused() -> None:
    """It could not be passed on: refused and counted, on every channel."""
    network = Tree(((0,),), ((1,), ()), seed=1, loss=0.0, twins=((1,), ()))
    (region, _) = network.aggregators
    body = Fragment("r", 0, 1, [], [], [], [Entry("n", 1, 1)])
    chunk = SnapshotChunk("r", "", 1, None, None, [0], body)
    for epoch in ("", "/region:1"):
        region.receive(Heartbeat("r", epoch, START, 1000, [0], [], {}), START)
    region.receive(chunk, START)
    region.receive_from_twin("ipc:///1", chunk, START)
    assert region.refused == {"epoch": 3, "body": 1}
    assert region.hosts(START) == []


def test_a_snapshot_of_which_some_is_forgotten_while_it_is_under_way_is_asked_for_again() -> None:
    """The count is in its record in one chunk, beside it in the next: it would be there twice."""
    network = Tree(((0,),), ((1,), ()), seed=1, loss=0.0)
    top = network.aggregators[1]

    def chunk(request: int, after: str | None, following: str | None, *said: Any) -> None:
        path, alterations = said
        body = Fragment("r", 0, 1, [], [], [], [Entry(path, 1, 5)])
        names = ("r", "run/region:1", request, after, following, [0], body, "region")
        top.receive(SnapshotChunk(*names, alterations=alterations), START)

    beat = Heartbeat("r", "run/region:1", START, 1000, [0], [], {}, via="region")
    top.receive(beat, START)
    chunk(1, None, "hosts/0/n", "hosts/0/n", 0)
    chunk(1, "hosts/0/n", None, "hosts/~/n", 1)
    assert top.state.total(TOTAL) == 0
    top.handle_timer(START)
    asks = [effect.message for effect in top.take_effects() if isinstance(effect, Ask)]
    assert (asks[-1].request, asks[-1].after) == (2, None)
    chunk(2, None, None, "hosts/~/n", 1)
    assert top.state.total(TOTAL) == 5


def test_heartbeats_of_500_hosts_are_spread_over_the_interval() -> None:
    """No turn passes on more than a queue holds, and each host's comes once an interval."""
    network = Tree(((0,),), ((1,), ()), seed=6, loss=0.0)
    (region, _) = network.aggregators
    for i in range(500):
        _hear_host(region, f"replica-{1000 + i}", START)
    region.take_effects()
    beats: dict[int, list[str]] = {}
    for tick in range(400):
        at_ns = START + tick * 10 * MS
        region.handle_timer(at_ns)
        for effect in region.take_effects():
            if isinstance(effect, Publish) and effect.channel == "up":
                beats.setdefault(tick, []).append(effect.message.source)
    assert max(map(len, beats.values())) <= 50
    for source in {name for names in beats.values() for name in names}:
        ticks = [tick for tick, names in beats.items() if source in names]
        assert max(b - a for a, b in pairwise(ticks)) <= 110
    assert len({name for names in beats.values() for name in names}) == 500


def _hear_host(node: Aggregator, replica: str, now_ns: int) -> None:
    status = HostStatus(replica, replica, "live", now_ns, now_ns)
    node.receive(Heartbeat(replica, "e", now_ns, 1000, [0], [status], {}), now_ns)
    body = Fragment(replica, 0, 0, [], [], [], [])
    node.receive(SnapshotChunk(replica, "e", 1, None, None, [0], body), now_ns)
