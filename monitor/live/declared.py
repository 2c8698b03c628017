"""How a file of tests says what it tests: `each` and `once`.

    @each("intents/*")
    def answered(intent, live):
        return eventually(lambda: intent.host in intent.resolution, within=30)

The function runs once for every key that matches, as soon as it shows, and asks for properties
(see `shardlog.monitor.live.properties`), which are then judged as long as it takes. A function that
is a generator asks for several. What it reads itself, outside of predicates, it reads once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import Pattern, key_texts

if TYPE_CHECKING:
    from shardlog.crdt.path import Keys

F = TypeVar("F", bound=Callable[..., Any])

MARK = "__shardlog_test__"


class Test:
    """A function, and for which keys it is run. `parts`: the pattern's, () for the whole."""

    __test__ = False
    """For pytest: this is none of its own tests."""

    def __init__(self, function: Callable[..., Any], pattern: str) -> None:
        self.name = function.__name__
        self.function = function
        self.pattern = pattern
        self.parts = tuple(key_texts(pattern)) if pattern else ()
        self._pattern = Pattern(pattern)

    def matches(self, path: str) -> bool:
        """Whether it is run for this path. O(keys)."""
        return self._pattern.matches(path)

    def label(self, keys: Keys) -> str:
        """What an instance is called: `answered[42]`.

        >>> Test(lambda: None, "intents/*/resolution/*").label(("intents", "42", "resolution", 7))
        '<lambda>[42/7]'
        """
        bound = [str(key) for key, part in zip(keys, self.parts, strict=True) if "*" in part]
        return f"{self.name}[{'/'.join(bound)}]" if bound else self.name


def each(pattern: str) -> Callable[[F], F]:
    """Run the function for every key that matches: `function(node, live)`.

    Raises:
        ConfigError: this is no pattern, or has `**`, which binds no single key.
    """
    if not isinstance(pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError("each: a pattern is missing: @each('intents/*')")
    Pattern(pattern)
    if not pattern or "**" in key_texts(pattern):
        raise ConfigError(f"each({pattern!r}): a pattern of keys and `*`, such as 'intents/*'")

    def mark(function: F) -> F:
        setattr(function, MARK, Test(function, pattern))
        return function

    return mark


def once(function: F) -> F:
    """Run the function for the cluster as a whole: `function(live)`."""
    setattr(function, MARK, Test(function, ""))
    return function
