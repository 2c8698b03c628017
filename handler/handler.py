"""The logging.Handler: turns each record into a shard and leaves it to a thread of its own.

It holds no lock, and neither does anything that a log call runs into: a record may be logged from a
signal handler, from `__del__` in a garbage collection, from within another log call, or right after
a fork. Nothing is raised into the caller, but what the caller's own filters raise.

A forked child is a new process: it gets a link of its own, with counters from zero. What it
inherited, it keeps and never touches: the thread is not there, the socket belongs to the parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import weakref
from collections import deque
from functools import partial
from time import time_ns
from typing import TYPE_CHECKING, Any

from shardlog.crdt.process_id import process_id
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL
from shardlog.handler import counters, shell, tasks
from shardlog.handler.errors import ErrorBook
from shardlog.handler.fork import begin_child, in_child, is_ours
from shardlog.handler.link import Link
from shardlog.handler.occurrence import is_error, occurrence_of
from shardlog.handler.outbox import Outbox, Pace
from shardlog.handler.scrub import Scrub
from shardlog.handler.settings import boot, settings_of
from shardlog.handler.shard import ShardReader, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardlog.crdt.delta import Value
    from shardlog.handler.counters import Counter

DEPTH_MAX = 8
"""How deep log calls may be nested in one another before the inner ones are refused."""

_handlers: weakref.WeakSet[ShardHandler] = weakref.WeakSet()
_inherited: list[dict[int, Link]] = []


class ShardHandler(logging.Handler):
    """Sends what the process logs to the collector of its host.

    Arguments: `endpoint`, the collector's address; `blade`, the name of this member of the cluster;
    `loggers`, whose extras are shards (None: all that reach the handler); `insecure`, that a
    network beyond this machine is trusted; `scrub`, the words by which secrets are known in errors
    (None: those of `shardlog.handler.scrub.SECRETS`; an empty list: none are taken out); `version`,
    which version of what program this is, as "scrape_pages==1.4". What is not given comes from
    SHARDLOG_ENDPOINT, SHARDLOG_BLADE and SHARDLOG_VERSION, then from the table [handler] of the
    file that SHARDLOG_CONFIG names, and is else the default address in the runtime directory, and
    the host's name. SHARDLOG_HOST says how the host is called, where that is not the machine's own
    name.

    The thread starts with the first record, and `link` is there from then on. `logging` calls
    `close` at exit.

    Raises:
        ConfigError: an address, a name or the file is not usable; the text says which and why.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        blade: str | None = None,
        loggers: Sequence[str] | None = None,
        level: int | str = logging.NOTSET,
        insecure: bool = False,
        scrub: Sequence[str] | None = None,
        version: str | None = None,
    ) -> None:
        settings = settings_of(os.environ, endpoint, blade, loggers, insecure, scrub, version)
        self.endpoint = settings.endpoint
        self.blade = settings.blade
        self._reader = ShardReader(settings.blade, settings.loggers)
        self._take = self._reader.take
        self._scrub = Scrub(settings.scrub)
        # Now, and not in the first log call, which a signal handler may be in: both load modules.
        self._host, self._boot = settings.host, boot()
        self._version = settings.version
        self._nesting = _Nesting()
        self._failures: deque[str] = deque(maxlen=1000)
        self._closed = False
        self._links: dict[int, Link] = {}
        self.link: Link | None = None
        # Last, as it makes the handler known to logging.shutdown, which then counts on the rest.
        super().__init__(level)
        _handlers.add(self)
        counters.open_handler(self)
        tasks.hearers.add(self)

    def createLock(self) -> None:
        """There is no lock."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """As in `logging.Handler`, but without a lock."""
        if not self.filters:
            self.emit(record)
            return True
        passed: Any = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # since 3.12 a filter may replace the record
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Take what the record says and leave it to the thread. O(shard); never raises or waits."""
        try:
            if not is_ours[0]:
                begin_child()
            link = self.link
            taken = self._take(record, time_ns())
            if taken is None or link is None:
                self._read(record)
            else:
                link.put_small(taken)
        except Exception as error:  # out of memory, or of stack
            self._failures.append(type(error).__name__)

    def _read(self, record: logging.LogRecord) -> None:
        """Leave to the thread what needs a closer look than most. Code of the values may run."""
        name = record.name
        if name == "shardlog" or name.startswith("shardlog."):
            return
        nesting = self._nesting
        nesting.depth += 1
        try:
            now_ns = time_ns()
            if nesting.depth <= DEPTH_MAX:
                shard = self._reader.read(record, now_ns)
            else:
                shard = refusal(now_ns, "nested", f"logger {name}"[:200])
            link = self.link or self._open()
            if shard.erases:
                link.put_counted()
            if is_error(record) and nesting.depth <= DEPTH_MAX:
                occurrence = occurrence_of(record, shard)
                link.put(occurrence, occurrence.bytes)
            else:
                link.put(shard, shard.bytes)
            if self._failures:
                self._tell_failures(link)
        finally:
            nesting.depth -= 1

    def announce(self, counter: Counter) -> None:
        """Have the thread look at a counter, which has more than it had. Never raises or waits."""
        try:
            (self.link or self._open()).announce(counter)
        except Exception as error:
            self._failures.append(type(error).__name__)

    def wake(self) -> None:
        """Have the thread look at what is declared. Never raises or waits."""
        try:
            if not is_ours[0]:
                begin_child()
            (self.link or self._open()).attend()
        except Exception as error:
            self._failures.append(type(error).__name__)

    def refuse(self, reason: str, sample: str) -> None:
        """Count what a counter was not let to count. Never raises or waits."""
        try:
            if not is_ours[0]:
                begin_child()
            shard = refusal(time_ns(), reason, sample)
            (self.link or self._open()).put(shard, shard.bytes)
        except Exception as error:
            self._failures.append(type(error).__name__)

    def flush(self) -> None:
        """Wait, 1 s at most, until what was logged so far is handed over, if somebody is there."""
        link = self.link
        if link is not None and link.pid == os.getpid():
            link.flush()

    def close(self) -> None:
        """Send what is left and say bye; later records are refused. Idempotent.

        Takes 1.5 s at most, with no collector 0.5 s. Beside an ipc endpoint, what the collector has
        not stored by then waits in a file for it.
        """
        self._closed = True
        counters.close_handler(self)
        tasks.hearers.discard(self)
        link = self.link
        if link is not None and link.pid == os.getpid():
            self._tell_failures(link)
            link.close()
        super().close()

    def _open(self) -> Link:
        """The link of this process. Where several threads come at once, the first one's counts."""
        pid = os.getpid()
        begin = partial(_begin, self.blade, self._host, self._boot, self._version, pid)
        link = self.link = self._links.setdefault(
            pid,
            Link(
                self.endpoint,
                begin,
                self._reader.untie,
                ErrorBook(self._host, self.blade, self._scrub),
                shell.run,
            ),
        )
        if self._closed:
            link.end()
        weakref.finalize(self, link.end).atexit = False  # a handler that nobody closed
        _watch_child_exit(self)
        return link

    def _tell_failures(self, link: Link) -> None:
        """Count what should not have happened, and was not raised."""
        with contextlib.suppress(IndexError):
            while True:
                shard = refusal(time_ns(), "internal", self._failures.popleft())
                link.put(shard, shard.bytes)

    def forget_links(self) -> None:
        """For a forked child: put away what was inherited, which a garbage collection must not
        reach, for then ZeroMQ would close what is not there.
        """
        _inherited.append(self._links)
        self._links, self.link = {}, None


def _begin(
    blade: str, host: str, boot: str, version: str | None, pid: int, started_ns: int
) -> Outbox:
    """The outbox of a new process, whose id no other shares."""
    process = process_id(blade, host, boot, pid, started_ns, os.urandom(4).hex())
    presence: dict[str, Value] = {"host": host, "pid": pid, "started": started_ns}
    if version is not None:
        presence["version"] = version
    return Outbox(process, blade, presence, pace=Pace(FRAME_BYTES_GOAL))


class _Nesting(threading.local):
    """How many log calls of this thread are within one another."""

    depth = 0


@in_child
def _forget_links() -> None:
    for handler in list(_handlers):
        handler.forget_links()


def _watch_child_exit(handler: ShardHandler) -> None:
    """Close the handler when a child of multiprocessing ends: it leaves without atexit."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        # What is registered before a child has begun, its beginning clears; but then calls these.
        util.register_after_fork(handler, _close_at_child_exit)
        _close_at_child_exit(handler)


def _close_at_child_exit(handler: ShardHandler) -> None:
    process: Any = sys.modules["multiprocessing.process"]
    if process.parent_process() is not None:
        util: Any = sys.modules["multiprocessing.util"]
        util.Finalize(None, handler.close, exitpriority=100)
