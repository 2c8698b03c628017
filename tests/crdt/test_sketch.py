"""Distributions as buckets: the library's mapping, and what it promises of quantiles."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from ddsketch import DDSketch
from ddsketch.mapping import LogarithmicMapping
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.counter import COUNT_MAX
from shardlog.crdt.sketch import (
    ACCURACY,
    LEAST,
    OFFSET,
    Summary,
    bucket,
    bucket_at,
    bucket_key,
    number,
    quantiles,
    summary,
)

SIZES = st.floats(LEAST, COUNT_MAX)
NUMBERS = st.one_of(SIZES, SIZES.map(float.__neg__), st.just(0.0), st.integers(-1000, 1000))
SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)


@given(SIZES)
def test_mapping_is_that_of_the_library(x: float) -> None:
    """The same bucket, and the same number for it."""
    mapping = LogarithmicMapping(ACCURACY, offset=OFFSET)

    assert bucket(x) == mapping.key(x)
    assert number(bucket(x)) == pytest.approx(mapping.value(mapping.key(x)), rel=1e-12)
    assert bucket(-x) == -bucket(x)


@given(NUMBERS)
def test_number_of_a_bucket_is_within_the_accuracy(x: float) -> None:
    """Whatever is observed, also what is negative; less than a billionth is zero."""
    assert math.isclose(number(bucket(x)), x, rel_tol=ACCURACY * 1.0001, abs_tol=LEAST)


@given(NUMBERS, NUMBERS)
def test_buckets_are_in_the_order_of_numbers(x: float, y: float) -> None:
    """So quantiles are found by adding up."""
    assert bucket(min(x, y)) <= bucket(max(x, y))


@given(st.lists(NUMBERS, min_size=1, max_size=200))
def test_quantiles_are_within_the_accuracy(observed: list[float]) -> None:
    """Each is within 1 % of the number that has its rank; the count is exact."""
    said = quantiles(Counter(map(bucket, observed)), SHARES)

    ranked = sorted(observed)
    for share, found in zip(SHARES, said, strict=True):
        lower = ranked[math.floor(share * (len(ranked) - 1))]
        assert math.isclose(found, lower, rel_tol=ACCURACY * 1.0001, abs_tol=LEAST)
    told = summary(Counter(map(bucket, observed)))
    assert told is not None
    assert told.count == len(observed)
    assert math.isclose(told.max, ranked[-1], rel_tol=ACCURACY * 1.0001, abs_tol=LEAST)


@given(st.lists(st.lists(SIZES, max_size=30), min_size=1, max_size=4))
def test_merged_buckets_say_what_the_library_says_of_all(hosts: list[list[float]]) -> None:
    """Adding up the buckets of all hosts is the sketch of all that was observed."""
    sketch = DDSketch(ACCURACY)
    merged: Counter[int] = Counter()
    for observed in hosts:
        merged.update(Counter(map(bucket, observed)))
        for x in observed:
            sketch.add(x)

    said = quantiles(merged, SHARES)
    if not any(hosts):
        assert said == []
        assert summary(merged) is None
    for share, found in zip(SHARES, said, strict=False):
        assert found == pytest.approx(sketch.get_quantile_value(share), rel=1e-9)


@given(NUMBERS)
def test_keys_say_their_bucket(x: float) -> None:
    """And no other text is one of them."""
    assert bucket_at(bucket_key(bucket(x))) == bucket(x)


@pytest.mark.parametrize("key", ["~", "~-0", "~01", "~1.0", "~99999", "~x", "7", 7, "", "~ 7"])
def test_other_keys_are_no_buckets(key: str | int) -> None:
    """The key of collapsed records, and what people may call theirs."""
    assert bucket_at(key) is None


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf, 2.0**54, -(2**54)])
def test_what_is_no_finite_number_has_no_bucket(x: float) -> None:
    """As with counts."""
    with pytest.raises(ValueError):
        bucket(x)


def test_negative_counts_do_not_count() -> None:
    """Anybody may count at such a key; it makes no quantile."""
    assert summary({1: -3}) is None
    assert summary({1: -3, bucket(2): 2}) == Summary(2, *[number(bucket(2))] * 4)
