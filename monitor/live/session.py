"""A run of live tests: a thread that tells an engine what happens, and wakes it in time.

The engine is under one lock: whoever wants to know something asks by `read`, which waits until what
is being judged has been. Nobody waits for anything else with that lock. What the thread itself
raises ends the run, and is raised again in whoever asks.

Deadlines are those of the stamps that hosts give, and so by the clock of the node that is followed.
Whoever follows may have another time: what heartbeats say when they come tells how far it is ahead,
and all events are told by the clock of the node. A heartbeat takes a while, so the least difference
of the last few counts; where that is less than a second it is left alone.

Known anomalies. Where events come faster than they are judged they wait in the feed, so that what
is said is older than it looks by as much; what the feed drops is a `Doubt`. While a predicate does
not come back from a function written in C nothing can be asked, which `Stuck` says. A Ctrl-C
between taking a lock and what would give it back leaves it locked; whoever leaves the block then
waits for a while only.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

from shardlog.crdt.errors import ConfigError, ShardlogError
from shardlog.monitor.feed import Doubt, Heard
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shardlog.monitor.feed import Event
    from shardlog.monitor.live.declared import Test
    from shardlog.monitor.live.instance import Transition

T = TypeVar("T")

SECOND = 10**9
BATCH = 500
"""So many events of a recording are judged before somebody else may ask something."""
ASK_S = 0.5
WINDOW = 8
"""So many heartbeats tell how far a clock is ahead."""
CLOSE_PATIENCE_S = 2.0


class Stuck(ShardlogError):
    """Nothing is judged any more; the text says why."""


class Source(Protocol):
    """What tells a session what happens, and what time it is."""

    is_over: bool
    """Whether nothing more will ever come."""

    def now_ns(self) -> int:
        """The time of the monitor. What happened before and was not taken is yet to be judged."""
        ...

    def take(self, timeout_s: float | None) -> Sequence[Event]:
        """What has happened; if nothing has, wait for it, or for `wake`, for at most so long."""
        ...

    def wake(self) -> None:
        """End a `take` that waits; from any thread."""
        ...


class Inbox(Protocol):
    """What `shardlog.monitor.follow` gives."""

    def take(self, timeout_s: float) -> list[Event]:
        """As `Source.take`."""
        ...

    def wake(self) -> None:
        """As `Source.wake`."""
        ...


class Clock:
    """How far the clock that events are told by is ahead of that of the node."""

    def __init__(self) -> None:
        self.ahead_ns = 0
        self.is_known = False
        self._differences: deque[int] = deque(maxlen=WINDOW)
        self._held: list[Event] = []

    def set_right(self, events: Iterable[Event], *, is_all: bool = False) -> list[Event]:
        """The events by the clock of the node; those before that is known come when it is. O(n).

        `is_all`: no more will come, so that must do.
        """
        told: list[Event] = []
        for event in events:
            if isinstance(event, Heard):
                self._hear(event.at_ns - event.heartbeat.at_ns)
            self._held.append(event)
            if self.is_known or isinstance(event, Doubt):
                self._tell(told)
        if is_all:
            self._tell(told)
        return told

    def _hear(self, difference_ns: int) -> None:
        self._differences.append(difference_ns)
        least_ns = min(self._differences)
        if abs(least_ns) > SECOND or self.ahead_ns:
            if least_ns > 0 and len(self._differences) == 1:
                return  # it may be an old one, and the next one soon comes
            self.ahead_ns = least_ns
        self.is_known = True

    def _tell(self, told: list[Event]) -> None:
        self.is_known = True
        ahead_ns = self.ahead_ns
        for event in self._held:
            told.append(event._replace(at_ns=event.at_ns - ahead_ns) if ahead_ns else event)
        self._held.clear()


class Followed:
    """A node that is followed. Its time is by the clock at the start, and by heartbeats."""

    is_over = False
    WAIT_MAX_S = 3600.0

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._clock = Clock()
        self._ahead_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """As `Source.now_ns`; 0 while it isn't known."""
        now_ns = time.monotonic_ns() + self._ahead_ns
        return now_ns - self._clock.ahead_ns if self._clock.is_known else 0

    def take(self, timeout_s: float | None) -> Sequence[Event]:
        """As `Source.take`."""
        events = self._inbox.take(self.WAIT_MAX_S if timeout_s is None else timeout_s)
        return self._clock.set_right(events)

    def wake(self) -> None:
        """As `Source.wake`."""
        self._inbox.wake()


class Recorded:
    """A recording: its time is that of its events, so it goes as fast as they can be judged."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.is_over = False
        self._events: Iterator[Event] = iter(events)
        self._clock = Clock()
        self._now_ns = 0

    def now_ns(self) -> int:
        """As `Source.now_ns`."""
        return self._now_ns

    def take(self, timeout_s: float | None) -> Sequence[Event]:
        """As `Source.take`; waits for nothing."""
        del timeout_s
        batch = [*islice(self._events, BATCH)]
        self.is_over = not batch
        told = self._clock.set_right(batch, is_all=self.is_over)
        if told:
            self._now_ns = max(self._now_ns, told[-1].at_ns)
        return told

    def wake(self) -> None:
        """Nothing waits."""


class Kept:
    """A source that is recorded as it is told, so that the recording says what was judged."""

    def __init__(self, source: Source, keep: Callable[[Sequence[Event]], None]) -> None:
        self.is_over = source.is_over
        self._source = source
        self._keep = keep
        self._doubt = ""

    def now_ns(self) -> int:
        """As `Source.now_ns`."""
        return self._source.now_ns()

    def take(self, timeout_s: float | None) -> Sequence[Event]:
        """As `Source.take`."""
        events = self._source.take(timeout_s)
        self.is_over = self._source.is_over
        for event in events:
            if isinstance(event, Doubt):
                self._doubt = event.reason
        self._keep(events)
        return events

    def wake(self) -> None:
        """As `Source.wake`."""
        self._source.wake()

    def end(self, at_ns: int) -> None:
        """Judging ended then: the recording does, too."""
        self._keep([Doubt(at_ns, self._doubt)])


class Session:
    """Judges tests by what a source tells; a context manager, in which the thread runs.

    `hear` is called with the engine and what has changed, in the thread and under its lock: it must
    not wait for anybody.
    """

    def __init__(
        self,
        tests: Iterable[Test],
        source: Source,
        *,
        lateness_ms: int = 2000,
        predicate_timeout_ms: int = 1000,
        resumes: bool = False,
        hear: Callable[[Engine, list[Transition]], None] | None = None,
    ) -> None:
        self._source = source
        self._hear = hear
        self._guard = Guard(predicate_timeout_ms / 1000)
        self._engine = Engine(tests, lateness_ms=lateness_ms, guard=self._guard, resumes=resumes)
        self._lock = threading.Lock()
        """Whoever asks the engine, or tells it, has it."""
        self._moved = threading.Condition()
        self._steps = 0
        self._error: BaseException | None = None
        self._is_closing = False
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="shardlog-live", daemon=True)

    def __enter__(self) -> Session:
        self._guard.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._close(time.monotonic() + CLOSE_PATIENCE_S)
        self._guard.__exit__(*exception)

    def read(self, question: Callable[[Engine], T]) -> T:
        """What the engine answers, between two events. Waits for what is being judged.

        Raises:
            Stuck: nothing is judged any more.
            ConfigError: the recording can't be read any further.
        """
        while not self._lock.acquire(timeout=ASK_S):
            if where := self._guard.stuck():
                raise Stuck(f"a predicate does not come back: {where}")
        try:
            if isinstance(self._error, ConfigError):
                raise self._error
            if self._error is not None:
                error = f"{type(self._error).__name__}: {self._error}"
                raise Stuck(f"the judging has failed: {error}") from self._error
            return question(self._engine)
        finally:
            self._lock.release()

    def add(self, test: Test) -> None:
        """Judge one more test, or another one of this name, from now on; raises as `read`."""

        def add(engine: Engine) -> None:
            if (before := engine.groups.get(test.name)) is not None:
                engine.remove(before)
            engine.add(test, max(engine.now_ns, self._source.now_ns()))

        self._change(add)

    def remove(self, name: str) -> None:
        """Judge the test of this name no more; raises as `read`."""
        self._change(lambda engine: engine.remove(engine.groups[name]))

    def wait_for(self, question: Callable[[Engine], bool], timeout_s: float | None = None) -> bool:
        """Wait until the answer is yes, asked whenever something was judged; whether it is.

        Ends, too, when the source is over, or the time is up. Raises as `read`.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            is_over, steps = self._is_over, self._steps
            left_s = ASK_S if end_s is None else min(end_s - time.monotonic(), ASK_S)
            if (answer := self.read(question)) or is_over or left_s <= 0:
                return answer
            with self._moved:
                if self._steps == steps and not self._is_over:
                    self._moved.wait(left_s)

    @property
    def is_asking(self) -> bool:
        """Whether the caller is a predicate that is being asked: it sees the engine as it is."""
        return self._guard.runs_here()

    @property
    def is_over(self) -> bool:
        """Whether the source was, and all of it is judged; or that has failed."""
        return self._is_over

    def end(self) -> None:
        """The run ends here: what has held until now has held. Raises as `read`."""
        self._close()
        self._change(lambda engine: engine.end(max(engine.now_ns, self._source.now_ns())))

    def stop(self) -> None:
        """Judge nothing more; what was said stays said. Raises as `read`."""
        self._close()
        self.read(lambda _: None)

    def _close(self, end_s: float = math.inf) -> None:
        self._is_closing = True
        self._source.wake()
        while self._thread.is_alive() and not self._guard.stuck() and time.monotonic() < end_s:
            self._thread.join(ASK_S)

    def _change(self, change: Callable[[Engine], object]) -> None:
        def changed(engine: Engine) -> None:
            change(engine)
            self._tell()

        self.read(changed)
        self._source.wake()
        self._note_step()

    def _run(self) -> None:
        try:
            while not self._is_closing and not self._source.is_over:
                self._step()
        except BaseException as error:
            self._error = error
        finally:
            self._is_over = True
            self._note_step()

    def _step(self) -> None:
        with self._lock:
            timer_ns = self._engine.next_timer_ns()
        # What happened until now is taken below, so timers up to now see all of it.
        now_ns = self._source.now_ns()
        wait_s = None if timer_ns is None else max(timer_ns - now_ns, 0) / SECOND
        events = self._source.take(wait_s)
        with self._lock:
            for event in events:
                self._engine.receive(event)
            self._engine.handle_timer(now_ns)
            self._tell()
        self._note_step()

    def _tell(self) -> None:
        """Tell what has another verdict; under the lock."""
        transitions = self._engine.take_effects()
        if transitions and self._hear is not None:
            self._hear(self._engine, transitions)

    def _note_step(self) -> None:
        with self._moved:
            self._steps += 1
            self._moved.notify_all()
