"""What an engine keeps of each test: its instances, where they looked, what became of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from shardlog.crdt.delta import COUNTER, REGISTER
from shardlog.monitor.live.properties import Property
from shardlog.monitor.live.verdict import Condition, Verdict, roll_up
from shardlog.monitor.live.world import Cell, Version

if TYPE_CHECKING:
    from shardlog.crdt.path import Key
    from shardlog.monitor.live.declared import Test
    from shardlog.monitor.live.errors import Errors
    from shardlog.monitor.live.properties import Moment

STEPS_MAX = 16
STEPS_FIRST = 4
KEYS_MAX = 100
VALUES_MAX = 1000
FEATURE_MAX = 100
"""What those have in common that passed: so many keys, values of each, and characters of these."""

BUILT, ARRIVAL, CUT = 0, 1, 2
"""When an instance looked."""


class Step(NamedTuple):
    """Something that an instance looked at has changed. `at_ns`: when that came."""

    at_ns: int
    cell: Cell[Instance]
    before: Version
    after: Version


class Evidence(NamedTuple):
    """What was known of an instance at a time: see `shardlog.monitor.live.explain`."""

    at_ns: int
    cut_ns: int | None
    """As of when it was judged, None: by what had come."""
    looked: tuple[tuple[str, Version], ...]
    """At which values and absent places, and what was there."""
    keys: tuple[tuple[str, tuple[Key, ...]], ...]
    """Below which places it looked which keys there are, and which there were."""
    watermarks: tuple[tuple[str, str, int], ...]
    """Of the hosts that it has to do with: name, status, and up to when they have told all."""
    blades: tuple[tuple[str, str], ...]
    """Of the blades that are named there: name and presence."""
    errors: tuple[Errors, ...]
    """What went wrong with these since it began, the most frequent first."""


class Transition(NamedTuple):
    """A property has another verdict."""

    instance: Instance
    asked: Property
    condition: Condition


Looks = tuple[tuple[Cell["Instance"], ...], tuple[Cell["Instance"], ...]]
"""At which places somebody looked, and at whose keys."""
NOWHERE: Looks = ((), ())


class Instance:
    """A test at one key. `steps`: the changes of what it looked at, the first and the last."""

    __slots__ = (
        "_raised",
        "asked",
        "blind",
        "blind_ns",
        "born_ns",
        "cell",
        "cut_due_ns",
        "due_ns",
        "evidence",
        "guessed_ns",
        "has_cut",
        "is_over",
        "looks",
        "shown",
        "steps",
        "test",
    )

    def __init__(self, test: Test, cell: Cell[Instance], born_ns: int, guessed_ns: int) -> None:
        self.test = test
        self.cell = cell
        self.born_ns = born_ns
        self.guessed_ns = guessed_ns
        """Of what became so up to then it is not known when; 0: it is of all."""
        self.asked: tuple[Property, ...] = ()
        self.has_cut = False
        """Whether some of them are judged at the cut."""
        self.blind = ""
        """Why evidence may be missing, "" if none is."""
        self.blind_ns = 0
        self._raised: dict[int, str] | None = None
        self.looks = (NOWHERE, NOWHERE, NOWHERE)
        """Where it looked: when it was built, by arrival, at the cut."""
        self.due_ns: int | None = None
        self.cut_due_ns: int | None = None
        self.shown: tuple[Verdict, ...] = ()
        self.is_over = False
        """Whether nothing is judged any more."""
        self.steps: list[Step] = []
        self.evidence: Evidence | None = None
        """What was known when it failed."""

    def note(self, step: Step) -> None:
        """Keep a step; of many, the first and the last, and of a counter's one. O(kept)."""
        if step.after.kind == COUNTER:
            for at, known in enumerate(self.steps):
                if known.cell is step.cell and known.after is step.before:
                    self.steps[at] = known._replace(after=step.after)
                    return
        if len(self.steps) == STEPS_MAX:
            del self.steps[STEPS_FIRST]
        self.steps.append(step)

    @property
    def label(self) -> str:
        """What it is called."""
        return self.test.label(self.cell.keys)

    def raised(self, at: int) -> str:
        """What the predicate of its `at`-th property raised, "" if nothing."""
        return "" if self._raised is None else self._raised.get(at, "")

    def note_raised(self, at: int, message: str) -> None:
        """Note it, or that it has healed."""
        if message:
            self._raised = {**(self._raised or {}), at: message}
        elif self._raised is not None:
            self._raised.pop(at, None)

    def condition(self, at: int, judged_ns: int) -> Condition:
        """The verdict of its `at`-th property as it is to be shown."""
        asked = self.asked[at]
        verdict, reason, message = asked.verdict, asked.reason, asked.message
        since_ns = asked.since_ns
        if not verdict.is_final:
            if raised := self.raised(at):
                verdict, reason, message = Verdict.BLIND, "Raised", raised
            elif self.blind:
                verdict, reason, message = Verdict.BLIND, "EvidenceMissing", self.blind
                since_ns = self.blind_ns
        return Condition(verdict, reason, message, since_ns, judged_ns)

    @property
    def verdict(self) -> Verdict:
        """The worst of its properties."""
        return roll_up(self.condition(at, 0).verdict for at in range(len(self.asked)))

    def places(self) -> dict[Cell[Instance], None]:
        """Where it looked last."""
        return dict.fromkeys(cell for looks in self.looks for part in looks for cell in part)


class Group:
    """All instances of one test. What has passed is only counted."""

    def __init__(self, test: Test) -> None:
        self.test = test
        self.open: dict[Cell[Instance], Instance] = {}
        self.failed: dict[Cell[Instance], Instance] = {}
        self.gone: list[Instance] = []
        """Those that have failed, too, and of which the place is gone, as many as are kept."""
        self.passed: dict[Cell[Instance], None] = {}
        self.passes = 0
        self.failures = 0
        self.took_ms: Counter[int] = Counter()
        """How long passes took: ms, by two digits, so that there are not many."""
        self.features: dict[Key, Counter[object] | None] = {}
        """Of all that have passed, by key: which values were directly below; None: too many."""

    def failures_kept(self) -> list[Instance]:
        """All that have failed, as far as they are kept. O(n)."""
        return [*self.gone, *self.failed.values()]

    def note_features(self, cell: Cell[Instance]) -> None:
        """What has passed had these values. O(keys)."""
        for key, value in features(cell):
            if key not in self.features and len(self.features) < KEYS_MAX:
                self.features[key] = Counter()
            if (values := self.features.get(key)) is not None:
                values[value] += 1
                if len(values) > VALUES_MAX:
                    self.features[key] = None

    def is_settled(self) -> bool:
        """Whether something was there, and all of it has a verdict that stays, or holds.

        O(1) while something is pending, O(open) else.
        """
        well = (Verdict.PASS, Verdict.HOLDING)
        return bool(self.open or self.passes or self.failures) and all(
            instance.verdict in well for instance in self.open.values()
        )

    def verdict(self) -> Verdict:
        """The worst of all. O(open)."""
        known = [Verdict.FAIL] * bool(self.failures) + [Verdict.PASS] * bool(self.passes)
        return roll_up([*known, *(instance.verdict for instance in self.open.values())])

    def counts(self) -> dict[Verdict, int]:
        """How many there are of each. O(open)."""
        counts = Counter(instance.verdict for instance in self.open.values())
        counts[Verdict.PASS] += self.passes
        counts[Verdict.FAIL] += self.failures
        return {verdict: n for verdict, n in sorted(counts.items(), reverse=True) if n}

    def quantiles_ms(self) -> tuple[int, int] | None:
        """How long half of those that passed took, and 99 of 100; None if none did. O(1)."""
        number = self.took_ms.total()
        wanted = [number * 50 // 100, number * 99 // 100]
        seen, found = 0, list[int]()
        for took_ms, number in sorted(self.took_ms.items()):
            seen += number
            while len(found) < len(wanted) and seen > wanted[len(found)]:
                found.append(took_ms)
        return (found[0], found[1]) if found else None


class Resumed(Property):
    """A final verdict that an earlier run has published."""

    __slots__ = ()

    def __init__(self, name: str, verdict: Verdict, said: dict[Key, Any], since_ns: int) -> None:
        super().__init__(name)
        self._say(verdict, str(said.get("reason")), str(said.get("message")), since_ns)

    def judge(self, moment: Moment) -> None:
        """It stays."""


def features(cell: Cell[Instance]) -> dict[tuple[Key, object], None]:
    """Which values are directly below a place, but for long texts. O(keys)."""
    found: dict[tuple[Key, object], None] = {}
    for key, child in (cell.below or {}).items():
        value = child.version.value
        if isinstance(value, str) and len(value) > FEATURE_MAX:
            continue
        if child.version.kind == REGISTER and isinstance(value, str | int | bool):
            found[key, value] = None
    return found


def alive_keys(cell: Cell[Instance]) -> tuple[Key, ...]:
    """The keys below a place where something shows. O(keys)."""
    return tuple(key for key, child in (cell.below or {}).items() if child.alive)


def depth_of(cell: Cell[Instance]) -> int:
    """How many keys lead to a place. O(depth)."""
    depth = 0
    above = cell.above
    while above is not None:
        depth += 1
        above = above.above
    return depth


def born_ns_of(cell: Cell[Instance], now_ns: int) -> int:
    """The oldest stamp of what shows at a place and below. O(that)."""
    oldest_ns = now_ns
    waiting = [cell]
    while waiting:
        place = waiting.pop()
        if place.version.shows:
            oldest_ns = min(oldest_ns, place.version.stamp)
        if place.below is not None:
            waiting += place.below.values()
    return oldest_ns


def two_digits(number: int) -> int:
    """A number by its first two digits.

    >>> [two_digits(n) for n in (7, 42, 1234, 98765)]
    [7, 42, 1200, 98000]
    """
    unit: int = 10 ** max(len(str(number)) - 2, 0)
    return number // unit * unit
