"""What monitors are served of a recording, on virtual time."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.delta import COUNTER, FORGOTTEN, REGISTER
from shardlog.crdt.replication.messages import (
    Answer,
    Apply,
    Ask,
    Changes,
    Delta,
    Heartbeat,
    Install,
    Log,
    Publish,
    Row,
)
from shardlog.monitor.feed import Doubt, Event, Heard, Moved, Whole
from shardlog.monitor.live.replay import EVENTS_MAX, Replay
from shardlog.monitor.machine import Following
from shardlog.monitor.replica import Replica
from tests.live.events import CHANGES, HEARTBEATS, PLAIN, WRITERS, moved, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardlog.crdt.replication.messages import StreamMessage
    from shardlog.monitor.change import Change

SECOND = 10**9
START = 1000 * SECOND


class Monitor:
    """A replay, and one who follows it, in one process and without sockets."""

    def __init__(self, events: Sequence[Event], *, speed: float = 1.0, joins: int = 0) -> None:
        self.now_ns = START
        self.replay = Replay(
            iter(events), source="replay", speed=speed, now_ns=START, bytes_max=100
        )
        self.following = Following(Random(1))
        self.replica = Replica()
        self.changes: list[Change] = []
        self.installs = 0
        self.logs: list[str] = []
        self.beats: list[Heartbeat] = []
        self._joins_ns = START + joins * SECOND

    def run(self, until_s: float) -> None:
        """Until this second of the replay, whatever is due."""
        end_ns = START + round(until_s * SECOND)
        while True:
            if self.now_ns >= self._joins_ns and not self.following.is_heard:
                self.replay.subscribed(self.now_ns)
            self.replay.handle_timer(self.now_ns)
            for effect in self.replay.take_effects():
                match effect:
                    case Publish(_, message):
                        if isinstance(message, Heartbeat):
                            self.beats.append(message)
                        if self.now_ns >= self._joins_ns:
                            self._hear(message)
                    case Answer(_, _, chunk):
                        self._hear(chunk)
                    case Log(text):
                        self.logs.append(text)
            due_ns = max(self.replay.next_timer_ns(), self.now_ns)
            if self.following.is_heard and not self.following.is_whole:
                continue
            if due_ns > end_ns:
                self.now_ns = end_ns
                return
            self.now_ns = due_ns

    def _hear(self, message: StreamMessage) -> None:
        self.following.receive(message, self.now_ns)
        for effect in self.following.take_effects():
            match effect:
                case Apply(delta):
                    assert isinstance(delta.body, Changes)
                    self.changes += self.replica.apply(delta.body)
                case Install(_, chunks, deltas):
                    self.installs += 1
                    bodies = [chunk.body for chunk in chunks] + [delta.body for delta in deltas]
                    changes = [body for body in bodies if isinstance(body, Changes)]
                    self.replica.install(changes, (), self.now_ns)
                case Ask(_, request):
                    self.replay.request(b"peer", request)


def shown(replica: Replica) -> str:
    return repr([replica.rows("**"), replica.rows("shardlog/**")])


def of_one_root(changes: Changes, root: str) -> Changes:
    """As on the wire: a delta is of one lane, and joined already."""
    rows = [Row(f"{root}/{r.path}", r.kind, r.value, r.stamp, r.writer) for r in changes.rows]
    return Changes(changes.writers, rows)


@given(
    st.lists(
        st.tuples(st.sampled_from(["whole", "moved", "moved"]), CHANGES, st.sampled_from("xyz")),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_whoever_follows_has_what_the_recording_comes_to(
    steps: list[tuple[str, Changes, str]], joins: int
) -> None:
    """From whenever on, and without another snapshot where the recorder took one."""
    events: list[Event] = [whole(0)]
    truth = Replica()
    for number, (what, changes, root) in enumerate(steps):
        told = of_one_root(changes, root)
        if what == "whole":
            events.append(Whole(number * SECOND, (told,)))
            truth.install([told], (), number * SECOND)
        else:
            events.append(Moved(number * SECOND, told))
            truth.apply(told)
    monitor = Monitor(events, joins=joins)
    monitor.run(14)

    assert shown(monitor.replica) == shown(truth)
    assert monitor.installs == 1
    assert len(monitor.logs) == 1


def test_it_goes_as_fast_as_it_is_told() -> None:
    """What came ten seconds after the first comes after two, at five times the speed."""
    events: list[Event] = [whole(7 * SECOND, a=0), moved(12 * SECOND, a=1), moved(17 * SECOND, a=2)]
    monitor = Monitor(events, speed=5.0)
    for until_s, value in ((0, 0), (0.9, 0), (1, 1), (1.9, 1), (2, 2), (60, 2)):
        monitor.run(until_s)
        assert monitor.replica.view(("a",)) == value


def test_what_came_at_once_is_taken_in_in_bounded_steps() -> None:
    """Who asks meanwhile is not kept waiting; nothing is left out."""
    events: list[Event] = [whole(0, a=0), *(moved(0, a=number) for number in range(3 * EVENTS_MAX))]
    replay = Replay(iter(events), source="replay", speed=1.0, now_ns=START, bytes_max=1000)
    steps: list[int] = []
    while replay.next_timer_ns() <= START:
        replay.handle_timer(START)
        effects = replay.take_effects()
        steps.append(sum(isinstance(getattr(e, "message", None), Delta) for e in effects))

    assert steps == [EVENTS_MAX, EVENTS_MAX, EVENTS_MAX, 1]


@given(HEARTBEATS)
def test_heartbeats_say_what_was_heard_then(heard: Heartbeat) -> None:
    """Once a second, whether anything happens or not, also behind the end."""
    monitor = Monitor([whole(0, a=0), Heard(0, heard), Doubt(5 * SECOND, "gap")])
    monitor.run(4)
    assert [beat.hosts for beat in monitor.beats[-3:]] == [heard.hosts] * 3
    assert monitor.beats[-1].settling == heard.settling
    monitor.run(10)
    assert len(monitor.beats) >= 10
    assert monitor.beats[-1].settling == "the recording is in doubt: gap"
    assert monitor.beats[-1].hosts == heard.hosts


def test_how_something_went_is_kept() -> None:
    """Forgotten stays forgotten, by a delta and by a later whole."""
    row = Row("a/n", COUNTER, 3, 5, -1)
    gone = Row("a/n", FORGOTTEN, None, 9, 0)
    events: list[Event] = [
        Whole(0, (Changes([], [row]),)),
        Moved(SECOND, Changes(WRITERS, [gone])),
        Moved(2 * SECOND, Changes([], [row])),
        Whole(3 * SECOND, (Changes(WRITERS, [gone]),)),
        Moved(4 * SECOND, Changes([], [row])),
        Whole(5 * SECOND, ()),
    ]
    monitor = Monitor(events)
    monitor.run(6)

    assert [change.gone for change in monitor.changes] == [
        "forgotten",
        None,
        "forgotten",
        None,
        "erased",
    ]


def test_an_empty_recording_is_an_empty_state() -> None:
    """Who follows is answered all the same."""
    monitor = Monitor([])
    monitor.run(2)
    assert monitor.installs == 1
    assert monitor.replica.view(()) == {}


def test_a_large_move_is_taken_in_at_once() -> None:
    """Though it is sent in several messages."""
    rows = [Row(f"a/{n}", REGISTER, PLAIN[n % 2], 1, 0) for n in range(50)]
    monitor = Monitor([whole(0, a=0), Moved(SECOND, Changes(WRITERS, rows))])
    monitor.run(0.5)
    before = len(monitor.changes)
    monitor.run(2)
    assert len(monitor.changes) - before == 50
