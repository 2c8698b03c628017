"""Whether an aggregator may not have heard all yet, after a start.

Theory of operation. What an aggregator lacks it does not know. It can wait for those of whom it
does know: the hosts that it heard since its start, and those that it remembers as having been there
until shortly before it ended; and for three heartbeat intervals, in which all others say that they
are there. Who has not come back after a minute has left: from then on that is the host's status,
and no reason to wait. Once over, settling never comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.replication.follower import MISSED_HEARTBEATS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.collector.aggregator.roll import Roll
    from shardlog.crdt.replication.messages import HostStatus

MS = 1_000_000
JUST_STARTED = "it has just started, and may not have heard all hosts yet"
DEPARTED_NS = 60_000 * MS
"""Silent for so long a host counts as departed."""


class Settling:
    """One start of an aggregator, on what its roll remembers then."""

    def __init__(self, roll: Roll, *, interval_ms: int, now_ns: int) -> None:
        self._roll = roll
        self._started_ns = now_ns
        self._quiet_ns = MISSED_HEARTBEATS * interval_ms * MS
        last_ns = max((known.heard_ns for known in roll.replicas.values()), default=0)
        self._remembered = {
            replica
            for replica, known in roll.replicas.items()
            if last_ns - known.heard_ns <= DEPARTED_NS
        }
        self._is_over = False

    def why(self, hosts: Iterable[HostStatus], now_ns: int, twin: str = "") -> str:
        """Why it is not over, "" if it is; `twin` says what may still come from one. O(hosts)."""
        self._started_ns = min(self._started_ns, now_ns)  # the clock may have stepped back
        waited_ns = now_ns - self._started_ns
        if self._is_over or waited_ns > DEPARTED_NS:
            self._is_over = True
            return ""
        awaited = [host for host in hosts if self._is_awaited(host)]
        late = sum(host.status != "live" for host in awaited)
        if late:
            return f"{late} of {len(awaited)} hosts are not live yet"
        below = self._roll.settling(now_ns)
        if below:
            return f"an aggregator below is settling: {below}"
        if twin:
            return twin
        if waited_ns <= self._quiet_ns:
            return JUST_STARTED
        self._is_over = True
        return ""

    def _is_awaited(self, host: HostStatus) -> bool:
        if host.status == "replaced":
            return False
        if host.replica in self._remembered:
            return True
        routes = self._roll.replicas[host.replica].routes.values()
        return any(not route.is_departed for route in routes)
