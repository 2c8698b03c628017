"""The replica against the state that it is told of, and its changes against both."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.counter import amount
from shardlog.crdt.delta import COUNTER, ERASED, FORGOTTEN, REGISTER, Entry, Value
from shardlog.crdt.path import Key, path_keys, path_text
from shardlog.crdt.replication.messages import Changes, Delta, Row, SnapshotRequest
from shardlog.crdt.replication.view import View
from shardlog.crdt.state import State
from shardlog.monitor.change import ABSENT, Change
from shardlog.monitor.replica import Replica

KEYS: tuple[Key, ...] = ("a", "b", 1, "1", "~")
VALUES: tuple[Value, ...] = (None, {}, 0, False, 1.5, float("nan"), "text", b"bytes", [1, [True]])
PATHS = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(path_text)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PATHS, st.sampled_from(VALUES)),
        st.tuples(st.just("erase"), PATHS, st.none()),
        st.tuples(st.just("count"), PATHS, st.sampled_from([1, 2, 0.5])),
        st.tuples(st.just("publish"), st.just(""), st.none()),
    ),
    max_size=30,
)


class Node:
    """A state and the stream of what shows in it."""

    def __init__(self) -> None:
        self.state = State()
        self._view = View(self.state, "node", "epoch", interval_ms=1000, bytes_max=150)
        self._stamp = 0

    def step(self, what: str, path: str, value: Any) -> None:
        self._stamp += 1
        if what == "write":
            self.state.write(path, self._stamp, "blade@process", value)
        elif what == "erase":
            self.state.erase(path, self._stamp, "blade@process")
        elif what == "count":
            total = amount(self._stamp * value)
            self.state.put("replica", Entry(path, self._stamp, total))

    def deltas(self) -> list[Changes]:
        messages = [p.message for p in self._view.publish(self.state.take_touched())]
        return [body(message) for message in messages]

    def chunks(self) -> list[Changes]:
        found: list[Changes] = []
        after = None
        while not found or after is not None:
            chunk = self._view.answer(b"peer", SnapshotRequest(1, after)).message
            assert isinstance(chunk.body, Changes)
            found.append(chunk.body)
            after = chunk.next
        return found

    def tree(self) -> dict[Any, Any]:
        tree: dict[Any, Any] = {}
        for path, shown in self.state.rows():
            *inner, last = path_keys(path)
            node = tree
            for key in inner:
                if not isinstance(node.get(key), dict):  # what is above gives way, as at `~`
                    node[key] = {}
                node = node[key]
            node[last] = copy.copy(shown.value)
        return tree


class Shadow:
    """What a consumer knows that hears nothing but changes."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def take(self, changes: list[Change]) -> None:
        for change in changes:
            old = self.values.pop(change.path, ABSENT)
            assert repr(old) == repr(change.old)
            assert (change.gone is None) == (change.new is not ABSENT)
            if change.gone is None:
                self.values[change.path] = change.new


def body(message: object) -> Changes:
    assert isinstance(message, Delta)
    assert isinstance(message.body, Changes)
    return message.body


def shown(node: Node) -> dict[Any, Any]:
    return {path_keys(path): row.value for path, row in node.state.rows()}


@given(STEPS)
def test_deltas_make_it_equal_to_the_state(steps: list[tuple[str, str, Any]]) -> None:
    """View, total and rows are the state's, and so is the sum of all changes."""
    node, replica, shadow = Node(), Replica(), Shadow()
    for step in [*steps, ("publish", "", None)]:
        node.step(*step)
        if step[0] == "publish":
            for delta in node.deltas():
                shadow.take(replica.apply(delta))
            assert repr(replica.view(())) == repr(node.tree())
            assert repr(sorted(shadow.values.items(), key=repr)) == repr(
                sorted(shown(node).items(), key=repr)
            )
            for pattern in ("**", "*/a", "a/**", r"\i1/*"):
                assert replica.total(pattern) == node.state.total(pattern)
    replica.check_invariants()


@given(STEPS, STEPS, STEPS)
def test_snapshot_and_deltas_behind_it_replace_all(
    before: list[tuple[str, str, Any]],
    between: list[tuple[str, str, Any]],
    behind: list[tuple[str, str, Any]],
) -> None:
    """Whatever was known before; the changes are the difference, each path once."""
    node, replica, shadow = Node(), Replica(), Shadow()
    for step in before:
        node.step(*step)
    for delta in node.deltas():
        shadow.take(replica.apply(delta))
    for step in between:
        node.step(*step)
    node.deltas()
    chunks = node.chunks()
    for step in behind:
        node.step(*step)

    changes = replica.install(chunks, node.deltas(), 5)

    shadow.take(changes)
    assert len({change.path for change in changes}) == len(changes)
    assert repr(replica.view(())) == repr(node.tree())
    assert repr(sorted(shadow.values.items(), key=repr)) == repr(
        sorted(shown(node).items(), key=repr)
    )
    assert replica.install(node.chunks(), [], 6) == []
    replica.check_invariants()


@given(st.lists(st.integers(-(10**15), 10**15), max_size=20), st.randoms(use_true_random=False))
def test_total_of_floats_is_exact_in_any_order(billionths: list[int], rng: random.Random) -> None:
    """It is the float nearest to the exact sum."""
    totals: list[int | float] = []
    for _ in range(2):
        rng.shuffle(billionths)
        rows = [Row(f"a/{i}", COUNTER, n / 10**9, 1, -1) for i, n in enumerate(billionths)]
        replica = Replica()
        replica.apply(Changes([], rows))
        totals.append(replica.total("a/*"))

    assert totals == [sum(billionths) / 10**9] * 2


def test_total_of_ints_stays_an_int() -> None:
    """Beyond what a float can hold, too."""
    replica = Replica()
    replica.apply(Changes([], [Row("a", COUNTER, 2**60, 1, -1), Row("b", COUNTER, 1, 1, -1)]))

    assert replica.total("*") == 2**60 + 1


def apply(replica: Replica, *rows: Row) -> list[Change]:
    return replica.apply(Changes(["blade@host:boot:1:2:x"], list(rows)))


def test_row_that_looks_the_same_is_no_change() -> None:
    """The same value of the same type by the same process at the same time; NaN is NaN."""
    replica = Replica()
    rows = [Row("a", REGISTER, float("nan"), 1, 0), Row("b", REGISTER, [1], 1, 0)]
    apply(replica, *rows)

    assert apply(replica, *rows) == []
    assert apply(replica, Row("b", REGISTER, [True], 1, 0)) != []
    assert apply(replica, Row("gone", ERASED, None, 1, 0)) == []


def test_what_is_said_again_later_is_a_change() -> None:
    """The value is the same, when it was said is not."""
    replica = Replica()
    apply(replica, Row("msg", REGISTER, "hello", 1, 0))
    (change,) = apply(replica, Row("msg", REGISTER, "hello", 2, 0))

    assert (change.old, change.new, change.at_ns) == ("hello", "hello", 2)


def test_change_names_who_when_and_how() -> None:
    """The blade of the writer, nobody for a counter's sum, and why something is gone."""
    replica = Replica()
    register, counter = apply(
        replica, Row("a/b", REGISTER, None, 7, 0), Row("a/n", COUNTER, 3, 8, -1)
    )
    erased, forgotten = apply(
        replica, Row("a/b", ERASED, None, 9, 0), Row("a/n", FORGOTTEN, None, 10, -1)
    )

    assert register == Change(("a", "b"), ABSENT, None, None, "blade", 7, "register")
    assert counter == Change(("a", "n"), ABSENT, 3, None, None, 8, "counter")
    assert erased == Change(("a", "b"), None, ABSENT, "erased", "blade", 9, "register")
    assert forgotten == Change(("a", "n"), 3, ABSENT, "forgotten", None, 10, "counter")


def test_reason_for_what_a_snapshot_lacks_is_taken_from_the_deltas() -> None:
    """Where none of them tells it, it counts as erased, by nobody, when it was noticed."""
    replica = Replica()
    apply(replica, *(Row(path, REGISTER, 1, 1, 0) for path in "abc"))
    told = Changes(["other@host:boot:1:2:x"], [Row("b", FORGOTTEN, None, 9, 0)])
    changes = replica.install([Changes(["x@y"], [Row("c", REGISTER, 1, 1, 0)])], [told], 20)

    assert [(c.path, c.gone, c.by, c.at_ns) for c in sorted(changes)] == [
        (("a",), "erased", None, 20),
        (("b",), "forgotten", "other", 9),
        (("c",), None, "x", 1),
    ]


def test_reserved_key_shows_to_those_who_name_it() -> None:
    """Not in the root's view, not to a pattern that does not begin with it."""
    replica = Replica()
    apply(
        replica,
        Row("a", COUNTER, 1, 1, -1),
        Row("shardlog/health/n", COUNTER, 2, 1, -1),
        Row("shardlogs", COUNTER, 4, 1, -1),
    )

    assert replica.view(()) == {"a": 1, "shardlogs": 4}
    assert replica.view(("shardlog",)) == {"health": {"n": 2}}
    assert replica.total("**") == 5
    assert replica.total("*/health/n") == 0
    assert replica.total("shardlog/**") == 2
    assert [keys for keys, _ in replica.rows("shardlog/*/n")] == [("shardlog", "health", "n")]


def test_value_gives_way_to_what_is_below_it() -> None:
    """Both may show for a moment, as long as the second half of a change is under way."""
    replica = Replica()
    apply(replica, Row("a", REGISTER, 1, 1, 0), Row("a/b", REGISTER, 2, 2, 0))

    assert replica.view(()) == {"a": {"b": 2}}
    assert replica.view(("a",)) == {"b": 2}


def test_presence_is_an_empty_dict_until_something_is_below() -> None:
    """And each view has a dict of its own."""
    replica = Replica()
    apply(replica, Row("a", REGISTER, {}, 1, 0))
    replica.view(("a",))["x"] = 1

    assert replica.view(("a",)) == {}
    assert replica.view(()) == {"a": {}}
    with pytest.raises(KeyError):
        replica.view(("a", "b"))
