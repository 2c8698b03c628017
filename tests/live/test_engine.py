"""The machine that judges, as a whole: what it may never do, whatever happens."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shardlog.crdt.delta import COUNTER, ERASED, FORGOTTEN, REGISTER
from shardlog.crdt.path import RESERVED, path_text
from shardlog.crdt.replication.messages import LANES, Changes, Heartbeat, HostStatus, Row
from shardlog.crdt.sketch import bucket
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.live.declared import Test
from shardlog.monitor.live.explain import explain
from shardlog.monitor.live.properties import (
    always,
    eventually,
    ladder,
    moves,
    never,
    rung,
    sometimes,
)
from shardlog.monitor.live.verdict import Verdict
from shardlog.monitor.live.view import total as total_of
from shardlog.monitor.views import iso_utc
from tests.live.run import HOST_OF, HOSTS, SECOND, WRITERS, Run, ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.monitor.feed import Event


def answered(i: Any, live: Any) -> Any:
    """Two steps, and an end to the waiting."""
    return ladder(
        rung("started", lambda: i.host in i.resolution, within=5),
        rung("received", lambda: any(h != i.host for h in i.resolution), within=5, hold=2),
        doomed=lambda: live.presence(i.host) == "lost",
    )


def soon(i: Any, live: Any) -> Any:
    """One deadline, at once true or held."""
    yield eventually(lambda: i.n >= 3, within=4)
    yield eventually(lambda: i.host != "x" and i.n, within=6, hold=1)


def holds(i: Any, live: Any) -> Any:
    """All that can be said of an invariant."""
    yield always(lambda: i.n <= i.m)
    yield never(lambda: i.n > 3, broken_for=2, clear_after=1, at="arrival")
    yield always(lambda: "scraper-1" in i.resolution, when=lambda: i.host, during=8, broken_for=3)


def counts(i: Any, live: Any) -> Any:
    """Rates, and what moves."""
    yield moves(lambda: i.n, every=4, when=lambda: i.host)
    yield always(lambda: i.n.rate(3) < 1, broken_for=2, clear_after=2)
    yield sometimes(lambda: i.m.rate(2) > 0.5)


def whole(live: Any) -> Any:
    """The cluster as one."""
    yield sometimes(lambda: "lost" in map(live.presence, ("scraper-1", "spotter-1")))
    yield eventually(lambda: len(live.intents) >= 2, within=9)


TESTS: list[tuple[str, Callable[..., Any]]] = [
    ("intents/*", answered),
    ("intents/*", soon),
    ("intents/*", holds),
    ("intents/*", counts),
    ("", whole),
]
SUFFIXES = ["host", "n", "m", "resolution/scraper-1/state", "resolution/spotter-1/state"]
PATHS = [f"intents/{n}/{suffix}" for n in (1, 2) for suffix in SUFFIXES]
PRESENCE = [
    f"shardlog/presence/{blade}/p/{key}"
    for blade in ("scraper-1", "spotter-1")
    for key in ("status", "host")
]


def _row(path: str, kind: int, number: int, delay_ms: int) -> tuple[str, int, int, int]:
    return path, kind, number, delay_ms


DRAWN_ROWS = st.lists(
    st.builds(
        _row,
        st.sampled_from(PATHS + PRESENCE),
        st.sampled_from([REGISTER, REGISTER, ERASED]),
        st.integers(0, 4),
        st.sampled_from([0, 0, 50, 700, 1900]),
    ),
    min_size=1,
    max_size=3,
)
STATUSES = st.sampled_from(["live", "live", "live", "stale", "syncing", "replaced"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 50, 300, 1000, 1000, 2500]),
        st.one_of(
            st.tuples(st.just("moved"), DRAWN_ROWS),
            st.tuples(st.just("whole"), DRAWN_ROWS),
            st.tuples(st.just("heard"), st.tuples(STATUSES, STATUSES, st.sampled_from([0, 0, 3]))),
            st.tuples(st.just("doubt"), st.sampled_from(["", "", "lost"])),
            st.tuples(st.just("time"), st.none()),
        ),
    ),
    min_size=3,
    max_size=25,
)


def events(steps: list[Any]) -> list[Event]:
    """What happens, in order: a begin, and then as drawn. Stamps of a path do not go back."""
    happened: list[Event] = [Whole(ns(0), (Changes(WRITERS, []),)), _heard(0, ("live", "live", 0))]
    at_ms = 0
    newest: dict[str, int] = {}
    for wait_ms, (what, drawn) in steps:
        at_ms += wait_ms
        at_ns = ns(at_ms / 1000)
        if what in ("moved", "whole"):
            rows: list[Row] = []
            for path, kind, number, delay_ms in drawn:
                stamp = max(newest.get(path, 0) + 1, at_ns - delay_ms * 1_000_000)
                newest[path] = stamp
                rows.append(_said(path, kind, number, stamp))
            changes = Changes(WRITERS, rows)
            happened.append(Moved(at_ns, changes) if what == "moved" else Whole(at_ns, (changes,)))
        elif what == "heard":
            happened.append(_heard(at_ms / 1000, drawn))
        elif what == "doubt":
            happened.append(Doubt(at_ns, drawn))
        else:
            happened.append(Moved(at_ns, Changes([], [])))
    return happened


def _said(path: str, kind: int, number: int, stamp: int) -> Row:
    if kind == ERASED:
        return Row(path, ERASED, None, stamp, number % 3)
    if path.endswith(("/n", "/m")):
        return Row(path, COUNTER, number, stamp, -1)
    if path.endswith("status"):
        return Row(path, REGISTER, ["up", "lost", "bye", "up", "up"][number], stamp, number % 3)
    if path.endswith("p/host"):
        return Row(path, REGISTER, HOSTS[number % 2], stamp, number % 3)
    return Row(path, REGISTER, [*HOST_OF, "x", "y"][number], stamp, number % 3)


def _heard(at_s: float, drawn: tuple[Any, Any, int]) -> Heard:
    hosts = [
        HostStatus(name, name, status, 0, ns(at_s - 0.2), offset_ns=drawn[2] * at * SECOND // 10)
        for at, (name, status) in enumerate(zip(HOSTS, drawn[:2], strict=True))
    ]
    return Heard(ns(at_s), Heartbeat("a", "e", ns(at_s), 1000, [0] * LANES, hosts, {}))


TIMERS_MAX = 500


class Watched(Run):
    """A run that checks all that must be so, whatever happens."""

    def __init__(self) -> None:
        super().__init__(*TESTS)
        self.trace: list[str] = []
        self.final: dict[tuple[int, int], tuple[Any, Any, tuple[object, ...]]] = {}
        self.judged_ns = 0

    def note(self) -> Run:
        """Note what was said; what was final stays as it was."""
        for instance, asked, condition in self.engine.take_effects():
            self.trace.append(f"{instance.label} {asked.name} {condition}")
            assert condition.judged_ns >= self.judged_ns
            assert condition.since_ns <= condition.judged_ns
            self.judged_ns = condition.judged_ns
            assert (id(instance), id(asked)) not in self.final, "it has changed"
            if condition.verdict.is_final:
                known = (asked.verdict, asked.reason, asked.message, asked.since_ns)
                self.final[id(instance), id(asked)] = (instance, asked, known)
        for _, asked, kept in self.final.values():
            assert (asked.verdict, asked.reason, asked.message, asked.since_ns) == kept
        self.engine.check_invariants()
        return self

    def run(self, happened: list[Event]) -> Watched:
        """Let all happen, each timer when it is due, and then time go by."""
        for event in happened:
            self.time(event.at_ns)
            self.happens(event)
        last_ns = happened[-1].at_ns
        for second in range(1, 30):
            at_s = (last_ns - ns(0)) / SECOND + second
            self.time(ns(at_s))
            self.happens(_heard(at_s, ("live", "live", 0)))
        return self

    def time(self, until_ns: int) -> None:
        """Each timer comes when it is due: there are few of them."""
        for _ in range(TIMERS_MAX):
            due_ns = self.engine.next_timer_ns()
            if due_ns is None or due_ns > until_ns:
                break
            self.engine.handle_timer(due_ns)
            self.note()
        else:
            raise AssertionError("timers without end")
        self.engine.handle_timer(until_ns)
        self.note()


@settings(max_examples=400)
@given(STEPS)
def test_what_is_final_stays_and_time_never_steps_back(steps: list[Any]) -> None:
    """Whatever comes, in whatever doubt; and no run keeps the machine busy for ever."""
    Watched().run(events(steps))


@settings(max_examples=100)
@given(STEPS)
def test_the_same_events_give_the_same_transitions(steps: list[Any]) -> None:
    """A recording that is judged again says the same, to the word."""
    happened = events(steps)
    assert Watched().run(happened).trace == Watched().run(happened).trace


def traces() -> list[str]:
    """What some runs say, drawn without a library whose draws depend on hashes."""
    said: list[str] = []
    for seed in range(30):
        rng = random.Random(seed)
        steps: list[Any] = []
        for _ in range(25):
            rows = [
                (rng.choice(PATHS + PRESENCE), REGISTER, rng.randrange(5), rng.choice([0, 700]))
                for _ in range(3)
            ]
            drawn = rng.choice(
                [
                    ("moved", rows),
                    ("moved", rows),
                    ("whole", rows),
                    ("heard", (*rng.choices(["live", "live", "stale"], k=2), 0)),
                    ("doubt", rng.choice(["", "", "lost"])),
                ]
            )
            steps.append((rng.choice([1, 300, 1000]), drawn))
        run = Watched().run(events(steps))
        said += run.trace
        for group in run.engine.groups.values():
            for instance in [*group.failed.values(), *group.open.values()]:
                said += explain(run.engine, instance)
    return said


def test_what_is_said_does_not_depend_on_hashes() -> None:
    """Two processes that hash otherwise say the same."""
    code = "from tests.live.test_engine import traces; print('\\n'.join(traces()))"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 1000


@settings(max_examples=100)
@given(STEPS)
def test_nothing_is_left_of_what_is_over(steps: list[Any]) -> None:
    """When all tests are taken away and all is erased, the tree is the root alone."""
    run = Watched().run(events(steps))
    for group in [*run.engine.groups.values()]:
        run.engine.remove(group)
    at_s = (run.engine.now_ns - ns(0)) / SECOND + 1
    run.happens(Whole(ns(at_s), ()))
    run.happens(_heard(at_s + 20, ("live", "live", 0)))
    assert [cell.path for cell in run.engine.world.cells()] == [""]
    assert not run.engine._glance.samples  # pyright: ignore[reportPrivateUsage]


THRESHOLDS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 9_000)), min_size=1, max_size=8
)


@settings(max_examples=200)
@given(THRESHOLDS, st.randoms(use_true_random=False), st.integers(0, 7_000))
def test_order_and_repetition_of_what_is_in_time_do_not_matter(
    said: list[tuple[str, int]], rng: Any, deadline_ms: int
) -> None:
    """A threshold that was reached in time is a pass, one that was not a fail, however it came."""

    def enough(i: Any, live: Any) -> Any:
        return eventually(lambda: i.a >= 2 and i.b >= 2, within=deadline_ms / 1000)

    def verdict(order: list[tuple[str, int, int]]) -> Verdict:
        run = Run(("intents/*", enough)).begin()
        run.write(0, "intents/1/host", "x")
        shown: dict[str, int] = {}
        late: list[tuple[int, str, int, int]] = []
        for key, total, stamp_ms in order:
            late.append((min(stamp_ms + rng.randrange(1900), 11_000), key, total, stamp_ms))
        for came_ms, key, total, stamp_ms in sorted(late):
            if total <= shown.get(key, 0):
                continue
            shown[key] = total
            run.pass_time(came_ms / 1000)
            run.count(came_ms / 1000, f"intents/1/{key}", total, stamp_s=stamp_ms / 1000)
        run.pass_time(20)
        return run.verdict("enough")

    totals: dict[str, int] = {}
    rows: list[tuple[str, int, int]] = []
    for key, stamp_ms in sorted(said, key=lambda one: one[1]):
        totals[key] = totals.get(key, 0) + 1
        rows.append((key, totals[key], stamp_ms))
    reached = [next((ms for k, n, ms in rows if (k, n) == (key, 2)), 99_999) for key in "ab"]
    # What is counted beyond the threshold makes it later than it was: these rows are not said.
    rows = [row for row in rows if row[1] <= 2]
    expected = Verdict.PASS if max(reached) <= deadline_ms else Verdict.FAIL
    for _ in range(3):
        again = [*rows, *rng.sample(rows, rng.randrange(len(rows) + 1))]
        rng.shuffle(again)
        assert verdict(again) is expected


def test_before_any_host_is_heard_nothing_fails() -> None:
    """A node that has just begun shows what it has, which may be little, before it says so."""
    run = Run(("intents/*", soon))
    run.happens(Whole(ns(100), (Changes(WRITERS, [run.row("intents/1/host", "a", 1)]),)))
    assert run.verdict("soon") is Verdict.BLIND
    run.hear(100.1, node_1="syncing")
    assert run.verdict("soon") is Verdict.BLIND
    run.hear(101)
    assert run.verdict("soon") is Verdict.FAIL


def test_the_whole_is_tested_also_while_nothing_shows() -> None:
    """It is always there: it is neither withdrawn nor born anew."""
    run = Run(("", whole)).begin()
    run.write(1, "shardlog/presence/scraper-1/p/status", "lost")
    assert run.instance("whole").asked[0].verdict is Verdict.PASS
    run.erase(2, "shardlog/presence/scraper-1/p/status")
    assert run.instance("whole").asked[0].verdict is Verdict.PASS


def test_what_a_test_is_about_is_gone_and_so_is_the_test() -> None:
    """What is still owed is owed no more; if it comes again, it is born anew."""
    run = Run(("intents/*", soon)).begin().write(1, "intents/1/host", "a")
    run.erase(2, "intents/1/host").hear(20)
    assert not run.engine.groups["soon"].counts()
    run.write(21, "intents/1/host", "a").pass_time(24)
    assert run.verdict("soon") is Verdict.PENDING


STATE: list[tuple[str, int | str]] = [
    ("a/b/c", 1),
    ("intents/1/n", 1),
    ("shardlog/presence/scraper-1/p/status", "up"),
]


@pytest.mark.parametrize("begins_s", [0, 50])
@given(first_s=st.floats(0, 20), told_s=st.floats(0, 3), stamps_s=st.lists(st.integers(0, 40)))
def test_what_shows_when_the_monitor_comes_is_judged_as_of_then(
    begins_s: int, first_s: float, told_s: float, stamps_s: list[int]
) -> None:
    """At no earlier time: what showed before is not known. It is watched from then on, too."""

    def there(live: Any) -> Any:
        yield always(lambda: live.a.b.c == 1)
        yield always(lambda: len(live.intents) > 0)
        yield always(lambda: "scraper-1" in live.blades)
        yield never(lambda: not live.a.b, during=30)

    def one(i: Any, live: Any) -> Any:
        yield always(lambda: i.n == 1)
        yield never(lambda: live.a.b.c == 1, during=30)

    run = Run(("", there), ("intents/*", one))
    stamps = [begins_s - stamp_s for stamp_s in (*stamps_s, 1, 1, 1)]
    rows = [run.row(*row, stamp_s) for row, stamp_s in zip(STATE, stamps, strict=False)]
    run.happens(Whole(ns(begins_s), (Changes(WRITERS, rows),)))
    for second in range(8):
        at_s = begins_s + first_s + second
        run.pass_time(at_s).hear(at_s, told_s=at_s - told_s)
    assert [str(run.condition("there", at=at).verdict) for at in range(4)] == ["holding"] * 4
    assert run.condition("one", "intents/1", at=0).verdict is Verdict.HOLDING
    assert run.condition("one", "intents/1", at=1).verdict is Verdict.FAIL


def test_during_counts_from_when_the_monitor_came() -> None:
    """An alarm that was on all the time is no pass, and what is well is none too early."""

    def calm(live: Any) -> Any:
        return never(lambda: live.alarm == "on", during=60)

    for alarm, verdict in (("on", "fail"), ("off", "pass")):
        run = Run(("", calm))
        run.begin([run.row("alarm", alarm, -50)])
        assert run.verdicts("calm") == []
        run.hear(30)
        assert run.verdicts("calm") == ["fail" if alarm == "on" else "holding"]
        run.hear(70)
        assert run.verdicts("calm")[-1] == verdict


def heard_of(
    at_s: float,
    *,
    names: tuple[str, ...] = HOSTS,
    settling: str = "",
    lower_bound: str = "",
    low: str = "",
    **told_s: float,
) -> Heard:
    """A heartbeat: these hosts are live, and have told all up to now, or up to then.

    `low` is the host that says `lower_bound`, "" the node.
    """
    hosts = [
        HostStatus(name, name, "live", 0, ns(told_s.get(name.replace("-", "_"), at_s)))
        for name in names
    ]
    hosts = [replace(h, lower_bound=lower_bound) if h.host == low else h for h in hosts]
    said = Heartbeat("a", "e", ns(at_s), 1000, [0] * LANES, hosts, {}, settling=settling)
    return Heard(ns(at_s), said if low else replace(said, lower_bound=lower_bound))


STOPPED_S = 7.0
"""So long a host may be behind, by default: longer than it takes to be told that it is lost."""


@settings(max_examples=50)
@given(stops_s=st.floats(3, 20), lasts_s=st.integers(0, 120), is_wrong=st.booleans())
def test_where_the_cut_stands_still_nobody_is_green(
    stops_s: float, lasts_s: int, is_wrong: bool
) -> None:
    """A process hangs, and its host is live: blind by then, and judged when it goes on."""

    def few(live: Any) -> Any:
        return always(lambda: live.n < 3)

    def now(live: Any) -> Any:
        return always(lambda: live.n < 3, at="arrival")

    run = Run(("", few), ("", now)).begin().write(0, "n", 1).hear(1).hear(2)
    assert run.verdict("few") is Verdict.HOLDING
    run.happens(heard_of(stops_s))
    for second in range(1, lasts_s + 1):
        at_s = stops_s + second
        run.write(at_s, "n", 2 + (is_wrong and second > 1) - second % 2)
        run.happens(heard_of(at_s + 0.1, node_2=stops_s))
    is_wrong = is_wrong and lasts_s > 1
    assert run.verdict("now") is (Verdict.FAIL if is_wrong else Verdict.HOLDING)
    if lasts_s >= STOPPED_S:
        condition = run.condition("few")
        since = iso_utc(ns(stops_s))
        assert condition.verdict is Verdict.BLIND
        assert condition.message == f"node-2 has not told all since {since}"
    else:
        assert run.verdict("few") is Verdict.HOLDING
    end_s = stops_s + lasts_s + 1
    run.write(end_s, "n", 9 if is_wrong else 1).happens(heard_of(end_s + 1)).hear(end_s + 3)
    assert run.verdict("few") is (Verdict.FAIL if is_wrong else Verdict.HOLDING)


def test_the_end_of_a_run_is_no_pass_where_the_cut_stands_still() -> None:
    """What was said since was not judged."""

    def few(live: Any) -> Any:
        return always(lambda: live.n < 3)

    run = Run(("", few)).begin().write(0, "n", 1).hear(2)
    for second in range(3, 30):
        run.write(second, "n", 7).hear(second, told_s=2)
    run.engine.end(ns(30))
    assert run.note().verdict("few") is Verdict.BLIND


@pytest.mark.parametrize("apart_s", [0, 3600])
def test_while_the_cut_stands_still_little_is_kept(apart_s: int) -> None:
    """A process may hang for days, or a clock be wrong for as long."""

    def few(live: Any) -> Any:
        return always(lambda: live.n < 3, during=60)

    run = Run(("", few)).begin().write(0, "n", 1).hear(2)
    engine = run.engine
    kept: list[int] = []
    for second in range(3, 300):
        run.write(second, "n", second % 2)
        at = heard_of(second + 0.5, node_2=2)
        at.heartbeat.hosts[0] = replace(at.heartbeat.hosts[0], offset_ns=apart_s * SECOND)
        run.happens(at)
        cell = engine.world.cell(("n",))
        kept.append(len(engine._later) + len(engine._past) + len(cell.past or ()))  # pyright: ignore[reportPrivateUsage]
    assert run.verdict("few") is Verdict.BLIND
    assert max(kept) == max(kept[:50])
    run.hear(301).hear(303)
    assert run.verdict("few") is Verdict.HOLDING
    assert run.hear(330).hear(350).verdict("few") is Verdict.PASS


def test_what_was_not_judged_while_the_cut_stood_still_counts_for_nothing() -> None:
    """Neither as having held, nor as having been broken all the time: it is watched anew."""

    def few(live: Any) -> Any:
        yield always(lambda: live.n < 3, during=60)
        yield always(lambda: live.m < 3, broken_for=60)

    run = Run(("", few)).begin().write(0, "n", 1).write(0, "m", 9).hear(2)
    for second in range(3, 300):
        run.write(second, "n", 9 * (second == 30)).write(second, "m", 9 * (second != 30))
        run.hear(second + 0.5, told_s=2)
    run.hear(301).hear(303)
    assert [str(run.condition("few", at=at).verdict) for at in (0, 1)] == ["holding", "overdue"]
    run.hear(335).hear(337)
    assert run.instance("few").asked[0].verdict is Verdict.PASS
    assert run.condition("few", at=1).verdict is Verdict.FAIL
    assert run.condition("few", at=1).message == "broken for 60 s"


def test_a_test_that_begins_while_the_cut_stands_still_is_blind() -> None:
    """It is not just idle: nothing is judged."""

    def few(i: Any, live: Any) -> Any:
        return always(lambda: i.n < 3)

    run = Run(("intents/*", few)).begin().hear(2).hear(20, told_s=2)
    run.write(21, "intents/1/n", 7)
    assert run.verdict("few") is Verdict.BLIND
    assert run.hear(22).hear(23).verdict("few") is Verdict.FAIL


def heard_both(at_s: float, *stores: HostStatus, order: int) -> Heard:
    """A heartbeat of these stores, in this order or the other."""
    said = Heartbeat("a", "e", ns(at_s), 1000, [0] * LANES, [*stores][::order], {})
    return Heard(ns(at_s), said)


@pytest.mark.parametrize("order", [1, -1])
def test_two_live_stores_of_one_name_have_told_what_both_have(order: int) -> None:
    """Two machines are called alike: what one has yet to tell is waited for, and nothing fails."""

    def none_too_many(live: Any) -> Any:
        return always(lambda: live.got <= live.sent)

    run = Run(("", none_too_many)).begin().write(0, "got", 0).write(0, "sent", 0)
    for second in range(1, 4):
        run.happens(live_pair(second, second, order=order))
    run.write(3.5, "got", 1, stamp_s=3.4)
    run.happens(live_pair(4, 3, order=order)).happens(live_pair(5, 3, order=order))
    assert run.verdict("none_too_many") is Verdict.HOLDING
    run.write(5.5, "sent", 1, stamp_s=3.3).happens(live_pair(7, 6, order=order))
    assert run.verdict("none_too_many") is Verdict.HOLDING
    run.happens(live_pair(8, 7, order=order, apart_s=20))
    assert run.condition("none_too_many").message.endswith("are 20 s apart")


def live_pair(at_s: float, told_s: float, *, order: int, apart_s: int = 0) -> Heard:
    """Two stores of node-1 are live: one has told all up to now, the other up to then."""
    first = HostStatus("node-1", "one", "live", 0, ns(at_s))
    second = HostStatus("node-1", "two", "live", 0, ns(told_s), offset_ns=apart_s * SECOND)
    return heard_both(at_s, first, second, order=order)


@pytest.mark.parametrize("order", [1, -1])
def test_a_host_that_goes_on_with_another_store_is_heard(order: int) -> None:
    """Its old one is stale for good: that makes nobody blind."""
    run = Run(("intents/*", done)).begin().write(1, "intents/1/host", "a")
    old = HostStatus("node-1", "old", "stale", ns(1), ns(1))
    for second in range(2, 50):
        new = HostStatus("node-1", "new", "live", 0, ns(second))
        run.happens(heard_both(second, old, new, order=order)).pass_time(second + 0.5)
    assert run.verdict("done") is Verdict.FAIL


def no_more_than_sent(live: Any) -> Any:
    """All of it is counters."""
    yield always(lambda: total_of(live, "i/*/received") <= total_of(live, "i/*/sent"), at="arrival")
    yield always(lambda: total_of(live, "i/*/received") <= total_of(live, "i/*/sent"))


def done(i: Any, live: Any) -> Any:
    """It was asked for long ago."""
    return eventually(lambda: i.done == 3, within=30)


@pytest.mark.parametrize("is_right", [True, False])
def test_while_a_node_is_settling_nothing_fails(is_right: bool) -> None:
    """Of whom it has not heard yet it says nothing, but that somebody is missing."""
    why = "1 of 2 hosts are not live yet"
    run = Run(("", no_more_than_sent), ("intents/*", done))
    rows = [
        Row("i/1/received", COUNTER, 1000, ns(-1), -1),
        run.row("intents/1/host", "a", -100),
    ]
    run.happens(Whole(ns(0), (Changes(WRITERS, rows),)))
    for second in range(10):
        run.happens(heard_of(second, names=("node-2",), settling=why)).pass_time(second + 0.9)
    for name, path in (("no_more_than_sent", ""), ("done", "intents/1")):
        condition = run.condition(name, path)
        assert condition.verdict is Verdict.BLIND
        assert condition.message == f"the aggregator is settling since {iso_utc(ns(0))}: {why}"
    assert not run.said, "all begin so"
    run.count(10, "i/1/sent", 1000 if is_right else 999, stamp_s=-2)
    if is_right:
        run.write(10, "intents/1/done", 3, stamp_s=-90)
    run.hear(11).hear(13)
    assert run.verdict("no_more_than_sent") is (Verdict.HOLDING if is_right else Verdict.FAIL)
    assert run.verdict("done") is (Verdict.PASS if is_right else Verdict.FAIL)


@pytest.mark.parametrize("low", ["", "node-1"])
@pytest.mark.parametrize("is_known", [True, False])
def test_counts_that_may_be_too_low_fail_nobody(low: str, is_known: bool) -> None:
    """A store is lost, as the monitor comes or later: only what is no count is judged."""

    def host(live: Any) -> Any:
        return always(lambda: live.host == "b", at="arrival")

    why = "the store was lost"
    run = Run(("", no_more_than_sent), ("", host), ("intents/*", done))
    run.happens(Whole(ns(0), ())).happens(heard_of(0, low=low, lower_bound=why * is_known))
    run.count(1, "i/1/sent", 9).count(1, "i/1/received", 9).count(1, "intents/1/done", 2)
    run.happens(heard_of(2, low=low, lower_bound=why)).write(2.1, "host", "a")
    run.count(2.5, "i/1/received", 10)
    for second in range(3, 40):
        run.pass_time(second).happens(heard_of(second, low=low, lower_bound=why))
    since = iso_utc(ns(0 if is_known else 2))
    reason = f"{low or 'the aggregator'} says lower bound since {since}: {why}"
    for at in (0, 1):
        assert run.condition("no_more_than_sent", at=at).verdict is Verdict.BLIND
        assert run.condition("no_more_than_sent", at=at).message == reason
    assert run.verdict("host") is Verdict.FAIL
    assert run.verdict("done") is (Verdict.FAIL if is_known else Verdict.BLIND)
    run.hear(41).hear(43)
    assert run.verdict("no_more_than_sent") is Verdict.FAIL
    assert run.verdict("done") is Verdict.FAIL


@pytest.mark.parametrize("blade", ["scraper-1", "spotter-1"])
def test_counts_that_are_of_another_host_are_not_too_low(blade: str) -> None:
    """Whose they are their path says."""

    def few(i: Any, live: Any) -> Any:
        return always(lambda: i[blade].n < 3, at="arrival")

    run = Run(("i/*", few)).begin()
    for name, host in (("scraper-1", "node-1"), ("spotter-1", "node-2")):
        run.write(0, f"shardlog/presence/{name}/p/host", host)
    run.count(1, f"i/1/{blade}/n", 1)
    run.happens(heard_of(2, low="node-1", lower_bound="lost")).count(3, f"i/1/{blade}/n", 9)
    assert run.verdict("few") is (Verdict.BLIND if blade == "scraper-1" else Verdict.FAIL)


PAGES = st.lists(st.floats(0.1, 60), min_size=1, max_size=20, unique=True)


@settings(max_examples=300)
@given(pages_s=PAGES, stale_s=st.floats(1, 50), lasts_s=st.integers(1, 40), is_link=st.booleans())
def test_an_outage_makes_nothing_late_that_was_in_time(
    pages_s: list[float], stale_s: float, lasts_s: int, is_link: bool
) -> None:
    """What was counted meanwhile comes in one row, of the last time, before that has healed."""

    def enough(i: Any, live: Any) -> Any:
        return eventually(lambda: i.pages >= 3, within=30)

    back_s = stale_s + lasts_s
    run = Run(("intents/*", enough)).begin().write(0, "intents/1/host", "a")
    happens: list[tuple[float, int]] = [(second / 2, 0) for second in range(1, 200)]
    happens += [(at_s, 1) for at_s in pages_s]
    pages = unheard = 0
    last_s = 0.0
    for at_s, page in sorted([*happens, (back_s, 0)]):
        run.pass_time(at_s)
        is_out = stale_s <= at_s < back_s
        pages, last_s = pages + page, at_s if page else last_s
        unheard += page and is_out
        if at_s == back_s and unheard and is_link:
            row = Row("intents/1/pages", COUNTER, pages, ns(last_s), -1)
            host = run.row("intents/1/host", "a", 0)
            run.happens(Whole(ns(at_s), (Changes(WRITERS, [host, row]),)))
        elif at_s == back_s and unheard:
            run.count(at_s, "intents/1/pages", pages, stamp_s=last_s)
        elif page and not is_out:
            run.count(at_s, "intents/1/pages", pages)
        if is_link and (at_s < stale_s or at_s >= back_s):
            run.doubt(at_s, "").hear(at_s)
        elif is_link:
            run.doubt(at_s, "lost")
        else:
            run.hear(at_s, node_1="stale" if is_out else "live")
    third_s = (*sorted(pages_s), math.inf, math.inf, math.inf)[2]
    if third_s < 30:
        assert run.verdict("enough") is Verdict.PASS
    elif third_s > 30 and not stale_s <= third_s < back_s:  # at 30, it has been told before that
        assert run.verdict("enough") is Verdict.FAIL


def test_what_a_live_host_said_too_late_is_too_late_while_another_is_not_heard() -> None:
    """Its word is of when it says."""

    def done(i: Any, live: Any) -> Any:
        return eventually(lambda: i.done and i.host, within=30)

    run = Run(("intents/*", done)).begin().write(0, "intents/1/host", "a")
    for second in range(1, 36):
        run.pass_time(second).hear(second, node_2="stale")
        if second == 35:
            assert run.verdict("done") is Verdict.BLIND
            run.write(35, "intents/1/done", True)
    assert "5.00 s too late" in run.condition("done", "intents/1").message


def test_a_collector_that_begins_anew_does_not_know_what_is_still_to_come() -> None:
    """It says that nothing is older, while its processes repeat what they said meanwhile."""

    def done(i: Any, live: Any) -> Any:
        return eventually(lambda: i.done, within=30)

    def few(i: Any, live: Any) -> Any:
        return always(lambda: i.received <= i.sent)

    def counted(i: Any, live: Any) -> Any:
        return eventually(lambda: i.received >= 3, within=30)

    def begins(at_s: float, number: int, status: Any = "live") -> Heard:
        heard = heard_of(at_s, node_1=at_s if status == "live" else 28)
        hosts = heard.heartbeat.hosts
        hosts[0] = replace(hosts[0], run=f"run-{number}", status=status)
        return heard

    for is_long in (False, True):
        run = Run(("intents/*", done), ("intents/*", few), ("intents/*", counted))
        run.begin()
        run.write(0, "intents/1/host", "a").happens(begins(0, 1))
        run.count(1, "intents/1/sent", 1).count(1, "intents/1/received", 1)
        for second in range(1, 29):
            run.happens(begins(second, 1))
        for second in range(29, 40) if is_long else ():
            run.pass_time(second).happens(begins(second, 1, "stale"))
        back_s = 40.0 if is_long else 30.1
        run.count(back_s - 0.5, "intents/1/received", 2)
        run.pass_time(back_s).happens(begins(back_s, 2)).happens(begins(back_s + 0.9, 2))
        run.write(back_s + 1, "intents/1/done", True, stamp_s=29)
        run.count(back_s + 1, "intents/1/sent", 3, stamp_s=back_s - 0.7)
        run.count(back_s + 1, "intents/1/received", 3)
        assert run.verdict("done") is Verdict.PASS
        assert run.verdict("counted") is Verdict.PASS
        for second in range(2, 9):
            run.happens(begins(back_s + second, 2))
        assert run.verdict("few") is Verdict.HOLDING
        assert run.verdicts("few[1]")[-1] == "holding"


def test_what_was_wrong_while_it_was_blind_is_judged_when_that_heals() -> None:
    """At the cut, too, although nothing changes then."""

    def few(i: Any, live: Any) -> Any:
        return always(lambda: i.n < 3)

    run = Run(("intents/*", few)).begin().write(1, "intents/1/n", 1).hear(3)
    run.doubt(4, "lost").write(5, "intents/1/n", 7).hear(8)
    assert run.verdict("few") is Verdict.BLIND
    run.doubt(9, "").hear(10)
    assert run.verdict("few") is Verdict.FAIL


def test_what_comes_behind_the_cut_is_judged_at_it() -> None:
    """A host has said that it had told all, and had not: better late than never."""

    def few(i: Any, live: Any) -> Any:
        return always(lambda: i.n < 3)

    run = Run(("intents/*", few)).begin().write(1, "intents/1/n", 1).hear(6)
    run.write(7, "intents/1/n", 7, stamp_s=4).hear(8)
    assert run.verdict("few") is Verdict.FAIL
    instance = run.instance("few", "intents/1")
    assert instance.asked[0].since_ns >= ns(5.9)


def test_what_shardlog_keeps_itself_is_tested_only_by_name() -> None:
    """`*` at the root is the user's keys."""

    def seen(i: Any, live: Any) -> Any:
        return eventually(lambda: i, within=1)

    run = Run(("*", seen)).begin()
    run.write(1, "shardlog/x", 1).write(1, "a", 1)
    assert run.said == [(1.0, "seen[a]", "pass")]
    assert Test(seen, "shardlog/*").matches("shardlog/x")


def test_what_is_wrong_for_good_is_found_although_it_came_about_at_nearly_one_time() -> None:
    """While clocks leave open which was first there is no answer; later there is."""

    def fewer(i: Any, live: Any) -> Any:
        return always(lambda: i.a <= i.b)

    run = Run(("intents/*", fewer)).begin()
    run.write(1, "intents/1/a", 1).write(1, "intents/1/b", 5).hear(5)
    assert run.verdict("fewer") is Verdict.HOLDING
    run.write(6, "intents/1/b", 1).write(6.05, "intents/1/a", 2).hear(6.5).hear(7).hear(20)
    assert run.verdict("fewer") is Verdict.FAIL


def test_of_more_that_moves_than_can_be_tried_there_is_no_answer_yet() -> None:
    """Ten keys of a document change at one time: no false alarm, and found when it stands still."""

    def same(i: Any, live: Any) -> Any:
        return always(lambda: all(i.a[key] == i.b[key] for key in "abcdefghij"))

    run = Run(("intents/*", same)).begin()

    def write(at_s: float, side: str, value: int) -> None:
        rows = [run.row(f"intents/1/{side}/{key}", value, at_s) for key in "abcdefghij"]
        run.happens(Moved(ns(at_s), Changes(WRITERS, rows)))

    write(1, "a", 1)
    write(1.05, "b", 1)
    run.hear(5)
    assert run.verdict("same") is Verdict.HOLDING
    write(6, "a", 2)
    write(6.05, "b", 2)
    run.hear(7).hear(8)
    assert run.verdict("same") is Verdict.HOLDING
    run.write(9, "intents/1/a/j", 7).hear(10)
    assert run.verdict("same") is Verdict.FAIL


def test_what_was_known_when_it_failed_at_the_cut_is_of_the_cut() -> None:
    """Who is told that 10 > 2 is shown these, and not what has come since."""

    def fewer(i: Any, live: Any) -> Any:
        return always(lambda: i.received <= i.sent)

    run = Run(("intents/*", fewer)).begin()
    run.count(1, "intents/1/sent", 2).count(2, "intents/1/received", 10)
    run.count(3, "intents/1/sent", 9).hear(3.5)
    said = run.explanation("fewer", "intents/1")
    assert "received = 10" in said
    assert "sent = 2" in said


def test_explaining_leaves_no_places_behind() -> None:
    """What is looked at to explain is looked at once."""

    def soon(i: Any, live: Any) -> Any:
        return eventually(lambda: i.host == "nobody", within=5)

    run = Run(("intents/*", soon)).begin().write(1, "intents/1/host", "who-is-this")
    places = len([*run.engine.world.cells()])
    run.explanation("soon", "intents/1")
    assert len([*run.engine.world.cells()]) == places


def test_asking_for_a_quantile_leaves_no_places_behind() -> None:
    """It is asked for like a key, and is none."""

    def quick(i: Any, live: Any) -> Any:
        return always(lambda: i.time.p99 < 1000, at="arrival")

    run = Run(("intents/*", quick)).begin()
    for n in range(5):
        run.count(n + 1, f"intents/{n}/time/~{bucket(70)}", 3)
        assert run.verdict("quick") is Verdict.HOLDING
    for n in range(5):
        gone = Row(f"intents/{n}/time/~{bucket(70)}", FORGOTTEN, None, ns(9), -1)
        run.happens(Moved(ns(9), Changes([], [gone])))
    assert [cell.path for cell in run.engine.world.cells()] == [""]


def test_looking_for_an_earlier_verdict_leaves_no_places_behind() -> None:
    """Most tests have none."""

    def soon(i: Any, live: Any) -> Any:
        return eventually(lambda: i.host, within=5)

    run = Run(("intents/*", soon), resumes=True).begin().write(1, "intents/1/host", "a")
    assert {cell.path for cell in run.engine.world.cells()} == {
        "",
        "intents",
        "intents/1",
        "intents/1/host",
    }


def test_an_earlier_verdict_is_that_of_what_was_there_then() -> None:
    """What was asked for again since then is judged anew, be it in this run or before it."""

    def done(i: Any, live: Any) -> Any:
        return eventually(lambda: i.done, within=5)

    def say(run: Run, at_s: float, since_ns: int | str) -> None:
        said: dict[str, int | str] = {"verdict": "pass", "since": since_ns}
        for key, value in said.items():
            run.write(at_s, path_text((RESERVED, "live", "done", "intents/1", key)), value)

    run = Run(("intents/*", done), resumes=True).begin().write(1, "intents/1/host", "a")
    run.write(2, "intents/1/done", True)
    say(run, 2.1, ns(2))
    run.erase(3, "intents/1/host").erase(3, "intents/1/done")
    run.write(12, "intents/1/host", "a").pass_time(20)
    assert run.verdicts("done[1]") == ["pending", "pass", "pending", "overdue", "fail"]

    for asked_s, since_ns, verdict in (
        (1, ns(2), Verdict.PASS),
        (12, ns(2), Verdict.PENDING),
        (1, "2", Verdict.FAIL),
        (2.05, ns(2), Verdict.PASS),  # as far as is known by clocks that differ
    ):
        run = Run(("intents/*", done), resumes=True)
        run.happens(Whole(ns(0), (Changes([], []),)))
        say(run, 3, since_ns)
        run.write(13, "intents/1/host", "a", stamp_s=asked_s)
        run.hear(13, told_s=0)
        assert run.verdict("done") is verdict


def test_evidence_behind_a_restart_counts_by_when_it_was_said() -> None:
    """Only what was there when the monitor came has no known time."""

    def done(i: Any, live: Any) -> Any:
        return eventually(lambda: i.done, within=30)

    for begins_s in (0, 20):
        run = Run(("intents/*", done))
        if begins_s:
            run.begin([run.row("intents/1/host", "a", 1)], begins_s)
        else:
            run.begin().write(1, "intents/1/host", "a")
        run.pass_time(31.5)
        run.write(31.6, "intents/1/done", True)
        run.pass_time(40)
        assert run.verdict("done") is Verdict.FAIL
        assert "0.60 s too late" in run.condition("done", "intents/1").message


def test_what_ends_other_programs_does_not_end_the_judging() -> None:
    """`sys.exit` in a predicate, or in a test's function, is a mistake like others: blind."""

    def leaves(i: Any, live: Any) -> Any:
        return eventually(lambda: sys.exit(3), within=1)

    def left(i: Any, live: Any) -> Any:
        sys.exit(3)

    run = Run(("intents/*", leaves), ("intents/*", left)).begin()
    run.write(1, "intents/42/host", "scraper-1")
    assert {run.condition(name, "intents/42").reason for name in ("leaves", "left")} == {"Raised"}


def _subset(i: Any, live: Any) -> Any:
    """As of two hosts' keys."""
    return always(lambda: set(i.received) <= set(i.sent))


def _each_of(i: Any, live: Any) -> Any:
    """The same, key by key."""
    return always(lambda: all(key in i.sent for key in i.received))


@pytest.mark.parametrize("leaf", ["", "/by"])
@pytest.mark.parametrize("test", [_subset, _each_of])
def test_keys_may_have_come_by_another_clock(test: Callable[..., Any], leaf: str) -> None:
    """What was received 40 ms before it was sent was not, nor was that which came at one time."""
    run = Run(("intents/*", test)).begin().write(1, "intents/1/sent/a", "x").hear(5)
    for number in range(20):
        at_s = 10 + number / 30
        run.write(at_s + 1, f"intents/1/sent/{number}{leaf}", "s", stamp_s=at_s)
        path = f"intents/1/received/{number}{leaf}"
        run.write(at_s + 1, path, "s", by="spotter-1", stamp_s=at_s - 0.04)
    for second in range(12, 16):
        run.hear(second)
    assert run.verdict(test.__name__) is Verdict.HOLDING


@pytest.mark.parametrize("leaf", ["", "/by"])
def test_a_key_too_many_is_found_while_others_come_and_go(leaf: str) -> None:
    """However many do: they move together."""
    run = Run(("intents/*", _subset)).begin().write(1, "intents/1/sent/a", "x").hear(5)
    run.write(6, f"intents/1/received/never-sent{leaf}", "s", by="spotter-1")
    for number in range(60):
        at_s = 6 + number / 60
        for side in ("sent", "received"):
            run.write(at_s, f"intents/1/{side}/{number}{leaf}", "s")
    run.hear(6.9)
    assert run.verdict("_subset") is Verdict.FAIL
    assert run.instance("_subset", "intents/1").asked[0].since_ns <= ns(6.2)


def test_what_a_predicate_raises_of_what_never_was_is_no_mistake() -> None:
    """Of places that are tried as they were a little later not all need be there yet."""

    def known(i: Any, live: Any) -> Any:
        return always(lambda: "X" not in [i.jobs[key].host.upper() for key in i.jobs])

    run = Run(("intents/*", known)).begin().write(1, "intents/1/jobs/a/host", "s").hear(2)
    run.write(5, "intents/1/jobs/b/host", "x").write(5.05, "intents/1/jobs/c/host", "s")
    for second in range(6, 9):
        run.hear(second)
    assert run.verdicts("known[1]") == ["holding", "fail"]
