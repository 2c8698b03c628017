"""What waits to be sent or may have to be repeated: per path the newest item of one kind."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from shardlog.crdt.delta import Erase, Retired, Total, Write, item_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Item = TypeVar("Item", Write, Erase, Total, Retired)

UNSENT = 0
"""The generation of a total that no frame has carried yet."""


class Sent(NamedTuple):
    """In which report something was sent, and when."""

    sequence: int
    at_ns: int


class Shelf(Generic[Item]):
    """Newest items by path, each unsent, sent, or known to whom it was sent; each of these in the
    order that they came to be so.

    An item that is put in conflates with the one that was there, and is unsent again. `known` says
    when each was sent. `bytes` is an upper bound of what all of them take on the wire.
    """

    __slots__ = ("_sizes", "bytes", "items", "known", "sent", "unsent")

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.unsent: OrderedDict[str, None] = OrderedDict()
        self.sent: OrderedDict[str, Sent] = OrderedDict()
        self.known: OrderedDict[str, int] = OrderedDict()
        self.bytes = 0
        self._sizes: dict[str, int] = {}

    def size(self, path: str) -> int:
        """The bytes of the item at a path, 0 if there is none. O(1)."""
        return self._sizes.get(path, 0)

    def put(self, item: Item, size: int) -> None:
        """Put in the newest item of its path, to be sent; `size` is its `item_bytes`. O(1)."""
        path = item.path
        self.bytes += size - self._sizes.get(path, 0)
        self._sizes[path] = size
        self.replace(item)

    def replace(self, item: Item) -> None:
        """Put in an item in the place of one of the same size, to be sent. O(1)."""
        path = item.path
        self.items[path] = item
        if path not in self.unsent:
            self.sent.pop(path, None)
            self.known.pop(path, None)
            self.unsent[path] = None

    def drop(self, path: str) -> None:
        """Forget what is kept at the path, if anything. O(1)."""
        if self.items.pop(path, None) is not None:
            self.bytes -= self._sizes.pop(path)
            self.sent.pop(path, None)
            self.known.pop(path, None)
            self.unsent.pop(path, None)

    def take(self, budget: int, sent: Sent) -> tuple[list[Item], int]:
        """The oldest unsent items while the budget is above 0, and what is left of it.

        They count as `sent`. O(items taken).
        """
        taken: list[Item] = []
        while budget > 0 and self.unsent:
            path, _ = self.unsent.popitem(last=False)
            item = self.items[path]
            self.sent[path] = sent
            budget -= self._sizes[path]
            taken.append(item)
        return taken, budget

    def put_back(self, items: Iterable[Item]) -> None:
        """These, if they are the newest, were not sent after all. O(items)."""
        for item in items:
            if self.items.get(item.path) is item and self.sent.pop(item.path, None) is not None:
                self.unsent[item.path] = None

    def acknowledge(self, sequence: int) -> Iterator[str]:
        """What was sent up to this report is known, one at a time; yields the paths."""
        while self.sent:
            path, sent = next(iter(self.sent.items()))
            if sent.sequence > sequence:
                return
            del self.sent[path]
            self.known[path] = sent.at_ns
            yield path

    def repeat(self) -> None:
        """Send all again that was sent and is not known. O(sent)."""
        self.unsent.update(dict.fromkeys(self.sent))
        self.sent.clear()

    def unlearn(self) -> None:
        """Send all again that was sent, known or not. O(sent)."""
        self.repeat()
        self.unsent.update(dict.fromkeys(self.known))
        self.known.clear()

    def drop_sent(self, before_ns: float) -> Iterator[str]:
        """Forget, oldest first and one at a time, what was sent before; yields the paths."""
        while self.sent:
            path = next(iter(self.sent))
            if self.sent[path].at_ns >= before_ns:
                return
            self.drop(path)
            yield path

    def drop_known(self, before_ns: float) -> Iterator[Item]:
        """Forget, oldest first and one at a time, what is known and was sent before; yields it."""
        while self.known:
            path, at_ns = next(iter(self.known.items()))
            if at_ns >= before_ns:
                return
            item = self.items[path]
            self.drop(path)
            yield item

    def check_invariants(self) -> None:
        """Raise AssertionError unless each item is one of unsent, sent and known, what was sent is
        in the order of the reports, and the bytes add up.
        """
        assert sorted([*self.unsent, *self.sent, *self.known]) == sorted(self.items)
        assert [*self.sent.values()] == sorted(self.sent.values())
        assert [*self.known.values()] == sorted(self.known.values())
        assert self._sizes == {path: item_bytes(item) for path, item in self.items.items()}
        assert self.bytes == sum(self._sizes.values())
        assert all(path == item.path for path, item in self.items.items())


def with_generation(total: Total, generation: int) -> Total:
    """The total, in that generation. O(1)."""
    return Total(total.path, generation, total.born, total.last, total.amount)


def take_totals(shelf: Shelf[Total], budget: int, sent: Sent) -> tuple[list[Total], int]:
    """As `Shelf.take`; the generation of a new one is the sequence of the report. O(taken)."""
    totals, budget = shelf.take(budget, sent)
    for at, total in enumerate(totals):
        if total.generation == UNSENT:
            totals[at] = shelf.items[total.path] = with_generation(total, sent.sequence)
    return totals, budget
