"""What a live test can ask for, and how each is judged.

    eventually(p, within=30, hold=2)    p becomes true within 30 s, and then stays so for 2 s
    ladder(rung(...), rung(...))        the same in steps: each is owed from the one before it
    always(p), never(p)                 p is true, or false, whenever it has an answer
    moves(v, every=60)                  v is another one every 60 s at the latest
    sometimes(p)                        p is seen to be true once in the run
    expect({...}, within=30)            the state comes to contain at least this

`within` is a deadline, `hold` how long something must stay true to count, `during` how long an
`always` is watched, `broken_for` how long it must stay false to fail, `clear_after` how long it
must stay true to have healed, `every` a sliding deadline, `when` a condition for being judged, and
`doomed` what ends the waiting. All are seconds, or predicates.

Each of the above registers what it says with whoever runs the function that calls it, so nothing
that was said can be forgotten. In a function decorated by `each` or `once` that is the engine; in a
test of pytest it is the fixture `live`, and the call waits, and raises.

Theory. Each is a machine with a verdict of RV-LTL (see `verdict`): `eventually` is F with a
deadline of metric temporal logic (Koymans, "Specifying Real-Time Properties with Metric Temporal
Logic", 1990), `always` is G. A deadline is judged in two steps: when it is over the verdict is
`overdue`, and `fail` only when all who might have said something in time have spoken since, or
`lateness_ms` later. Evidence counts by when it was said, not by when it came.

Known anomalies. How long something was true is known only as far as a delta was sent in between:
what flips and flips back within one flush is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from sys import intern
from typing import Any, Literal, NamedTuple, Protocol

from shardlog.crdt.errors import ConfigError
from shardlog.monitor.live.source import place_of, source_of, writes_of
from shardlog.monitor.live.verdict import Verdict
from shardlog.monitor.live.view import Node

SECOND = 10**9
FLAPS_MAX = 8

Predicate = Callable[[], object]


class Moment(Protocol):
    """What a property is judged by."""

    now_ns: int
    """The time by its timeline: of what comes, or of the cut."""
    said: str
    """What the last predicate's assertion said."""
    changed_ns: int
    """What has changed since it was judged last was said at this time at the earliest."""
    lateness_ns: int

    @property
    def is_blind(self) -> bool:
        """Whether evidence may be missing."""
        ...

    def ask(self, predicate: Predicate, *, enough: bool | None = None) -> bool | None:
        """The predicate's answer, None if it has none now.

        Where there may be several, `enough` is the one that is taken if it is among them.
        """
        ...

    def value(self, expression: Predicate, known: object) -> tuple[object, bool, str]:
        """What it gives, None if nothing now; whether that is another than `known`; and as text.

        The text is that of `known` where it is no other.
        """
        ...

    def happened_ns(self, since_ns: int, deadline_ns: int) -> int:
        """When what the last predicate looked at became so, as far as that is known."""
        ...

    def is_complete(self, at_ns: int) -> bool:
        """Whether all that was said up to then is here, or has had time enough to come."""
        ...


class Flap(NamedTuple):
    """From when to when something was true that had to stay so."""

    began_ns: int
    ended_ns: int


class Property:
    """Something that is asked for; its verdict, and when it is to be judged again."""

    __slots__ = ("_said", "due_ns", "name", "reason", "since_ns", "verdict")

    timeline: Literal["arrival", "cut"] = "arrival"

    def __init__(self, name: str) -> None:
        self.name = name
        self.verdict = Verdict.IDLE
        self.reason = "NotReached"
        self._said = ""
        self.since_ns = 0
        self.due_ns: int | None = None
        """When to judge it again though nothing changed, and nothing is in doubt."""

    def begin(self, born_ns: int) -> None:
        """What it is about came up."""
        self.since_ns = born_ns

    def judge(self, moment: Moment) -> None:
        """Look again. Final verdicts stay."""
        raise NotImplementedError

    def until_ns(self) -> int | None:
        """When it is over as it stands, but for what is on its way; None: with the run."""
        return None

    def wrap(self, around: Callable[[Predicate], Predicate]) -> None:
        """Have what it is true by asked through another function."""

    def miss(self) -> None:
        """What came lately is not judged: how long something has been so is not known."""

    @property
    def message(self) -> str:
        """What is to be said of the verdict, one line or ""."""
        return self._said

    def flaps(self) -> list[Flap]:
        """When it was nearly so."""
        return []

    def end(self, now_ns: int) -> None:
        """The run ends: what has held until now has held."""
        if self.verdict is Verdict.HOLDING:
            held_s = (now_ns - self.since_ns) / SECOND
            self._say(Verdict.PASS, "Held", f"held {held_s:.1f} s, to the end", now_ns)

    def _say(self, verdict: Verdict, reason: str, said: str, now_ns: int) -> None:
        if verdict is not self.verdict:
            self.since_ns = now_ns
            self.verdict = verdict
            if verdict.is_final:
                self.due_ns = None
        self.reason, self._said = reason, said


class Rung(NamedTuple):
    """A step of a ladder."""

    name: str
    predicate: Predicate
    within_ns: int
    hold_ns: int


class Ladder(Property):
    """Steps that are owed one after the other. `reached`: when each was, as far as it got."""

    __slots__ = (
        "_doomed",
        "_flaps",
        "_from_ns",
        "_late_ns",
        "_rungs",
        "_true_ns",
        "born_ns",
        "reached",
    )

    def __init__(self, name: str, rungs: tuple[Rung, ...], doomed: Predicate | None) -> None:
        super().__init__(name)
        self._rungs = rungs
        self._doomed = doomed
        self.born_ns = self._from_ns = 0
        self._true_ns: int | None = None
        self._late_ns: int | None = None
        self._flaps: list[Flap] | None = None
        self.reached: tuple[int, ...] = ()

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """All steps."""
        return self._rungs

    @property
    def deadline_ns(self) -> int:
        """Until when the next step is owed."""
        return self._from_ns + self._rungs[len(self.reached)].within_ns

    def begin(self, born_ns: int) -> None:
        """The first step is owed from now on."""
        super().begin(born_ns)
        self.born_ns = self._from_ns = born_ns

    @property
    def message(self) -> str:
        """Where it stands, while it is owed."""
        if self.verdict.is_final:
            return self._said
        return f"{self._stands()}, holding" if self.reason == "Holding" else self._stands()

    def until_ns(self) -> int | None:
        """The deadline of the next step, and how long that must hold."""
        if self.verdict.is_final:
            return self.since_ns
        return self.deadline_ns + self._rungs[len(self.reached)].hold_ns

    def wrap(self, around: Callable[[Predicate], Predicate]) -> None:
        """As `Property.wrap`: each step."""
        self._rungs = tuple(r._replace(predicate=around(r.predicate)) for r in self._rungs)

    def flaps(self) -> list[Flap]:
        """When the next step was taken, and taken back."""
        return self._flaps or []

    def judge(self, moment: Moment) -> None:
        """Take as many steps as can be taken. O(steps taken + 1) predicates."""
        while not self.verdict.is_final and self._steps(moment):
            pass

    def _steps(self, moment: Moment) -> bool:
        """Whether another step was taken."""
        rung = self._rungs[len(self.reached)]
        deadline_ns = self.deadline_ns
        self._late_ns = None
        if moment.ask(rung.predicate):
            if self._true_ns is None:
                self._true_ns = moment.happened_ns(self._from_ns, deadline_ns)
            if self._true_ns <= deadline_ns:
                return self._holds(rung, self._true_ns, moment)
            self._late_ns = self._true_ns
        elif self._true_ns is not None:
            if self._has_held(rung, self._true_ns, moment):
                return self._reach(rung, self._true_ns, moment)
            self._flap(Flap(self._true_ns, moment.now_ns))
            self._true_ns = None
        said = moment.said
        if self._doomed is not None and moment.ask(self._doomed) and not moment.is_blind:
            self._say(Verdict.FAIL, "Doomed", f"{self._stands()}: doomed", moment.now_ns)
        elif moment.now_ns < deadline_ns:
            self.due_ns = deadline_ns
            self._say(Verdict.PENDING, "Waiting", "", moment.now_ns)
        elif moment.is_complete(deadline_ns):
            self._say(Verdict.FAIL, *self._failed(said), moment.now_ns)
        else:
            self.due_ns = None if moment.is_blind else deadline_ns + moment.lateness_ns
            self._say(Verdict.OVERDUE, "Late", "", moment.now_ns)
        return False

    def _holds(self, rung: Rung, true_ns: int, moment: Moment) -> bool:
        held_ns = true_ns + rung.hold_ns
        # What ended it may be said, and be on its way.
        if rung.hold_ns and (moment.now_ns < held_ns or not moment.is_complete(held_ns)):
            until_ns = held_ns if moment.now_ns < held_ns else held_ns + moment.lateness_ns
            self.due_ns = None if moment.is_blind else until_ns
            self._say(Verdict.PENDING, "Holding", "", moment.now_ns)
            return False
        return self._reach(rung, true_ns, moment)

    def _has_held(self, rung: Rung, true_ns: int, moment: Moment) -> bool:
        """Whether what is false by now was true for long enough."""
        held_ns = true_ns + rung.hold_ns
        is_held = bool(rung.hold_ns) and held_ns <= moment.changed_ns
        return is_held and true_ns <= self.deadline_ns and not moment.is_blind

    def _reach(self, rung: Rung, true_ns: int, moment: Moment) -> bool:
        late_s = (moment.now_ns - self.deadline_ns) / SECOND
        self.reached += (true_ns,)
        self._true_ns = None
        self._flaps = None
        self._from_ns = true_ns
        if len(self.reached) < len(self._rungs):
            return True
        note = f", {late_s:.1f} s late on the wire" if late_s > 0 and not rung.hold_ns else ""
        took_s = (true_ns - self.born_ns) / SECOND
        self._say(Verdict.PASS, "Seen", f"after {took_s:.2f} s{note}", moment.now_ns)
        return False

    def _flap(self, flap: Flap) -> None:
        self._flaps = [*(self._flaps or ())[-FLAPS_MAX + 1 :], flap]

    def _stands(self) -> str:
        at = len(self.reached)
        if len(self._rungs) == 1:
            return "not yet"
        after = f" behind {self._rungs[at - 1].name!r}" if at else ""
        return f"before rung {at + 1}/{len(self._rungs)} {self._rungs[at].name!r}{after}"

    def _failed(self, said: str) -> tuple[str, str]:
        at = len(self.reached)
        rung = self._rungs[at]
        within = f"{rung.within_ns / SECOND:g} s"
        if at:
            where = f"stuck {self._stands().partition(' behind')[0]}, {within} after "
            where += repr(self._rungs[at - 1].name)
        elif len(self._rungs) > 1:
            where = f"stuck {self._stands()}, {within} after it was asked for"
        else:
            where = f"not within {within}"
        if self._late_ns is not None:
            where += f"; it came {(self._late_ns - self.deadline_ns) / SECOND:.2f} s too late"
        return "DeadlineExceeded", f"{where}: {said}" if said else where


class Always(Property):
    """What must be true, or false, whenever it has an answer."""

    __slots__ = (
        "_at_ns",
        "_born_ns",
        "_broken_for_ns",
        "_broken_ns",
        "_clear_after_ns",
        "_during_ns",
        "_flaps",
        "_good_ns",
        "_is_so",
        "_predicate",
        "_when",
        "judged",
        "reached_ns",
        "timeline",
    )

    def __init__(
        self,
        name: str,
        predicate: Predicate,
        *,
        is_so: bool,
        when: Predicate | None,
        during_ns: int | None,
        broken_for_ns: int,
        clear_after_ns: int,
        timeline: Literal["arrival", "cut"],
    ) -> None:
        super().__init__(name)
        self._predicate = predicate
        self._is_so = is_so
        self._when = when
        self._during_ns = during_ns
        self._broken_for_ns = broken_for_ns
        self._clear_after_ns = clear_after_ns
        self.timeline = timeline
        self._born_ns = 0
        self._broken_ns: int | None = None
        self._good_ns: int | None = None
        self._flaps: list[Flap] | None = None
        self.reached_ns: int | None = None
        self.judged = 0
        """How often it had an answer."""

    def begin(self, born_ns: int) -> None:
        """It may have an answer from now on."""
        super().begin(born_ns)
        self._born_ns = born_ns

    def until_ns(self) -> int | None:
        """When it was watched for as long as it is to be, and a break that began then is told."""
        if self._during_ns is None:
            return None
        began_ns = self._born_ns if self.reached_ns is None else self.reached_ns
        return began_ns + self._during_ns + self._broken_for_ns + self._clear_after_ns

    def wrap(self, around: Callable[[Predicate], Predicate]) -> None:
        """As `Property.wrap`."""
        self._predicate = around(self._predicate)

    def miss(self) -> None:
        """As `Property.miss`: it is watched anew."""
        self.reached_ns = self._broken_ns = self._good_ns = None

    def flaps(self) -> list[Flap]:
        """When it was broken, and healed."""
        return self._flaps or []

    def judge(self, moment: Moment) -> None:
        """Look again. O(1) predicates."""
        if self.verdict.is_final:
            return
        now_ns = moment.now_ns
        if self._when is not None and not moment.ask(self._when, enough=False):
            if self.reached_ns is not None:
                self._goes_on(moment)
            return
        answer = moment.ask(self._predicate, enough=self._is_so)
        if answer is None:
            if self.reached_ns is not None and self._broken_ns is None:
                self._goes_on(moment)
            return
        self.judged += 1
        if self.reached_ns is None:
            self.reached_ns = now_ns
        if answer is self._is_so:
            self._is_good(moment)
        else:
            self._is_broken(moment)

    def _is_good(self, moment: Moment) -> None:
        now_ns = moment.now_ns
        if self._broken_ns is not None:
            self._good_ns = now_ns if self._good_ns is None else self._good_ns
            if now_ns < self._good_ns + self._clear_after_ns:
                self.due_ns = self._good_ns + self._clear_after_ns
                return
        self._goes_on(moment)

    def _goes_on(self, moment: Moment) -> None:
        """Nothing is broken, or it has healed, or is judged no more."""
        now_ns = moment.now_ns
        if self._broken_ns is not None:
            self._flaps = [*(self._flaps or ())[-FLAPS_MAX + 1 :], Flap(self._broken_ns, now_ns)]
            self._broken_ns = self._good_ns = None
        self.due_ns = None
        assert self.reached_ns is not None
        held_ns = now_ns - self.reached_ns
        if self._during_ns is not None and not moment.is_blind:
            if held_ns >= self._during_ns:
                message = f"held {held_ns / SECOND:.1f} s, judged {self.judged} times"
                self._say(Verdict.PASS, "Held", message, now_ns)
                return
            self.due_ns = self.reached_ns + self._during_ns
        self._say(Verdict.HOLDING, "Holding", "", now_ns)

    def _is_broken(self, moment: Moment) -> None:
        now_ns = moment.now_ns
        self._good_ns = None
        if self._broken_ns is None:
            self._broken_ns = now_ns
        end_ns = self._broken_ns + self._broken_for_ns
        said = f": {moment.said}" if moment.said else ""
        if now_ns >= end_ns and not moment.is_blind:
            lasted = f" for {self._broken_for_ns / SECOND:g} s" if self._broken_for_ns else ""
            before = f", after it held {(self._broken_ns - (self.reached_ns or 0)) / SECOND:.1f} s"
            before = before if self.judged > 1 and self.reached_ns != self._broken_ns else ""
            self._say(Verdict.FAIL, "Broken", f"broken{lasted}{before}{said}", now_ns)
        else:
            self.due_ns = None if moment.is_blind else end_ns
            self._say(Verdict.OVERDUE, "Broken", f"broken{said}", now_ns)


class Moving(Property):
    """What must be another value every so often."""

    __slots__ = ("_every_ns", "_expression", "_moved_ns", "_value", "_when")

    def __init__(
        self, name: str, expression: Predicate, *, every_ns: int, when: Predicate | None
    ) -> None:
        super().__init__(name)
        self._expression = expression
        self._every_ns = every_ns
        self._when = when
        self._value: object = None
        self._moved_ns: int | None = None

    def wrap(self, around: Callable[[Predicate], Predicate]) -> None:
        """As `Property.wrap`."""
        self._expression = around(self._expression)

    def judge(self, moment: Moment) -> None:
        """Look again. O(1) predicates."""
        if self.verdict.is_final:
            return
        now_ns = moment.now_ns
        if self._when is not None and not moment.ask(self._when):
            self._moved_ns = self.due_ns = None
            if self.verdict is Verdict.OVERDUE:
                self._say(Verdict.HOLDING, "Moving", "", now_ns)
            return
        value, is_other, text = moment.value(self._expression, self._value)
        if value is None and self._moved_ns is None:
            return
        # What has gone moves no more, which is not forgiven.
        if self._moved_ns is None or is_other:
            is_first = self._moved_ns is None
            self._moved_ns = now_ns if is_first else moment.happened_ns(0, now_ns)
            self._value = value
        deadline_ns = self._moved_ns + self._every_ns
        stands = f"{text} since {(now_ns - self._moved_ns) / SECOND:.1f} s"
        if now_ns < deadline_ns:
            self.due_ns = deadline_ns
            self._say(Verdict.HOLDING, "Moving", "", now_ns)
        elif moment.is_complete(deadline_ns):
            self._say(Verdict.FAIL, "Stopped", f"stands still: {stands}", now_ns)
        else:
            self.due_ns = None if moment.is_blind else deadline_ns + moment.lateness_ns
            self._say(Verdict.OVERDUE, "Late", stands, now_ns)


class Sometimes(Property):
    """What must be seen once in the run."""

    __slots__ = ("_predicate",)

    def __init__(self, name: str, predicate: Predicate) -> None:
        super().__init__(name)
        self._predicate = predicate

    def wrap(self, around: Callable[[Predicate], Predicate]) -> None:
        """As `Property.wrap`."""
        self._predicate = around(self._predicate)

    def judge(self, moment: Moment) -> None:
        """Look again. One predicate."""
        if self.verdict.is_final:
            return
        if moment.ask(self._predicate):
            self._say(Verdict.PASS, "Seen", "", moment.now_ns)
        else:
            self._say(Verdict.PENDING, "NotSeen", "not seen yet", moment.now_ns)

    def end(self, now_ns: int) -> None:
        """The run is its deadline."""
        if self.verdict is Verdict.PENDING:
            self._say(Verdict.FAIL, "NotSeen", "not seen in this run", now_ns)


class Taker(Protocol):
    """Whoever runs a function that asks for something."""

    @property
    def live(self) -> Node:
        """The whole state."""
        ...

    def take(self, asked: Property) -> Any:
        """Take it in."""
        ...

    def within_s(self) -> float | None:
        """How much time is left where no `within` is given."""
        ...


TAKER: ContextVar[Taker] = ContextVar("TAKER")


def eventually(
    predicate: Predicate, description: str = "", *, within: float | None = None, hold: float = 0
) -> Any:
    """`predicate` becomes true `within` seconds, and stays so for `hold` seconds.

    Raises:
        ConfigError: nothing says within which time; or this is no place to ask for anything.
    """
    name = _name("eventually", description, predicate)
    return _take(Ladder(name, (rung(name, predicate, within=within, hold=hold),), None))


def rung(name: str, predicate: Predicate, *, within: float | None = None, hold: float = 0) -> Rung:
    """A step of a ladder: true `within` seconds behind the step before it, for `hold` seconds.

    Raises:
        ConfigError: as `eventually`.
    """
    _check(predicate)
    if within is None:
        within = _taker().within_s()
    if within is None:
        raise ConfigError(f"{name}: within= is missing: until when is it owed?")
    return Rung(name, predicate, _ns("within", within), _ns("hold", hold))


def ladder(*rungs: Rung, doomed: Predicate | None = None, description: str = "") -> Any:
    """All rungs, one after the other; at once a failure where `doomed` is true.

    Raises:
        ConfigError: there is no rung; or this is no place to ask for anything.
    """
    if not rungs:
        raise ConfigError("ladder: there is no rung")
    if doomed is not None:
        _check(doomed)
    name = description or intern(" > ".join(r.name for r in rungs))
    return _take(Ladder(name, rungs, doomed))


def always(
    predicate: Predicate,
    description: str = "",
    *,
    when: Predicate | None = None,
    during: float | None = None,
    broken_for: float = 0,
    clear_after: float = 0,
    at: Literal["cut", "arrival"] = "cut",
) -> Any:
    """`predicate` is true whenever it has an answer, and `when` is true.

    It is judged at the cut: when all hosts have told what they had said by then. With
    `at="arrival"` it is judged as things come, for who does not trust the hosts' clocks.

    Raises:
        ConfigError: this is no place to ask for anything.
    """
    name = _name("always", description, predicate)
    return _take(_always(name, predicate, True, when, during, broken_for, clear_after, at))


def never(
    predicate: Predicate,
    description: str = "",
    *,
    when: Predicate | None = None,
    during: float | None = None,
    broken_for: float = 0,
    clear_after: float = 0,
    at: Literal["cut", "arrival"] = "cut",
) -> Any:
    """`predicate` is false whenever it has an answer; as `always` in all else."""
    name = _name("never", description, predicate)
    return _take(_always(name, predicate, False, when, during, broken_for, clear_after, at))


def moves(
    expression: Predicate,
    description: str = "",
    *,
    every: float,
    when: Predicate | None = None,
) -> Any:
    """What `expression` gives is another value every so many seconds at the latest, while `when`.

    Raises:
        ConfigError: this is no place to ask for anything.
    """
    _check(expression)
    if when is not None:
        _check(when)
    name = _name("moves", description, expression)
    return _take(Moving(name, expression, every_ns=_ns("every", every), when=when))


def sometimes(predicate: Predicate, description: str = "") -> Any:
    """`predicate` is true at least once until the run ends.

    Raises:
        ConfigError: this is no place to ask for anything.
    """
    _check(predicate)
    return _take(Sometimes(_name("sometimes", description, predicate), predicate))


def expect(
    document: Mapping[Any, Any],
    description: str = "",
    *,
    within: float | None = None,
    hold: float = 0,
) -> Any:
    """The state comes to contain at least this document: its dicts' keys, its values.

    Raises:
        ConfigError: as `eventually`.
    """
    live = _taker().live

    def contains() -> bool:
        missing = [*_missing(live, document, "")]
        assert not missing, "; ".join(missing)
        return True

    name = description or f"expect {document!r}"
    return _take(Ladder(name, (rung(name, contains, within=within, hold=hold),), None))


def _always(
    name: str,
    predicate: Predicate,
    is_so: bool,
    when: Predicate | None,
    during: float | None,
    broken_for: float,
    clear_after: float,
    at: Literal["cut", "arrival"],
) -> Always:
    _check(predicate)
    if when is not None:
        _check(when)
    if at not in ("cut", "arrival"):
        raise ConfigError(f"at={at!r}: it is 'cut' or 'arrival'")
    return Always(
        name,
        predicate,
        is_so=is_so,
        when=when,
        during_ns=None if during is None else _ns("during", during),
        broken_for_ns=_ns("broken_for", broken_for),
        clear_after_ns=_ns("clear_after", clear_after),
        timeline=at,
    )


def _missing(live: Node, wanted: Mapping[Any, Any], above: str) -> Iterator[str]:
    for key, value in wanted.items():
        path = f"{above}/{key}" if above else str(key)
        there = live[key]
        if isinstance(value, Mapping):
            below: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(there, Node):
                yield f"{path} is {there!r}, no dict"
            elif not there:
                yield f"{path} is absent"
            else:
                yield from _missing(there, below, path)
        elif isinstance(there, Node) and not there:
            yield f"{path} is absent"
        elif there != value:
            yield f"{path} is {there!r}, not {value!r}"


def _name(what: str, description: str, predicate: Predicate) -> str:
    return description or intern(f"{what} {source_of(predicate)}")


def _ns(name: str, seconds: float) -> int:
    if isinstance(seconds, str) or not 0 <= seconds < 1e9:
        raise ConfigError(f"{name}={seconds!r}: it is a number of seconds")
    return round(seconds * SECOND)


def _check(predicate: Predicate) -> None:
    if isinstance(predicate, Node) or not callable(predicate):
        raise ConfigError(f"{predicate!r} is no function: write `lambda: ...`, to ask again later")
    if iscoroutinefunction(predicate):
        raise ConfigError(f"{source_of(predicate)}: a coroutine can't be asked again and again")
    if isgeneratorfunction(predicate) or isasyncgenfunction(predicate):
        raise ConfigError(f"{source_of(predicate)}: a generator is no answer: return one")
    if what := writes_of(predicate):
        raise ConfigError(f"{place_of(predicate)}: a predicate only looks; this one writes {what}")


def _taker() -> Taker:
    try:
        return TAKER.get()
    except LookupError:
        raise ConfigError(
            "this is said in a function under @each or @once, or in a pytest test with `live`"
        ) from None


def _take(asked: Property) -> Any:
    return _taker().take(asked)
