"""What each kind of property means, and what is said to who asks for it in a wrong way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.replication.messages import Changes
from shardlog.monitor.feed import Moved, Whole
from shardlog.monitor.live.declared import each, once
from shardlog.monitor.live.properties import (
    TAKER,
    always,
    eventually,
    expect,
    ladder,
    moves,
    never,
    rung,
    sometimes,
)
from shardlog.monitor.live.verdict import Verdict
from shardlog.monitor.live.view import ReadOnly
from tests.live.run import WRITERS, Run, ns

Ask = Callable[[Any], object]


def run_of(ask: Ask, **options: Any) -> Run:
    """A run of one test of the whole that asks for this; nothing shows yet."""

    def asked(live: Any) -> Any:
        ask(live)

    return Run(("", asked), **options).begin()


def said(run: Run) -> list[str]:
    """All verdicts."""
    return run.verdicts("asked")


def until(run: Run, last_s: int, first_s: int = 0) -> Run:
    """Hosts are heard each second."""
    for second in range(first_s, last_s + 1):
        run.pass_time(second).hear(second)
    return run


def test_eventually_passes_when_it_is_seen_and_fails_when_all_have_told() -> None:
    """At the deadline it is overdue; a fail once it is known that nothing was said in time."""
    run = run_of(lambda live: eventually(lambda: live.a, within=5)).write(3, "a", 1)
    assert said(run) == ["pending", "pass"]
    assert run.said[-1][0] == 3
    run = run_of(lambda live: eventually(lambda: live.a, within=5)).pass_time(6)
    assert said(run) == ["pending", "overdue"]
    run.hear(6.1, told_s=5.1)
    assert said(run) == ["pending", "overdue", "fail"]
    assert run.condition("asked").message == "not within 5 s"


def test_lateness_is_how_long_a_silent_host_is_waited_for() -> None:
    """Nobody says anything any more, and is not yet said to be gone."""
    run = run_of(lambda live: eventually(lambda: live.a, within=5), lateness_ms=700).pass_time(20)
    assert run.said[-1] == (5.7, "asked", "fail")


@pytest.mark.parametrize(("stamp_s", "verdict"), [(5, "pass"), (5.1, "fail")])
def test_evidence_counts_by_when_it_was_said(stamp_s: float, verdict: str) -> None:
    """In time, though it came late; or too late, by how much is said."""
    run = run_of(lambda live: eventually(lambda: live.a, within=5)).pass_time(5.5)
    run.write(6, "a", 1, stamp_s=stamp_s).pass_time(10)
    assert said(run)[-1] == verdict
    message = run.engine.groups["asked"].failed and run.condition("asked").message
    assert not message or message == "not within 5 s; it came 0.10 s too late"


def test_hold_is_how_long_it_must_stay_true_to_count() -> None:
    """What ended it may be on its way, so all must have told; begun in time is in time."""
    ask: Ask = lambda live: eventually(lambda: live.a, within=5, hold=2)  # noqa: E731
    run = run_of(ask).write(4.5, "a", 1).pass_time(6.6)
    assert said(run) == ["pending"]
    run.hear(6.7, told_s=6.55)
    assert said(run) == ["pending", "pass"]
    run = run_of(ask).write(4.5, "a", 1).pass_time(6).erase(6, "a").write(6.2, "a", 1)
    assert said(until(run, 12, 7))[-1] == "fail"
    assert "it was true for 1.50 s only: T+4.50 to T+6.00 s" in run.explanation("asked")


def test_what_held_long_enough_has_held_though_its_end_came_before_all_had_told() -> None:
    """When it ended is what counts, not when that came."""
    run = run_of(lambda live: eventually(lambda: live.a == 1, within=5, hold=2)).write(1, "a", 1)
    run.write(3.3, "a", 2, stamp_s=3.1).hear(4)
    assert said(run)[-1] == "pass"
    run = run_of(lambda live: eventually(lambda: live.a == 1, within=5, hold=2)).write(1, "a", 1)
    run.write(3.3, "a", 2, stamp_s=2.9)
    assert said(until(run, 12, 4))[-1] == "fail"


def test_an_end_that_came_with_something_later_is_an_end_of_its_own_time() -> None:
    """Of a delta it is not known which row ended it, so it is the earliest that counts."""
    run = run_of(lambda live: eventually(lambda: live.a == 1 and live.b, within=5, hold=2))
    run.write(1, "a", 1).write(1, "b", 1)
    rows = [run.row("b", 2, 3.2), run.row("a", 2, 2.9)]
    run.happens(Moved(ns(3.3), Changes(WRITERS, rows)))
    assert said(until(run, 12, 4))[-1] == "fail"


def test_only_hosts_that_it_has_to_do_with_are_waited_for() -> None:
    """Another one is not heard: what all it concerns have told is judged at once."""

    def changed(i: Any, live: Any) -> Any:
        return eventually(lambda: i.host == "b", within=5)

    run = Run(("intents/*", changed)).begin().write(1, "intents/1/host", "a")
    run.hear(5, node_2="stale").hear(6.1, node_2="stale")
    assert run.said[-1] == (6.1, "changed[1]", "fail")


def test_a_ladder_owes_each_rung_from_the_one_before_it() -> None:
    """It says where it stands, and `doomed` ends the waiting."""

    def steps(live: Any) -> object:
        return ladder(
            rung("first", lambda: live.a, within=10),
            rung("second", lambda: live.b, within=3),
            doomed=lambda: live.lost,
        )

    run = run_of(steps).write(4, "a", 1)
    assert run.condition("asked").message == "before rung 2/2 'second' behind 'first'"
    assert until(run, 10, 4).said[-1][::2] == (7.0, "fail")
    assert run.condition("asked").message == "stuck before rung 2/2 'second', 3 s after 'first'"
    run = run_of(steps).write(1, "b", 1).write(4, "a", 1)
    assert said(run)[-1] == "pass"
    run = run_of(steps).write(1, "lost", True)
    assert run.condition("asked").reason == "Doomed"


def test_nothing_is_doomed_while_that_may_be_wrong() -> None:
    """A doubt is no end to the waiting."""
    run = run_of(
        lambda live: ladder(rung("x", lambda: live.a, within=10), doomed=lambda: live.lost)
    )
    run.doubt(1, "lost messages").write(2, "lost", True)
    assert said(run)[-1] == "blind"
    run.doubt(3, "")
    assert said(run)[-1] == "fail"


@pytest.mark.parametrize("at", ["cut", "arrival"])
def test_always_fails_at_once_and_never_is_its_opposite(at: Any) -> None:
    """While there is no answer it is idle."""
    asks: list[Ask] = [
        lambda live: always(lambda: live.a < 3, at=at),
        lambda live: never(lambda: live.a >= 3, at=at),
    ]
    for ask in asks:
        run = run_of(ask).hear(1)
        assert run.verdict("asked") is Verdict.IDLE
        run.write(1, "a", 1).hear(3)
        assert run.verdict("asked") is Verdict.HOLDING
        run.write(4, "a", 3).hear(6)
        assert run.condition("asked").message == "broken, after it held 3.0 s"


@pytest.mark.parametrize("at", ["cut", "arrival"])
def test_always_neither_fails_nor_passes_while_evidence_may_be_missing(at: Any) -> None:
    """What is broken may be whole, and the other way round; it shows when the doubt is over."""
    run = run_of(lambda live: always(lambda: live.a < 3, at=at)).write(1, "a", 1).hear(2)
    run.doubt(3, "lost").write(4, "a", 5).hear(6)
    assert run.verdict("asked") is Verdict.BLIND
    run.doubt(7, "").hear(8)
    assert run.verdict("asked") is Verdict.FAIL
    run = run_of(lambda live: always(lambda: live.a < 3, during=3, at=at)).write(1, "a", 1).hear(2)
    run.doubt(3, "lost").pass_time(8).hear(8)
    assert run.verdict("asked") is Verdict.BLIND
    run.doubt(9, "").hear(10)
    assert run.verdict("asked") is Verdict.PASS


@pytest.mark.parametrize("at", ["cut", "arrival"])
def test_during_is_how_long_it_is_watched(at: Any) -> None:
    """From the first answer on; then it is a pass, also while it is not judged."""
    run = until(
        run_of(lambda live: always(lambda: live.a < 3, during=5, at=at)).write(1, "a", 1), 9, 2
    )
    assert said(run)[-1] == "pass"
    run = run_of(lambda live: always(lambda: live.a < 3, when=lambda: live.on, during=5, at=at))
    run.write(1, "a", 1).write(1, "on", 1).hear(2).erase(3, "on")
    assert said(until(run, 9, 4))[-1] == "pass"


@pytest.mark.parametrize("at", ["cut", "arrival"])
def test_broken_for_is_how_long_it_must_stay_false_to_fail(at: Any) -> None:
    """Less than that is a flap; meanwhile it is overdue."""
    run = run_of(lambda live: always(lambda: live.a < 2, broken_for=3, at=at)).write(1, "a", 1)
    run.hear(2).write(3, "a", 2).hear(4)
    assert run.verdict("asked") is Verdict.OVERDUE
    run.write(5, "a", 1).hear(6)
    assert run.verdict("asked") is Verdict.HOLDING
    run.write(7, "a", 2)
    assert said(until(run, 9, 8))[-1] == "overdue"
    assert said(until(run, 11, 10))[-1] == "fail"


@pytest.mark.parametrize("at", ["cut", "arrival"])
def test_clear_after_is_how_long_it_must_stay_true_to_have_healed(at: Any) -> None:
    """Shorter, and it counts as having been broken all the time."""
    run = run_of(lambda live: always(lambda: live.a < 2, broken_for=5, clear_after=2, at=at))
    run.write(1, "a", 1).hear(2).write(3, "a", 2).write(5, "a", 1).write(6, "a", 2)
    assert said(until(run, 10, 7))[-1] == "fail"
    run = run_of(lambda live: always(lambda: live.a < 2, broken_for=5, clear_after=2, at=at))
    run.write(1, "a", 1).hear(2).write(3, "a", 2).write(5, "a", 1)
    assert said(until(run, 6, 6))[-1] == "overdue"
    assert said(until(run, 9, 7))[-1] == "holding"
    run = run_of(lambda live: always(lambda: live.a < 2, broken_for=9, clear_after=2, at=at))
    run.write(1, "a", 1).hear(2).write(3, "a", 2).write(5, "a", 1).write(6, "a", 2)
    run.write(6.5, "a", 1)
    assert said(until(run, 8, 7))[-1] == "overdue"
    assert said(until(run, 10, 9))[-1] == "holding"


@pytest.mark.parametrize("at", ["cut", "arrival"])
def test_what_is_broken_but_judged_no_more_is_not_overdue(at: Any) -> None:
    """`when` is over before `broken_for` is: nothing is owed, and later it begins anew."""
    run = run_of(
        lambda live: always(lambda: live.a == 1, when=lambda: live.on, broken_for=3, at=at)
    )
    run.write(1, "a", 1).write(1, "on", 1).hear(2).write(3, "a", 2).hear(4)
    assert run.verdict("asked") is Verdict.OVERDUE
    run.erase(5, "on")
    assert said(until(run, 10, 6))[-1] == "holding"
    run.write(11, "on", 1)
    assert said(until(run, 13, 12))[-1] == "overdue"
    assert said(until(run, 16, 14))[-1] == "fail"


def test_moves_is_a_deadline_that_moves_along() -> None:
    """It is another value each time; `when` suspends it."""

    def ask(live: Any) -> object:
        return moves(lambda: live.a, every=3, when=lambda: live.on)

    run = run_of(ask).write(1, "on", 1).write(1, "a", 1)
    for second in (3, 5, 7):
        run.pass_time(second).write(second, "a", second).hear(second)
    assert run.verdict("asked") is Verdict.HOLDING
    assert until(run, 12, 8).said[-1][::2] == (10.0, "fail")
    assert run.condition("asked").message == "stands still: 7 since 3.0 s"
    run = run_of(ask).write(1, "on", 1).write(1, "a", 1).pass_time(4.5)
    assert run.verdict("asked") is Verdict.OVERDUE
    run.erase(4.6, "on", by="orchestrator")
    assert said(until(run, 20, 5))[-1] == "holding"


def test_what_is_gone_moves_no_more() -> None:
    """That nothing is there any more is no excuse."""
    run = run_of(lambda live: moves(lambda: live.a, every=3)).write(1, "a", 7).hear(1).erase(2, "a")
    assert until(run, 9, 2).said[-1][::2] == (4.0, "fail")
    assert run.condition("asked").message == "stands still: 7 since 3.0 s"


def test_what_moves_may_be_any_value() -> None:
    """Lists, dicts and sets of keys move, too."""
    asks: list[Ask] = [
        lambda live: moves(lambda: [*live.pages], every=3),
        lambda live: moves(lambda: live.pages, every=3),
        lambda live: moves(lambda: {*live.pages}, every=3),
    ]
    for ask in asks:
        run = run_of(ask)
        for second in range(1, 9):
            run.pass_time(second).write(second, f"pages/{second}", 1).hear(second)
        assert run.verdict("asked") is Verdict.HOLDING


def test_sometimes_is_owed_until_the_run_ends() -> None:
    """Once is enough."""
    run = run_of(lambda live: sometimes(lambda: live.a)).hear(1)
    assert run.verdict("asked") is Verdict.PENDING
    run.engine.end(ns(2))
    assert run.condition("asked").message == "not seen in this run"
    run = run_of(lambda live: sometimes(lambda: live.a)).write(1, "a", 1)
    assert said(run) == ["pending", "pass"]


def test_expect_is_a_partial_document() -> None:
    """What is missing is said, all of it."""
    wanted = {"intents": {"42": {"host": "a", "tags": [1, 2], "done": {}, "x": {"y": 1}}}}
    run = run_of(lambda live: expect(wanted, within=5)).write(1, "intents/42/host", "b")
    run.write(1, "intents/42/x", 7)
    until(run, 8, 1)
    assert run.condition("asked").message == (
        "not within 5 s: intents/42/host is 'b', not 'a'; "
        "intents/42/tags is absent; "
        "intents/42/done is absent; intents/42/x is 7, no dict"
    )


def test_the_end_of_a_run_is_a_pass_for_what_held_and_for_nothing_else() -> None:
    """What is pending stays so: it may still have come."""

    def several(live: Any) -> Any:
        yield always(lambda: live.a < 3, at="arrival")
        yield always(lambda: live.never_there < 1)
        yield eventually(lambda: live.b, within=50)
        yield moves(lambda: live.a, every=50)

    run = Run(("", several)).begin().write(1, "a", 1)
    run.engine.end(ns(10))
    run.note()
    verdicts = [str(run.condition("several", at=at).verdict) for at in range(4)]
    assert verdicts == ["pass", "idle", "pending", "pass"]


def test_the_end_of_a_run_is_no_pass_while_evidence_may_be_missing() -> None:
    """It is blind, and stays so."""
    run = run_of(lambda live: always(lambda: live.a < 3, at="arrival")).write(1, "a", 1)
    run.doubt(2, "lost")
    run.engine.end(ns(10))
    assert run.note().verdict("asked") is Verdict.BLIND


class Mute(Exception):
    """Can't say what it is."""

    def __str__(self) -> str:
        raise self.args[0]


class MuteAssertion(Mute, AssertionError):
    """The same, where no error is expected to be one."""


class MuteWrite(Mute, ReadOnly):
    """The same."""


@pytest.mark.parametrize("why", [TypeError("no text"), SystemExit(3)])
@pytest.mark.parametrize("kind", [Mute, MuteAssertion, MuteWrite])
def test_an_error_that_has_no_text_is_a_mistake_like_others(
    kind: type[Mute], why: BaseException
) -> None:
    """In a predicate, and in a test's function: the others are judged."""

    def fails() -> Any:
        raise kind(why)

    def asked(live: Any) -> Any:
        yield eventually(fails, within=5)
        yield always(fails, at="arrival")
        yield moves(fails, every=5)
        yield moves(lambda: live.a, every=5, when=fails)

    def built(live: Any) -> Any:
        fails()

    def judged(live: Any) -> Any:
        return eventually(lambda: live.a, within=5)

    run = Run(("", asked), ("", built), ("", judged)).begin().write(1, "a", 1)
    assert run.verdict("judged") is Verdict.PASS
    assert run.condition("built").message == f"built: {kind.__name__}"
    if kind is MuteAssertion:
        assert "raise kind(why)" in run.condition("asked", at=1).message
    else:
        assert run.condition("asked").reason == "Raised"


class Odd:
    """What is neither the same as another one nor not."""

    def __init__(self, number: int, *, is_shown: bool = True) -> None:
        self._number = number
        self._is_shown = is_shown

    def __eq__(self, other: object) -> bool:
        if self._is_shown:
            raise ValueError("the truth of an array is ambiguous")
        return isinstance(other, Odd) and other._number == self._number

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        if self._is_shown:
            return f"odd {self._number}"
        raise ValueError("it can't be shown")


def odd(live: Any) -> Any:
    """What can't be compared."""
    return Odd(live.a)


def hidden(live: Any) -> Any:
    """What is no text."""
    return Odd(live.a, is_shown=False)


def refuses(live: Any) -> Any:
    """What a predicate may do."""
    assert live.a == 0, "no value"
    return live.a


@pytest.mark.parametrize(
    ("looks", "reason"),
    [
        (odd, "ValueError: the truth of an array is ambiguous"),
        (hidden, "ValueError: it can't be shown"),
        (refuses, "AssertionError: no value"),
    ],
)
def test_what_moves_and_cant_be_compared_or_shown_is_blind(looks: Ask, reason: str) -> None:
    """So is an assertion where a value was to be; the others are judged."""

    def asked(live: Any) -> Any:
        return moves(lambda: looks(live), every=3)

    def judged(live: Any) -> Any:
        return eventually(lambda: live.a == 2, within=5)

    run = Run(("", asked), ("", judged)).begin().write(1, "a", 1).write(2, "a", 2)
    assert run.condition("asked").reason == "Raised"
    assert reason in run.condition("asked").message
    assert run.verdict("judged") is Verdict.PASS


def refused(function: Callable[..., Any]) -> str:
    """What is said of what a test asks for."""
    run = Run(("", function)).begin()
    return run.condition(function.__name__).message


def test_what_is_asked_for_in_a_wrong_way_is_said() -> None:
    """One line, with the place where there is one; the test is blind, and the others go on."""

    def no_callable(live: Any) -> Any:
        return eventually(live.a, within=5)

    assert refused(no_callable) == (
        "no_callable: ConfigError: <nothing at a> is no function: "
        "write `lambda: ...`, to ask again later"
    )

    def no_within(live: Any) -> Any:
        return eventually(lambda: live.a)

    assert refused(no_within).endswith(
        "eventually live.a: within= is missing: until when is it owed?"
    )

    seen: list[int] = []

    def writes(live: Any) -> Any:
        def first() -> bool:
            seen[0] = 1
            return True

        return eventually(first, within=1)

    assert "a predicate only looks; this one writes an item" in refused(writes)

    def waits(live: Any) -> Any:
        async def later() -> bool:
            return True

        return eventually(later, within=1)

    assert refused(waits).endswith("later: a coroutine can't be asked again and again")

    def yields(live: Any) -> Any:
        def one() -> Any:
            yield live.a

        return eventually(one, within=1)

    assert refused(yields).endswith("one: a generator is no answer: return one")

    def forgets_any(live: Any) -> Any:
        return eventually(lambda: (x for x in live.a), within=1)

    assert refused(forgets_any).endswith("TypeError: a generator is no answer: any(...), all(...)?")

    def nothing(live: Any) -> Any:
        return live.a

    assert refused(nothing) == "nothing asks for nothing: eventually, always, ... are missing"

    def breaks(live: Any) -> Any:
        return eventually(lambda: True, within=1 / 0)

    assert refused(breaks) == "breaks: ZeroDivisionError: division by zero"

    def negative(live: Any) -> Any:
        return eventually(lambda: live.a, within=-1)

    assert refused(negative).endswith("within=-1: it is a number of seconds")

    def when_is_wrong(live: Any) -> Any:
        return always(lambda: live.a, when=live.b)

    assert "is no function" in refused(when_is_wrong)

    async def answers_later(live: Any) -> Any:
        return eventually(lambda: live.a, within=5)

    assert refused(answers_later) == (
        "answers_later is a coroutine function: a test is a plain function, or a generator"
    )


def test_mistakes_in_a_predicate_are_said_with_their_place() -> None:
    """As soon as it is asked."""
    mistakes: list[tuple[Ask, str]] = [
        (lambda live: eventually(lambda: live.a > 1, within=5), "a is no number"),
        (
            lambda live: eventually(lambda: live.a.items(), within=5),
            "a/items is called, but nothing",
        ),
        (lambda live: eventually(lambda: live.a.b.upper(), within=5), "no attribute 'upper'"),
        (lambda live: eventually(lambda: setattr(live, "a", 1), within=5), "writes: "),
        (lambda live: eventually(lambda: eventually(lambda: 1, within=1), within=5), "under @each"),
    ]
    for ask, message in mistakes:
        run = run_of(ask).write(1, "a/b", 1)
        condition = run.condition("asked")
        assert condition.verdict is Verdict.BLIND
        assert condition.message.startswith(__file__), condition
        assert message in condition.message


def test_patterns_that_bind_no_key_are_refused() -> None:
    """When the file is read, before anything runs."""
    wrong: Any
    for wrong in ("", "**", "intents/**", 7, None):
        with pytest.raises(ConfigError, match="each"):
            each(wrong)
    with pytest.raises(ConfigError, match="a pattern is missing"):
        each(lambda i, live: None)  # type: ignore[arg-type]
    assert once(run_of) is run_of


def test_to_ask_for_something_outside_of_a_test_is_refused() -> None:
    """There is nobody who would judge it."""
    assert TAKER.get(None) is None
    with pytest.raises(ConfigError, match="in a function under @each or @once"):
        eventually(lambda: True, within=1)


def test_what_was_there_when_the_monitor_came_counts_as_in_time() -> None:
    """It is said that this is a guess."""

    def both(live: Any) -> Any:
        return eventually(lambda: live.a and live.b, within=5)

    run = Run(("", both))
    run.begin([run.row("a", 1, 1), run.row("b", 1, 15)], 20)
    assert run.verdict("both") is Verdict.PASS


def test_a_verdict_outlives_what_comes_later() -> None:
    """A fail stays one, although all is well a second later."""
    run = until(run_of(lambda live: eventually(lambda: live.a, within=2)), 5)
    run.write(6, "a", 1)
    run.happens(Whole(ns(7), (Changes(WRITERS, [run.row("a", 1, 1)]),)))
    assert said(run) == ["pending", "overdue", "fail"]
