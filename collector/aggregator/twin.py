"""What an aggregator has from its twin: the replicas that it does not hear itself, fetched once.

Theory of operation. Twins hear the same hosts, so all that one can lack is what departed hosts had
said before it started. It asks which replicas the twin knows, and fetches a snapshot of each that
it does not hear itself and knows less far. These are single pulls and no stream: what is fetched is
stale, and nobody is live because a twin says so.

There are no deltas to go with a snapshot of many chunks, so it counts only if the replica did not
move on meanwhile, and the twin forgot nothing of it: all chunks are of one version and as often
altered. What moves on is heard by the twin now, and mostly here too.

A roster is asked for again now and then while a replica that it names is neither live here nor
fetched. Whoever answers keeps nothing between two requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shardlog.collector.aggregator.roll import fitting
from shardlog.crdt.delta import Fragment
from shardlog.crdt.replication.messages import (
    HostStatus,
    Roster,
    RosterRequest,
    SnapshotChunk,
    SnapshotRequest,
)

if TYPE_CHECKING:
    from random import Random

    from shardlog.collector.aggregator.roll import Roll
    from shardlog.crdt.state import State

MS = 1_000_000
RETRY_NS = 1000 * MS
TRIES = 3
AGAIN_NS = 30_000 * MS
AWAITED_NS = 15_000 * MS
"""For how long after the start it is worth waiting for a twin that does not answer."""
HOSTS_AT_ONCE = 500
"""How many replicas one answer names."""


@dataclass(frozen=True, slots=True)
class AskTwin:
    """Effect: ask the twin at an address."""

    address: str
    message: RosterRequest | SnapshotRequest


@dataclass(frozen=True, slots=True)
class AnswerTwin:
    """Effect: answer a twin that asked; `peer` is what the shell knows it by."""

    peer: bytes
    message: Roster | SnapshotChunk


@dataclass(frozen=True, slots=True)
class Fetched:
    """Effect: a replica that the twin knew, whole."""

    status: HostStatus
    chunks: tuple[SnapshotChunk, ...]


TwinEffect: TypeAlias = AskTwin | Fetched


class Twin:
    """The asking end: one twin, at `address`."""

    def __init__(self, address: str, roll: Roll, state: State, *, rng: Random, now_ns: int) -> None:
        self.address = address
        self._roll = roll
        self._state = state
        self._rng = rng
        self._started_ns = now_ns
        self._has_answered = False
        self._roster: list[HostStatus] = []
        self._wanted: list[HostStatus] = []
        self._has_failed = False
        self._chunks: list[SnapshotChunk] = []
        self._request = 0
        self._tries = 0
        self._asked: RosterRequest | SnapshotRequest | None = None
        self._timer_ns: int | None = now_ns
        self._effects: list[TwinEffect] = []

    def settling(self, now_ns: int) -> str:
        """What may still come from there, for a while after the start; "" if nothing. O(1)."""
        if now_ns - self._started_ns > AWAITED_NS:
            return ""
        if not self._has_answered:
            return f"{self.address} has not said yet which hosts it knows"
        return f"hosts are being fetched from {self.address}" if self._wanted else ""

    def receive(self, message: Roster | SnapshotChunk, now_ns: int) -> None:
        """Take in an answer; one that was not asked for does nothing. O(hosts in it)."""
        if isinstance(message, Roster):
            self._receive_roster(message, now_ns)
        else:
            self._receive_chunk(message, now_ns)

    def next_timer_ns(self) -> int | None:
        """When `handle_timer` has something to do, None if never."""
        return self._timer_ns

    def handle_timer(self, now_ns: int) -> None:
        """Ask for what did not come, or for the roster again. Steps of the clock do no harm."""
        self._started_ns = min(self._started_ns, now_ns)
        if self._timer_ns is None:
            return
        self._timer_ns = min(self._timer_ns, now_ns + AGAIN_NS)
        if now_ns < self._timer_ns:
            return
        if isinstance(self._asked, SnapshotRequest) and self._tries >= TRIES:
            self._give_up(now_ns)
        elif self._asked is None:
            self._roster = []
            self._ask(RosterRequest(None), now_ns)
        else:
            self._ask(self._asked, now_ns)

    def take_effects(self) -> list[TwinEffect]:
        """What is to be done now, in order."""
        effects, self._effects = self._effects, []
        return effects

    def _receive_roster(self, roster: Roster, now_ns: int) -> None:
        if self._asked != RosterRequest(roster.after):
            return
        self._roster += roster.hosts
        if roster.next is not None:
            self._ask(RosterRequest(roster.next), now_ns)
            return
        self._has_answered = True
        self._has_failed = False
        self._wanted = [status for status in self._roster if self._is_wanted(status, now_ns)]
        self._fetch(now_ns)

    def _receive_chunk(self, chunk: SnapshotChunk, now_ns: int) -> None:
        after = self._chunks[-1].next if self._chunks else None
        if self._asked != SnapshotRequest(chunk.request, chunk.after, chunk.source):
            return
        assert chunk.after == after
        first = self._chunks[0] if self._chunks else chunk
        assert isinstance(chunk.body, Fragment)
        assert isinstance(first.body, Fragment)
        if (chunk.body.to_version, chunk.alterations) != (first.body.to_version, first.alterations):
            self._give_up(now_ns)
            return
        self._chunks.append(chunk)
        if chunk.next is not None:
            self._ask(SnapshotRequest(self._request, chunk.next, chunk.source), now_ns)
            return
        self._effects.append(Fetched(self._wanted.pop(), tuple(self._chunks)))
        self._fetch(now_ns)

    def _fetch(self, now_ns: int) -> None:
        """Ask for the next replica that is wanted, if there is one."""
        self._chunks = []
        while self._wanted and not self._is_wanted(self._wanted[-1], now_ns):
            self._wanted.pop()
        if self._wanted:
            self._request += 1
            self._ask(SnapshotRequest(self._request, None, self._wanted[-1].replica), now_ns)
        else:
            self._asked = None
            self._timer_ns = now_ns + AGAIN_NS if self._has_failed else None

    def _give_up(self, now_ns: int) -> None:
        """One replica can't be had now: the others first, and the roster again in a while."""
        self._has_failed = True
        self._wanted.pop()
        self._fetch(now_ns)

    def _is_wanted(self, status: HostStatus, now_ns: int) -> bool:
        if status.version <= self._state.versions.get(status.replica, -1):
            return False
        is_known = status.replica in self._roll.replicas
        return not is_known or self._roll.status(status.replica, now_ns).status != "live"

    def _ask(self, message: RosterRequest | SnapshotRequest, now_ns: int) -> None:
        self._tries = self._tries + 1 if message == self._asked else 1
        self._asked = message
        self._timer_ns = now_ns + int(RETRY_NS * (1 + self._rng.random()))
        self._effects.append(AskTwin(self.address, message))


def roster(roll: Roll, request: RosterRequest, now_ns: int) -> Roster:
    """The answering end: the replicas of which something is known. O(replicas log replicas)."""
    names = sorted(name for name, known in roll.replicas.items() if known.run)
    behind = [name for name in names if request.after is None or name > request.after]
    named = fitting(roll.passed_on(name, now_ns) for name in behind[:HOSTS_AT_ONCE])
    following = named[-1].replica if len(behind) > len(named) else None
    return Roster(request.after, following, named)


def chunk(
    roll: Roll, state: State, node: str, request: SnapshotRequest, bytes_max: int
) -> SnapshotChunk | None:
    """The answering end: a chunk of a replica's snapshot, None if it is not known. O(chunk)."""
    replica = request.source
    known = roll.replicas.get(replica)
    if known is None or not known.run:
        return None
    fragment, following = state.snapshot(replica, request.after, bytes_max)
    return SnapshotChunk(
        replica,
        known.run,
        request.request,
        request.after,
        following,
        [],
        fragment,
        node,
        alterations=known.alterations,
    )
