"""Changes for one consumer, as it takes them: one after the other, in a `for` or an `async for`.

Whoever follows the stream must never wait for a consumer, so changes wait here instead, at most one
per path: a further change of a path that waits replaces its new side and keeps the old one. A slow
consumer skips what was in between and never the newest; what came and went again meanwhile it is
not told at all. The number of waiting changes is bounded by that of the paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from shardlog.crdt.path import Pattern, path_text
from shardlog.monitor.change import ABSENT
from shardlog.monitor.replica import Selection

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from shardlog.crdt.path import Keys
    from shardlog.monitor.change import Change


class Watch:
    """The changes at and below what `pattern` selects, from now on.

    An iterator, and an asynchronous one, that ends when it, or what it watches, is closed; what
    waits then is still handed out. It may be used from several threads and event loops. `owner` is
    kept alive with it.

    Raises:
        ConfigError: `pattern` is not a pattern.
    """

    def __init__(self, pattern: str = "**", owner: object = None) -> None:
        Pattern(pattern)  # as it stands: below, a backslash at its end would escape the slash
        self._selection = Selection(f"{pattern}/**" if pattern else "**")
        self._owner = owner
        self._changed = threading.Condition()
        self._pending: dict[Keys, Change] = {}
        self._sleepers: dict[asyncio.Future[None], None] = {}
        self._closed = False

    def push(self, changes: Iterable[Change]) -> None:
        """Take in changes, from the thread that follows; never waits. O(changes)."""
        with self._changed:
            for change in changes:
                if self._selection.matches(path_text(change.path)):
                    self._add(change)
            if self._pending:
                self._wake()

    @property
    def waiting(self) -> int:
        """How many changes wait."""
        return len(self._pending)

    def close(self) -> None:
        """End the iteration; may be repeated."""
        with self._changed:
            self._closed = True
            self._wake()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Change:
        with self._changed:
            while not self._pending:
                if self._closed:
                    raise StopIteration
                self._changed.wait()
            return self._take()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Change:
        while True:
            with self._changed:
                if self._pending:
                    return self._take()
                if self._closed:
                    raise StopAsyncIteration
                sleeper = asyncio.get_running_loop().create_future()
                self._sleepers[sleeper] = None
            try:
                await sleeper
            finally:
                with self._changed:
                    self._sleepers.pop(sleeper, None)

    def _add(self, change: Change) -> None:
        waiting = self._pending.get(change.path)
        if waiting is not None:
            change = change._replace(old=waiting.old)
        if change.old is ABSENT and change.new is ABSENT:
            del self._pending[change.path]
        else:
            self._pending[change.path] = change

    def _take(self) -> Change:
        return self._pending.pop(next(iter(self._pending)))

    def _wake(self) -> None:
        self._changed.notify_all()
        sleepers, self._sleepers = self._sleepers, {}  # one call wakes, however busy their loop is
        for sleeper in sleepers:
            with contextlib.suppress(RuntimeError):  # its loop was closed: nobody sleeps there
                sleeper.get_loop().call_soon_threadsafe(_end, sleeper)


def _end(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
