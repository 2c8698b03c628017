"""How fast counters rise, over windows of 1 s, 10 s, 1 min and 5 min; told by events. Pure.

Theory. What is counted shows as totals that only rise, so a rate is a quotient of differences, of
two totals that are known. Nothing is summed up from increments that could be missed: who looks
late, or at a stream with holes, divides what came by the time in which it came. What must be
avoided is to take a total for known that is not. Three rules do that.

- *A window ends at the last heartbeat*, which vouches for all before it: not now. A node that falls
  silent makes no counter stand still.
- *A window does not begin in a gap.* A gap is a time of which it was learnt only later what was
  counted: before the first `Whole`; from the last word of a node that fell silent, was followed
  anew or restarted, up to the next `Whole`; from the last word of a host that was silent, or is
  one that was never heard, or has begun another run, until its processes had 3 s to hand over what
  waited. What was counted meanwhile comes at once at the end of the gap: in a window that begins in
  the gap it would be a spike, in one that contains it whole it is right. There the rate of what
  has moved is None: unknown.
- *While a host is silent* what moves all the same is not all of it, and is shown; what stands still
  since may be that host's, and is None. After a minute nobody waits for the host: then it is 0.

What is no counting makes no rate: the erase of a counter, and what moves to `~` when a record is
forgotten, which is told in one event with its going.

A window begins at a multiple of a tenth of its length, and so is up to a tenth longer than it is
called; the rate is over the time that it really has. For each tenth of each window it is kept what
the counters that moved in it had before. What stands still costs its total; what moves, 44 numbers.

Known anomalies. A host that is silent for less than 1.5 heartbeats, in the same run, is not missed:
what it did not tell meanwhile shows in the next window of 1 s. A counter that is erased and counts
on within one flush goes down, which a count below zero does too: its rate is negative. A host that
joins is a gap, though it may have counted nothing before.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.counter import BILLION
from shardlog.crdt.delta import COUNTER, ERASED
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import COLLAPSED, key_texts
from shardlog.crdt.sketch import Summary, bucket_at, summary
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.replica import Selection, billionths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.replication.messages import Changes, Heartbeat, HostStatus, Row
    from shardlog.monitor.feed import Event

SECOND = 10**9
MS = 10**6
WINDOWS = {"1s": SECOND, "10s": 10 * SECOND, "1m": 60 * SECOND, "5m": 300 * SECOND}
"""The windows by name, in ns."""
STEPS = 10
"""Of each window."""
LATE = 1.5
"""So many heartbeats after its last word a host is silent."""
RETURN_NS = 3 * SECOND
"""So long after a host's return its processes may take to hand over what waited for it."""
AWAITED_NS = 60 * SECOND
"""So long a host that is silent is waited for."""


class Rate(NamedTuple):
    """One line: what is counted there in all, and in each window; None where that is unknown."""

    path: str
    total: int | float
    counts: tuple[int | float | None, ...]
    moves: bool
    """Whether anything is known to have been counted since it is looked at, in 5 minutes."""


class Distribution(NamedTuple):
    """What was observed at a path: in all, and in each window; None where that is unknown."""

    path: str
    total: Summary
    windows: tuple[Summary | None, ...]
    """Where nothing was observed in a window, its count is 0."""
    moves: bool


class Look(NamedTuple):
    """What is known at a time: the last heartbeat's, in ns; the seconds that each window has."""

    at_ns: int
    seconds: tuple[float, ...]
    rates: list[Rate]
    distributions: list[Distribution]
    doubts: list[str]
    """Why some of it is unknown, or not all; one line each."""
    is_known: bool
    """Whether it has been looked at for long enough to know a window, and nothing is in doubt."""


class Fold:
    """Which counters are looked at, and which of them are one line.

    `by` are the numbers of the `*` in the pattern, from 1, whose keys make lines of their own; the
    others are folded, what forgotten records counted included. The last key, which says what is
    counted, is kept in any case. Without `by` each counter has its own line. A distribution is
    where its buckets are.

    >>> fold = Fold("intents/*/domains/*/tries", (2,))
    >>> fold("intents/~/domains/pages.local/tries"), fold("intents/42/host")
    ('intents/*/domains/pages.local/tries', None)
    >>> Fold("**/time")("a/time/~959")
    'a/time/~959'

    Raises:
        ConfigError: this is no pattern, or has no such `*`.
    """

    def __init__(self, pattern: str, by: Iterable[int] | None = None) -> None:
        self._by = None if by is None else frozenset(by)
        self._selection = Selection(pattern, collapsed=self._by is not None)
        self._parts = key_texts(pattern)
        if self._by is None:
            return
        if "**" in self._parts:
            raise ConfigError(f"{pattern!r}: ** stands for any number of keys, which no line has")
        stars = self._parts.count("*")
        for number in sorted(self._by):
            if not 1 <= number <= stars:
                raise ConfigError(f"{pattern!r} has {stars} times *, and no number {number}")

    def __call__(self, path: str) -> str | None:
        """The line of a counter, None if it is not looked at. O(keys x parts)."""
        keys = key_texts(path)
        names = 2 if bucket_at(keys[-1]) is not None and len(keys) > 1 else 1
        if not self._selection.matches(path) and (
            names == 1 or not self._selection.matches("/".join(keys[:-1]))
        ):
            return None
        if self._by is None:
            return path
        star = 0
        for place, part in enumerate(self._parts[: len(keys) - names]):
            if part == "*":
                star += 1
                keys[place] = keys[place] if star in self._by else part
        return "/".join(keys)


class _Line:
    """A line's total as it shows, and what was counted since it is looked at, in billionths."""

    __slots__ = ("counted", "is_float", "paths", "total")

    def __init__(self) -> None:
        self.paths = 0
        self.total = 0
        self.counted = 0
        self.is_float = False


class _Window:
    """What lines had counted before they first moved, in each tenth in which they did."""

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns
        self.step_ns = length_ns // STEPS
        self.steps: deque[tuple[int, dict[str, int]]] = deque()

    def step(self, at_ns: int) -> dict[str, int]:
        """The one that is now. O(1)."""
        at = at_ns // self.step_ns
        if not self.steps or self.steps[-1][0] < at:
            self.steps.append((at, {}))
        return self.steps[-1][1]

    def begin_ns(self, end_ns: int) -> int:
        """Where a window that ends then begins."""
        return (end_ns - self.length_ns) // self.step_ns * self.step_ns

    def forget(self, end_ns: int) -> None:
        """Drop what no window needs that ends then or later."""
        first = self.begin_ns(end_ns) // self.step_ns
        while self.steps and self.steps[0][0] < first:
            self.steps.popleft()

    def before(self, begin_ns: int) -> dict[str, int]:
        """What the lines that moved since then had counted before. O(moves)."""
        before: dict[str, int] = {}
        for at, moved in reversed(self.steps):
            if at * self.step_ns >= begin_ns:
                before.update(moved)
        return before


class _Host:
    """How far a host is known, in ns, and by which run of it."""

    __slots__ = ("away_ns", "heard_ns", "known_ns", "name", "run")

    def __init__(self, name: str, heard_ns: int, run: str) -> None:
        self.name = name
        self.heard_ns = self.known_ns = heard_ns
        self.run = run
        self.away_ns: int | None = None
        """From when on it is not known, if it is silent."""


class Rates:
    """The counters that a fold looks at. Takes events as a feed gives them, in order.

    >>> from shardlog.crdt.replication.messages import Changes, Heartbeat, Row
    >>> def tries(n): return Changes([], [Row("tries", COUNTER, n, 1, -1)])
    >>> def beat(at_ns): return Heard(at_ns, Heartbeat("a", "e", at_ns, 1000, [], [], {}))
    >>> rates = Rates(Fold("**"))
    >>> for event in (Whole(0, (tries(100),)), Moved(SECOND, tries(140)), beat(2 * SECOND)):
    ...     rates.take(event)
    >>> rates.look().rates
    [Rate(path='tries', total=140, counts=(40, None, None, None), moves=True)]
    """

    def __init__(self, fold: Fold) -> None:
        self._name = lru_cache(1 << 16)(fold)
        self._lines: dict[str, _Line] = {}
        self._totals: dict[str, int] = {}
        """By path; only of counters."""
        self._windows = [_Window(length_ns) for length_ns in WINDOWS.values()]
        self._unvouched: dict[str, int] = {}
        """What lines had counted at the last heartbeat, if they moved since."""
        self._begin_ns: int | None = None
        self._end_ns = 0
        """When the last heartbeat came, or, where nothing is known, the last event."""
        self._last_ns = 0
        self._gap_ns: int | None = None
        """Since when nothing is known."""
        self._reason = ""
        self._gaps: list[tuple[int, int]] = []
        """In their order, none touching another."""
        self._hosts: dict[str, _Host] = {}
        self._moved_meanwhile: set[str] = set()
        """Of what may be incomplete."""
        self._has_heard = False

    @property
    def seconds(self) -> float:
        """For how long it has been looked at, up to the last heartbeat."""
        return 0.0 if self._begin_ns is None else (self._end_ns - self._begin_ns) / SECOND

    def take(self, event: Event) -> None:
        """Take in what happened. O(rows x keys x parts), or O(hosts); a `Whole`: of all rows."""
        match event:
            case Whole(at_ns, changes):
                self._install(at_ns, changes)
            case Moved(at_ns, changes):
                self._apply(at_ns, changes.rows)
            case Heard(at_ns, heartbeat):
                self._hear(at_ns, heartbeat)
            case Doubt(at_ns, reason):
                self._reason = reason
                if reason:
                    self._gap_ns = self._last_ns if self._gap_ns is None else self._gap_ns
                else:
                    self._end_gap(at_ns)
        if not isinstance(event, Doubt):
            self._last_ns = event.at_ns
        if self._gap_ns is not None:
            self._vouch(event.at_ns)

    def look(self) -> Look:
        """All lines, by path. O(lines log lines + moves)."""
        windows = [
            (begin_ns, self._is_in_gap(begin_ns), window.before(begin_ns))
            for window in self._windows
            for begin_ns in (window.begin_ns(self._end_ns),)
        ]
        is_incomplete = self._is_incomplete(self._end_ns)
        rates: list[Rate] = []
        buckets: dict[str, list[tuple[int, Rate]]] = {}
        for path in sorted(self._lines):
            line = self._lines[path]
            counted = self._unvouched.get(path, line.counted)
            counts: list[int | float | None] = []
            moves = False
            for begin_ns, is_in_gap, before in windows:
                has_moved = before.get(path, counted) != counted
                moves |= path in before
                if (
                    not self._is_shown(begin_ns)
                    or (is_in_gap and has_moved)
                    or (is_incomplete and path not in self._moved_meanwhile)
                ):
                    counts.append(None)
                else:
                    counts.append(_number(counted - before.get(path, counted), line.is_float))
            total = line.total - line.counted + counted
            rate = Rate(path, _number(total, line.is_float), tuple(counts), moves)
            *above, last = key_texts(path)
            at = bucket_at(last)
            if at is None or not above:
                rates.append(rate)
            else:
                buckets.setdefault("/".join(above), []).append((at, rate))
        seconds = tuple((self._end_ns - begin_ns) / SECOND for begin_ns, *_ in windows)
        found = [_distribution(path, held) for path, held in buckets.items()]
        return Look(
            self._end_ns,
            seconds,
            rates,
            [distribution for distribution in found if distribution is not None],
            [*self._doubts()],
            self._is_shown(windows[0][0]),
        )

    def _is_shown(self, begin_ns: int) -> bool:
        return self._gap_ns is None and self._begin_ns is not None and begin_ns >= self._begin_ns

    def _is_in_gap(self, at_ns: int) -> bool:
        """What comes at the end of a gap comes in a window that begins there."""
        return any(begin_ns < at_ns <= end_ns for begin_ns, end_ns in self._gaps)

    def _is_incomplete(self, at_ns: int) -> bool:
        """Whether there may be more by then than is heard."""
        return bool(self._away()) or self._is_in_gap(at_ns + 1)

    def _away(self) -> list[_Host]:
        """Those who are silent and waited for."""
        return [
            host
            for host in self._hosts.values()
            if host.away_ns is not None and self._end_ns - host.heard_ns < AWAITED_NS
        ]

    def _doubts(self) -> Iterator[str]:
        if self._begin_ns is None or (self._gap_ns is not None and not self._reason):
            yield "nothing has been heard yet"
        if self._reason:
            yield self._reason
        for host in self._away():
            seconds = (self._end_ns - host.heard_ns) // SECOND
            yield f"{host.name} has not been heard for {seconds} s"

    def _install(self, at_ns: int, chunks: tuple[Changes, ...]) -> None:
        rows = {row.path: row for changes in chunks for row in changes.rows}
        gone = [path for path in self._totals if path not in rows]
        if self._begin_ns is None:
            self._begin_ns = self._end_ns = at_ns
            for row in rows.values():
                name = self._name(row.path)
                if name is not None and row.kind == COUNTER and isinstance(row.value, int | float):
                    self._count(name, row.path, row.value)
            return
        if self._gap_ns is None:
            self._gap_ns = self._last_ns
        self._apply(at_ns, rows.values(), gone)
        self._end_gap(at_ns)

    def _apply(self, at_ns: int, rows: Iterable[Row], gone: Iterable[str] = ()) -> None:
        if self._begin_ns is None:
            return
        moved: dict[str, int] = {}
        lost: dict[str, int] = {}
        for row in rows:
            name = self._name(row.path)
            if name is None:
                continue
            before = self._totals.get(row.path)
            if row.kind == COUNTER and isinstance(row.value, int | float):
                more = self._count(name, row.path, row.value)
                if more < 0:
                    lost[row.path] = more
                else:
                    moved[row.path] = more
            elif before is not None:
                less = self._drop(name, row.path)
                if row.kind != ERASED:
                    lost[row.path] = less
        for path in gone:
            name = self._name(path)
            if name is not None:
                lost[path] = self._drop(name, path)
        for path, less in lost.items():
            left = _carried(path, less, moved)
            if path in self._totals:  # it is there, and has less: by an erase, or a negative count
                moved[path] = left
        steps = [window.step(at_ns) for window in self._windows]
        is_incomplete = self._is_incomplete(at_ns)
        for path, more in moved.items():
            name = self._name(path)
            if more and name is not None:
                line = self._lines[name]
                for step in (*steps, self._unvouched):
                    step.setdefault(name, line.counted)
                line.counted += more
                if is_incomplete:
                    self._moved_meanwhile.add(name)

    def _count(self, name: str, path: str, value: int | float) -> int:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line()
        total = billionths(value)
        line.paths += path not in self._totals
        more = total - self._totals.get(path, 0)
        line.total += more
        line.is_float |= isinstance(value, float)
        self._totals[path] = total
        return more

    def _drop(self, name: str, path: str) -> int:
        """What a path no longer shows, as a negative number if it was a positive one."""
        total = self._totals.pop(path)
        line = self._lines[name]
        line.paths -= 1
        line.total -= total
        if not line.paths:
            del self._lines[name]
            self._unvouched.pop(name, None)
            for window in self._windows:
                for _, moved in window.steps:
                    moved.pop(name, None)
        return -total

    def _hear(self, at_ns: int, heartbeat: Heartbeat) -> None:
        for said in heartbeat.hosts:
            self._hear_of(said, at_ns, heartbeat)
        self._hosts = {
            host.replica: self._hosts[host.replica]
            for host in heartbeat.hosts
            if host.replica in self._hosts
        }
        self._has_heard = True
        if self._gap_ns is None:
            self._vouch(at_ns)
        if not self._is_incomplete(at_ns):
            self._moved_meanwhile.clear()

    def _hear_of(self, said: HostStatus, at_ns: int, heartbeat: Heartbeat) -> None:
        if said.status == "replaced":
            self._hosts.pop(said.replica, None)
            return
        silent_ns = max(heartbeat.at_ns - said.since_ns, 0)
        is_here = said.status == "live" and silent_ns <= LATE * heartbeat.interval_ms * MS
        host = self._hosts.get(said.replica)
        if host is None:
            host = self._hosts[said.replica] = _Host(said.host, at_ns - silent_ns, said.run)
            if self._has_heard and self._begin_ns is not None:
                # What it counted before it came, it brings with it.
                self._add_gap(self._begin_ns, at_ns + RETURN_NS)
        host.heard_ns = at_ns - silent_ns
        if not is_here:
            if host.away_ns is None:
                host.away_ns = host.known_ns
                self._moved_meanwhile.clear()
            return
        if host.away_ns is not None or host.run not in ("", said.run):
            self._add_gap(
                host.known_ns if host.away_ns is None else host.away_ns, at_ns + RETURN_NS
            )
        host.away_ns = None
        host.known_ns = host.heard_ns
        host.run = said.run

    def _end_gap(self, at_ns: int) -> None:
        if self._gap_ns is not None:
            self._add_gap(self._gap_ns, at_ns)
            self._gap_ns = None
            self._end_ns = at_ns
            self._moved_meanwhile.clear()

    def _add_gap(self, begin_ns: int, end_ns: int) -> None:
        kept: list[tuple[int, int]] = []
        for gap in self._gaps:
            if gap[1] < begin_ns or gap[0] > end_ns:
                kept.append(gap)
            else:
                begin_ns, end_ns = min(begin_ns, gap[0]), max(end_ns, gap[1])
        self._gaps = sorted([*kept, (begin_ns, end_ns)])

    def _vouch(self, at_ns: int) -> None:
        """All before is here."""
        self._end_ns = at_ns
        self._unvouched.clear()
        for window in self._windows:
            window.forget(at_ns)
        first_ns = self._windows[-1].begin_ns(at_ns)
        self._gaps = [gap for gap in self._gaps if gap[1] > first_ns]


def _carried(path: str, less: int, moved: dict[str, int]) -> int:
    """What is left of what a path lost, when what its place at `~` got of it is no counting."""
    keys = key_texts(path)
    for place in range(1, len(keys)):
        there = "/".join((*keys[:place], COLLAPSED, *keys[place + 1 :]))
        more = moved.get(there, 0)
        if more and (more > 0) == (less < 0):
            carried = min(more, -less) if less < 0 else max(more, -less)
            moved[there] = more - carried
            return less + carried
    return less


def _number(many: int, is_float: bool) -> int | float:
    return many / BILLION if is_float else many // BILLION


def _distribution(path: str, held: list[tuple[int, Rate]]) -> Distribution | None:
    total = summary({at: int(rate.total) for at, rate in held})
    if total is None:
        return None
    windows: list[Summary | None] = []
    for number in range(len(WINDOWS)):
        counts = {at: rate.counts[number] for at, rate in held}
        known = {at: int(count) for at, count in counts.items() if count is not None}
        said = summary(known) or Summary(0, 0.0, 0.0, 0.0, 0.0)
        windows.append(said if len(known) == len(counts) else None)
    return Distribution(path, total, tuple(windows), any(rate.moves for _, rate in held))
