"""What is passed down: no host forgets what others still write, and a floor reaches all owners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shardlog.collector.aggregator import machine as aggregator_machine
from shardlog.collector.aggregator.departed import Departed
from shardlog.collector.aggregator.downwards import Downwards
from shardlog.collector.sidecar.members import Members
from shardlog.crdt.delta import Entry, Erase, Fragment, Write
from shardlog.crdt.replication.messages import (
    Heartbeat,
    Member,
    Publish,
    RecordClock,
    Report,
    SnapshotChunk,
)
from shardlog.crdt.retention import Retention
from shardlog.crdt.state import State
from shardlog.crdt.wire.codec import encode
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL, FRAME_BYTES_MAX, ITEM_BYTES_MAX
from tests.collector.tree import Tree
from tests.crdt.test_mutants import Mutant, mutated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MS = 1_000_000
SECOND = 1000 * MS
TABLE = Retention({"intents/*": "100s", "shardlog/health/*/*": "forever"})
TOTAL = "intents/*/n"
FLAT = ((0, 1), (0, 1), (0, 1)), ((), ())
REGIONS = ((0,), (1,), (0, 1)), ((2,), (2,), ())


def network(
    shape: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]], seed: int, loss: float = 0.2
) -> Tree:
    feeds, above = shape
    return Tree(feeds, above, seed, loss, retention=TABLE)


def erase(tree: Tree, host: int, path: str, at_ns: int) -> None:
    process = f"blade-{host}@host-{host}:1"
    tree.deliver(host, Report(process, 1, tree.now_ns, False, [], [Erase(path, at_ns, 0)], []))


def states(tree: Tree) -> list[State]:
    return [*(s.state for s in tree.sidecars), *(a.state for a in tree.aggregators)]


def digests(tree: Tree) -> set[str]:
    return {node.state.digest() for node in tree.aggregators}


@pytest.mark.parametrize("shape", [FLAT, REGIONS], ids=["flat", "regions"])
@pytest.mark.parametrize("seed", range(4))
def test_no_host_forgets_its_part_while_another_writes(
    shape: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]], seed: int
) -> None:
    """Host 0 spoke once. Its part stays until the record is due for all, restarts included."""
    tree = network(shape, seed)
    tree.count(0, "shared")
    tree.count(0, "own")
    for _ in range(15):
        tree.run(20_000)
        tree.count(1, "shared")
        if tree.rng.random() < 0.3:
            tree.restart(0)
        if tree.rng.random() < 0.3:
            tree.kill(tree.rng.randrange(len(tree.aggregators)))
    assert tree.sidecars[0].state.counters("intents/shared") == ["intents/shared/n"]
    assert tree.sidecars[0].state.counters("intents/own") == []
    tree.run(110_000)
    tree.heal()
    for state in states(tree):
        assert state.at_and_below("intents/shared") == []
    assert tree.aggregators[-1].state.total(TOTAL) == tree.counted
    assert len(digests(tree)) == 1 or shape is REGIONS


@pytest.mark.parametrize("shape", [FLAT, REGIONS], ids=["flat", "regions"])
@pytest.mark.parametrize("seed", range(4))
def test_an_erase_on_one_host_resets_the_counts_of_all(
    shape: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]], seed: int
) -> None:
    """At their owners: what is counted after it starts from zero, and the floor is theirs too."""
    tree = network(shape, seed)
    for host in range(3):
        tree.count(host, "1")
    tree.run(5_000)
    erase(tree, 2, "intents/1", tree.now_ns)
    tree.run(2_000)
    tree.heal()
    before = tree.counted
    for host in range(3):
        tree.count(host, "1")
    tree.heal()
    assert tree.aggregators[-1].state.total(TOTAL) == tree.counted - before
    for sidecar in tree.sidecars:
        (entry,) = sidecar.state.entries("intents/1/n").values()
        assert entry.base
        assert "intents/1" in sidecar.state.map.floors


@pytest.mark.parametrize("seed", range(6))
def test_what_departed_is_forgotten_above_and_returns_as_it_is(seed: int) -> None:
    """A host that is cut off is collapsed in its parents' view; its snapshot replaces that."""
    tree = network(FLAT, seed)
    tree.count(0, "1")
    tree.count(1, "1")
    tree.run(10_000)
    links = {("up", 0, node) for node in (0, 1)}
    tree.cut |= links
    tree.run(200_000)
    for node in tree.aggregators:
        assert node.state.at_and_below("intents/1") == []
        assert node.state.total(TOTAL) == tree.counted
    if seed % 2:
        tree.count(0, "1")
        tree.run(1_000)
    for node in tree.aggregators:
        assert node.state.total(TOTAL) <= tree.counted
    if seed % 3 == 1:
        tree.kill(0)
    tree.cut -= links
    tree.heal()
    assert len(digests(tree)) == 1
    for node in tree.aggregators:
        assert node.state.total(TOTAL) == tree.counted


def random_run(seed: int) -> None:
    """Hosts write, count, fall silent, return; nodes restart. In the end all nodes agree, no count
    was lost or doubled, and nothing was forgotten that somebody had written since.
    """
    tree = network(FLAT, seed, loss=0.1)
    cuts = [("up", host, node) for host in range(3) for node in (0, 1)]
    for _ in range(25):
        host = tree.rng.randrange(3)
        tree.count(host, tree.rng.choice("12"))
        if tree.rng.random() < 0.15:
            tree.restart(host)
        if tree.rng.random() < 0.1:
            tree.kill(tree.rng.randrange(2))
        if tree.rng.random() < 0.1:
            tree.cut.add(tree.rng.choice(cuts))
        if tree.rng.random() < 0.3:
            tree.cut.clear()
        tree.run(tree.rng.choice([200, 3_000, 30_000, 70_000]))
        for node in tree.aggregators:
            assert node.state.total(TOTAL) <= tree.counted
    tree.cut.clear()
    tree.heal()
    assert len(digests(tree)) == 1
    assert tree.aggregators[0].state.total(TOTAL) == tree.counted
    tree.run(110_000)
    tree.heal()
    assert len(digests(tree)) == 1
    for state in states(tree):
        assert {p.split("/")[1] for p in state.at_and_below("intents")} <= {"~"}
    assert tree.aggregators[0].state.total(TOTAL) == tree.counted


@pytest.mark.parametrize("seed", range(8))
def test_records_are_forgotten_everywhere_and_no_count_with_them(seed: int) -> None:
    """By random hosts, cuts and restarts."""
    random_run(seed)


def two_parts() -> tuple[State, Downwards]:
    """A node that hears two hosts, of which one wrote and counted at 5 s, the other at 9 s."""
    state = State()
    down = Downwards(state, TABLE, bytes_max=1000)
    for replica, second in (("a", 5), ("b", 9)):
        writes = [Write(f"intents/1/{replica}", second * SECOND, 0, 1)]
        entries = [Entry("intents/1/n", second * SECOND, 1)]
        fragment = Fragment(replica, 0, 1, ["p"], writes, [], entries)
        state.merge(fragment)
        down.learn(fragment)
    return state, down


REACH = {"a": ["a"], "b": ["b"]}


def test_a_clock_is_told_until_it_is_heard() -> None:
    """To whoever has an older one, rounded up; and anew to one that began anew."""
    _, down = two_parts()
    (tell,) = down.sweep(REACH, 10 * SECOND)
    told = RecordClock("intents/1", 10 * SECOND)  # a hundredth of 100 s above the newest
    assert (tell.child, tell.message.clocks) == ("a", [told])
    assert down.sweep(REACH, 12 * SECOND) == []
    (again,) = down.sweep(REACH, 15 * SECOND)
    assert again.message.clocks == [told]
    down.heard("a", tell.message.number)
    (third,) = down.sweep(REACH, 20 * SECOND)
    down.heard("a", third.message.number)
    assert down.sweep(REACH, 25 * SECOND) == []
    down.begin("a")
    down.learn(Fragment("a", 1, 2, ["p"], [Write("intents/1/x", 6 * SECOND, 0, 1)], [], []))
    (anew,) = down.sweep(REACH, 26 * SECOND)
    assert anew.message.clocks == [told]


def test_a_floor_is_told_until_the_part_shows_it() -> None:
    """To those who hold something below it, whoever said it."""
    state, down = two_parts()
    for tell in down.sweep(REACH, 10 * SECOND):
        down.heard(tell.child, tell.message.number)
    floor = Erase("intents/1", 7 * SECOND, 0)
    fragment = Fragment("b", 1, 2, ["q"], [], [floor], [])
    state.merge(fragment)
    down.learn(fragment)
    (tell,) = down.sweep(REACH, 11 * SECOND)
    assert (tell.child, tell.message.floors, tell.message.writers) == ("a", [floor], ["q"])
    assert down.sweep(REACH, 12 * SECOND) == []
    (again,) = down.sweep(REACH, 15 * SECOND)
    assert again.message.floors == [floor]
    entry = Entry("intents/1/n", 5 * SECOND, 1, base=1, reset=7 * SECOND)
    fragment = Fragment("a", 1, 2, ["q"], [], [floor], [entry])
    state.merge(fragment)
    down.learn(fragment)
    assert down.sweep(REACH, 20 * SECOND) == []
    assert down.sweep(REACH, 25 * SECOND) == []


def test_a_register_that_a_newer_one_at_its_path_replaces_needs_no_floor() -> None:
    """All hosts may write to one path all the time: nothing is passed down for that."""
    state = State()
    down = Downwards(state, TABLE, bytes_max=1000)
    for replica, second in (("a", 5), ("b", 9)):
        fragment = Fragment(replica, 0, 1, ["p"], [Write("last", second * SECOND, 0, 1)], [], [])
        state.merge(fragment)
        down.learn(fragment)
    assert down.sweep(REACH, 10 * SECOND) == []


def test_a_departed_part_stays_as_long_as_its_record() -> None:
    """Somebody else still writes there: what the departed one said still shows."""
    state, down = two_parts()
    departed = Departed(state, TABLE, down.clock)
    assert departed.sweep(["a"], 107 * SECOND) == []
    assert state.shown("intents/1/a") is not None
    assert departed.sweep(["a"], 110 * SECOND) == ["a"]
    assert state.shown("intents/1/a") is None
    assert (state.total("intents/1/n"), state.total(TOTAL)) == (1, 2)


def test_what_is_heard_of_a_replica_that_has_departed_is_forgotten_too() -> None:
    """As of one that was replaced: the last of it may come by way of another node."""
    state, down = two_parts()
    departed = Departed(state, TABLE, down.clock)
    assert departed.sweep(["a"], 0) == []
    state.merge(Fragment("a", 1, 2, ["p"], [Write("intents/2/a", 20, 0, 1)], [], []))
    departed.changed("a")
    assert departed.sweep(["a"], 300 * SECOND) == ["a"]
    assert state.shown("intents/2/a") is None


def keeps_shared(seed: int) -> None:
    test_no_host_forgets_its_part_while_another_writes(FLAT, seed)


def resets(seed: int) -> None:
    test_an_erase_on_one_host_resets_the_counts_of_all(FLAT, seed)


def returns(seed: int) -> None:
    test_what_departed_is_forgotten_above_and_returns_as_it_is(seed)


MISTAKES = [
    ("downwards", Mutant("no clock", "self._look_beside(record, reach)", "pass"), keeps_shared),
    ("downwards", Mutant("no floor", "self._floors[replica, place, floor] = None", "pass"), resets),
    ("departed", Mutant("no collapse", "self._state.put(replica, moved)", "pass"), returns),
]


@pytest.mark.parametrize(("module", "mutant", "run"), MISTAKES)
def test_a_mistake_is_found(
    module: str, mutant: Mutant, run: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by one of the random runs above."""
    mistaken = mutated(f"shardlog.collector.aggregator.{module}", mutant)
    name = module.capitalize()
    monkeypatch.setattr(aggregator_machine, name, getattr(mistaken, name))
    with pytest.raises(AssertionError):
        run_all(run)


def run_all(run: Callable[[int], None]) -> None:
    for seed in range(4):
        run(seed)


@pytest.mark.parametrize("shape", [FLAT, REGIONS], ids=["flat", "regions"])
@pytest.mark.parametrize("seed", range(4))
def test_an_aggregator_that_starts_anew_knows_whom_it_lacks(
    shape: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]], seed: int
) -> None:
    """By what the collectors were told; once the host is back nothing is missing."""
    tree = network(shape, seed)
    for host in range(3):
        tree.count(host, "1")
    tree.run(30_000)
    links = {("up", 0, node) for node in range(len(tree.aggregators))}
    tree.cut |= links
    for host in (1, 2):
        tree.restart(host)
    for node in range(len(tree.aggregators)):
        tree.kill(node)
    tree.heal()
    top = tree.aggregators[-1]
    assert lower_bound(tree) == "what host-0 counted before this aggregator started is not here"
    assert top.state.total(TOTAL) < tree.counted
    tree.cut -= links
    tree.heal()
    assert lower_bound(tree) == ""
    assert top.state.total(TOTAL) == tree.counted


def lower_bound(tree: Tree) -> str:
    """What the last node's next heartbeat to monitors says."""
    top = tree.aggregators[-1]
    top.subscribed("serve", tree.now_ns)
    beats = [e.message for e in top.take_effects() if isinstance(e, Publish)]
    return next(b.lower_bound for b in beats if isinstance(b, Heartbeat))


def test_members_leave_room_in_a_frame_for_the_chunk_that_they_go_with() -> None:
    """2,000 with the longest names would be a frame by themselves."""
    members = Members({})
    members.hear("tcp://a:1", (Member(f"{i:0255}", "\xe9" * 127) for i in range(2000)))
    body = Fragment("r", 0, 1, [], [], [], [])
    chunk = SnapshotChunk("r", "e", 1, None, None, [1], body, members=members.known_to("tcp://a:1"))

    assert len(chunk.members) > 200
    assert len(encode(chunk)) < FRAME_BYTES_MAX - FRAME_BYTES_GOAL - ITEM_BYTES_MAX
