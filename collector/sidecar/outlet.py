"""What a collector says to those who follow: its stream upwards, and its own view for monitors.

The version of its replica rises with each fragment that it published. A store that was once further
went back in time: whoever asks for a snapshot says how far it knows the replica, by which run. What
is beyond the version at which the next run opened the store is no more in it. To compare with the
version of now would be wrong: the store has gone on since. A run that the store does not know began
after the copy was made, and is compared with the first that it knows.

A fragment of registers alone is told before it is stored, and is one version; only one at a time
is. So an end between the two leaves followers one version ahead, and is no loss of a store: a run
opens the store at one above what that holds, and goes on at two, so that no version is ever that of
two contents. What may have counts is two versions, and is told once it is stored: whoever was told
of counts that the store does not have is further ahead than that.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from shardlog.collector.batch import STEP
from shardlog.crdt.delta import Fragment
from shardlog.crdt.replication.messages import Answer, Confirm, Heard, HostStatus, Publish
from shardlog.crdt.replication.publisher import Publisher
from shardlog.crdt.replication.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shardlog.collector.batch import Identity
    from shardlog.collector.sidecar.config import SidecarConfig
    from shardlog.collector.sidecar.forgetting import Piece
    from shardlog.collector.sidecar.members import Members
    from shardlog.crdt.replication.messages import SnapshotRequest
    from shardlog.crdt.state import State

Channel: TypeAlias = Literal["up", "serve"]


class Outlet:
    """The streams of one collector. `epoch` is a text that no earlier run had."""

    def __init__(
        self,
        config: SidecarConfig,
        state: State,
        members: Members,
        replica: str,
        version: int,
        runs: Sequence[tuple[str, int]],
        *,
        epoch: str,
        bytes_max: int,
    ) -> None:
        self._host = config.host
        self._retention = config.retention.digest
        self._state = state
        self._members = members
        self._replica = replica
        self._bytes_max = bytes_max
        self._epoch = epoch
        self._interval_ms = config.heartbeat_interval_ms
        self.version = state.versions[replica] = version + STEP
        self._runs = (*runs, (epoch, version + 1))
        self._up = Publisher(replica, epoch, lanes=1, interval_ms=self._interval_ms)
        self._view = (
            View(state, replica, epoch, interval_ms=self._interval_ms, bytes_max=bytes_max)
            if config.serve
            else None
        )
        self._requests: list[tuple[Channel, bytes, SnapshotRequest]] = []
        self._beats: dict[Channel, Publish] = {}
        self._heard: dict[bytes, int] = {}

    @property
    def next_heartbeat_ns(self) -> int:
        """When the next beat is due."""
        return self._up.next_heartbeat_ns

    def request(self, channel: Channel, peer: bytes, request: SnapshotRequest) -> None:
        """Take in a request for a chunk of a snapshot; it is answered behind this batch."""
        self._requests.append((channel, peer, request))

    def heard(self, peer: bytes, number: int) -> None:
        """A parent passed something down; it is told so behind this batch."""
        self._heard[peer] = number

    def went_back(self) -> SnapshotRequest | None:
        """The request that knows more than was stored, if there is one. O(requests x runs)."""
        if self._replica == self._epoch:  # begun by this run, so that no other has told of it
            return None
        for _, _, request in self._requests:
            is_own = request.source in ("", self._replica)
            is_other_run = request.run not in ("", self._epoch)
            if is_own and is_other_run and request.version > self.left_by(request.run):
                return request
        return None

    def left_by(self, run: str) -> int:
        """The version that the store held behind an earlier run. O(runs)."""
        for (earlier, _), (_, opened) in pairwise(self._runs):
            if earlier == run:
                return opened
        return self._runs[0][1]

    def succeed(self, successor: str) -> None:
        """Go on upwards as the stream of another replica; who asked for the old one asks again."""
        self._replica = successor
        self.version = self._state.versions[successor] = 0
        self._up = Publisher(successor, self._epoch, lanes=1, interval_ms=self._interval_ms)
        self._beats.pop("up", None)
        self._requests = [request for request in self._requests if request[0] == "serve"]

    def beat(
        self,
        channel: Channel,
        now_ns: int,
        watermark_ns: int,
        refused: dict[str, int],
        identity: Identity,
    ) -> None:
        """Say the sequences to all who follow: one beat per batch is enough."""
        if channel in self._beats:
            return
        status = HostStatus(
            self._host,
            self._replica,
            "live",
            now_ns,
            watermark_ns,
            self.version,
            identity.lower_bound,
            list(identity.replaces),
            self._retention,
        )
        if channel == "up":
            self._beats["up"] = Publish("up", self._up.heartbeat(now_ns, [status], refused))
        elif self._view is not None:
            self._beats["serve"] = self._view.heartbeat(now_ns, [status], refused)

    def fragments(
        self, pieces: Iterable[Piece], touched: list[str], step: int
    ) -> Iterator[Fragment]:
        """What changed, in fragments, each so many versions: first what is forgotten."""
        for forgotten, entries in pieces:
            version, self.version = self.version, self.version + step
            self._state.versions[self._replica] = self.version
            yield Fragment(self._replica, version, self.version, [], [], [], entries, forgotten)
        at = 0
        while at < len(touched):
            versions = (self.version, self.version + step)
            fragment, at = self._state.fragment(
                self._replica, versions, touched, at, self._bytes_max
            )
            if fragment.writes or fragment.erases or fragment.entries:
                self.version = self._state.versions[self._replica] = fragment.to_version
                yield fragment

    def publish(self, fragments: Iterable[Fragment], touched: list[str]) -> Iterator[Publish]:
        """The fragments, and what shows differently."""
        yield from (Publish("up", self._up.delta(0, fragment)) for fragment in fragments)
        if self._view is not None:
            yield from self._view.publish(touched)

    def take_effects(self) -> Iterator[Publish | Answer | Confirm]:
        """The beats, and then the answers."""
        yield from self._beats.values()
        yield from (self._answer(*request) for request in self._requests)
        yield from (Confirm(peer, Heard(number)) for peer, number in self._heard.items())
        self._beats, self._requests, self._heard = {}, [], {}

    def _answer(self, channel: Channel, peer: bytes, request: SnapshotRequest) -> Answer:
        if channel == "serve" and self._view is not None:
            return self._view.answer(peer, request)
        fragment, following = self._state.snapshot(self._replica, request.after, self._bytes_max)
        chunk = self._up.chunk(request, fragment, following)
        if request.after is None:
            chunk = msgspec.structs.replace(
                chunk, members=self._members.known_to(peer.decode(errors="replace"))
            )
        return Answer("up", peer, chunk)
