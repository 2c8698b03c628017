"""Counts without a log call, for what is counted too often to log it.

Theory. Any thread may add at any time, a signal handler too in the midst of an addition, and there
is no lock. So an addition is two steps, each of which is one call of C code that nothing comes
between: the number is put on a list, and an `itertools.accumulate` takes one number from the list,
whichever it is, and adds it to its total. After both, all that was put on has been added, by
whomever. The four ascending parts of an amount lie in one int, 128 bits each, and so rise together.

What a process has counted is counted in one place: a counter belongs to the oldest handler that is
open, and notes how much of its total was taken. Its thread takes what came since, once a round,
with the time of that; while it closes, the next one's may do so too. So this is two steps as well:
how far the total was is put on a list, and an iterator tells the highest before it and with it. A
counter that was taken is announced again by the next addition.

Order. An erase in the same process ends what was added before it, and nothing of what is added
after it: the log call notes how far the totals of waiting counters were.

Known anomalies. It is not so with a scalar that overwrites a counter: what is added in the 50 ms
before it may show as if it came after it. An addition that the exception of a signal handler ends
between its two steps may not be counted.
"""

from __future__ import annotations

import weakref
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol

from shardlog.crdt import counter as amounts
from shardlog.crdt import sketch
from shardlog.crdt.counter import COUNT_MAX
from shardlog.handler.fork import begin_child, in_child, is_ours
from shardlog.handler.values import DEPTH_MAX
from shardlog.handler.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardlog.crdt.delta import Amount
    from shardlog.crdt.path import Key

_PART_BITS = 128
_PART = (1 << _PART_BITS) - 1


class Taker(Protocol):
    """Who takes what is counted: a handler."""

    def announce(self, counter: Counter) -> None:
        """Look at a counter, which has more than it had."""
        ...

    def refuse(self, reason: str, sample: str) -> None:
        """Count what a counter was not let to count."""
        ...


_handlers: dict[int, Callable[[], Taker | None]] = {}
"""Weak references to those that are open, the oldest first."""
_counters: dict[int, Callable[[], Counter | None]] = {}
"""Weak references to all; a dict's values can be listed while other threads change it."""


class Counter:
    """What `counter` returns. All of it may be called by any thread."""

    __slots__ = (
        "__weakref__",
        "_added",
        "_looks",
        "_refused",
        "_taken",
        "_takes",
        "_totals",
        "is_waiting",
        "path",
    )

    def __init__(self, path: str, refused: tuple[str, str] | None) -> None:
        self.path = path
        self._refused = refused
        self._added: list[int] = []
        self._totals: Iterator[int] = accumulate(iter(self._added.pop, None))
        self._looks: list[int] = []
        highest = accumulate(iter(self._looks.pop, None), max, initial=0)
        self._takes: Iterator[tuple[int, int]] = pairwise(highest)
        self._taken = 0  # or less, where two threads take
        self.is_waiting = False
        """Whether a thread is going to look at it."""
        _counters[id(self)] = weakref.ref(self, partial(_counters.pop, id(self)))

    def __repr__(self) -> str:
        return f"<counter {self.path}>"

    def add(self, n: int | float = 1) -> None:
        """Count `n`, which may be negative. O(1); never raises or waits.

        What cannot be counted (NaN, an infinity, more than 2**53, no number) is refused and
        reported, as in a log call.
        """
        if not is_ours[0]:
            begin_child()
        if type(n) is not int or not 0 <= n <= COUNT_MAX or self._refused is not None:
            n = self._packed(n)
        self._added.append(n)
        next(self._totals)
        if not self.is_waiting:
            _announce(self)

    def total(self) -> int:
        """All that was added, packed. For `take`."""
        self._added.append(0)
        return next(self._totals)

    def take(self, total: int) -> Amount:
        """What it had beyond what was taken when it had this total. For handlers' threads."""
        self._looks.append(total)
        before, taken = next(self._takes)
        self._taken, more = taken, taken - before
        parts = [more >> shift & _PART for shift in range(0, 4 * _PART_BITS, _PART_BITS)]
        return amounts.shorten((parts[0], parts[1], parts[2], parts[3]))

    def begin_anew(self) -> None:
        """Count from here on."""
        self.is_waiting = False
        self.take(self.total())

    def has_more(self) -> bool:
        """Whether it has anything that was not taken."""
        return self.total() > self._taken

    def _packed(self, n: Any) -> int:
        if self._refused is not None:
            _refuse(*self._refused)
            return 0
        if type(n) is float and -COUNT_MAX <= n <= COUNT_MAX:
            amount = amounts.amount(n)
        else:
            walk = Walk({}, "counter")
            walk.count(self.path, n)
            _refuse_all(walk)
            amount = walk.counts[0][1] if walk.counts else 0
        a, b, c, d = amounts.lengthen(amount)
        return a | b << _PART_BITS | c << 2 * _PART_BITS | d << 3 * _PART_BITS


class Distribution:
    """What `distribution` returns. All of it may be called by any thread."""

    __slots__ = ("_counters", "_refused", "path")

    def __init__(self, path: str, refused: tuple[str, str] | None) -> None:
        self.path = path
        self._refused = refused
        self._counters: dict[int, Counter] = {}

    def __repr__(self) -> str:
        return f"<distribution {self.path}>"

    def observe(self, x: int | float) -> None:
        """Add `x` to what was observed. O(1); never raises or waits.

        What cannot be counted (NaN, an infinity, more than 2**53, no number) is refused and
        reported, as in a log call.
        """
        kind = type(x)
        if (kind is not float and kind is not int) or not -COUNT_MAX <= x <= COUNT_MAX:
            walk = Walk({}, "distribution")
            at = walk.bucket(self.path, x)
            _refuse_all(walk)
        else:
            at = sketch.bucket(x)
        if at is None:
            return
        counter = self._counters.get(at)
        if counter is None:
            new = Counter(f"{self.path}/{sketch.bucket_key(at)}", self._refused)
            # Where two threads make one, the first is that of both.
            counter = self._counters.setdefault(at, new)
        counter.add()


def counter(*keys: Key) -> Counter:
    """A counter in the state, to be kept and added to: some 0.25 µs instead of a log call.

    The keys are those of its path from the root. It may be made before any handler is: what was
    added by then goes to the first that is made. Keys that a shard may not have, and more than 32,
    are refused and reported when it is added to. O(keys).

    >>> tries = counter("item_scraped", "pages.local", "tries")
    >>> tries.add()
    >>> tries.add(3)
    >>> tries
    <counter item_scraped/pages.local/tries>
    """
    return Counter(*_place(keys, "counter"))


def distribution(*keys: Key) -> Distribution:
    """A distribution in the state, to be kept and observed: some 1 µs instead of a log call.

    As `counter`. O(keys).

    >>> time = distribution("item_scraped", "pages.local", "time")
    >>> time.observe(0.21)
    >>> time
    <distribution item_scraped/pages.local/time>
    """
    return Distribution(*_place(keys, "distribution"))


def open_handler(handler: Taker) -> None:
    """Let a handler take what is counted, if none before it does."""
    if not is_ours[0]:
        begin_child()
    _handlers[id(handler)] = weakref.ref(handler)
    for counter in _all_counters():
        if not counter.is_waiting and counter.has_more():
            _announce(counter)


def close_handler(handler: Taker) -> None:
    """Let the next one take what is counted."""
    _handlers.pop(id(handler), None)


def _all_counters() -> list[Counter]:
    found = [reference() for reference in [*_counters.values()]]
    return [counter for counter in found if counter is not None]


def _handler() -> Taker | None:
    for at, reference in [*_handlers.items()]:
        handler = reference()
        if handler is not None:
            return handler
        _handlers.pop(at, None)
    return None


def _announce(counter: Counter) -> None:
    handler = _handler()
    if handler is not None:
        handler.announce(counter)


def _place(keys: tuple[Key, ...], noun: str) -> tuple[str, tuple[str, str] | None]:
    """The path of these keys; and why nothing may be counted there, if so."""
    walk = Walk({}, noun)
    texts: list[str] = []
    for key in keys[:DEPTH_MAX]:
        text = walk.key(key, "/".join(texts))
        if text is None:
            break
        texts.append(text)
    else:
        path = "/".join(texts)
        if len(keys) > DEPTH_MAX:  # no collector would take such a path
            walk.note("depth", path, f"{len(keys)} keys")
        elif texts and walk.is_open(path):
            return path, None
    ((reason, (_, sample)), *_) = walk.refused.items() or [("key", (1, f"a {noun} without keys"))]
    return "/".join(texts), (reason, sample)


def _refuse_all(walk: Walk) -> None:
    for reason, (_, sample) in walk.refused.items():
        _refuse(reason, sample)


def _refuse(reason: str, sample: str) -> None:
    handler = _handler()
    if handler is not None:
        handler.refuse(reason, sample)


@in_child
def _begin_anew() -> None:
    """What was added before is the parent's. O(counters)."""
    for counter in _all_counters():
        counter.begin_anew()
