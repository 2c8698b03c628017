"""Many shards as few: what a round of the thread gathers names the same paths over and over. Pure.

Theory. The outbox conflates too: a register gives way to a newer one of its path, and counts add
up. But it keeps books of all that it holds, some 1 µs a leaf; here it is a dictionary, 0.2 µs. What
comes out does to an outbox what went in would have done. Three things are therefore not conflated:

- an erase, with what comes before and after it;
- a count with a later scalar at or above its path, which ends the count;
- a scalar with a later `{}` at its path, which leaves the scalar's floor.

All other writes and counts may change places, as neither concerns the other.

Known anomaly. Where the outbox is full, what it would have refused again and again at one path is
refused, and counted, once a round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt import counter
from shardlog.crdt.path import ancestors
from shardlog.handler.shard import Shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.delta import Amount, Value


def conflated(shards: Iterable[Shard]) -> Iterator[Shard]:
    """Fewer shards, to the same effect. O(leaves)."""
    writes: dict[str, tuple[int, Value]] = {}
    counts: dict[str, Amount] = {}
    ends_counts: set[str] = set()
    time_ns = 0
    for shard in shards:
        if shard.erases or shard.refused:
            yield from _taken(time_ns, writes, counts, ends_counts)
            yield shard
            continue
        for path, value in shard.writes:
            if path in ends_counts or (type(value) is dict and path in writes):
                yield from _taken(time_ns, writes, counts, ends_counts)
                break
        time_ns = shard.time_ns
        for path, value in shard.writes:
            writes.pop(path, None)  # the newest come last
            writes[path] = (time_ns, value)
        for path, amount in shard.counts:
            known = counts.get(path)
            if known is None:
                counts[path] = amount
                ends_counts.update((path, *ancestors(path)))
            else:
                counts[path] = counter.add(known, amount)
    yield from _taken(time_ns, writes, counts, ends_counts)


def _taken(
    time_ns: int,
    writes: dict[str, tuple[int, Value]],
    counts: dict[str, Amount],
    ends_counts: set[str],
) -> Iterator[Shard]:
    """What was conflated, which is then gone; each write with the time at which it was made."""
    group: list[tuple[str, Value]] = []
    group_ns = 0
    for path, (written_ns, value) in writes.items():
        if written_ns != group_ns:
            if group:
                yield Shard(group_ns, group, [], [], {}, 0)
            group, group_ns = [], written_ns
        group.append((path, value))
    if group or counts:
        yield Shard(time_ns, group, [], [*counts.items()], {}, 0)
    writes.clear()
    counts.clear()
    ends_counts.clear()
