"""Mistakes that the simulator must find: designs that failed before, and slips in the real code.

A mutant is a piece of text in one module and what it is replaced by. It is applied to the code of
functions where they are, so that all who know them run it, and taken back.
"""

from __future__ import annotations

import importlib
import inspect
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.generate import generate
from tests.simulation.runner import run

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

SEEDS_MAX = 400


class Mutant(NamedTuple):
    """What is replaced by what, where, and what the mistake is."""

    mistake: str
    module: str
    text: str
    replacement: str


FAILED_DESIGNS = [
    Mutant(
        "dropping a late total",
        "collector.sidecar.admission",
        "            return path if is_erased else collapsed(path, record.path)",
        "            return path if is_erased else None",
    ),
    Mutant(
        "forgetting by timer a process that is only silent",
        "collector.sidecar.presence",
        "            if now_ns >= known.lost_ns + SILENCE_NS:",
        "            if now_ns >= known.heard_ns + self._lost_after_ns:",
    ),
    Mutant(
        "sending increments",
        "handler.backlog",
        "        self.totals.replace(Total(path, old.generation",
        "        if path not in self.totals.unsent:\n            total = amount\n"
        "        self.totals.replace(Total(path, old.generation",
    ),
    Mutant(
        "deleting an entry outright",
        "collector.sidecar.ledger",
        "                if entry is not old:\n                    self._put(entry)",
        "                if entry is not old:\n"
        "                    self._gone[path] = None\n"
        "                    self._dirty_entries.pop(path, None)\n"
        "                    self._is_dirty = True\n"
        "                    self._state._remove(self._state._parts.part(self.replica), path)",
    ),
    Mutant(
        "re-adding a host's total after its restart",
        "collector.sidecar.ledger",
        "        self.marks = restored.marks\n",
        "        self.marks = {}\n",
    ),
    Mutant(
        "deciding visibility by what is visible",
        "crdt.lww_map",
        "not (leaf.is_scalar and path in self.odd)",
        "not (leaf.is_scalar and any(map(self.is_visible, self.index.below(path))))",
    ),
    Mutant(
        "dropping a hidden scalar's floor",
        "crdt.lww_map",
        "        touched = [path, *above]\n",
        "        touched = [path, *above]\n"
        "        for p in touched[1:]:\n"
        "            if self.leaves[p].is_scalar:\n"
        "                self._pop_leaf(p)\n"
        "                self._remove(p)\n",
    ),
    Mutant(
        "each node forgetting by its own clock",
        "collector.aggregator.machine",
        "        interval_ns = self._config.heartbeat_interval_ms * MS\n        if not now_ns",
        "        for path in list(self.state.paths()):\n"
        "            if path[:2] == 't/' and self.state.newest_at(path) + 3000 * MS < now_ns:\n"
        "                for replica in list(self.state.versions):\n"
        "                    self.state.forget(replica, path, now_ns)\n"
        "        interval_ns = self._config.heartbeat_interval_ms * MS\n        if not now_ns",
    ),
    Mutant(
        "versions per entry instead of per replica",
        "crdt.state",
        "return lost, [path for path in part.counted if path not in entries]",
        "return lost, []",
    ),
    Mutant("a reset without a reset stamp", "crdt.entry", "reset=floor,", "reset=entry.reset,"),
    Mutant(
        "rollback compared with the current instead of the opened version",
        "collector.sidecar.outlet",
        "request.version > self.left_by(request.run)",
        "request.version > self.version",
    ),
    Mutant(
        "float sums",
        "crdt.counter",
        "        return (whole * BILLION + positive_part - negative_part) / BILLION",
        "        return positive - negative + positive_part / BILLION - negative_part / BILLION",
    ),
    Mutant(
        "`{}` hidden by an erase below it",
        "crdt.lww_map",
        "not (leaf.is_scalar and path in self.odd)",
        "path not in self.odd",
    ),
]

SLIPS = [
    Mutant(
        "what is not stored yet is published",
        "collector.sidecar.machine",
        "        effects += self._notes.take_logs()\n",
        "        effects.sort(key=lambda effect: isinstance(effect, Persist))\n",
    ),
    Mutant(
        "counts are published before they are stored",
        "collector.sidecar.machine",
        "        step = STEP if pieces or self._ledger.has_counts else 1\n",
        "        step = 1\n",
    ),
    Mutant(
        "who was told of counts is no further than who was told of registers",
        "collector.sidecar.machine",
        "self._outlet.fragments(pieces, touched, step)",
        "self._outlet.fragments(pieces, touched, 1)",
    ),
    Mutant(
        "registers in several fragments are published before they are stored",
        "collector.sidecar.machine",
        "        is_early = step == len(fragments) == 1\n",
        "        is_early = step == 1\n",
    ),
    Mutant(
        "a run goes on at the version that followers may know of registers not stored",
        "collector.sidecar.outlet",
        "state.versions[replica] = version + STEP",
        "state.versions[replica] = version + 1",
    ),
    Mutant(
        "what is retired is not remembered",
        "collector.sidecar.ledger",
        "        if retired.generation > line.retired:",
        "        if False:",
    ),
    Mutant(
        "entries that failed to be stored are not stored later",
        "collector.sidecar.ledger",
        "        self._dirty_entries = entries | self._dirty_entries\n",
        "",
    ),
    Mutant(
        "what failed to be stored is not stored later",
        "collector.sidecar.ledger",
        "        self._dirty_marks = marks | self._dirty_marks\n",
        "",
    ),
    Mutant(
        "a hole in the chain is passed over",
        "collector.sidecar.ledger",
        "        return report.follows in (0, self.last(report.process))",
        "        return True",
    ),
    Mutant(
        "a generation begins behind a hole",
        "collector.sidecar.machine",
        "self._ledger.is_news(process, total, in_line=in_line)",
        "self._ledger.is_news(process, total, in_line=True)",
    ),
    Mutant(
        "marks of an ended process go before its exit file is read",
        "collector.sidecar.machine",
        "        for report in reports:\n            if report.process == process:",
        "        self._ledger.marks.pop(process, None)\n"
        "        for report in reports:\n            if report.process == process:",
    ),
    Mutant(
        "an exit file is not read",
        "collector.sidecar.machine",
        "                self.receive(report, now_ns)\n            else:",
        "                pass\n            else:",
    ),
    Mutant(
        "a process whose socket is not drained has ended",
        "collector.sidecar.watch",
        "            if quiet_ns >= QUIET_NS or self._machine.said_last(process):",
        "            if True:",
    ),
    Mutant(
        "a paused process has ended",
        "collector.sidecar.watch",
        "            if held:\n                self._machine.alive(process, now_ns)\n"
        "                continue\n",
        "            if held and self._machine._presence.is_alive(process):\n"
        "                self._machine.alive(process, now_ns)\n                continue\n",
    ),
    Mutant(
        "closed ids are not remembered",
        "collector.sidecar.closed",
        "        return started_ns(process) < self.watermark_ns or process in self",
        "        return started_ns(process) < self.watermark_ns",
    ),
    Mutant(
        "closed ids are forgotten without a watermark",
        "collector.sidecar.closed",
        "            self.watermark_ns = max(self.watermark_ns, bucket.started_ns + 1)\n",
        "",
    ),
    Mutant(
        "closed ids are kept for ever",
        "collector.sidecar.closed",
        "        while self._buckets and (",
        "        while False and (",
    ),
    Mutant(
        "counts are dropped with their record",
        "crdt.state",
        "        if not is_counted(old) or old.last <= self.map.floor_over(path):\n"
        "            return None",
        "        return None",
    ),
    Mutant(
        "what has collapsed stays where it was",
        "crdt.state",
        "                self._remove(part, path)\n                gone[path] = cut",
        "                gone[path] = cut",
    ),
    Mutant(
        "a forgotten record's registers stay with those who follow",
        "crdt.state",
        "        self._lose(part, lost)\n        gone = dict",
        "        gone = dict",
    ),
    Mutant(
        "what a snapshot lacks is kept",
        "crdt.state",
        "return lost, [path for path in",
        "return {}, [path for path in",
    ),
    Mutant(
        "an erase does not reach counters",
        "collector.sidecar.machine",
        "                self._ledger.reset(erase.path)",
        "                pass",
    ),
    Mutant(
        "an overwrite does not reach counters",
        "collector.sidecar.machine",
        "                    self._ledger.reset(write.path)",
        "                    pass",
    ),
    Mutant(
        "a gap in a stream is passed over",
        "crdt.replication.follower",
        "        elif delta.sequence == self._known[delta.lane] + 1:",
        "        elif delta.sequence > self._known[delta.lane]:",
    ),
    Mutant(
        "a lost tail is not noticed",
        "crdt.replication.follower",
        '            if self.phase == "live" and any(',
        "            if False and any(",
    ),
    Mutant(
        "a new epoch is passed over",
        "crdt.replication.follower",
        "or message.epoch != self._epoch:",
        "or False:",
    ),
    Mutant(
        "a chunk that did not come is not asked for again",
        "crdt.replication.follower",
        "        if now_ns < self._retry_ns:",
        "        if True:",
    ),
    Mutant(
        "a snapshot is taken for that of its last chunk",
        "crdt.replication.follower",
        "        known = {lane: self._chunks[0].sequences[lane] for lane in self._lanes}",
        "        known = {lane: self._chunks[-1].sequences[lane] for lane in self._lanes}",
    ),
    Mutant(
        "what is put back is not sent again",
        "handler.shelf",
        "            if self.items.get(item.path) is item and self.sent",
        "            if False and self.sent",
    ),
    Mutant(
        "after a reconnect nothing is repeated",
        "handler.outbox",
        "        self._backlog.repeat(has_life=self.has_life)\n",
        "",
    ),
    Mutant(
        "a repetition does not say that it begins anew",
        "handler.outbox",
        "        self._follows = self._whole = 0\n        self._final_is_due",
        "        self._whole = 0\n        self._final_is_due",
    ),
    Mutant(
        "a report supersedes totals that it does not say anew",
        "handler.outbox",
        "            and counted >= said.counted\n",
        "",
    ),
    Mutant(
        "a joined report follows what the newest in it does",
        "collector.sidecar.joining",
        "            follows = kept.pop().follows",
        "            kept.pop()",
    ),
    Mutant(
        "a new generation goes on from the old total",
        "crdt.counter",
        "            return Mark(_shared(generation), total), total",
        "            return Mark(generation, total), excess(total, self.amount)",
    ),
    Mutant(
        "a monitor is not told of what is forgotten",
        "crdt.state",
        "                self._mixed = self._meets_counter(path)\n"
        "            self._touch(path, [path])",
        "                self._mixed = self._meets_counter(path)",
    ),
    Mutant(
        "what a lost store may have counted is counted again",
        "collector.sidecar.ledger",
        "total.generation < self.lines.get(process, UNHEARD).baseline:\n            more = 0",
        "total.generation < 0:\n            more = 0",
    ),
    Mutant(
        "a replica is not named where it collects",
        "collector.sidecar.machine",
        "        if self._is_to_name:",
        "        if False:",
    ),
    Mutant(
        "entries of other replicas travel along in snapshots",
        "crdt.state",
        "filling.take(paths, 0, {}, {}, part.entries)",
        "filling.take(paths, 0, {}, {}, {p: self._entries(p)[0] for p in paths})",
    ),
    Mutant(
        "what was forgotten is remembered still",
        "collector.aggregator.memory",
        "            dirty.cuts.append(Cut(record, cut, has_entries=any(ancestors(record))))",
        "            pass",
    ),
    Mutant(
        "a floor from above is not heard",
        "collector.sidecar.machine",
        "            if concerns and self.state.erase(floor.path, floor.stamp, writer):",
        "            if False:",
    ),
    Mutant(
        "a floor is passed down as newer than it is",
        "collector.aggregator.downwards",
        "Erase(path, floor.stamp, len(message.writers))",
        "Erase(path, floor.stamp + 1, len(message.writers))",
    ),
    Mutant(
        "floors stay at home",
        "crdt.state",
        "take(paths, 0, part.map.leaves, part.map.floors, {})",
        "take(paths, 0, part.map.leaves, {}, {})",
    ),
    Mutant(
        "the tie by writer is ignored",
        "crdt.lww_map",
        "(stamp == old.stamp and writer <= old.writer)",
        "stamp == old.stamp",
    ),
    Mutant(
        "stamps go back with the clock",
        "crdt.stamp",
        "max(now_ns, self.last_ns + 1)",
        "now_ns",
    ),
]

MUTANTS = FAILED_DESIGNS + SLIPS


@contextmanager
def applied(mutant: Mutant) -> Generator[None]:
    """The code with the mistake in it."""
    module = importlib.import_module(f"shardlog.{mutant.module}")
    source = inspect.getsource(module)
    found = source.count(mutant.text)
    assert found == 1, f"{mutant.module} has changed, {found} times: {mutant.mistake}"
    changed = compile(
        source.replace(mutant.text, mutant.replacement), module.__file__ or "", "exec"
    )
    codes = dict(_codes(changed))
    functions = [f for f in _functions(module) if f.__qualname__ in codes]
    before = [function.__code__ for function in functions]
    for function in functions:
        function.__code__ = codes[function.__qualname__]
    try:
        yield
    finally:
        for function, code in zip(functions, before, strict=True):
            function.__code__ = code


def seeds_to_kill(mutant: Mutant, seeds_max: int = SEEDS_MAX) -> tuple[int, str] | None:
    """How many seeds it takes to find the mistake, and the violation; None if they find nothing."""
    with applied(mutant):
        for seed in range(seeds_max):
            violation = run(generate(seed)).violation
            if violation is not None:
                return seed + 1, violation
    return None


def table(killed: Mapping[str, tuple[int, str]]) -> str:
    """Of each mistake that was found, how many seeds it took, and by what it was."""
    lines = ["seeds  mistake, and what was violated"]
    for mistake, (seeds, violation) in killed.items():
        lines.append(f"{seeds:5}  {mistake}: {violation.splitlines()[0][:60]}")
    return "\n".join(lines)


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_qualname, constant
            yield from _codes(constant)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            yield from _functions_of(value)


def _functions_of(value: Any) -> Iterator[FunctionType]:
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, property) and isinstance(value.fget, FunctionType):
        yield value.fget
    elif isinstance(value, type):
        for part in vars(value).values():
            yield from _functions_of(part)
