"""Changes that are too large for one message, in parts, and back.

Parts belong together and are to be taken in at once: each but the last says `more`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shardlog.crdt.delta import Write, item_bytes, name_bytes
from shardlog.crdt.replication.messages import Changes, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shardlog.crdt.delta import Value


class Batch:
    """Rows on their way into one message; `size` is an upper bound of their bytes there."""

    def __init__(self) -> None:
        self.size = 0
        self._writers: dict[str, int] = {}
        self._rows: list[Row] = []

    def add(
        self, path: str, kind: Literal[0, 1, 2, 3], value: Value, stamp: int, writer: str
    ) -> None:
        """Add what a path shows; `writer` is "" where nobody is named. O(size)."""
        index = -1
        if writer:
            if writer not in self._writers:
                self._writers[writer] = len(self._writers)
                self.size += name_bytes(writer)
            index = self._writers[writer]
        self._rows.append(Row(path, kind, value, stamp, index))
        self.size += item_bytes(Write(path, stamp, 0, value))

    def take(self, *, more: bool = False) -> Changes:
        """The message; what is added from now on goes into another one."""
        changes = Changes(list(self._writers), self._rows, more)
        self.size, self._writers, self._rows = 0, {}, []
        return changes


def split(changes: Changes, bytes_max: int) -> Iterator[Changes]:
    """The same rows in parts of about so many bytes. O(size).

    >>> whole = Changes(["a@x", "b@x"], [Row("n", 0, 1, 5, 0), Row("m", 0, 2, 6, 1)])
    >>> [(part.writers, part.more) for part in split(whole, 40)]
    [(['a@x'], True), (['b@x'], False)]
    >>> join(list(split(whole, 40))) == whole
    True
    """
    batch = Batch()
    for row in changes.rows:
        if batch.size >= bytes_max:
            yield batch.take(more=True)
        writer = changes.writers[row.writer] if row.writer >= 0 else ""
        batch.add(row.path, row.kind, row.value, row.stamp, writer)
    yield batch.take()


def join(parts: Sequence[Changes]) -> Changes:
    """What was split; the writers in the order in which the rows name them. O(rows)."""
    if len(parts) == 1:
        return parts[0]
    writers: dict[str, int] = {}
    rows: list[Row] = []
    for part in parts:
        for row in part.rows:
            index = -1
            if row.writer >= 0:
                index = writers.setdefault(part.writers[row.writer], len(writers))
            rows.append(Row(row.path, row.kind, row.value, row.stamp, index))
    return Changes(list(writers), rows)
