"""Stores in memory: batches in, what a restart would find out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from shardlog.collector.aggregator.memory import Host, Remember, Remembered
from shardlog.collector.batch import STEP, Closed, Identity, Line, Persist, Restored, SavedSums
from shardlog.crdt.delta import Entry, Erase, Fragment, Write
from shardlog.crdt.path import is_within

if TYPE_CHECKING:
    from shardlog.crdt.counter import Mark
    from shardlog.crdt.delta import Amount, Value
    from shardlog.crdt.lww_map import Floor, Leaf


_Mark: TypeAlias = tuple[int, str]

NOTHING = (0, "")
END = chr(0x10FFFF)
"""Above any writer."""
RUNS_MAX = 16
"""As `shardlog.collector.store`."""


class MemoryStore:
    """What the transactions of a store add up to."""

    def __init__(self, replica: str) -> None:
        self.identity = Identity(replica)
        self.runs: tuple[tuple[str, int], ...] = ()
        self.clocks: dict[str, int] = {}
        self.members: dict[tuple[str, str], str] = {}
        self.sums: dict[str, tuple[Amount, ...]] = {}
        self.refused: dict[tuple[str, str, int], Amount] = {}
        self.version = 0
        self.watermark_ns = 0
        self.marks: dict[str, dict[str, Mark]] = {}
        self.lines: dict[str, Line] = {}
        self.closed: dict[int, Closed] = {}
        self.entries: dict[str, Entry] = {}
        self.registers: dict[str, tuple[str, Leaf | None, Floor | None]] = {}

    def begin(self, epoch: str) -> None:
        """Note that a run begins."""
        self.runs = (*self.runs, (epoch, self.version + 1))[-RUNS_MAX:]
        self.version += STEP

    def copy(self) -> MemoryStore:
        """A backup."""
        store = MemoryStore("")
        for name, value in vars(self).items():
            setattr(store, name, value.copy() if isinstance(value, dict) else value)
        store.marks = {process: dict(rows) for process, rows in self.marks.items()}
        return store

    def commit(self, batch: Persist) -> None:
        """Apply one transaction. O(batch + closed ids)."""
        for process, path, mark in batch.marks:
            if mark is None:
                self.marks.get(process, {}).pop(path, None)
            else:
                self.marks.setdefault(process, {})[path] = mark
        self.lines.update(batch.lines)
        if batch.identity is not None:
            self.sums, self.refused = {}, {}
        self.sums.update(batch.sums.rows)
        self.refused.update(batch.sums.refused)
        self.refused = {row: amount for row, amount in self.refused.items() if amount}
        for process in batch.ended:
            self.sums.pop(process, None)
            self.refused = {row: n for row, n in self.refused.items() if row[0] != process}
            self.marks.pop(process, None)
            self.lines.pop(process, None)
        self.closed.update({row.number: row for row in batch.closed})
        self.closed = {n: row for n, row in self.closed.items() if n >= batch.forgotten}
        self.entries.update({entry.path: entry for entry in batch.entries})
        for path in batch.gone:
            self.entries.pop(path, None)
        for row in batch.registers:
            if row[1] or row[2]:
                self.registers[row[0]] = row
            else:
                self.registers.pop(row[0], None)
        self.members.update(batch.members)
        for record, stamp in batch.clocks:
            if stamp is None:
                self.clocks.pop(record, None)
            else:
                self.clocks[record] = stamp
        self.version = batch.version
        self.watermark_ns = batch.watermark_ns
        if batch.identity is not None:
            self.identity = batch.identity
            self.runs = ((batch.identity.replica, batch.version),)

    def load(self) -> Restored:
        """What a collector that starts finds. O(rows)."""
        return Restored(
            **self.identity._asdict(),
            version=self.version,
            watermark_ns=self.watermark_ns,
            marks={process: dict(rows) for process, rows in self.marks.items() if rows},
            lines=dict(self.lines),
            closed=tuple(self.closed[n] for n in sorted(self.closed)),
            entries=tuple(self.entries.values()),
            registers=tuple(self.registers.values()),
            members=dict(self.members),
            clocks=dict(self.clocks),
            sums=SavedSums(dict(self.sums), dict(self.refused)),
            runs=self.runs,
        )


class RememberedStore:
    """What an aggregator remembers, as `shardlog.collector.aggregator.store`."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._registers: dict[str, dict[str, tuple[_Mark, _Mark, Value]]] = {}
        self._entries: dict[str, dict[str, Entry]] = {}

    def commit(self, batch: Remember) -> None:
        """Apply one transaction."""
        self._hosts.update({host.replica: host for host in batch.hosts})
        for part in batch.parts:
            registers = self._registers.setdefault(part.replica, {})
            entries = self._entries.setdefault(part.replica, {})
            if part.is_whole:
                registers.clear()
                entries.clear()
            for cut in part.cuts:
                for path in [p for p in registers if is_within(p, cut.path)]:
                    leaf, floor, _ = registers[path]
                    if max(leaf, floor) <= (cut.stamp, END):
                        del registers[path]
                if cut.has_entries:
                    for path in [p for p in entries if is_within(p, cut.path)]:
                        del entries[path]
            for rows in part.rows:
                for path in {
                    item.path: 0 for items in (rows.erases, rows.writes) for item in items
                }:
                    registers[path] = (NOTHING, NOTHING, None)
                for erase in rows.erases:
                    leaf, _, value = registers[erase.path]
                    floor = (erase.stamp, rows.writers[erase.writer])
                    registers[erase.path] = (leaf, floor, value)
                for write in rows.writes:
                    _, floor, _ = registers[write.path]
                    leaf = (write.stamp, rows.writers[write.writer])
                    registers[write.path] = (leaf, floor, write.value)
                entries.update({entry.path: entry for entry in rows.entries})

    def load(self) -> list[Remembered]:
        """What an aggregator that starts finds."""
        return [Remembered(host, self._rows(host)) for host in self._hosts.values()]

    def _rows(self, host: Host) -> Fragment:
        writers: dict[str, int] = {}
        entries = sorted(self._entries.get(host.replica, {}).items())
        rows = Fragment(host.replica, 0, host.version, [], [], [], [e for _, e in entries])
        for path, (leaf, floor, value) in sorted(self._registers.get(host.replica, {}).items()):
            if floor != NOTHING:
                by = writers.setdefault(floor[1], len(writers))
                rows.erases.append(Erase(path, floor[0], by))
            if leaf != NOTHING:
                by = writers.setdefault(leaf[1], len(writers))
                rows.writes.append(Write(path, leaf[0], by, value))
        rows.writers.extend(writers)
        return rows
