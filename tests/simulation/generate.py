"""Schedules from seeds: what happens, how often, and what is left out."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.simulation.steps import (
    Backup,
    Break,
    CrashAggregator,
    CrashCollector,
    CrashPoint,
    Cut,
    Exit,
    FailStore,
    GoBack,
    Kill,
    Layout,
    Log,
    LoseStore,
    Pause,
    Schedule,
    Sleep,
    Start,
    Step,
    StepClock,
    Wait,
    Weather,
)

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount, Value

CRASH_POINTS: tuple[CrashPoint, ...] = (
    "at rest",
    "before the commit",
    "behind the commit",
    "within publishing",
    "before acknowledging",
    "within acknowledging",
)
WAITS_MS = (1, 5, 20, 60, 60, 150, 150, 400, 400, 1200)
SHORT_MS = (50, 200, 600, 1500)
LONG_MS = (300, 1000, 2500, 6000)
STEPS_MS = (-600_000, -5_000, -1_000, -40, 40, 1_000, 5_000, 600_000)


def generate(seed: int) -> Schedule:
    """The schedule of a seed. Which features there are is chosen first, so that each is alone
    in some schedules.
    """
    return _Generator(seed).schedule()


class _Generator:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = rng = Random(seed)
        chance = rng.random
        forgets = chance() < 0.3
        erases = not forgets and chance() < 0.4
        has_life = chance() < 0.8
        self.layout = Layout(
            hosts=rng.choice((1, 2, 2, 3)),
            aggregators=rng.choice((1, 2)),
            monitors=rng.choice((1, 1, 2)),
            is_tree=chance() < 0.2,
            remembers=chance() < 0.3,
            retention_s=rng.choice((3, 8)) if forgets else 0,
            bytes_max=rng.choice((200, 2000, 2000)),
            report_bytes=rng.choice((150, 100_000, 100_000)),
            idle_ms=rng.choice((500, 600_000)),
            has_life=has_life,
            erases=erases,
            ends=has_life and chance() < 0.2,
            replays=has_life and chance() < 0.2,
        )
        self._shares = not forgets or chance() < 0.5
        self._steps_clocks = chance() < 0.2
        self._loses_stores = has_life and chance() < 0.15
        self._sleeps = not erases and chance() < 0.05
        self._processes: list[tuple[int, int]] = []
        self._next = 1

    def schedule(self) -> Schedule:
        rng = self._rng
        steps: list[Step] = [self._start() for _ in range(rng.randint(1, self.layout.hosts + 1))]
        if rng.random() < 0.7:
            steps.append(
                Weather(rng.choice((0, 10, 30)), rng.choice((0, 10)), rng.choice((5, 100, 400)))
            )
        for _ in range(rng.randint(32, 70)):
            if rng.random() < 0.02:
                steps += self._go_back() if self._loses_stores else self._stall()
            else:
                steps.append(self._step())
            if rng.random() < 0.6:
                steps.append(Wait(rng.choice(WAITS_MS)))
        if rng.random() < 0.2:
            steps += self._tell_too_early()
        return Schedule(self._seed, self.layout, tuple(steps))

    def _stall(self) -> list[Step]:
        """A collector does not read while its processes go on, and then something ends."""
        rng = self._rng
        number, host = rng.choice(self._processes[-3:])
        steps: list[Step] = [Pause(f"collector {host}", rng.choice((600, 2500)))]
        for _ in range(rng.randint(2, 6)):
            steps += [self._log(rng.choice((number, number, None))), Wait(60)]
        end = CrashCollector(host, rng.choice(CRASH_POINTS[:2]), rng.choice(SHORT_MS))
        return [*steps, rng.choice((end, end, Kill(number), Exit(number)))]

    def _tell_too_early(self) -> list[Step]:
        """A collector dies that has told of registers, and not stored them; who said them, too."""
        rng = self._rng
        number, host = rng.choice(self._processes[-3:])
        when: CrashPoint = rng.choice(("before the commit", "within publishing"))
        writes = tuple((f"u/{n}", rng.randint(1, 99)) for n in range(rng.choice((1, 1, 12))))
        said = Log(number, (), writes)
        return [Wait(150), CrashCollector(host, when, 600), said, Wait(60), Kill(number)]

    def _go_back(self) -> list[Step]:
        """What a collector says after its copy was made is said again after it was put back, before
        anybody can ask.
        """
        rng = self._rng
        number, host = rng.choice(self._processes[-3:])
        before: list[Step] = [
            Backup(host),
            self._log(number),
            Wait(60),
            self._log(number),
            Wait(150),
        ]
        uppers = (host % self.layout.aggregators,) if self.layout.is_tree else range(2)
        after: list[Step] = [Cut(f"collector {host}", f"aggregator {n}", 500) for n in uppers]
        after += [GoBack(host, 50), Wait(60)]
        for _ in range(rng.randint(2, 6)):
            after += [self._log(number), Wait(60)]
        return [*before, *after]

    def _step(self) -> Step:
        rng, layout = self._rng, self.layout
        if self._loses_stores and rng.random() < 0.06:
            host, ms = rng.randrange(layout.hosts), rng.choice(SHORT_MS)
            back = GoBack(host, ms)
            return rng.choice((Backup(host), Backup(host), LoseStore(host, ms), back, back))
        n = rng.random()
        if n < 0.62:
            return self._log()
        if n < 0.67:
            return self._start()
        if n < 0.72:
            return rng.choice((Kill, Exit, Exit))(self._process())
        if n < 0.75:
            return Break(self._process())
        if n < 0.79:
            return Pause(self._node(), rng.choice(LONG_MS))
        if n < 0.87:
            host = rng.randrange(layout.hosts)
            return CrashCollector(host, rng.choice(CRASH_POINTS), rng.choice(SHORT_MS))
        if n < 0.89:
            return FailStore(rng.randrange(layout.hosts), rng.choice(SHORT_MS))
        if n < 0.92:
            return CrashAggregator(self._aggregator(), rng.choice(SHORT_MS))
        if n < 0.95:
            return self._cut()
        if n < 0.96 and self._steps_clocks:
            # In a tree a host is stale until its clock has caught up: `collector.aggregator.roll`.
            steps_ms = STEPS_MS[1:] if layout.is_tree else STEPS_MS
            return StepClock(self._clock(), rng.choice(steps_ms))
        if n < 0.965 and self._sleeps:
            return Sleep(rng.choice((1, 23, 25)))
        return Wait(rng.choice((1000, 2500)))

    def _start(self) -> Start:
        rng = self._rng
        number, self._next = self._next, self._next + 1
        if self._processes and rng.random() < 0.3:
            parent, host = rng.choice(self._processes)
            self._processes.append((number, host))
            return Start(host, number, parent)
        host = rng.randrange(self.layout.hosts)
        self._processes.append((number, host))
        return Start(host, number)

    def _process(self) -> int:
        return self._rng.choice(self._processes[-5:])[0]

    def _node(self) -> str:
        rng, layout = self._rng, self.layout
        kind = rng.random()
        if kind < 0.5:
            return f"process {self._process()}"
        if kind < 0.8:
            return f"collector {rng.randrange(layout.hosts)}"
        if kind < 0.95:
            return f"aggregator {self._aggregator()}"
        return f"monitor {rng.randrange(layout.monitors)}"

    def _clock(self) -> str:
        rng, layout = self._rng, self.layout
        if rng.random() < 0.8:
            return f"collector {rng.randrange(layout.hosts)}"
        return f"aggregator {self._aggregator()}"

    def _aggregator(self) -> int:
        return self._rng.randrange(self.layout.aggregators + self.layout.is_tree)

    def _cut(self) -> Cut:
        rng, layout = self._rng, self.layout
        top = layout.aggregators
        if rng.random() < 0.6:
            host = rng.randrange(layout.hosts)
            upper = host % top if layout.is_tree else rng.randrange(top)
            return Cut(f"collector {host}", f"aggregator {upper}", rng.choice(LONG_MS))
        if layout.is_tree and rng.random() < 0.5:
            lower = f"aggregator {rng.randrange(top)}"
            return Cut(lower, f"aggregator {top}", rng.choice(LONG_MS))
        monitor = rng.randrange(layout.monitors)
        served = top + layout.is_tree - 1 - monitor % (top + layout.is_tree)
        return Cut(f"aggregator {served}", f"monitor {monitor}", rng.choice(LONG_MS))

    def _log(self, process: int | None = None) -> Log:
        rng = self._rng
        known = self._processes[-5:]
        number, host = rng.choice([p for p in known if p[0] == process] or known)
        counts: list[tuple[str, Amount]] = []
        writes: list[tuple[str, Value]] = []
        erases: list[str] = []
        record = (
            f"t/{rng.choice((1, 1, 2, 3))}" if self._shares else f"t/{host}-{rng.randint(1, 3)}"
        )
        cfg = "cfg/a" if self._shares else f"cfg/{host}"
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            kind = rng.random()
            if kind < 0.6:
                path = rng.choice(
                    ("n", f"{record}/n", f"{record}/n", f"{record}/m/x", f"{record}/f")
                )
                counts.append((path, self._amount() if path.endswith("f") else rng.randint(1, 9)))
            elif kind < 0.8:
                writes.append((rng.choice((f"{record}/by", "last", cfg)), rng.randint(1, 99)))
            elif kind < 0.92:
                path = rng.choice((cfg, f"{cfg}/b", f"{cfg}/b/c"))
                values: tuple[Value, ...] = (rng.randint(1, 9), {}, {}, "text")
                writes.append((path, rng.choice(values)))
            else:
                erases.append(rng.choice((cfg, f"{cfg}/b", "cfg")) if self._shares else cfg)
        if self.layout.erases and rng.random() < 0.5:
            self._own(number, counts, writes, erases)
        return Log(number, tuple(counts), tuple(writes), tuple(erases))

    def _own(
        self,
        number: int,
        counts: list[tuple[str, Amount]],
        writes: list[tuple[str, Value]],
        erases: list[str],
    ) -> None:
        """Where one process alone counts and erases, what shows is known exactly."""
        rng = self._rng
        kind = rng.random()
        own = f"own/{number}"
        if kind < 0.45:
            counts.append((rng.choice((f"{own}/n", f"{own}/m/n")), rng.randint(1, 9)))
        elif kind < 0.6:
            erases.append(rng.choice((own, f"{own}/m", f"{own}/n")))
        elif kind < 0.7:
            writes.append((rng.choice((f"{own}/m", f"{own}/m/n")), rng.randint(1, 9)))
        else:
            erases.append(rng.choice(("t", "t/1", "t/1/n", "t/2/m")))

    def _amount(self) -> Amount:
        return self._rng.choice((1, (0, 0, 2, 0), (0, 100_000_000, 0, 0), (0, 0, 0, 300_000_000)))
