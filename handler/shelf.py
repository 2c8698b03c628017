"""What waits to be sent or may have to be repeated: per path the newest item of one kind."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from shardlog.crdt.delta import Erase, Total, Write, item_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Item = TypeVar("Item", Write, Erase, Total)


class Shelf(Generic[Item]):
    """Newest items by path, each either unsent or sent at a time; both in the order that they came.

    An item that is put in conflates with the one that was there, and is unsent again. `bytes` is an
    upper bound of what all of them take on the wire.
    """

    __slots__ = ("bytes", "items", "sent", "unsent")

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.unsent: OrderedDict[str, None] = OrderedDict()
        self.sent: OrderedDict[str, int] = OrderedDict()
        self.bytes = 0

    def put(self, item: Item) -> None:
        """Put in the newest item of its path, to be sent. O(len of the values)."""
        path = item.path
        old = self.items.get(path)
        if old is not None:
            self.bytes -= item_bytes(old)
            self.sent.pop(path, None)
        self.bytes += item_bytes(item)
        self.items[path] = item
        self.unsent[path] = None

    def drop(self, path: str) -> None:
        """Forget what is kept at the path, if anything. O(len of the value)."""
        item = self.items.pop(path, None)
        if item is not None:
            self.bytes -= item_bytes(item)
            self.sent.pop(path, None)
            self.unsent.pop(path, None)

    def take(self, budget: int, now_ns: int) -> tuple[list[Item], int]:
        """The oldest unsent items while the budget is above 0, and what is left of it.

        They count as sent at `now_ns`. O(items taken, with their values).
        """
        taken: list[Item] = []
        while budget > 0 and self.unsent:
            path, _ = self.unsent.popitem(last=False)
            item = self.items[path]
            self.sent[path] = now_ns
            budget -= item_bytes(item)
            taken.append(item)
        return taken, budget

    def put_back(self, items: Iterable[Item]) -> None:
        """These, if they are the newest, were not sent after all. O(items)."""
        for item in items:
            if self.items.get(item.path) is item and self.sent.pop(item.path, None) is not None:
                self.unsent[item.path] = None

    def repeat(self) -> None:
        """Send all again that is still here. O(sent)."""
        self.unsent.update(dict.fromkeys(self.sent))
        self.sent.clear()

    def drop_sent(self, before_ns: float) -> Iterator[str]:
        """Forget, oldest first and one at a time, what was sent before; yields the paths."""
        while self.sent:
            path = next(iter(self.sent))
            if self.sent[path] >= before_ns:
                return
            self.drop(path)
            yield path

    def check_invariants(self) -> None:
        """Raise AssertionError unless each item is either sent or unsent and the bytes add up."""
        assert self.sent.keys().isdisjoint(self.unsent)
        assert self.sent.keys() | self.unsent.keys() == self.items.keys()
        assert self.bytes == sum(map(item_bytes, self.items.values()))
        assert all(path == item.path for path, item in self.items.items())
