"""Live tests one after the other: who asks for something waits for it, and gets it, or an error.

    with Session([], Followed(inbox)) as session:
        taker = Eager(session, now_ns)
        token = TAKER.set(taker)
        with taker.live.within(90):
            host = eventually(lambda: taker.live.intents["42"].host)

What is asked for becomes a test of the session for as long as it is waited for: it is woken by what
happens, as all others. `moves` and `sometimes` say something of a stretch of time; they are judged
from when they are said to `settle`.

The state that is read here is that of the session, under its lock: a predicate, which is asked
while the session has the lock, looks at the same places, and each look of it is noted.

Known anomalies. Two reads in one expression, outside of predicates, may see two states.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

from shardlog.crdt.errors import ConfigError, ShardlogError
from shardlog.monitor.live import properties
from shardlog.monitor.live.asking import TooLong
from shardlog.monitor.live.declared import Test
from shardlog.monitor.live.explain import explain
from shardlog.monitor.live.properties import Always, Moving, Sometimes
from shardlog.monitor.live.session import Stuck
from shardlog.monitor.live.source import returns_nothing
from shardlog.monitor.live.verdict import Verdict
from shardlog.monitor.live.view import Live, Node, cell_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from types import FrameType

    from shardlog.crdt.path import Key, Keys
    from shardlog.monitor.live.engine import Engine
    from shardlog.monitor.live.instance import Instance
    from shardlog.monitor.live.properties import Predicate, Property
    from shardlog.monitor.live.session import Session
    from shardlog.monitor.live.view import Glance
    from shardlog.monitor.live.world import Cell

HERE = Path(__file__).parent
SECOND = 10**9
LOOK_S = 1.0
PATIENCE_S = 5.0
"""So long is waited, behind a deadline, for evidence that is missing or on its way."""


class LiveFailure(AssertionError):
    """What was asked for has not come; the text says why."""


class LiveUnknown(ShardlogError):
    """Whether what was asked for has come can't be told; the text says why."""


class Watched:
    """A predicate; it keeps what was true last, and the assertion that has failed last."""

    def __init__(self, predicate: Predicate) -> None:
        self.value: object = None
        self.error: AssertionError | None = None
        self._predicate = predicate
        self._asserts = returns_nothing(predicate)
        # By this others know where it is written.
        self.__code__ = getattr(predicate, "__code__", None)

    def __call__(self) -> object:
        __tracebackhide__ = True
        try:
            answer = self._predicate()
        except AssertionError as error:
            self.error = error
            raise
        except (Exception, KeyboardInterrupt, TooLong):
            raise
        except BaseException as error:  # as `pytest.fail` raises it
            self.error = AssertionError(str(error))
            raise self.error from error
        self.error = None
        if isinstance(answer, Node):
            answer = plain(answer) if answer else None
        if answer or (answer is None and self._asserts):
            self.value = answer
        return answer


class Hold:
    """Reads under a session's lock, unless the reader has it already."""

    def __init__(self, session: Session) -> None:
        live = session.read(lambda engine: engine.live)
        self.glance: Glance = live._glance  # pyright: ignore[reportPrivateUsage]
        self._session = session
        self._reader: int | None = None

    def look(self, question: Callable[[], Any]) -> Any:
        """What it answers, now; within a predicate, when that is judged."""
        if self._reader == get_ident() or self._session.is_asking:
            return question()

        def read(engine: Engine) -> Any:
            self._reader = get_ident()
            try:
                self.glance.begin(engine.now_ns)
                return question()
            finally:
                self._reader = None

        return self._session.read(read)


class Shown(Node):
    """A place, for who may look from anywhere, at any time. It is found anew at each look."""

    __slots__ = ("_hold", "_keys")

    _hold: Hold
    _keys: Keys

    def __init__(self, keys: Keys, hold: Hold) -> None:
        object.__setattr__(self, "_keys", keys)
        object.__setattr__(self, "_hold", hold)
        object.__setattr__(self, "_glance", hold.glance)

    @property
    def _cell(self) -> Cell[Any]:  # type: ignore[override]
        cell: Cell[Any] = self._hold.look(lambda: self._glance.world.cell(self._keys))
        return cell

    def _held(self, look: Callable[[], Any]) -> Any:
        def shown() -> Any:
            found = look()
            return Shown(cell_of(found).keys, self._hold) if isinstance(found, Node) else found

        return self._hold.look(shown)

    def __getattr__(self, name: str) -> Any:
        return self._held(lambda: Node.__getattr__(self, name))

    def __getitem__(self, key: Any) -> Any:
        return self._held(lambda: Node.__getitem__(self, key))

    def __contains__(self, key: object) -> bool:
        return bool(self._held(lambda: Node.__contains__(self, key)))

    def __iter__(self) -> Iterator[Key]:
        keys: Iterator[Key] = self._held(lambda: Node.__iter__(self))
        return keys

    def __len__(self) -> int:
        return int(self._held(lambda: Node.__len__(self)))

    def __bool__(self) -> bool:
        return bool(self._held(lambda: Node.__bool__(self)))

    def __eq__(self, other: object) -> bool:
        return bool(self._held(lambda: Node.__eq__(self, other)))

    __hash__ = Node.__hash__

    def __repr__(self) -> str:
        return str(self._held(lambda: Node.__repr__(self)))


class Whole(Shown, Live):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The whole state, who is there, and how long is waited: the fixture `live` of pytest."""

    __slots__ = ("_taker",)

    _taker: Eager

    def __init__(self, hold: Hold, taker: Eager) -> None:
        super().__init__((), hold)
        object.__setattr__(self, "_taker", taker)

    def presence(self, blade: object) -> str | None:
        """As `Live.presence`."""
        found: str | None = self._held(lambda: Live.presence(self, blade))
        return found

    @property
    def blades(self) -> set[str]:
        """As `Live.blades`."""
        found: set[str] = self._held(lambda: super(Whole, self).blades)
        return found

    def within(self, seconds: float) -> Any:
        """One budget for all that is waited for in the block, where no `within=` is said."""
        return self._taker.within(seconds)

    def expect(
        self,
        document: Mapping[Any, Any],
        description: str = "",
        *,
        within: float | None = None,
        hold: float = 0,
    ) -> Any:
        """As `shardlog.monitor.live.expect`."""
        return properties.expect(document, description, within=within, hold=hold)


class Asked:
    """Something that is asked for, as a test of the session, until it is given up."""

    def __init__(self, session: Session, asked: Property) -> None:
        self.property = asked
        self.watched: list[Watched] = []
        asked.wrap(self._watched)
        self._session = session

        def asks(live: Live) -> None:
            del live
            properties.TAKER.get().take(asked)

        self.test = Test(asks, "")
        taken = session.read(lambda engine: {*engine.groups})
        number = 1
        self.test.name = asked.name
        while self.test.name in taken:
            number += 1
            self.test.name = f"{asked.name} ({number})"
        session.add(self.test)

    def remove(self) -> None:
        """Ask for it no more."""
        with suppress(Stuck):
            self._session.remove(self.test.name)

    def instance(self, engine: Engine) -> Instance | None:
        """What is judged, None once it has passed."""
        group = engine.groups[self.test.name]
        return next(iter((*group.open.values(), *group.failed.values())), None)

    def told(self) -> tuple[Verdict, str]:
        """The verdict as it stands, and why; "" if it has passed."""

        def told(engine: Engine) -> tuple[Verdict, str]:
            instance = self.instance(engine)
            verdict = self.property.verdict if instance is None else instance.verdict
            if instance is None or verdict is Verdict.PASS:
                return verdict, ""
            lines = explain(engine, instance)
            if verdict is Verdict.IDLE:
                lines[0] = f"{instance.label} IDLE: it never had an answer"
            elif verdict is Verdict.HOLDING:
                lines[0] = f"{instance.label} HOLDING: not all hosts have told up to its end"
            return verdict, "\n".join(map(printable, lines))

        return self._session.read(told)

    def assertion(self) -> AssertionError | None:
        """The assertion of a predicate that has failed, if that is why."""
        errors = [watched.error for watched in self.watched if watched.error is not None]
        for error in errors:
            behind = error.__traceback__
            while behind is not None and is_own(behind.tb_frame):
                behind = behind.tb_next
            if behind is not None:
                return error.with_traceback(behind)
        return None

    def _watched(self, predicate: Predicate) -> Watched:
        watched = Watched(predicate)
        self.watched.append(watched)
        return watched


class Eager:
    """A `Taker` that waits. `now_ns` is the time of the session's source."""

    def __init__(self, session: Session, now_ns: Callable[[], int], lateness_ms: int) -> None:
        self.live = Whole(Hold(session), self)
        self._session = session
        self._now_ns = now_ns
        self._lateness_s = lateness_ms / 1000
        self._budgets: list[tuple[float, float]] = []
        """Of each block, the innermost last: how long it may take, and when that is over."""
        self._asked: tuple[float, float] | None = None
        """The budget that is the deadline of what is taken next."""
        self._later: list[Asked] = []

    @contextmanager
    def within(self, seconds: float) -> Generator[None]:
        """One budget for all that is waited for in the block; that of the innermost counts."""
        if not 0 <= seconds < 1e9:
            raise ConfigError(f"within({seconds!r}): it is a number of seconds")
        self._budgets.append((seconds, time.monotonic() + seconds))
        try:
            yield
        finally:
            self._budgets.pop()

    def within_s(self) -> float | None:
        """As `Taker.within_s`: what is left of the budget."""
        if not self._budgets:
            return None
        self._asked = self._budgets[-1]
        return max(round(self._asked[1] - time.monotonic(), 2), 0)

    def take(self, asked: Property) -> Any:
        """Wait for it; what was true last.

        Raises:
            LiveFailure: it has not come, or not held.
            LiveUnknown: that can't be told: evidence is missing, a predicate has raised, or has no
                answer; or nothing is judged any more.
            ConfigError: there is no saying how long to wait.
        """
        budget, self._asked = self._asked, None
        if isinstance(asked, Always) and asked.until_ns() is None:
            raise ConfigError(f"{asked.name}: during= is missing: how long is it watched?")
        with _judging():
            one = Asked(self._session, asked)
            if isinstance(asked, Moving | Sometimes):
                self._later.append(one)
                return None
            try:
                self._wait(one, None if budget is None else budget[1])
                verdict, text = one.told()
            except Exception:  # at a Ctrl-C nobody waits for anything any more
                one.remove()
                raise
            one.remove()
        if budget is not None and verdict is Verdict.PENDING:
            verdict, text = Verdict.FAIL, f"the {budget[0]:g} s of this block are over\n{text}"
        _raise(one, verdict, text)
        return one.watched[-1].value

    def settle(self) -> None:
        """Judge what was to be judged over a time: that ends now. Raises as `take`, for the first.

        Waits until all hosts have told what they had said by now, or had time enough for that.
        """
        end_ns = self._now_ns()
        try:
            for one in self._later:
                with _judging():
                    self._end(one, end_ns)
                    verdict, text = one.told()
                _raise(one, verdict, text)
        finally:
            self.forget()

    def forget(self) -> None:
        """Ask for nothing any more."""
        while self._later:
            self._later.pop().remove()

    def _wait(self, one: Asked, budget_s: float | None) -> None:
        """Until there is a final verdict; or until there is none to come."""
        asked = one.property

        def is_over(engine: Engine) -> bool:
            if asked.verdict.is_final:
                return True
            until_ns = asked.until_ns()
            if until_ns is None or engine.now_ns < until_ns + engine.lateness_ns:
                return False
            instance = one.instance(engine)
            if instance is None or asked.timeline == "arrival":
                return instance is None or not instance.blind
            # Behind a doubt it is watched from its end on, which the cut has yet to come to.
            is_watched = isinstance(asked, Always) and asked.reached_ns is not None
            return is_watched and not instance.blind and engine.cut_ns >= until_ns

        left_s = 0.0
        while not self._session.wait_for(is_over, min(left_s, LOOK_S)):
            until_ns = asked.until_ns()
            assert until_ns is not None
            left_s = (until_ns - self._now_ns()) / SECOND
            if budget_s is not None:
                left_s = min(left_s, budget_s - time.monotonic())
            left_s += self._lateness_s + PATIENCE_S
            if left_s <= 0:
                return

    def _end(self, one: Asked, end_ns: int) -> None:
        def is_told(engine: Engine) -> bool:
            instance = one.instance(engine)
            if instance is None or instance.verdict is Verdict.FAIL:
                return True
            return engine.hosts.watermark_ns(engine.hosts.concerned_by(instance)) >= end_ns

        self._session.wait_for(is_told, self._lateness_s)

        def end(engine: Engine) -> None:
            instance = one.instance(engine)
            if instance is not None and not instance.blind and not instance.raised(0):
                one.property.end(end_ns)

        self._session.read(end)


@contextmanager
def _judging() -> Generator[None]:
    try:
        yield
    except Stuck as error:
        raise LiveUnknown(printable(str(error))) from error


def _raise(one: Asked, verdict: Verdict, text: str) -> None:
    if verdict is Verdict.FAIL:
        raise LiveFailure(text) from one.assertion()
    if text:
        raise LiveUnknown(text) from one.assertion()


def is_own(frame: FrameType) -> bool:
    """Whether it runs a line of the library: of no help to who wonders why a test fails."""
    return Path(frame.f_code.co_filename).parent == HERE


def printable(line: str) -> str:
    """A line that a terminal shows and does not obey: anybody may have logged what is in it."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
