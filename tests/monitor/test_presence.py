"""Who is there: what registers come to, row by row, and what changes between two looks."""

from __future__ import annotations

from typing import Any

import pytest

from shardlog.crdt.delta import COUNTER, REGISTER
from shardlog.crdt.replication.messages import Heartbeat, HostStatus
from shardlog.monitor.presence import (
    Event,
    blades,
    events,
    missing,
    node_remark,
    nodes,
    remark,
    states,
)
from shardlog.monitor.replica import Shown
from shardlog.monitor.views import iso_utc

SECOND = 10**9
COLLECTOR = "node-1@node-1::1:1:cc"


def rows(blade: str, process: str, by: str = COLLECTOR, **said: Any) -> list[Any]:
    return [
        (("shardlog", "presence", blade, process, key), Shown(REGISTER, value, 1, by))
        for key, value in said.items()
    ]


def row(**said: Any) -> Any:
    (found,) = blades(rows("a", "a@1", **said))
    return found


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
    assert [*found[2].items()][:7] == [
        ("blade", "b"),
        ("host", "node-1"),
        ("pid", 3),
        ("process", "b@x"),
        ("status", "up"),
        ("started", "1970-01-01T00:00:00.000000Z"),
        ("heard", "1970-01-01T00:00:01.000000Z"),
    ]


def test_value_of_a_wrong_type_counts_as_not_said() -> None:
    """Anybody may have written it."""
    odd: list[Any] = [3, "x", True, [], [1], ["a", "b", "c", "d"], {}, None, 0.5]
    keys = "host pid started status heard silence busy main exit error queue refused words version"
    for value in odd:
        found = row(**dict.fromkeys(keys.split(), value))

        assert isinstance(found["status"], str | None)
        assert (found["busy"], found["main"], found["exit"], found["words"]) == (None,) * 4
        assert isinstance(remark(found), str)


BUSY = ["rendering", SECOND, 9 * SECOND, False]
OVER = ["rendering", SECOND, 9 * SECOND, True]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"status": "up"}, "up"),
        ({"status": "up", "silence": None, "busy": None}, "up"),
        ({"status": "up", "busy": BUSY}, "busy"),
        ({"status": "up", "busy": OVER}, "late"),
        ({"status": "up", "silence": "late"}, "late"),
        ({"status": "up", "silence": "late", "busy": BUSY}, "late"),
        ({"status": "up", "silence": "silent", "busy": BUSY}, "silent"),
        ({"status": "up", "silence": "stopped"}, "silent"),
        ({"status": "bye", "silence": "silent", "busy": OVER}, "bye"),
        ({"status": "lost", "silence": "stopped", "busy": BUSY}, "lost"),
    ],
)
def test_status_is_the_first_that_applies(said: dict[str, Any], status: str) -> None:
    """An end, then silence, then a declared task."""
    assert row(**said)["status"] == status


@pytest.mark.parametrize(
    ("said", "remarked"),
    [
        ({"status": "up"}, ""),
        ({"status": "bye", "exit": [0, "", ""]}, "exit 0"),
        ({"status": "bye", "exit": [1, "", ""], "error": "ValueError"}, "exit 1, ValueError"),
        ({"status": "lost", "exit": [None, "SIGKILL", ""]}, "SIGKILL"),
        (
            {"status": "lost", "exit": [None, "SIGKILL", "out of memory"]},
            "SIGKILL, out of memory",
        ),
        ({"status": "lost", "busy": BUSY, "main": ["a:f", SECOND]}, ""),
        ({"status": "up", "silence": "stopped"}, "stopped"),
        ({"status": "up", "queue": 0, "refused": 0, "words": ["hello", 1]}, ""),
        ({"status": "up", "queue": 70, "refused": 3}, "queue 70; refused 3"),
        (
            {"status": "lost", "exit": [None, "SIGKILL", ""], "words": ["bye" * 100, 1]},
            "SIGKILL; said last: " + "bye" * 40,
        ),
        ({"status": "up", "busy": BUSY}, "rendering, until 1970-01-01T00:00:09Z"),
        ({"status": "up", "busy": OVER}, "rendering, was due 1970-01-01T00:00:09Z"),
        (
            {"status": "up", "main": ["a:f < a:g", SECOND]},
            "main thread waits in a:f < a:g since 1970-01-01T00:00:01Z",
        ),
    ],
)
def test_remark_says_what_the_status_does_not(said: dict[str, Any], remarked: str) -> None:
    """How it ended, what it is at, where its main thread is; nothing that an end made void."""
    assert remark(row(**said)) == remarked


def test_last_words_are_the_processes_own() -> None:
    """What the blade shows, if this process said it; else what was kept when another spoke."""
    said = [
        *rows("a", "a@1", status="lost", words=["farewell", 5]),
        *rows("a", "a@2", status="up"),
        *rows("a", "a@3", status="up"),
    ]
    message = Shown(REGISTER, "hello", 7, "a@2")
    found = blades(said, {"a/msg": message}.get)

    assert [(row["words"], row["spoke"]) for row in found] == [
        ("farewell", iso_utc(5)),
        ("hello", iso_utc(7)),
        (None, None),
    ]


def host(status: Any, since_ns: int = 0, **said: Any) -> HostStatus:
    return HostStatus("node-1", f"replica-{since_ns}", status, since_ns, 0, **said)


def test_process_of_a_stale_host_says_since_when_it_is_not_heard() -> None:
    """Its status is what was known last; where another store of the host is live, all is heard."""
    said = rows("a", "a@1", status="up", heard=1)
    (stale,) = blades(said, hosts=[host("stale", 4 * SECOND), host("replaced", 9 * SECOND)])
    (live,) = blades(said, hosts=[host("stale", 4 * SECOND), host("live", offset_ns=-7)])

    assert (stale["status"], stale["collector"]) == ("up", "node-1")
    assert stale["unheard_since"] == "1970-01-01T00:00:04.000000Z"
    assert remark(stale) == "collector node-1 not heard since 1970-01-01T00:00:04Z"
    assert (live["unheard_since"], live["offset_ns"]) == (None, -7)


def test_who_is_expected_and_never_was_has_a_row() -> None:
    """By name among the others; missing is also who has gone, or is silent, and who is late not."""
    said = [
        *rows("b", "b@1", status="bye"),
        *rows("d", "d@1", status="up", silence="stopped"),
        *rows("e", "e@1", status="up", silence="late"),
        *rows("f", "f@1", status="lost"),
        *rows("f", "f@2", status="up"),
    ]
    expected = ["f", "e", "d", "c", "b", "c"]
    found = blades(said, expected=expected)

    assert [(row["blade"], row["status"]) for row in found] == [
        ("b", "bye"),
        ("c", "never seen"),
        ("d", "silent"),
        ("e", "late"),
        ("f", "lost"),
        ("f", "up"),
    ]
    assert missing(found, expected, is_all_heard=True) == (["d", "c", "b"], [])
    assert {tuple(row) for row in found} == {tuple(found[0])}


def test_who_was_on_a_host_that_is_not_heard_is_neither_there_nor_missing() -> None:
    """However well it was; who is lost where all is heard is missing, whoever else is silent."""
    heard = COLLECTOR.replace("node-1", "node-2")
    said = [
        *rows("up", "up@1", status="up", heard=1),
        *rows("moved", "moved@1", status="up", heard=1),
        *rows("moved", "moved@2", heard, status="lost", heard=1),
        *rows("twice", "twice@1", status="up", heard=1),
        *rows("twice", "twice@2", heard, status="up", heard=1),
        *rows("lost", "lost@1", heard, status="lost", heard=1),
    ]
    expected = ["up", "moved", "twice", "lost", "never"]
    found = blades(said, hosts=[host("stale", SECOND)], expected=expected)

    assert missing(found, expected, is_all_heard=False) == (["lost"], ["up", "moved", "never"])


def test_who_is_on_a_host_that_a_heartbeat_has_no_room_for_is_neither_there_nor_missing() -> None:
    """Nobody says how such a host is: it may not have been heard for long."""
    unnamed = COLLECTOR.replace("node-1", "node-2")
    said = [
        *rows("there", "there@1", status="up", heard=1),
        *rows("up", "up@1", unnamed, status="up", heard=1),
        *rows("lost", "lost@1", unnamed, status="lost", heard=1),
    ]
    found = blades(said, hosts=[host("live")])
    expected = ["there", "up", "lost"]

    assert missing(found, expected, is_all_heard=True) == (["lost"], [])
    assert missing(found, expected, is_all_heard=True, named={"node-1"}) == ([], ["up", "lost"])


def heartbeat(*hosts: HostStatus, source: str = "aggregator", settling: str = "") -> Heartbeat:
    return Heartbeat(source, "e", 9, 1000, [0], [*hosts], {"frame": 2}, settling=settling)


def health(*what: Any, value: Any) -> Any:
    kind = COUNTER if what[0] == "refused" else REGISTER
    return (
        ("shardlog", "health", "collector", "node-1", *what),
        Shown(kind, value, 1, COLLECTOR),
    )


def test_nodes_are_the_aggregator_and_its_collectors() -> None:
    """With what each turned away, and a store that can't be written; a replaced one has neither."""
    said = [health("refused", "skew", value=3), health("store", value="disk full")]
    first, *others = nodes(
        "tcp://a", heartbeat(host("live", lower_bound="lost"), host("replaced", 5)), said
    )

    assert (first["node"], first["kind"], first["status"]) == ("tcp://a", "aggregator", "live")
    assert node_remark(first) == "refused 2 frame"
    assert [node["status"] for node in others] == ["live", "replaced"]
    assert node_remark(others[0]) == "refused 3 skew; disk full; lower bound: lost"
    assert node_remark(others[1]) == "not heard since 1970-01-01T00:00:00Z"


def test_nodes_that_are_not_heard_are_stale() -> None:
    """The collector by what the aggregator says, the aggregator by its silence."""
    found = nodes("tcp://a", heartbeat(host("stale", SECOND)), [], stale_since_ns=2 * SECOND)

    assert [(node["kind"], node["status"], node["since"]) for node in found] == [
        ("aggregator", "stale", iso_utc(2 * SECOND)),
        ("collector", "stale", iso_utc(SECOND)),
    ]
    assert nodes("tcp://a", heartbeat(settling="new"), [])[0]["status"] == "settling"
    assert nodes("tcp://a", None, []) == []


def test_collector_that_is_asked_itself_has_one_row() -> None:
    """There is no aggregator in that."""
    (only,) = nodes("tcp://c", heartbeat(host("live"), source="replica-0"), [])

    assert (only["node"], only["kind"]) == ("node-1", "collector")


def test_events_are_what_differs_between_two_looks() -> None:
    """Somebody new, a change of status, who was forgotten; nothing of who is as before."""
    before = states(
        blades(
            [
                *rows("a", "a@1", pid=7, host="h", status="up"),
                *rows("b", "b@1", status="up"),
                *rows("c", "c@1", status="bye"),
            ]
        ),
        nodes("tcp://a", heartbeat(host("live")), []),
    )
    now = states(
        blades(
            [
                *rows("a", "a@1", pid=7, host="h", status="lost", exit=[None, "SIGKILL", ""]),
                *rows("a", "a@2", pid=8, host="h", status="up", heard=7),
                *rows("b", "b@1", status="up", heard=9),
            ]
        ),
        nodes("tcp://a", heartbeat(host("stale")), []),
    )

    assert [*events(before, before)] == []
    assert {*events(before, now)} == {
        Event("node node-1 replica-0", "live", "stale"),
        Event("a 7 on h", "up", "lost (SIGKILL)"),
        Event("a 8 on h", "", "up"),
        Event("c", "bye", "forgotten"),
    }
