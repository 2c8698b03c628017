"""`count`, `observe` and `erase` as values."""

import copy
import pickle

import pytest

from shardlog.handler.words import Count, count, erase, observe


@pytest.mark.parametrize("n", [float("nan"), float("inf"), 2**80, "text", None, [], object])
def test_count_takes_anything(n: float) -> None:
    """It is made in the caller's code, where it must not raise."""
    assert count(n).n is n
    assert observe(n).x is n


def test_counts_are_values() -> None:
    """They compare, hash and show by their number."""
    assert count() == count(1) == Count(1)
    assert count(1) != count(2)
    assert len({count(3), count(3)}) == 1
    assert repr(count(-0.5)) == "count(-0.5)"
    assert observe(2) == observe(2)
    assert observe(2) != observe(3)
    assert repr(observe(-0.5)) == "observe(-0.5)"


def test_erase_is_one() -> None:
    """Copied, or sent to another process, it is still what `is` compares with."""
    assert copy.deepcopy([erase])[0] is erase
    assert pickle.loads(pickle.dumps(erase)) is erase
    assert pickle.loads(pickle.dumps(count(2))) == count(2)
    assert pickle.loads(pickle.dumps(observe(2))) == observe(2)
    assert repr(erase) == "erase"
