"""Virtual time: what happens when, and links that lose, repeat and delay what they carry."""

from __future__ import annotations

import heapq
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.steps import MS

if TYPE_CHECKING:
    from collections.abc import Callable

TURN_NS = 10 * MS
"""What one turn of a loop takes at least: what arrives meanwhile is taken in together."""
START_NS = 1_700_000_000_000 * MS


class Clockwork:
    """The one clock that is right, and what is to happen by it, in order."""

    def __init__(self, seed: int) -> None:
        self.now_ns = START_NS
        self.slept_ns = 0
        """How long all machines were suspended."""
        self.flying = 0
        """How many messages are under way."""
        self.sent = self.lost = self.repeated = 0
        self.loss = self.duplication = 0.0
        self.delay_ns = 5 * MS
        self.trace: list[str] | None = None
        """Where it is noted who did something when, if somebody wants to know."""
        self._seed = seed
        self._order = count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    @property
    def monotonic_ns(self) -> int:
        """What `time.monotonic_ns` shows, which stands still while a machine is suspended."""
        return self.now_ns - self.slept_ns

    def rng(self, name: str) -> Random:
        """The chance of one link or node: leaving out what others do leaves it as it is."""
        return Random(f"{self._seed} {name}")

    def at(self, at_ns: int, do: Callable[[], None]) -> None:
        """Have something done at a time. O(log n)."""
        heapq.heappush(self._events, (at_ns, next(self._order), do))

    def run_until(self, end_ns: int) -> None:
        """Let time pass."""
        events = self._events
        while events and events[0][0] <= end_ns:
            at_ns, _, do = heapq.heappop(events)
            self.now_ns = max(self.now_ns, at_ns)
            do()
        self.now_ns = end_ns


class Node:
    """Something with a loop of its own, which wakes up when there is something to do."""

    def __init__(self, clockwork: Clockwork, name: str) -> None:
        self.clockwork = clockwork
        self.name = name
        self.is_up = False
        self.life: int = 0
        """How often it has started: what was sent to an earlier life is lost."""
        self.skew_ns = 0
        self.paused_ns = 0
        """Until when it stands still."""
        self._rested_ns = 0
        self._wake_ns = 0
        """When it wakes up next, 0 if never."""

    @property
    def wall_ns(self) -> int:
        """What its clock shows."""
        return self.clockwork.now_ns + self.skew_ns

    def wake_at(self, at_ns: int) -> None:
        """Wake up at this time, or before."""
        at_ns = max(at_ns, self.clockwork.now_ns)
        if not self._wake_ns or at_ns < self._wake_ns:
            self._wake_ns = at_ns
            self.clockwork.at(at_ns, self._woken)

    def pause(self, duration_ns: int) -> None:
        """Stand still."""
        self.paused_ns = self.clockwork.now_ns + duration_ns

    def resume(self) -> None:
        """Go on."""
        self.paused_ns = 0
        self.wake_at(self.clockwork.now_ns)

    def turn(self) -> int:
        """One turn of the loop; how long it may rest (ns)."""
        raise NotImplementedError

    def _woken(self) -> None:
        now_ns = self.clockwork.now_ns
        if not self._wake_ns or now_ns < self._wake_ns:
            return
        self._wake_ns = 0
        if not self.is_up:
            return
        if now_ns < self.paused_ns:
            self.wake_at(self.paused_ns)
            return
        if now_ns < self._rested_ns:
            self.wake_at(self._rested_ns)
            return
        self._rested_ns = now_ns + TURN_NS
        if self.clockwork.trace is not None:
            self.clockwork.trace.append(f"{now_ns} {self.name}")
        rest_ns = self.turn()
        if self.is_up:
            self.wake_at(now_ns + rest_ns)


class Cable:
    """What connects two nodes. Each `Wire` of it keeps the order of what it carries."""

    def __init__(self, clockwork: Clockwork, lower: str, upper: str) -> None:
        self.clockwork = clockwork
        self.name = f"{lower} {upper}"
        self.cut_ns = 0
        self._wires: dict[str, Wire] = {}

    @property
    def is_cut(self) -> bool:
        return self.clockwork.now_ns < self.cut_ns

    def wire(self, kind: str) -> Wire:
        """One direction of one connection."""
        wire = self._wires.get(kind)
        if wire is None:
            wire = self._wires[kind] = Wire(self, self.clockwork.rng(f"{self.name} {kind}"))
        return wire


class Wire:
    """Carries messages in order, as far as they arrive."""

    def __init__(self, cable: Cable, rng: Random) -> None:
        self._cable = cable
        self._rng = rng
        self._last_ns = 0

    def send(self, node: Node, deliver: Callable[[], None]) -> None:
        """Have a message delivered to a node, to this life of it."""
        clockwork, random = self._cable.clockwork, self._rng.random
        is_lost = bool(clockwork.loss) and random() < clockwork.loss
        if is_lost or not node.is_up or self._cable.is_cut:
            clockwork.lost += 1
            return
        is_repeated = bool(clockwork.duplication) and random() < clockwork.duplication
        clockwork.repeated += is_repeated
        life = node.life

        def arrive() -> None:
            clockwork.flying -= 1
            if node.is_up and node.life == life:
                deliver()
                node.wake_at(clockwork.now_ns)

        for _ in range(1 + is_repeated):
            delay_ns = int(random() * clockwork.delay_ns)
            self._last_ns = max(clockwork.now_ns + delay_ns, self._last_ns)
            clockwork.flying += 1
            clockwork.sent += 1
            clockwork.at(self._last_ns, arrive)
