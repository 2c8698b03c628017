"""What peers say to one another, and the effects that a machine asks its shell for.

    handler ──Report──▶ collector ──Delta, Heartbeat──▶ aggregator ──Delta, Heartbeat──▶ monitor
                                  ◀─SnapshotRequest──              ◀─SnapshotRequest──
                                  ──SnapshotChunk───▶              ──SnapshotChunk───▶
                                  ◀─PassDown─────────
                                  ──Heard───────────▶

The link of the snapshots runs both ways: by it a node also tells those that it follows what others
know of what they hold.

Upwards a stream carries fragments (what is stored, one lane); towards monitors it carries changes
(what shows, 64 lanes by the root key). How a stream is followed is the same for both.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import msgspec

from shardlog.crdt.delta import (
    Amount,
    Erase,
    Fragment,
    Natural,
    Path,
    Retired,
    Total,
    Value,
    Write,
)
from shardlog.crdt.path import root_key

LANES = 64
"""Lanes of a stream of changes."""


def lane_of(path: str) -> int:
    """The lane of a path: CRC-32 of its root key's text, modulo the lanes. O(len).

    >>> lane_of("intents/42") == lane_of("intents/7/host")
    True
    """
    return zlib.crc32(root_key(path).encode()) % LANES


def run_of(epoch: str) -> str:
    """The run of the source that began an epoch, whoever passed it on. O(len).

    >>> run_of("5f0c"), run_of("5f0c/aggregator-1/3")
    ('5f0c', '5f0c')
    """
    return epoch.partition("/")[0]


class Report(msgspec.Struct, array_like=True, frozen=True, tag="report"):
    """One flush of a process: what is new there, or nothing, which says that it lives.

    The writer of everything in it is the process; writes and erases have writer 0.
    `final` says that it ends and that nothing follows.

    `follows` is the sequence of the report before it on this connection. 0 begins a repetition of
    all that is not acknowledged: what went before it may be lost, and is not missed. A collector
    acknowledges a sequence only when it has every report in this chain up to it.

    `counted` is the sum of all that the process has counted so far, at whatever paths; a part of it
    that is PART_MAX may be more.

    `since`: all that was said from the report of this sequence on is said anew here, at the same
    paths and in the same generations, and none of these reports begins a repetition, erases,
    retires or is final. Whoever has them still before them needs none but this one. 0: what was
    said before stands beside it.
    """

    process: str
    sequence: Natural
    sent_ns: Natural
    final: bool
    writes: list[Write]
    erases: list[Erase]
    totals: list[Total]
    follows: Natural = 0
    retired: list[Retired] = []
    counted: Amount = 0
    since: Natural = 0


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a path shows, by the kinds of `shardlog.crdt.delta`.

    `writer` is an index into the writers of the message, -1 where nobody is named.
    """

    path: Path
    kind: Literal[0, 1, 2, 3]
    value: Value
    stamp: Natural
    writer: int


class Changes(msgspec.Struct, array_like=True, frozen=True, tag="changes"):
    """Rows that look different from before, each path once.

    `more`: the next message of the lane belongs to this one, and they are to be taken in at once.
    """

    writers: list[str]
    rows: list[Row]
    more: bool = False


OFFSET_NS_MAX = 2**62
"""146 years: beyond it nobody says how far a clock is off."""
REPLACED_MAX = 32
"""How many lost replicas of a host are named, the newest: each heartbeat says them."""
TEXT_CHARACTERS_MAX = 1000
Reason: TypeAlias = Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)]
"""What a node says for people, as why a count may be too low; "" if there is nothing to say."""
Label: TypeAlias = Annotated[str, msgspec.Meta(max_length=255)]
"""A hash, or the name of a run."""


class HostStatus(msgspec.Struct, array_like=True, frozen=True):
    """What a node knows of a host: how complete it is.

    `status`: "live"; "syncing": its snapshot is on the way; "stale": not heard since `since_ns`;
    "replaced": another replica of this host goes on for it, and all that was told of it is here.
    `watermark_ns`: no process on it has anything older that is not sent. `version`: how far the
    replica is known. `lower_bound`: why its counts may be too low, "" if they are not. `replaces`:
    replicas of the host that were lost, and for which this one goes on. `retention`: a hash of its
    table. `offset_ns`: its clock less that of the node, as far as heartbeats tell. `run`: that of
    its collector in which it is known.
    """

    host: str
    replica: str
    status: Literal["live", "syncing", "stale", "replaced"]
    since_ns: Natural
    watermark_ns: Natural
    version: Natural = 0
    lower_bound: Reason = ""
    replaces: Annotated[list[str], msgspec.Meta(max_length=REPLACED_MAX)] = []
    retention: Label = ""
    offset_ns: Annotated[int, msgspec.Meta(ge=-OFFSET_NS_MAX, le=OFFSET_NS_MAX)] = 0
    run: Label = ""


def status_bytes(status: HostStatus) -> int:
    """An upper bound of the bytes that it takes in a message. O(its names).

    >>> status_bytes(HostStatus("node-1", "5f0c", "live", 1, 1))
    76
    """
    texts = (status.host, status.replica, status.lower_bound, status.retention, status.run)
    return 51 + sum(3 + len(text.encode()) for text in (*texts, *status.replaces))


class Delta(msgspec.Struct, array_like=True, frozen=True, tag="delta"):
    """The `sequence`-th message of one lane of a stream. Sequences are contiguous from 1.

    Where a node passes on the stream of another, `via` is the node's name; "" is the source itself.
    An epoch begins with the run of the source, whoever passes it on: see `run_of`.
    """

    source: str
    epoch: str
    lane: Natural
    sequence: Natural
    body: Fragment | Changes
    via: str = ""


class Heartbeat(msgspec.Struct, array_like=True, frozen=True, tag="heartbeat"):
    """The newest sequence of every lane, at regular times, so that a lost tail is noticed.

    `refused` says how many frames the node has turned away since its start, by reason; `store`: how
    often its store could not be written. `settling`
    says why the node may not have heard all yet, `lower_bound` why what it has may never be all;
    both are "" in the best case. `retention`: a hash of an aggregator's own table.
    """

    source: str
    epoch: str
    at_ns: Natural
    interval_ms: Natural
    sequences: list[Natural]
    hosts: list[HostStatus]
    refused: dict[str, Natural]
    via: str = ""
    settling: Reason = ""
    lower_bound: Reason = ""
    retention: Label = ""


REPLACED = 2**63 - 1
"""The version at which a replica is known that another goes on for: no store holds as much."""


class SnapshotRequest(msgspec.Struct, array_like=True, frozen=True, tag="request"):
    """Asks for the chunk behind the place `after`; None for the first. `request` names the attempt.

    Whoever answers keeps nothing between two chunks, so requests may be repeated at will. `source`
    is whose snapshot is wanted, "" that of the node itself. `run` and `version` say how far whoever
    asks knows that replica: a store that holds less than it once told learns of it by them. With
    the version REPLACED, `run` is the replica that goes on for it.
    """

    request: Natural
    after: str | None
    source: str = ""
    run: str = ""
    version: Natural = 0


class Member(msgspec.Struct, array_like=True, frozen=True):
    """A replica that a node hears, or once heard, and the host it is of."""

    replica: str
    host: str


class SnapshotChunk(msgspec.Struct, array_like=True, frozen=True, tag="chunk"):
    """One chunk, as things stand at `sequences`.

    `next` is the `after` of the next chunk, None behind the last; what it says is for the one who
    answers alone. Chunks are made one by one while the state moves on: the snapshot is that of the
    first chunk's sequences once all deltas behind these, up to the last chunk's sequences, are
    applied on top. The first chunk also says whom else the asker, or who was at its address before,
    once heard.

    `alterations`: how often some of the replica was forgotten on the way, while its owner was away.
    If ever, it may be another at its owner at the same version; chunks that differ in it are no
    snapshot.
    """

    source: str
    epoch: str
    request: Natural
    after: str | None
    next: str | None
    sequences: list[Natural]
    body: Fragment | Changes
    via: str = ""
    members: list[Member] = []
    alterations: Natural = 0


class RecordClock(msgspec.Struct, array_like=True, frozen=True):
    """The newest stamp that anybody has in a record: nobody forgets a part of it before that."""

    record: Path
    stamp: Natural


class PassDown(msgspec.Struct, array_like=True, frozen=True, tag="down"):
    """What a parent tells a node that it follows: of records of which the node holds a part, the
    clocks, and every floor that dominates something there; and whom else the parent hears. All is
    absolute, it may come again.
    """

    number: Natural
    clocks: list[RecordClock]
    writers: list[str]
    floors: list[Erase]
    members: list[Member] = []


class Heard(msgspec.Struct, array_like=True, frozen=True, tag="heard"):
    """The answer to the `PassDown` of this number."""

    number: Natural


class RosterRequest(msgspec.Struct, array_like=True, frozen=True, tag="roster request"):
    """Asks an aggregator which replicas it knows, behind `after` by name; None for the first."""

    after: str | None


class Roster(msgspec.Struct, array_like=True, frozen=True, tag="roster"):
    """Replicas that an aggregator knows, by name; `next` is the `after` of the next answer.

    `since_ns` is when a host itself last spoke, by its own clock.
    """

    after: str | None
    next: str | None
    hosts: list[HostStatus]


StreamMessage: TypeAlias = Delta | Heartbeat | SnapshotChunk


@dataclass(frozen=True, slots=True)
class Publish:
    """Effect: send to all who follow. `channel` says which stream: "up" or "serve"."""

    channel: Literal["up", "serve"]
    message: Delta | Heartbeat


@dataclass(frozen=True, slots=True)
class Answer:
    """Effect: send a chunk to the one who asked; `peer` is what the shell knows the asker by."""

    channel: Literal["up", "serve"]
    peer: bytes
    message: SnapshotChunk


@dataclass(frozen=True, slots=True)
class Confirm:
    """Effect: tell a parent that what it passed down was heard; `peer` is as in `Answer`."""

    peer: bytes
    message: Heard


@dataclass(frozen=True, slots=True)
class Ask:
    """Effect: ask for a chunk of a source's snapshot: `via` if it is passed on, else the source."""

    source: str
    message: SnapshotRequest
    via: str = ""


@dataclass(frozen=True, slots=True)
class Tell:
    """Effect: pass something down to a node that is followed: to its name, or its replica."""

    child: str
    message: PassDown


@dataclass(frozen=True, slots=True)
class Apply:
    """Effect: the next delta of a stream that is followed without a gap."""

    delta: Delta


@dataclass(frozen=True, slots=True)
class Install:
    """Effect: replace all that came from a source by its snapshot and the deltas behind it.

    The snapshot is that of an epoch: its first chunk's.
    """

    source: str
    chunks: tuple[SnapshotChunk, ...]
    deltas: tuple[Delta, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """Effect: tell the operator, one line."""

    text: str
