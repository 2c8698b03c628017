"""What an error is, read in the log call: all that must not change, and nothing that is kept alive.

Of a traceback the code objects and line numbers are taken, which do not change; how they look, with
their source lines, is made of them in the handler's thread. No frame is kept, so that no variable
of the application lives longer, and none is ever sent.

What an exception says is had by its own `__str__`, in the call: it may raise, or take its time, as
`%s` in a message may. All else is read past whatever a class has overridden. Bounds: 20,000 frames
are walked, and 64 of them taken; of a chain 10 exceptions, of a group 10 members, 40 in all.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from shardlog.handler.nearest import type_mark
from shardlog.handler.values import whole_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    from shardlog.handler.shard import Shard

CHAIN_HEAD, CHAIN_TAIL = 7, 3
CHAIN_WALKED_MAX = 1000
MEMBERS_MAX = 10
EXCEPTIONS_MAX = 40
DEPTH_MAX = 4
FRAMES_HEAD, FRAMES_TAIL = 16, 48
FRAMES_WALKED_MAX = 20_000
TEXT_MAX = 4096
"""Characters of what an exception says, or of the source line of a SyntaxError."""
NOTES_MAX = 5
ELEMENTS_MAX = 1000
FINGERPRINT_WORDS_MAX = 10
FINGERPRINT_CHARACTERS_MAX = 256

CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"
_CONTAINERS = (list, dict, set, frozenset, tuple)


class Frame(NamedTuple):
    """A place that a traceback names."""

    code: CodeType
    line: int
    module: str


class Raised(NamedTuple):
    """An exception. `behind` says how it came from the next in its chain, "" for the last.

    `cut` is how many frames are left out, behind the first FRAMES_HEAD.
    """

    kind: str
    text: str
    notes: list[str]
    frames: list[Frame]
    cut: int
    behind: str
    members: list[list[Raised]]
    syntax: tuple[str, int, str] | None
    """Of a SyntaxError: file, line, and what stands there."""


class Occurrence(NamedTuple):
    """An error: the shard of its log call, and what the report is made of."""

    shard: Shard
    logger: str
    level: str
    function: str
    template: str
    has_arguments: bool
    message: str
    chain: list[Raised]
    traceback: str
    """Where somebody has formatted it before, and it is all that is left."""
    fingerprint: list[str]
    bytes: int


def is_error(record: logging.LogRecord) -> bool:
    """Whether a record belongs into the error report. Never raises."""
    level: Any = record.__dict__.get("levelno")
    is_high = issubclass(type(level), int) and int.__ge__(level, logging.ERROR)
    return is_high or _exception(record) is not None


def occurrence_of(record: logging.LogRecord, shard: Shard) -> Occurrence:
    """What an error is, for the handler's thread; its shard begins with its message.

    Never raises, but for want of memory or stack.
    """
    said = record.__dict__
    error = _exception(record)
    chain = [] if error is None else _Reader().chain(error, _traceback(record), 0)
    traceback = said.get("exc_text") if error is None else None
    template = said.get("msg")
    message = shard.writes[0][1] if shard.writes else ""
    return Occurrence(
        shard,
        _text(said.get("name")),
        _text(said.get("levelname")),
        f"{_text(said.get('module'))}:{_text(said.get('funcName'))}",
        template[:TEXT_MAX] if type(template) is str else type_mark(template),
        bool(said.get("args")),
        _text(message),
        chain,
        _text(traceback) if type(traceback) is str else "",
        [*_words(said.get("fingerprint"))],
        shard.bytes + 500 + sum(map(_size, chain)),
    )


class _Reader:
    """Reads one exception, with all that it comes from and is made of."""

    def __init__(self) -> None:
        self._left = EXCEPTIONS_MAX
        self._seen: set[int] = set()

    def chain(self, error: BaseException, traceback: Any, depth: int) -> list[Raised]:
        """The exception and those that it came from."""
        links = [(error, "")]
        self._seen.add(id(error))
        while len(links) < CHAIN_WALKED_MAX:
            before, how = _before(links[-1][0])
            if before is None or id(before) in self._seen:
                break
            self._seen.add(id(before))
            links[-1] = (links[-1][0], how)
            links.append((before, ""))
        if len(links) > CHAIN_HEAD + CHAIN_TAIL:
            links = links[:CHAIN_HEAD] + links[-CHAIN_TAIL:]
        read: list[Raised] = []
        for at, (link, how) in enumerate(links):
            if self._left <= 0:
                break
            self._left -= 1
            walked = traceback if at == 0 and traceback is not None else _TRACEBACK(link)
            read.append(self._one(link, walked, how, depth))
        return read

    def _one(self, error: BaseException, traceback: Any, how: str, depth: int) -> Raised:
        members: list[list[Raised]] = []
        if issubclass(type(error), BaseExceptionGroup) and depth < DEPTH_MAX:
            inner: tuple[BaseException, ...] = _MEMBERS(error)  # pyright: ignore[reportUnknownVariableType]
            members = [
                self.chain(member, None, depth + 1)
                for member in inner[:MEMBERS_MAX]
                if self._left > 0
            ]
        frames, cut = _frames(traceback)
        kind = type_mark(error)[1:-1].removeprefix("builtins.")
        syntax = _syntax(error) if issubclass(type(error), SyntaxError) else None
        return Raised(kind, _says(error), [*_notes(error)], frames, cut, how, members, syntax)


_CAUSE = BaseException.__dict__["__cause__"].__get__
_CONTEXT = BaseException.__dict__["__context__"].__get__
_SUPPRESS = BaseException.__dict__["__suppress_context__"].__get__
_TRACEBACK = BaseException.__dict__["__traceback__"].__get__
_ARGS = BaseException.__dict__["args"].__get__
_DICT = BaseException.__dict__["__dict__"].__get__
_GET = dict[str, Any].get
_MEMBERS: Any = BaseExceptionGroup.__dict__["exceptions"].__get__


def _exception(record: logging.LogRecord) -> BaseException | None:
    _, error, _ = _info(record)
    return error if issubclass(type(error), BaseException) else None


def _traceback(record: logging.LogRecord) -> TracebackType | None:
    _, _, traceback = _info(record)
    return traceback if type(traceback) is TracebackType else None


def _info(record: logging.LogRecord) -> tuple[Any, Any, Any]:
    """What stands where `logging` puts type, exception and traceback: anybody may make a record."""
    info: Any = record.__dict__.get("exc_info")
    kind: Any = type(info)  # pyright: ignore[reportUnknownVariableType]
    return info if kind is tuple and len(info) == 3 else (None, info, None)


def _before(error: BaseException) -> tuple[BaseException | None, str]:
    cause = _CAUSE(error)
    if cause is not None:
        return cause, CAUSE
    return (None, "") if _SUPPRESS(error) else (_CONTEXT(error), CONTEXT)


def _frames(traceback: Any) -> tuple[list[Frame], int]:
    """The outermost and the innermost frames, and how many are left out between."""
    number, at = 0, traceback
    while at is not None and number < FRAMES_WALKED_MAX:
        number += 1
        at = at.tb_next
    cut = max(number - FRAMES_HEAD - FRAMES_TAIL, 0)
    frames: list[Frame] = []
    at = traceback
    for index in range(number):
        if index < FRAMES_HEAD or index >= FRAMES_HEAD + cut:
            frame = at.tb_frame
            module: Any = _GET(frame.f_globals, "__name__")
            frames.append(
                Frame(frame.f_code, at.tb_lineno or 0, module if type(module) is str else "?")
            )
        at = at.tb_next
    return frames, cut


def _says(error: BaseException) -> str:
    try:
        if type(error).__str__ in (BaseException.__str__, KeyError.__str__) and any(
            type(value) in _CONTAINERS and len(value) > ELEMENTS_MAX for value in _ARGS(error)
        ):
            return ", ".join(map(type_mark, _ARGS(error)[:ELEMENTS_MAX]))[:TEXT_MAX]
        text: Any = str(error)
    except Exception as failure:
        return f"<str() raised {type_mark(failure)[1:-1]}>"
    return _text(text)


def _notes(error: BaseException) -> Iterator[str]:
    notes = _DICT(error).get("__notes__")
    if type(notes) is list:
        for note in notes[:NOTES_MAX]:  # pyright: ignore[reportUnknownVariableType]
            if type(note) is str:  # pyright: ignore[reportUnknownArgumentType]
                yield _text(note)


def _syntax(error: BaseException) -> tuple[str, int, str]:
    filename, line, text = (
        SyntaxError.__dict__[name].__get__(error) for name in ("filename", "lineno", "text")
    )
    return _text(filename), line if type(line) is int else 0, _text(text)


def _words(fingerprint: Any) -> Iterator[str]:
    if type(fingerprint) is list or type(fingerprint) is tuple:
        words: Any = fingerprint[:FINGERPRINT_WORDS_MAX]  # pyright: ignore[reportUnknownVariableType]
        for word in words:
            if type(word) is str:
                yield whole_text(word[:FINGERPRINT_CHARACTERS_MAX])
            elif type(word) is int and word.bit_length() < 64:
                yield str(word)


def _text(value: Any) -> str:
    """Text that can be sent, and that is not too long; "" of anything else."""
    if not issubclass(type(value), str):
        return ""
    cut = str.__getitem__(value, slice(0, TEXT_MAX))
    return whole_text(cut + "…" if str.__len__(value) > TEXT_MAX else cut)


def _size(raised: Raised) -> int:
    inner = sum(_size(each) for member in raised.members for each in member)
    return 200 + len(raised.text) + 80 * len(raised.frames) + inner
