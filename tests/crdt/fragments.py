"""What several replicas say, version by version, and what must show, by brute force."""

from __future__ import annotations

from itertools import product

from hypothesis import strategies as st

from shardlog.crdt import counter
from shardlog.crdt.delta import COUNTER, REGISTER, Amount, Entry, Erase, Fragment, Value, Write
from shardlog.crdt.entry import count_on, is_counted, reset_by
from shardlog.crdt.path import is_within, path_keys, path_text
from shardlog.crdt.state import Shown, State
from tests.crdt.histories import ERASE, Newest, Op, is_below

REPLICAS: tuple[str, ...] = ("east", "west")
KINDS = [
    ("count",),
    ("count", "erase"),
    ("count", "erase", "reset"),
    ("count", "reset"),
    ("count", "scalar"),
    ("count", "presence"),
    ("count", "presence", "erase"),
    ("scalar", "erase"),
    ("scalar", "presence", "erase"),
    ("scalar", "presence", "erase", "count"),
]
COLLAPSED_PLACES = [["a", "a/~/a", "a/~/a/a", "a/~/a/b"]]
PATHS = [path_text(keys) for depth in (1, 2, 3) for keys in product("ab", repeat=depth)]
PLACES = [
    ["a"],
    ["a", "a/b"],
    ["a", "a/a", "a/a/b", "b"],
    ["a", "a/a/a", "a/a/b", "a/b"],
    PATHS,
]


@st.composite
def streams(
    draw: st.DrawFn, replicas: tuple[str, ...] = REPLICAS, places: list[list[str]] = PLACES
) -> list[Fragment]:
    """Fragments of all replicas, each replica's from version 0 on without a gap.

    Stamps tie often; writers are never the same twice, so no two writes are. Each example has a few
    paths only, so that they meet, and a few kinds of news only, so that short cuts are taken.
    """
    kinds = st.sampled_from(draw(st.sampled_from(KINDS)))
    paths = st.sampled_from(draw(st.sampled_from(places)))
    news = st.tuples(
        st.sampled_from(replicas),
        kinds,
        paths,
        st.integers(1, 6),
        st.sampled_from("pq"),
        st.sampled_from([1, 2, -3, 0.1, -0.25]),
    )
    fragments: list[Fragment] = []
    versions = dict.fromkeys(replicas, 0)
    entries: dict[tuple[str, str], Entry] = {}
    for number, (replica, kind, path, stamp, writer, n) in enumerate(
        draw(st.lists(news, min_size=2, max_size=12))
    ):
        version = versions[replica]
        versions[replica] += 1
        fragment = Fragment(replica, version, version + 1, [f"{writer}-{number}"], [], [], [])
        if kind == "count":
            old = entries.get((replica, path), Entry(path, 0, 0))
            floor = 0 if is_counted(old) else old.reset
            entry = count_on(old, counter.amount(n), (stamp, stamp), floor, stamp)
            fragment.entries.append(entry)
        elif kind == "reset":  # a floor that reached the owner, and may reach others or not
            for (owner, at), old in entries.items():
                if owner == replica and is_within(at, path):
                    fragment.entries.append(reset_by(old, stamp))
        elif kind == "erase":
            fragment.erases.append(Erase(path, stamp, 0))
        else:
            value: Value = {} if kind == "presence" else number
            fragment.writes.append(Write(path, stamp, 0, value))
        entries.update({(replica, entry.path): entry for entry in fragment.entries})
        fragments.append(fragment)
    return fragments


def joined(fragments: list[Fragment]) -> Fragment:
    """Consecutive fragments of one replica as one."""
    result = Fragment(
        fragments[0].replica, fragments[0].from_version, fragments[-1].to_version, [], [], [], []
    )
    for part in fragments:
        shift = len(result.writers)
        result.writers.extend(part.writers)
        result.writes.extend(Write(w.path, w.stamp, w.writer + shift, w.value) for w in part.writes)
        result.erases.extend(Erase(e.path, e.stamp, e.writer + shift) for e in part.erases)
        result.entries.extend(part.entries)
    return result


def merged(fragments: list[Fragment], state_class: type[State] = State) -> State:
    """The state after these fragments, one after the other."""
    state = state_class()
    for fragment in fragments:
        state.merge(fragment)
    return state


def ops_in(fragments: list[Fragment]) -> list[Op]:
    """The register writes and erases of all fragments."""
    return [
        *(
            Op(path_keys(w.path), w.stamp, f.writers[w.writer], w.value)
            for f in fragments
            for w in f.writes
        ),
        *(
            Op(path_keys(e.path), e.stamp, f.writers[e.writer], ERASE)
            for f in fragments
            for e in f.erases
        ),
    ]


class Brute:
    """What must show after some fragments: the rules, over all that was ever said."""

    def __init__(self, fragments: list[Fragment]) -> None:
        self.registers = Newest(ops_in(fragments))
        self.entries: dict[str, dict[str, Entry]] = {}
        for fragment in fragments:
            for entry in fragment.entries:
                self.entries.setdefault(entry.path, {})[fragment.replica] = entry

    def last(self, path: str) -> int:
        """The newest count at a path, by any replica; 0 if there is none."""
        entries = self.entries.get(path, {}).values()
        return max((entry.last for entry in entries if entry.last > entry.reset), default=0)

    def shown(self, path: str) -> Shown | None:
        """What shows at a path."""
        return self._register(path) or self._counter(path)

    def amount(self, path: str) -> Amount:
        """The sum of the entries that no floor hides, 0 where no counter shows."""
        total: Amount = 0
        if self._counter(path) is not None:
            for entry in self.entries[path].values():
                if entry.last > max(self._floor(path), entry.reset):
                    total = counter.add(total, counter.excess(entry.amount, entry.base))
        return total

    def _floor(self, path: str) -> int:
        keys = path_keys(path)
        return max(
            mark[0]
            for mark in [
                (0, ""),
                *(f for k, f in self.registers.floors.items() if keys[: len(k)] == k),
            ]
        )

    def _register(self, path: str) -> Shown | None:
        keys = path_keys(path)
        if not self.registers.is_visible(keys):
            return None
        leaf = self.registers.leaves[keys]
        for other in self.entries:
            at = path_keys(other)
            is_over = at == keys[: len(at)]
            is_under = is_below(at, keys) and leaf.value != {}
            if (is_over or is_under) and self.last(other) > leaf.stamp:
                return None
        return Shown(REGISTER, leaf.value, leaf.stamp, leaf.writer)

    def _counter(self, path: str) -> Shown | None:
        keys = path_keys(path)
        last = self.last(path)
        if last <= self._floor(path):
            return None
        for at, leaf in self.registers.leaves.items():
            if (at == keys or is_below(at, keys)) and leaf.stamp >= last:
                return None
        for at, floor in self.registers.floors.items():
            if is_below(at, keys) and floor[0] >= last:
                return None
        for other in self.entries:
            at = path_keys(other)
            if "~" in at and "~" in keys:
                continue
            if is_below(at, keys) and self.last(other) >= last:
                return None
            if is_below(keys, at) and self.last(other) > last:
                return None
        total: Amount = 0
        for entry in self.entries[path].values():
            if entry.last > max(self._floor(path), entry.reset):
                total = counter.add(total, counter.excess(entry.amount, entry.base))
        return Shown(COUNTER, counter.value(total), last, "")
