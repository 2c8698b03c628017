"""A monitor that looks at one total all the time, and notes whenever it was lower than before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardlog.monitor import Cluster

LOOK_S = 0.02


@dataclass
class Dip:
    """For so long a total was below what it had been, by so much at most. Monotonic seconds."""

    began_s: float
    ended_s: float
    depth: float


class Sight(Thread):
    """Looks until it is closed."""

    def __init__(self, cluster: Cluster, pattern: str) -> None:
        super().__init__(daemon=True)
        self.looks = 0
        self.highest: float = 0
        self.dips: list[Dip] = []
        self._cluster = cluster
        self._pattern = pattern
        self._closes = Event()
        self._dip: Dip | None = None

    def run(self) -> None:
        """Look, note, rest."""
        while not self._closes.wait(LOOK_S):
            self.see(self._cluster.total(self._pattern), time.monotonic())

    def see(self, total: float, now_s: float) -> None:
        """Note what the total is now."""
        self.looks += 1
        if total >= self.highest:
            self.highest = total
            self._dip = None
            return
        if self._dip is None:
            self._dip = Dip(now_s, now_s, 0)
            self.dips.append(self._dip)
        self._dip.ended_s = now_s
        self._dip.depth = max(self._dip.depth, self.highest - total)

    def close(self) -> None:
        """Stop looking."""
        self._closes.set()
        self.join()
