"""The receiving end of a stream: no hole, nothing twice, and whole again when the links are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.replication.follower import RETRY_MS_MAX, RETRY_MS_MIN, Follower
from shardlog.crdt.replication.messages import (
    Apply,
    Ask,
    Changes,
    Delta,
    Install,
    SnapshotChunk,
    SnapshotRequest,
    StreamMessage,
)
from shardlog.crdt.replication.publisher import Publisher
from tests.crdt.lossy_stream import MS, SECOND, Faults, Simulation, swarm

NOTHING = Changes([], [])


@pytest.mark.parametrize("hundred", range(4))
def test_a_swarm_of_faults_leaves_no_hole_and_heals(hundred: int) -> None:
    """Loss, repetition, delay, reordering, new epochs, new followers, tiny buffers: see `swarm`."""
    for seed in range(100 * hundred, 100 * hundred + 100):
        swarm(seed)


def test_a_swarm_meets_what_it_is_about() -> None:
    """The simulation is no idle wheel: there are many snapshots, and many gaps."""
    runs = [swarm(seed) for seed in range(40)]

    assert sum(run.installs for run in runs) > 200
    assert sum(run.gaps + run.follower.gaps for run in runs) > 30


def test_good_links_need_one_snapshot() -> None:
    """Without loss there is one request, one installation, and no gap."""
    run = Simulation(1, Faults())
    run.run(60 * SECOND, writes_ms=20)
    run.run(61 * SECOND, writes_ms=None)

    assert run.is_whole()
    assert (run.installs, run.follower.gaps) == (1, 0)


def test_the_same_seed_gives_the_same_trace() -> None:
    """Nothing depends on the order of a set: two hash seeds, one trace."""
    script = "from tests.crdt.lossy_stream import trace_of; print(trace_of(range(12)))"
    traces = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(traces) == 1
    assert len(traces.pop()) > 10_000


class Pair:
    """A publisher and a follower of two lanes, and nothing between them."""

    def __init__(self, buffer_deltas_max: int = 10) -> None:
        self.publisher = Publisher("source", "epoch-1", lanes=2, interval_ms=1000)
        self.follower = Follower(
            "source", lanes=[0, 1], rng=Random(1), buffer_deltas_max=buffer_deltas_max
        )

    def delta(self, lane: int = 0) -> Delta:
        """The next delta of a lane, not yet received."""
        return self.publisher.delta(lane, NOTHING)

    def chunk(
        self, request: int, after: str | None = None, following: str | None = None
    ) -> SnapshotChunk:
        """A chunk as things stand."""
        return self.publisher.chunk(SnapshotRequest(request, after), NOTHING, following)

    def beat(self, now_ns: int = 0) -> None:
        """Let the follower hear a heartbeat."""
        self.follower.receive(self.publisher.heartbeat(now_ns, [], {}), now_ns)

    def make_live(self) -> None:
        """First contact and a snapshot of one chunk."""
        self.beat()
        self.follower.receive(self.chunk(1), 0)
        self.follower.take_effects()
        assert self.follower.phase == "live"


def test_it_asks_only_when_it_has_heard_something() -> None:
    """Before the first heartbeat there is no request and no timer, whatever else comes."""
    pair = Pair()
    pair.follower.receive(pair.chunk(0), 0)
    pair.follower.receive(pair.delta(), 0)
    assert pair.follower.take_effects() == []
    assert pair.follower.next_timer_ns() is None

    pair.beat()
    assert pair.follower.take_effects() == [Ask("source", SnapshotRequest(1, None))]
    assert pair.follower.take_effects() == []


def test_chunks_and_the_deltas_behind_the_first_are_installed_at_once() -> None:
    """Deltas between the chunks are part of the installation, older ones are not."""
    pair = Pair()
    pair.beat()
    pair.follower.receive(pair.delta(), 0)
    first = pair.chunk(1, None, "m")
    pair.follower.receive(first, 0)
    delta = pair.delta(lane=1)
    last = pair.chunk(1, "m")
    pair.follower.receive(last, 0)
    assert not any(isinstance(effect, Install) for effect in pair.follower.take_effects())

    pair.follower.receive(delta, 0)
    assert pair.follower.take_effects() == [Install("source", (first, last), (delta,))]
    assert pair.follower.phase == "live"


def test_live_deltas_are_applied_once() -> None:
    """The next one is applied, a repetition is not, and lanes count for themselves."""
    pair = Pair()
    pair.make_live()
    deltas = [pair.delta(0), pair.delta(1), pair.delta(0)]
    for delta in [deltas[0], deltas[0], deltas[1], deltas[0], deltas[2], deltas[1]]:
        pair.follower.receive(delta, 0)

    assert pair.follower.take_effects() == [Apply(delta) for delta in deltas]


@pytest.mark.parametrize("noticed_by", ["delta", "heartbeat"])
def test_a_gap_is_noticed(noticed_by: str) -> None:
    """By the delta behind it or, where that was the last, by the heartbeat."""
    pair = Pair()
    pair.make_live()
    pair.delta()
    if noticed_by == "delta":
        pair.follower.receive(pair.delta(), 0)
    else:
        pair.beat()

    assert pair.follower.phase == "syncing"
    assert pair.follower.gaps == 1
    assert pair.follower.take_effects() == [Ask("source", SnapshotRequest(2, None))]


def test_a_buffer_that_overflows_becomes_a_new_request() -> None:
    """Never a silent loss: the deltas before are covered by the chunk that is asked for then."""
    pair = Pair(buffer_deltas_max=2)
    pair.beat()
    pair.follower.receive(pair.chunk(1, None, "m"), 0)
    deltas = [pair.delta() for _ in range(3)]
    for delta in deltas:
        pair.follower.receive(delta, 0)
    assert pair.follower.take_effects() == [Ask("source", SnapshotRequest(2, None))]

    chunk = pair.chunk(2)
    pair.follower.receive(chunk, 0)
    assert pair.follower.take_effects() == [Install("source", (chunk,), ())]


def test_pauses_between_attempts_grow_and_are_jittered() -> None:
    """Twice as long each time, up to a limit; and each up to twice itself."""
    pair = Pair()
    pair.beat()
    now_ns = 0
    longest_ms = RETRY_MS_MIN
    for _ in range(12):
        timer_ns = pair.follower.next_timer_ns()
        assert timer_ns is not None
        assert longest_ms * MS <= timer_ns - now_ns <= 2 * longest_ms * MS
        pair.follower.take_effects()
        pair.follower.handle_timer(timer_ns - 1)
        assert pair.follower.take_effects() == []
        now_ns = timer_ns
        pair.follower.handle_timer(now_ns)
        assert len(pair.follower.take_effects()) == 1
        longest_ms = min(2 * longest_ms, RETRY_MS_MAX)


def test_a_source_is_stale_after_three_of_its_intervals() -> None:
    """And it is not any more as soon as it speaks."""
    pair = Pair()
    pair.beat(now_ns=5 * SECOND)
    assert not pair.follower.is_stale(8 * SECOND)
    assert pair.follower.is_stale(8 * SECOND + 1)

    pair.beat(now_ns=9 * SECOND)
    assert not pair.follower.is_stale(9 * SECOND)


def test_a_new_epoch_begins_again() -> None:
    """What was known of the old one counts for nothing, and its chunks are not taken."""
    pair = Pair()
    pair.make_live()
    old_chunk = pair.chunk(2)
    pair.publisher = Publisher("source", "epoch-2", lanes=2, interval_ms=1000)
    delta = pair.delta()
    pair.follower.receive(delta, 0)
    pair.follower.receive(old_chunk, 0)
    assert pair.follower.take_effects() == [Ask("source", SnapshotRequest(2, None))]

    chunk = pair.chunk(2)
    pair.follower.receive(chunk, 0)
    assert pair.follower.take_effects() == [Install("source", (chunk,), ())]


def test_other_lanes_are_none_of_its_business() -> None:
    """Deltas, gaps and sequences of lanes that are not followed are passed over."""
    pair = Pair()
    pair.follower = Follower("source", lanes=[1], rng=Random(1))
    pair.make_live()
    pair.delta(lane=0)
    pair.follower.receive(pair.delta(lane=0), 0)
    pair.beat()

    assert pair.follower.phase == "live"
    assert pair.follower.take_effects() == []


@pytest.mark.parametrize("lanes", [0, 1])
def test_a_stream_without_the_lanes_is_refused(lanes: int) -> None:
    """A heartbeat or a chunk with too few sequences is the peer's mistake and changes nothing."""
    pair = Pair()
    pair.make_live()
    other = Publisher("source", "epoch-2", lanes=lanes, interval_ms=1)
    messages: list[StreamMessage] = [
        other.heartbeat(0, [], {}),
        other.chunk(SnapshotRequest(2, None), NOTHING, None),
    ]
    for message in messages:
        with pytest.raises(RemoteProtocolError):
            pair.follower.receive(message, 0)

    assert pair.follower.phase == "live"
    assert pair.follower.take_effects() == []


def test_a_chunk_of_an_older_attempt_is_not_taken() -> None:
    """Else a chunk that was made before the first one could pass for a later one."""
    pair = Pair()
    pair.make_live()
    older = pair.chunk(1, "m")
    pair.delta()
    pair.beat()
    first = pair.chunk(2, None, "m")
    pair.follower.receive(first, 0)
    pair.follower.receive(older, 0)
    assert pair.follower.phase == "syncing"

    last = pair.chunk(2, "m")
    pair.follower.receive(last, 0)
    assert pair.follower.take_effects() == [Install("source", (first, last), ())]


def test_a_clock_that_steps_back_prolongs_no_pause() -> None:
    """Neither until it asks again, nor until a silent source is stale."""
    pair = Pair()
    day_ns = 86_400 * SECOND
    pair.beat(now_ns=day_ns)
    pair.follower.take_effects()
    pair.follower.handle_timer(0)
    timer_ns = pair.follower.next_timer_ns()

    assert timer_ns is not None
    assert timer_ns <= 2 * RETRY_MS_MIN * MS
    assert not pair.follower.is_stale(3 * SECOND)
    assert pair.follower.is_stale(3 * SECOND + 1)
