"""What takes too long is ended, and nothing else is ever hit."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from shardlog.monitor.live import guard as guard_module
from shardlog.monitor.live.asking import TooLong
from shardlog.monitor.live.declared import MARK, Test, once
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.guard import Guard
from shardlog.monitor.live.properties import always, moves
from shardlog.monitor.live.verdict import Verdict
from tests.helpers import eventually as comes_true
from tests.live.events import heard, moved, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardlog.monitor.live.view import Live

LIMIT_S = 0.0005
HITS = 2_000


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns often enough for a watchdog that is to be exact."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def for_ever() -> bool:
    while True:
        pass


def guarded(guard: Guard, predicate: Callable[[], object], what: object = None) -> bool:
    """Whether a predicate came to its end; as the engine does it, but for that nothing rests."""
    try:
        try:
            guard.begin(object() if what is None else what)
            predicate()
        finally:
            guard.end()
    except TooLong:
        return False
    return True


def hit_early(guard: Guard, limit_s: float, predicate: Callable[[], object]) -> bool:
    """Whether it was ended before its time: on a busy machine a short one may take as long."""
    began_s = time.monotonic()
    return not guarded(guard, predicate) and time.monotonic() - began_s < limit_s


def test_what_runs_for_ever_is_ended_and_what_comes_next_runs() -> None:
    """Again and again."""
    with Guard(0.02) as guard:
        for _ in range(3):
            assert not guarded(guard, for_ever)
            assert guarded(guard, lambda: 1)


def test_nothing_is_hit_that_takes_less() -> None:
    """However often it runs, and however long all of them take."""
    with Guard(0.2) as guard:
        end_s = time.monotonic() + 0.6
        while time.monotonic() < end_s:
            assert not hit_early(guard, 0.2, lambda: sum(range(100)))


def test_who_catches_everything_is_hit_again() -> None:
    """An `except:` around a loop does not help it."""
    caught = list[BaseException]()

    def stubborn() -> None:
        while True:
            try:
                for_ever()
            except BaseException as error:
                caught.append(error)
                if len(caught) == 2:
                    raise

    with Guard(0.02) as guard:
        assert not guarded(guard, stubborn)
        assert guarded(guard, lambda: 1)
    assert [type(error) for error in caught] == [TooLong, TooLong]


def test_what_was_ended_rests_and_is_begun_again_later() -> None:
    """Ten times as long as it may take; meanwhile it costs nothing, and others run."""
    is_slow = True

    def sometimes_slow() -> None:
        if is_slow:
            for_ever()

    def another() -> None:
        pass

    with Guard(0.05) as guard:
        began_s = time.monotonic()
        assert not guarded(guard, sometimes_slow, sometimes_slow)
        is_slow = False
        while not guarded(guard, sometimes_slow, sometimes_slow):
            assert not hit_early(guard, 0.05, another)
        assert time.monotonic() - began_s > 0.5


@pytest.mark.parametrize("lost_before", ["", "_code", "_ask_for"])
@pytest.mark.usefixtures("quick_switches")
def test_nothing_is_raised_outside_by_predicates_that_take_just_as_long_as_they_may(
    lost_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second one is ended just before it is through, or not; what runs behind it goes on.

    A staircase: how late the watchdog wakes differs from machine to machine, so each one takes a
    little less than the one before if that was ended, and a little more if it was not. Where the
    watchdog loses its turn while it aims, the predicate may be through by then.
    """
    busy_s, ended = LIMIT_S, 0
    if lost_before:
        step = getattr(guard_module, lost_before)

        def loses_its_turn(*arguments: object) -> object:
            time.sleep(LIMIT_S / 5)
            return step(*arguments)

        monkeypatch.setattr(guard_module, lost_before, loses_its_turn)

    def busy(how_long_s: float) -> None:
        end_s = time.perf_counter() + how_long_s
        while time.perf_counter() < end_s:
            pass

    with Guard(LIMIT_S) as guard:
        for _ in range(HITS):
            if guarded(guard, partial(busy, busy_s)):
                busy_s *= 1.01
            else:
                busy_s /= 1.01
                ended += 1
            busy(LIMIT_S / 2)
        time.sleep(0.01)
    assert HITS / 4 < ended < HITS * 3 / 4


def test_where_something_is_stuck_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function written in C does not end before it returns."""
    monkeypatch.setattr("shardlog.monitor.live.guard.STUCK_S", 0.05)
    is_free = threading.Event()
    with Guard(0.02) as guard:
        assert guard.stuck() == ""
        thread = threading.Thread(target=guarded, args=(guard, is_free.wait))
        thread.start()
        comes_true(lambda: guard.stuck() != "")
        assert "threading.py" in guard.stuck()
        is_free.set()
        thread.join()
        assert guard.stuck() == ""


def test_a_predicate_that_loops_is_blind_and_the_others_are_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it comes to its end again, which it is given the time for."""

    @once
    def loops(live: Live) -> None:
        always(lambda: live["a"] != 4 or for_ever(), at="arrival")

    @once
    def counts(live: Live) -> None:
        always(lambda: live["a"] > 0, at="arrival")

    tests: list[Test] = [getattr(loops, MARK), getattr(counts, MARK)]
    monkeypatch.setattr(guard_module, "REST", 10_000)
    with Guard(0.1) as guard:
        verdicts = list[list[Verdict]]()
        engine = Engine(tests, guard=guard)
        engine.receive(whole(1))
        engine.receive(heard(2))
        for at_ns in range(3, 6):
            engine.receive(moved(at_ns, a=at_ns))

            verdicts.append([group.verdict() for group in engine.groups.values()])
        guard._rests.clear()  # pyright: ignore[reportPrivateUsage]
        engine.handle_timer(20 * 10**9)
        verdicts.append([group.verdict() for group in engine.groups.values()])

    good, blind = Verdict.HOLDING, Verdict.BLIND
    assert verdicts == [[good, good], [blind, good], [blind, good], [good, good]]


class Slow(AssertionError):
    """Takes its time to say what it is."""

    def __str__(self) -> str:
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            pass
        return "slow"


class Tedious:
    """Takes its time to show itself."""

    __repr__ = Slow.__str__


def test_what_a_predicate_gives_and_raises_is_shown_within_the_time_that_it_has() -> None:
    """Since that, too, is written by whoever wrote the predicate."""

    def slow() -> object:
        raise Slow

    @once
    def asserts(live: Live) -> None:
        always(lambda: live["a"] and slow(), at="arrival")

    @once
    def shows(live: Live) -> None:
        moves(lambda: live["a"] and Tedious(), every=60)

    tests: list[Test] = [getattr(asserts, MARK), getattr(shows, MARK)]
    with Guard(0.02) as guard:
        engine = Engine(tests, guard=guard)
        engine.receive(whole(1, a=1))
        engine.receive(heard(2))
        for group in engine.groups.values():
            (instance,) = group.open.values()
            assert instance.condition(0, 2).message.endswith("took longer than it may")
