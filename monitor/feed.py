"""What happened, in order, for who must miss nothing: what judges it, or records it.

Theory of operation. A replica tells what shows now; who is slow there skips what was in between.
Here all is told as it came, so it waits in a queue. The queue never makes anybody wait and has a
bound. Where it overflows, all that waits is dropped, this is said (`Doubt`), and once that was
taken all is asked for anew (`Whole`): nothing is lost silently, and nobody who does not come to
take makes the node send snapshots.

    Whole     comes first, and again whenever the stream had to be taken up anew
    Moved     what changed behind it
    Heard     what the run of the node that shows says of itself and its hosts; all that it vouches
              for came before it
    Doubt     what shows may not be what the node has, for as long as it is: from here on, until
              another `Doubt` says "". It begins before what it concerns, and ends behind what
              healed it.

A queue holds one `Whole` at most: a second one that finds the first still there replaces all, as
in an overflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardlog.crdt.replication.messages import Changes, Heartbeat

ROWS_MAX = 100_000
"""So many rows of changes, and lines of heartbeats, may wait."""


class Whole(NamedTuple):
    """All that shows is this now: later rows of a path replace earlier ones."""

    at_ns: int
    changes: tuple[Changes, ...]


class Moved(NamedTuple):
    """What a delta changed, to be taken in at once."""

    at_ns: int
    changes: Changes


class Heard(NamedTuple):
    """A heartbeat: how far each host is known, and what it lacks."""

    at_ns: int
    heartbeat: Heartbeat


class Doubt(NamedTuple):
    """Why what shows may not be what the node has, in one line; "" when that is over."""

    at_ns: int
    reason: str


Event: TypeAlias = Whole | Moved | Heard | Doubt
"""`at_ns` never steps: it is the wall clock at the start, ns, plus what has gone by since."""


class Feed:
    """The queue. It is a link's sink; all O(1) beyond what is handed in.

    >>> feed = Feed()
    >>> feed.install([], [], 5)
    >>> feed.trust(is_whole=True, doubt="silent", now_ns=6)
    >>> feed.take()
    [Whole(at_ns=5, changes=()), Doubt(at_ns=6, reason='silent')]
    """

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self.is_shown = False
        """Whether there has been a whole."""
        self._rows_max = rows_max
        self._events: list[Event] = []
        self._rows = 0
        self._holds_whole = False
        self._doubt = ""
        self._heartbeat: Heartbeat | None = None
        """What was said last."""
        self._has_overflowed = False
        self._has_asked = False

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return bool(self._events)

    def take(self) -> list[Event]:
        """All that waits, in order."""
        events, self._events = self._events, []
        self._rows = 0
        self._holds_whole = False
        return events

    def trust(self, *, is_whole: bool, doubt: str, now_ns: int) -> None:
        """Say what is in doubt, and that it no longer is. Before the first whole all is."""
        if self.is_shown and not self._has_overflowed and doubt != self._doubt:
            self._doubt = doubt
            self._put(Doubt(now_ns, doubt), 1)

    def install(self, chunks: Sequence[Changes], deltas: Sequence[Changes], now_ns: int) -> None:
        """All that shows is this: nothing that was lost before is missing any more."""
        if self._holds_whole:
            self._overflow(now_ns)
        self._events.append(Whole(now_ns, (*chunks, *deltas)))
        self.is_shown = self._holds_whole = True
        self._has_overflowed = False

    def apply(self, changes: Changes, now_ns: int) -> None:
        """This has changed."""
        self._put(Moved(now_ns, changes), len(changes.rows))

    def hear(self, heartbeat: Heartbeat | None, now_ns: int) -> None:
        """Say what the run that shows said, if that is new."""
        if heartbeat is None or heartbeat is self._heartbeat:
            return
        if self.is_shown and not self._has_overflowed:
            self._heartbeat = heartbeat
            self._put(Heard(now_ns, heartbeat), 1 + len(heartbeat.hosts))

    def wants_whole(self) -> bool:
        """Whether all is to be asked for anew, as it was told that some was lost; said once."""
        if not self._has_overflowed or self._events or self._has_asked:
            return False
        self._has_asked = True
        return True

    def _put(self, event: Event, rows: int) -> None:
        if self._has_overflowed:
            return
        if self._events and self._rows + rows > self._rows_max:
            self._overflow(event.at_ns)
        else:
            self._events.append(event)
            self._rows += rows

    def _overflow(self, now_ns: int) -> None:
        self._doubt = "the queue overflowed: what nobody took in time is lost"
        self._events = [Doubt(now_ns, self._doubt)]
        self._rows = 1
        self._holds_whole = False
        self._heartbeat = None
        self._has_overflowed = True
        self._has_asked = False
