"""The collector's machine: the reports of a host's processes become its state and its stream.

Theory of operation. The collector's store is one replica of the cluster's counter, kept by its
`Ledger`. Registers and floors merge into the state as they are. `Presence` knows who is there.

Reports are taken in one after the other; `take_effects` closes the batch. Its effects are to be
obeyed in order: Persist (one transaction: marks, entries and registers together) BEFORE Publish,
so that nothing is seen that a restart would take back, and Answer last, so that a snapshot holds
nothing that was not published. The replica's version counts the fragments that it published.

The clock is looked at once, here, at admission: a register or floor stamped too far ahead is
refused and counted; a count's stamp is cut to now instead, for a count is never refused for its
time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shardlog.collector.batch import Persist, Restored
from shardlog.collector.sidecar.forgetting import Forgetting, Piece
from shardlog.collector.sidecar.ledger import Ledger
from shardlog.collector.sidecar.presence import Presence, Said
from shardlog.crdt.delta import Erase, Fragment
from shardlog.crdt.path import RESERVED, is_within, path_keys, path_text
from shardlog.crdt.process_id import blade_of
from shardlog.crdt.replication.messages import (
    Answer,
    HostStatus,
    Log,
    Publish,
    SnapshotRequest,
)
from shardlog.crdt.replication.publisher import Publisher
from shardlog.crdt.replication.view import View
from shardlog.crdt.retention import collapsed, is_collapsed
from shardlog.crdt.stamp import StampClock
from shardlog.crdt.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.collector.sidecar.config import SidecarConfig
    from shardlog.crdt.delta import Total, Value, Write
    from shardlog.crdt.replication.messages import Report

MS = 1_000_000
PROCESS_BYTES_MAX = 512
NAMED_MAX = 1000
"""How many samples of what blades refused a log has: whoever invents reasons does not fill it."""
_REFUSED_BY_BLADES = f"{RESERVED}/health/blade/"


SidecarEffect = Persist | Publish | Answer | Log


class Sidecar:
    """One collector. `process` is its own process id, `epoch` a text that no earlier run had."""

    def __init__(
        self,
        config: SidecarConfig,
        restored: Restored,
        *,
        process: str,
        epoch: str,
        now_ns: int,
        bytes_max: int,
    ) -> None:
        self.state = State()
        self.refused: dict[str, int] = {}
        self._config = config
        self.replica = restored.replica
        self._process = process
        self._bytes_max = bytes_max
        self._clock = StampClock()
        self._version = restored.version
        self._ledger = Ledger(self.state, restored)
        self._presence = Presence(config, now_ns)
        self._tick_ns = now_ns
        interval_ms = config.heartbeat_interval_ms
        self._up = Publisher(self.replica, epoch, lanes=1, interval_ms=interval_ms)
        self._view = (
            View(self.state, self.replica, epoch, interval_ms=interval_ms, bytes_max=bytes_max)
            if config.serve
            else None
        )
        self._forgetting = Forgetting(
            self.state, self._ledger, self._presence, config.retention, bytes_max
        )
        self._pieces: list[Piece] = []
        self._dirty_registers: dict[str, None] = {}
        self._store_trouble = False
        self._named = 0
        self._requests: list[tuple[Literal["up", "serve"], bytes, SnapshotRequest]] = []
        self._beats: dict[Literal["up", "serve"], Publish] = {}
        self._logs: list[Log] = []
        self._restore(restored, now_ns)
        self._pieces += self._forgetting.sweep(now_ns)

    def receive(self, report: Report, now_ns: int) -> None:
        """Take in what a process said. O(size), each item as `State.write` or `State.put`."""
        process = report.process
        if not blade_of(process) or len(process.encode()) > PROCESS_BYTES_MAX:
            self.refuse("process", f"{process[:80]!r} is no process id", now_ns)
            return
        self._say(self._presence.hear(report, now_ns), now_ns)
        latest_ns = now_ns + self._config.max_skew_ms * MS
        for erase in report.erases:
            if self._admit(erase, latest_ns, process, now_ns) and self.state.erase(
                erase.path, erase.stamp, process
            ):
                self._ledger.reset(erase.path)
        for write in report.writes:
            if self._admit(write, latest_ns, process, now_ns):
                if write.path.startswith(_REFUSED_BY_BLADES):
                    self._name(write)
                if self.state.write(write.path, write.stamp, process, write.value):
                    self._ledger.reset(write.path)
        for total in report.totals:
            self._count(process, total, now_ns)

    def request(
        self, channel: Literal["up", "serve"], peer: bytes, request: SnapshotRequest
    ) -> None:
        """Take in a request for a chunk of a snapshot; it is answered behind this batch."""
        self._requests.append((channel, peer, request))

    def subscribed(self, channel: Literal["up", "serve"], now_ns: int) -> None:
        """Somebody new follows: beat at once, so that they need not wait for the next beat.

        All who follow hear it, so that one per batch is enough.
        """
        self._beat(channel, now_ns)

    def refuse(self, reason: str, detail: str, now_ns: int) -> None:
        """Count something that was turned away, and name the first of each reason."""
        self._turn_away(reason, detail)
        self.note(f"refused/{reason}", now_ns)

    def note(self, what: str, now_ns: int) -> None:
        """Count something in this collector's own health."""
        self._ledger.add(self._health(what), 1, now_ns, now_ns, now_ns)

    def persisted(self, now_ns: int) -> None:
        """The last Persist was obeyed."""
        if self._store_trouble:
            self._store_trouble = False
            self._write(self._health("store"), "written again", now_ns)

    def not_persisted(self, batch: Persist, why: str, now_ns: int) -> None:
        """The last Persist failed: it goes on in memory, and its rows into the next Persist."""
        self._ledger.put_back(batch)
        self._dirty_registers.update(dict.fromkeys(path for path, _, _ in batch.registers))
        if not self._store_trouble:
            self._store_trouble = True
            self._logs.append(Log(f"{why}; going on in memory, a restart would lose what comes"))
            self._write(self._health("store"), why, now_ns)

    def next_timer_ns(self) -> int:
        """When `handle_timer` is due."""
        return self._up.next_heartbeat_ns

    def handle_timer(self, now_ns: int) -> None:
        """Beat; see who has gone silent. O(processes). Steps of the clock do no harm."""
        if self._tick_ns <= now_ns < self._up.next_heartbeat_ns:
            return
        self._tick_ns = now_ns
        self._say(self._presence.tick(now_ns), now_ns)
        self._forgetting.watch(self.state.touched())
        self._pieces += self._forgetting.sweep(now_ns)
        self._beat("up", now_ns)
        if self._view is not None:
            self._beat("serve", now_ns)

    def take_effects(self) -> list[SidecarEffect]:
        """Close the batch: Persist, then Publish, then Answer; Log last. O(what changed)."""
        effects: list[SidecarEffect] = []
        touched = self.state.take_touched()
        self._dirty_registers.update(dict.fromkeys(touched))
        self._forgetting.watch(touched)
        fragments = list(self._fragments(touched))
        if fragments or self._ledger.is_dirty or self._dirty_registers:
            effects.append(self._persist())
        effects += (Publish("up", self._up.delta(0, fragment)) for fragment in fragments)
        if self._view is not None:
            effects += self._view.publish(touched)
        effects += self._beats.values()
        effects += (self._answer(*request) for request in self._requests)
        effects += self._logs
        self._beats, self._requests, self._logs = {}, [], []
        return effects

    def check_invariants(self) -> None:
        """Raise AssertionError unless every entry of a counter is the sum of what was heard."""
        self.state.check_invariants()
        assert not self._ledger.is_dirty, "a batch is open"

    def _restore(self, restored: Restored, now_ns: int) -> None:
        self.state.versions[self.replica] = self._version
        for path, leaf, floor in restored.registers:
            if floor is not None:
                self.state.erase(path, *floor)
            if leaf is not None:
                self.state.write(path, *leaf)
                keys = path_keys(path)
                is_status = keys[:2] == (RESERVED, "presence") and keys[4:] == ("status",)
                if is_status and leaf.value == "up":
                    self._presence.expect(str(keys[3]), now_ns)
        self._forgetting.watch(self.state.take_touched())

    def _name(self, write: Write) -> None:
        """Tell the operator what a blade itself refused: it can't log about its own logging."""
        *_, blade, what, reason = path_keys(write.path)
        is_new = what == "first" and write.path not in self.state.map.leaves
        if is_new and self._named < NAMED_MAX:
            self._named += 1
            self._logs.append(Log(f"{blade} refused ({reason}): {write.value!r}"))

    def _say(self, said: Iterable[Said], now_ns: int) -> None:
        """Write into the presence records of processes."""
        for process, key, value in said:
            path = path_text((RESERVED, "presence", blade_of(process), process, key))
            self._write(path, value, now_ns)

    def _turn_away(self, reason: str, detail: str) -> None:
        """Count what was turned away in the heartbeats only: what is repeated changes no state."""
        if reason not in self.refused:
            self._logs.append(Log(f"refused ({reason}): {detail}; further ones are only counted"))
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _health(self, what: str) -> str:
        return f"{path_text((RESERVED, 'health', 'collector', self._config.host))}/{what}"

    def _write(self, path: str, value: Value, now_ns: int) -> None:
        """Write a register of its own, above whatever is there."""
        leaf = self.state.map.leaves.get(path)
        above_ns = now_ns if leaf is None else max(now_ns, leaf.stamp + 1)
        self.state.write(path, self._clock.stamp(above_ns), self._process, value)

    def _admit(self, item: Write | Erase, latest_ns: int, process: str, now_ns: int) -> bool:
        path = item.path
        if item.stamp > latest_ns:
            ahead_s = (item.stamp - now_ns) // (1000 * MS)
            detail = f"the clock of {blade_of(process)} is {ahead_s} s ahead, at {path!r}"
            self.refuse("skew", detail, now_ns)
            return False
        if self._forgetting.is_old(path, item.stamp, now_ns):
            self._turn_away("old", f"{path!r} of {blade_of(process)} is older than is kept")
            return False
        if not self._is_allowed(path, process, now_ns):
            return False
        known = self.state.map
        if path in known.leaves or path in known.floors:
            return True
        if type(item) is Erase and known.index.has_below(path):  # it takes away more than it adds
            return True
        return self._has_room(path, process, now_ns)

    def _is_allowed(self, path: str, process: str, now_ns: int) -> bool:
        """Whether a process may say something there: of what is reserved, only of itself."""
        if is_collapsed(path):
            self.refuse("collapsed", f"{path!r} is not for {blade_of(process)} to write", now_ns)
            return False
        if not path.startswith(RESERVED) or not is_within(path, RESERVED):
            return True
        blade = blade_of(process)
        own = (
            f"{path_text((RESERVED, 'presence', blade, process))}/",
            f"{path_text((RESERVED, 'health', 'blade', blade))}/",
        )
        if path.startswith(own):
            return True
        self.refuse("reserved", f"{path!r} is not for {blade} to write", now_ns)
        return False

    def _has_room(self, path: str, process: str, now_ns: int) -> bool:
        # What shardlog itself keeps has as much room again, so that users don't keep it out.
        room = self._config.paths_max * (2 if path.startswith(f"{RESERVED}/") else 1)
        if len(self.state.map.index) + len(self.state.cells) < room:
            return True
        detail = (
            f"{self._config.paths_max} paths are held, {path!r} of {blade_of(process)} is one more"
        )
        self.refuse("paths", detail, now_ns)
        return False

    def _count(self, process: str, total: Total, now_ns: int) -> None:
        path = total.path
        if not self._ledger.is_news(process, total) or not self._is_allowed(path, process, now_ns):
            return
        to = path
        record = self._forgetting.is_old(path, total.last, now_ns)
        if record is not None and not record.keeps_counters:
            if total.last > self.state.map.floor_over(path):  # else it is erased where it was
                to = collapsed(path, record.path)
        elif path not in self.state.cells and not self._has_room(path, process, now_ns):
            return
        if not self._ledger.count(process, total, now_ns, to):
            self.refuse("overflow", f"{path!r} of {blade_of(process)}", now_ns)

    def _fragments(self, touched: list[str]) -> Iterator[Fragment]:
        """What changed, in fragments of which each is one version: first what is forgotten."""
        for piece in self._pieces:
            version, self._version = self._version, self._version + 1
            self.state.versions[self.replica] = self._version
            yield Fragment(
                self.replica, version, self._version, [], [], [], piece.entries, piece.forgotten
            )
        self._pieces = []
        paths = iter(touched)
        more = bool(touched)
        while more:
            versions = (self._version, self._version + 1)
            fragment, last = self.state.fragment(self.replica, versions, paths, self._bytes_max)
            more = last is not None
            if fragment.writes or fragment.erases or fragment.entries:
                self._version = self.state.versions[self.replica] = fragment.to_version
                yield fragment

    def _persist(self) -> Persist:
        leaves, floors = self.state.map.leaves, self.state.map.floors
        registers = tuple((p, leaves.get(p), floors.get(p)) for p in self._dirty_registers)
        self._dirty_registers = {}
        marks, entries = self._ledger.take_dirty()
        return Persist(self._version, marks, entries, registers, self._ledger.take_gone())

    def _beat(self, channel: Literal["up", "serve"], now_ns: int) -> None:
        watermark_ns = self._presence.watermark_ns(now_ns)
        status = HostStatus(self._config.host, self.replica, "live", now_ns, watermark_ns)
        if channel in self._beats:
            return
        if channel == "up":
            beat = self._up.heartbeat(now_ns, [status], self.refused)
            self._beats["up"] = Publish("up", beat)
        elif self._view is not None:
            self._beats["serve"] = self._view.heartbeat(now_ns, [status], self.refused)

    def _answer(
        self, channel: Literal["up", "serve"], peer: bytes, request: SnapshotRequest
    ) -> Answer:
        if channel == "serve" and self._view is not None:
            return self._view.answer(peer, request)
        fragment, following = self.state.snapshot(self.replica, request.after, self._bytes_max)
        return Answer("up", peer, self._up.chunk(request, fragment, following))
