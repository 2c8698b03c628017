"""The short way of a log call leads to the same shard as the long one, or is not taken."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.torture_values import HOSTILE
from shardlog.handler.plain import ROOM, room_left
from shardlog.handler.shard import Shard, ShardReader
from shardlog.handler.words import count, erase, observe


def record(extra: dict[Any, Any] | None, msg: object = "said", *args: object) -> logging.LogRecord:
    """What a real logger makes of a call."""
    logger = logging.getLogger("app")
    return logger.makeRecord("app", logging.INFO, "a.py", 1, msg, args, None, "main", extra)


def reader(loggers: list[str] | None = None) -> ShardReader:
    """A reader that has met the logger: of one that is new to it, each record goes the long way."""
    known = ShardReader("blade", loggers)
    known.read(record(None), 1)
    return known


def taken(extra: dict[Any, Any] | None, msg: object = "said", *args: object) -> Shard | None:
    """The shard by the short way, None if it was not taken."""
    by = reader()
    encoded = by.take(record(extra, msg, *args), 7)
    return None if encoded is None else by.untie(encoded)


def seen(shard: Shard) -> tuple[Any, ...]:
    """What a shard says; its bytes are an estimate. As text, since NaN equals nothing."""
    return (
        shard.time_ns,
        repr(sorted(shard.writes, key=lambda write: write[0])),
        shard.erases,
        sorted(shard.counts),
        shard.refused,
    )


KEYS = st.one_of(
    st.text(max_size=5),
    st.integers(),
    st.booleans(),
    st.sampled_from(["~", "shardlog", "a/b", "*"]),
)
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats())
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=8),
    st.binary(max_size=3),
    st.just("a\ud800"),
    st.builds(count, NUMBERS),
    st.builds(count, st.text(max_size=2)),
    st.builds(observe, NUMBERS),
    st.builds(observe, st.text(max_size=2)),
    st.just(erase),
    st.builds(object),
    st.lists(st.integers(), max_size=2),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@given(st.dictionaries(st.text(min_size=1, max_size=4).map("x".__add__), TREES, max_size=3))
def test_both_ways_lead_to_the_same_shard(extra: dict[str, Any]) -> None:
    """Whatever is taken says, refuses and samples what it would have done when read in the call."""
    by_short = taken(extra)
    if by_short is not None:
        assert seen(by_short) == seen(reader().read(record(extra), 7))


@pytest.mark.parametrize(
    "extra",
    [
        None,
        {"a": {"text": "ä", "n": 1, "x": -0.5, "none": None, "yes": True, "there": {}}},
        {"a": {1: {2: "int keys"}}, "b": 3},
        {"a": {"n": count(), "s": count(-0.25), "nan": count(float("nan"))}},
        {"a": {"t": observe(0.21), "n": observe(-7), "nan": observe(float("nan"))}},
        {"a": {"~": 1, "ok": 2}},
        {"a": 2**63},
        {"a" * 300: 1},
        {"name_": {"k": {"k": {"k": {"k": 1}}}}},
        {"shardlog": {"presence": {"b": 1}, "live": {"t": {"k": 1}}, "errors": count()}},
    ],
)
def test_usual_records_go_the_short_way(extra: dict[Any, Any] | None) -> None:
    """What the short way is for does take it, and says the same."""
    by_short = taken(extra)

    assert by_short is not None
    assert seen(by_short) == seen(reader().read(record(extra), 7))


def test_deep_dicts_are_cut_as_ever() -> None:
    """The short way has no bound on depth of its own."""
    extra: dict[str, Any] = {"end": 1}
    for _ in range(40):
        extra = {"in": extra}
    by_short = taken(extra)

    assert by_short is not None
    assert seen(by_short) == seen(reader().read(record(extra), 7))
    assert by_short.refused["depth"][0] == 1


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_values_are_taken_as_ever(case: str) -> None:
    """None of them goes a way on which it would become something else."""
    by_short = taken(HOSTILE[case]())
    by_long = reader().read(record(HOSTILE[case]()), 7)

    assert by_short is None or seen(by_short) == seen(by_long)


def _many_ways() -> dict[str, Any]:
    inner: dict[str, Any] = {"end": 1}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    return inner


def _within_itself() -> dict[str, Any]:
    within: dict[str, Any] = {}
    within[""] = within
    return within


@pytest.mark.parametrize(
    "extra",
    [
        {"text": "x" * (ROOM + 1)},
        {"k" * (ROOM + 1): 1},
        {"many": dict.fromkeys(map(str, range(ROOM + 1)))},
        {"ways": _many_ways()},
        {"within": _within_itself()},
    ],
)
def test_what_is_large_is_not_taken(extra: dict[str, Any]) -> None:
    """Size, number, sharing and cycles all exhaust one bound, in a time that it bounds."""
    assert room_left(extra, ROOM) < 0
    assert taken(extra) is None


def test_code_of_keys_does_not_run() -> None:
    """A key of another class is not even looked up."""
    looked_up = 0

    class Key:
        def __hash__(self) -> int:
            nonlocal looked_up
            looked_up += 1
            return 1

    extra = {"a": {Key(): {"b": 1}}}
    looked_up = 0

    assert taken(extra) is None
    assert looked_up == 0


def test_record_is_taken_by_value() -> None:
    """What the caller changes after the call does not show."""
    extra = {"a": {"b": 1}}
    by = reader()
    encoded = by.take(record(extra), 7)
    extra["a"]["b"] = 2

    assert encoded is not None
    assert by.untie(encoded).writes[1:] == [("a/b", 1)]


def test_message_is_formatted_in_the_call() -> None:
    """Arguments that are plain go the short way, others not: their own code would run."""
    by_short = taken(None, "%s of %d, %5.1f%%", "two", 3, 66.7)

    assert by_short is not None
    assert by_short.writes == [("blade/msg", "two of 3,  66.7%")]
    assert taken(None, "%s", [1]) is None
    assert taken(None, "%(key)s", {"key": 1}) is None
    assert taken(None, "%d", "no number") is None
    assert taken(None, ["no text"]) is None


def test_formatters_and_shard_extras_and_factories_do_not_confuse_it() -> None:
    """Names that others add to a record are told from extras, or the long way is taken."""
    formatted = record({"a": 1})
    logging.Formatter("%(asctime)s %(message)s").format(formatted)
    by = reader()
    encoded = by.take(formatted, 7)

    assert encoded is not None
    assert by.untie(encoded).writes == [("blade/msg", "said"), ("a", 1)]
    assert taken({"a": 1, "shard": {"b": 2}}) is None
    lacking = record({"a": 1})
    del lacking.exc_text
    assert by.take(lacking, 7) is None


def test_subclass_of_record_is_read_in_the_call() -> None:
    """It may make its text in a way of its own."""

    class Braces(logging.LogRecord):
        def getMessage(self) -> str:
            return str(self.msg).format(*self.args or ())

    braces = Braces("app", logging.INFO, "a.py", 1, "{} of two", (1,), None)

    assert reader().take(braces, 7) is None


def test_extras_out_of_scope_are_left_out() -> None:
    """Of a logger whose extras are no shards only the message counts."""
    by = reader(["other"])
    encoded = by.take(record({"a": object()}), 7)

    assert encoded is not None
    assert by.untie(encoded).writes == [("blade/msg", "said")]
