"""What the bytes on every link are.

A frame is one ZeroMQ frame: a version byte, then one msgpack value, a tagged array (the structs of
`shardlog.crdt.replication.messages`, in the order of their fields; later versions may add fields at
the end). Published frames have one byte before that, the topic: the lane, or HEARTBEAT_TOPIC for
heartbeats, which everybody subscribes to.
"""

from __future__ import annotations

import msgspec

from shardlog.crdt.delta import Natural
from shardlog.crdt.replication.messages import (
    Delta,
    Heard,
    Heartbeat,
    PassDown,
    Report,
    Roster,
    RosterRequest,
    SnapshotChunk,
    SnapshotRequest,
)

VERSION = 1
HEARTBEAT_TOPIC = 255

FRAME_BYTES_MAX = 1 << 20
"""Beyond this a frame is refused and counted."""
FRAME_BYTES_CUT = 8 << 20
"""Beyond this ZeroMQ itself cuts the connection (ZMQ_MAXMSGSIZE)."""
FRAME_BYTES_GOAL = 256 << 10
"""Senders split what is larger, so that heartbeats and others get through between."""
ITEM_BYTES_MAX = 512 << 10
"""An item, which cannot be split, behind as much as the goal is still less than a frame. It is more
than `item_bytes` says of any value of a shard."""
NAME_BYTES_MAX = 255
"""Names of sources, epochs and hosts; ZeroMQ's routing ids have no more."""
PATH_KEYS_MAX = 64
"""More than any shard's path has: to merge at a path is to look at all its prefixes."""


class ReportHead(msgspec.Struct, array_like=True, frozen=True, tag="report"):
    """A `Report` of which nothing is read but where it stands among others."""

    process: str
    sequence: Natural
    sent_ns: msgspec.Raw
    final: msgspec.Raw
    writes: msgspec.Raw
    erases: msgspec.Raw
    totals: msgspec.Raw
    follows: Natural = 0
    retired: msgspec.Raw = msgspec.Raw()
    counted: msgspec.Raw = msgspec.Raw()
    since: Natural = 0


Message = (
    Report
    | Delta
    | Heartbeat
    | SnapshotRequest
    | SnapshotChunk
    | PassDown
    | Heard
    | RosterRequest
    | Roster
)
