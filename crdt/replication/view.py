"""What shows, as a stream of changes for monitors: 64 lanes by the root key.

A monitor need not know how deltas merge: it is told, per path, what shows there now. Changes are
made from the state after a batch, so a path that changed many times within it travels once.

Where records are forgotten, a path at `~` and all that has gone on there are told at once: in
whatever order of two messages, a total would be too low or too high in between. What does not fit
into one message is told in several, of which each but the last says that more belongs to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.delta import COUNTER, Write, item_bytes, name_bytes
from shardlog.crdt.path import COLLAPSED, key_texts
from shardlog.crdt.replication.messages import LANES, Answer, Changes, Publish, Row, lane_of
from shardlog.crdt.replication.publisher import Publisher
from shardlog.crdt.retention import is_collapsed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.crdt.delta import Value
    from shardlog.crdt.replication.messages import HostStatus, SnapshotRequest
    from shardlog.crdt.state import State


GROUP_BYTES_MAX = 200 << 10
"""For what is told at once: with it, and any one item, a message still fits into a frame."""


class View:
    """The stream of what shows in `state`, in messages of about `bytes_max` bytes."""

    def __init__(
        self, state: State, source: str, epoch: str, *, interval_ms: int, bytes_max: int
    ) -> None:
        self._state = state
        self._bytes_max = bytes_max
        self._stream = Publisher(source, epoch, lanes=LANES, interval_ms=interval_ms)

    def heartbeat(
        self,
        now_ns: int,
        hosts: list[HostStatus],
        refused: dict[str, int],
        *,
        settling: str = "",
        lower_bound: str = "",
        retention: str = "",
    ) -> Publish:
        """A heartbeat. O(lanes + hosts)."""
        message = self._stream.heartbeat(
            now_ns,
            hosts,
            refused,
            settling=settling,
            lower_bound=lower_bound,
            retention=retention,
        )
        return Publish("serve", message)

    def publish(self, touched: Iterable[str]) -> list[Publish]:
        """What these paths show now. O(their number x depth)."""
        batches: dict[int, _Batch] = {}
        effects: list[Publish] = []
        for group in _together(list(touched)):
            lane = lane_of(group[0])
            batch = batches.setdefault(lane, _Batch())
            start = batch.size
            for path in group:
                if batch.size - start >= GROUP_BYTES_MAX:
                    changes = batch.changes(more=True)
                    effects.append(Publish("serve", self._stream.delta(lane, changes)))
                    batch = batches[lane] = _Batch()
                    start = 0
                batch.add(self._state, path)
            if batch.size >= self._bytes_max:
                effects.append(Publish("serve", self._stream.delta(lane, batch.changes())))
                del batches[lane]
        for lane, batch in batches.items():
            effects.append(Publish("serve", self._stream.delta(lane, batch.changes())))
        return effects

    def answer(self, peer: bytes, request: SnapshotRequest) -> Answer:
        """The chunk that was asked for: what shows behind the path `after`. O(log n + chunk)."""
        batch = _Batch()
        following = None
        last = None
        for path in self._state.paths(request.after):
            if batch.size >= self._bytes_max:
                following = last
                break
            if self._state.shown(path) is not None:
                batch.add(self._state, path)
            last = path
        return Answer("serve", peer, self._stream.chunk(request, batch.changes(), following))


class _Batch:
    """Rows on their way into one message."""

    def __init__(self) -> None:
        self.size = 0
        self._writers: dict[str, int] = {}
        self._rows: list[Row] = []

    def add(self, state: State, path: str) -> None:
        shown = state.shown(path)
        if shown is None:
            kind, stamp, by = state.gone_by(path)
            row = Row(path, kind, None, stamp, self._writer(by))
        else:
            value = _sendable(shown.value) if shown.kind == COUNTER else shown.value
            row = Row(path, shown.kind, value, shown.stamp, self._writer(shown.writer))
        self._rows.append(row)
        self.size += item_bytes(Write(path, row.stamp, 0, row.value))

    def changes(self, *, more: bool = False) -> Changes:
        return Changes(list(self._writers), self._rows, more)

    def _writer(self, process: str) -> int:
        if not process:
            return -1
        if process not in self._writers:
            self._writers[process] = len(self._writers)
            self.size += name_bytes(process)
        return self._writers[process]


def _together(touched: list[str]) -> Iterable[list[str]]:
    """The paths, those of counts together with where they may go on. O(their number x depth^2)."""
    targets = {path for path in touched if is_collapsed(path)}
    if not targets:
        return ([path] for path in touched)
    groups: dict[str, list[str]] = {}
    for path in touched:
        groups.setdefault(_last_target(path, targets), []).append(path)
    return groups.values()


def _last_target(path: str, targets: set[str]) -> str:
    """Where counts at a path have come to in the end, as records may lie within records."""
    keys = key_texts(path)
    beside = ("/".join((*keys[:i], COLLAPSED, *keys[i + 1 :])) for i in range(1, len(keys)))
    target = next((at for at in beside if at != path and at in targets), None)
    return path if target is None else _last_target(target, targets)


def _sendable(total: Value) -> Value:
    """A total that msgpack can hold: a sum over replicas may need more than 64 bits."""
    if type(total) is int and not -(2**63) <= total < 2**64:
        return float(total)
    return total
