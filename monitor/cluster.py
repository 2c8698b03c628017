"""The cluster as its state shows it, for whoever reads it in Python."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from shardlog.crdt.errors import Unreachable
from shardlog.monitor import balance, presence, views

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from shardlog.crdt.path import Key, Keys
    from shardlog.crdt.replication.messages import Heartbeat, HostStatus
    from shardlog.monitor.board import Board
    from shardlog.monitor.replica import Replica
    from shardlog.monitor.watch import Watch


class Link(Protocol):
    """What keeps a board up to date."""

    def close(self) -> None:
        """Stop; may be repeated."""
        ...

    def stale_since_ns(self) -> int | None:
        """When what shows was last heard, if that is too long ago."""
        ...

    def note(self) -> str:
        """Why what shows is not what the server has, or lacks something."""
        ...

    def problem(self) -> str:
        """Why there is no snapshot yet, in one line."""
        ...


class Cluster:
    """A live, read-only copy of what a node serves. `connect` makes it.

    All may be called from any thread. What is returned is a copy. The copy keeps itself up to date
    until it is closed, also over restarts of the server; a server that is gone shows in
    `stale_since_ns`, and what it said stays.

    A forked child has no thread that follows, and must connect anew.

    Raises:
        Unreachable: from what reads, where the first snapshot has not come in time.
    """

    def __init__(self, url: str, board: Board, link: Link, *, timeout_ms: int) -> None:
        self.url = url
        self._board = board
        self._link = link
        self._deadline_s = time.monotonic() + timeout_ms / 1000
        self._close = weakref.finalize(self, link.close)

    def __getitem__(self, keys: Key | Keys) -> Any:
        """A copy of what shows there: a value, or nested dicts; `()` is the root. O(its size).

        The key 42 is not the key "42". The root leaves out `shardlog`, what shardlog itself keeps.

        Raises:
            KeyError: nothing shows there.
        """
        wanted = _keys(keys)
        return self._ready().read(lambda replica: replica.view(wanted))

    def __contains__(self, keys: Key | Keys) -> bool:
        """Whether anything shows at these keys, or below them. O(number of keys)."""
        try:
            wanted = _keys(keys)
        except KeyError:
            return False
        return self._ready().read(lambda replica: replica.has(wanted))

    def total(self, pattern: str) -> int | float:
        """The exact sum of all counters that match, 0 if none does. O(what the start selects).

        Raises:
            ConfigError: this is not a pattern.
        """
        return self._ready().read(lambda replica: replica.total(pattern))

    def total_report(self, pattern: str) -> views.TotalReport:
        """The same sum, and whether it is all that was counted; if not, why. O(as `total` + hosts).

        Raises:
            ConfigError: this is not a pattern.
        """
        board = self._ready()

        def report(replica: Replica) -> views.TotalReport:
            doubts = self._doubts(board)  # before the sum: what a heartbeat vouches for is in it
            return views.total_report(pattern, replica.total(pattern), doubts)

        return board.read(report)

    def ledger(self) -> balance.Sample:
        """What hosts say of all that was counted and what became of it, and what shows. O(rows)."""
        board = self._ready()

        def sample(replica: Replica) -> balance.Sample:
            doubts = self._doubts(board)
            books = balance.books(replica.rows(balance.LEDGER))
            return balance.Sample(books, *replica.sum(), doubts)

        return board.read(sample)

    def watch(self, pattern: str = "**") -> Watch:
        """The changes from now on, at and below what matches: for `for` and `async for`.

        It ends when the cluster is closed. A consumer that is slow misses what was in between, and
        never the newest.

        Raises:
            ConfigError: this is not a pattern.
        """
        return self._ready().watch(pattern, self)

    def blades(self, expected: Iterable[str] = ()) -> list[presence.Blade]:
        """Who is there: one row a process, and one for each name of these that never was.

        O(processes log processes).
        """
        hosts = self.hosts

        def rows(replica: Replica) -> list[presence.Blade]:
            said = replica.rows(presence.PRESENCE)
            return presence.blades(said, replica.shown, hosts, expected)

        return self._ready().read(rows)

    def nodes(self) -> list[presence.Node]:
        """The collectors, and the aggregator that serves. O(hosts log hosts + reasons)."""
        board = self._ready()
        health = board.read(lambda replica: replica.rows(presence.COLLECTORS))
        return presence.nodes(self.url, board.heartbeat, health, self._link.stale_since_ns())

    def doubts(self) -> list[views.Doubt]:
        """What may be missing of what shows, the worst first. O(hosts log hosts)."""
        return self._doubts(self._ready())

    @property
    def hosts(self) -> list[HostStatus]:
        """How complete each host's part is, as the server's last heartbeat said."""
        heartbeat = self.heartbeat
        return [] if heartbeat is None else list(heartbeat.hosts)

    @property
    def heartbeat(self) -> Heartbeat | None:
        """What the server said last of itself and of its hosts; None if nothing yet."""
        return self._ready().heartbeat

    @property
    def stale_since_ns(self) -> int | None:
        """When what shows was last confirmed, if that is three heartbeats ago. Wall clock, ns.

        The server may be gone, or another run of it may be there that is not taken yet: see `note`.
        """
        return self._link.stale_since_ns()

    @property
    def note(self) -> str:
        """Why another run of the server is not taken yet, or what it lacks; one line, or "".

        A server that is started anew may have heard less than what shows. Nothing is taken from it
        while it says that it is settling, or while it has less of a host than what shows; but after
        30 s it is, and this says what is missing.
        """
        return self._link.note()

    @property
    def now_ns(self) -> int:
        """What time it is by the clock of the server: that of the reader may be off. ns."""
        return views.served_ns(self.heartbeat, self.stale_since_ns, time.time_ns())

    def close(self) -> None:
        """Disconnect, and end all watches; may be repeated. What was read last stays readable."""
        self._close()

    def wait(self) -> None:
        """Wait until all is there, as what reads does.

        Raises:
            Unreachable: that takes longer than `connect` was told; it is closed then.
        """
        if not self._board.wait(self._deadline_s - time.monotonic()):
            self.close()
            raise Unreachable(self._link.problem())

    def __enter__(self) -> Cluster:
        self.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Cluster:
        try:
            await asyncio.to_thread(self.wait)
        except asyncio.CancelledError:
            self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _doubts(self, board: Board) -> list[views.Doubt]:
        return views.doubts(
            self.url,
            board.heartbeat,
            is_whole=board.is_whole,
            stale_since_ns=self._link.stale_since_ns(),
            note=self._link.note(),
        )

    def _ready(self) -> Board:
        self.wait()
        return self._board


def _keys(keys: Key | Keys) -> Keys:
    wanted = keys if isinstance(keys, tuple) else (keys,)
    if not all(isinstance(key, str) or type(key) is int for key in wanted):
        raise KeyError(keys)
    return wanted
