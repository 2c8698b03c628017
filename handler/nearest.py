"""Any Python object, one bounded step nearer to what a register can hold.

What libraries put into `extra` is theirs: its methods may raise, log, sleep or return 20 MB. So an
object is known by its type alone: the first class of its MRO that has a rule decides, and what is
called is that class's own method, never one that a subclass may have overridden. The exceptions
are those whose contents cannot be had otherwise: items() of a mapping, the fields of a record.
Whoever calls `nearest` therefore expects it to raise anything.

Classes are known by name, and their modules imported where an instance shows that they are loaded
already: a blade does not pay for what it does not use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

import msgspec

VALUE_BYTES_MAX = 64 << 10
"""The greatest value, in bytes; text counts as UTF-8, a list with all that is in it."""
ELEMENTS_MAX = 1000
"""The most elements of a list, those of the lists in it included."""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
"""What all readers of msgpack and SQLite hold."""

_MARK_CHARS_MAX = 200
_DIGITS_BITS_MAX = 256
_DECIMAL_BYTES_MAX = 4096

_BOUND = slice(0, ELEMENTS_MAX + 1)
_BYTES_BOUND = slice(0, VALUE_BYTES_MAX + 1)


class Pairs(NamedTuple):
    """What becomes a dict: its items, and the object whose items they are."""

    items: Iterable[tuple[Any, Any]]
    owner: object


class Unordered(list[Any]):
    """The elements of a set: to be sorted once they are plain."""


class NoNearestError(Exception):
    """No class of the value has a rule."""


def nearest(value: Any) -> Any:
    """The object that `value` stands for: plain, or one step nearer to it. O(ELEMENTS_MAX).

    Plain is an exact None, bool, int, float, str, bytes, list or `Pairs`. Long text, bytes and
    lists come back longer than they may be by one, so that the caller sees it and cuts.

    >>> from datetime import date, timedelta
    >>> nearest(date(2024, 2, 29)), nearest(timedelta(minutes=2)), nearest((1, {2}))
    ('2024-02-29', 120.0, [1, {2}])

    Raises:
        NoNearestError: it stands for nothing that a register can hold.
        Exception: whatever the value's own code raises.
    """
    for base in type(value).__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if name in _METHODS:
            return getattr(base, _METHODS[name])(value)
        if name in _RULES:
            return _RULES[name](value)
        if "__dataclass_fields__" in base.__dict__:
            return _dataclass(value)
    raise NoNearestError


def type_mark(value: object) -> str:
    """What stands for a value that cannot be had: its type, and nothing that it says. O(1).

    >>> type_mark(object())
    '<builtins.object>'
    """
    kind = type(value)
    try:
        name = f"{kind.__module__}.{kind.__qualname__}"
    except Exception:  # of a metaclass
        name = "?"
    if len(name) > _MARK_CHARS_MAX:
        name = name[:_MARK_CHARS_MAX] + "…"
    return f"<{name}>"


def int_mark(value: int) -> str:
    """What stands for an int beyond 64 bits. O(1).

    >>> int_mark(2**64), int_mark(-2**10_000)
    ('<int 18446744073709551616>', '<int of 10001 bits>')
    """
    bits = value.bit_length()
    return f"<int {value}>" if bits <= _DIGITS_BITS_MAX else f"<int of {bits} bits>"


# Without parameters, which only the type checkers would ask for.
_DEQUE: Any = deque
_DICT: Any = dict
_FROZENSET: Any = frozenset
_LIST: Any = list
_SET: Any = set
_TUPLE: Any = tuple


def _of_int(value: int) -> int:
    return int.__int__(value)


def _of_str(value: str) -> str:
    return str.__getitem__(value, _BYTES_BOUND)


def _of_bytes(value: Any) -> bytes:
    if issubclass(type(value), bytes):
        return bytes.__getitem__(value, _BYTES_BOUND)
    return bytes(bytearray.__getitem__(value, _BYTES_BOUND))


def _of_memoryview(value: memoryview) -> bytes:
    if value.ndim != 1:  # a slice bounds the first dimension only
        raise NoNearestError
    return bytes(value[_BYTES_BOUND])[_BYTES_BOUND]


def _of_list(value: list[Any]) -> list[Any]:
    items: list[Any] = _LIST.__getitem__(value, _BOUND)
    return items


def _of_tuple(value: tuple[Any, ...]) -> list[Any]:
    return list(_TUPLE.__getitem__(value, _BOUND))


def _of_deque(value: deque[Any]) -> list[Any]:
    return list(islice(_DEQUE.__iter__(value), ELEMENTS_MAX + 1))


def _of_view(value: Iterable[Any]) -> list[Any]:
    return list(islice(value, ELEMENTS_MAX + 1))


def _of_set(value: Any) -> Unordered:
    kind = _SET if issubclass(type(value), set) else _FROZENSET
    return Unordered(islice(kind.__iter__(value), ELEMENTS_MAX + 1))


def _of_dict(value: dict[Any, Any]) -> Pairs:
    return Pairs(_DICT.items(value), value)


def _of_mapping(value: Any) -> Pairs:
    return Pairs(value.items(), value)


def _of_struct(value: msgspec.Struct) -> Pairs:
    return Pairs(((name, getattr(value, name)) for name in value.__struct_fields__), value)


def _dataclass(value: Any) -> Pairs:
    from dataclasses import fields

    return Pairs(((field.name, getattr(value, field.name)) for field in fields(value)), value)


def _of_word(value: object) -> Any:
    raise NoNearestError  # a count has its place, which is not within a value


def _of_enum(value: Any) -> Any:
    held = value._value_
    return held if type(held) in (int, float, str, bytes, bool) else value._name_


def _of_decimal(value: Any) -> str:
    from decimal import Decimal

    # Its size is known at once, its digits only after they were written.
    if Decimal.__sizeof__(value) > _DECIMAL_BYTES_MAX:
        raise NoNearestError
    return Decimal.__str__(value)


_args = BaseException.__dict__["args"].__get__


def _of_error(error: BaseException) -> str:
    """`TypeName: what it was made of`. Its own __str__ may be anything, so it is not asked."""
    args: tuple[Any, ...] = _args(error)
    said = [
        arg[:VALUE_BYTES_MAX]
        if type(arg) is str
        else repr(arg)
        if arg is None or type(arg) in (bool, float) or (type(arg) is int and abs(arg) < INT_MAX)
        else type_mark(arg)
        for arg in args[:ELEMENTS_MAX]
    ]
    name = type_mark(error)[1:-1].rpartition(".")[2]
    return f"{name}: {', '.join(said)}" if said else name


_METHODS = {
    "builtins.complex": "__repr__",
    "builtins.float": "__float__",
    "builtins.range": "__repr__",
    "datetime.date": "isoformat",
    "datetime.datetime": "isoformat",
    "datetime.time": "isoformat",
    "datetime.timedelta": "total_seconds",
    "fractions.Fraction": "__str__",
    "numpy.generic": "item",
    "pathlib.PurePath": "__str__",
    "pathlib._local.PurePath": "__str__",
    "uuid.UUID": "__str__",
}
"""Classes, and the method of theirs that says what an instance stands for."""

_RULES: dict[str, Callable[[Any], Any]] = {
    "builtins.BaseException": _of_error,
    "builtins.bytearray": _of_bytes,
    "builtins.bytes": _of_bytes,
    "builtins.dict": _of_dict,
    "builtins.dict_items": _of_view,
    "builtins.dict_keys": _of_view,
    "builtins.dict_values": _of_view,
    "builtins.frozenset": _of_set,
    "builtins.int": _of_int,
    "builtins.list": _of_list,
    "builtins.mappingproxy": _of_mapping,
    "builtins.memoryview": _of_memoryview,
    "builtins.set": _of_set,
    "builtins.str": _of_str,
    "builtins.tuple": _of_tuple,
    "collections.abc.Mapping": _of_mapping,
    "collections.deque": _of_deque,
    "decimal.Decimal": _of_decimal,
    "enum.Enum": _of_enum,
    "msgspec.Struct": _of_struct,
    "shardlog.handler.words.Count": _of_word,
}
