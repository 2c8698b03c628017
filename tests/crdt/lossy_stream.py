"""A publisher and a follower on links that lose, repeat and delay, in virtual time.

Safety is checked with every effect: what is installed and applied has no hole and comes once, and
after it the replica is, lane by lane, what the source was at the sequence that is known.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from shardlog.crdt.replication.follower import Follower
from shardlog.crdt.replication.messages import (
    Apply,
    Ask,
    Changes,
    Delta,
    Install,
    Row,
    SnapshotChunk,
    SnapshotRequest,
)
from shardlog.crdt.replication.publisher import Publisher

MS = 1_000_000
SECOND = 1000 * MS
INTERVAL_MS = 1000
LANES = 3
PATHS = [f"{lane}/{name}" for lane in range(LANES) for name in "abcd"]

Event = Literal["write", "beat", "restart", "renew", "timer", "stream", "ask", "chunk"]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What the links and machines do until they are healed; probabilities per message."""

    loss: float = 0.0
    repetition: float = 0.0
    reordering: float = 0.0
    restarts: float = 0.0
    """Per write: the source begins a new epoch."""
    renewals: float = 0.0
    """Per write: the follower's process is replaced by a new one."""
    delay_ms_max: int = 50


def lane_of(path: str) -> int:
    """The lane of one of the PATHS."""
    return int(path[0])


class Simulation:
    """One source, one follower, three links; everything comes from the seed."""

    def __init__(
        self,
        seed: int,
        faults: Faults,
        *,
        buffer_deltas_max: int = 1000,
        lanes: tuple[int, ...] = tuple(range(LANES)),
        follower_class: type[Follower] = Follower,
    ) -> None:
        self.faults = faults
        self.now_ns = 0
        self.trace: list[str] = []
        self.installs = 0
        self.gaps = 0
        self._rng = Random(seed)
        self._lanes = lanes
        self._follower_class = follower_class
        self._buffer_deltas_max = buffer_deltas_max
        self._events: list[tuple[int, int, Event, Any]] = []
        self._count = 0
        self._arrival_ns = {"stream": 0, "ask": 0, "chunk": 0}
        self._timer_ns: int | None = None

        self.truth: dict[str, int] = {}
        self._then: dict[tuple[str, int, int], dict[str, int]] = {}
        self._restart()

        self.follower = self._new_follower()
        self.replica: dict[str, int] = {}
        self._epoch = ""
        self._known: dict[int, int] = {}
        self._at(0, "beat")

    def run(self, until_ns: int, writes_ms: int | None) -> None:
        """Go on until then, with a write about every `writes_ms`, or none."""
        if writes_ms is not None:
            at_ns = self.now_ns
            while at_ns < until_ns:
                at_ns += self._rng.randint(1, 2 * writes_ms) * MS
                self._at(at_ns, "write")
                if self._rng.random() < self.faults.restarts:
                    self._at(at_ns, "restart")
                if self._rng.random() < self.faults.renewals:
                    self._at(at_ns, "renew")
        while self._events and self._events[0][0] <= until_ns:
            self.now_ns, _, event, payload = heapq.heappop(self._events)
            self._step(event, payload)
        self.now_ns = until_ns

    def is_whole(self) -> bool:
        """Whether the follower is live and the replica equals the source."""
        truth = {p: v for p, v in self.truth.items() if lane_of(p) in self._lanes}
        return self.follower.phase == "live" and self.replica == truth

    def _step(self, event: Event, payload: Any) -> None:
        if event == "write":
            self._write()
        elif event == "restart":
            self._restart()
        elif event == "renew":
            self.gaps += self.follower.gaps
            self.follower = self._new_follower()
            self._epoch = ""
        elif event == "beat":
            if self.now_ns >= self._publisher.next_heartbeat_ns:
                self._send("stream", self._publisher.heartbeat(self.now_ns, [], {}))
            self._at(self._publisher.next_heartbeat_ns, "beat")
        elif event == "ask":
            self._answer(payload)
        elif event == "timer":
            self.follower.handle_timer(self.now_ns)
            self._obey()
        else:
            self.follower.receive(payload, self.now_ns)
            self._obey()

    def _new_follower(self) -> Follower:
        return self._follower_class(
            "source",
            lanes=self._lanes,
            rng=self._rng,
            buffer_deltas_max=self._buffer_deltas_max,
        )

    def _at(self, at_ns: int, event: Event, payload: Any = None) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_ns, self._count, event, payload))

    def _send(self, link: Literal["stream", "ask", "chunk"], message: Any) -> None:
        while self._rng.random() >= self.faults.loss:
            at_ns = self.now_ns + self._rng.randint(0, self.faults.delay_ms_max) * MS
            if self._rng.random() >= self.faults.reordering:
                at_ns = self._arrival_ns[link] = max(at_ns, self._arrival_ns[link])
            self._at(at_ns, link, message)
            if self._rng.random() >= self.faults.repetition:
                break

    def _restart(self) -> None:
        self._publisher = Publisher(
            "source", f"epoch-{self._count}", lanes=LANES, interval_ms=INTERVAL_MS
        )
        self._sequences = [0] * LANES
        for path in [p for p in self.truth if self._rng.random() < 0.3]:
            del self.truth[path]
        for lane in range(LANES):
            self._remember(lane)

    def _remember(self, lane: int) -> None:
        self._then[self._publisher.epoch, lane, self._sequences[lane]] = {
            path: value for path, value in self.truth.items() if lane_of(path) == lane
        }

    def _write(self) -> None:
        path = self._rng.choice(PATHS)
        lane = lane_of(path)
        self._count += 1
        if path in self.truth and self._rng.random() < 0.2:
            del self.truth[path]
            row = Row(path, 2, None, self._count, -1)
        else:
            self.truth[path] = self._count
            row = Row(path, 0, self._count, self._count, -1)
        delta = self._publisher.delta(lane, Changes([], [row]))
        self._sequences[lane] += 1
        assert delta.sequence == self._sequences[lane]
        self._remember(lane)
        self._send("stream", delta)

    def _answer(self, request: SnapshotRequest) -> None:
        left = sorted(path for path in self.truth if path > (request.after or ""))
        rows = [Row(path, 0, self.truth[path], 0, -1) for path in left[:2]]
        following = left[1] if len(left) > 2 else None
        self._send("chunk", self._publisher.chunk(request, Changes([], rows), following))

    def _obey(self) -> None:
        effects = self.follower.take_effects()
        assert not any(isinstance(effect, Ask) for effect in effects[:-1])
        for effect in effects:
            if isinstance(effect, Ask):
                self._note(f"ask {effect.message.request} {effect.message.after}")
                self._send("ask", effect.message)
            elif isinstance(effect, Install):
                self._install(effect)
            else:
                self._apply(effect)
        timer_ns = self.follower.next_timer_ns()
        if timer_ns is not None and timer_ns != self._timer_ns:
            self._at(max(timer_ns, self.now_ns), "timer")
        self._timer_ns = timer_ns

    def _install(self, effect: Install) -> None:
        self.installs += 1
        first, last = effect.chunks[0], effect.chunks[-1]
        assert (effect.source, first.after, last.next) == ("source", None, None)
        assert {chunk.epoch for chunk in effect.chunks} == {first.epoch}
        for chunk, following in zip(effect.chunks, effect.chunks[1:], strict=False):
            assert chunk.next == following.after
        self._epoch = first.epoch
        self._known = {lane: first.sequences[lane] for lane in self._lanes}
        self.replica = {}
        for chunk in effect.chunks:
            self._merge(chunk)
        for delta in effect.deltas:
            self._take(delta)
        for lane in self._lanes:
            assert self._known[lane] >= last.sequences[lane]
            self._check(lane)
        self._note(f"install {self._epoch} {self._known}")

    def _apply(self, effect: Apply) -> None:
        self._take(effect.delta)
        self._check(effect.delta.lane)
        self._note(f"apply {effect.delta.lane} {effect.delta.sequence}")

    def _take(self, delta: Delta) -> None:
        assert delta.epoch == self._epoch
        assert delta.sequence == self._known[delta.lane] + 1
        self._known[delta.lane] += 1
        self._merge(delta)

    def _merge(self, message: Delta | SnapshotChunk) -> None:
        assert isinstance(message.body, Changes)
        for row in message.body.rows:
            if lane_of(row.path) not in self._lanes:
                continue
            if row.value is None:
                self.replica.pop(row.path, None)
            else:
                assert isinstance(row.value, int)
                self.replica[row.path] = row.value

    def _check(self, lane: int) -> None:
        seen = {path: value for path, value in self.replica.items() if lane_of(path) == lane}
        assert seen == self._then[self._epoch, lane, self._known[lane]]

    def _note(self, what: str) -> None:
        self.trace.append(f"{self.now_ns} {what}")


def swarm(seed: int, follower_class: type[Follower] = Follower) -> Simulation:
    """Trouble of kinds that the seed chooses, then health: it must be whole again.

    Health is: no more faults, no more writes, and time for the longest pause between two attempts.
    """
    rng = Random(seed)
    faults = Faults(
        loss=rng.choice([0, 0.02, 0.3]),
        repetition=rng.choice([0, 0.2]),
        reordering=rng.choice([0, 0, 0.1]),
        restarts=rng.choice([0, 0.01, 0.1]),
        renewals=rng.choice([0, 0, 0.02]),
        delay_ms_max=rng.choice([0, 50, 1500]),
    )
    simulation = Simulation(
        seed,
        faults,
        buffer_deltas_max=rng.choice([1, 3, 1000]),
        lanes=rng.choice([(0, 1, 2), (1,), (2, 0)]),
        follower_class=follower_class,
    )
    simulation.run(20 * SECOND, writes_ms=rng.choice([20, 100, 1000]))
    simulation.faults = Faults()
    simulation.run(220 * SECOND, writes_ms=None)
    assert simulation.is_whole(), f"seed={seed}: not whole after it was healed"
    simulation.run(230 * SECOND, writes_ms=100)
    simulation.run(232 * SECOND, writes_ms=None)
    assert simulation.is_whole(), f"seed={seed}: did not stay whole"
    return simulation


def trace_of(seeds: range) -> str:
    """All that followers did, as one text."""
    return "\n".join("\n".join(swarm(seed).trace) for seed in seeds)
