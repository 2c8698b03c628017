"""What the cases about the state are about: the records of the example that the docs tell.

A record is an intent and what one host said of it, ten leaves: two registers beside it and six
below `resolution/HOST`, two counters two keys deeper. Their values are ints, floats, texts of a few
characters and addresses. Each host tells of records of its own, in fragments of a hundred leaves;
each time it tells of them anew all ten are newer, and its records come in another order.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.delta import Entry, Fragment, Write
from shardlog.crdt.replication.messages import Delta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.delta import Value

LEAVES = 10
"""Of a record."""
RECORDS = 10
"""Of a fragment."""
_ABOVE = ("host", "module")
_BELOW = ("state", "url", "started", "pid", "version", "msg")
_COUNTED = ("tries", "items")
_START_NS = 1_760_000_000 * 10**9


class Leaf(NamedTuple):
    """What is said at a path; `amount` is a counter's total, None at a register."""

    path: str
    stamp: int
    value: Value
    amount: int | None


def record(host: int, number: int, at: int, chance: random.Random) -> Iterator[Leaf]:
    """What a host tells of a record the `at`-th time."""
    top = f"intents/{number}"
    below = f"{top}/resolution/scraper-{host}"
    values: list[Value] = [
        f"scraper-{host}",
        "scrape_pages==1.4",
        chance.choice(["asked", "running", "done"]),
        f"https://example.org/pages/{chance.randrange(10**6)}",
        chance.random() * 10**6,
        chance.randrange(1000, 65_000),
        chance.randrange(1000, 9999),
        f"page {chance.randrange(10**4)} of {10**4}",
    ]
    paths = [f"{top}/{key}" for key in _ABOVE] + [f"{below}/{key}" for key in _BELOW]
    for path, value in zip(paths, values, strict=True):
        yield Leaf(path, _stamp(at, chance), value, None)
    for key in _COUNTED:
        path = f"{below}/item_scraped/pages.local/{key}"
        amount = 1000 * (at + 1) + chance.randrange(1000)
        yield Leaf(path, _stamp(at, chance), amount, amount)


def tellings(hosts: int, records: int, at: int) -> Iterator[tuple[int, list[Leaf]]]:
    """A hundred leaves and the host that tells them, until each has told of all its records."""
    chance = random.Random(at)
    for host in range(hosts):
        mine = list(range(host * records, (host + 1) * records))
        chance.shuffle(mine)
        for start in range(0, records, RECORDS):
            told = mine[start : start + RECORDS]
            yield host, [leaf for number in told for leaf in record(host, number, at, chance)]


def deltas(hosts: int, records: int, at: int) -> Iterator[Delta]:
    """The same as shardlog's collectors send it."""
    versions: dict[int, int] = {}
    told = -(-records // RECORDS)
    for host, leaves in tellings(hosts, records, at):
        known = versions.get(host, at * told)
        versions[host] = known + 1
        yield Delta(f"node-{host}", "5f0c", 0, known + 1, fragment_of(host, known, leaves))


def fragment_of(host: int, known: int, leaves: list[Leaf]) -> Fragment:
    """What a host tells, from its version `known` to the next."""
    return Fragment(
        f"replica-{host}",
        known,
        known + 1,
        [f"scraper-{host}@node-{host}:4711:{_START_NS}:0"],
        [Write(leaf.path, leaf.stamp, 0, leaf.value) for leaf in leaves if leaf.amount is None],
        [],
        [Entry(leaf.path, leaf.stamp, leaf.amount) for leaf in leaves if leaf.amount is not None],
    )


def _stamp(at: int, chance: random.Random) -> int:
    return _START_NS + at * 10**9 + chance.randrange(10**9)
