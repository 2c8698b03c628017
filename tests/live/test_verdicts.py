"""What people are shown of live tests: the worst first, nothing twice, and no more than fits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from shardlog.cli import verdicts
from shardlog.cli.verdicts import MARKS, Seen, Told, final, view
from shardlog.monitor.feed import Doubt
from shardlog.monitor.live import always, each, eventually, once
from shardlog.monitor.live.declared import MARK, Test
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.report import overall, report
from shardlog.monitor.live.verdict import Verdict
from tests.live.events import heard, moved, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.monitor.feed import Event
    from shardlog.monitor.live.instance import Transition
    from shardlog.monitor.live.view import Live, Node

S = 10**9
MS = 10**6


def per_item(name: str, predicate: Callable[[Any], object]) -> Test:
    """Owed within 10 s for each item."""

    def function(item: Node, _: Live) -> None:
        eventually(lambda: predicate(item), within=10)

    function.__name__ = name
    test: Test = getattr(each("items/*")(function), MARK)
    return test


@once
def calm(live: Live) -> None:
    always(lambda: live["alarm"] != "on", at="arrival", broken_for=60)


CALM: Test = getattr(calm, MARK)
DONE = per_item("done", lambda item: item.state == "done")


def items(number: int, value: str = "asked") -> dict[str, str]:
    return {f"items/{at}/state": value for at in range(number)}


def engine_after(tests: list[Test], *events: Event) -> Engine:
    engine = Engine(tests)
    for event in events:
        engine.receive(event)
    return engine


def transitions_of(tests: list[Test], *events: Event) -> list[Transition]:
    return engine_after(tests, *events).take_effects()


def lines_of(tests: list[Test], *events: Event) -> list[str]:
    """What is told, without its time."""
    told = Told()
    lines = told.take(transitions_of(tests, *events)) + told.flush()
    return [line.partition("Z ")[2] for line in lines]


def printed(*parts: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in parts:
        console.print(part, soft_wrap=True)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def end(*tests: Test, events: list[Event], replay: tuple[str, ...] = ()) -> str:
    return printed(*final(report(engine_after([*tests], *events)), replay))


def test_what_is_bad_is_told_and_what_has_healed() -> None:
    """And nothing else: that something is pending, holds or passes is no news."""
    assert lines_of(
        [CALM, DONE],
        whole(S, **items(1)),
        heard(S),
        moved(2 * S, alarm="on"),
        moved(3 * S, alarm="off"),
        moved(4 * S, **items(1, "done")),
    ) == ["! overdue calm: broken", '● holding calm always live["alarm"] != "on"']


def test_what_changes_again_at_once_is_not_told() -> None:
    """A quarter of a second is longer than it takes to be heard, after a start."""
    events: list[Event] = [whole(S), moved(2 * S, alarm="on")]
    events.append(moved(2 * S + 100 * MS, alarm="off"))

    assert lines_of([CALM], heard(S), *events, moved(5 * S, alarm="off")) == []


def test_of_many_that_say_the_same_one_is_told() -> None:
    """And how many there are."""
    events: list[Event] = [whole(S, **items(1000)), heard(S), heard(20 * S)]
    (overdue, failed) = lines_of([DONE], *events)

    assert overdue == "! overdue done[0]: not yet (and 999 more alike)"
    assert failed == "✗ fail done[0]: not within 10 s (and 999 more alike)"


def test_what_is_final_is_not_kept_to_be_told_of_again() -> None:
    """A run without an end has ever more failures, and of none there is more to tell."""
    told = Told()
    events: list[Event] = [whole(S, **items(1000)), heard(S), heard(20 * S)]
    told.take(transitions_of([DONE], *events))
    told.flush()

    assert told._bad == {}  # pyright: ignore[reportPrivateUsage]


def test_what_has_gone_and_come_and_fails_again_is_told_again() -> None:
    """It is another one of the same name."""
    events: list[Event] = [whole(S, **items(1)), heard(S), heard(20 * S), whole(21 * S)]
    lines = lines_of([DONE], *events, moved(22 * S, **items(1)), heard(22 * S), heard(40 * S))

    assert lines == ["! overdue done[0]: not yet", "✗ fail done[0]: not within 10 s"] * 2


def test_of_what_is_bad_the_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is about may be gone, which nobody tells: what is kept has a bound."""
    monkeypatch.setattr(verdicts, "BAD_MAX", 5)
    told = Told()
    events: list[Event] = [whole(S, **items(9)), heard(S), heard(11 * S, 2 * S)]
    told.take(transitions_of([DONE], *events))

    assert told.flush() != []
    assert len(told._bad) == 5  # pyright: ignore[reportPrivateUsage]


def test_it_does_not_matter_in_which_portions_it_is_told() -> None:
    """So a recording, which is judged as fast as that goes, is told like the run itself."""
    events: list[Event] = [whole(S, **items(5)), heard(S)]
    for at in range(2, 40):
        events.append(moved(at * S // 3, alarm="on" if at % 5 else "off"))
        events.append(heard(at * S // 3 + 1))
    transitions = transitions_of([CALM, DONE], *events)
    at_once, one_by_one = Told(), Told()
    lines = at_once.take(transitions) + at_once.flush()
    again = [line for one in transitions for line in one_by_one.take([one])]

    assert lines == again + one_by_one.flush()
    assert len(lines) > 5


def test_what_a_state_says_is_not_obeyed() -> None:
    """Neither in a line, nor in the view, nor at the end."""
    events: list[Event] = [whole(S, **{"items/\x1b[2J/state": "\x1b]0;x"}), heard(S), heard(20 * S)]
    engine = engine_after([DONE], *events)
    seen = Seen(report(engine), (("\x1b[2J", "stale"),), 20 * S)
    text = printed(view("t", seen, 80, 20), *final(report(engine), ["\x1b"]))

    assert "\x1b" not in text + "".join(lines_of([DONE], *events))
    assert "done[�[2J]" in text


@pytest.mark.parametrize("height", [6, 12, 24, 60])
@pytest.mark.parametrize("width", [40, 100])
def test_the_view_fits_and_has_the_worst_first(width: int, height: int) -> None:
    """However many tests and instances there are; each verdict has its mark and its word."""
    many = [per_item(f"asked_{at}", lambda item: item.state == "asked") for at in range(40)]
    engine = engine_after(
        [*many, DONE, CALM], whole(S, **items(30), alarm="on"), heard(S), heard(20 * S)
    )
    seen = Seen(report(engine, explained_max=0), (("node-1", "live"),), 21 * S)
    lines = printed(view("shardlog test", seen, width, height), width=width).splitlines()

    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert "judged to" in lines[0]
    assert "nothing is in doubt" in lines[1]
    assert lines[2].startswith("✗ 30 fail")
    if height > 6:
        assert lines[4].startswith("✗ fail     done")
        assert lines[5].split()[:4] == ["✗", "30×", "8.0", "s"]
        assert lines[6].startswith("! overdue  calm")
        assert ("more tests, at worst pass" in lines[-1]) is (height < 60)


def test_doubt_is_on_the_screen() -> None:
    """That of the link before that of a host."""
    events: list[Event] = [whole(S), heard(S, status="stale")]
    more: tuple[Event, ...]
    stale = "in doubt: node-1 has not been heard since"
    for more, says in (((), stale), ((Doubt(2 * S, "gap"),), "in doubt: gap")):
        said = report(engine_after([CALM], *events, *more))
        seen = Seen(said, (("node-1", "stale"),), 21 * S)
        assert says in printed(view("t", seen, 100, 20)).splitlines()[1]
        seen = seen._replace(report=said._replace(doubt=""))
        assert "node-1 is stale" in printed(view("t", seen, 100, 20)).splitlines()[1]


def test_a_run_that_ends_in_doubt_has_not_passed() -> None:
    """Something may have come that nobody was told of; a failure stays one."""
    events: list[Event] = [whole(S, **items(1, "done")), heard(S), Doubt(2 * S, "gap")]
    said = report(engine_after([DONE], *events))
    assert (said.verdict, overall(said)) == (Verdict.PASS, Verdict.BLIND)
    assert "? CAN'T TELL: ✓ 1 pass; judged to 00:00:02.0Z; in doubt: gap" in end(
        DONE, events=events
    )

    failed = report(engine_after([DONE], whole(S, **items(1)), heard(20 * S), Doubt(30 * S, "x")))
    assert overall(failed) is Verdict.FAIL


def test_at_the_end_what_is_bad_is_explained_and_what_is_alike_named() -> None:
    """Three of a kind with all that is known, the others by name; the table comes last."""
    text = end(
        DONE, events=[whole(S, **items(30)), heard(S), heard(20 * S)], replay=("shardlog", "test")
    )

    assert text.count("state = 'asked'") == 3
    assert text.count("  replay     shardlog test --only 'done[0]'\n") == 1
    assert "✗ 27 more FAIL alike: done[3], done[4], " in text
    assert "done[14], …\n" in text
    assert text.splitlines()[-1] == "✗ FAIL: ✗ 30 fail; judged to 00:00:20.0Z"


def test_at_the_end_what_is_not_done_is_listed_and_what_never_came() -> None:
    """Since that is why the exit code is 3."""
    text = end(DONE, CALM, events=[whole(S, **items(5)), heard(S)])
    assert "… done[0] PENDING: not yet\n" in text
    assert "  and 2 more that are not done\n" in text

    text = end(DONE, events=[whole(S), heard(S)])
    assert "○ done IDLE: nothing matches items/*\n" in text
    assert text.splitlines()[-1].startswith("○ CAN'T TELL: nothing was there to judge")


def test_each_verdict_has_a_mark_of_its_own() -> None:
    """So that colours are not needed."""
    assert len({*MARKS.values()}) == len(Verdict) == len(MARKS)


def test_of_many_instances_the_worst_are_listed_and_all_are_counted() -> None:
    """As it takes long to look at all."""
    values = {**items(20), **{f"items/{at}/state": "done" for at in range(5)}}
    engine = engine_after([DONE], whole(S, **items(3)), heard(20 * S), moved(21 * S, **values))
    (test,) = report(engine, listed_max=4).tests

    assert [judged.verdict for judged in test.instances] == [Verdict.FAIL] * 3 + [Verdict.PENDING]
    assert test.counts == {Verdict.FAIL: 3, Verdict.PENDING: 15, Verdict.PASS: 2}
