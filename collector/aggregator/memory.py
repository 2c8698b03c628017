"""What an aggregator remembers over its restarts: which rows changed since they were last written.

Theory of operation. The state can be had back from its replicas' snapshots, so what is remembered
is just these, kept up to date: after a batch, what is stored now at the paths that its fragments
touched, once each. What a replica drops at a place where nothing was said (below an erase or a
scalar, or in a forgotten record) goes by the same cut with which it was said. Rows that would be
dominated anyway do no harm: they are installed like a snapshot, and do not outlast that.

Effects: Remember, before anything that it holds is published.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.path import ancestors

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.crdt.delta import Fragment
    from shardlog.crdt.state import State

HEARD_NS = 5_000_000_000
"""How often it is written when hosts were heard that had nothing to say."""
FRAGMENT_BYTES = 1 << 20
"""About how much of a replica is looked up at once."""


class Cut(NamedTuple):
    """A replica drops what is not newer than `stamp` at and below `path`: registers, or all."""

    path: str
    stamp: int
    has_entries: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A replica as it is remembered. See `shardlog.collector.aggregator.roll.Known`."""

    replica: str
    host: str
    run: str
    version: int
    heard_ns: int
    said_ns: int
    watermark_ns: int
    lower_bound: str
    replaces: list[str]
    retention: str


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a replica, written behind its cuts; all that it had goes first if `is_whole`."""

    replica: str
    is_whole: bool
    cuts: tuple[Cut, ...]
    rows: tuple[Fragment, ...]


@dataclass(frozen=True, slots=True)
class Remember:
    """Effect: write all this in one transaction."""

    hosts: tuple[Host, ...]
    parts: tuple[Part, ...]


class Remembered(NamedTuple):
    """A replica that comes out of a store."""

    host: Host
    rows: Fragment


@dataclass(slots=True)
class _Dirty:
    is_whole: bool = False
    cuts: list[Cut] = field(default_factory=list[Cut])
    paths: dict[str, None] = field(default_factory=dict[str, None])


class Memory:
    """What has to be written about `state`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._hosts: dict[str, None] = {}
        self._parts: dict[str, _Dirty] = {}
        self._is_paused = False
        self._due_ns = 0

    def heard(self, replica: str) -> None:
        """What is known of a host has changed. O(1)."""
        self._hosts[replica] = None

    def merged(self, fragment: Fragment) -> None:
        """A fragment was merged. O(its size)."""
        self._hosts[fragment.replica] = None
        dirty = self._parts.setdefault(fragment.replica, _Dirty())
        for record, cut in ((item.record, item.cut) for item in fragment.forgotten):
            # A record of one key keeps its counters.
            dirty.cuts.append(Cut(record, cut, has_entries=any(ancestors(record))))
        for erase in fragment.erases:
            dirty.cuts.append(Cut(erase.path, erase.stamp, has_entries=False))
            dirty.paths[erase.path] = None
        for write in fragment.writes:
            if not isinstance(write.value, dict):
                dirty.cuts.append(Cut(write.path, write.stamp, has_entries=False))
            dirty.paths[write.path] = None
        for entry in fragment.entries:
            dirty.paths[entry.path] = None

    def replaced(self, replica: str) -> None:
        """All of a replica is to be written anew. O(1)."""
        self._hosts[replica] = None
        self._parts[replica] = _Dirty(is_whole=True)

    def take(self, host_of: Callable[[str], Host]) -> Remember | None:
        """What is to be written now, None if nothing is. O(rows that changed)."""
        if not self._hosts or self._is_paused:
            return None
        remember = Remember(
            tuple(host_of(replica) for replica in self._hosts),
            tuple(self._part(replica, dirty) for replica, dirty in self._parts.items()),
        )
        self._hosts, self._parts = {}, {}
        return remember

    def handle_timer(self, now_ns: int) -> bool:
        """Whether it is time to write who was heard; also to try again where writing failed."""
        if self._due_ns - HEARD_NS < now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + HEARD_NS
        self._is_paused = False
        return True

    def put_back(self, remember: Remember) -> None:
        """It was not written: all of its replicas are, whole, at the next time. O(parts)."""
        self._is_paused = True
        for host in remember.hosts:
            self._hosts[host.replica] = None
        for part in remember.parts:
            self.replaced(part.replica)

    def _part(self, replica: str, dirty: _Dirty) -> Part:
        state = self._state
        rows: list[Fragment] = []
        if dirty.is_whole:
            after: str | None = None
            while after is not None or not rows:
                fragment, after = state.snapshot(replica, after, FRAGMENT_BYTES)
                rows.append(fragment)
            return Part(replica, True, (), tuple(rows))
        paths, at = list(dirty.paths), 0
        while at < len(paths):
            fragment, at = state.fragment(replica, (0, 0), paths, at, FRAGMENT_BYTES)
            rows.append(fragment)
        return Part(replica, False, tuple(dirty.cuts), tuple(rows))
