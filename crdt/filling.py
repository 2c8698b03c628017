"""A fragment on its way: what a part holds, path by path, until that fills a message.

It is made in runs, as much of each as possible by C code; `benchmarks.speed --case 7` measures it.
What a run takes is not estimated, but seen by encoding it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shardlog.crdt.delta import Entry, Erase, Fragment, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shardlog.crdt.lww_map import Floor, Leaf

_RUN = 200
"""So many paths are encoded at once, and half as many as often as these are too large."""


class _Numbers(dict[str, int]):
    """Names, numbered as they come."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


class Filling:
    """Rows until they take `bytes_max`: none goes beyond that but one that is alone."""

    def __init__(self, bytes_max: int) -> None:
        self._room = bytes_max
        self._writers = _Numbers()
        self._writes: list[Write] = []
        self._erases: list[Erase] = []
        self._entries: list[Entry] = []

    def take(
        self,
        paths: Sequence[str],
        start: int,
        leaves: Mapping[str, Leaf],
        floors: Mapping[str, Floor],
        entries: Mapping[str, Entry],
        is_mixed: bool = False,
    ) -> int:
        """Take in what these hold at the paths from `start` on; where that ends. O(what is taken).

        `is_mixed`: there may be an entry beside a scalar.
        """
        writers, step = self._writers, _RUN
        while start < len(paths):
            run = paths[start : start + step]
            known = len(writers)
            found = list(map(leaves.get, run))
            writes = [
                Write(path, leaf.stamp, writers[leaf.writer], leaf.value)
                for path, leaf in zip(run, found, strict=True)
                if leaf is not None
            ]
            others = run
            if not is_mixed:  # beside a scalar there is nothing else
                others = [
                    path
                    for path, leaf in zip(run, found, strict=True)
                    if leaf is None or type(leaf.value) is dict
                ]
            erases = [
                Erase(path, floor.stamp, writers[floor.writer])
                for path in others
                if (floor := floors.get(path)) is not None
            ]
            counted = [entry for path in others if (entry := entries.get(path)) is not None]
            names = list(writers)[known:]
            size = len(msgspec.msgpack.encode((names, writes, erases, counted)))
            is_first = not (self._writes or self._erases or self._entries)
            if size > self._room and not (is_first and len(run) == 1):
                for name in names:
                    del writers[name]
                if not is_first:
                    break
                step = len(run) // 2
                continue
            self._room -= size
            self._writes += writes
            self._erases += erases
            self._entries += counted
            start += len(run)
        return start

    def fragment(self, replica: str, versions: tuple[int, int]) -> Fragment:
        """All that was taken in. O(writers)."""
        writers = list(self._writers)
        return Fragment(replica, *versions, writers, self._writes, self._erases, self._entries)
