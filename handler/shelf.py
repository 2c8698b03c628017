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

    __slots__ = ("_sizes", "bytes", "items", "sent", "unsent")

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.unsent: OrderedDict[str, None] = OrderedDict()
        self.sent: OrderedDict[str, int] = OrderedDict()
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
            self.unsent[path] = None

    def drop(self, path: str) -> None:
        """Forget what is kept at the path, if anything. O(1)."""
        if self.items.pop(path, None) is not None:
            self.bytes -= self._sizes.pop(path)
            self.sent.pop(path, None)
            self.unsent.pop(path, None)

    def take(self, budget: int, now_ns: int) -> tuple[list[Item], int]:
        """The oldest unsent items while the budget is above 0, and what is left of it.

        They count as sent at `now_ns`. O(items taken).
        """
        taken: list[Item] = []
        while budget > 0 and self.unsent:
            path, _ = self.unsent.popitem(last=False)
            item = self.items[path]
            self.sent[path] = now_ns
            budget -= self._sizes[path]
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
        assert self._sizes == {path: item_bytes(item) for path, item in self.items.items()}
        assert self.bytes == sum(self._sizes.values())
        assert all(path == item.path for path, item in self.items.items())
