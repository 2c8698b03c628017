"""Which paths there are, in order: subtrees as ranges. Touched only when paths come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortedcontainers import SortedList

from shardlog.crdt.path import ancestors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class PathList:
    """A sorted set of path texts.

    >>> paths = PathList(["ab", "a/b", "a/b/c"])
    >>> list(paths.below("a")), list(paths.after("a/b/c"))
    (['a/b', 'a/b/c'], ['ab'])
    """

    __slots__ = ("_paths",)

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._paths: SortedList[str] = SortedList(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def add(self, path: str) -> None:
        """Add a path that is not there yet. O(log n)."""
        self._paths.add(path)

    def remove(self, path: str) -> None:
        """Remove a path that is there. O(log n)."""
        self._paths.remove(path)

    def below(self, path: str) -> Iterator[str]:
        """The paths strictly below, in order. O(log n) to begin."""
        return self._paths.irange(f"{path}/", f"{path}0", inclusive=(True, False))

    def after(self, path: str | None) -> Iterator[str]:
        """The paths that sort behind `path`, all of them behind None. O(log n) to begin."""
        return self._paths.irange(path, None, inclusive=(False, True))


class PathIndex(PathList):
    """One that also knows which paths have something strictly below them.

    >>> index = PathIndex()
    >>> for path in ["a/b", "a/b/c", "ab"]: index.add(path)
    >>> index.has_below("a"), index.has_below("ab")
    (True, False)
    """

    __slots__ = ("_below",)

    def __init__(self) -> None:
        super().__init__()
        self._below: dict[str, int] = {}

    def copy(self) -> PathIndex:
        """Another one with the same paths. O(n)."""
        copy = PathIndex()
        copy._paths, copy._below = self._paths.copy(), self._below.copy()
        return copy

    def add(self, path: str) -> None:
        """Add a path that is not there yet. O(depth + log n)."""
        self._paths.add(path)
        for prefix in ancestors(path):
            self._below[prefix] = self._below.get(prefix, 0) + 1

    def remove(self, path: str) -> None:
        """Remove a path that is there. O(depth + log n)."""
        self._paths.remove(path)
        for prefix in ancestors(path):
            left = self._below[prefix] - 1
            if left:
                self._below[prefix] = left
            else:
                del self._below[prefix]

    def compact(self) -> None:
        """Give back the memory of what was removed: a dict that shrinks keeps its table. O(n)."""
        self._below = dict(self._below)

    def has_below(self, path: str) -> bool:
        """Whether any path lies strictly below. O(1)."""
        return path in self._below
