"""Which hosts are heard, up to when they have told all, and who has to do with which.

Evidence may be missing while a host is not live. Somebody has to do with the hosts of those whose
words he looked at, and of the blades that are named there. What is absent, and a counter, is
nobody's word: it has to do with the blades that are named in its path, else with all hosts, but for
those that are not live and of which all processes had ended.

While the aggregator is settling it may lack hosts that nobody has named, so nobody has evidence.
Where a host, or the aggregator, says `lower bound`, some of what was counted before that was heard
may be lost: whoever looks at counters has no evidence, but for those of a key that came up later.

A collector that has just started does not know what its processes still hold of the time before, so
what its host had told by then is all that counts, for as long as lateness is.

A live host may yet not tell all, as one of its processes is stopped, or hangs: that keeps the cut
back for everybody. Some lag is usual; whoever is judged at the cut has no evidence beyond that.

A host may have several stores: a new one where the old one is gone, or those of two machines that
are called alike. It is live if one of them is, and has told what all live ones have.

Known anomalies. Blades that are named are found by presence, so one that was never there concerns
no host. Of two machines that are called alike it goes unnoticed if one is not heard any more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from shardlog.crdt.delta import COUNTER
from shardlog.crdt.path import RESERVED
from shardlog.crdt.process_id import host_of
from shardlog.monitor.presence import best_status, status_of
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.replication.messages import Heartbeat, HostStatus
    from shardlog.monitor.live.instance import Instance
    from shardlog.monitor.live.world import Cell, World

MS = 10**6
SECOND = 10**9
CLOCKS_MAX_NS = 10 * SECOND
BEATS_LATE = 5
"""So many heartbeats, and the lateness, a host may be behind with what it tells."""


class Hosts:
    """All hosts as the last heartbeat said. `slack_ns`: how much clocks may differ unmeasured.

    `lateness_ns`: how long something that was said may be on its way.
    """

    def __init__(self, world: World[Instance], slack_ns: int, lateness_ns: int) -> None:
        self.known: dict[str, HostStatus] = {}
        self.told_ns = 0
        """Up to when all hosts have told all, 0 while one is not live."""
        self.slack_ns = slack_ns
        """How much clocks may differ, by what is measured."""
        self.no_cut = ""
        """Why nothing can be said at the cut, "" if it can."""
        self.no_cut_ns = 0
        """Up to when nothing is going to be, if so."""
        self.bad: dict[str, str] = {}
        """Hosts of which evidence may be missing, and why."""
        self.began_ns = 0
        """When a collector was last heard in another run than before."""
        self.settling = ""
        """Why hosts may be missing, "" if none is."""
        self.low: dict[str, tuple[str, int]] = {}
        """Why which host's counts are too low, and since when that is heard; "": all."""
        self._settling_ns = 0
        self._stores: dict[str, HostStatus] = {}
        """All that are not replaced, by replica: `known` is what these come to."""
        self._began: dict[str, tuple[int, int]] = {}
        """By replica, of those that began just now: when, and up to when the run before told."""
        self._world = world
        self._slack_ns = slack_ns
        self._lateness_ns = lateness_ns

    def hear(self, heartbeat: Heartbeat) -> bool:
        """Take in a heartbeat; whether anything may be blind now, or no more. O(hosts)."""
        before = (self.is_doubtful, self.settling, self.low, self.bad, self.no_cut)
        self._stores = {
            host.replica: self._believed(host, heartbeat.at_ns)
            for host in heartbeat.hosts
            if host.status != "replaced"
        }
        self._began = {store: said for store, said in self._began.items() if store in self._stores}
        self.known = _as_one(self._stores.values())
        self.bad = {n: _why_bad(host) for n, host in self.known.items() if host.status != "live"}
        live = self._live()
        self.told_ns = 0 if self.bad else min((host.watermark_ns for host in live), default=0)
        self._look_at_the_cut(heartbeat, live)
        self._look_at_what_is_lost(heartbeat)
        return (self.is_doubtful, self.settling, self.low, self.bad, self.no_cut) != before

    def _believed(self, host: HostStatus, at_ns: int) -> HostStatus:
        """A host as far as it is to be believed that it has told all."""
        before = self._stores.get(host.replica) or self.known.get(host.host)
        if before is not None and before.run != host.run:
            self.began_ns = at_ns
            self._began[host.replica] = at_ns, before.watermark_ns
        began_ns, told_ns = self._began.get(host.replica, (0, 0))
        if at_ns >= began_ns + self._lateness_ns:
            self._began.pop(host.replica, None)
            return host
        return replace(host, watermark_ns=min(host.watermark_ns, told_ns))

    @property
    def is_doubtful(self) -> bool:
        """Whether evidence may be missing for anybody."""
        return not self.known or bool(self.settling or self.low or self.bad or self.no_cut)

    def _look_at_the_cut(self, heartbeat: Heartbeat, live: list[HostStatus]) -> None:
        self.no_cut = ""
        self.slack_ns = self._slack_ns
        if not live:
            return
        late_ns = self._lateness_ns + BEATS_LATE * heartbeat.interval_ms * MS
        self.no_cut_ns = heartbeat.at_ns - late_ns - 2 * CLOCKS_MAX_NS
        first, last = min(live, key=_offset), max(live, key=_offset)
        apart_ns = last.offset_ns - first.offset_ns
        self.slack_ns += apart_ns
        if self.slack_ns > CLOCKS_MAX_NS:
            self.no_cut = f"the clocks of {first.host} and {last.host} are "
            self.no_cut += f"{apart_ns / SECOND:.0f} s apart"
            return
        for host in live:
            if heartbeat.at_ns + host.offset_ns - host.watermark_ns > late_ns:
                self.no_cut = f"{host.host} has not told all since {iso_utc(host.watermark_ns)}"

    def _look_at_what_is_lost(self, heartbeat: Heartbeat) -> None:
        at_ns = heartbeat.at_ns
        if not self.settling:
            self._settling_ns = at_ns
        self.settling = ""
        if heartbeat.settling:
            since = iso_utc(self._settling_ns)
            self.settling = f"the aggregator is settling since {since}: {heartbeat.settling}"
        low: dict[str, tuple[str, int]] = {}
        hosts = ((host.host, host.lower_bound) for host in self._stores.values())
        for name, why in (("", heartbeat.lower_bound), *hosts):
            if why:
                said, since_ns = self.low.get(name, ("", at_ns))
                low[name] = (why, since_ns if said == why else at_ns)
        self.low = low

    @property
    def cut_ns(self) -> int:
        """Up to when all live hosts have told all, less what clocks differ; 0 if none can say."""
        if self.no_cut:
            return 0
        told_ns = min((host.watermark_ns for host in self._live()), default=0)
        return max(told_ns - self.slack_ns, 0)

    def why_blind(self, instance: Instance) -> str:
        """Why evidence may be missing for an instance, "" if none is. As `concerned_by`."""
        if not self.known:
            return "no host has been heard yet"
        if self.settling:
            return self.settling
        if instance.has_cut and self.no_cut:
            return self.no_cut
        if self.bad and (bad := [n for n in self.concerned_by(instance) if n in self.bad]):
            return self.bad[bad[0]]
        return self.why_low(instance, instance.places()) if self.low else ""

    def why_keys_missing(self) -> str:
        """Why keys may be missing that were said, "" if none is. O(processes), if a host is bad."""
        if self.settling or not self.bad:
            return self.settling
        bad = [self.bad[name] for name in self._inhabited() if name in self.bad]
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        return bad[0] + more if bad else ""

    def is_late(self, cell: Cell[Instance]) -> bool:
        """Whether what shows at a place may have come about before its stamp, unheard. O(hosts)."""
        names: dict[str, None] = {}
        if cell.version.writer:
            names[host_of(cell.version.writer)] = None
        elif not self._add_hosts_of_path(cell, names):
            return bool(self.settling or self.bad or self._began)
        began = {self._stores[replica].host for replica in self._began}
        return bool(self.settling) or any(n in self.bad or n in began for n in names)

    def why_low(self, instance: Instance, cells: Iterable[Cell[Instance]]) -> str:
        """Why a counter among places may be too low for an instance, "" if none is. O(cells)."""
        for cell in cells if self.low else ():
            if cell.version.kind == COUNTER:
                names: dict[str, None] = {}
                is_anybody = not self._add_hosts_of_path(cell, names)
                is_own = bool(instance.test.parts) and is_below(cell, instance.cell)
                for name, (why, since_ns) in self.low.items():
                    is_concerned = is_anybody or not name or name in names
                    if is_concerned and not (is_own and instance.born_ns > since_ns):
                        since = iso_utc(since_ns)
                        return f"{name or 'the aggregator'} says lower bound since {since}: {why}"
        return ""

    def concerned_by(self, instance: Instance) -> list[str]:
        """With which hosts an instance has to do, by name. O(looks x processes of the named)."""
        names: dict[str, None] = {}
        is_anybody = False
        for cell in instance.places():
            value = cell.version.value
            if isinstance(value, str):
                self._add_hosts_of(value, names)
            if cell.version.writer:
                names[host_of(cell.version.writer)] = None
            elif cell is not instance.cell:  # which is there, whoever else may speak
                is_anybody |= not self._add_hosts_of_path(cell, names)
        for looks in instance.looks:
            for cell in looks[1]:
                is_anybody |= not self._add_hosts_of_path(cell, names)
        known = [name for name in names if name in self.known]
        if is_anybody or not known:
            return [*dict.fromkeys([*known, *self._inhabited()])]
        return known

    def presence(self, blade: str) -> str | None:
        """As `Live.presence`, of now. O(processes)."""
        there = self._world.known((RESERVED, "presence", blade))
        processes = () if there is None else (there.below or {}).values()
        return best_status([status_of(partial(_said, process)) for process in processes])

    def watermark_ns(self, names: Iterable[str]) -> int:
        """Up to when all these hosts have told what they had to tell, 0 if one has not."""
        hosts = [self.known[name] for name in names]
        return min((h.watermark_ns if h.status == "live" else 0 for h in hosts), default=0)

    def _live(self) -> list[HostStatus]:
        return [host for host in self._stores.values() if host.status == "live"]

    def _inhabited(self) -> list[str]:
        """The hosts that may yet say something: not those of which all processes have ended."""
        left: dict[str, bool] = {}
        for processes in self._presence():
            for process in (processes.below or {}).values():
                name = _word(process, "host")
                left[name] = left.get(name, True) and _word(process, "status") != "up"
        return [
            name
            for name, host in self.known.items()
            if host.status == "live" or not left.get(name, False)
        ]

    def _presence(self) -> list[Cell[Instance]]:
        """For each blade, where its processes are."""
        there = self._world.known((RESERVED, "presence"))
        return [] if there is None else [*(there.below or {}).values()]

    def _add_hosts_of_path(self, cell: Cell[Instance], names: dict[str, None]) -> bool:
        """Add the hosts of all blades that are named in where a place is; whether any is."""
        found = False
        place: Cell[Instance] | None = cell
        while place is not None:
            if isinstance(place.key, str):
                found |= self._add_hosts_of(place.key, names)
            place = place.above
        return found

    def _add_hosts_of(self, blade: str, names: dict[str, None]) -> bool:
        there = self._world.known((RESERVED, "presence", blade))
        processes = {} if there is None else there.below or {}
        hosts = [host for process in processes.values() if (host := _word(process, "host"))]
        names.update(dict.fromkeys(hosts))
        return bool(hosts)


def _said(cell: Cell[Instance], key: str) -> object:
    """The value at a key below a place, None if there is none."""
    child = (cell.below or {}).get(key)
    return None if child is None else child.version.value


def _word(cell: Cell[Instance], key: str) -> str:
    """The text there, "" if there is none."""
    value = _said(cell, key)
    return value if isinstance(value, str) else ""


def names_at(cell: Cell[Instance]) -> Iterator[str]:
    """What may be the name of a blade, at a place and in its path. O(depth)."""
    if isinstance(cell.version.value, str):
        yield cell.version.value
    place: Cell[Instance] | None = cell
    while place is not None:
        if isinstance(place.key, str):
            yield place.key
        place = place.above


def is_below(cell: Cell[Instance], other: Cell[Instance]) -> bool:
    """Whether a place is that other, or below it. O(depth)."""
    place: Cell[Instance] | None = cell
    while place is not None and place is not other:
        place = place.above
    return place is other


def _as_one(stores: Iterable[HostStatus]) -> dict[str, HostStatus]:
    """By host: of its live stores the one that has told the least, else what was heard last."""
    hosts: dict[str, HostStatus] = {}
    for store in stores:
        other = hosts.get(store.host)
        if other is None or _rank(store) > _rank(other):
            hosts[store.host] = store
    return hosts


def _rank(store: HostStatus) -> tuple[bool, int]:
    is_live = store.status == "live"
    return is_live, -store.watermark_ns if is_live else store.since_ns


def _why_bad(host: HostStatus) -> str:
    if host.status == "stale":
        return f"{host.host} has not been heard since {iso_utc(host.since_ns)}"
    return f"{host.host}: its snapshot is on the way"


def _offset(host: HostStatus) -> int:
    return host.offset_ns
