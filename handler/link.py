"""A process's way to its collector, as its log calls see it: put a shard in and go on.

No lock is taken, no socket touched, nothing waited for. What is put in is left to one thread, a
daemon that the first shard starts; what it runs is `shardlog.handler.shell`. Threads and queues are
the interpreter's own, also where gevent has replaced them by its own: the thread must not run
within an event loop, nor wait for one.
"""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import sys
import time
from _queue import Empty, SimpleQueue
from collections import deque
from typing import TYPE_CHECKING, Any

from shardlog.handler.occurrence import Occurrence
from shardlog.handler.shard import Shard, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from shardlog.handler.counters import Counter
    from shardlog.handler.errors import ErrorBook
    from shardlog.handler.outbox import Outbox

    Counted: TypeAlias = list[tuple[Counter, int]]
    """Counters, and how far their totals were."""

SHARDS_MAX = 100_000
"""How many shards may wait for the thread, which empties the queue some 20 times a second."""
SHARDS_BYTES_MAX = 64 << 20
"""And about so many bytes."""
GATHER_SHARDS = 500
"""So many wake the thread before its time: the fewer wait, the fewer a sudden death takes."""
FLUSH_SECONDS = 1.0
CLOSE_SECONDS = 1.5


class Link:
    """The queue of one process and the thread that runs `run`.

    `begin` makes the outbox of a process that starts at a time (wall clock, ns); `untie` the shard
    of what a log call only encoded; `errors` takes what is to be reported. Any thread may call
    `put`, `put_small`, `announce`, `attend`, `flush` and `close`.
    """

    def __init__(
        self,
        endpoint: str,
        begin: Callable[[int], Outbox],
        untie: Callable[[bytes], Shard],
        errors: ErrorBook,
        run: Callable[[Link], None],
    ) -> None:
        self.endpoint = endpoint
        self._begin = begin
        self._untie = untie
        self._errors = errors
        self.outbox = begin(time.time_ns())
        self.pid = os.getpid()
        self.shards: deque[Shard | Occurrence | bytes | Counted] = deque()
        self.counters: deque[Counter] = deque()
        self._bytes = 0
        self.flushes: deque[SimpleQueue[None]] = deque()
        self.closed_ns: int | None = None
        self._serve = run
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._is_idle = True
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._starts: list[None] = [None]  # whoever pops it starts the thread
        self._refused = itertools.count()
        self._refused_seen = 0

    def put(self, shard: Shard | Occurrence | bytes | Counted, size: int) -> None:
        """Leave a shard, or what it is to be made of, to the thread; `size` in bytes. O(1)."""
        shards = self.shards
        number = len(shards)
        if number >= SHARDS_MAX or self._bytes >= SHARDS_BYTES_MAX or self.closed_ns is not None:
            next(self._refused)  # += would lose some between threads
            return
        self._bytes += size  # here it may, for `take_shards` begins anew
        shards.append(shard)
        if self._is_idle or number == GATHER_SHARDS:
            self.attend()

    def put_small(self, encoded: bytes) -> None:
        """As `put`, of some KiB at most: while few wait, their bytes are not counted. O(1).

        Speed wins over form: it takes 0.1 µs less.
        """
        if len(self.shards) >= GATHER_SHARDS or self.closed_ns is not None:
            self.put(encoded, len(encoded))
            return
        self.shards.append(encoded)
        if self._is_idle:
            self.attend()

    def announce(self, counter: Counter) -> None:
        """Have the thread look at a counter. O(1)."""
        if len(self.counters) >= SHARDS_MAX or self.closed_ns is not None:
            next(self._refused)
            return
        counter.is_waiting = True
        self.counters.append(counter)
        if self.closed_ns is not None:  # meanwhile: then the next addition goes to another
            counter.is_waiting = False
        if self._is_idle:
            self.attend()

    def put_counted(self) -> None:
        """Let what was counted so far come before what is put in next. O(counters that wait)."""
        if self.counters:
            self.put([(counter, counter.total()) for counter in [*self.counters]], 0)

    def attend(self) -> None:
        """Start the thread, or wake it. Any thread may call it."""
        self._is_idle = False
        if self._starts:
            self._start()
        else:
            self._wake.put(None)

    def flush(self) -> None:
        """Wait until what was put in is handed over, FLUSH_SECONDS at most.

        Where nobody is there, that is found out in shell.FLUSH_PATIENCE_NS.
        """
        if not self._starts and self.closed_ns is None:
            answer: SimpleQueue[None] = SimpleQueue()
            self.flushes.append(answer)
            self._wake.put(None)
            _wait(answer, FLUSH_SECONDS)

    def close(self) -> None:
        """Have all that is left sent, and bye said, within CLOSE_SECONDS. Idempotent."""
        if self.closed_ns is not None:
            return
        self.end()
        if not self._may_start():
            _wait(self._ended, CLOSE_SECONDS)
        elif self.shards or self.counters:  # it was too late to start a thread
            self._run()

    def end(self) -> None:
        """Begin to close, and do not wait; an inherited link stays as it is."""
        if self.closed_ns is None and self.pid == os.getpid():
            self.closed_ns = time.monotonic_ns()
            self._wake.put(None)

    def rest(self, seconds: float, *, idle: bool) -> None:
        """For the thread: wait until flush or close is called, many shards are put in, or if idle
        the first.
        """
        self._is_idle = idle
        # What came before the thread was known to be idle did not wake it.
        if not (
            idle and (self.shards or self.counters or self.flushes or self.closed_ns is not None)
        ):
            _wait(self._wake, seconds)
        self._is_idle = False

    def waiting(self) -> int:
        """For the thread: how many log calls and counters wait for it. O(1)."""
        return len(self.shards) + len(self.counters)

    def take_shards(self, *, hurry: bool) -> Iterator[Shard]:
        """For the thread: what has been put in by now, then what counters have counted, and what
        is to be said of errors, which may wait unless there is no time left.
        """
        self._look_at_counters()
        self._bytes = 0
        for _ in range(len(self.shards)):
            shard = self.shards.popleft()
            if type(shard) is bytes:
                yield self._untie(shard)
            elif type(shard) is list:
                yield _count_of(shard)
            elif type(shard) is Occurrence:
                yield self._noted(shard)
            else:
                yield shard  # type: ignore[misc]
        yield from self._errors.take(time.time_ns(), hurry=hurry)

    def has_errors(self) -> bool:
        """For the thread: whether something waits that is to be said of errors. O(1)."""
        return self._errors.has_waiting()

    def _noted(self, occurrence: Occurrence) -> Shard:
        try:
            return self._errors.note(occurrence, self.outbox.process)
        except Exception as error:  # of memory, or our own: secrets are not to go out for that
            return refusal(occurrence.shard.time_ns, "internal", type(error).__name__)

    def _look_at_counters(self) -> None:
        counters = [*self.counters]
        for counter in counters:
            counter.is_waiting = False
        # In the queue, what was read stays before an erase that comes from now on. One that came
        # before has put in as much itself, for these wait until then: nothing is left of it here.
        if counters:
            self.shards.append([(counter, counter.total()) for counter in counters])
        for _ in counters:
            self.counters.popleft()

    def take_refused(self) -> int:
        """For the thread: how many shards were refused since the last call."""
        # The only way to read this counter is to count.
        refused = next(self._refused) - self._refused_seen
        self._refused_seen += refused + 1
        return refused

    def renew(self, wall_ns: int) -> Outbox:
        """For the thread: the outbox of a new process, which goes on in the place of the old."""
        self.outbox = self._begin(wall_ns)
        return self.outbox

    def _start(self) -> None:
        if not self._may_start():
            return
        # gevent's threads are greenlets: one that waits in ZeroMQ would stop all others.
        monkey: Any = sys.modules.get("gevent.monkey")
        start: Callable[[Callable[[], None], tuple[()]], int] = (
            _thread.start_new_thread
            if monkey is None
            else monkey.get_original("_thread", "start_new_thread")
        )
        try:
            start(self._run, ())
        except RuntimeError:  # the interpreter is shutting down: `close` will do it
            self._starts.append(None)
            self._is_idle = True

    def _may_start(self) -> bool:
        """Whether there was no thread; only one caller is told so."""
        try:
            self._starts.pop()
        except IndexError:
            return False
        return True

    def _run(self) -> None:
        try:
            self._serve(self)
        finally:
            self._ended.put(None)


def _count_of(counted: Counted) -> Shard:
    counts = [(counter.path, counter.take(total)) for counter, total in counted]
    return Shard(time.time_ns(), [], [], [count for count in counts if count[1]], {}, 0)


def _wait(queue: SimpleQueue[None], seconds: float) -> None:
    with contextlib.suppress(Empty):
        queue.get(timeout=max(seconds, 0))
