"""From a LogRecord to a shard: what one log call says, taken by value and within bounds.

All attributes that `extra` added to the record are keys at the state's root, as far as its logger
is in scope; `extra={"shard": {...}}` is merged at the root from any logger. Nothing that a caller
passes makes this raise: what cannot be had as it is, is marked (`<module.Class>`), cut or left out,
and counted by reason, with one sample. The reasons:

    changed    a dict changed its size while it was read; what had been read by then is taken
    collapsed  the key `~`
    count      a count, or an observation, of what is no finite number of at most 2**53
    cut        more than 64 KiB of text or bytes, or 1,000 elements
    cycle      an object within itself
    depth      more than 32 levels, or keys of a counter
    key        neither str nor int, or more than 256 bytes, or the empty root key
    leaves     more than 10,000 leaves, or 20,000 dicts and other objects
    message    a template that its arguments do not fit
    number     an int beyond 64 bits
    raised     an object's own code raised
    reserved   below the root key `shardlog`, but for `shardlog/live` and `shardlog/errors`
    shard      an extra `shard` that is no dict
    size       more than 1 MiB
    text       lone surrogates
    type       an object that no value is near to

These bounds are also the bound on time: whatever it is given, a call takes some 40 ms at most, and
what the code of the objects in it takes. One with three leaves takes some 3 µs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from logging import ERROR, LogRecord
from typing import Any, NamedTuple

from shardlog.crdt.delta import Amount, Value
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import COLLAPSED, RESERVED, path_text
from shardlog.handler.nearest import VALUE_BYTES_MAX, type_mark
from shardlog.handler.plain import ROOM, SCALARS, PlainWalk, decode, encode, room_left
from shardlog.handler.values import whole_text
from shardlog.handler.walk import KEY_BYTES_MAX, Walk

_SHARD = "shard"
_FORMATTED = ("message", "asctime")
"""What the formatters of other handlers leave in a record."""
_ARGUMENTS = SCALARS | {str}
_SCOPES_MAX = 10_000
_TEMPLATE_CHARS_MAX = 500


class Shard(NamedTuple):
    """What one log call says. It shares nothing that can change with the caller.

    Paths are canonical; a dict is only ever `{}`, presence. `refused` is, by reason, how many, and
    where and what the first was. `bytes` is about what it takes.
    """

    time_ns: int
    writes: list[tuple[str, Value]]
    erases: list[str]
    counts: list[tuple[str, Amount]]
    refused: dict[str, tuple[int, str]]
    bytes: int


def refusal(now_ns: int, reason: str, sample: str) -> Shard:
    """A shard that says no more than that something was refused."""
    return Shard(now_ns, [], [], [], {reason: (1, sample)}, len(sample))


class ShardReader:
    """Reads log records as shards of one blade. Threads may share it.

    `loggers` names those whose extras are shards, each with its children; None is all of them.

    Raises:
        ConfigError: `blade` is no name that the state can hold as a key.
    """

    __slots__ = (
        "_message_path",
        "_names",
        "_prefixes",
        "_reserved",
        "_scopes",
        "_standard_number",
        "_texts",
    )

    def __init__(self, blade: str, loggers: Sequence[str] | None = None) -> None:
        if type(blade) is not str or blade == RESERVED or Walk({}, "").key(blade, "") is None:
            raise ConfigError(
                f"{blade!r} is not a blade's name: that is 1 to {KEY_BYTES_MAX} bytes of text,"
                f" neither {COLLAPSED!r} nor {RESERVED!r}"
            )
        names = [loggers] if isinstance(loggers, str) else loggers
        everything = names is None or "root" in names or "" in names
        self._names = None if names is None or everything else frozenset(names)
        self._prefixes = tuple(f"{name}." for name in self._names or ())
        self._message_path = path_text((whole_text(blade), "msg"))
        standard = _standard_names()
        self._standard_number = len(standard)
        self._reserved = standard | {*_FORMATTED, "taskName", _SHARD}
        self._scopes: dict[str, bool] = {}
        self._texts: dict[str, str] = {}

    def take(self, record: logging.LogRecord, now_ns: int) -> bytes | None:
        """What `untie` reads, None if the record is not plain and small, or an
        error. Never raises. O(1)."""
        try:
            logger, message, arguments = record.name, record.msg, record.args
            in_scope = self._scopes[logger]
            if record.exc_info or record.levelno >= ERROR:
                return None
            if type(message) is not str or type(record) is not LogRecord:
                return None
            if arguments:
                if type(arguments) is not tuple or not _ARGUMENTS.issuperset(map(type, arguments)):
                    return None
                message %= arguments
            said = record.__dict__
            reserved = self._reserved
            number = len(said) - self._standard_number
            extras: dict[Any, Any] = {}
            # They are the last: to look at all names takes 0.3 µs more.
            for name in reversed(said):
                if name not in reserved:
                    extras[name] = said[name]
                elif name in _FORMATTED:
                    number -= 1
                else:
                    break
            if len(extras) != number:
                return None
            if not in_scope:
                extras.clear()
            if room_left(extras, ROOM - len(message)) < 0:
                return None
            return encode((now_ns, logger, message, extras))
        except Exception:  # a logger that is new, or what cannot be encoded
            return None

    def untie(self, taken: bytes) -> Shard:
        """The shard of what was taken. O(its size)."""
        now_ns, logger, message, extras = decode(taken)
        walk = PlainWalk(self._texts, logger)
        walk.writes.append((self._message_path, message))
        walk.message_bytes = len(message)
        walk.plain(extras, "", 1)
        if walk.has_reserved:
            walk.refuse_reserved()
        return Shard(now_ns, walk.writes, walk.erases, walk.counts, walk.refused, walk.bytes)

    def read(self, record: logging.LogRecord, now_ns: int) -> Shard:
        """The shard of a record that was logged at `now_ns`. Never raises. O(its size)."""
        extras = record.__dict__
        logger = extras.get("name")
        walk = Walk(self._texts, logger if type(logger) is str else type_mark(logger))
        try:
            walk.writes.append((self._message_path, _message(record, self._message_path, walk)))
            if self._is_in_scope(walk.logger):
                # A difference of views would be no faster, and lose the order.
                added = [name for name in extras if name not in self._reserved]
                if added:
                    walk.root([(name, extras[name]) for name in added])
            if _SHARD in extras:
                walk.shard(extras[_SHARD])
        except Exception as error:
            # The guards within failed: too little is left of the stack, or of the memory.
            walk.note("raised", "", type_mark(error))
        if walk.has_reserved:
            walk.refuse_reserved()
        return Shard(now_ns, walk.writes, walk.erases, walk.counts, walk.refused, walk.bytes)

    def _is_in_scope(self, logger: str) -> bool:
        names = self._names
        in_scope = names is None or logger in names or logger.startswith(self._prefixes)
        if len(self._scopes) >= _SCOPES_MAX:
            self._scopes.clear()
        self._scopes[logger] = in_scope
        return in_scope


def _standard_names() -> frozenset[str]:
    """What a record has without `extra`: the classes of records differ between versions."""
    blank = logging.LogRecord("", logging.INFO, "", 0, "", None, None).__dict__
    with suppress(Exception):  # of the application's own record factory
        blank = blank | logging.makeLogRecord({}).__dict__
    return frozenset(blank)


def _message(record: logging.LogRecord, path: str, walk: Walk) -> Value:
    try:
        text = record.getMessage()
    except Exception as error:
        walk.note("message", path, type_mark(error))
        template = record.msg if type(record.msg) is str else type_mark(record.msg)
        text = f"<unformattable: {template[:_TEMPLATE_CHARS_MAX]!r}>"
    if type(text) is str and len(text) <= VALUE_BYTES_MAX and text.isascii():
        walk.message_bytes = len(text)
        return text
    plain, walk.message_bytes = walk.read(text, path, ())
    return plain if type(plain) is str else type_mark(text)
