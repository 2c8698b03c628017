"""How a process is, as its handler's thread says: what waits, what it is busy with, where its main
thread waits.

It is said when it has changed, and at most every few seconds, by the thread: a log call takes no
longer for it. While nobody is there to hear it, nothing is: only the newest would count. The thread
speaks once a second whatever the others do, as long as they let it.

Whether the main thread hangs can't be known: a server that waits for the next request and one that
waits for ever for a lock look the same. What is known, on Linux, is whether it has run at all: the
kernel counts a thread's turns (`/proc/self/task/TID/schedstat`). Where it had none for 10 s, it is
in one call that does not return, and where that is, is said; to judge is left to who reads. To
compare frames would not do: a loop that sleeps is at the same line each time. A main thread in an
endless loop has turns, and can't be told from one that computes: that is what `busy` is for.

An uncaught exception is known without a hook: the interpreter keeps it in `sys.last_value` before
it ends. Interactive interpreters keep others there, and are left out.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from shardlog.handler import tasks

if TYPE_CHECKING:
    from types import FrameType

    from shardlog.crdt.delta import Value
    from shardlog.handler.outbox import Outbox

SECOND = 10**9
LOOK_NS = SECOND
STILL_NS = 10 * SECOND
"""How long the main thread must have waited before it is said where."""
TELL_NS = 5 * SECOND
"""How often what waits, and what was refused, is said at most."""
FRAMES = 3
WHERE_CHARACTERS_MAX = 200


class Condition:
    """Says of one process what has changed. Only its thread may use it."""

    def __init__(self) -> None:
        self._said: dict[str, Value] = {}
        self._outbox: Outbox | None = None
        self._look_ns = self._tell_ns = 0
        self._queue = 0
        self._turns = ""
        self._still_since_ns = self._still_since_wall_ns = 0

    def tell(self, outbox: Outbox, queue: int, now_ns: int, wall_ns: int) -> None:
        """Say what has changed; `queue` log calls wait just now. O(tasks), more once a second."""
        if outbox is not self._outbox:  # a new process goes on, of which nothing was said
            self._outbox, self._said = outbox, {"busy": None, "main": None}
        self._queue = max(self._queue, queue)
        task = tasks.current(now_ns)
        if task is None:
            self._say("busy", None, wall_ns)
        else:
            is_late = task.deadline_ns <= now_ns
            self._say("busy", [task.what, task.since_ns, task.until_ns, is_late], wall_ns)
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + LOOK_NS
        self._look_at_main(now_ns, wall_ns)
        if now_ns >= self._tell_ns:
            self._tell_ns = now_ns + TELL_NS
            self._say("queue", self._queue, wall_ns)
            self._queue = 0
            self._say("refused", sum(outbox.refused.values()), wall_ns)

    def end(self, outbox: Outbox, wall_ns: int) -> None:
        """The process ends: say which exception was not caught, if one was not."""
        error: object = getattr(sys, "last_value", None)
        if error is not None and not hasattr(sys, "ps1"):
            kind = type(error)
            place = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
            outbox.say("error", f"{place}{kind.__qualname__}"[:WHERE_CHARACTERS_MAX], wall_ns)

    def _say(self, key: str, value: Value, wall_ns: int) -> None:
        if self._outbox is not None and self._said.get(key, ...) != value:
            self._said[key] = value
            self._outbox.say(key, value, wall_ns)

    def _look_at_main(self, now_ns: int, wall_ns: int) -> None:
        turns = _turns_of_main()
        if not turns or turns != self._turns:
            self._turns = turns
            self._still_since_ns, self._still_since_wall_ns = now_ns, wall_ns
            self._say("main", None, wall_ns)
        elif now_ns - self._still_since_ns >= STILL_NS and self._said["main"] is None:
            self._say("main", [_where_main_is(), self._still_since_wall_ns], wall_ns)


def _turns_of_main() -> str:
    """A text that changes whenever the main thread runs; "" where the system does not tell."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/schedstat", encoding="ascii") as opened:  # noqa: PTH123
            return opened.read()
    except (OSError, ValueError):
        return ""


def _where_main_is() -> str:
    """The innermost functions that the main thread is in."""
    frame: FrameType | None = sys._current_frames().get(  # pyright: ignore[reportPrivateUsage]
        threading.main_thread().ident or 0
    )
    places: list[str] = []
    while frame is not None and len(places) < FRAMES:
        places.append(f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    return " < ".join(places)[:WHERE_CHARACTERS_MAX]
