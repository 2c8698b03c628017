"""The aggregator's machine: many hosts, lossy links, one cluster state."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardlog.collector.aggregator.machine import Aggregator
from shardlog.collector.aggregator.memory import Remember
from shardlog.crdt.delta import Entry, Fragment
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.replication.messages import (
    Ask,
    Changes,
    Delta,
    Heartbeat,
    HostStatus,
    Log,
    Publish,
    SnapshotChunk,
)
from shardlog.crdt.retention import Retention
from shardlog.crdt.wire.codec import decode_published, encode_published
from shardlog.crdt.wire.schema import FRAME_BYTES_MAX
from tests.collector.network import MS, START, Network

TOTAL = "hosts/*/n"


def test_200_collectors_reach_one_digest_on_two_aggregators() -> None:
    """With a fifth of all messages lost, both aggregators end with every count, and equal."""
    network = Network(hosts=200, aggregators=2, seed=1)
    for _ in range(10):
        for host in range(200):
            if network.rng.random() < 0.5:
                network.say(host)
        network.run(300)
    network.heal()
    first, second = network.aggregators
    assert first.state.digest() == second.state.digest()
    assert first.state.total(TOTAL) == network.counted
    assert {status.status for status in first.hosts(network.now_ns)} == {"live"}
    first.state.check_invariants()


@pytest.mark.parametrize("seed", range(20))
def test_restarts_and_losses_lose_and_double_nothing(seed: int) -> None:
    """Collectors and aggregators die at random under loss: no total is ever above what was counted,
    and in the end every one is equal to it."""
    network = Network(hosts=5, aggregators=2, seed=seed)
    for _ in range(40):
        network.say(network.rng.randrange(5))
        if network.rng.random() < 0.1:
            network.restart(network.rng.randrange(5))
        if network.rng.random() < 0.1:
            network.aggregators[network.rng.randrange(2)] = network.start_aggregator()
        network.run(network.rng.randint(1, 1500))
        for aggregator in network.aggregators:
            assert aggregator.state.total(TOTAL) <= network.counted
    network.heal()
    first, second = network.aggregators
    assert first.state.total(TOTAL) == second.state.total(TOTAL) == network.counted
    assert first.state.digest() == second.state.digest()


def test_a_count_never_goes_down_at_an_aggregator() -> None:
    """I2: under loss and restarts of collectors, what an aggregator shows only rises."""
    network = Network(hosts=3, aggregators=1, seed=7, loss=0.4)
    (aggregator,) = network.aggregators
    shown = 0.0
    for _ in range(200):
        network.say(network.rng.randrange(3))
        if network.rng.random() < 0.1:
            network.restart(network.rng.randrange(3))
        network.run(network.rng.randint(1, 300))
        assert aggregator.state.total(TOTAL) >= shown
        shown = aggregator.state.total(TOTAL)
    assert shown > 0


def test_a_host_that_falls_silent_is_stale_and_keeps_its_counts() -> None:
    """Three missed heartbeats: stale since when it was last heard; the counts stay."""
    network = Network(hosts=2, aggregators=1, seed=3, loss=0.0)
    (aggregator,) = network.aggregators
    for host in range(2):
        network.say(host)
    network.run(3000)
    before = aggregator.state.total(TOTAL)
    network.sidecars.pop()
    heard_ns = network.now_ns
    network.run(5000)
    statuses = {status.host: status for status in aggregator.hosts(network.now_ns)}
    assert statuses["host-0"].status == "live"
    assert statuses["host-1"].status == "stale"
    assert statuses["host-1"].since_ns <= heard_ns
    assert aggregator.state.total(TOTAL) == before == network.counted


def test_a_clock_that_steps_back_does_not_silence_the_aggregator() -> None:
    """An hour back: the next heartbeat is due within one interval, and goes out."""
    network = Network(hosts=1, aggregators=1, seed=3)
    (aggregator,) = network.aggregators
    network.run(3000)
    back_ns = network.now_ns - 3600 * 10**9
    for second in range(3):
        aggregator.handle_timer(back_ns + second * 10**9)
        beats = [e for e in aggregator.take_effects() if isinstance(e, Publish)]
        assert [type(beat.message) for beat in beats] == [Heartbeat]


def test_what_no_collector_sends_is_refused_and_named_once() -> None:
    """A stream of changes, a foreign replica: counted, the first one named."""
    network = Network(hosts=1, aggregators=1, seed=1, loss=0.0)
    (aggregator,) = network.aggregators
    network.say(0)
    network.run(2000)
    foreign = Fragment("replica-9", 0, 1, [], [], [], [Entry("hosts/0/n", 1, 99)])
    for _ in range(3):
        aggregator.receive(Delta("replica-0", "e", 0, 1, Changes([], [])), network.now_ns)
        aggregator.receive(Delta("replica-0", "e", 0, 1, foreign), network.now_ns)
    assert aggregator.refused == {"body": 6}
    assert len([e for e in aggregator.take_effects() if isinstance(e, Log)]) == 1
    assert aggregator.state.total(TOTAL) == network.counted


def test_more_sources_than_allowed_are_refused() -> None:
    """Whoever invents sources can't make the aggregator grow without bound."""
    network = Network(hosts=1, aggregators=1, seed=1)
    (aggregator,) = network.aggregators
    for i in range(10_005):
        status = HostStatus("h", f"r{i}", "live", START, START)
        aggregator.receive(Heartbeat(f"r{i}", "e", START, 1000, [0], [status], {}), START)
    assert aggregator.refused == {"sources": 5}


def test_hosts_that_do_not_answer_keep_no_others_from_their_snapshots() -> None:
    """32 that beat and never answer, as behind a firewall for one of the two ports: the 33rd syncs,
    and they are asked again."""
    network = Network(hosts=1, aggregators=1, seed=1, loss=0.0)
    (aggregator,) = network.aggregators
    asked: dict[str, int] = {}
    for tick in range(100):
        at_ns = START + tick * 10**8
        for i in range(40):
            status = HostStatus(f"h{i}", f"r{i}", "live", at_ns, at_ns)
            aggregator.receive(Heartbeat(f"r{i}", "e", at_ns, 1000, [0], [status], {}), at_ns)
        aggregator.handle_timer(at_ns)
        asks = [e for e in aggregator.take_effects() if isinstance(e, Ask)]
        for ask in asks:
            asked[ask.source] = asked.get(ask.source, 0) + 1
    assert len(asked) == 40
    assert min(asked.values()) >= 2


def test_a_new_host_is_told_of_at_once() -> None:
    """Within 100 ms of its snapshot a heartbeat names it: monitors know then what must stay."""
    network = Network(hosts=1, aggregators=1, seed=1, loss=0.0)
    (aggregator,) = network.aggregators
    status = HostStatus("new", "r", "live", START, START)
    at_ns = START + 250 * MS
    aggregator.handle_timer(START)
    aggregator.receive(Heartbeat("r", "e", at_ns, 1000, [0], [status], {}), at_ns)
    body = Fragment("r", 0, 1, [], [], [], [Entry("n", 1, 1)])
    aggregator.receive(SnapshotChunk("r", "e", 1, None, None, [0], body), at_ns)
    aggregator.take_effects()
    aggregator.handle_timer(at_ns + 100 * MS)
    beats = [e.message for e in aggregator.take_effects() if isinstance(e, Publish)]
    assert [beat.hosts[0].version for beat in beats if isinstance(beat, Heartbeat)] == [1]


def test_many_new_monitors_are_greeted_by_one_heartbeat() -> None:
    """A heartbeat goes to all who follow: one per batch is enough, however many subscribe."""
    network = Network(hosts=1, aggregators=1, seed=1, loss=0.0)
    (aggregator,) = network.aggregators
    aggregator.take_effects()
    for _ in range(100):
        aggregator.subscribed("serve", START)
    assert len(aggregator.take_effects()) == 1


def test_heartbeats_tell_by_which_table_an_aggregator_forgets() -> None:
    """So that it can be compared with those of hosts."""
    retention = Retention({"intents/*": "1h"})
    network = Network(hosts=1, aggregators=1, seed=1, retention=retention)
    aggregator = network.aggregators[0]
    aggregator.handle_timer(network.now_ns + 10_000 * MS)
    beats = [
        effect.message
        for effect in aggregator.take_effects()
        if isinstance(effect, Publish) and isinstance(effect.message, Heartbeat)
    ]
    assert [beat.retention for beat in beats] == [retention.digest]


EDGE = st.sampled_from([0, 1, START, 2**62, 2**63 - 2, 2**63 - 1])
OFFSET = st.sampled_from([-(2**63), -(2**62), -1, 0, 2**62, 2**62 + 1, 2**63, 2**64 - 1])


@given(st.lists(st.tuples(st.sampled_from(["", "region"]), EDGE, EDGE, EDGE, OFFSET), max_size=6))
def test_whatever_numbers_a_heartbeat_has_they_can_be_told_on_and_stored(
    said: list[tuple[str, int, int, int, int]],
) -> None:
    """At the edges of what a frame holds: refused, or such that all others take what is made of it,
    and a store too."""
    node = Network(hosts=0, aggregators=0, seed=1).start_aggregator(to=("ipc:///t",), remembered=[])
    body = Fragment("r", 0, 1, [], [], [], [Entry("n", 1, 1)])
    for tick, (via, at_ns, since_ns, watermark_ns, offset_ns) in enumerate(said):
        now_ns = START + tick * 1000 * MS
        status = HostStatus("h", "r", "live", since_ns, watermark_ns, offset_ns=offset_ns)
        beat = Heartbeat("r", "e", at_ns, 1000, [0], [status], {}, via)
        with suppress(RemoteProtocolError):
            node.receive(decode_published(encode_published(beat)), now_ns)
        node.receive(SnapshotChunk("r", "e", 1, None, None, [0], body, via), now_ns)
        node.handle_timer(now_ns)
        for effect in node.take_effects():
            if isinstance(effect, Publish):
                assert decode_published(encode_published(effect.message)) == effect.message
            if isinstance(effect, Remember):
                assert all(host.said_ns < 2**63 for host in effect.hosts)
    assert len(node.hosts(START)) == bool(said)


def heard(hosts: list[HostStatus]) -> Aggregator:
    """A new aggregator to which a region passed on what each of these said of itself."""
    node = Network(hosts=0, aggregators=0, seed=1).start_aggregator()
    for host in hosts:
        beat = Heartbeat(host.replica, "e", START, 1000, [0], [host], {}, "region")
        message = decode_published(encode_published(beat))
        node.receive(message, START)
    return node


def beats_of(node: Aggregator, now_ns: int) -> tuple[list[Heartbeat], list[Log]]:
    """What those who follow take in of its next beats, and what goes to the log with them."""
    node.handle_timer(now_ns)
    effects = node.take_effects()
    published = [e.message for e in effects if isinstance(e, Publish)]
    taken = [decode_published(encode_published(message)) for message in published]
    beats = [message for message in taken if isinstance(message, Heartbeat)]
    return beats, [e for e in effects if isinstance(e, Log)]


LETTER = st.sampled_from(["n", "\xe9", "\U0001f600"])


@settings(max_examples=10)
@given(st.integers(0, 60), LETTER, st.integers(0, 1000), st.integers(0, 32))
def test_a_heartbeat_fits_into_a_frame_whatever_hosts_say_of_themselves(
    letters: int, letter: str, reason: int, replaced: int
) -> None:
    """Long names, long reasons, many lost stores: it names as many hosts as there is room for."""
    hosts = [
        HostStatus(
            letter * letters,
            letter * letters + str(i),
            "live",
            START,
            START,
            lower_bound=letter * reason,
            replaces=[f"{letter * letters}-{i}-{n}" for n in range(replaced)],
        )
        for i in range(600)
    ]
    node = heard(hosts)
    (beat,), _ = beats_of(node, START)

    assert {host.replica for host in beat.hosts} <= {host.replica for host in hosts}
    assert (len(beat.hosts) == 600) == ("hosts" not in node.refused)
    assert len(beat.hosts) == 600 or len(encode_published(beat)) > FRAME_BYTES_MAX // 2


def test_hosts_for_which_a_heartbeat_has_no_room_are_counted_and_make_totals_lower_bounds() -> None:
    """They are named once in the log; totals do not pretend that all hosts are known to be live."""
    retention = Retention().digest
    node = heard(
        [
            HostStatus(
                f"node-{i}.example.org", f"{i:016}", "live", START, START, retention=retention
            )
            for i in range(10_000)
        ]
    )
    for second in range(2):
        (beat,), logs = beats_of(node, START + second * 1000 * MS)
        named = len(beat.hosts)
        assert named > 7000
        assert beat.lower_bound == f"{10_000 - named} more hosts do not fit into a heartbeat"
        assert beat.refused == {"hosts": second + 1}
        assert len(logs) == (second == 0)


def test_what_an_aggregator_says_for_people_is_no_longer_than_those_above_take() -> None:
    """What one below says of its settling, as long as is taken, is told on with words before it."""
    node = Network(hosts=0, aggregators=0, seed=1).start_aggregator(to=("ipc:///t",))
    status = HostStatus("h", "r", "live", START, START)
    why = "x" * 1000
    beat = Heartbeat("r", "e", START, 1000, [0], [status], {}, "region", why, why)
    node.receive(beat, START)
    body = Fragment("r", 0, 1, [], [], [], [Entry("n", 1, 1)])
    node.receive(SnapshotChunk("r", "e", 1, None, None, [0], body, "region"), START)
    said = [beat for tick in range(3) for beat in beats_of(node, START + tick * 1000 * MS)[0]]

    assert {len(beat.settling) for beat in said if beat.via} >= {1000}
    assert {len(beat.lower_bound) for beat in said} == {0, 1000}
