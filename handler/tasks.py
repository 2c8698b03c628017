"""Long tasks, as their process declares them: what it is at, and when it should be over.

Whoever declares none is judged by its signs of life, which are of a thread of its own: so a task
that computes in Python for hours is up, declared or not. What a declaration adds is the bound. A
task that takes longer than it said is late, and one that lets no other thread run is busy until
then, and not silent.

Nothing is locked: a dict of those that are on their way is all there is.
"""

from __future__ import annotations

import itertools
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shardlog.handler.nearest import type_mark
from shardlog.handler.values import whole_text

if TYPE_CHECKING:
    from types import TracebackType

SECOND = 10**9
WHAT_CHARACTERS_MAX = 200
SECONDS_MAX = 7 * 86_400
"""A task that takes longer is one that nobody waits for."""


class Hearer(Protocol):
    """Who tells what is declared: a handler."""

    def wake(self) -> None:
        """Have its thread look. Never raises or waits."""
        ...


class Task(NamedTuple):
    """What is on its way: from when to when by the wall clock, and until when by the other, ns."""

    what: str
    since_ns: int
    until_ns: int
    deadline_ns: int


hearers: weakref.WeakSet[Hearer] = weakref.WeakSet()
_tasks: dict[int, Task] = {}
_numbers = itertools.count()


class Busy:
    """What `busy` returns: the task is on its way in the block of a `with`."""

    __slots__ = ("_number", "_seconds", "_what")

    def __init__(self, what: str, seconds: float) -> None:
        self._what = what
        self._seconds = seconds
        self._number = -1

    def __enter__(self) -> Busy:
        self._number = next(_numbers)
        lasts_ns, now_ns = round(self._seconds * SECOND), time.time_ns()
        deadline_ns = time.monotonic_ns() + lasts_ns
        _tasks[self._number] = Task(self._what, now_ns, now_ns + lasts_ns, deadline_ns)
        _wake_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _tasks.pop(self._number, None)
        _wake_all()


def busy(what: str, *, minutes: float = 0, seconds: float = 0) -> Busy:
    """Declare a long task: the process shows as busy with it, for as long as that should take.

    After that it is late. Tasks may be within one another and in several threads; the one that
    should be over last shows, or one that is late. A time that is none counts as 0: late at once.
    It wakes the handlers' threads and waits for nobody. O(handlers).

    >>> with busy("rendering", minutes=10):
    ...     pass
    """
    try:
        total = min(max(60 * float(minutes) + float(seconds), 0.0), float(SECONDS_MAX))
    except (TypeError, ValueError):
        total = 0.0
    text = whole_text(what) if type(what) is str else type_mark(what)
    return Busy(text[:WHAT_CHARACTERS_MAX], total if total == total else 0.0)


def current(now_ns: int) -> Task | None:
    """The task that shows at a time of the monotonic clock. O(tasks)."""
    tasks = [*_tasks.values()]
    late = [task for task in tasks if task.deadline_ns <= now_ns]
    if late:
        return min(late, key=_deadline)
    return max(tasks, key=_deadline, default=None)


def _deadline(task: Task) -> int:
    return task.deadline_ns


def _wake_all() -> None:
    for hearer in list(hearers):
        hearer.wake()
