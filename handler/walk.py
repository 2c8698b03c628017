"""The way through the dicts of one log call: what is a leaf, and at which path."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from shardlog.crdt import counter, sketch
from shardlog.crdt.delta import Amount, Value
from shardlog.crdt.path import COLLAPSED, RESERVED, is_reserved, key_text
from shardlog.handler.nearest import INT_MAX, INT_MIN, VALUE_BYTES_MAX, Pairs, type_mark
from shardlog.handler.values import CYCLE, DEEPER, DEPTH_MAX, OBJECTS_MAX, ValueReader, whole_text
from shardlog.handler.words import Count, Observe, erase

KEY_BYTES_MAX = 256
LEAVES_MAX = 10_000
SHARD_BYTES_MAX = 1 << 20
"""Paths, in characters, and values, in bytes, of one shard."""

_LEAF_BYTES = 9
_TEXTS_MAX = 10_000
_KEY_BITS_MAX = 800


class Walk(ValueReader):
    """One way through one record, and what was found on it."""

    __slots__ = (
        "_leaves_left",
        "_room_left",
        "_texts",
        "counts",
        "erases",
        "has_reserved",
        "message_bytes",
        "writes",
    )

    def __init__(self, texts: dict[str, str], logger: str) -> None:
        super().__init__(logger)
        self.writes: list[tuple[str, Value]] = []
        self.erases: list[str] = []
        self.counts: list[tuple[str, Amount]] = []
        self._texts = texts  # of keys that were looked at before
        self._leaves_left = LEAVES_MAX
        self._room_left = SHARD_BYTES_MAX
        self.message_bytes = 0
        self.has_reserved = False

    @property
    def bytes(self) -> int:
        """About what has been found so far takes, the message included."""
        return min(SHARD_BYTES_MAX - self._room_left, SHARD_BYTES_MAX) + self.message_bytes

    def root(self, extras: list[tuple[Any, Any]]) -> None:
        """Take what `extra` added."""
        self._items(extras, len(extras), "", (id(extras),))

    def shard(self, shard: Any) -> None:
        """Take an extra `shard`: its keys are keys at the root."""
        kind = type(shard)  # pyright: ignore[reportUnknownVariableType]
        if kind is dict:
            self._items(shard.items(), len(shard), "", (id(shard),))
            return
        pairs = None if shard is erase else self.read(shard, "shard", ())[0]
        if type(pairs) is Pairs:
            items = self.take(pairs, "", self._leaves_left + 1)
            self._items(items, len(items), "", (id(shard),))
        else:
            self.note("shard", "shard", type_mark(shard))

    def refuse_reserved(self) -> None:
        """Leave out what was found at paths that are shardlog's own. O(what was found)."""
        self.writes = [item for item in self.writes if self.is_open(item[0])]
        self.counts = [item for item in self.counts if self.is_open(item[0])]
        self.erases = [path for path in self.erases if self.is_open(path)]

    def key(self, key: Any, prefix: str) -> str | None:
        """The text of a key below the prefix; None if it is refused."""
        name = key
        if type(key) is not str and type(key) is not int:
            name = self._odd_key(key, prefix)
        if type(name) is int:
            if name.bit_length() <= _KEY_BITS_MAX:
                return key_text(name)
            self.note("key", prefix, f"a key of {name.bit_length()} bits")
            return None
        if len(name) > KEY_BYTES_MAX:
            self.note("key", prefix, f"a key of {len(name)} characters")
            return None
        whole = whole_text(name)
        if whole != name:
            self.note("text", prefix, "lone surrogates in a key")
        if len(whole.encode()) > KEY_BYTES_MAX or (whole == "" and not prefix):
            self.note("key", prefix, f"a key of {len(whole.encode())} bytes")
            return None
        if whole == COLLAPSED:
            self.note("collapsed", prefix, whole)
            return None
        if whole == RESERVED and not prefix:
            self.has_reserved = True
        text = key_text(whole)
        # What the rules depend on besides the key itself, or is noted each time, is not kept.
        if name is key and whole == name and name not in ("", RESERVED):
            if len(self._texts) >= _TEXTS_MAX:
                self._texts.clear()
            self._texts[name] = text
        return text

    def is_open(self, path: str) -> bool:
        """Whether a path is not shardlog's own; note that it is. O(len)."""
        if is_reserved(path):
            self.note("reserved", path, "shardlog's own")
            return False
        return True

    def _odd_key(self, key: Any, prefix: str) -> Any:
        kind = type(key)  # pyright: ignore[reportUnknownVariableType]
        plain = self.read(key, prefix, ())[0]
        if issubclass(kind, str) or (issubclass(kind, int) and kind is not bool):
            return plain
        self.note("key", prefix, type_mark(key))
        if type(plain) is str:
            return plain
        if kind is tuple:
            return repr(tuple(plain))
        return type_mark(key) if type(plain) is Pairs else repr(plain)

    def _items(
        self,
        items: Iterable[tuple[Any, Any]],
        size: int,
        prefix: str,
        trail: tuple[int, ...],
    ) -> None:
        self._leaves_left -= size
        self.objects_left -= 1
        if self._leaves_left < 0 or self.objects_left < 0:
            left = max(size + self._leaves_left, 0) if self.objects_left >= 0 else 0
            self._leaves_left = 0
            self.note("leaves", prefix, f"{size} keys, {left} left of {LEAVES_MAX}", size - left)
            items = islice(items, left)
        texts = self._texts
        writes = self.writes
        try:
            for key, value in items:
                text = texts.get(key) if type(key) is str else None
                if text is None:
                    text = self.key(key, prefix)
                    if text is None:
                        continue
                path = prefix + text
                self._room_left -= len(path) + _LEAF_BYTES
                if self._room_left < 0:
                    self.note("size", path, f"more than {SHARD_BYTES_MAX} bytes")
                    continue
                # The usual kinds are told here and not in `_odd`, which halves the time.
                kind = type(value)  # pyright: ignore[reportUnknownVariableType]
                if kind is dict and value and len(trail) < DEPTH_MAX and id(value) not in trail:
                    self._leaves_left += 1  # a dict is a leaf only if it is empty
                    self._items(value.items(), len(value), path + "/", (*trail, id(value)))
                elif kind is Count:
                    self.count(path, value.n)
                elif kind is str and len(value) <= VALUE_BYTES_MAX and value.isascii():
                    self._write(path, value, len(value))
                elif (
                    (kind is int and INT_MIN <= value <= INT_MAX)
                    or kind is float
                    or kind is bool
                    or value is None
                ):
                    writes.append((path, value))
                elif value is erase:
                    self.erases.append(path)
                elif kind is Observe:
                    self.observe(path, value.x)
                else:
                    self._odd(path, value, trail)
        except Exception as error:
            self.note_broken(prefix, error)

    def _odd(self, path: str, value: Any, trail: tuple[int, ...]) -> None:
        if type(value) is dict and not value:
            self.writes.append((path, {}))
            return
        if self.objects_left < 0:
            self.note("leaves", path, f"more than {OBJECTS_MAX} objects")
            return
        plain, size = self.read(value, path, trail)
        if type(plain) is not Pairs:
            self._write(path, plain, size)
        elif items := self.take(plain, path, self._leaves_left + 1):
            self._nested(items, plain.owner, path, trail)
        else:
            self._write(path, {}, 0)

    def _nested(
        self, items: list[tuple[Any, Any]], owner: object, path: str, trail: tuple[int, ...]
    ) -> None:
        if id(owner) in trail:
            self.note("cycle", path, type_mark(owner))
            self._write(path, CYCLE, 0)
        elif len(trail) >= DEPTH_MAX:
            self.note("depth", path, type_mark(owner))
            self._write(path, DEEPER, 0)
        else:
            self._leaves_left += 1
            self._items(items, len(items), path + "/", (*trail, id(owner)))

    def _write(self, path: str, value: Value, size: int) -> None:
        # Below zero it stays: what is too much once, is not tried again and again.
        self._room_left -= size
        if self._room_left >= 0:
            self.writes.append((path, value))
        else:
            self.note("size", path, f"more than {SHARD_BYTES_MAX} bytes")

    def count(self, path: str, n: Any) -> None:
        """Take a count of `n`, or note that there is none."""
        if type(n) is int and 0 <= n <= counter.COUNT_MAX:
            self.counts.append((path, n))
            return
        try:
            self.counts.append((path, counter.amount(self._number(n, path))))
        except (TypeError, ValueError):
            self._note_word("count", path, n)

    def observe(self, path: str, x: Any) -> None:
        """Count `x` in its bucket, or note that there is none."""
        at = self.bucket(path, x)
        if at is not None:
            self.counts.append((f"{path}/{sketch.bucket_key(at)}", 1))

    def bucket(self, path: str, x: Any) -> int | None:
        """The bucket of what is observed at a path; None, and noted, if there is none."""
        try:
            return sketch.bucket(self._number(x, path))
        except (TypeError, ValueError):
            self._note_word("observe", path, x)
            return None

    def _number(self, n: Any, path: str) -> int | float:
        number = n
        if type(n) is not int and type(n) is not float:
            number = self.read(n, path, ())[0]  # of a bool, or of numpy
        if not isinstance(number, int | float):
            raise TypeError
        return number

    def _note_word(self, word: str, path: str, n: Any) -> None:
        shown = n if type(n) is float else type_mark(n)
        self.note("count", path, f"{word}({shown})")
