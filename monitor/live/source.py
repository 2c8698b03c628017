"""What a predicate says in its own source, and whether it writes."""

from __future__ import annotations

import dis
import linecache
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_WRITES = {
    "STORE_GLOBAL": "the global {}",
    "DELETE_GLOBAL": "the global {}",
    "STORE_ATTR": "the attribute {}",
    "DELETE_ATTR": "the attribute {}",
    "STORE_SUBSCR": "an item",
    "DELETE_SUBSCR": "an item",
}


def source_of(predicate: Callable[..., object]) -> str:
    """The expression of a lambda, or the name of a function. O(its source).

    >>> def answered() -> bool: return True
    >>> source_of(answered)
    'answered'
    """
    code: CodeType | None = getattr(predicate, "__code__", None)
    if code is None:
        return repr(predicate)
    return _expression(code) if code.co_name == "<lambda>" else code.co_name


def place_of(predicate: Callable[..., object]) -> str:
    """The file and line where it is written, "" if that is not known."""
    code: CodeType | None = getattr(predicate, "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def writes_of(predicate: Callable[..., object]) -> str:
    """What a predicate writes that is not its own, "" if nothing. O(its code).

    >>> writes_of(lambda: 1), writes_of(lambda: globals().__setitem__("a", 1))
    ('', '')
    >>> def judged(seen=[0]) -> bool: seen[0] += 1; return True
    >>> writes_of(judged)
    'an item'
    """
    code: CodeType | None = getattr(predicate, "__code__", None)
    return "" if code is None else _writes(code)


def returns_nothing(predicate: Callable[..., object]) -> bool:
    """Whether a function only asserts: then it is true if it comes to its end. O(its code).

    >>> def checked(): assert True
    >>> returns_nothing(checked), returns_nothing(lambda: None)
    (True, False)
    """
    code: CodeType | None = getattr(predicate, "__code__", None)
    return code is not None and code.co_name != "<lambda>" and _returns_nothing(code)


@lru_cache(maxsize=1024)
def _returns_nothing(code: CodeType) -> bool:
    last: object = ...
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return False
        if instruction.opname == "RETURN_VALUE" and last is not None:
            return False
        last = instruction.argval if instruction.opname == "LOAD_CONST" else ...
    return True


@lru_cache(maxsize=1024)
def _writes(code: CodeType) -> str:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _WRITES:
            return _WRITES[instruction.opname].format(instruction.argval)
        if instruction.opname == "STORE_DEREF" and instruction.argval in code.co_freevars:
            return f"{instruction.argval}, which is not its own"
    return ""


@lru_cache(maxsize=1024)
def _expression(code: CodeType) -> str:
    # The first position of a code object is that of the whole lambda, or of nothing.
    spans = [p for p in code.co_positions() if None not in p and p[2] != p[3]]
    if not spans:
        return "<lambda>"
    begin = min((p[0] or 0, p[2] or 0) for p in spans)
    end = max((p[1] or 0, p[3] or 0) for p in spans)
    lines = [linecache.getline(code.co_filename, at) for at in range(begin[0], end[0] + 1)]
    if not all(lines):
        return "<lambda>"
    lines[-1] = lines[-1].encode()[: end[1]].decode(errors="replace")
    lines[0] = lines[0].encode()[begin[1] :].decode(errors="replace")
    return " ".join(" ".join(lines).split())
