"""Stamps: strictly increasing, and as close to the clock as that allows."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.stamp import MAX_SKEW_NS, StampClock


@given(st.integers(0, 100), st.lists(st.integers(0, 100), min_size=1))
def test_stamps_increase_strictly_whatever_the_clock_does(start: int, times: list[int]) -> None:
    """Repeated or earlier readings never repeat a stamp; no stamp runs ahead without need."""
    clock = StampClock(start)
    stamps = [clock.stamp(now) for now in times]

    assert all(a < b for a, b in pairwise([start, *stamps]))
    assert all(stamp >= now for stamp, now in zip(stamps, times, strict=True))
    for number, stamp in enumerate(stamps):
        assert stamp in times or stamp == ([start, *stamps][number]) + 1
    assert clock.last_ns == stamps[-1]


@given(st.lists(st.integers(1, 10**18), unique=True))
def test_a_clock_that_only_goes_forward_is_followed_exactly(times: list[int]) -> None:
    """Where readings increase, stamps are the readings."""
    clock = StampClock()

    assert [clock.stamp(now) for now in sorted(times)] == sorted(times)


@given(st.integers(0, 100), st.integers(0, 2 * MAX_SKEW_NS), st.integers(0, 2 * MAX_SKEW_NS))
def test_start_above_a_stamp_never_makes_a_clock_run_ahead(last: int, stamp: int, now: int) -> None:
    """It is taken unless what comes above it would be refused, and never lowers anything."""
    clock = StampClock(last)
    clock.start_above(stamp, now)

    assert not clock.is_ahead(now)
    assert clock.stamp(now) > last
    assert clock.last_ns > stamp or StampClock(stamp).is_ahead(now)
