"""Rates against what was counted really: exact, or said to be unknown, whatever goes missing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.delta import COUNTER, ERASED, FORGOTTEN, REGISTER
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.replication.messages import Changes, Heartbeat, HostStatus, Row
from shardlog.crdt.sketch import bucket, number
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.rates import (
    RETURN_NS,
    STEPS,
    WINDOWS,
    Fold,
    Look,
    Rate,
    Rates,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

SECOND = 10**9
MS = 10**6
T = 10**6 * SECOND
"""When it all begins."""
LENGTHS = tuple(WINDOWS.values())


def changes(**totals: int | float) -> Changes:
    return Changes([], [Row(path, COUNTER, total, 1, -1) for path, total in totals.items()])


def gone(path: str, kind: Any, *more: Row) -> Changes:
    return Changes([], [Row(path, kind, None, 1, -1), *more])


def counter_row(path: str, total: int | float) -> Row:
    return Row(path, COUNTER, total, 1, -1)


def beat(at_ns: int, *hosts: HostStatus) -> Heard:
    return Heard(at_ns, Heartbeat("a", "e", at_ns, 1000, [], [*hosts], {}))


def live(name: str, heard_ns: int, run: str = "1") -> HostStatus:
    return HostStatus(name, name, "live", heard_ns, heard_ns, run=run)


def stale(name: str, heard_ns: int) -> HostStatus:
    return HostStatus(name, name, "stale", heard_ns, heard_ns, run="1")


def taken(*events: Any, fold: Fold | None = None) -> Rates:
    rates = Rates(fold or Fold("**"))
    for event in events:
        rates.take(event)
    return rates


def counts(look: Look, path: str) -> tuple[int | float | None, ...]:
    return next(rate.counts for rate in look.rates if rate.path == path)


def begins(end_ns: int) -> list[int]:
    """When each window begins that ends then, as the module's text says."""
    return [(end_ns - long) // (long // STEPS) * (long // STEPS) for long in LENGTHS]


MOVES = st.lists(
    st.tuples(
        st.integers(0, 40 * SECOND),
        st.sampled_from(["a", "b", "c/d"]),
        st.one_of(st.integers(-3, 9), st.sampled_from([0.25, 1e-9])),
    ),
    max_size=60,
)


@given(MOVES, st.integers(1, 30_000))
def test_counts_of_a_window_are_what_was_counted_in_it(
    moves: list[tuple[int, str, int | float]], every_ms: int
) -> None:
    """At each heartbeat, of each window that began since the start, to the billionth."""
    rates = taken(Whole(T, (changes(a=100),)))
    totals: dict[str, int] = {"a": 100 * 10**9}
    happened: list[tuple[int, str, int]] = []
    beats = [(at_ns, "", 0) for at_ns in range(0, 41 * SECOND, every_ms * MS)][:40]
    for at_ns, path, more in sorted([*moves, *beats], key=lambda step: step[0]):
        at_ns += T
        if path:
            billionths = round(more * 10**9)
            totals[path] = totals.get(path, 0) + billionths
            happened.append((at_ns, path, billionths))
            value = totals[path] / 10**9
            rates.take(Moved(at_ns, changes(**{path: int(value) if value.is_integer() else value})))
            continue
        rates.take(beat(at_ns, live("h", at_ns)))
        look = rates.look()
        assert look.at_ns == at_ns
        assert look.seconds == tuple((at_ns - begin_ns) / SECOND for begin_ns in begins(at_ns))
        for rate in look.rates:
            assert rate.total == totals[rate.path] / 10**9
            for begin_ns, count in zip(begins(at_ns), rate.counts, strict=True):
                if begin_ns < T:
                    assert count is None
                    continue
                truth = sum(n for ns, path, n in happened if path == rate.path and ns >= begin_ns)
                assert count == truth / 10**9


def test_what_came_after_the_last_heartbeat_is_not_in_it() -> None:
    """A window ends where all is known; the total is that of the same time."""
    rates = taken(
        Whole(T, (changes(n=1),)),
        Moved(T + 2 * SECOND, changes(n=5)),
        beat(T + 2 * SECOND + 1),
        Moved(T + 2 * SECOND + 2, changes(n=50)),
    )

    assert rates.look().rates == [Rate("n", 5, (4, None, None, None), True)]
    rates.take(beat(T + 3 * SECOND))
    assert rates.look().rates == [Rate("n", 50, (49, None, None, None), True)]


class Story:
    """Hosts that count all the time, and a stream that loses sight of them. Time is in ms."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rates = Rates(Fold("**"))
        self.counted: list[tuple[int, str, str, int]] = []
        self.hosts: tuple[str, ...] = ("h", "i")
        self.paths = {"h": ("shared", "own/h"), "i": ("shared", "own/i")}
        self.runs: dict[str, int] = dict.fromkeys(self.hosts, 1)
        self.told: dict[tuple[str, str], int] = {}
        self.heard: dict[str, int] = dict.fromkeys(self.hosts, 0)
        self.is_away: dict[str, int] = {}
        """Until when."""
        self.hands_over: dict[str, int] = {}
        """A host that is back, until its processes have handed over what waited."""
        self.is_cut = 0

    def run(self, ms: int) -> None:
        for at in range(0, ms, 50):
            self.step(at)

    def step(self, at: int) -> None:
        rng = self.rng
        at_ns = T + at * MS
        for host in self.hosts:
            for path in self.paths[host]:
                if rng.random() < 0.5:
                    self.counted.append((at, host, path, rng.randrange(1, 5)))
        if at == 0:
            self.rates.take(Whole(at_ns, (self.shown(at),)))
        elif not self.is_cut and rng.random() < 0.003:
            self.is_cut = at + rng.choice((100, 1500, 20_000))
            if rng.random() < 0.5:
                self.rates.take(Doubt(at_ns, "the snapshot is on the way"))
        for host in self.hosts:
            if host not in self.is_away and rng.random() < 0.004:
                self.is_away[host] = at + rng.choice((300, 3000, 30_000, 100_000))
            elif self.is_away.get(host, at) < at:
                del self.is_away[host]
                self.runs[host] += 1
                self.hands_over[host] = at + rng.randrange(RETURN_NS // MS - 1500)
            if host not in self.is_away:
                self.heard[host] = at
        moved = self.shown(at)
        if self.is_cut:
            if at >= self.is_cut:
                self.is_cut = 0
                self.rates.take(Whole(at_ns, (moved,)))
                self.rates.take(Doubt(at_ns, ""))
            return
        if moved.rows:
            self.rates.take(Moved(at_ns, moved))
        if at % 1000 == 0:
            self.rates.take(beat(at_ns, *(self.status(host, at) for host in self.hosts)))
            self.check(at)

    def status(self, host: str, at: int) -> HostStatus:
        heard_ns = T + self.heard[host] * MS
        known = live(host, heard_ns, run=str(self.runs[host]))
        return stale(host, heard_ns) if at - self.heard[host] > 3000 else known

    def shown(self, at: int) -> Changes:
        for host in self.hosts:
            if host not in self.is_away and self.hands_over.get(host, 0) <= at:
                for path in self.paths[host]:
                    self.told[host, path] = self.truth(path, 0, at, (host,))
        totals: dict[str, int] = {}
        for (_, path), total in self.told.items():
            totals[path] = totals.get(path, 0) + total
        return changes(**totals)

    def truth(self, path: str, begin: int, end: int, hosts: Iterable[str]) -> int:
        return sum(
            n for at, h, p, n in self.counted if begin <= at <= end and p == path and h in hosts
        )

    def check(self, at: int) -> None:
        look = self.rates.look()
        assert look.at_ns == T + at * MS
        silent = {f"own/{h}" for h, heard in self.heard.items() if 1500 < at - heard < 60_000}
        told = [host for host in self.hosts if self.hands_over.get(host, 0) <= self.heard[host]]
        for rate in look.rates:
            for begin_ns, count in zip(begins(T + at * MS), rate.counts, strict=True):
                begin = (begin_ns - T) // MS
                least = sum(self.truth(rate.path, begin + 1, self.heard[h], (h,)) for h in told)
                most = self.truth(rate.path, begin, at, self.hosts)
                assert count is None or least <= count <= most, (at, rate)
                assert count is None or rate.path not in silent, (at, rate)


@pytest.mark.parametrize("seed", range(40))
def test_restarts_and_silence_are_neither_spikes_nor_zeros(seed: int) -> None:
    """What is known is never more than was counted in the window, nor less than was told of it.

    Hosts fall silent for long or short, begin another run, and hand over late what waited; the
    stream is cut, with a doubt or without, and comes back whole.
    """
    Story(seed).run(120_000)


def test_silent_host_leaves_what_stands_still_unknown() -> None:
    """Not zero: it may count. What moves all the same is shown; after a minute nobody waits."""
    events: list[Any] = [Whole(T, (changes(still=0, moving=0),))]
    for second in range(1, 130):
        at_ns = T + second * SECOND
        events.append(Moved(at_ns - 1, changes(moving=second)))
        if second <= 20:
            events.append(Moved(at_ns - 1, changes(still=second)))
        h = live("h", at_ns) if second <= 20 else stale("h", T + 20 * SECOND)
        events.append(beat(at_ns, h, live("i", at_ns)))
    at = {event.at_ns: place for place, event in enumerate(events) if isinstance(event, Heard)}

    def look(second: int) -> Look:
        return taken(*events[: at[T + second * SECOND] + 1]).look()

    assert counts(look(20), "still")[0] is not None
    assert counts(look(40), "still") == (None, None, None, None)
    assert counts(look(40), "moving")[:2] == (1, 10)
    assert look(40).doubts == ["h has not been heard for 20 s"]
    assert counts(look(100), "still")[:2] == (0, 0)
    assert look(100).doubts == []


def test_restart_of_a_collector_is_noticed_by_its_run() -> None:
    """Though it is not silent for long enough to be missed."""
    rates = taken(
        Whole(T, (changes(n=0),)),
        Moved(T + 9 * SECOND, changes(n=900)),
        beat(T + 9 * SECOND, live("h", T + 9 * SECOND)),
        Moved(T + 10 * SECOND - 1, changes(n=1000)),
        beat(T + 10 * SECOND, live("h", T + 10 * SECOND - 2, run="2")),
        Moved(T + 11 * SECOND - 1, changes(n=1300)),
        beat(T + 11 * SECOND, live("h", T + 11 * SECOND - 2, run="2")),
    )

    assert counts(rates.look(), "n") == (None, 1300, None, None)


def test_nothing_is_known_while_the_node_is_in_doubt() -> None:
    """And why is said."""
    rates = taken(
        Whole(T, (changes(n=0),)),
        Moved(T + 2 * SECOND, changes(n=5)),
        beat(T + 2 * SECOND),
        Doubt(T + 5 * SECOND, "silent"),
    )

    assert rates.look().rates == [Rate("n", 5, (None,) * 4, True)]
    assert rates.look().doubts == ["silent"]


@pytest.mark.parametrize("by", [None, (1,), ()])
def test_forgetting_is_no_counting(by: tuple[int, ...] | None) -> None:
    """What moves to `~` makes no rate, in no line; what was counted with it does."""
    fold = Fold("intents/*/tries" if by is not None else "intents/**", by)
    rates = taken(
        Whole(
            T,
            (Changes([], [counter_row("intents/1/tries", 7), counter_row("intents/2/tries", 1)]),),
        ),
        Moved(
            T + 11 * SECOND, gone("intents/1/tries", FORGOTTEN, counter_row("intents/~/tries", 9))
        ),
        beat(T + 12 * SECOND),
        fold=fold,
    )

    found = {rate.path: rate.counts[1] for rate in rates.look().rates}
    if by == ():
        assert found == {"intents/*/tries": 2}
    else:
        assert found == {"intents/~/tries": 2, "intents/2/tries": 0}


def test_part_of_a_record_may_be_forgotten() -> None:
    """By one of its hosts: the path has less, and `~` as much more."""
    rates = taken(
        Whole(T, (Changes([], [counter_row("intents/1/tries", 7)]),)),
        Moved(
            T + 11 * SECOND,
            Changes([], [counter_row("intents/1/tries", 3), counter_row("intents/~/tries", 4)]),
        ),
        beat(T + 12 * SECOND),
        fold=Fold("intents/*/tries", (1,)),
    )

    assert [(rate.path, rate.counts[1]) for rate in rates.look().rates] == [
        ("intents/1/tries", 0),
        ("intents/~/tries", 0),
    ]


@pytest.mark.parametrize("kind", [ERASED, REGISTER])
def test_erase_is_no_counting_down(kind: int) -> None:
    """What is counted after it counts from zero."""
    rates = taken(
        Whole(T, (changes(n=100, m=1),)),
        Moved(T + 11 * SECOND, gone("n", kind)),
        Moved(T + 11 * SECOND + 1, changes(n=3)),
        beat(T + 12 * SECOND),
    )

    assert counts(rates.look(), "n")[:2] == (3, 3)


def test_line_that_comes_back_begins_anew() -> None:
    """Nothing that it had counted before is compared with what it counts now."""
    rates = taken(
        Whole(T, (changes(n=100),)),
        Moved(T + 19 * SECOND, changes(n=150)),
        beat(T + 20 * SECOND),
        Moved(T + 20 * SECOND + 500 * MS, changes(n=170)),
        Moved(T + 20 * SECOND + 600 * MS, gone("n", ERASED)),
        Moved(T + 20 * SECOND + 700 * MS, changes(n=3)),
    )

    assert counts(rates.look(), "n")[:2] == (0, 0)
    rates.take(beat(T + 21 * SECOND))
    assert counts(rates.look(), "n")[:2] == (3, 3)


def test_host_that_joins_brings_no_spike() -> None:
    """What it had counted before comes at once, in no window that began before."""
    rates = taken(
        Whole(T, (changes(n=10),)),
        beat(T + 1 * SECOND, live("h", T + 1 * SECOND)),
        Moved(T + 20 * SECOND, changes(n=5010)),
        beat(T + 20 * SECOND + 1, live("h", T + 20 * SECOND), live("i", T + 20 * SECOND)),
    )

    assert counts(rates.look(), "n") == (None, None, None, None)
    rates.take(Moved(T + 24 * SECOND + 500 * MS, changes(n=5012)))
    rates.take(beat(T + 25 * SECOND, live("h", T + 25 * SECOND), live("i", T + 25 * SECOND)))
    assert counts(rates.look(), "n") == (2, None, None, None)


def test_folded_lines_are_sums() -> None:
    """Over all keys that no number names; of different counters none is summed up."""
    rows = [
        counter_row("i/1/a/d/tries", 1),
        counter_row("i/2/b/d/tries", 2),
        counter_row("i/2/b/e/tries", 3),
        counter_row("i/2/b/e/sent", 0.5),
        counter_row("i/~/b/e/tries", 4),
    ]
    fold = Fold("i/*/*/*/*", (3,))
    rates = taken(Whole(T, (Changes([], rows),)), fold=fold)

    assert [(rate.path, rate.total) for rate in rates.look().rates] == [
        ("i/*/*/d/tries", 3),
        ("i/*/*/e/sent", 0.5),
        ("i/*/*/e/tries", 7),
    ]


@pytest.mark.parametrize(("pattern", "by"), [("a/**", (1,)), ("a/*", (2,)), ("a/*", (0,))])
def test_folds_that_are_none_are_refused(pattern: str, by: tuple[int, ...]) -> None:
    """In one line."""
    with pytest.raises(ConfigError):
        Fold(pattern, by)


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.floats(0.001, 1000)), max_size=40))
def test_distributions_are_known_by_window(observed: list[tuple[int, float]]) -> None:
    """In all, and of what was observed in the window alone; folded, of all places."""
    totals: dict[str, int] = {"i/0/time/~5": 1, "i/0/tries": 1}
    rates = taken(Whole(T, (changes(**totals),)), fold=Fold("i/*/time", ()))
    for place, x in observed:
        path = f"i/{place}/time/~{bucket(x)}"
        totals[path] = totals.get(path, 0) + 1
        rates.take(Moved(T + 20 * SECOND, changes(**{path: totals[path]})))
    rates.take(beat(T + 21 * SECOND))

    look = rates.look()
    assert look.rates == []
    [found] = look.distributions
    assert found.path == "i/*/time"
    assert found.total.count == 1 + len(observed)
    assert found.windows[2:] == (None, None)
    assert found.windows[1] is not None
    assert found.windows[1].count == len(observed)
    if observed:
        assert found.windows[1].max == number(bucket(max(x for _, x in observed)))


def test_memory_follows_what_moves() -> None:
    """Counters that stand still have no history, and what is old goes."""
    rates = taken(Whole(T, (changes(**{f"still/{n}": 1 for n in range(1000)}),)))
    for second in range(1, 2000):
        at_ns = T + second * SECOND
        rates.take(Moved(at_ns, changes(moving=second)))
        rates.take(beat(at_ns, live("h", at_ns if second % 7 else at_ns - 2 * SECOND)))

    kept = sum(len(moved) for window in rates._windows for _, moved in window.steps)  # pyright: ignore[reportPrivateUsage]
    assert kept <= 4 * (STEPS + 2)
    assert len(rates._gaps) < 100  # pyright: ignore[reportPrivateUsage]
