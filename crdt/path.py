r"""Paths and patterns: one text form for people, the wire and the inside alike.

A path names a place in the state. Its text form is also its canonical form, in which it is stored,
compared and sent: one string, whose hash Python keeps, is the cheapest dictionary key there is.

    keys                     text
    ("intents", "42")        intents/42
    ("intents", 42)          intents/\i42       an int key is marked, a str key is not
    ("a/b", "c\\d")          a\/b/c\\d          `/` and `\` are escaped within a key
    ("*",)                   \*                 so that a pattern can name the key `*`
    (1.5,)                                      refused: keys are str or int

The mapping is injective, so two paths are equal iff their texts are. Everything below `p` has a
text that starts with `p/`: one contiguous range of the sorted texts, [p + "/", p + "0").
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from shardlog.crdt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Key = str | int
Keys = tuple[Key, ...]

COLLAPSED = "~"
"""The key under which a forgotten record's counts go on; never a record, refused in shards."""
RESERVED = "shardlog"
"""The root key of what shardlog itself keeps in the state."""
ERRORS = f"{RESERVED}/errors"
"""Below it lies the error report: how is said in `shardlog.handler.errors`."""
OVERFLOW = "overflow"
"""The group of errors beyond the bounds on groups: they are only counted."""
_OPEN = (f"{RESERVED}/live/", f"{ERRORS}/")

_DIGITS_MAX = 4300
# Integers of more digits are refused by Python itself, unless it is told otherwise.

_ESCAPES = str.maketrans({"\\": "\\\\", "/": "\\/", "*": "\\*"})


def key_text(key: Key) -> str:
    r"""The text of one key. O(len).

    >>> key_text("pages.local"), key_text(42), key_text("a/b")
    ('pages.local', '\\i42', 'a\\/b')
    """
    if type(key) is int:
        return f"\\i{key}"
    assert isinstance(key, str)
    if "/" in key or "\\" in key or "*" in key:
        return key.translate(_ESCAPES)
    return key


def path_text(keys: Iterable[Key]) -> str:
    r"""The canonical text of a path of at least one key. O(len).

    >>> path_text(["intents", 42, "host"])
    'intents/\\i42/host'
    """
    return "/".join(map(key_text, keys))


def path_keys(text: str) -> Keys:
    r"""The keys of a canonical text: the inverse of `path_text`. O(len).

    >>> path_keys(r"intents/\i42/a\/b")
    ('intents', 42, 'a/b')

    Raises:
        ConfigError: an escape that does not exist, or `\i` before something that is no integer.
    """
    if "\\" not in text:
        return tuple(text.split("/"))
    return tuple(map(_parse_key, key_texts(text)))


def key_texts(text: str) -> list[str]:
    r"""The texts of the keys of a path or pattern. O(len).

    >>> key_texts(r"intents/\i42/a\/b")
    ['intents', '\\i42', 'a\\/b']
    """
    if "\\" not in text:
        return text.split("/")
    start, parts = 0, list[str]()
    for at, char in enumerate(text):
        if char == "/" and not _is_escaped(text, at):
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return parts


# A merge asks several times for those of one path. Those of the largest are 8 MB: few are kept.
@lru_cache(maxsize=4)
def ancestors(text: str) -> tuple[str, ...]:
    r"""The strict prefixes of a path, nearest first. O(depth) slices.

    >>> ancestors("a/b/c"), ancestors(r"a\/b/c")
    (('a/b', 'a'), ('a\\/b',))
    """
    prefixes: list[str] = []
    end = text.rfind("/")
    while end >= 0:
        if text[end - 1 : end] != "\\" or not _is_escaped(text, end):
            prefixes.append(text[:end])
        end = text.rfind("/", 0, end)
    return tuple(prefixes)


def root_key(text: str) -> str:
    r"""The text of the first key. O(len).

    >>> root_key("intents/42"), root_key(r"a\/b/c"), root_key("msg")
    ('intents', 'a\\/b', 'msg')
    """
    end = text.find("/")
    while end >= 0 and _is_escaped(text, end):
        end = text.find("/", end + 1)
    return text if end < 0 else text[:end]


def is_within(text: str, top: str) -> bool:
    """Whether `text` is `top` or lies below it. O(len).

    >>> is_within("a/b", "a"), is_within("ab", "a"), is_within("a", "a")
    (True, False, True)
    """
    return text == top or text.startswith(top + "/")


def is_reserved(text: str) -> bool:
    """Whether a path is shardlog's own, where processes may not write as they like. O(len).

    They may below `shardlog/live` (what live tests say) and `shardlog/errors`.

    >>> is_reserved("shardlog/health/x"), is_reserved("shardlog/live"), is_reserved("shardlogs")
    (True, True, False)
    >>> is_reserved("shardlog/live/answered"), is_reserved("shardlog/errors/E7/n")
    (False, False)
    """
    return text.startswith(RESERVED) and is_within(text, RESERVED) and not text.startswith(_OPEN)


class Pattern:
    r"""A pattern over paths, anchored at the root: `*` is one key, `**` any number of keys.

    A bare integer such as `42` matches the str key and the int key; `\i42` the int key only.
    `*` matches the collapsed key `~` only where `collapsed` is asked for, as totals do.

    >>> tries = Pattern("intents/*/tries")
    >>> tries.matches("intents/42/tries"), tries.matches("intents/~/tries")
    (True, False)
    >>> Pattern("intents/*/tries", collapsed=True).matches("intents/~/tries")
    True
    >>> Pattern("intents/**").matches("intents"), Pattern("**/msg").matches("a/b/msg")
    (True, True)

    Raises:
        ConfigError: the text is not a pattern.
    """

    __slots__ = ("_collapsed", "_parts", "text")

    def __init__(self, text: str, *, collapsed: bool = False) -> None:
        self.text = text
        self._collapsed = collapsed
        self._parts = tuple(_parse_part(part) for part in key_texts(text)) if text else ()

    def matches(self, path: str) -> bool:
        """Whether the canonical text `path` is matched. O(keys x parts)."""
        keys = key_texts(path)
        reached = {0}  # how many keys the parts so far may have taken
        for part in self._parts:
            if part == "**":
                reached = set(range(min(reached), len(keys) + 1))
            else:
                reached = {
                    at + 1 for at in reached if at < len(keys) and self._matches_key(part, keys[at])
                }
            if not reached:
                return False
        return len(keys) in reached

    @property
    def prefix(self) -> str:
        r"""The text of the leading literal keys, "" if none: where a search may start.

        >>> Pattern("intents/x/*/tries").prefix, Pattern("*").prefix, Pattern("a/42/b").prefix
        ('intents/x', '', 'a')
        """
        literal: list[str] = []
        for part in self._parts:
            if part is None or part == "**" or isinstance(part, tuple):
                break
            literal.append(part)
        return "/".join(literal)

    def _matches_key(self, part: str | tuple[str, str] | None, key: str) -> bool:
        if part is None:
            return key != COLLAPSED or self._collapsed
        return key in part if isinstance(part, tuple) else key == part


def resolve(text: str, exists: Callable[[str], bool]) -> str:
    r"""The canonical path that a person means by `text`.

    A bare `42` is the str key or, where there is none, the int key; a bare `*` is that key.

    >>> resolve("intents/42", lambda path: path == r"intents/\i42")
    'intents/\\i42'
    >>> resolve("intents/42", lambda path: False)
    'intents/42'
    """
    path = above = ""
    for key in map(_parse_key, key_texts(text)):
        path = above + key_text(key)
        if isinstance(key, str) and _is_integer(key) and not exists(path):
            marked = above + key_text(int(key))
            path = marked if exists(marked) else path
        above = f"{path}/"
    return path


def _is_escaped(text: str, at: int) -> bool:
    start = at
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return (at - start) % 2 == 1


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX):
        return False
    return str(int(text)) == text


def _parse_key(text: str) -> Key:
    if "\\" not in text:
        return text
    if text.startswith("\\i"):
        if not _is_integer(text[2:]):
            raise ConfigError(f"{text!r} is not a key: \\i is followed by an integer, as in \\i42")
        return int(text[2:])
    key: list[str] = []
    chars = iter(text)
    for char in chars:
        escaped = next(chars, "") if char == "\\" else char
        if char == "\\" and (escaped == "" or escaped not in "\\/*"):
            raise ConfigError(
                f"{text!r} is not a key: a backslash is followed by one of \\ / * or, first, by i"
            )
        key.append(escaped)
    return "".join(key)


def _parse_part(text: str) -> str | tuple[str, str] | None:
    """None for `*`, the text `**`, both spellings of a bare integer, else one key's text."""
    if text == "*":
        return None
    if text == "**":
        return text
    key = _parse_key(text)
    if isinstance(key, str) and key.count("*") > text.count("\\*"):
        raise ConfigError(
            f"{text!r} is not a pattern: * stands for a whole key; \\* is the character itself"
        )
    if isinstance(key, str) and _is_integer(key):
        return (key, key_text(int(key)))
    return key_text(key)
