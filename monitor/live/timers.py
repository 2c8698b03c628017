"""Who is due when: a heap from which nothing is taken but its first. Pure.

A time that is another by now stays in the heap until it is there, as whoever is due says then, or
until half of the heap are such: so it is as large as what is due, however often that changes.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.monitor.live.instance import Instance

FEW = 64
"""So many are not worth the tidying."""


class Timers:
    """Of instances. `due_ns_of` says when one is due by now, None if never."""

    def __init__(self, due_ns_of: Callable[[Instance], int | None]) -> None:
        self._due_ns_of = due_ns_of
        self._order = count()
        self._heap: list[tuple[int, int, Instance]] = []
        self._tidied_at = FEW
        """How large the heap may become."""

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due_ns: int, instance: Instance) -> None:
        """From now on it is due then. O(log n), amortized."""
        heapq.heappush(self._heap, (due_ns, next(self._order), instance))
        if len(self._heap) > self._tidied_at:
            self._tidy()

    def first_ns(self) -> int | None:
        """When the first is due, None if nobody is. O(log n) for each that is not any more."""
        heap = self._heap
        while heap and self._due_ns_of(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, until_ns: int) -> Instance | None:
        """The first that is due up to then, None if nobody is. O(log n), as `first_ns`."""
        heap = self._heap
        while heap and heap[0][0] <= until_ns:
            due_ns, _, instance = heapq.heappop(heap)
            if self._due_ns_of(instance) == due_ns:
                return instance
        return None

    def _tidy(self) -> None:
        kept: dict[Instance, tuple[int, int, Instance]] = {}
        for timer in sorted(self._heap):
            if self._due_ns_of(timer[2]) == timer[0]:
                kept.setdefault(timer[2], timer)
        self._heap = [*kept.values()]
        self._tidied_at = max(2 * len(self._heap), FEW)
