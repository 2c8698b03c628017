"""Who else an aggregator heard, as far as it told its collectors: for one that starts anew.

Theory. An aggregator that has forgotten all, and hears a host, can't know of one that left before:
its totals would be too low, and nobody would say so. So aggregators tell their collectors which
replicas they hear, collectors keep that, by the aggregator's address, and hand it to whoever asks
for their snapshot from there. Nobody is ever struck off: what a replica counted stays counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from shardlog.crdt.delta import name_bytes
from shardlog.crdt.replication.messages import Member

if TYPE_CHECKING:
    from collections.abc import Iterable

Hosts: TypeAlias = dict[tuple[str, str], str]
"""Hosts by the address of who said so, and the replica."""
MEMBERS_BYTES_MAX = 200 << 10
"""For all that are known, some 4,000: they travel in one message, with the chunk of a snapshot."""


class Members:
    """The members that one collector was told of."""

    def __init__(self, restored: Hosts) -> None:
        self._hosts = restored
        self._bytes = sum(_bytes(replica, host) for (_, replica), host in restored.items())
        self._dirty: Hosts = {}

    def hear(self, parent: str, members: Iterable[Member]) -> None:
        """Take in what an aggregator says. O(their number)."""
        for member in members:
            key, size = (parent, member.replica), _bytes(member.replica, member.host)
            if key not in self._hosts and self._bytes + size <= MEMBERS_BYTES_MAX:
                self._hosts[key] = self._dirty[key] = member.host
                self._bytes += size

    def known_to(self, parent: str) -> list[Member]:
        """Those whom the aggregator at this address once named. O(all that are known)."""
        hosts = self._hosts.items()
        return [Member(replica, host) for (said_by, replica), host in hosts if said_by == parent]

    def take_dirty(self) -> Hosts:
        """Those that were learned since the last call."""
        dirty, self._dirty = self._dirty, {}
        return dirty

    def put_back(self, members: Hosts) -> None:
        """These could not be persisted."""
        self._dirty = members | self._dirty


def _bytes(replica: str, host: str) -> int:
    return 1 + name_bytes(replica) + name_bytes(host)
