"""Case 4: an aggregator merges what it hears: ns a leaf.

Ten hosts, 20,000 leaves that exist already, a fifth of them counters; frames of a hundred leaves
with newer values. shardlog decodes and checks a frame, merges it, and names the paths that look
different: what an aggregator does with it, but for telling others.

- *bare loop*: what a program must do at least. It decodes the same bytes into the same structs,
  trusts them, looks each path up in a dict, compares stamp and writer, and stores value, stamp and
  writer; an entry of a counter in a dict of its replica.
- *bare loop, checked*: the same behind shardlog's decoder, which lets nothing in that is no path,
  no value or no amount. It says how much of the difference that is.
- *pycrdt*: each host has a `Doc` with its paths as keys of one `Map`, not as nested maps. The
  hundred sets of a frame are one transaction, as its docs advise, and one update from
  `get_update(state)`; `apply_update` takes it in. A counter is a value like any other: pycrdt has
  none.
- *loro*: the same with a `LoroMap`, `commit`, `ExportMode.Updates`, and `import_`. `import_batch`,
  which its docs name for many updates at once, takes longer.

Neither checks a path, knows when or by whom a value was said, or names what has changed. All
updates and frames are made beforehand. Both are compiled Rust; nothing is read from what they hold.
"""

from __future__ import annotations

import gc
from importlib import import_module
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.speed.case import TURNS, Case, Goal, in_turns, ratio
from benchmarks.speed.leaves import LEAVES, deltas, tellings
from shardlog.crdt.delta import Fragment
from shardlog.crdt.replication.messages import Delta, Heartbeat, SnapshotChunk
from shardlog.crdt.state import State
from shardlog.crdt.wire.codec import decode_stream, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardlog.crdt.delta import Entry, Value

HOSTS = 10
RECORDS = 200
SHARE = 0.8
"""Of the bare loop's throughput."""
TIMES = 5
"""The throughput of others."""


def measure(tell: Callable[[str], object]) -> Case:
    """Run the case."""
    tell("the frames")
    frames = [[encode(d) for d in deltas(HOSTS, RECORDS, at)] for at in range(TURNS + 2)]
    contenders: dict[str, Callable[[], float]] = {
        "shardlog": _timed(Merging(), frames),
        "bare loop": _timed(BareLoop(_decode), frames),
        "bare loop, checked": _timed(BareLoop(decode_stream), frames),
    }
    missing: dict[str, str] = {}
    for name, made in (("pycrdt", _pycrdt), ("loro", _loro)):
        try:
            module = import_module(name)
        except ImportError as error:
            missing[name] = f"{error}: pip install {name}"
        else:
            tell(f"the updates of {name}")
            contenders[name] = _timed(*made(module))
    values = in_turns(contenders, tell=tell)
    goals = [
        Goal("throughput over the bare loop's", ratio(values, "bare loop", "shardlog"), SHARE, True)
    ]
    goals += [
        Goal(f"throughput over {name}'s", ratio(values, name, "shardlog"), TIMES, True)
        for name in ("pycrdt", "loro")
        if name in values
    ]
    return Case(4, "Merging what an aggregator hears", "ns a leaf", values, missing, goals)


class Merging:
    """What shardlog does."""

    def __init__(self) -> None:
        self._state = State()

    def __call__(self, frames: list[bytes]) -> None:
        """Take in frames, each a batch."""
        state = self._state
        for frame in frames:
            message = decode_stream(frame)
            assert isinstance(message, Delta)
            assert isinstance(message.body, Fragment)
            state.merge(message.body)
            state.take_touched()


class BareLoop:
    """What one has to do at least."""

    def __init__(self, decode: Callable[[bytes], Any]) -> None:
        self._decode = decode
        self.registers: dict[str, tuple[int, str, Value]] = {}
        self.counters: dict[str, dict[str, Entry]] = {}

    def __call__(self, frames: list[bytes]) -> None:
        """Take in frames."""
        registers, decode = self.registers, self._decode
        for frame in frames:
            fragment: Any = decode(frame).body
            writers = fragment.writers
            for write in fragment.writes:
                path, stamp, writer = write.path, write.stamp, writers[write.writer]
                old = registers.get(path)
                if old is None or stamp > old[0] or (stamp == old[0] and writer > old[1]):
                    registers[path] = stamp, writer, write.value
            counters = self.counters.setdefault(fragment.replica, {})
            for entry in fragment.entries:
                path = entry.path
                known = counters.get(path)
                if known is None or entry.last > known.last:
                    counters[path] = entry


_decoder = msgspec.msgpack.Decoder(Delta | Heartbeat | SnapshotChunk)


def _decode(frame: bytes) -> Any:
    return _decoder.decode(memoryview(frame)[1:])


def _timed(take: Callable[[list[bytes]], object], rounds: list[list[bytes]]) -> Callable[[], float]:
    """Each call takes in a round and says ns a leaf; the first round makes the paths."""
    take(rounds[0])
    ahead = iter(rounds[1:])

    def run() -> float:
        frames = next(ahead)
        gc.collect()
        start_ns = perf_counter_ns()
        take(frames)
        return (perf_counter_ns() - start_ns) / (HOSTS * RECORDS * LEAVES)

    return run


def _rounds() -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
    for at in range(TURNS + 2):
        yield (
            (host, {leaf.path: leaf.value for leaf in leaves})
            for host, leaves in tellings(HOSTS, RECORDS, at)
        )


def _pycrdt(pycrdt: Any) -> tuple[Callable[[list[bytes]], object], list[list[bytes]]]:
    hosts = [pycrdt.Doc({"state": pycrdt.Map()}) for _ in range(HOSTS)]
    rounds: list[list[bytes]] = []
    for tellings_ in _rounds():
        rounds.append([])
        for number, values in tellings_:
            host = hosts[number]
            before = host.get_state()
            with host.transaction():
                host["state"].update(values)
            rounds[-1].append(host.get_update(before))
    target = pycrdt.Doc({"state": pycrdt.Map()})

    def take(updates: list[bytes]) -> None:
        for update in updates:
            target.apply_update(update)

    return take, rounds


def _loro(loro: Any) -> tuple[Callable[[list[bytes]], object], list[list[bytes]]]:
    hosts = [loro.LoroDoc() for _ in range(HOSTS)]
    rounds: list[list[bytes]] = []
    for tellings_ in _rounds():
        rounds.append([])
        for number, values in tellings_:
            host = hosts[number]
            before, state = host.oplog_vv, host.get_map("state")
            for path, value in values.items():
                state.insert(path, value)
            host.commit()
            rounds[-1].append(bytes(host.export(loro.ExportMode.Updates(before))))
    target = loro.LoroDoc()

    def take(updates: list[bytes]) -> None:
        for update in updates:
            target.import_(update)

    return take, rounds
