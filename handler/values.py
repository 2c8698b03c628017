"""Any Python object as a value that a register can hold, within bounds, noting what was changed."""

from __future__ import annotations

from itertools import islice
from typing import Any

from shardlog.handler.nearest import (
    ELEMENTS_MAX,
    INT_MAX,
    INT_MIN,
    VALUE_BYTES_MAX,
    NoNearestError,
    Pairs,
    Unordered,
    int_mark,
    nearest,
    type_mark,
)

DEPTH_MAX = 32
"""The most levels, of keys and of lists together."""
OBJECTS_MAX = 20_000
"""The most dicts and other objects that are looked into, of one shard."""

CYCLE = "<cycle>"
DEEPER = f"<deeper than {DEPTH_MAX}>"

_CUT = "…<cut>"
_ELEMENT_BYTES = 9
_STEPS_MAX = 4
_SAMPLE_CHARS_MAX = 300


class ValueReader:
    """Makes objects plain, for one log call.

    What it cannot take as it is, it marks and notes: `refused` is, by reason, how many, and where
    and what the first was.

    A `trail` is the ids of the objects around a value, from the root: its length is the value's
    depth. They live while they are walked through, so their ids are theirs.
    """

    __slots__ = ("_elements_left", "_span_left", "logger", "objects_left", "refused")

    def __init__(self, logger: str) -> None:
        self.refused: dict[str, tuple[int, str]] = {}
        self.objects_left = OBJECTS_MAX
        self.logger = logger

    def note(self, reason: str, path: str, what: str, number: int = 1) -> None:
        """Count what is marked, cut or left out."""
        before, sample = self.refused.get(reason, (0, ""))
        if not before:
            text = f"{path[:_SAMPLE_CHARS_MAX]}: {what}, logger {self.logger}"
            sample = whole_text(text[: 2 * _SAMPLE_CHARS_MAX])
        self.refused[reason] = (before + number, sample)

    def read(self, value: Any, path: str, trail: tuple[int, ...]) -> tuple[Any, int]:
        """The plain value of what was logged at the path, and its bytes. `Pairs` have none yet."""
        self._span_left = VALUE_BYTES_MAX
        self._elements_left = ELEMENTS_MAX
        plain = self._plain(value, path, trail)
        return plain, VALUE_BYTES_MAX - self._span_left + _ELEMENT_BYTES

    def take(self, pairs: Pairs, path: str, number_max: int) -> list[tuple[Any, Any]]:
        """The first items of a mapping, or as many as can be had."""
        taken: list[tuple[Any, Any]] = []
        try:
            for key, value in islice(pairs.items, number_max):
                taken.append((key, value))
        except Exception as error:
            self.note_broken(path, error)
        return taken

    def note_broken(self, path: str, error: Exception) -> None:
        """Note that a mapping could not be read to its end."""
        # Also a RecursionError is a RuntimeError.
        reason = "changed" if type(error) is RuntimeError else "raised"
        self.note(reason, path, type_mark(error))

    def _plain(self, value: Any, path: str, trail: tuple[int, ...]) -> Any:
        nearer = value
        reason = "type"
        for _ in range(_STEPS_MAX):
            kind = type(nearer)  # pyright: ignore[reportUnknownVariableType]
            if kind is str:
                return self._text(nearer, path)
            if kind is int:
                return self._int(nearer, path)
            if kind is float or kind is bool or nearer is None or kind is Pairs:
                return nearer
            if kind is bytes:
                return self._bytes(nearer, path)
            if kind is list or kind is Unordered:
                return self._list(nearer, value, path, trail)
            self.objects_left -= 1
            if self.objects_left < 0:
                reason = "leaves"
                break
            try:
                nearer = nearest(nearer)
            except NoNearestError:
                break
            except Exception:
                reason = "raised"
                break
        mark = type_mark(value)
        self.note(reason, path, mark)
        return self._text(mark, path)

    def _int(self, value: int, path: str) -> int | str:
        if INT_MIN <= value <= INT_MAX:
            return value
        self.note("number", path, int_mark(value))
        return int_mark(value)

    def _text(self, text: str, path: str) -> str:
        text = text[: self._span_left + 1]
        try:
            data = text.encode()
        except UnicodeEncodeError:
            self.note("text", path, "lone surrogates")
            text = whole_text(text)
            data = text.encode()
        if len(data) > self._span_left:
            self.note("cut", path, "text")
            room = max(self._span_left - len(_CUT.encode()), 0)
            text = data[:room].decode(errors="ignore") + _CUT
        self._span_left -= min(len(data), self._span_left)
        return text

    def _bytes(self, data: bytes, path: str) -> bytes:
        if len(data) > self._span_left:
            self.note("cut", path, "bytes")
            data = data[: max(self._span_left - len(_CUT.encode()), 0)] + _CUT.encode()
        self._span_left -= len(data)
        return data

    def _list(self, items: list[Any], owner: object, path: str, trail: tuple[int, ...]) -> Any:
        if id(owner) in trail:
            self.note("cycle", path, type_mark(owner))
            return CYCLE
        if len(trail) > DEPTH_MAX:
            self.note("depth", path, type_mark(owner))
            return DEEPER
        trail = (*trail, id(owner))
        plain: list[Any] = []
        is_cut = False
        for item in items:
            if self._elements_left <= 0 or self._span_left <= 0:
                is_cut = True
                break
            self._elements_left -= 1
            self._span_left -= _ELEMENT_BYTES
            nearer = self._plain(item, path, trail)
            if type(nearer) is Pairs:
                taken = self.take(nearer, path, ELEMENTS_MAX + 1)
                nearer = self._list([[*pair] for pair in taken], nearer.owner, path, trail)
            plain.append(nearer)
        if type(items) is Unordered:
            _sort(plain)
        if is_cut:
            self.note("cut", path, type_mark(owner))
            plain.append(_CUT)
        return plain


def whole_text(text: str) -> str:
    r"""The text with its lone surrogates replaced, if it has any. O(len).

    >>> whole_text("a\ud800b") == "a\ufffdb", whole_text("\ud83d\ude00") == "\U0001f600"
    (True, True)
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _sort(values: list[Any]) -> None:
    """Sort plain values, of whatever types, so that equal sets give equal lists."""
    try:
        values.sort()
    except TypeError:
        values.sort(key=lambda value: (type(value).__name__, repr(value)))
