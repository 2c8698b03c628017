"""Twins: an aggregator that starts anew has from the other what hosts had said that are gone."""

from __future__ import annotations

from random import Random

import pytest

from shardlog.collector.aggregator.roll import Known, Roll
from shardlog.collector.aggregator.twin import AskTwin, Twin, roster
from shardlog.crdt.delta import Entry, Fragment
from shardlog.crdt.replication.messages import (
    HostStatus,
    Roster,
    RosterRequest,
    SnapshotChunk,
    SnapshotRequest,
)
from shardlog.crdt.state import State
from shardlog.crdt.wire.codec import decode_from_twin, encode
from tests.collector.network import MS, START
from tests.collector.test_settling import settling
from tests.collector.test_tree import TOTAL, statuses
from tests.collector.tree import Tree

BOTH = ((0, 1),) * 4
"""Four hosts that speak to both of two twins."""


def twins(seed: int, loss: float) -> Tree:
    """Two aggregators that are each other's twin."""
    return Tree(BOTH, ((), ()), seed, loss, twins=((1,), (0,)))


@pytest.mark.parametrize("seed", range(10))
def test_a_new_twin_ends_with_what_the_other_has(seed: int) -> None:
    """Hosts leave, then one twin is killed; under loss, with other hosts counting on: it ends with
    all that was counted, and equal digests; and it never shows more than that."""
    network = twins(seed, loss=0.2)
    for host in range(4):
        for _ in range(5):
            network.say(host)
            network.run(200)
    network.run(20_000)
    network.cut |= {("up", host, node) for host in (0, 1) for node in (0, 1)}
    network.run(70_000)
    network.kill(0)
    for _ in range(20):
        network.say(network.rng.choice((2, 3)))
        network.run(500)
        assert network.aggregators[0].state.total(TOTAL) <= network.counted
    network.heal()
    first, second = network.aggregators
    assert first.state.total(TOTAL) == network.counted
    assert first.state.digest() == second.state.digest()
    assert statuses(network, 0) == {
        "host-0": "stale",
        "host-1": "stale",
        "host-2": "live",
        "host-3": "live",
    }
    assert network.aggregators[0].state.versions == network.aggregators[1].state.versions


def test_what_is_fetched_is_stale_since_the_host_was_heard() -> None:
    """Nobody is live because a twin says so, and the time is that of the host's last word."""
    network = twins(1, loss=0.0)
    network.say(0)
    network.run(3000)
    left_ns = network.now_ns
    network.cut |= {("up", 0, 0), ("up", 0, 1)}
    network.run(30_000)
    network.kill(0)
    network.run(5000)
    (host,) = [s for s in network.aggregators[0].hosts(network.now_ns) if s.host == "host-0"]
    assert host.status == "stale"
    assert left_ns - 2000 * MS <= host.since_ns <= left_ns + 100 * MS


def test_it_settles_when_all_is_fetched() -> None:
    """Within seconds, and not before the twin has been asked."""
    network = twins(1, loss=0.0)
    network.run(3000)
    network.kill(0)
    assert "has not said yet" in settling(network, 0)
    network.run(6000)
    assert settling(network, 0) == ""


def test_a_twin_that_is_absent_does_no_harm() -> None:
    """It is waited for 15 s, which is said, and asked again and again; when it is there at last, it
    is taken from it."""
    network = twins(1, loss=0.0)
    network.say(0)
    network.run(3000)
    network.cut |= {("up", 0, 0), ("up", 0, 1), ("twin", 0, 1)}
    network.kill(0)
    network.run(10_000)
    assert settling(network, 0) == "ipc:///1 has not said yet which hosts it knows"
    network.run(10_000)
    assert settling(network, 0) == ""
    assert network.aggregators[0].state.total(TOTAL) == 0
    network.cut.discard(("twin", 0, 1))
    network.run(5000)
    assert network.aggregators[0].state.total(TOTAL) == network.counted


def test_once_nothing_is_lacking_nothing_is_asked() -> None:
    """All hosts are live: the twin is left alone."""
    network = twins(1, loss=0.0)
    network.run(3000)
    network.kill(0)
    network.run(10_000)
    network.aggregators[0].handle_timer(network.now_ns + 3600 * 1000 * MS)
    effects = network.aggregators[0].take_effects()
    assert not [effect for effect in effects if isinstance(effect, AskTwin)]


class Asked:
    """The asking end alone: what it asks, and answers made by hand."""

    def __init__(self) -> None:
        self.state = State()
        self.now_ns = START
        self.twin = Twin(
            "a", Roll(self.state, interval_ms=1000), self.state, rng=Random(1), now_ns=START
        )

    def asks(self, after_ms: int = 0) -> list[RosterRequest | SnapshotRequest]:
        self.now_ns += after_ms * MS
        self.twin.handle_timer(self.now_ns)
        return [e.message for e in self.twin.take_effects() if isinstance(e, AskTwin)]

    def answer(self, message: Roster | SnapshotChunk) -> list[object]:
        self.twin.receive(message, self.now_ns)
        return [*self.twin.take_effects()]


def chunk(
    request: int, after: str | None, following: str | None, version: int, alterations: int = 0
) -> SnapshotChunk:
    """A chunk of the replica r, at a version."""
    body = Fragment("r", 0, version, [], [], [], [Entry("n", 1, version)])
    said = ("r", "e", request, after, following, list[int](), body)
    return SnapshotChunk(*said, alterations=alterations)


@pytest.mark.parametrize("second", [(6, 0), (5, 1)], ids=["moves on", "is altered"])
def test_a_replica_that_is_another_between_two_chunks_is_not_taken(second: tuple[int, int]) -> None:
    """Two versions, or a record that the twin forgot: asked for later, from the roster on."""
    asked = Asked()
    assert asked.asks() == [RosterRequest(None)]
    hosts = [HostStatus("h", "r", "live", 1, 1, 5)]
    assert asked.answer(Roster(None, None, hosts)) == [AskTwin("a", SnapshotRequest(1, None, "r"))]
    assert asked.answer(chunk(1, None, "n", 5)) == [AskTwin("a", SnapshotRequest(1, "n", "r"))]
    assert asked.answer(chunk(1, "n", None, *second)) == []
    assert asked.asks(1000) == []
    assert asked.asks(30_000) == [RosterRequest(None)]


def test_what_was_not_asked_for_is_not_taken() -> None:
    """Chunks and rosters out of turn, as of an earlier attempt, do nothing."""
    asked = Asked()
    assert asked.answer(chunk(1, None, None, 5)) == []
    assert asked.answer(Roster("x", None, [])) == []
    assert asked.asks() == [RosterRequest(None)]
    assert asked.answer(chunk(0, None, None, 5)) == []


def test_a_replica_that_is_not_answered_for_does_not_hold_up_the_others() -> None:
    """Three attempts, then the next one; and the roster again in a while."""
    asked = Asked()
    asked.asks()
    hosts = [HostStatus("h", name, "stale", 1, 1, 5) for name in ("q", "r")]
    (first,) = asked.answer(Roster(None, None, hosts))
    assert first == AskTwin("a", SnapshotRequest(1, None, "r"))
    said = [asked.asks(2000) for _ in range(3)]
    assert said == [[SnapshotRequest(1, None, "r")]] * 2 + [[SnapshotRequest(2, None, "q")]]


def test_a_roster_fits_into_frames_whatever_hosts_say_of_themselves() -> None:
    """With the longest names and reasons, and many lost stores: all hosts are named, in turns."""
    roll = Roll(State(), interval_ms=1000)
    names = [f"{i:0255}" for i in range(600)]
    for name in names:
        replaces = [f"{n:0255}" for n in range(32)]
        roll.add(name, Known("h" * 255, "run", lower_bound="\xe9" * 1000, replaces=replaces))
    told: list[str] = []
    after: str | None = None
    while after is not None or not told:
        answer = decode_from_twin(encode(roster(roll, RosterRequest(after), START)))
        assert isinstance(answer, Roster)
        told += [status.replica for status in answer.hosts]
        after = answer.next
    assert told == names
