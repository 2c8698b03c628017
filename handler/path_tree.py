"""Which of the paths that are kept lie below another one. Touched only when paths come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.path import ancestors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class PathTree:
    """A tree of path texts: every ancestor of a path that was added knows its children.

    >>> tree = PathTree()
    >>> tree.add("a/b/c"); tree.add("a/b/d")
    >>> tree.has_below("a"), tree.has_below("a/b/c"), sorted(tree.below("a"))
    (True, False, ['a/b', 'a/b/c', 'a/b/d'])
    """

    __slots__ = ("_children",)

    def __init__(self) -> None:
        self._children: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        """How many paths have something below them."""
        return len(self._children)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathTree) and self._children == other._children

    def add(self, path: str) -> None:
        """Add a path, which may be there already. O(depth)."""
        for parent in ancestors(path):
            siblings = self._children.get(parent)
            if siblings is not None:
                siblings[path] = None
                return
            self._children[parent] = {path: None}
            path = parent

    def add_all(self, paths: Iterable[str]) -> None:
        """Add many paths. O(paths x depth)."""
        for path in paths:
            self.add(path)

    def discard(self, path: str, is_kept: Callable[[str], bool]) -> None:
        """Remove a path, if it is there and nothing is below it, and ancestors that are then
        neither a way to another path nor kept themselves. O(depth).
        """
        if path in self._children:
            return
        for parent in ancestors(path):
            siblings = self._children.get(parent, {})
            siblings.pop(path, None)
            if siblings or parent not in self._children:
                return
            del self._children[parent]
            if is_kept(parent):
                return
            path = parent

    def has_below(self, path: str) -> bool:
        """Whether any path lies strictly below. O(1)."""
        return path in self._children

    def below(self, path: str) -> Iterator[str]:
        """What lies strictly below, the ways there included, parents first. O(what it yields)."""
        stack = [path]
        while stack:
            children = self._children.get(stack.pop(), ())
            yield from children
            stack.extend(children)
