"""How tests are asked: their functions, and then their predicates, again and again.

Whatever these do, they only give an answer, none, or a reason why there is none.
"""

from __future__ import annotations

import linecache
from collections import deque
from inspect import iscoroutine, isgenerator
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from shardlog.monitor.live.properties import TAKER, Property
from shardlog.monitor.live.source import place_of, returns_nothing
from shardlog.monitor.live.view import Glance, Live, Node, ReadOnly, Undefined, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.monitor.live.hosts import Hosts
    from shardlog.monitor.live.instance import Instance
    from shardlog.monitor.live.properties import Predicate
    from shardlog.monitor.live.view import Name

T = TypeVar("T")

SECOND = 10**9
NAMES_MAX = 6
AGAIN_NS = 10 * SECOND
"""When a predicate is asked again that took too long."""


class TooLong(BaseException):
    """A predicate has taken longer than it may: raised in it from outside."""


class Raised(Exception):
    """A predicate has no answer, and never should have been one; the message says why."""


class Guard(Protocol):
    """Whoever ends predicates that take too long, by raising `TooLong` in them."""

    def begin(self, what: object) -> None:
        """This is asked; `TooLong` if it has taken so long lately that it is not to be."""
        ...

    def end(self) -> None:
        """It has answered."""
        ...


class Unguarded:
    """Lets predicates take as long as they like."""

    def begin(self, what: object) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Asking:
    """How a property asks the world, for one instance at one time. See `Moment`."""

    def __init__(
        self, instance: Instance, glance: Glance, hosts: Hosts, guard: Guard, lateness_ns: int
    ) -> None:
        self.now_ns = glance.now_ns
        self.said = ""
        self.changed_ns = glance.now_ns
        self.lateness_ns = lateness_ns
        self._instance = instance
        self._glance = glance
        self._hosts = hosts
        self._guard = guard
        self._began = (0, 0, 0)

    @property
    def is_blind(self) -> bool:
        """As `Moment.is_blind`; what was looked at just now may be what evidence is missing of."""
        instance = self._instance
        return bool(instance.blind or self._hosts.why_low(instance, self._glance.cells))

    def ask(self, predicate: Predicate, *, enough: bool | None = None) -> bool | None:
        """As `Moment.ask`."""
        glance = self._glance
        self._begin()
        answer = self._answer(predicate)
        if glance.at_ns is None or answer is None or answer is enough:
            return answer
        said = self.said
        names: list[Name] = []
        # Another way may look at more places, which then are to be tried, too.
        while len(moving := self._moving()) > len(names):
            names = moving
            # Once that stands still there is an answer, also if nothing else comes.
            glance.recheck(glance.at_ns + glance.slack_ns)
            if len(names) > NAMES_MAX:
                return None
            for shifts in product((True, False), repeat=len(names)):
                glance.shifted = dict(zip(names, shifts, strict=True))
                try:
                    other = self._answer(predicate)
                except Raised:  # of what never was at one time
                    other = None
                finally:
                    glance.shifted = {}
                if other is not answer:
                    return other if other is enough else None
        self.said = said
        return answer

    def value(self, expression: Predicate, known: object) -> tuple[object, bool, str]:
        """As `Moment.value`."""

        def look() -> tuple[object, bool, str]:
            try:
                value = _value(_given(expression))
            except Undefined:
                value = None
            is_other = value is not None and (known is None or bool(value != known))
            return value, is_other, repr(value if is_other else known)

        self._begin()
        return self._call(expression, look)

    def happened_ns(self, since_ns: int, deadline_ns: int) -> int:
        """As `Moment.happened_ns`."""
        glance = self._glance
        newest_ns = max(
            [
                since_ns,
                *(max(c.version.stamp, c.toggled) for c in glance.cells[self._began[0] :]),
                *(
                    child.toggled
                    for cell in glance.key_cells[self._began[1] :]
                    for child in (cell.below or {}).values()
                ),
            ]
        )
        if newest_ns <= self._instance.guessed_ns:
            newest_ns = min(newest_ns, deadline_ns)
        return max(min(newest_ns, self.now_ns), since_ns)

    def is_complete(self, at_ns: int) -> bool:
        """As `Moment.is_complete`."""
        if self.is_blind:
            return False
        hosts = self._hosts
        return (
            self.now_ns >= max(at_ns, hosts.began_ns) + self.lateness_ns
            or hosts.told_ns >= at_ns
            or hosts.watermark_ns(hosts.concerned_by(self._instance)) >= at_ns
        )

    def _begin(self) -> None:
        glance = self._glance
        self._began = (len(glance.cells), len(glance.key_cells), len(glance.listed))

    def _moving(self) -> list[Name]:
        """Names of places of which it is not known exactly what they were at the time."""
        glance = self._glance
        names: dict[Name, None] = {}
        for cell in glance.cells[self._began[0] :]:
            if glance.moves(cell):
                names[cell.key] = None
        for cell in glance.listed[self._began[2] :]:
            if any(map(glance.moves, (cell.below or {}).values())):
                names[cell.key,] = None
        return [*names]

    def _answer(self, predicate: Predicate) -> bool | None:
        def look() -> bool:
            try:
                answer = _given(predicate)
                return bool(answer) or (answer is None and returns_nothing(predicate))
            except AssertionError as error:
                self.said = _text(error).partition("\n")[0] or _place(error)
                return False

        self.said = ""
        try:
            return self._call(predicate, look)
        except Undefined:
            return None

    def _call(self, predicate: Predicate, look: Callable[[], T]) -> T:
        """What `look` makes of a predicate; all that others have written is run in here."""
        guard = self._guard
        try:
            try:
                guard.begin(predicate)
                return look()
            except (Undefined, TooLong, KeyboardInterrupt):
                raise
            except ReadOnly as error:
                raise Raised(f"{place_of(predicate)}: writes: {_text(error)}") from None
            except BaseException as error:  # also what `sys.exit` and `pytest.fail` raise
                raise Raised(f"{place_of(predicate)}: {_said(error)}") from error
            finally:
                guard.end()
        except TooLong:
            # It may have been the machine, and what it looks at may never change again.
            self._glance.recheck(self.now_ns + AGAIN_NS)
            raise Raised(f"{place_of(predicate)}: took longer than it may") from None


class Builder:
    """Takes in what a test's function asks for."""

    def __init__(self, live: Live) -> None:
        self.live: Node = live
        self.asked: list[Property] = []

    def take(self, asked: Property) -> Property:
        """As `Taker.take`."""
        self.asked.append(asked)
        return asked

    def within_s(self) -> None:
        """There is no default: a deadline is part of what is asked for."""

    def build(self, function: Callable[..., Any], arguments: tuple[Any, ...], guard: Guard) -> str:
        """Run a test's function; why it asks for nothing, "" if it does."""
        token = TAKER.set(self)
        try:
            try:
                guard.begin(function)
                asked = function(*arguments)
                if iscoroutine(asked):
                    asked.close()
                    return (
                        f"{function.__name__} is a coroutine function: "
                        "a test is a plain function, or a generator"
                    )
                if isgenerator(asked):
                    deque[object](asked, maxlen=0)
            except (TooLong, KeyboardInterrupt):
                raise
            except BaseException as error:  # also what `sys.exit` and `pytest.fail` raise
                return f"{function.__name__}: {_said(error)}"
            finally:
                guard.end()
        except TooLong:
            return f"{function.__name__}: took longer than it may"
        finally:
            TAKER.reset(token)
        if not self.asked:
            return f"{function.__name__} asks for nothing: eventually, always, ... are missing"
        return ""


def _given(predicate: Predicate) -> object:
    """What it gives."""
    answer = predicate()
    if isgenerator(answer) or iscoroutine(answer):
        answer.close()
        raise TypeError(f"a {type(answer).__name__} is no answer: any(...), all(...)?")
    return answer


def _value(answer: object) -> object:
    """What an expression gives, as it stays; None for what is absent."""
    return (plain(answer) if answer else None) if isinstance(answer, Node) else answer


def _said(error: BaseException) -> str:
    text = _text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(error: BaseException) -> str:
    """What an error says; "" where that itself fails."""
    try:
        return str(error)
    except (TooLong, KeyboardInterrupt):
        raise
    except BaseException:
        return ""


def _place(error: BaseException) -> str:
    """Where an assertion that says nothing was."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "an assertion"
    code = traceback.tb_frame.f_code
    line = linecache.getline(code.co_filename, traceback.tb_lineno).strip()
    return line or f"an assertion, {code.co_filename}:{traceback.tb_lineno}"
