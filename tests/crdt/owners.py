"""Owners of replicas who say all that can be said, and followers who hear it in their own way."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from shardlog.crdt import counter
from shardlog.crdt.delta import Amount, Entry, Forgotten, Fragment, Value
from shardlog.crdt.entry import count_on, difference, is_counted, reset_by
from shardlog.crdt.errors import LocalProtocolError
from shardlog.crdt.path import ancestors, is_within
from shardlog.crdt.retention import collapsed
from shardlog.crdt.state import Shown, State

REPLICAS = ("east", "west", "north")
PLACES = ["r", "r/1", "r/1/a", "r/1/a/b", "r/1/b", "r/2", "r/2/a", "last"]
KINDS = [
    ("scalar", "forget"),
    ("scalar", "presence"),
    ("scalar", "presence", "forget"),
    ("scalar", "erase", "forget"),
    ("presence", "erase", "forget"),
    ("count", "erase", "forget"),
    ("count", "scalar", "erase", "forget"),
    ("scalar", "presence", "erase", "count", "forget"),
]
MEETINGS = [
    ["r/1"],
    ["r/1", "r/1/a"],
    ["r", "r/1", "r/1/a"],
    ["r/1", "r/1/a", "r/1/a/b", "r/1/b"],
    ["r", "r/1", "r/1/a", "r/2", "r/2/a"],
    PLACES,
]
HEARINGS = ("again", "skip", "peer", "stale", "snapshot", "snapshot")


def _reached() -> list[str]:
    """The places, and wherever counts go on when any of them is forgotten, again and again."""
    paths, found = set[str](), set(PLACES)
    while found > paths:
        paths = found
        found = paths | {
            collapsed(path, record)
            for record in PLACES
            for path in paths
            if any(ancestors(record)) and is_within(path, record)
        }
    return sorted(paths)


PATHS = _reached()


class News(NamedTuple):
    """What an owner is told, or is to forget."""

    kind: str
    path: str
    stamp: int
    number: int


class Step(NamedTuple):
    """What an owner is told and publishes, and how each follower hears of it."""

    owner: int
    news: list[News]
    hearings: tuple[str, str]
    chunk_bytes: int


class Snapshot(NamedTuple):
    """All that a replica had in a version."""

    replica: str
    version: int
    chunks: list[Fragment]


class Owner:
    """A collector's dealings with its replica, and all the fragments that it published."""

    def __init__(self, replica: str, state_class: type[State] = State) -> None:
        self.replica = replica
        self.state = state_class(replica)
        self.fragments: list[Fragment] = []
        self.snapshots = [self._snapshot()]
        self._pieces: list[tuple[list[Forgotten], list[Entry]]] = []

    @property
    def version(self) -> int:
        """The version of all that was published."""
        return len(self.fragments)

    def hear(self, news: News) -> None:
        """Take something in; two owners may hear the same."""
        kind, path, stamp, number = news
        writer = f"{'pq'[number % 2]}-{number}"
        if kind == "count":
            self._count(path, counter.amount(number - 3), stamp)
        elif kind == "forget":
            self._forget(path, stamp)
        elif kind == "erase":
            if self.state.erase(path, stamp, writer):
                self._reset(path)
        else:
            value: Value = {} if kind == "presence" else number
            if self.state.write(path, stamp, writer, value):
                self._reset(path)

    def publish(self, bytes_max: int) -> None:
        """Say what changed, what is forgotten first."""
        for forgotten, entries in self._pieces:
            self._say(Fragment(self.replica, 0, 0, [], [], [], entries, forgotten))
        self._pieces = []
        paths, at = self.state.take_touched(), 0
        while at < len(paths):
            fragment, at = self.state.fragment(self.replica, (0, 0), paths, at, bytes_max)
            self._say(fragment)
        self.snapshots.append(self._snapshot())

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.replica, len(self.fragments), snapshot(self.state, self.replica))

    def _say(self, said: Fragment) -> None:
        _, _, _, *rest = (getattr(said, field) for field in said.__struct_fields__)
        self.fragments.append(Fragment(self.replica, self.version, self.version + 1, *rest))
        self.state.versions[self.replica] = self.version

    def _count(self, path: str, amount: Amount, stamp: int) -> None:
        old = self.state.entry(self.replica, path) or Entry(path, 0, 0)
        floor = self.state.map.floor_over(path)
        entry = count_on(old, amount, (stamp, stamp), floor, max(stamp, old.last))
        self.state.put(self.replica, entry)

    def _reset(self, top: str) -> None:
        for path in self.state.counters(top):
            old = self.state.entries(path)[self.replica]
            self.state.put(self.replica, reset_by(old, self.state.map.floor_over(path)))

    def _forget(self, record: str, cut: int) -> None:
        moved: list[Entry] = []
        if any(ancestors(record)):
            for path in self.state.counters(record):
                old = self.state.entries(path)[self.replica]
                if is_counted(old) and old.last > self.state.map.floor_over(path):
                    to = collapsed(path, record)
                    self._count(to, difference(old), old.last)
                    moved.append(self.state.entries(to)[self.replica])
        self._pieces.append(([Forgotten(record, cut)], moved))
        self.state.forget(self.replica, record, cut)


class Follower:
    """Whoever hears of several owners. After each step its state is looked over."""

    def __init__(self, state_class: type[State] = State) -> None:
        self.state = state_class()
        self._shown = self._look()

    def known(self, owner: Owner) -> int:
        """The version up to which an owner is known."""
        return self.state.versions.get(owner.replica, 0)

    def hear(self, fragment: Fragment) -> None:
        """One fragment. A gap raises and changes nothing."""
        digest = self.state.digest()
        is_gap = fragment.from_version > self.state.versions.get(fragment.replica, 0)
        try:
            self.state.merge(fragment)
        except LocalProtocolError:
            assert is_gap
            assert self.state.digest() == digest
        else:
            assert not is_gap
        self.check()

    def install(self, version: int, chunks: list[Fragment], behind: list[Fragment]) -> None:
        """A snapshot and the fragments behind it; one that is old is ignored."""
        replica = chunks[0].replica
        digest, known = self.state.digest(), self.state.versions.get(replica, 0)
        is_installed = self.state.install(replica, version, chunks)
        assert is_installed == (version >= known)
        assert is_installed or self.state.digest() == digest
        for fragment in behind:
            self.state.merge(fragment)
        self.check()

    def take_back(self, old: Snapshot) -> None:
        """Go back or on to what a replica had then."""
        self.state.versions.pop(old[0], None)
        assert self.state.install(*old)
        self.check()

    def drop(self, replica: str) -> None:
        """Go on without what a replica has."""
        self.take_back(Snapshot(replica, 0, [Fragment(replica, 0, 0, [], [], [], [])]))

    def check(self) -> None:
        """The join is that of the parts, and all that looks different was named."""
        self.state.check_invariants()
        before, self._shown = self._shown, self._look()
        touched = set(self.state.take_touched())
        assert {p for p in PATHS if before[p] != self._shown[p]} <= touched
        assert set(PATHS) >= {path for path, _ in self.state.rows()}

    def _look(self) -> dict[str, Shown | None]:
        return {path: self.state.shown(path) for path in PATHS}


def snapshot(state: State, replica: str, bytes_max: int = 1 << 20) -> list[Fragment]:
    """All chunks of a replica's snapshot, made at once."""
    chunk, after = state.snapshot(replica, None, bytes_max)
    chunks = [chunk]
    while after is not None:
        chunk, after = state.snapshot(replica, after, bytes_max)
        chunks.append(chunk)
    return chunks


@st.composite
def sayings(draw: st.DrawFn) -> list[News]:
    """What is said to one owner, at few paths that lie above one another; mostly later is newer."""
    kinds = st.sampled_from(["scalar", "scalar", "count", "presence", "erase"])
    paths = st.sampled_from(draw(st.sampled_from(MEETINGS[1:4])))
    said = draw(st.lists(st.tuples(kinds, paths, st.integers(1, 4)), min_size=2, max_size=12))
    return [News(kind, path, at + early, 5 * at + 4) for at, (kind, path, early) in enumerate(said)]


@st.composite
def dealings(draw: st.DrawFn) -> list[Step]:
    """What is said and heard, one step after the other.

    Each example has a few paths only, so that they meet, and a few kinds of news only.
    """
    kinds = st.sampled_from(draw(st.sampled_from(KINDS)))
    paths = st.sampled_from(draw(st.sampled_from(MEETINGS)))
    news = st.builds(News, kinds, paths, st.integers(1, 3), st.integers(1, 5))
    pace = draw(st.sampled_from([0, 0.3, 1]))  # whether the stamps are all alike, or rise
    hearing = st.sampled_from([*["all"] * 8, *["later"] * 3, *HEARINGS])
    steps = st.builds(
        Step,
        st.integers(0, draw(st.integers(1, 2))),
        st.lists(news, min_size=1, max_size=3),
        st.tuples(hearing, hearing),
        st.sampled_from([1, 150, 10_000]),
    )
    # A number is a mark's writer: what differs in anything else must differ in it.
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    result: list[Step] = []
    for at, step in enumerate(draw(st.lists(steps, min_size=3, max_size=12))):
        told: list[News] = []
        for kind, path, early, number in step.news:
            stamp = early + int(pace * at)
            while seen.setdefault((stamp, number), (kind, path)) != (kind, path):
                number += 5
            told.append(News(kind, path, stamp, number))
        result.append(step._replace(news=told))
    return result


def deal(steps: list[Step], state_class: type[State] = State) -> tuple[list[Owner], list[Follower]]:
    """Take all steps; then both followers hear what they have missed."""
    owners = [Owner(replica) for replica in REPLICAS]
    followers = [Follower(state_class), Follower(state_class)]
    for step in steps:
        owner = owners[step.owner]
        for news in step.news:
            owner.hear(news)
        owner.publish(step.chunk_bytes)
        for hearing, follower, other in zip(
            step.hearings, followers, reversed(followers), strict=True
        ):
            known = follower.known(owner)
            match hearing:
                case "all":
                    for fragment in owner.fragments[known:]:
                        follower.hear(fragment)
                case "again":
                    for fragment in owner.fragments[:known]:
                        follower.hear(fragment)
                case "skip":
                    for fragment in owner.fragments[known + 1 :]:
                        follower.hear(fragment)
                case "peer":
                    chunks = snapshot(other.state, owner.replica, step.chunk_bytes)
                    follower.install(other.known(owner), chunks, [])
                case "stale":
                    _, version, chunks = owner.snapshots[len(owner.snapshots) // 2]
                    follower.install(version, chunks, [])
                case "snapshot":
                    _snapshot_while_it_moves_on(owner, follower, step)
                case _:
                    assert hearing == "later"
    for owner in owners:
        chunks = snapshot(owner.state, owner.replica)
        followers[0].install(owner.version, chunks, [])
        for fragment in owner.fragments[followers[1].known(owner) :]:
            followers[1].hear(fragment)
    return owners, followers


def _snapshot_while_it_moves_on(owner: Owner, follower: Follower, step: Step) -> None:
    version = owner.version
    chunk, after = owner.state.snapshot(owner.replica, None, step.chunk_bytes)
    chunks, news = [chunk], list(step.news)
    while after is not None:
        if news:
            owner.hear(news.pop())
            owner.publish(step.chunk_bytes)
        chunk, after = owner.state.snapshot(owner.replica, after, step.chunk_bytes)
        chunks.append(chunk)
    follower.install(version, chunks, owner.fragments[version:])
