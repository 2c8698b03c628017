"""How far the clocks of hosts are off, as the aggregator sees it."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shardlog.collector.aggregator.clock_offset import WINDOW, ClockOffset
from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.aggregator.machine import Aggregator
from shardlog.crdt.replication.messages import Heartbeat, HostStatus

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


@given(
    st.integers(-(10**13), 10**13),
    st.lists(st.integers(0, 10**11), min_size=1, max_size=3 * WINDOW),
)
def test_offset_is_off_by_no_more_than_the_least_delay(offset: int, delays: list[int]) -> None:
    """Of the last few heartbeats: one that came fast is enough, and none makes it too high."""
    clock = ClockOffset()
    for second, delay in enumerate(delays):
        sent_ns = NOW + second * SECOND
        clock.hear(sent_ns + offset, sent_ns + delay)
    assert clock.offset_ns == offset - min(delays[-WINDOW:])


def test_clock_that_is_set_is_seen_after_the_window() -> None:
    """Forwards at once, backwards when the last heartbeat before has left the window."""
    clock = ClockOffset()
    assert clock.offset_ns == 0
    for offset in (0, 5, -5):
        for _ in range(WINDOW):
            clock.hear(NOW + offset, NOW)
        assert clock.offset_ns == offset


def test_aggregator_tells_how_far_each_host_is_off() -> None:
    """In what it serves of its hosts, also once a host has fallen silent."""
    aggregator = Aggregator(
        AggregatorConfig(listen="tcp://127.0.0.1:1", serve="tcp://127.0.0.1:3"),
        source="a",
        epoch="e",
        rng=Random(1),
        now_ns=NOW,
        bytes_max=10_000,
    )
    for host, offset in (("node-1", 0), ("node-2", -3_601 * SECOND)):
        at_ns = NOW + offset
        status = HostStatus(host, f"{host}'s", "live", at_ns, at_ns)
        aggregator.receive(Heartbeat(f"{host}'s", "e", at_ns, 1000, [0], [status], {}), NOW)
    for now_ns in (NOW, NOW + 60 * SECOND):
        assert [host.offset_ns for host in aggregator.hosts(now_ns)] == [0, -3_601 * SECOND]
