"""Who is there: the replicas that an aggregator knows, by which routes it hears them, how complete.

Theory of operation. A replica may be heard on several routes: from its collector itself, and by way
of aggregators that pass its stream on. Each route is followed by itself; versions make what comes
twice harmless. A host is as live as the best of its routes.

That a route is heard says only that whoever is at its other end lives. So each heartbeat carries
when the host itself last spoke, by the host's own clock, and nobody on the way ever makes that
newer: a host is heard where it is heard directly, or where that time rises. Among nodes that by
mistake pass a stream on in a circle it rises no more once the host is gone, and it is stale for
all. No two clocks are compared.

A replica that another of its host goes on for is replaced: what it told stays, it is waited for no
more, and if it is heard again, its store went back in time. It is told so by a request that knows
more of it than it can hold, and by whom it was replaced: it goes on as another, for both.

Known anomalies. A host whose clock stepped back while one of two regions could not hear it is stale
above both until its clock has caught up, if the other one started since. One that has once said the
last time that a message can hold is stale above whoever heard that, as no time is later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shardlog.collector.aggregator.clock_offset import ClockOffset
from shardlog.crdt.replication.follower import MISSED_HEARTBEATS
from shardlog.crdt.replication.messages import (
    OFFSET_NS_MAX,
    REPLACED,
    HostStatus,
    run_of,
    status_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Literal

    from shardlog.crdt.replication.follower import Follower
    from shardlog.crdt.replication.messages import Heartbeat, Member
    from shardlog.crdt.state import State

MS = 1_000_000
DEPARTED_NS = 60_000 * MS
"""Whose owner is silent for so long is forgotten here, as it would do itself."""
TIME_NS_MAX = 2**63 - 1
"""No message says a later one, and no store holds it."""
STATUSES_BYTES_MAX = 1000 << 10
"""For all hosts that a message tells of: so a heartbeat and a roster fit into a frame."""
NAMES_MAX = 3
RUNS_MAX = 16
"""How many earlier runs of a replica are kept in mind."""
ROUTE_KEPT_NS = 60_000 * MS
"""How long a route that is silent is kept beside one that is live."""


@dataclass(slots=True)
class Route:
    """One way on which a replica is heard, and what its other end last said of it."""

    follower: Follower
    said: HostStatus | None = None
    settling: str = ""
    lower_bound: str = ""
    clock: ClockOffset = field(default_factory=ClockOffset)
    """How far the clock of its other end is off."""

    def status(self, now_ns: int) -> Literal["live", "syncing", "stale"]:
        """How complete what comes on it is, as far as the route goes."""
        if self.follower.is_stale(now_ns) or self.is_departed:
            return "stale"
        is_whole = self.said is None or self.said.status == "live"
        return "live" if is_whole and self.follower.phase == "live" else "syncing"

    @property
    def is_departed(self) -> bool:
        """Whether it only tells of a host that its other end does not hear either."""
        return self.said is not None and self.said.status in ("stale", "replaced")


@dataclass(slots=True)
class Known:
    """What is known of a replica: it spoke last at `said_ns` by its clock, `heard_ns` by ours.

    `run` is that of its collector, "" as long as nothing of it is in the state.
    """

    host: str = ""
    run: str = ""
    heard_ns: int = 0
    said_ns: int = 0
    watermark_ns: int = 0
    lower_bound: str = ""
    replaces: list[str] = field(default_factory=list[str])
    retention: str = ""
    offset_ns: int = 0
    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    alterations: int = 0
    """How often its part here was altered: if ever, it may be another than its owner's at the same
    version."""
    claim: tuple[str, int] | None = None
    """What another node says it has of an earlier run, and the owner is being asked about."""
    vouched: dict[str, int] = field(default_factory=dict[str, int])
    """By earlier run: up to which version of it the owner has said that it holds all."""


class Roll:
    """All replicas that are known, by name, and the routes to them."""

    def __init__(self, state: State, *, interval_ms: int) -> None:
        self.replicas: dict[str, Known] = {}
        self._members: dict[str, str] = {}
        """Hosts by replica, of those who were once heard at this address."""
        self._others = 0
        """How many routes there are beside the first of each replica."""
        self._successors: dict[str, str] = {}
        """By replica: who goes on for it."""
        self._state = state
        self._interval_ns = interval_ms * MS

    def __len__(self) -> int:
        """How many routes there are, at least one a replica. O(1)."""
        return len(self.replicas) + self._others

    def add(self, replica: str, known: Known) -> None:
        """A replica is heard of, or remembered. O(what it replaces)."""
        self.replicas[replica] = known
        self._successors.update(dict.fromkeys(known.replaces, replica))

    def add_route(self, known: Known, route: Route) -> None:
        """A replica is heard on another route. O(1)."""
        self._others += bool(known.routes)
        known.routes[route.follower.via] = route

    def routes(self) -> Iterator[tuple[str, Route]]:
        """All routes, with the replica of each; they may change meanwhile."""
        for replica, known in list(self.replicas.items()):
            for route in list(known.routes.values()):
                yield replica, route

    def hear(self, replica: str, route: Route, message: Heartbeat, now_ns: int) -> None:
        """Take in what a heartbeat says of its host and of whoever sends it. O(hosts in it)."""
        route.clock.hear(message.at_ns, now_ns)
        route.settling, route.lower_bound = message.settling, message.lower_bound
        said = next((status for status in message.hosts if status.replica == replica), None)
        if said is None:
            return
        known = self.replicas[replica]
        route.said = said
        known.host = said.host
        known.watermark_ns = max(known.watermark_ns, said.watermark_ns)
        known.lower_bound, known.retention = said.lower_bound, said.retention
        known.replaces = said.replaces
        off_ns = said.offset_ns + route.clock.offset_ns
        known.offset_ns = max(-OFFSET_NS_MAX, min(off_ns, OFFSET_NS_MAX))
        self._successors.update(dict.fromkeys(said.replaces, replica))
        if not route.follower.via:
            known.said_ns = min(max(known.said_ns + 1, said.since_ns), TIME_NS_MAX)
        elif said.since_ns > known.said_ns:
            known.said_ns = said.since_ns
            heard_ns = min(now_ns, said.since_ns) if route.is_departed else now_ns
            known.heard_ns = max(known.heard_ns, heard_ns)

    def is_replaced(self, replica: str) -> bool:
        """Whether another replica of its host goes on for it. O(1)."""
        by = self._successors.get(replica, replica)
        known = self.replicas.get(replica, Known())
        return (
            by != replica and by in self.replicas and (known.host in ("", self.replicas[by].host))
        )

    def extent(self, replica: str, via: str = "") -> tuple[str, int]:
        """How far a replica is known, to be said on a route: as in `SnapshotRequest`. O(1).

        Who only passes on what a replaced one had told is asked for no more than that run of it.
        """
        known = self.replicas[replica]
        if self.is_replaced(replica):
            route = known.routes.get(via)
            if route is None or not route.is_departed:
                return self._successors[replica], REPLACED
            return known.run, REPLACED if known.run else 0
        return known.claim or (known.run, self._state.versions.get(replica, 0))

    def doubts(self, replica: str, run: str, version: int) -> bool:
        """Whether the owner is to be asked before anybody is told more of a replica. O(1).

        Somebody knows it in an earlier run up to a version of which the owner was not told yet: it
        may have gone back in time since, and what is known here may be what it said after that.
        """
        known = self.replicas[replica]
        if run in ("", known.run) or version <= known.vouched.get(run, -1):
            return False
        known.claim = (run, version)
        return True

    def vouch(self, replica: str, run: str, via: str = "") -> bool:
        """The owner, in this run, was told on a route how far it is known, and has all of that.

        False if it was asked about what another node has, and has begun a run since this one last
        heard it: about what is known here it is yet to be asked. O(1).
        """
        known = self.replicas[replica]
        before, version = self.extent(replica, via)
        if before not in ("", run):
            known.vouched[before] = version
            if len(known.vouched) > RUNS_MAX:
                del known.vouched[next(iter(known.vouched))]
        is_whole = known.claim is None or known.run in ("", run)
        known.run, known.claim = run if is_whole else known.run, None
        return is_whole

    def reach(self, now_ns: int) -> dict[str, list[str]]:
        """By which nodes each replica is heard: their names, or its own. O(routes)."""
        return {
            replica: [
                via or replica
                for via, route in known.routes.items()
                if not route.follower.is_stale(now_ns)
            ]
            for replica, known in self.replicas.items()
        }

    def departed(self, now_ns: int) -> list[str]:
        """The replicas whose owners are gone, or have been silent for long. O(replicas)."""
        return [
            replica
            for replica, known in self.replicas.items()
            if now_ns - known.heard_ns > DEPARTED_NS or self.is_replaced(replica)
        ]

    def status(self, replica: str, now_ns: int, *, since_ns: int | None = None) -> HostStatus:
        """How complete a host's part is. O(routes + replicas that it replaces)."""
        known = self.replicas[replica]
        found = {route.status(now_ns) for route in known.routes.values()}
        silent_ns = now_ns - known.heard_ns
        if self.is_replaced(replica):
            status: Literal["live", "syncing", "stale", "replaced"] = "replaced"
        elif silent_ns > MISSED_HEARTBEATS * self._interval_ns or not found - {"stale"}:
            status = "stale"
        else:
            status = "live" if "live" in found else "syncing"
        return HostStatus(
            known.host,
            replica,
            status,
            known.heard_ns if since_ns is None else since_ns,
            known.watermark_ns,
            self._state.versions.get(replica, 0),
            known.lower_bound,
            known.replaces,
            known.retention,
            known.offset_ns,
            known.run,
        )

    def statuses(self, now_ns: int) -> list[HostStatus]:
        """The status of every host. O(routes)."""
        return [self.status(replica, now_ns) for replica in self.replicas]

    def passed_on(self, replica: str, now_ns: int) -> HostStatus:
        """The status as others are told it: when the host spoke is said by its own clock."""
        return self.status(replica, now_ns, since_ns=self.replicas[replica].said_ns)

    def settling(self, now_ns: int) -> str:
        """What one of those who pass on says of its own settling, "" if none does. O(routes)."""
        said = (r.settling for _, r in self.routes() if not r.follower.is_stale(now_ns))
        return next(filter(None, said), "")

    def lower_bound(self) -> str:
        """Why one of those who pass on may never have all, "" if none says so. O(routes)."""
        return next(filter(None, (route.lower_bound for _, route in self.routes())), "")

    def learn(self, members: Iterable[Member]) -> None:
        """These were once heard at this address. O(their number)."""
        self._members.update((member.replica, member.host) for member in members)

    def missing(self) -> str:
        """Which hosts were once heard here and are not known now, "" if none. O(members)."""
        hosts = (host for replica, host in self._members.items() if replica not in self.replicas)
        names = sorted(set(hosts))
        more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
        said = f"{', '.join(names[:NAMES_MAX])}{more}"
        return f"what {said} counted before this aggregator started is not here" if names else ""

    def tidy(self, now_ns: int) -> list[tuple[str, str]]:
        """Drop routes silent for a minute where another is live: (via, replica) of each. O(routes).

        A clock that stepped back makes nobody look as if heard in the future.
        """
        dropped: list[tuple[str, str]] = []
        for replica, known in self.replicas.items():
            known.heard_ns = min(known.heard_ns, now_ns)
            if len(known.routes) > 1 and any(
                route.status(now_ns) == "live" for route in known.routes.values()
            ):
                for via, route in list(known.routes.items()):
                    if now_ns - route.follower.heard_ns > ROUTE_KEPT_NS:
                        del known.routes[via]
                        self._others -= 1
                        dropped.append((via, replica))
        return dropped


def fitting(statuses: Iterable[HostStatus]) -> list[HostStatus]:
    """The first of these, as many as one message has room for. O(their number)."""
    size, named = 0, list[HostStatus]()
    for status in statuses:
        size += status_bytes(status)
        if size > STATUSES_BYTES_MAX:
            break
        named.append(status)
    return named


def names_node(epoch: str, node: str) -> bool:
    """Whether an epoch has come by way of a node, see `passed_epoch`. O(len).

    >>> names_node("5f0c/region-1:3/global:1", "region-1")
    True
    """
    return any(step.rpartition(":")[0] == node for step in epoch.split("/")[1:])


def passed_epoch(epoch: str, node: str, number: int) -> str:
    """The epoch of a stream that a node passes on: that it has itself, and each node on the way.

    >>> passed_epoch("5f0c/region-1:3", "global", 1)
    '5f0c/region-1:3/global:1'
    """
    assert run_of(epoch)
    return f"{epoch}/{node}:{number}"
