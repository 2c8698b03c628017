"""Case 8: what a delta costs as the state grows from a thousand leaves to a million.

A delta is a hundred leaves, as in `benchmarks.speed.leaves`, decoded and at hand. What is measured
is its merge, and what an aggregator does with it for those who follow: the rows that look different
are looked up, and made into the messages for monitors. In each turn every size takes 50 deltas.

In one series the deltas are about the thousand leaves that are heard of all the time, and the
others rest: so it is where records are done after a while and kept for a day. That is to be flat:
nothing may be done with what rests. In the other, each delta is about any records of all. That is
no flat thing even for a dict: a state of a million leaves does not fit into a processor's cache. A
bare dict is measured beside it, by the same paths in the same order.
"""

from __future__ import annotations

import gc
import random
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from benchmarks.speed.case import Case, Goal, in_turns, ratio
from benchmarks.speed.growth_nodes import measure_aggregator, measure_collector
from benchmarks.speed.leaves import RECORDS, Leaf, deltas, fragment_of, record
from shardlog.crdt.replication.view import View
from shardlog.crdt.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shardlog.crdt.delta import Fragment

SIZES = (1000, 10_000, 100_000, 1_000_000)
DELTAS = 50
FLAT = 1.3


def measure(tell: Callable[[str], object]) -> list[Case]:
    """Run the case."""
    return [measure_state(tell), measure_collector(tell), measure_aggregator(tell)]


def measure_state(tell: Callable[[str], object]) -> Case:
    """Merging, and telling monitors of it: us a delta."""
    contenders: dict[str, Callable[[], float]] = {}
    for size in SIZES:
        tell(f"a state of {size:,} leaves")
        node, bare = Node(size), Bare(size)
        contenders[_name("shardlog, recent", size)] = node.of_recent
        contenders[_name("shardlog, any", size)] = node.of_any
        contenders[_name("dict, any", size)] = bare.of_any
    values = in_turns(contenders, tell=tell)
    least, most = SIZES[0], SIZES[-1]
    goals = [
        Goal(
            "a delta to a million leaves over one to a thousand",
            ratio(values, _name("shardlog, recent", most), _name("shardlog, recent", least)),
            FLAT,
        ),
    ]
    return Case(8, "A delta of a hundred leaves", "us", values, {}, goals)


class Node:
    """A state and its view, and deltas for it."""

    def __init__(self, size: int) -> None:
        self._state = State()
        self._view = View(self._state, "node", "5f0c", interval_ms=1000, bytes_max=256 << 10)
        for delta in deltas(1, size // 10, 0):
            body: Any = delta.body
            self._state.merge(body)
        self._state.take_touched()
        self._records = range(size // 10)
        self._at = 0

    def of_recent(self) -> float:
        """What a delta about the first hundred records takes."""
        return self._take(self._records[:100])

    def of_any(self) -> float:
        """What a delta about any records takes."""
        return self._take(self._records)

    def _take(self, records: range) -> float:
        self._at += 1
        known = self._state.versions["replica-0"]
        fragments = [
            fragment_of(0, known + number, leaves)
            for number, leaves in enumerate(_told(records, self._at))
        ]
        gc.collect()
        start_ns = perf_counter_ns()
        for fragment in fragments:
            self._state.merge(fragment)
            self._view.publish(self._state.take_touched())
        return (perf_counter_ns() - start_ns) / DELTAS / 1000


class Bare:
    """A dict in its place."""

    def __init__(self, size: int) -> None:
        self._rows: dict[str, tuple[int, str, Any]] = {}
        self._records = range(size // 10)
        self._at = 0
        for delta in deltas(1, size // 10, 0):
            body: Any = delta.body
            self._merge([body])

    def of_any(self) -> float:
        """What a delta about any records takes."""
        self._at += 1
        told = _told(self._records, self._at)
        fragments = [fragment_of(0, number, leaves) for number, leaves in enumerate(told)]
        gc.collect()
        start_ns = perf_counter_ns()
        self._merge(fragments)
        return (perf_counter_ns() - start_ns) / DELTAS / 1000

    def _merge(self, fragments: Iterable[Fragment]) -> None:
        rows = self._rows
        for fragment in fragments:
            (writer,) = fragment.writers
            for write in fragment.writes:
                old = rows.get(write.path)
                if old is None or write.stamp > old[0]:
                    rows[write.path] = write.stamp, writer, write.value
            for entry in fragment.entries:
                old = rows.get(entry.path)
                if old is None or entry.last > old[0]:
                    rows[entry.path] = entry.last, writer, entry.amount


def _told(records: range, at: int) -> Iterator[list[Leaf]]:
    chance = random.Random(at)
    for _ in range(DELTAS):
        numbers = [chance.choice(records) for _ in range(RECORDS)]
        yield [leaf for number in numbers for leaf in record(0, number, at, chance)]


def _name(series: str, size: int) -> str:
    return f"{series}, {size:,} leaves"
