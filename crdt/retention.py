"""How long what is said is kept: a table of patterns, each of which cuts the state into records.

    [retention]
    "intents/*" = "24h"
    "shardlog/errors/*" = "7d"           each group of errors, but of when they were counted
    "shardlog/errors/*/hours/*" = "6d"   the hours: they go before their group, in any case
    "shardlog/errors/*/recent/*" = "6h"  and its tens of minutes
    "settings/*" = "forever"

The keys that a pattern names are a record: `intents/42` is one, with all that is below it. `*` is
one key; a pattern names the first keys of a path and no more, so there is no `**`. The most
specific pattern decides: a literal key before `*`, from left to right, then the longer one. What no
pattern names is kept for ever. The defaults are

    "*/*" = "24h"                        and of what shardlog keeps itself
    "shardlog/presence/*/*" = "24h"      each process that was there
    "shardlog/health/*/*" = "24h"        what each blade and each collector refused
    "shardlog/health/ledger/*" = "forever"   the sums of each replica, which may rest for long
    "shardlog/errors/*" = "7d"
    "shardlog/live/*/*" = "24h"          what live tests said of each of their instances

When a record is forgotten, its counts go on below its sibling `~` (`shardlog.crdt.path`), which
itself is never a record.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import COLLAPSED, key_text, key_texts, path_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

FOREVER = 2**63 - 1
"""Longer than any clock shows, in ns."""
DEFAULT = "*/*"
DEFAULTS = {
    DEFAULT: "24h",
    "shardlog/presence/*/*": "24h",
    "shardlog/health/*/*": "24h",
    "shardlog/health/ledger/*": "forever",
    "shardlog/errors/*": "7d",
    "shardlog/errors/*/hours/*": "6d",
    "shardlog/errors/*/recent/*": "6h",
    "shardlog/live/*/*": "24h",
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])")


class Record(NamedTuple):
    """A subtree that is forgotten as a whole, by the pattern that names it."""

    path: str
    duration_ns: int
    keeps_counters: bool
    """One-key records have no place for a sibling: they lose registers only."""


class _Rule(NamedTuple):
    parts: tuple[frozenset[str] | None, ...]
    duration_ns: int


class Retention:
    """The table.

    >>> table = Retention({"intents/*": "90s", "intents/42": "forever"})
    >>> table.record_of("intents/7/host")
    Record(path='intents/7', duration_ns=90000000000, keeps_counters=False)
    >>> table.record_of("intents/42/host").duration_ns == FOREVER
    True
    >>> table.record_of("intents/~/tries"), table.record_of("last")
    (None, None)

    `digest` is a short text that two tables have in common iff they say the same.

    >>> Retention({"intents/*": "60s"}).digest == Retention({"intents/*": "1m"}).digest
    True

    Raises:
        ConfigError: a pattern or a duration is none.
    """

    __slots__ = ("_by_root", "_shortest_ns", "_wild", "digest")

    def __init__(self, table: Mapping[str, str] | None = None) -> None:
        rules = [_parse_rule(*said) for said in {**DEFAULTS, **(table or {})}.items()]
        rules.sort(key=lambda rule: (*(part is None for part in rule.parts), 2))
        # By the first key, which most paths share with no rule: a fifth of the time of trying all.
        self._wild = [rule for rule in rules if rule.parts[0] is None]
        roots = {text for rule in rules for text in rule.parts[0] or ()}
        self._by_root = {
            root: [rule for rule in rules if rule.parts[0] is None or root in rule.parts[0]]
            for root in roots
        }
        self._shortest_ns = min(rule.duration_ns for rule in rules)
        said = repr(
            [([sorted(part) if part else "*" for part in parts], ns) for parts, ns in rules]
        )
        self.digest = hashlib.blake2b(said.encode(), digest_size=6).hexdigest()

    def record_of(self, path: str) -> Record | None:
        """The record that a path belongs to, None if it is kept for ever. O(len + rules)."""
        texts = key_texts(path)
        if COLLAPSED in texts:
            return None
        for parts, duration_ns in self._by_root.get(texts[0], self._wild):
            depth = len(parts)
            if depth <= len(texts) and all(
                part is None or text in part for part, text in zip(parts, texts, strict=False)
            ):
                return Record("/".join(texts[:depth]), duration_ns, depth == 1)
        return None

    def record_before(self, path: str, stamp: int, now_ns: int) -> Record | None:
        """The record that a path belongs to, if a stamp is too old for it. O(1) if it is new.

        >>> table = Retention({"intents/*": "90s"})
        >>> table.record_before("intents/7/host", 10**9, 92 * 10**9).path
        'intents/7'
        >>> table.record_before("intents/7/host", 2 * 10**9, 92 * 10**9)
        """
        if stamp + self._shortest_ns >= now_ns:
            return None
        record = self.record_of(path)
        return record if record is not None and stamp + record.duration_ns < now_ns else None


def collapsed(path: str, record: str) -> str:
    """Where the counts at a path of a forgotten record go on. O(len).

    >>> collapsed("intents/42/tries", "intents/42")
    'intents/~/tries'
    """
    *above, _ = key_texts(record)
    return "/".join((*above, COLLAPSED)) + path[len(record) :]


def is_collapsed(path: str) -> bool:
    """Whether a path holds the counts of forgotten records. O(len)."""
    return COLLAPSED in path and COLLAPSED in key_texts(path)


def parse_duration(text: str) -> int:
    """A duration in ns. O(1).

    >>> parse_duration("90s"), parse_duration("7d") // 10**9, parse_duration("forever") == FOREVER
    (90000000000, 604800, True)

    Raises:
        ConfigError: it is none.
    """
    if text == "forever":
        return FOREVER
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ConfigError(
            f'{text!r} is no duration: write "forever", or a whole number of s, m, h or d, as "24h"'
        )
    return min(int(found[1]) * _SECONDS[found[2]] * 10**9, FOREVER)


def _parse_rule(pattern: str, duration: str) -> _Rule:
    if "" in key_texts(pattern):
        raise ConfigError(f'{pattern!r} is no pattern of a record: write it as "intents/*"')
    return _Rule(tuple(map(_parse_part, key_texts(pattern))), parse_duration(duration))


def _parse_part(text: str) -> frozenset[str] | None:
    """What a part matches: None for all keys. A bare `42` is the str key and the int key."""
    if text == "*":
        return None
    if text in ("**", COLLAPSED):
        raise ConfigError(f"{text!r} is in no pattern of a record: `*` is one key")
    (key,) = path_keys(text)
    return frozenset((key_text(key), key_text(key) if type(key) is int else f"\\i{key}"))
