"""The error report as rows: what its status says, and when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.monitor.errors import (
    HOUR,
    SECOND,
    TEN_MINUTES,
    Group,
    failures,
    find,
    headline,
    markdown,
    report,
    since,
)
from shardlog.monitor.views import iso_utc

NOW = 1_764_063_000 * SECOND + 7 * 60 * SECOND  # 2025-11-25T09:37
MINUTE = 60 * SECOND


def said(*times: tuple[int, int, str], host: str = "node-1", **more: Any) -> dict[str, Any]:
    """A group as it lies in the state: of each, how long ago, how many, and which version."""
    hours: dict[str, Any] = {}
    recent: dict[str, int] = {}
    for ago_ns, n, version in times:
        at_ns = NOW - ago_ns
        by_version = hours.setdefault(iso_utc(at_ns)[:13], {})
        by_version[version] = by_version.get(version, 0) + n
        if ago_ns < 6 * HOUR:
            minute = iso_utc(at_ns // TEN_MINUTES * TEN_MINUTES)[:16]
            recent[minute] = recent.get(minute, 0) + n
    return {
        "about": {"type": "pages.NotFound", "message": "page\n7", "culprit": "pages:fetch"},
        "count": {host: {"scraper-1": sum(n for _, n, _ in times)}},
        "last": {host: {"scraper-1": max(NOW - ago_ns for ago_ns, _, _ in times)}},
        "hours": hours,
        "recent": recent,
        **more,
    }


def only(tree: dict[str, Any], window_ns: int = HOUR) -> Group:
    [group] = report({"4c1634f49fd1": tree}, 1, NOW, window_ns)["groups"]
    return group


@pytest.mark.parametrize(
    ("times", "status"),
    [
        ([(2 * MINUTE, 1, "1.4")], "new"),
        ([(50 * MINUTE, 1, "1.4"), (2 * MINUTE, 100, "1.4")], "new"),
        ([(3 * HOUR, 1, "1.4")], "quiet"),
        ([(100 * HOUR, 9, "1.4")], "quiet"),
        ([(5 * HOUR, 1, "1.4"), (2 * MINUTE, 1, "1.4")], "ongoing"),
        ([(30 * HOUR, 1, "1.4"), (2 * MINUTE, 1, "1.4")], "regressed"),
        ([(20 * HOUR, 1, "1.4"), (2 * MINUTE, 1, "1.4")], "ongoing"),
        ([(5 * HOUR, 1, "1.4"), (2 * MINUTE, 1, "1.5")], "regressed"),
        ([(5 * HOUR, 1, "1.5"), (4 * HOUR, 1, "1.4"), (2 * MINUTE, 1, "1.4")], "ongoing"),
        ([(90 * MINUTE, 10, "1.4"), (2 * MINUTE, 9, "1.4")], "ongoing"),
        ([(90 * MINUTE, 10, "1.4"), (2 * MINUTE, 10, "1.4")], "escalating"),
        ([(90 * MINUTE, 100, "1.4"), (2 * MINUTE, 10, "1.4")], "ongoing"),
        ([(5 * HOUR, 100, "1.4"), (2 * MINUTE, 10, "1.4")], "escalating"),
        ([(-5 * MINUTE, 500, "1.4")], "new"),
        ([(20 * HOUR, 1, "1.4"), (-HOUR, 1, "1.4")], "ongoing"),
    ],
)
def test_status_is_the_first_that_holds(times: list[tuple[int, int, str]], status: str) -> None:
    """Of quiet, new, regressed, escalating and ongoing, as they are defined."""
    assert only(said(*times))["status"] == status


def test_window_begins_where_what_is_counted_together_begins() -> None:
    """With the ten minutes, or the hour, that its start is in: errors are counted by these."""
    group = said((70 * MINUTE, 1, "1"), (65 * MINUTE, 2, "1"), (HOUR, 4, "1"), (0, 8, "1"))

    assert iso_utc(since(NOW, HOUR)) == "2025-11-25T08:30:00.000000Z"
    assert only(group)["count"] == 14
    assert iso_utc(since(NOW, 24 * HOUR)) == "2025-11-24T09:00:00.000000Z"
    assert only(group, 24 * HOUR)["count"] == only(group)["total"] == 15


@pytest.mark.parametrize("window_ns", [HOUR, 24 * HOUR])
def test_what_is_counted_by_a_clock_that_is_ahead_is_in_the_window(window_ns: int) -> None:
    """By as much as a collector lets a clock be ahead, an hour."""
    group = said((-5 * MINUTE, 1, "1"), (-HOUR, 2, "1"), (-3 * HOUR, 4, "1"))

    assert only(group, window_ns)["count"] == 3


def test_first_is_as_exact_as_is_known() -> None:
    """To the minute by a sample, else to ten minutes, else to the hour; else it is not."""
    sample = [NOW - 2 * MINUTE, "p", "1.4", "text"]

    first = only(said((2 * MINUTE, 1, "1"), samples={"first-0": sample}))["first"]
    assert first == "2025-11-25T09:35:00.000000Z"
    assert only(said((2 * MINUTE, 1, "1")))["first"] == "2025-11-25T09:30:00.000000Z"
    assert only(said((8 * HOUR, 1, "1")))["first"] == "2025-11-25T01:00:00.000000Z"
    tree = said((8 * HOUR, 1, "1"))
    tree["hours"]["~"] = {"1": 3}
    assert only(tree)["first"] is None


def test_groups_are_in_the_order_of_their_urgency() -> None:
    """By status, then by how many there are; beyond the bounds come last."""
    tree = {
        "aaaa00000000": said((3 * HOUR, 9, "1")),
        "bbbb00000000": said((5 * HOUR, 1, "1"), (0, 5, "1")),
        "cccc00000000": said((5 * HOUR, 1, "1"), (0, 7, "1")),
        "dddd00000000": said((0, 1, "1"), host="node-2"),
        "overflow": said((0, 100, "1")),
        "~": said((0, 3, "1")),
    }
    found = report(tree, 5, NOW, HOUR)

    assert [group["id"] for group in found["groups"]] == [
        "Edddd",
        "Ecccc",
        "Ebbbb",
        "Eaaaa",
        "overflow",
    ]
    assert (found["overflow"], found["forgotten"], found["hosts"]) == (100, 3, 5)


def test_counts_are_summed_over_hosts_and_blades() -> None:
    """The newest of all lasts is the last; versions are in the order of their first."""
    tree = said((HOUR, 1, "1.10"), (2 * HOUR, 1, "1.9"))
    tree["count"] = {"node-1": {"a": 1, "b": 2}, "node-2": {"a": 4}}
    tree["last"] = {"node-1": {"a": NOW - 9, "b": NOW - HOUR}, "node-2": {"a": NOW - MINUTE}}
    group = only(tree)

    assert group["total"] == 7
    assert group["hosts"] == {"node-1": {"a": 1, "b": 2}, "node-2": {"a": 4}}
    assert group["last"] == iso_utc(NOW - 9)
    assert group["versions"] == ["1.9", "1.10"]


def test_a_group_is_found_by_the_beginning_of_its_name() -> None:
    """With or without the E, which is a digit too."""
    tree = {"4c16aaaaaaaa": said((0, 1, "1")), "4c17aaaaaaaa": said((0, 1, "1")),
            "e4c1aaaaaaaa": said((0, 1, "1"))}  # fmt: skip
    groups = report(tree, 1, NOW, HOUR)["groups"]

    assert {group["id"] for group in groups} == {"E4c16", "E4c17", "Ee4c1"}
    assert [group["fingerprint"] for group in find(groups, "E4C16")] == ["4c16aaaaaaaa"]
    assert [group["fingerprint"] for group in find(groups, "4c17aaaaaaaa")] == ["4c17aaaaaaaa"]
    assert len(find(groups, "E4c1")) == 3
    assert find(groups, "E9") == []


def test_ids_are_as_long_as_it_takes() -> None:
    """Two groups never share one."""
    tree = {"4c1634f49fd1": said((0, 1, "1")), "4c1634000000": said((0, 1, "1"))}

    ids = {group["id"] for group in report(tree, 1, NOW, HOUR)["groups"]}
    assert ids == {"E4c1634f", "E4c16340"}


def test_samples_are_whole_or_not_there() -> None:
    """In their order; one that is kept twice is shown once."""
    tree = said(
        (0, 1, "1"),
        samples={
            "last-0": [NOW, "p", "1", "new"],
            "first-1": [NOW - 1000, "p", "1", "old"],
            "last-1": [NOW - 1000, "p", "1", "old"],
            "last-2": "odd",
            "chosen-0": [NOW, 7, "1", "odd"],
        },
    )

    assert [(each["slot"], each["text"]) for each in only(tree)["samples"]] == [
        ("first", "old"),
        ("last", "new"),
    ]


def test_live_tests_that_failed_meanwhile_are_named() -> None:
    """Those that name a host or blade of the group come first; older ones do not count."""
    live: dict[str, Any] = {
        "answered": {
            "intents/41": {"verdict": "fail", "message": "m", "since": NOW - 1},
            "intents/42": {"verdict": "fail", "message": "no scraper-1", "since": NOW},
            "intents/43": {"verdict": "fail", "message": "scraper-1", "since": NOW - 2 * HOUR},
            "intents/44": {"verdict": "pass", "message": "scraper-1", "since": NOW},
            "": {"verdict": "fail", "counts": {}},
            "odd": 7,
        }
    }
    found = failures(live, only(said((0, 1, "1"))), NOW - HOUR)

    assert [(each["key"], each["names_host"]) for each in found] == [
        ("intents/42", True),
        ("intents/41", False),
    ]


def test_markdown_is_one_line_a_group() -> None:
    """Whatever is in its message."""
    tree = said((0, 1, "1"))
    tree["about"]["message"] = "a|b\nc"
    text = markdown(report({"4c1634f49fd1": tree, "~": said((0, 2, "1"))}, 1, NOW, HOUR))

    assert text.splitlines()[4] == (
        "| E4c16 | new | 1 | 1 | 1/1 | 1 | 2025-11-25T09:30Z | 2025-11-25T09:37Z"
        " | NotFound: a\\|b c | pages:fetch |"
    )
    assert text.splitlines()[-1] == "2 errors were in groups that are kept no more."


def test_only_a_text_names_a_group() -> None:
    """As fingerprints do: an int that looks like one is not told from it, and is no group."""
    tree: dict[Any, Any] = {42: said((0, 1, "1")), "42": said((0, 1, "1"))}

    assert [group["id"] for group in report(tree, 1, NOW, HOUR)["groups"]] == ["E42"]


KEYS = st.sampled_from(
    ["4c1634f49fd1", "~", "overflow", "about", "count", "hours", "recent", "last", "samples",
     "type", "2025-11-25T09", "2025-11-25T09:30", "node-1", "first-0", 7, "7", ""]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
    lambda inner: st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(KEYS, VALUES))
def test_anything_may_have_been_written_there(tree: dict[Any, Any]) -> None:
    """It is open to all processes: what is not understood is left out."""
    found = report(tree, 0, NOW, HOUR)

    assert markdown(found)
    for group in found["groups"]:
        assert isinstance(headline(group), str)
        assert failures(tree, group, 0) == []
