"""What the bytes on every link are.

A frame is one ZeroMQ frame: a version byte, then one msgpack value, a tagged array (the structs of
`shardlog.crdt.replication.messages`, in the order of their fields; later versions may add fields at
the end). Published frames have one byte before that, the topic: the lane, or HEARTBEAT_TOPIC for
heartbeats, which everybody subscribes to.
"""

from __future__ import annotations

from shardlog.crdt.replication.messages import (
    Delta,
    Heartbeat,
    Report,
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

Message = Report | Delta | Heartbeat | SnapshotRequest | SnapshotChunk
