"""Events as a monitor is told them, drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

from shardlog.crdt.delta import COUNTER, ERASED, FORGOTTEN, REGISTER
from shardlog.crdt.path import path_text
from shardlog.crdt.replication.messages import LANES, Changes, Heartbeat, HostStatus, Row
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shardlog.crdt.delta import Value
    from shardlog.crdt.path import Key
    from shardlog.monitor.feed import Event

WRITERS = ["scraper-1@node-1:boot:7:1:x", "spotter-1@node-2:boot:8:1:y"]
KEYS: tuple[Key, ...] = ("a", "b/c", "é", 42, "42", "shardlog")
PLAIN: tuple[Value, ...] = (
    None,
    True,
    {},
    [],
    [1, ["x"]],
    float("nan"),
    float("inf"),
    b"\xff",
    -0.0,
    -(2**63),
    2**64 - 1,
    "text",
    "\n",
)
TIMES = st.integers(0, 2**62)
PATHS = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(path_text)
KINDS: tuple[Literal[0, 1, 2, 3], ...] = (REGISTER, COUNTER, ERASED, FORGOTTEN)


def _row(path: str, kind: Literal[0, 1, 2, 3], value: Value, stamp: int, writer: int) -> Row:
    return Row(path, kind, value if kind < ERASED else None, stamp, writer)


def _heartbeat(at_ns: int, version: int, settling: str) -> Heartbeat:
    host = HostStatus("node-1", "replica-1", "live", 0, at_ns, version, offset_ns=-5)
    sequences = [version] * LANES
    return Heartbeat(
        "node", "epoch", at_ns, 1000, sequences, [host], {"size": 1}, settling=settling
    )


def _changes(rows: list[Row], more: bool) -> Changes:
    return Changes(WRITERS, rows, more)


def _whole(at_ns: int, changes: list[Changes]) -> Whole:
    return Whole(at_ns, tuple(changes))


ROWS = st.builds(
    _row,
    PATHS,
    st.sampled_from(KINDS),
    st.sampled_from(PLAIN),
    TIMES,
    st.sampled_from([-1, 0, 1]),
)
CHANGES = st.builds(_changes, st.lists(ROWS, max_size=4), st.booleans())
HEARTBEATS = st.builds(_heartbeat, TIMES, st.integers(0, 2**62), st.text(max_size=5))
WHOLES = st.builds(_whole, TIMES, st.lists(CHANGES, max_size=3))
EVENTS = st.one_of(
    WHOLES,
    st.builds(Moved, TIMES, CHANGES),
    st.builds(Heard, TIMES, HEARTBEATS),
    st.builds(Doubt, TIMES, st.text(max_size=5)),
)


def moved(at_ns: int, **values: Any) -> Moved:
    """These registers have changed."""
    rows = [Row(path, REGISTER, value, at_ns, 0) for path, value in values.items()]
    return Moved(at_ns, Changes([WRITERS[0]], rows))


def whole(at_ns: int, **values: Any) -> Whole:
    """These registers are all that shows."""
    return Whole(at_ns, (moved(at_ns, **values).changes,))


def fold(events: Iterable[Event]) -> str:
    """All that shows at the end, what was heard last and what is in doubt then."""
    replica = Replica()
    heartbeat, doubt = None, ""
    for event in events:
        match event:
            case Whole(at_ns, changes):
                replica.install(changes, (), at_ns)
            case Moved(_, changes):
                replica.apply(changes)
            case Heard(_, heard):
                heartbeat = heard
            case Doubt(_, reason):
                doubt = reason
    return repr((replica.rows("**"), replica.rows("shardlog/**"), heartbeat, doubt))


def files(folder: Path) -> list[Path]:
    """The segments of a recording."""
    return sorted(folder.glob("*.shards"))


def heard(
    at_ns: int, watermark_ns: int | None = None, status: Literal["live", "stale"] = "live"
) -> Heard:
    """The host of the writers has told all up to the watermark, or up to now."""
    told_ns = at_ns if watermark_ns is None else watermark_ns
    host = HostStatus("node-1", "replica-1", status, 0, told_ns)
    return Heard(at_ns, Heartbeat("node", "epoch", at_ns, 1000, [0] * LANES, [host], {}))
