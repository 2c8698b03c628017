"""Which paths there are, in order: subtrees as ranges. Touched only when paths come and go."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from sortedcontainers import SortedList

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Texts(SortedList[str]):
    """A sorted list of lists, of each of which the last is known: two bisections find a place."""

    _lists: list[list[str]]
    _maxes: list[str]

    def first_from(self, text: str) -> str:
        """The first that does not sort before `text`, "" if there is none. O(log n)."""
        at = bisect_left(self._maxes, text)
        if at == len(self._maxes):
            return ""
        texts = self._lists[at]
        return texts[bisect_left(texts, text)]

    def runs(self, text: str | None) -> Iterator[list[str]]:
        """The lists behind `text`, the first of them from there on. O(log n) to begin."""
        if text is None:
            yield from self._lists
            return
        at = bisect_right(self._maxes, text)
        for texts in self._lists[at : at + 1]:
            yield texts[bisect_right(texts, text) :]
        yield from self._lists[at + 1 :]


class PathIndex:
    """A sorted set of path texts.

    Nothing is kept for what lies above them: the texts of all prefixes, and how many paths are
    below each, took some 100 bytes a path.

    >>> paths = PathIndex(["ab", "a/b", "a/b/c"])
    >>> list(paths.below("a")), list(paths.after("a/b/c"))
    (['a/b', 'a/b/c'], ['ab'])
    >>> paths.has_below("a"), paths.has_below("ab")
    (True, False)
    """

    __slots__ = ("_paths",)

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._paths: _Texts = _Texts(paths)  # pyright: ignore[reportAttributeAccessIssue]

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def add(self, path: str) -> None:
        """Add a path that is not there yet. O(log n)."""
        self._paths.add(path)

    def load(self, paths: Iterable[str]) -> None:
        """Add paths that are not there yet: by one sort if they are many. O(log n) for each."""
        self._paths.update(paths)

    def remove(self, path: str) -> None:
        """Remove a path that is there. O(log n)."""
        self._paths.remove(path)

    def has_below(self, path: str) -> bool:
        """Whether any path lies strictly below. O(log n)."""
        top = f"{path}/"
        return self._paths.first_from(top).startswith(top)

    def below(self, path: str) -> Iterator[str]:
        """The paths strictly below, in order. O(log n) to begin."""
        return self._paths.irange(f"{path}/", f"{path}0", inclusive=(True, False))

    def after(self, path: str | None) -> Iterator[str]:
        """The paths that sort behind `path`, all of them behind None. O(log n) to begin."""
        return self._paths.irange(path, None, inclusive=(False, True))

    def runs(self, path: str | None) -> Iterator[list[str]]:
        """The same in lists, which are only to be read. O(log n) to begin."""
        return self._paths.runs(path)
