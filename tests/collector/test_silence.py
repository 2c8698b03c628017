"""A process that lives and says nothing: late, silent or stopped; and what is kept of its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardlog.collector.sidecar.kernel import Exit
from shardlog.crdt.delta import Write
from shardlog.crdt.replication.messages import Heartbeat, Publish
from tests.collector.network import stored
from tests.collector.test_sidecar import BLADE, NOW, SECOND, persisted, report, sidecar

if TYPE_CHECKING:
    from shardlog.collector.sidecar.machine import Sidecar

TOP = f"shardlog/presence/scraper-1/{BLADE}"
NEXT = "scraper-1@node-1:boot:2:2:bb"


def said(machine: Sidecar, key: str, process: str = BLADE) -> Any:
    shown = machine.state.shown(f"shardlog/presence/scraper-1/{process}/{key}")
    return shown and shown.value


def up(process: str = BLADE, **more: Any) -> tuple[Write, ...]:
    top = f"shardlog/presence/scraper-1/{process}"
    return tuple(
        Write(f"{top}/{key}", NOW, 0, value) for key, value in {"status": "up", **more}.items()
    )


def live(machine: Sidecar, first: int, last: int) -> None:
    """Its life file is found locked, second by second, and nothing is heard of it."""
    for second in range(first, last + 1):
        machine.alive(BLADE, NOW + second * SECOND)
        machine.handle_timer(NOW + second * SECOND)


def test_process_that_lives_and_is_silent_is_late_then_silent_until_it_speaks() -> None:
    """Late after 3 s, silent after 10 s, never lost; its next report makes all of it void."""
    machine = sidecar()
    machine.receive(report(writes=up()), NOW)
    live(machine, 1, 2)
    assert said(machine, "silence") is None
    live(machine, 3, 9)
    assert said(machine, "silence") == "late"
    live(machine, 10, 20)
    assert (said(machine, "silence"), said(machine, "status")) == ("silent", "up")
    machine.receive(report(), NOW + 21 * SECOND)
    assert said(machine, "silence") is None
    live(machine, 22, 23)
    assert said(machine, "silence") is None


def test_declared_task_excuses_silence_for_as_long_as_it_said() -> None:
    """And not longer; one that is late already, or is no task, excuses nothing."""
    for busy, silence in (
        (["matching", NOW, NOW + 15 * SECOND, False], None),
        (["matching", NOW, NOW + 15 * SECOND, True], "silent"),
        (["matching", NOW], "silent"),
        (None, "silent"),
    ):
        machine = sidecar()
        machine.receive(report(writes=up(busy=busy)), NOW)
        live(machine, 1, 14)
        assert said(machine, "silence") == silence
        live(machine, 15, 15)
        assert said(machine, "silence") == "silent"


def test_stopped_process_is_asked_after_once_it_is_quiet() -> None:
    """Not before, and not again: what the kernel said holds until it speaks."""
    machine = sidecar()
    machine.receive(report(writes=up()), NOW)
    assert not machine.is_quiet(BLADE, NOW + 2 * SECOND)
    assert machine.is_quiet(BLADE, NOW + 3 * SECOND)
    machine.stopped(BLADE, NOW + 3 * SECOND)
    assert not machine.is_quiet(BLADE, NOW + 4 * SECOND)
    live(machine, 4, 20)
    assert said(machine, "silence") == "stopped"
    machine.receive(report(), NOW + 21 * SECOND)
    assert said(machine, "silence") is None


def test_collector_that_was_paused_or_started_anew_holds_no_silence_against_a_process() -> None:
    """What it did not hear itself; but what its predecessor said is taken back when it speaks."""
    machine = sidecar()
    machine.receive(report(writes=up()), NOW)
    live(machine, 1, 1)
    live(machine, 60, 60)
    assert said(machine, "silence") is None
    live(machine, 61, 75)
    assert said(machine, "silence") == "silent"
    successor = sidecar(stored(persisted(machine)[0], "replica-1"), NOW + 80 * SECOND)
    successor.receive(report(), NOW + 81 * SECOND)
    assert said(successor, "silence") is None


def test_collector_that_started_anew_does_not_vouch_for_who_has_not_repeated_all() -> None:
    """What was said while none was there is yet to come; how far a process is, it says itself."""
    before = sidecar()
    before.receive(report(writes=up()), NOW)
    machine = sidecar(stored(persisted(before)[0], "replica-1"), NOW + 80 * SECOND)
    assert told(machine, 81) == 0
    machine.receive(report(), NOW + 82 * SECOND)
    assert told(machine, 83) == NOW


def told(machine: Sidecar, second: int) -> int:
    """Up to when all has been sent, by its next heartbeat."""
    machine.handle_timer(NOW + second * SECOND)
    beats = [e.message for e in machine.take_effects() if isinstance(e, Publish)]
    return next(b.hosts[0].watermark_ns for b in beats if isinstance(b, Heartbeat))


def test_who_has_arrived_is_known_for_a_batch_and_not_kept_where_nobody_asks() -> None:
    """As over tcp, where there is no folder to look for them in."""
    machine = sidecar()
    machine.receive(report(), NOW)
    machine.receive(report(process=NEXT), NOW)
    assert machine.take_arrived() == [BLADE, NEXT]
    machine.receive(report(process="scraper-1@node-1:boot:3:3:cc"), NOW)
    machine.take_effects()
    assert machine.take_arrived() == []


def test_process_that_has_said_its_last_is_not_late() -> None:
    """It ends, and nothing more is to be heard."""
    machine = sidecar()
    machine.receive(report(writes=up(), final=True), NOW)
    live(machine, 1, 20)
    assert said(machine, "silence") is None


def test_how_a_process_ended_is_said_before_or_behind_its_end() -> None:
    """Its exit code, or signal and cause, whenever the kernel tells."""
    machine = sidecar()
    machine.receive(report(writes=up()), NOW)
    machine.exited(BLADE, Exit(None, "SIGKILL", "out of memory"), NOW)
    machine.ended(BLADE, [], NOW + SECOND)
    machine.exited(NEXT, Exit(3), NOW + SECOND)

    assert said(machine, "status") == "lost"
    assert said(machine, "exit") == [None, "SIGKILL", "out of memory"]
    assert said(machine, "exit", NEXT) == [3, "", ""]


def test_last_words_are_kept_when_another_process_of_the_blade_is_heard() -> None:
    """Before it can speak; and at the end, of the one that spoke last only."""
    machine = sidecar()
    words = Write("scraper-1/msg", NOW + 1, 0, "farewell" * 1000)
    machine.receive(report(writes=(*up(), words)), NOW)
    assert said(machine, "words") is None
    hello = Write("scraper-1/msg", NOW + 2, 0, "hello")
    machine.receive(report(process=NEXT, writes=(*up(NEXT), hello)), NOW)
    assert said(machine, "words") == ["farewell" * 125, NOW + 1]
    machine.ended(BLADE, [], NOW + SECOND)
    assert said(machine, "words") == ["farewell" * 125, NOW + 1]
    machine.ended(NEXT, [], NOW + SECOND)
    assert said(machine, "words", NEXT) == ["hello", NOW + 2]


def test_last_words_that_are_no_text_or_nobodys_are_not_kept() -> None:
    """A blade may write anything at `msg`, and another may write there too."""
    for process, value in ((BLADE, 7), ("spotter-1@node-1:boot:3:3:cc", "not mine")):
        machine = sidecar()
        words = Write("scraper-1/msg", NOW + 1, 0, value)
        machine.receive(report(writes=up()), NOW)
        machine.receive(report(process=process, writes=(words,)), NOW)
        machine.ended(BLADE, [], NOW + SECOND)
        assert said(machine, "words") is None
