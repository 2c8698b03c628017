"""What a node passes down to those that it follows: the clocks of records, and floors.

Theory. The owner of a replica alone decides what of it is forgotten, and what an erase takes from
its counters. But a record may have parts on many hosts, and a floor may come from another host than
the counts below it. So whoever sees several parts tells each owner what it lacks:

    a clock   the newest stamp in a record, to each that holds a part of it, as long as that is
              newer than what it holds itself. Without it, a host forgets its part by its own clock
              while others still write: of 20,000 random schedules 12,301 lost leaves that way.
    a floor   that dominates something which it holds, to whoever holds it. It becomes a floor of
              that part too, so that it lives as long as what it hides.

A clock is told once it has moved by a hundredth of the retention, and rounded up by as much: so a
part is never forgotten early, and at most that much late. It is told again until the child says
that it has heard. A floor is told again until the child's part shows it: that is read from the
state, and needs no answer.

A register at the very path of a newer one of another host needs no floor: the newer one wins for as
long as either is kept, since one record has one clock.

A node in the middle of a tree passes on what it hears from above. Besides, all children are told
who else is heard here, for an aggregator that starts anew: `shardlog.collector.sidecar.members`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.delta import Erase, name_bytes
from shardlog.crdt.lww_map import Floor
from shardlog.crdt.replication.messages import PassDown, RecordClock, Tell
from shardlog.crdt.retention import FOREVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shardlog.crdt.delta import Fragment
    from shardlog.crdt.replication.messages import Member
    from shardlog.crdt.retention import Record, Retention
    from shardlog.crdt.state import State

SLACK = 100
"""A clock is rounded up by this part of its record's retention."""
AGAIN_NS = 5 * 10**9
"""After so long it is told again what was not heard."""
SEVERAL = "several"
RECORDS_MAX = 100_000
ITEM_BYTES = 30
"""Of a message, for each clock or floor, beyond its names."""


class _Child:
    """What one child was told, and what it is still to be told."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}
        self.owed: dict[str, None] = {}
        self.unheard: dict[str, int] = {}
        """By record: the number of the message by which it was told, not heard yet."""
        self.floors: dict[tuple[str, Floor], None] = {}
        self.members_at = 0
        """How many of the members it was told."""
        self.members_unheard: dict[int, int] = {}
        """By message that was not heard yet: behind how many it began."""
        self._number = 0

    def messages(self, members: list[Member], bytes_max: int) -> Iterator[PassDown]:
        """All that is owed, in messages of about `bytes_max`."""
        owed, floors = list(self.owed), list(self.floors)
        self.owed, self.floors = {}, {}
        while owed or floors or self.members_at < len(members):
            self._number += 1
            message = PassDown(self._number, [], [], [])
            size = 0
            if self.members_at < len(members):
                self.members_unheard[self._number] = self.members_at
            while self.members_at < len(members) and size < bytes_max:
                member = members[self.members_at]
                self.members_at += 1
                message.members.append(member)
                size += name_bytes(member.replica) + name_bytes(member.host)
            while owed and size < bytes_max:
                record = owed.pop()
                message.clocks.append(RecordClock(record, self.told[record]))
                self.unheard[record] = self._number
                size += name_bytes(record) + ITEM_BYTES
            while floors and size < bytes_max:
                path, floor = floors.pop()
                message.floors.append(Erase(path, floor.stamp, len(message.writers)))
                message.writers.append(floor.writer)
                size += name_bytes(path) + name_bytes(floor.writer) + ITEM_BYTES
            yield message


class Downwards:
    """The clocks and floors that one node passes down."""

    def __init__(self, state: State, retention: Retention, bytes_max: int) -> None:
        self._state = state
        self._retention = retention
        self._bytes_max = bytes_max
        self._children: dict[str, _Child] = {}
        self._above: dict[str, int] = {}
        self._dirty: dict[tuple[str, str], None] = {}
        self._erased: dict[str, None] = {}
        self._records: dict[str, Record | None] = {}
        """By path: what `record_of` said of those that were looked at lately."""
        self._holder: dict[str, str] = {}
        """By record: who alone holds it, SEVERAL if more do."""
        self._floors: dict[tuple[str, str, Floor], None] = {}
        self._again: dict[tuple[str, str], None] = {}
        self._again_ns = 0
        self._members: dict[str, Member] = {}

    def learn(self, fragment: Fragment) -> None:
        """A fragment was merged. O(its items)."""
        replica = fragment.replica
        for forgotten in fragment.forgotten:
            self.forget(replica, forgotten.record)
        for items in (fragment.writes, fragment.erases, fragment.entries):
            self._dirty.update(dict.fromkeys((replica, item.path) for item in items))
        self._erased.update(dict.fromkeys(erase.path for erase in fragment.erases))

    def forget(self, replica: str, record: str) -> None:
        """A replica has forgotten a record, and so have those who were told of it. O(children)."""
        for child in self._children.values():
            for told in (child.told, child.owed, child.unheard):
                told.pop(record, None)
        self._holder.pop(record, None)
        self._dirty.update(
            dict.fromkeys((r, record) for r in self._state.newest_by_replica(record))
        )
        self._dirty[replica, record] = None

    def begin(self, child: str) -> None:
        """A child began anew: what it was told may be gone. O(1)."""
        self._children.pop(child, None)

    def heard(self, child: str, number: int) -> None:
        """A child has taken in a message. O(what it was told and has not heard)."""
        known = self._children.get(child)
        if known is not None:
            known.unheard = {r: told for r, told in known.unheard.items() if told != number}
            known.members_unheard.pop(number, None)

    def hear(self, message: PassDown) -> None:
        """Take in what a parent of this very node passes down. O(size + what it concerns)."""
        for clock in message.clocks:
            if clock.stamp > self._above.get(clock.record, 0):
                self._above[clock.record] = clock.stamp
                self._holder[clock.record] = SEVERAL
                self._dirty["", clock.record] = None
        for erase in message.floors:
            floor = Floor(erase.stamp, message.writers[erase.writer])
            for replica, path in self._state.held(erase.path):
                if self._is_concerned(replica, path, floor, is_erase=True):
                    self._floors[replica, erase.path, floor] = None

    def tell_of(self, member: Member) -> None:
        """Somebody is part of the cluster: all children are told, once. O(1)."""
        self._members.setdefault(member.replica, member)

    def clock(self, record: str) -> int:
        """The newest stamp that anybody is known to have in a record. O(rows of it)."""
        held = self._state.newest_by_replica(record).values()
        return max(self._above.get(record, 0), max(held, default=0))

    def sweep(self, reach: Mapping[str, Iterable[str]], now_ns: int) -> list[Tell]:
        """What is to be told now. `reach`: by which children each replica is heard.

        O(paths of which something was learned since the last call), and the rows of their records
        where several hold these. 1.6 us a path; to ask each for its floors and clocks took 11 us.
        """
        if not self._again_ns - AGAIN_NS <= now_ns < self._again_ns:
            self._again_ns = now_ns + AGAIN_NS
            self._dirty.update(self._again)
            self._again = {}
            for child in self._children.values():
                child.owed.update(dict.fromkeys(child.unheard))
                child.members_at = min([child.members_at, *child.members_unheard.values()])
                child.members_unheard = {}
        dirty, self._dirty = self._dirty, {}
        if len(self._state.parts) > 1:
            self._look_for_floors(dirty)
        self._erased = {}
        for record in self._shared(dirty):
            self._look_beside(record, reach)
        for replica, place, floor in self._floors:
            for name in reach.get(replica, ()):
                self._child(name).floors[place, floor] = None
        self._floors = {}
        members = list(self._members.values())
        return [
            Tell(name, message)
            for name in dict.fromkeys(name for names in reach.values() for name in names)
            for message in self._child(name).messages(members, self._bytes_max)
        ]

    def _look_for_floors(self, dirty: dict[tuple[str, str], None]) -> None:
        """Pass down what lies over these paths, or is there and lies over others."""
        state = self._state
        joined, parts, is_mixed = state.map, state.parts, state.is_mixed
        floored = {_head(path) for path in joined.floors}
        tops = dict.fromkeys(self._erased)
        for replica, path in dirty:
            part = parts.get(replica)
            if part is None:
                continue
            own = part.map
            is_own = own.leaves.get(path) is joined.leaves.get(path) and path not in own.floors
            if not is_own or (path in state.counting and (is_mixed or _is_within(path, floored))):
                self._look_above(replica, path)
            if state.is_held_below(path):
                tops[path] = None
        for top in tops:
            for replica, path in state.held(top):
                self._look_above(replica, path)

    def _shared(self, dirty: dict[tuple[str, str], None]) -> Iterable[Record]:
        """The records at these paths that several hold."""
        records, holder = self._records, self._holder
        if len(records) > RECORDS_MAX:
            records.clear()
        shared: dict[str, Record] = {}
        for replica, path in dirty:
            if path not in records:
                record = self._retention.record_of(path)
                records[path] = None if record and record.duration_ns == FOREVER else record
            record = records[path]
            if record is not None and holder.setdefault(record.path, replica) != replica:
                holder[record.path] = SEVERAL
                shared[record.path] = record
        return shared.values()

    def _look_beside(self, record: Record, reach: Mapping[str, Iterable[str]]) -> None:
        """Tell those who hold a part of a record its clock, if it has moved on. O(rows of it)."""
        newest = self._state.newest_by_replica(record.path)
        if len(newest) < 2 and record.path not in self._above:
            self._holder.pop(record.path, None)
            return
        if not newest:
            self._above.pop(record.path, None)
            return
        clock = max(self._above.get(record.path, 0), *newest.values())
        held: dict[str, int] = {}
        for replica, stamp in newest.items():
            for name in reach.get(replica, ()):
                held[name] = max(held.get(name, 0), stamp)
        for name, stamp in held.items():
            child = self._child(name)
            if clock > max(stamp, child.told.get(record.path, 0)):
                child.told[record.path] = clock + record.duration_ns // SLACK
                child.owed[record.path] = None

    def _look_above(self, replica: str, path: str) -> None:
        """Pass down the newest floor over a path, if whoever holds that lacks it. O(depth)."""
        floor, place = self._state.map.newest_floor_place(path)
        is_erase = path != place or place in self._state.map.floors
        if self._is_concerned(replica, path, floor, is_erase=is_erase):
            self._floors[replica, place, floor] = None
            self._again[replica, path] = None

    def _is_concerned(self, replica: str, path: str, floor: Floor, *, is_erase: bool) -> bool:
        """Whether a floor dominates what a replica has at a path, and is not there. O(depth)."""
        part = self._state.parts.get(replica)
        if part is None or part.map.newest_floor(path) >= floor:
            return False
        entry = self._state.entry(replica, path)
        if entry is not None and entry.reset < floor.stamp:
            return True
        return is_erase and any(mark <= floor for mark in part.map.marks(path))

    def _child(self, name: str) -> _Child:
        return self._children.setdefault(name, _Child())


def _head(path: str) -> str:
    """What the texts of a path and of all below it begin with: about its first two keys. O(len)."""
    return "/".join(path.split("/", 2)[:2])


def _is_within(path: str, heads: set[str]) -> bool:
    """Whether one of the paths with these heads may be the path, or lie over it. O(len)."""
    parts = path.split("/", 2)
    return parts[0] in heads or "/".join(parts[:2]) in heads
