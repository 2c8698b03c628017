"""What is told event by event: all of it, or that some is missing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.delta import REGISTER
from shardlog.crdt.errors import ConfigError, Unreachable
from shardlog.crdt.replication.messages import Changes, Heartbeat, HostStatus, Row
from shardlog.monitor.feed import Doubt, Feed, Heard, Moved, Whole
from shardlog.monitor.follow import Inbox, follow
from shardlog.monitor.replica import Replica
from tests.helpers import WAIT_S, eventually, free_pair
from tests.monitor.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.monitor.feed import Event

BEAT = Heartbeat("node", "epoch", 1, 1000, [], [HostStatus("node-1", "r", "live", 0, 0)], {})


def changes(**values: Any) -> Changes:
    rows = [Row(path, REGISTER, value, 1, -1) for path, value in values.items()]
    return Changes([], rows)


def shown(events: list[Event]) -> dict[object, object]:
    """What the events come to."""
    replica = Replica()
    for event in events:
        if isinstance(event, Whole):
            replica.install(event.changes, (), event.at_ns)
        elif isinstance(event, Moved):
            replica.apply(event.changes)
    return dict(replica.view(()))


def reasons(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, Doubt)]


def test_the_whole_comes_first() -> None:
    """What was heard, and what was in doubt, before anything shows is not told."""
    feed = Feed()
    feed.trust(is_whole=False, doubt="on the way", now_ns=1)
    feed.hear(BEAT, 1)
    assert not feed.waits
    feed.install([changes(a=1)], [changes(a=2)], 2)
    feed.hear(BEAT, 2)
    feed.trust(is_whole=True, doubt="", now_ns=2)

    assert feed.take() == [Whole(2, (changes(a=1), changes(a=2))), Heard(2, BEAT)]


def test_each_heartbeat_is_told_once_and_doubt_when_it_changes() -> None:
    """Not again with each message: when it begins, when its reason is another, when it ends."""
    feed = Feed()
    feed.install([], [], 1)
    feed.take()
    for now_ns, doubt in enumerate(["", "gap", "gap", "silent", "", ""]):
        feed.hear(BEAT, now_ns)
        feed.trust(is_whole=True, doubt=doubt, now_ns=now_ns)

    assert feed.take() == [Heard(0, BEAT), Doubt(1, "gap"), Doubt(3, "silent"), Doubt(4, "")]


def test_overflow_drops_what_waits_says_so_and_asks_for_all_once_that_was_taken() -> None:
    """Who does not come to take costs the node nothing."""
    feed = Feed(rows_max=3)
    feed.install([], [], 0)
    for number in range(20):
        feed.apply(changes(a=number), number)
        feed.hear(BEAT, number)
        assert not feed.wants_whole()
    told = feed.take()

    assert told == [Doubt(1, "the queue overflowed: what nobody took in time is lost")]
    assert feed.wants_whole()
    assert not feed.wants_whole()
    feed.apply(changes(a=20), 20)
    feed.trust(is_whole=False, doubt="on the way", now_ns=20)
    assert feed.take() == []
    feed.install([changes(a=21)], [], 21)
    feed.hear(BEAT, 21)
    feed.trust(is_whole=True, doubt="", now_ns=21)
    assert feed.take() == [Whole(21, (changes(a=21),)), Heard(21, BEAT), Doubt(21, "")]


def test_a_delta_larger_than_the_bound_is_told() -> None:
    """If nothing else waits."""
    feed = Feed(rows_max=1)
    feed.install([], [], 0)
    feed.take()
    feed.apply(changes(a=1, b=2), 1)

    assert feed.take() == [Moved(1, changes(a=1, b=2))]


def test_a_second_whole_takes_the_place_of_one_that_waits() -> None:
    """A queue holds the state once, and says what that cost."""
    feed = Feed()
    feed.install([changes(a=1)], [], 1)
    feed.apply(changes(a=2), 2)
    feed.install([changes(a=3)], [], 3)
    feed.trust(is_whole=True, doubt="", now_ns=3)

    told = feed.take()
    assert told[1:] == [Whole(3, (changes(a=3),)), Doubt(3, "")]
    assert reasons(told)[0].startswith("the queue overflowed")


@given(st.lists(st.sampled_from(["apply", "apply", "large", "take", "gap", "heal"]), max_size=60))
def test_nothing_is_lost_silently(steps: list[str]) -> None:
    """Whoever takes all, and is told of no doubt, knows what the link knew."""
    feed, truth = Feed(rows_max=5), Replica()
    told: list[Event] = []
    truth.apply(changes(start=0))
    feed.install([changes(start=0)], [], 0)
    is_whole = True
    for number, step in enumerate([*steps, "heal", "take", "heal", "take"], start=1):
        is_asked = feed.wants_whole()
        if step in ("apply", "large"):
            moved = changes(**{f"k{number % 3}": number, "n": number})
            if step == "large":
                moved = changes(**{f"k{n}": number for n in range(9)})
            truth.apply(moved)
            if is_whole:
                feed.apply(moved, number)
        elif step == "gap":
            is_whole = False
            feed.trust(is_whole=False, doubt="gap", now_ns=number)
        elif step == "take":
            told += feed.take()
        if is_asked or (step == "heal" and not is_whole):
            is_whole = True
            chunk, _ = truth.chunk(None, 10**6)
            feed.install([chunk], [], number)
        feed.trust(is_whole=is_whole, doubt="" if is_whole else "gap", now_ns=number)
        if step == "take":
            told += feed.take()
            if (reasons(told) or [""])[-1] == "":
                assert shown(told) == truth.view(())
    assert (reasons(told) or [""])[-1] == ""


class Taker:
    """Takes from an inbox until something is there."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.told: list[Event] = []

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"never came: {self.told[-20:]}"
            self.told += self.inbox.take(1)

    def until_doubt(self, *expected: str) -> None:
        """Until these are the reasons of all doubts, as they begin."""

        def is_there() -> bool:
            found = reasons(self.told)
            assert len(found) <= len(expected), found
            return len(found) == len(expected) and all(
                reason.startswith(start) and bool(reason) == bool(start)
                for reason, start in zip(found, expected, strict=True)
            )

        self.until(is_there)


def test_follow_tells_all_that_shows_and_then_what_moves() -> None:
    """In order, with the heartbeats between, at times that never step; without any doubt."""
    with Server(interval_ms=60_000) as server:  # so a thread that is held up is no silence
        server.write("intents/42/host", "scraper-1")
        with follow(server.url) as inbox:
            taker = Taker(inbox)
            for number in range(20):
                server.write("n", number)
                server.beat()
            taker.until(lambda: shown(taker.told).get("n") == 19)
            taker.until(lambda: sum(isinstance(event, Heard) for event in taker.told) > 3)

    assert isinstance(taker.told[0], Whole)
    assert shown(taker.told) == {"intents": {"42": {"host": "scraper-1"}}, "n": 19}
    values = [e.changes.rows[0].value for e in taker.told if isinstance(e, Moved)]
    assert values == list(range(20))
    times = [event.at_ns for event in taker.told]
    assert times == sorted(times)
    assert reasons(taker.told) == []
    (host,) = next(e for e in taker.told if isinstance(e, Heard)).heartbeat.hosts
    assert host.host == "node-1"


def test_follow_tells_a_gap_before_the_snapshot_that_heals_it() -> None:
    """Doubt, then all that shows, then that it is over; once each."""
    with Server() as server, follow(server.url) as inbox:
        taker = Taker(inbox)
        taker.until(lambda: bool(taker.told))
        server.deltas_to_lose = 1
        server.write("a", 1)
        server.beat()
        taker.until_doubt("part of what the node said is missing", "")

    kinds = [type(event) for event in taker.told if not isinstance(event, Heard)]
    assert kinds == [Whole, Doubt, Whole, Doubt]
    doubt = next(at for at, event in enumerate(taker.told) if isinstance(event, Doubt))
    heard = taker.told[doubt + 1]  # what it vouches for has not come
    assert isinstance(heard, Heard)
    assert heard.at_ns == taker.told[doubt].at_ns
    assert shown(taker.told) == {"a": 1}


def test_follow_notices_silence_though_nothing_comes() -> None:
    """By a timer, once; and that it is over, once, behind the heartbeat that says so."""
    with Server() as server, follow(server.url) as inbox:
        taker = Taker(inbox)
        taker.until(lambda: len(taker.told) > 2)
        server.is_mute = True
        taker.told.clear()
        taker.until_doubt("the node has been silent")
        server.is_mute = False
        taker.until_doubt("the node has been silent", "")

    doubt, over = (at for at, event in enumerate(taker.told) if isinstance(event, Doubt))
    assert over == doubt + 2
    assert isinstance(taker.told[doubt + 1], Heard)


def test_follow_tells_of_another_run_that_is_not_followed_yet() -> None:
    """As long as it has less than what shows; nothing is taken from it."""
    with Server(interval_ms=50) as server:
        server.hosts = [HostStatus("node-1", "replica-1", "live", 0, 0, 5)]
        server.write("a", 1)
        with follow(server.url) as inbox:
            taker = Taker(inbox)
            taker.until(lambda: len(taker.told) > 2)
            server.stop()
            server.hosts = []
            server.start("aggregator-2")
            note = "another run of the node is not followed yet"
            taker.until(lambda: any(reason.startswith(note) for reason in reasons(taker.told)))
            assert sum(isinstance(event, Whole) for event in taker.told) == 1
            server.hosts = [HostStatus("node-1", "replica-1", "live", 0, 0, 5)]
            taker.until(lambda: reasons(taker.told)[-1] == "")

    assert sum(isinstance(event, Whole) for event in taker.told) == 2
    assert shown(taker.told) == {"a": 1}


def test_who_takes_too_late_is_told_so_and_then_all() -> None:
    """The node is asked once, when the news of it was taken, and not before."""
    with Server() as server, follow(server.url, rows_max=10) as inbox:
        taker = Taker(inbox)
        taker.until(lambda: bool(taker.told))
        requests = server.requests
        for number in range(50):
            server.write(f"k{number}", number)
        assert server.requests == requests
        taker.until(lambda: len(shown(taker.told)) == 50 and reasons(taker.told)[-1:] == [""])

    overflows = [reason for reason in reasons(taker.told) if reason]
    assert all(reason.startswith("the queue overflowed") for reason in overflows)
    assert len(overflows) >= 1


def test_wake_ends_a_take_that_waits() -> None:
    """From another thread; or the next one, if none waits."""
    inbox = Inbox()
    inbox.wake()
    assert inbox.take(WAIT_S) == []
    threading.Timer(0.1, inbox.wake).start()
    started = time.monotonic()
    assert inbox.take(WAIT_S) == []
    assert time.monotonic() - started < WAIT_S


def test_take_comes_back_when_its_time_is_over() -> None:
    """Without anything, if nothing came."""
    assert Inbox().take(0.01) == []


def test_follow_raises_as_connect_does() -> None:
    """Before anything is opened, or after the time that was given; no thread stays."""
    with pytest.raises(ConfigError), follow("nowhere"):
        pass
    url = free_pair()
    with pytest.raises(Unreachable, match=url), follow(url, timeout_ms=200):
        pass
    eventually(lambda: all(t.name != "shardlog-monitor" for t in threading.enumerate()))
