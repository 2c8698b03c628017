"""Which run of which node a monitor follows, and when it turns to another one at the same address.

Theory of operation. A stream is that of one run of one node. When another run speaks at the address
(the node was restarted, or another took its place) what it serves may be less than what shows: it
may not have heard all hosts yet, or lack what departed ones had counted. Its heartbeats say how far
it knows each replica, and whether it is settling. The monitor knows how far what it shows goes. So
it takes nothing from a run that is settling or takes a version back; what it had stays, as `stale`.
After 30 s it takes it all the same, and says what is missing, until that is there.

What shows may be newer than the last heartbeat by what came after it, so versions alone don't do: a
host that was heard must be live there, which is to say that nothing it says is missing. Who
shows nothing yet takes what is there at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shardlog.crdt.replication.follower import MISSED_HEARTBEATS, Follower
from shardlog.crdt.replication.messages import (
    LANES,
    Apply,
    Ask,
    Changes,
    Heartbeat,
    Install,
    SnapshotChunk,
)
from shardlog.monitor.rows import join

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from shardlog.crdt.replication.messages import Delta, HostStatus, StreamMessage

MS = 1_000_000
PATIENCE_NS = 30_000 * MS
NAMES_MAX = 3


class Following:
    """What a monitor follows at one address. All times are of one clock that never steps."""

    def __init__(self, rng: Random) -> None:
        self.heartbeat: Heartbeat | None = None
        """What the run that shows said last of itself and of its hosts."""
        self.note = ""
        """Why what shows is not what the node at the address has, or why it lacks something."""
        self._rng = rng
        self._follower: Follower | None = None
        self._epoch = ""
        self._shown: Follower | None = None
        self._told: Heartbeat | None = None
        self._known: dict[str, HostStatus] = {}
        self._missed: dict[str, HostStatus] = {}
        self._waiting_ns: int | None = None
        self._parts: dict[int, list[Changes]] = {}
        """By lane: what waits for more."""
        self._effects: list[Apply | Install | Ask] = []

    @property
    def is_heard(self) -> bool:
        """Whether anybody has ever been heard."""
        return self._follower is not None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known to be missing of what the run that is followed has said."""
        return self._follower is not None and self._follower.phase == "live"

    def receive(self, message: StreamMessage, now_ns: int) -> None:
        """Take in what comes from the address. O(hosts), or as `Follower.receive`.

        Raises:
            RemoteProtocolError: as `Follower.receive`; nothing changed.
        """
        follower = self._follower
        if follower is None or (message.source, message.epoch) != (follower.source, self._epoch):
            if not self._turns_to(message, now_ns):
                return
            follower = Follower(message.source, lanes=range(LANES), rng=self._rng)
        follower.receive(message, now_ns)
        if follower is not self._follower:
            self._follower, self._epoch = follower, message.epoch
        self._waiting_ns = None
        if isinstance(message, Heartbeat):
            self._told = message
            if follower.phase == "live":
                self._know()
                self._look_for_missed(message)
        self._take(follower)
        if self._shown in (None, follower):
            self.heartbeat = self._told

    def stale_since_ns(self, now_ns: int) -> int | None:
        """When the run that shows was last heard, if it is silent or another one is there."""
        shown = self._shown or self._follower
        if shown is None or (
            shown is self._follower and self._waiting_ns is None and not shown.is_stale(now_ns)
        ):
            return None
        return shown.heard_ns

    def doubt(self, now_ns: int) -> str:
        """Why what shows may not be what the node has, in one line; "" if all speaks for it."""
        if self.note:
            return self.note
        if not self.is_whole:
            return "part of what the node said is missing; a snapshot of all is on the way"
        if self.stale_since_ns(now_ns) is not None:
            return "the node has been silent for three heartbeats"
        return ""

    def resync(self, now_ns: int) -> None:
        """Ask for all anew: who was told what shows has lost some of it."""
        if self._follower is not None:
            self._follower.resync(now_ns)
            self._take(self._follower)

    def next_doubt_ns(self, now_ns: int) -> int | None:
        """When what shows turns stale, if it is not, and nothing more is heard; else None."""
        shown = self._shown
        if shown is None or self._told is None or self.stale_since_ns(now_ns) is not None:
            return None
        return shown.heard_ns + MISSED_HEARTBEATS * self._told.interval_ms * MS + 1

    def next_timer_ns(self) -> int | None:
        """When `handle_timer` has something to do, None if never."""
        return None if self._follower is None else self._follower.next_timer_ns()

    def handle_timer(self, now_ns: int) -> None:
        """Ask again for what did not come."""
        if self._follower is not None:
            self._follower.handle_timer(now_ns)
            self._take(self._follower)

    def take_effects(self) -> list[Apply | Install | Ask]:
        """What is to be done now, in order: Apply and Install are about what shows."""
        effects, self._effects = self._effects, []
        return effects

    def _take(self, follower: Follower) -> None:
        for effect in follower.take_effects():
            match effect:
                case Install(source, chunks, deltas):
                    self._parts.clear()
                    whole = tuple(at_once for delta in deltas for at_once in self._at_once(delta))
                    self._effects.append(Install(source, chunks, whole))
                    self._shown = follower
                    self._know()  # it was made behind the heartbeat that had it asked for
                case Apply(delta):
                    self._effects += map(Apply, self._at_once(delta))
                case Ask():
                    self._effects.append(effect)

    def _at_once(self, delta: Delta) -> Iterator[Delta]:
        """What is to be taken in now: a delta with those before it that waited for it."""
        body = delta.body
        if not isinstance(body, Changes):
            return
        parts = self._parts.setdefault(delta.lane, [])
        parts.append(body)
        if not body.more:
            del self._parts[delta.lane]
            yield msgspec.structs.replace(delta, body=join(parts))

    def _know(self) -> None:
        hosts = () if self._told is None else self._told.hosts
        self._known = {host.replica: host for host in hosts}

    def _turns_to(self, message: StreamMessage, now_ns: int) -> bool:
        """Whether to follow another run from this message of it on."""
        if self._shown is None:
            return not isinstance(message, SnapshotChunk)
        if not isinstance(message, Heartbeat):
            return False
        if self._waiting_ns is None:
            self._waiting_ns = now_ns
        missed = _missed(self._known, message)
        why = message.settling or _say("less than before", missed)
        why = why or _say("no live stream", _not_live(self._known, message))
        if not why:
            self.note = ""
        elif now_ns - self._waiting_ns < PATIENCE_NS:
            self.note = f"another run of the node is not followed yet: {why}"
            return False
        else:
            self.note = f"another run of the node is followed, 30 s after it was heard: {why}"
        self._missed = missed
        return True

    def _look_for_missed(self, message: Heartbeat) -> None:
        """Say no more what was missing once it is there."""
        self._missed = _missed(self._missed, message)
        if not self._missed and not message.settling:
            self.note = ""


def _missed(known: dict[str, HostStatus], message: Heartbeat) -> dict[str, HostStatus]:
    """The replicas of which a node has less than is known."""
    versions = {host.replica: host.version for host in message.hosts}
    return {name: h for name, h in known.items() if versions.get(name, 0) < h.version}


def _not_live(known: dict[str, HostStatus], message: Heartbeat) -> dict[str, HostStatus]:
    """The replicas that were heard, and are not live there."""
    good = {host.replica for host in message.hosts if host.status in ("live", "replaced")}
    heard = ("live", "syncing")
    return {name: h for name, h in known.items() if h.status in heard and name not in good}


def _say(what: str, hosts: dict[str, HostStatus]) -> str:
    names = sorted({host.host or replica for replica, host in hosts.items()})
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return f"it has {what} of {', '.join(names[:NAMES_MAX])}{more}" if names else ""
