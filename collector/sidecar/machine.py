"""The collector's machine: the reports of a host's processes become its state and its stream.

Theory of operation. The collector's store is one replica of the cluster's counter, kept by its
`Ledger`. Registers and floors merge into the state as they are, as far as `Admission` lets them in.
`Presence` knows who is there, `Forgetting` what is due, `Notes` are the collector's own words,
`Outlet` tells those who follow.

Reports are taken in one after the other, those that waited joined (`join`); `take_effects` closes
the batch. Its effects are to be obeyed in order: Persist (one transaction: marks, lines, closed
ids, entries and registers, those that are gone too) BEFORE Publish, so that no count is seen that a
restart would take back. A fragment of registers alone is published before that, as it need not wait
for the disk: `shardlog.collector.sidecar.outlet` says why a restart may take it back. Answer comes
last, so that a snapshot holds nothing that was not published. Lead comes behind Persist, but does
not wait for its success: what goes on in memory alone is to be written above as well.

Whether Persist succeeded is told at once, before anything more is handed in. `persisted` returns
what is due from then on, to be obeyed: Acknowledge, which lets a process forget what it sent, and
Remove, which takes away the files that a process left. Neither is ever due before the transaction
that holds what it is about; after a Persist that failed, nothing is, until a later one has
succeeded. A crash in between is harmless: an acknowledgement that was not written is one of the
next, and files that were not removed are found to be those of a closed id.

The end of a process: its reports first, those of its exit file too, then its status, its marks, its
line and its closed id, in one batch.

A store that is another replica's than is named in the runtime directory stands for one that was
lost; one that holds less than was once told of it went back in time. In both cases another replica
goes on from there (see `Ledger`), and all that tells its name follows in one batch: Persist, then
Name, which holds whether or not that was written, then Publish. Restarts in between find a store
that is not the one named, and do it again.

What fell due while no collector was there is forgotten in the first batch: before anybody is told
anything, but after it was seen who lives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shardlog.collector.batch import (
    STEP,
    Acknowledge,
    Lead,
    Name,
    Persist,
    Remove,
    Restored,
)
from shardlog.collector.sidecar.admission import Admission
from shardlog.collector.sidecar.forgetting import Forgetting, Piece
from shardlog.collector.sidecar.leads import Leads
from shardlog.collector.sidecar.ledger import Ledger
from shardlog.collector.sidecar.members import Members
from shardlog.collector.sidecar.notes import Notes
from shardlog.collector.sidecar.outlet import Channel, Outlet
from shardlog.collector.sidecar.presence import Presence, Said
from shardlog.crdt.path import RESERVED, path_keys
from shardlog.crdt.process_id import blade_of
from shardlog.crdt.replication.messages import (
    REPLACED,
    Answer,
    Confirm,
    Log,
    Publish,
    SnapshotRequest,
)
from shardlog.crdt.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.collector.sidecar.config import SidecarConfig
    from shardlog.collector.sidecar.kernel import Exit
    from shardlog.crdt.delta import Value
    from shardlog.crdt.replication.messages import PassDown, Report

SidecarEffect = Persist | Name | Lead | Publish | Answer | Confirm | Log
MS = 1_000_000
WHY_CHARACTERS_MAX = 500
LOST = "the store was lost: what was counted and not sent on by then may be missing"
WENT_BACK = "the store went back in time: what was counted since then may be missing"


class Sidecar:
    """One collector. `process` is its own process id, `epoch` a text that no earlier run had.

    `named` are the replicas that the runtime directory names; None where there is none. The store
    of the first of them was at `named_version`, 0 if that is not known. The epoch
    is also the name of the replica that this run begins if it finds that one was lost.
    """

    def __init__(
        self,
        config: SidecarConfig,
        restored: Restored,
        *,
        process: str,
        epoch: str,
        now_ns: int,
        bytes_max: int,
        named: tuple[str, ...] | None = None,
        named_version: int = 0,
    ) -> None:
        self.state = State(restored.replica)
        self._config = config
        self._epoch = epoch
        self._ledger = Ledger(self.state, restored)
        self._notes = Notes(self.state, self._ledger, config.host, process)
        self._presence = Presence(config, now_ns)
        self._forgetting = Forgetting(
            self.state,
            self._ledger,
            self._presence,
            self._notes,
            config.retention,
            restored.clocks,
            bytes_max,
        )
        self._leads = Leads(self._notes)
        self._admission = Admission(self.state, config, self._forgetting, self._leads, self._notes)
        self._members = Members(restored.members)
        self._outlet = Outlet(
            config,
            self.state,
            self._members,
            restored.replica,
            restored.version,
            restored.runs,
            epoch=epoch,
            bytes_max=bytes_max,
        )
        self._tick_ns = now_ns
        self._told_ns = now_ns - config.presence_interval_ms * MS
        self._tell_interval_ns = config.presence_interval_ms * MS
        self._has_swept = False
        self._pieces: list[Piece] = []
        self._arrived: list[str] = []
        self._dirty_registers: dict[str, None] = {}
        self._restore(restored, now_ns)
        self._has_names = named is not None
        self._is_untold = False
        self._is_to_name = named is not None and named[:1] != (restored.replica,)
        # One that it replaces is named after an end between the store and the name.
        if named and self._is_to_name and named[0] not in restored.replaces:
            told = (restored.replica,) if restored.version else ()
            self._succeed((*told, *named[1:], named[0]), LOST)
            self._notes.lost(f"{config.store} is not the store of {named[0]}, which collected here")
        elif named and not self._is_to_name and named_version > restored.version:
            self._notes.lost(
                f"{config.store} went back in time: it was at version {named_version} of "
                f"{restored.replica}, it is at {restored.version}"
            )
            self._succeed((restored.replica,), WENT_BACK)

    @property
    def replica(self) -> str:
        """The name of the replica as which it collects."""
        return self._ledger.replica

    @property
    def refused(self) -> dict[str, int]:
        """How much was turned away since the start, by reason."""
        return self._notes.refused

    def receive(self, report: Report, now_ns: int) -> None:
        """Take in what a process said. O(size), each item as `State.write` or `State.put`."""
        process = report.process
        if not self._admission.process(process, now_ns):
            return
        if self._has_ended(process):
            self.refuse("closed", f"{process!r} has ended, and is heard again", now_ns)
            return
        self._ledger.hear(report)
        if not self._presence.is_known(process):
            self._arrived.append(process)
            self._notes.keep_words(blade_of(process), now_ns)
        self._notes.say(self._presence.hear(report, now_ns), now_ns)
        for erase in report.erases:
            if self._admission.item(erase, process, now_ns) and self.state.erase(
                erase.path, erase.stamp, process
            ):
                self._ledger.reset(erase.path)
        for write in report.writes:
            if self._admission.item(write, process, now_ns):
                self._notes.name(write)
                if self.state.write(write.path, write.stamp, process, write.value):
                    self._ledger.reset(write.path)
        in_line = self._ledger.is_in_line(report)
        for total in report.totals:
            if not self._ledger.is_news(process, total, in_line=in_line):
                continue
            to = self._admission.count(total, process, now_ns)
            if to is None:
                self._ledger.refuse(process, total)
            elif not self._ledger.count(process, total, now_ns, to):
                self.refuse("overflow", f"{total.path!r} of {blade_of(process)}", now_ns)
        for retired in report.retired:
            self._ledger.retire(process, retired)
        self._ledger.follow(report)

    def alive(self, process: str, now_ns: int) -> None:
        """The life file of a process is locked: it is there, however silent. O(1)."""
        if self._ledger.knows(process) or process not in self._ledger.closed:
            self._ledger.know(process)
            self._notes.say(self._presence.alive(process, now_ns), now_ns)

    def take_arrived(self) -> list[str]:
        """The processes that were heard for the first time in this batch."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def is_quiet(self, process: str, now_ns: int) -> bool:
        """Whether a process that lives should have spoken, and may be stopped. O(1)."""
        return self._presence.is_quiet(process, now_ns)

    def stopped(self, process: str, now_ns: int) -> None:
        """The kernel says of one that is quiet that it is stopped. O(1)."""
        self._notes.say([self._presence.stopped(process)], now_ns)

    def exited(self, process: str, how: Exit, now_ns: int) -> None:
        """The kernel says how a process ended, maybe before it is known to have ended. O(1)."""
        if self._admission.process(process, now_ns):
            self._notes.say([Said(process, "exit", [*how])], now_ns)

    def said_last(self, process: str) -> bool:
        """Whether its last report was read, and none before it is missing. O(1)."""
        return self._presence.final_sequence(process) == self._ledger.last(process)

    def ended(self, process: str, reports: Iterable[Report], now_ns: int) -> None:
        """A process has ended, and nothing of it is under way: take in what it left. O(size).

        To be told again is harmless: its files are to be removed then.
        """
        if self._has_ended(process):
            if process not in self._ledger.closed:
                self.refuse("closed", f"{process!r} left files, and started long ago", now_ns)
            self._ledger.close(process, now_ns)
            return
        for report in reports:
            if report.process == process:
                self.receive(report, now_ns)
            else:
                self.refuse("process", f"{process!r} left a report of another", now_ns)
        self._end(process, now_ns)

    def request(self, channel: Channel, peer: bytes, request: SnapshotRequest) -> None:
        """Take in a request for a chunk of a snapshot; it is answered behind this batch."""
        self._outlet.request(channel, peer, request)

    def pass_down(self, peer: bytes, message: PassDown) -> None:
        """Take in what a parent says of records, floors and members; it is told so. O(size)."""
        self._members.hear(peer.decode(errors="replace"), message.members)
        for clock in message.clocks:
            self._forgetting.hear(clock)
        for floor in message.floors:
            writer = message.writers[floor.writer]
            concerns = self.state.at_and_below(floor.path)
            if concerns and self.state.erase(floor.path, floor.stamp, writer):
                self._ledger.reset(floor.path)
        self._outlet.heard(peer, message.number)

    def subscribed(self, channel: Channel, now_ns: int) -> None:
        """Somebody new follows: beat at once, so that they need not wait for the next beat."""
        self._beat(channel, now_ns)

    def refuse(self, reason: str, detail: str, now_ns: int) -> None:
        """Count something that was turned away, and name the first of each reason."""
        self._notes.refuse(reason, detail, now_ns)

    def note(self, what: str, now_ns: int) -> None:
        """Count something in this collector's own health."""
        self._notes.count(what, now_ns)

    def persisted(self, now_ns: int) -> list[Acknowledge | Remove]:
        """The last Persist succeeded: what is due now, to be obeyed. O(processes in it)."""
        self._notes.store_works(now_ns)
        self._is_untold = False
        return self._ledger.take_due()

    def not_persisted(self, batch: Persist, why: str, now_ns: int) -> None:
        """The last Persist failed: it goes on in memory, and its rows into the next Persist.

        Nothing is acknowledged or removed until that has succeeded.
        """
        self._ledger.put_back(batch)
        self._dirty_registers.update(dict.fromkeys(path for path, _, _ in batch.registers))
        self._forgetting.put_back(batch.clocks)
        self._members.put_back(batch.members)
        self._notes.store_failed(why, now_ns)

    def next_timer_ns(self) -> int:
        """When `handle_timer` is due."""
        return self._outlet.next_heartbeat_ns

    def handle_timer(self, now_ns: int) -> None:
        """Beat; see who has gone silent. O(processes). Steps of the clock do no harm."""
        interval_ns = self._config.heartbeat_interval_ms * MS
        if now_ns < self._outlet.next_heartbeat_ns <= now_ns + interval_ns:
            return
        if now_ns < self._tick_ns:
            self._leads.survey(self.state.map, now_ns)
        self._tick_ns = now_ns
        self._leads.handle_timer(now_ns)
        self._notes.say(self._presence.tick(now_ns, self._notes.busy_until), now_ns)
        for process, was_final in list(self._presence.over(now_ns)):
            if not was_final or self.said_last(process):
                self._end(process, now_ns)
        self._ledger.forget(now_ns)
        self._sweep(now_ns)
        if abs(now_ns - self._told_ns) >= self._tell_interval_ns:
            self._told_ns = now_ns
            self._notes.tell_sums(now_ns)
        self._beat("up", now_ns)
        self._beat("serve", now_ns)

    def take_effects(self) -> list[SidecarEffect]:
        """Close the batch: Persist, Name, Lead, Publish, Answer; Log last. O(what changed).

        Publish of registers alone comes before Persist.
        """
        request = self._outlet.went_back()
        if request is not None:
            went_back = f"{self._config.store} went back in time: "
            if request.version == REPLACED:
                self._notes.lost(f"{went_back}{request.run} goes on for {self.replica}")
                self._succeed((self.replica, request.run), WENT_BACK)
            else:
                self._notes.lost(
                    f"{went_back}version {request.version} of {self.replica} is known, it had "
                    f"told no more than {self._outlet.left_by(request.run)}"
                )
                self._succeed((self.replica,), WENT_BACK)
        if not self._has_swept:
            self._sweep(self._tick_ns)
        effects: list[SidecarEffect] = []
        touched = self.state.take_touched()
        self._dirty_registers.update(dict.fromkeys(touched))
        self._forgetting.watch(touched)
        pieces, self._pieces = self._pieces, []
        self._arrived = []  # where nobody shares a folder nobody asks for them
        step = STEP if pieces or self._ledger.has_counts else 1
        fragments = list(self._outlet.fragments(pieces, touched, step))
        is_early = step == len(fragments) == 1
        if is_early:
            effects += self._outlet.publish(fragments, touched)
        clocks, members = self._forgetting.take_dirty_clocks(), self._members.take_dirty()
        if fragments or self._ledger.is_dirty or self._dirty_registers or clocks or members:
            leaves, floors = self.state.map.leaves, self.state.map.floors
            registers = tuple((p, leaves.get(p), floors.get(p)) for p in self._dirty_registers)
            self._dirty_registers = {}
            batch = self._ledger.take_dirty(self._outlet.version, registers)
            effects.append(replace(batch, clocks=clocks, members=members))
        if self._is_to_name:
            self._is_to_name = False
            effects.append(Name((self.replica, *self._ledger.identity.replaces)))
        effects += self._leads.take_effects()
        if not is_early:
            effects += self._outlet.publish(fragments, touched)
        effects += self._outlet.take_effects()
        effects += self._notes.take_logs()
        if self._is_untold:
            return [e for e in effects if not isinstance(e, Publish | Answer) or e.channel != "up"]
        return effects

    def check_invariants(self) -> None:
        """Raise AssertionError where state or sums contradict themselves. O(n x depth)."""
        self.state.check_invariants()
        part = self.state.parts.get(self.replica)
        self._ledger.sums.check_invariants(part.entries.values() if part else ())
        assert not self._ledger.is_dirty, "a batch is open"

    def _restore(self, restored: Restored, now_ns: int) -> None:
        statuses: dict[str, Value] = dict.fromkeys(self._ledger.lines, "up")
        silences: dict[str, Value] = {}
        for path, leaf, floor in restored.registers:
            if floor is not None:
                self.state.erase(path, *floor)
            if leaf is not None:
                self.state.write(path, *leaf.mark, leaf.value)
                keys = path_keys(path)
                if keys[:2] == (RESERVED, "presence") and keys[4:] == ("status",):
                    process = str(keys[3])
                    if process in statuses or leaf.value == "up":
                        statuses[process] = leaf.value
                elif keys[:2] == (RESERVED, "presence") and keys[4:] == ("silence",):
                    silences[str(keys[3])] = leaf.value
        for process, status in statuses.items():
            self._presence.expect(process, status, silences.get(process), now_ns)
        self._leads.survey(self.state.map, now_ns)
        self._forgetting.watch(self.state.take_touched())

    def _succeed(self, lost: Iterable[str], why: str) -> None:
        """Go on as another replica; where nothing names it, nobody hears it until it is stored.

        Else a collector that ends before its disk can be written comes back as the lost one, and
        counts beside its successor what that had told.
        """
        lost_ns = self._tick_ns + self._config.max_skew_ms * MS
        self._notes.forget_sums()
        self._ledger.succeed(self._epoch, lost, why, lost_ns)
        self._outlet.succeed(self._epoch)
        self._pieces = []  # the entries in them are those of the lost one
        self._is_to_name = True
        self._is_untold = not self._has_names

    def _sweep(self, now_ns: int) -> None:
        self._has_swept = True
        self._forgetting.watch(self.state.touched())
        self._pieces += self._forgetting.sweep(now_ns)

    def _has_ended(self, process: str) -> bool:
        """Whether a process is closed, or may have been, as it is not known. O(log) if unknown."""
        return not self._ledger.knows(process) and self._ledger.closed.refuses(process)

    def _end(self, process: str, now_ns: int) -> None:
        if self._admission.process(process, now_ns):
            self._notes.say_end(self._presence.end(process), now_ns)
            self._notes.keep_words(blade_of(process), now_ns)
        self._ledger.close(process, now_ns)

    def _beat(self, channel: Channel, now_ns: int) -> None:
        identity = self._ledger.identity
        whys = [why for why in (identity.lower_bound, self._notes.store_trouble) if why]
        self._outlet.beat(
            channel,
            now_ns,
            self._presence.watermark_ns(now_ns),
            self.refused,
            identity._replace(lower_bound="; ".join(whys)[:WHY_CHARACTERS_MAX]),
        )
