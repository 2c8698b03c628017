"""The short way of a log call: what is plain and small is encoded in it, and read by the thread.

Most records are so: dicts whose keys are str or int, of text, numbers and counts. Encoded they are
one object that shares nothing with the caller, takes a tenth of the memory, and is nothing that the
garbage collector looks through. Anything else, and anything larger, is read in the call, by
`shardlog.handler.shard`, and to the same end.

What is plain is told by exact types, so that no code of the values runs. A dict within itself, or
one that is reached in many ways, is as good as a large one: whatever a call is given, it looks at
ROOM keys at most.

Speed wins over form: a record with three leaves below five keys takes 1.3 µs here, instead of 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from shardlog.handler.nearest import INT_MAX, INT_MIN
from shardlog.handler.values import DEPTH_MAX
from shardlog.handler.walk import Walk
from shardlog.handler.words import Count, Observe

if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = 2048
"""How many characters the keys and texts of one record may have, and keys more; in all."""
SCALARS = frozenset((int, float, bool, type(None)))
_NUMBERS = (int, float)

encode: Callable[[tuple[int, str, str, dict[Any, Any]]], bytes] = msgspec.msgpack.Encoder().encode
"""Of time, logger, message and extras. Raises where an int or a text cannot be encoded."""
decode: Callable[[bytes], tuple[int, str, str, dict[Any, Any]]] = msgspec.msgpack.Decoder(
    tuple[int, str, str, dict[Any, Any]]
).decode


def room_left(items: dict[Any, Any], room: int) -> int:
    """What is left of the room behind these items, which may be a bit too many: then less than 0.

    It is less than 0 too where anything is not plain. O(room).

    >>> room_left({"a": {"text": "abc"}}, 100), room_left({"a": [1]}, 100)
    (90, -1)
    """
    while len(items) == 1 and room > 0:  # as most dicts of a path are: this way takes 0.2 µs less
        [key] = items
        if type(key) is not str:  # asked first, as the look-up would run the code of another key
            break
        value = items[key]
        if type(value) is not dict:
            break
        room -= 1 + len(key)
        items = value  # pyright: ignore[reportUnknownVariableType]
    room -= len(items)
    if room < 0:
        return room
    for key, value in items.items():
        if type(key) is str:
            room -= len(key)
        elif type(key) is not int:
            return -1
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is str:
            room -= len(value)
        elif kind is int:
            continue
        elif kind is dict:
            room = room_left(value, room)
        elif kind is Count:
            if type(value.n) not in _NUMBERS:
                return -1
        elif kind not in SCALARS and (kind is not Observe or type(value.x) not in _NUMBERS):
            return -1
    return room


class PlainWalk(Walk):
    """The way through what was encoded so: small, without cycles; each list is a word."""

    __slots__ = ()

    def plain(self, items: dict[Any, Any], prefix: str, depth: int) -> None:
        """Take these items. The bound on the room bounds all but the depth and the ints."""
        texts = self._texts
        for key, value in items.items():
            text = texts.get(key) or self.key(key, prefix)
            if text is None:
                continue
            path = prefix + text
            kind = type(value)  # pyright: ignore[reportUnknownVariableType]
            if kind is dict and value and depth < DEPTH_MAX:
                self.plain(value, path + "/", depth + 1)
            elif kind is list:
                self.word(path, *value)
            elif (kind is int and not INT_MIN <= value <= INT_MAX) or (kind is dict and value):
                self._items([(key, value)], 1, prefix, (0,) * depth)
            else:
                self.writes.append((path, value))

    def word(self, path: str, n: int | float, *x: int | float) -> None:
        """Take a word as it was encoded: `[n]` is a count, `[0, x]` an observation."""
        if x:
            self.observe(path, *x)
        else:
            self.count(path, n)
