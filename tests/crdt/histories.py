"""Histories of shards, and what must be seen after them, by two implementations that are dumb.

The alphabets are small so that collisions are frequent: three keys of which two read alike, three
levels, few stamps, three writers.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias, TypeGuard

from hypothesis import strategies as st

from shardlog.crdt.delta import Value
from shardlog.crdt.path import Key, Keys, path_text


class _Erase:
    def __repr__(self) -> str:
        return "ERASE"


ERASE = _Erase()
"""The value that removes a key and all below it."""

Tree: TypeAlias = dict[Key, Any]
Mark: TypeAlias = tuple[int, str]

KEYS: tuple[Key, ...] = ("a", "1", 1)
DEPTH = 3


class Shard(NamedTuple):
    """What one log call says."""

    stamp: int
    writer: str
    tree: Tree


class Op(NamedTuple):
    """One leaf of a shard, or an erase."""

    keys: Keys
    stamp: int
    writer: str
    value: Any

    @property
    def path(self) -> str:
        """The canonical text of the keys."""
        return path_text(self.keys)

    @property
    def mark(self) -> Mark:
        """The op's place in the total order."""
        return self.stamp, self.writer


class MapLike(Protocol):
    """What a history is applied to."""

    def write(self, path: str, stamp: int, writer: str, value: Value, /) -> object: ...
    def erase(self, path: str, stamp: int, writer: str, /) -> object: ...


@st.composite
def trees(draw: st.DrawFn, keys: tuple[Key, ...] = KEYS, leaves_max: int = 3) -> Tree:
    """One to three leaves; where one lies on the way to another the first is kept."""
    place = st.lists(st.sampled_from(keys), min_size=1, max_size=DEPTH).map(tuple)
    value: st.SearchStrategy[Any] = st.sampled_from([0, "x", {}, {}, ERASE, ERASE])
    leaves: dict[Keys, Any] = {}
    for at, leaf in draw(st.lists(st.tuples(place, value), min_size=1, max_size=leaves_max)):
        if not any(at[: len(other)] == other[: len(at)] for other in leaves):
            leaves[at] = leaf
    return nested(leaves)


@st.composite
def histories(draw: st.DrawFn, keys: tuple[Key, ...] = KEYS, shards_max: int = 8) -> list[Shard]:
    """Shards in (stamp, writer) order, no two with the same: processes do not repeat stamps."""
    marks = draw(
        st.lists(
            st.tuples(st.integers(1, 5), st.sampled_from(["p", "q", "r"])),
            min_size=1,
            max_size=shards_max,
            unique=True,
        )
    )
    return [Shard(stamp, writer, draw(trees(keys))) for stamp, writer in sorted(marks)]


def ops_of(shards: list[Shard]) -> list[Op]:
    """The leaves and erases of all shards."""

    def walk(keys: Keys, node: Any, shard: Shard) -> list[Op]:
        if is_tree(node) and (node or not keys):
            return [op for key in node for op in walk((*keys, key), node[key], shard)]
        return [Op(keys, shard.stamp, shard.writer, node)]

    return [op for shard in shards for op in walk((), shard.tree, shard)]


def apply(op: Op, target: MapLike) -> object:
    """Merge one op."""
    if op.value is ERASE:
        return target.erase(op.path, op.stamp, op.writer)
    return target.write(op.path, op.stamp, op.writer, op.value)


class Node:
    """A dict of the sequential oracle; `{}` has been written to it, or not."""

    def __init__(self) -> None:
        self.children: dict[Key, Any] = {}
        self.is_present = False


def sequential_view(shards: list[Shard]) -> Tree:
    """The nested dict after applying the shards one after the other, as a reader of 3.2 would.

    A scalar replaces what is there, a dict replaces a scalar and is merged into a dict, `{}` says
    that a dict is there, an erase removes the key; a dict that has nothing in it is there only if
    `{}` said so.
    """
    root = Node()
    for shard in shards:
        _deep_merge(root, shard.tree)
    return _plain(root)


def _deep_merge(node: Node, tree: Tree) -> None:
    for key, value in tree.items():
        child = node.children.get(key)
        if is_tree(value):
            if not isinstance(child, Node):
                child = node.children[key] = Node()
            if value:
                _deep_merge(child, value)
            else:
                child.is_present = True
        elif value is ERASE:
            node.children.pop(key, None)
        else:
            node.children[key] = value


def _plain(node: Node) -> Tree:
    tree: Tree = {}
    for key, child in node.children.items():
        if not isinstance(child, Node):
            tree[key] = child
        elif below := _plain(child):
            tree[key] = below
        elif child.is_present:
            tree[key] = {}
    return tree


def is_tree(value: object) -> TypeGuard[Tree]:
    """Whether a value is a dict, `{}` included."""
    return isinstance(value, dict)


def nested(leaves: dict[Keys, Any]) -> Tree:
    """The nested dict of visible leaves; AssertionError where they are no proper tree."""
    tree: Tree = {}
    for keys in sorted(leaves, key=len):
        node = tree
        for key in keys[:-1]:
            below: object = node.setdefault(key, {})
            assert is_tree(below), f"{keys} shows below a value"
            node = below
        value = leaves[keys]
        assert keys[-1] not in node, f"{keys} shows twice"
        node[keys[-1]] = {} if value == {} else value
    return tree


class Newest:
    """Every leaf and every floor ever written, nothing dropped, and the rule of 3.3 to the letter.

    A scalar is a leaf and a floor, an erase a floor, `{}` a leaf.
    """

    def __init__(self, ops: list[Op]) -> None:
        self.leaves: dict[Keys, Op] = {}
        self.floors: dict[Keys, Mark] = {}
        for op in sorted(ops, key=lambda op: op.mark):
            if op.value is not ERASE:
                self.leaves[op.keys] = op
            if op.value != {}:
                self.floors[op.keys] = op.mark

    def is_visible(self, keys: Keys) -> bool:
        """Whether the newest leaf at these keys shows."""
        if keys not in self.leaves:
            return False
        leaf = self.leaves[keys]
        nothing: Mark = (0, "")
        over = [self.floors.get(keys[:end], nothing) for end in range(1, len(keys))]
        below = [
            *(op.mark for at, op in self.leaves.items() if is_below(at, keys)),
            *(floor for at, floor in self.floors.items() if is_below(at, keys)),
        ]
        return (
            all(floor < leaf.mark for floor in over)
            and self.floors.get(keys, nothing) <= leaf.mark
            and (leaf.value == {} or all(mark <= leaf.mark for mark in below))
        )

    def view(self) -> Tree:
        """The nested dict of what shows."""
        return nested({k: op.value for k, op in self.leaves.items() if self.is_visible(k)})


def is_below(keys: Keys, top: Keys) -> bool:
    """Whether the first lies strictly below the second; `1` and `"1"` are two keys."""
    return len(keys) > len(top) and path_text(keys[: len(top)]) == path_text(top)
