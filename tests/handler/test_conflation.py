"""Conflated shards do to an outbox what the shards would have done one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shardlog.crdt import counter
from shardlog.handler.conflation import conflated
from shardlog.handler.outbox import Outbox
from shardlog.handler.shard import Shard, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

PATHS = st.sampled_from(["a", "a/b", "a/b/c", "a/d", "e"])
VALUES: st.SearchStrategy[Any] = st.sampled_from([1, 2, {}])
AMOUNTS: st.SearchStrategy[Any] = st.sampled_from([1, (0, 0, 2, 5)])
SHARDS = st.lists(
    st.tuples(
        st.lists(st.tuples(PATHS, VALUES), max_size=2, unique_by=lambda write: write[0]),
        st.lists(PATHS, max_size=1),
        st.lists(st.tuples(PATHS, AMOUNTS), max_size=2),
    ),
    max_size=12,
)


def said(shards: Iterable[Shard]) -> list[Any]:
    """What the reports of an outbox say of them; of stamps, which writes are newer than which."""
    box = Outbox("p", "b", {})
    box.connected = True
    for shard in shards:
        box.receive(shard)
    reports: list[Any] = []
    while (report := box.next_report(1, 1)) is not None:
        reports.append(
            (
                sorted((w.path, repr(w.value)) for w in report.writes),
                [w.path for w in sorted(report.writes, key=lambda w: (w.stamp, w.path))],
                sorted(e.path for e in report.erases),
                sorted((t.path, t.amount) for t in report.totals),
                counter.value(report.counted),
            )
        )
    return reports


@settings(max_examples=500)
@given(SHARDS)
def test_outbox_says_the_same(
    made: list[tuple[list[tuple[str, Any]], list[str], list[tuple[str, Any]]]],
) -> None:
    """Registers, floors, totals and ended totals are those of the shards one by one."""
    shards = [Shard(at, w, e, c, {}, 0) for at, (w, e, c) in enumerate(made, 1)]

    assert said(conflated(shards)) == said(shards)


def test_paths_that_come_again_are_said_once() -> None:
    """A thousand calls at one path are one write of the newest, with its time, and one sum."""
    shards = [Shard(at, [("a", at), ("m", "x")], [], [("n", 1)], {}, 0) for at in range(1, 1001)]

    assert [*conflated(shards)] == [
        Shard(1000, [("a", 1000), ("m", "x")], [], [("n", 1000)], {}, 0)
    ]


def test_writes_keep_their_times() -> None:
    """What was written once, and early, is not dated by what came later, and comes before it."""
    shards = [
        Shard(1, [("b", 1), ("a", 1)], [], [], {}, 0),
        Shard(2, [("c", 2)], [], [], {}, 0),
        Shard(3, [("b", 3)], [], [], {}, 0),
    ]

    assert [(shard.time_ns, shard.writes) for shard in conflated(shards)] == [
        (1, [("a", 1)]),
        (2, [("c", 2)]),
        (3, [("b", 3)]),
    ]


def test_refusals_pass_as_they_are() -> None:
    """Each is counted, and the first sample is the first."""
    shards = [refusal(1, "type", "first"), refusal(2, "type", "second")]

    assert [*conflated(shards)] == shards
