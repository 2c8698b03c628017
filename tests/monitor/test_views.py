"""Rows for people, and what JSON can say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.delta import REGISTER
from shardlog.monitor.change import ABSENT, Change
from shardlog.monitor.document import change_document, document
from shardlog.monitor.replica import Shown
from shardlog.monitor.views import blades, iso_utc

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_iso_utc_says_what_datetime_says(moment: datetime) -> None:
    """For each microsecond of the calendar."""
    at_ns = (moment - EPOCH) // timedelta(microseconds=1) * 1000

    assert datetime.fromisoformat(iso_utc(at_ns)) == moment
    assert iso_utc(at_ns + 999) == iso_utc(at_ns)


def rows(blade: str, process: str, **said: Any) -> list[Any]:
    return [
        (("shardlog", "presence", blade, process, key), Shown(REGISTER, value, 1, ""))
        for key, value in said.items()
    ]


def test_blades_are_sorted_by_name_and_start() -> None:
    """A blade that was started again is there twice, the older one first."""
    found = blades(
        [
            *rows("b", "b@x", host="node-1", pid=3, started=0, status="up", heard=10**9),
            *rows("a", "a@1", started=20, status="up"),
            *rows("a", "a@2", started=10, status="bye"),
        ]
    )

    assert [(row["blade"], row["process"]) for row in found] == [
        ("a", "a@2"),
        ("a", "a@1"),
        ("b", "b@x"),
    ]
    assert found[2] == {
        "blade": "b",
        "host": "node-1",
        "pid": 3,
        "process": "b@x",
        "status": "up",
        "started": "1970-01-01T00:00:00.000000Z",
        "heard": "1970-01-01T00:00:01.000000Z",
    }


def test_value_of_a_wrong_type_counts_as_not_said() -> None:
    """Anybody may have written it."""
    (row,) = blades(rows("a", "a@1", host=3, pid="x", started="now", status=[], heard=True))

    assert {row["host"], row["pid"], row["started"], row["status"], row["heard"]} == {None}


KEYS = st.text(max_size=3) | st.integers()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary()
VALUES = LEAVES | st.lists(LEAVES | st.lists(LEAVES, max_size=2), max_size=3)
TREES = st.recursive(VALUES, lambda below: st.dictionaries(KEYS, below, max_size=4), max_leaves=20)


@given(TREES)
def test_document_is_strict_json(tree: Any) -> None:
    """Each tree has one, and it comes back as it was written."""
    found = document(tree)
    text = json.dumps(found, allow_nan=False)

    assert json.loads(text) == found


@given(st.dictionaries(st.sampled_from(["1", "2", 1, 2, 3]), st.none()))
def test_document_loses_no_key(tree: dict[str | int, None]) -> None:
    """Keys that read alike stay two."""
    assert len(document(tree)) == len(tree)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({42: 1}, {"42": 1}),
        ({42: 1, "42": 2}, {r"\i42": 1, "42": 2}),
        ({42: 1, "x": {"42": 2}}, {"42": 1, "x": {"42": 2}}),
        ([b"ab", [float("inf")]], [{"$bytes": "YWI="}, [{"$float": "inf"}]]),
        (float("-inf"), {"$float": "-inf"}),
        ({}, {}),
        (2**64, 2**64),
    ],
)
def test_document_of(value: Any, expected: Any) -> None:
    """What JSON lacks is written as the documentation says."""
    assert document(value) == expected


def test_absent_sides_of_a_change_are_left_out() -> None:
    """None is not absent."""
    at_ns = 1_764_063_000_123_456_789
    appeared = Change(("a", 42), ABSENT, None, None, "blade", at_ns, "register")
    erased = Change(("a/b",), 7, ABSENT, "erased", None, at_ns, "counter")

    assert change_document(appeared) == {
        "path": r"a/\i42",
        "new": None,
        "gone": None,
        "by": "blade",
        "at": "2025-11-25T09:30:00.123456Z",
    }
    assert change_document(erased) == {
        "path": r"a\/b",
        "old": 7,
        "gone": "erased",
        "by": None,
        "at": "2025-11-25T09:30:00.123456Z",
    }
