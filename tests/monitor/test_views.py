"""Rows for people, and what JSON can say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.replication.messages import Heartbeat, HostStatus
from shardlog.monitor.change import ABSENT, Change
from shardlog.monitor.document import change_document, document, total_document
from shardlog.monitor.views import TotalReport, doubts, iso_utc, total_report

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_iso_utc_says_what_datetime_says(moment: datetime) -> None:
    """For each microsecond of the calendar."""
    at_ns = (moment - EPOCH) // timedelta(microseconds=1) * 1000

    assert datetime.fromisoformat(iso_utc(at_ns)) == moment
    assert iso_utc(at_ns + 999) == iso_utc(at_ns)


LIVE = HostStatus("node-1", "replica-1", "live", 9, 9, version=3)
STALE = HostStatus("node-2", "replica-2", "stale", 2 * 10**9, 9)
SYNCING = HostStatus("node-3", "replica-3", "syncing", 9, 9)
REPLACED = HostStatus("node-4", "replica-4", "replaced", 3, 9)
LOWER = HostStatus("node-5", "replica-5", "live", 9, 9, lower_bound="its store was lost")
URL = "tcp://127.0.0.1:7410"


def report(
    *hosts: HostStatus,
    is_whole: bool = True,
    stale_since_ns: int | None = None,
    settling: str = "",
    lower_bound: str = "",
    note: str = "",
) -> TotalReport:
    heartbeat = Heartbeat(
        "a", "e", 9, 1000, [0], list(hosts), {}, settling=settling, lower_bound=lower_bound
    )
    found = doubts(URL, heartbeat, is_whole=is_whole, stale_since_ns=stale_since_ns, note=note)
    return total_report("a/*", 7, found)


def test_total_is_exact_where_all_hosts_are_live_or_replaced() -> None:
    """And the server is heard, settled and knows of no loss."""
    assert report(LIVE, REPLACED) == ("a/*", 7, "exact", "", None)


@pytest.mark.parametrize(
    ("found", "status", "reason", "since_ns"),
    [
        (report(LIVE, STALE), "stale", f"node-2 has not been heard since {iso_utc(2 * 10**9)}", 2),
        (report(LIVE, SYNCING), "settling", "node-3: its snapshot is on the way", None),
        (report(LIVE, LOWER), "lower bound", "node-5: its store was lost", None),
        (report(), "settling", "no host has been heard yet", None),
        (report(LIVE, is_whole=False), "settling", f"the snapshot of {URL} is on the way", None),
        (
            report(LIVE, stale_since_ns=10**9),
            "stale",
            f"{URL} has not been heard since {iso_utc(10**9)}",
            1,
        ),
        (report(LIVE, stale_since_ns=10**9, note="another run"), "stale", "another run", 1),
        (report(LIVE, note="it lacks node-3"), "stale", "it lacks node-3", None),
        (report(LIVE, settling="it began just now"), "settling", "it began just now", None),
        (report(LIVE, lower_bound="node-9 is gone"), "lower bound", "node-9 is gone", None),
    ],
)
def test_total_says_what_may_be_missing(
    found: TotalReport, status: str, reason: str, since_ns: int | None
) -> None:
    """One line that names it; a time where something is not heard any more."""
    since = None if since_ns is None else since_ns * 10**9
    assert found[2:] == (status, reason, since)


def test_total_without_a_heartbeat_is_settling() -> None:
    """Nobody has said yet which hosts there are."""
    found = doubts(URL, None, is_whole=True, stale_since_ns=None)
    assert total_report("a", 0, found).status == "settling"


@given(
    st.lists(st.sampled_from([LIVE, STALE, SYNCING, REPLACED, LOWER]), min_size=1), st.booleans()
)
def test_status_of_a_total_is_the_worst_and_its_reason_names_all(
    hosts: list[HostStatus], is_server_stale: bool
) -> None:
    """Settling before stale before lower bound; since is the earliest time."""
    found = report(*hosts, stale_since_ns=10**9 if is_server_stale else None)
    named = {host.host for host in hosts if host.host in found.reason}

    is_stale = is_server_stale or STALE in hosts
    if SYNCING in hosts:
        assert found.status == "settling"
    elif is_stale:
        assert found.status == "stale"
    else:
        assert found.status == ("lower bound" if LOWER in hosts else "exact")
    assert named == {host.host for host in hosts if host in (STALE, SYNCING, LOWER)}
    assert (URL in found.reason) == is_server_stale
    assert (found.since_ns is not None) == is_stale
    assert found.since_ns is None or found.since_ns == (10**9 if is_server_stale else 2 * 10**9)
    assert "\n" not in found.reason


def test_total_in_json_has_its_time_as_text() -> None:
    """As all times that people read."""
    found = total_document(report(LIVE, STALE))

    assert list(found) == ["pattern", "value", "status", "reason", "since"]
    assert found["since"] == "1970-01-01T00:00:02.000000Z"


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
