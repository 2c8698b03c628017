"""A thread that judges: woken by what happens and by deadlines, and never silent about its end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardlog.crdt.errors import ConfigError
from shardlog.monitor.feed import Doubt, Whole
from shardlog.monitor.live import always, each, eventually, once
from shardlog.monitor.live.declared import MARK, Test
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.session import Followed, Recorded, Session, Stuck
from shardlog.monitor.live.verdict import Verdict
from tests.helpers import WAIT_S
from tests.live.events import heard, moved, whole
from tests.live.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardlog.monitor.feed import Event
    from shardlog.monitor.live.instance import Transition
    from shardlog.monitor.live.view import Live

S = 10**9


def asks(name: str, ask: Callable[[Live], object]) -> Test:
    """A test of the whole."""

    def function(live: Live) -> None:
        ask(live)

    function.__name__ = name
    test: Test = getattr(once(function), MARK)
    return test


def comes(within: float) -> Test:
    return asks("comes", lambda live: eventually(lambda: live["a"] == 1, within=within))


HOLDS = asks("holds", lambda live: always(lambda: live["a"] == 1, at="arrival"))


def verdict_of(name: str) -> Callable[[Engine], Verdict]:
    return lambda engine: engine.groups[name].verdict()


def is_now(name: str, verdict: Verdict) -> Callable[[Engine], bool]:
    return lambda engine: engine.groups[name].verdict() is verdict


def test_what_happens_is_judged_as_it_comes() -> None:
    """Without anybody asking, and whoever waits is told."""
    node = Node()
    said = list[str]()

    def hear(_: Engine, transitions: list[Transition]) -> None:
        said.extend(str(transition.condition.verdict) for transition in transitions)

    with Session([comes(60)], Followed(node.inbox), hear=hear) as session:
        node.begin(a=0)
        assert session.wait_for(is_now("comes", Verdict.PENDING), WAIT_S)
        node.write(a=1)
        assert session.wait_for(is_now("comes", Verdict.PASS), WAIT_S)
        session.stop()
    assert [verdict for verdict in said if verdict != "blind"] == ["pending", "pass"]


def test_a_deadline_is_judged_when_nothing_happens() -> None:
    """The thread wakes by itself, and what comes too late does not help."""
    node = Node()
    shows = asks("shows", lambda live: eventually(lambda: live["a"] == 1, within=600))
    with Session([comes(0.1), shows], Followed(node.inbox), lateness_ms=100) as session:
        node.begin(a=0)
        assert session.wait_for(is_now("comes", Verdict.FAIL), WAIT_S)
        node.write(a=1)
        assert session.wait_for(is_now("shows", Verdict.PASS), WAIT_S)
        assert session.read(verdict_of("comes")) is Verdict.FAIL


def answered(within: float) -> Test:
    """Owed from when it is asked, by the clock of who asks."""

    def function(i: Any, _: Live) -> None:
        eventually(lambda: i.done, within=within)

    function.__name__ = "answered"
    test: Test = getattr(each("intents/*")(function), MARK)
    return test


@pytest.mark.parametrize("behind_s", [60, -60, 0])
def test_a_clock_that_is_wrong_makes_no_deadline_shorter_or_longer(behind_s: float) -> None:
    """That of whoever follows: it was started before it had been set."""
    for within, verdict in ((60, Verdict.PENDING), (0.2, Verdict.FAIL)):
        node = Node(behind_s)
        test = answered(within)
        with Session([test, comes(within)], Followed(node.inbox), lateness_ms=100) as session:
            node.begin(a=0)
            node.beat()
            node.write(**{"intents/1/host": "a"})
            assert session.wait_for(is_now("answered", verdict), WAIT_S)
            assert session.wait_for(is_now("comes", verdict), WAIT_S)
            at_ns = session.read(lambda engine: engine.now_ns)
            assert abs(at_ns - node.now_ns) < WAIT_S * S


@settings(max_examples=100)
@given(
    ahead_s=st.floats(-7200, 7200).filter(lambda ahead_s: abs(ahead_s) > 2),
    delays_s=st.lists(st.floats(0, 0.3), min_size=4, max_size=4),
    install_s=st.floats(0, 5),
    done_s=st.floats(10, 60),
)
def test_a_recording_by_a_wrong_clock_says_what_one_by_a_right_clock_says(
    ahead_s: float, delays_s: list[float], install_s: float, done_s: float
) -> None:
    """Whatever heartbeats took, of which the first one came with all that showed."""

    def happened(ahead_s: float) -> list[Event]:
        begin_s = 100 + install_s
        events: list[tuple[float, Event]] = [
            (begin_s, whole(100 * S, **{"intents/1/host": "a"})),
            (begin_s, heard(100 * S)),
            (120 + done_s, moved(round((120 + done_s) * S), **{"intents/2/done": 1})),
            (120, moved(120 * S, **{"intents/2/host": "b"})),
        ]
        for beat in range(1, 120):
            delay_s = delays_s[beat % 4] if beat > 6 else 0
            events.append((begin_s + beat + delay_s, heard(round((begin_s + beat) * S))))
        told = sorted(events, key=lambda event: event[0])
        return [event._replace(at_ns=round((at_s + ahead_s) * S)) for at_s, event in told]

    said: list[list[str]] = []
    for ahead in (0, ahead_s):
        transitions: list[str] = []

        def hear(_: Engine, told: list[Transition], to: list[str] = transitions) -> None:
            to += [f"{one.instance.label} {one.condition.verdict}" for one in told]

        with Session([answered(30)], Recorded(happened(ahead)), hear=hear) as session:
            session.wait_for(lambda _: False)
            session.end()
        said.append(sorted(each for each in transitions if "overdue" not in each))
    assert said[0] == said[1]
    assert ("answered[2] fail" in said[0]) is (done_s > 30)


def test_a_test_may_come_and_go_while_others_are_judged() -> None:
    """The new one is judged by what shows; of the old one nothing is left."""
    node = Node()
    with Session([comes(60)], Followed(node.inbox)) as session:
        node.begin(a=1)
        assert session.wait_for(is_now("comes", Verdict.PASS), WAIT_S)
        session.add(HOLDS)
        assert session.wait_for(is_now("holds", Verdict.HOLDING), WAIT_S)
        session.add(asks("holds", lambda live: always(lambda: live["a"] == 2, at="arrival")))
        assert session.wait_for(is_now("holds", Verdict.FAIL), WAIT_S)
        session.remove("comes")
        assert session.read(lambda engine: [*engine.groups]) == ["holds"]


def test_the_end_makes_a_pass_of_what_held_and_a_stop_does_not() -> None:
    """A run that is bounded is judged as a whole."""
    for is_end in (True, False):
        node = Node()
        with Session([HOLDS], Followed(node.inbox)) as session:
            node.begin(a=1)
            assert session.wait_for(is_now("holds", Verdict.HOLDING), WAIT_S)
            session.end() if is_end else session.stop()
            expected = Verdict.PASS if is_end else Verdict.HOLDING
            assert session.read(verdict_of("holds")) is expected
            node.write(a=2)
            # It does not wait: nothing is judged any more.
            assert not session.wait_for(is_now("holds", Verdict.FAIL), WAIT_S)


def recording(minutes: int) -> Iterator[Event]:
    """A recorded run in which `a` came after some time."""
    yield whole(S, a=0)
    for second in range(2, 60 * minutes):
        yield heard(second * S)
    yield moved(60 * minutes * S, a=1)
    yield heard(60 * minutes * S + 1)


def test_a_recording_is_judged_on_its_own_time() -> None:
    """An hour takes no hour; a deadline in it is judged at its time, not at the end."""
    for within, verdict in ((7200, Verdict.PASS), (3000, Verdict.FAIL)):
        with Session([comes(within), HOLDS], Recorded(recording(60))) as session:
            assert not session.wait_for(lambda _: False)
            assert session.is_over
            session.end()
            assert session.read(verdict_of("comes")) is verdict


def test_a_recording_that_ends_in_doubt_is_blind() -> None:
    """It does not know what came next."""
    events: list[Event] = [whole(S, a=1), heard(2 * S), Doubt(3 * S, "torn")]
    with Session([HOLDS], Recorded(events)) as session:
        session.wait_for(lambda _: False)
        session.end()
        assert session.read(verdict_of("holds")) is Verdict.BLIND


def test_a_deadline_that_passes_while_evidence_is_missing_is_judged_when_that_has_healed() -> None:
    """Until then nobody is woken for it."""
    engine = Engine([comes(10)])
    engine.receive(whole(S, a=0))
    engine.receive(heard(2 * S))
    engine.receive(Doubt(3 * S, "gap"))
    engine.handle_timer(60 * S)
    assert engine.next_timer_ns() is None
    assert verdict_of("comes")(engine) is Verdict.BLIND

    engine.receive(Doubt(61 * S, ""))
    assert verdict_of("comes")(engine) is Verdict.FAIL


def test_an_error_in_the_thread_ends_the_run_and_is_raised_in_who_asks() -> None:
    """Nothing is swallowed: not in who waits, and not at the end."""

    def hear(_: Engine, transitions: list[Transition]) -> None:
        raise ZeroDivisionError(f"{len(transitions)} transitions")

    with Session([HOLDS], Recorded(recording(1)), hear=hear) as session:
        for ask in (
            lambda: session.wait_for(lambda _: False, WAIT_S),
            session.end,
            session.stop,
            lambda: session.add(HOLDS),
        ):
            with pytest.raises(Stuck, match=r"ZeroDivisionError: 1 transitions") as raised:
                ask()
            assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_recording_that_cannot_be_read_any_further_says_so() -> None:
    """As the error that it is."""

    def events() -> Iterator[Event]:
        yield whole(S, a=1)
        raise ConfigError("000002.shards: Permission denied")

    with (
        pytest.raises(ConfigError, match="Permission denied"),
        Session([HOLDS], Recorded(events())) as session,
    ):
        session.end()


def test_who_asks_while_a_predicate_does_not_come_back_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And leaving does not wait for it either."""
    monkeypatch.setattr("shardlog.monitor.live.guard.STUCK_S", 0.1)
    is_free, is_inside = threading.Event(), threading.Event()

    def wait() -> bool:
        is_inside.set()
        return is_free.wait(WAIT_S)

    def waits(_: Live) -> None:
        always(wait, at="arrival")

    with Session(
        [asks("waits", waits)], Followed((node := Node()).inbox), predicate_timeout_ms=50
    ) as session:
        node.begin(a=1)
        node.beat()
        assert is_inside.wait(WAIT_S)
        with pytest.raises(Stuck, match=r"does not come back: .*threading\.py"):
            session.read(lambda _: None)
        with pytest.raises(Stuck):
            session.end()
    is_free.set()


def test_what_is_asked_of_the_whole_is_owed_from_when_it_is_asked() -> None:
    """Once, however old and however many the values are that show by then, or whether any does."""
    engine = Engine([comes(10)])
    engine.receive(whole(S, **{"b": 1, "c/d": 2}))
    engine.receive(heard(100 * S))
    engine.remove(engine.groups["comes"])
    engine.add(comes(20), 100 * S)
    assert len(engine.groups["comes"].open) == 1
    engine.receive(whole(110 * S))
    engine.receive(heard(119 * S))
    assert verdict_of("comes")(engine) is Verdict.PENDING
    engine.receive(heard(121 * S))
    assert verdict_of("comes")(engine) is Verdict.FAIL

    late = Engine([comes(10)])
    late.receive(Whole(100 * S, whole(S, b=1).changes))
    late.receive(heard(109 * S))
    assert verdict_of("comes")(late) is Verdict.PENDING
