"""The nested map against a sequential oracle, in any order, with repetitions and in any groups."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardlog.crdt.delta import Erase, Fragment, Value, Write
from shardlog.crdt.lww_map import LwwMap
from shardlog.crdt.path import path_keys
from shardlog.crdt.state import State
from tests.crdt.histories import (
    ERASE,
    Newest,
    Op,
    Shard,
    Tree,
    apply,
    histories,
    nested,
    ops_of,
    sequential_view,
)

EXAMPLES: list[tuple[list[Tree], Tree]] = [
    ([{1: {"foo": "bar"}}, {2: "bar", 1: {"b": "c"}}], {1: {"foo": "bar", "b": "c"}, 2: "bar"}),
    ([{"1": "text", 1: "int"}], {"1": "text", 1: "int"}),
    ([{"a": 1}, {"a": {"b": 2}}], {"a": {"b": 2}}),
    ([{"a": {"b": 2}}, {"a": 1}], {"a": 1}),
    ([{"a": {"b": {"c": 2}}}, {"a": {"b": ERASE}}], {}),
    ([{"a": 1}, {"a": {}}], {"a": {}}),
    ([{"a": {"b": 1}}, {"a": {}}], {"a": {"b": 1}}),
    ([{"a": {}}, {"a": {"b": 1}}, {"a": {"b": ERASE}}], {"a": {}}),
    ([{"a": {"b": 1}}, {"a": {"b": ERASE}}], {}),
    ([{"a": {}}, {"a": 1}, {"a": {"b": 1}}, {"a": {"b": ERASE}}], {}),
    ([{"a": 1}, {"a": {"b": ERASE}}], {}),
    ([{"a": {}}, {"a": ERASE}], {}),
    ([{"a": {}}, {"a": {"b": {"c": ERASE}}}], {"a": {}}),
    ([{"a": 1}, {"a": {"b": 2}}, {"a": {"b": ERASE}}], {}),
    ([{"a": [1, 2]}, {"a": [3]}], {"a": [3]}),
]
"""Shards one after the other, and what shows then."""


def view(map_: LwwMap) -> Tree:
    """What shows in a map, as a nested dict."""
    return nested(
        {path_keys(p): leaf.value for p, leaf in map_.leaves.items() if map_.is_visible(p)}
    )


def check_order(shards: list[Shard], order: list[Op], map_class: type[LwwMap] = LwwMap) -> None:
    """Apply the ops in the given order and compare with the oracle and with the sorted order.

    A function of its own, so that mutants of the map can be put to the same test.
    """
    shuffled, straight = map_class(), map_class()
    for op in order:
        apply(op, shuffled)
        shuffled.check_invariants()
    for op in ops_of(shards):
        apply(op, straight)

    assert view(shuffled) == sequential_view(shards)
    assert list(shuffled.rows()) == list(straight.rows())


@st.composite
def shuffled_histories(draw: st.DrawFn) -> tuple[list[Shard], list[Op]]:
    """A history, and its ops in any order, some of them several times."""
    shards = draw(histories())
    ops = ops_of(shards)
    again = draw(st.lists(st.sampled_from(ops), max_size=4))
    return shards, draw(st.permutations(ops + again))


@given(shuffled_histories())
def test_any_order_shows_what_the_sequential_oracle_shows(
    history: tuple[list[Shard], list[Op]],
) -> None:
    """Any order, repetitions included: the oracle's dict, and row by row the same storage."""
    check_order(*history)


@given(histories())
def test_the_rule_of_visibility_is_the_sequential_meaning(shards: list[Shard]) -> None:
    """The rule over all leaves and floors ever written shows what sequential execution shows."""
    assert Newest(ops_of(shards)).view() == sequential_view(shards)


@given(shuffled_histories())
def test_touched_names_all_that_changes(history: tuple[list[Shard], list[Op]]) -> None:
    """A merge names every path that looks different after it, and nothing iff nothing is new."""
    _, order = history
    paths = {op.path for op in order}
    map_ = LwwMap()
    for op in order:
        rows = list(map_.rows())
        before = {p: map_.leaves[p] for p in paths if map_.is_visible(p)}
        touched = cast("list[str]", apply(op, map_))
        after = {p: map_.leaves[p] for p in paths if map_.is_visible(p)}

        assert {p for p in paths if before.get(p) != after.get(p)} <= set(touched)
        assert (touched == []) == (rows == list(map_.rows()))


LEAF = st.tuples(
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3).map(tuple), st.integers(1, 2)
)


@given(
    st.dictionaries(LEAF, st.sampled_from([0, {}]), max_size=5),
    st.sets(LEAF, max_size=4),
    st.data(),
)
def test_equal_marks_at_several_paths_leave_no_trace_of_order(
    leaves: dict[tuple[tuple[str, ...], int], Value],
    erases: set[tuple[tuple[str, ...], int]],
    data: st.DataObject,
) -> None:
    """One log call may write a scalar and something below it: all of one stamp, of one writer."""
    ops = [
        *(Op(keys, stamp, "p", value) for (keys, stamp), value in leaves.items()),
        *(Op(keys, stamp, "p", ERASE) for keys, stamp in sorted(erases)),
    ]
    straight, shuffled = LwwMap(), LwwMap()
    for op in ops:
        apply(op, straight)
    for op in data.draw(st.permutations(ops)):
        apply(op, shuffled)
        shuffled.check_invariants()

    assert list(shuffled.rows()) == list(straight.rows())
    view(shuffled)


def fragment_of(ops: list[Op], replica: str) -> Fragment:
    """The ops as what one replica says, from nothing to version 1."""
    writers = sorted({op.writer for op in ops})
    return Fragment(
        replica,
        0,
        1,
        writers,
        [
            Write(op.path, op.stamp, writers.index(op.writer), op.value)
            for op in ops
            if op.value is not ERASE
        ],
        [Erase(op.path, op.stamp, writers.index(op.writer)) for op in ops if op.value is ERASE],
        [],
    )


@given(histories(), st.data())
def test_any_grouping_gives_the_same_state(shards: list[Shard], data: st.DataObject) -> None:
    """States of parts, merged pairwise in any tree, hold what one state of all holds."""
    ops = data.draw(st.permutations(ops_of(shards)))
    states: list[State] = []
    while ops:
        size = data.draw(st.integers(1, len(ops)))
        state = State()
        state.merge(fragment_of(ops[:size], f"replica-{len(states)}"))
        states.append(state)
        ops = ops[size:]
    while len(states) > 1:
        into = states.pop(data.draw(st.integers(0, len(states) - 1)))
        other = states[data.draw(st.integers(0, len(states) - 1))]
        for replica, version in into.versions.items():
            chunk, _ = into.snapshot(replica, None, 1 << 20)
            other.install(replica, version, [chunk])
        other.check_invariants()
    straight = State()
    for op in ops_of(shards):
        apply(op, straight)

    assert list(states[0].map.rows()) == list(straight.map.rows())
    assert view(states[0].map) == sequential_view(shards)


@given(histories())
def test_merging_a_map_into_itself_changes_nothing(shards: list[Shard]) -> None:
    """Idempotence of the whole: what is stored, said again, is no news."""
    state = State("east")
    for op in ops_of(shards):
        apply(op, state)
    digest = state.digest()
    chunk, _ = state.snapshot("east", None, 1 << 20)
    state.take_touched()
    for erase in chunk.erases:
        assert not state.erase(erase.path, erase.stamp, chunk.writers[erase.writer])
    for write in chunk.writes:
        assert not state.write(write.path, write.stamp, chunk.writers[write.writer], write.value)

    assert state.digest() == digest
    assert state.take_touched() == []


@pytest.mark.parametrize(("trees", "expected"), EXAMPLES)
def test_deep_merge_by_example(trees: list[Tree], expected: Tree) -> None:
    """What the oracle means, spelled out: the oracle and the map agree with it both ways."""
    shards = [Shard(stamp, "p", tree) for stamp, tree in enumerate(trees, start=1)]

    assert expected == sequential_view(shards)
    check_order(shards, ops_of(shards))
    check_order(shards, ops_of(shards)[::-1])


def test_writers_break_ties_by_their_full_id() -> None:
    """Of two writes of one stamp the one of the greater process id wins, whoever comes first."""
    for order in [("p:1", "p:2"), ("p:2", "p:1")]:
        map_ = LwwMap()
        for writer in order:
            map_.write("a", 5, writer, f"by {writer}")

        assert map_.leaves["a"].value == "by p:2"


@given(histories(), st.lists(st.sampled_from(["a", "1", r"\i1", "a/1", r"a/\i1", "a/a/a"])))
def test_floor_and_newest_below_are_those_of_all_that_is_stored(
    shards: list[Shard], paths: list[str]
) -> None:
    """`floor_over` and `newest_below` give the newest stamps of what the rows say."""
    map_ = LwwMap()
    for op in ops_of(shards):
        apply(op, map_)
    rows = {path: (leaf, floor) for path, leaf, floor in map_.rows()}
    for path in paths:
        keys = path_keys(path)
        over = below = 0
        for at, (leaf, floor) in rows.items():
            at_keys = path_keys(at)
            stamps = [mark[0] for mark in (leaf, floor) if mark is not None]
            if at_keys == keys[: len(at_keys)]:
                floors = [floor] if leaf is None or leaf[2] == {} else [leaf]
                over = max([over, *(mark[0] for mark in floors if mark is not None)])
            elif keys == at_keys[: len(keys)]:
                below = max([below, *stamps])

        assert map_.floor_over(path) == over
        assert map_.newest_below(path) == below


@example(depth=2000)
@given(depth=st.integers(1, 40))
def test_depth_is_no_recursion(depth: int) -> None:
    """A path of any depth is written, hidden and dropped without recursion."""
    map_ = LwwMap()
    deep = "/".join(["a"] * depth)
    map_.write(deep, 1, "p", "x")

    assert map_.is_visible(deep)
    assert map_.erase("a", 2, "p")
    assert len(map_) == 0
