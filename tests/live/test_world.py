"""The tree of what shows, against a replica; who looks at it is told, and nothing is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.delta import COUNTER, ERASED, FORGOTTEN, REGISTER
from shardlog.crdt.path import path_keys, path_text
from shardlog.crdt.replication.messages import Changes, Row
from shardlog.monitor.live.world import NOTHING, Cell, Version, World
from shardlog.monitor.replica import Replica

if TYPE_CHECKING:
    from shardlog.crdt.delta import Value
    from shardlog.crdt.path import Key

WRITERS = ["scraper-1@node-1:boot:7:1:x", "spotter-1@node-2:boot:8:1:y"]
KINDS: tuple[Literal[0, 1, 2, 3], ...] = (REGISTER, COUNTER, ERASED, FORGOTTEN)
VALUES: tuple[Value, ...] = (None, True, 1, 1.0, 0.0, -0.0, float("nan"), "x", {}, [1], [True])
KEYS: st.SearchStrategy[Key] = st.sampled_from(["a", "b", 1, "1"])
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(path_text)
STAMPS = st.integers(1, 6)


def _row(path: str, kind: Literal[0, 1, 2, 3], value: Value, stamp: int, writer: int) -> Row:
    return Row(path, kind, value if kind < ERASED else None, stamp, writer)


ROWS = st.builds(
    _row, PATHS, st.sampled_from(KINDS), st.sampled_from(VALUES), STAMPS, st.sampled_from([-1, 0])
)
CHANGES = st.lists(ROWS, max_size=5).map(lambda rows: Changes(WRITERS, rows))
EVENTS = st.lists(st.one_of(CHANGES, st.lists(CHANGES, max_size=3).map(tuple)), max_size=8)
"""Deltas, and tuples of deltas that replace all."""


def take(world: World[str], event: Changes | tuple[Changes, ...], now_ns: int = 7) -> set[str]:
    """Let it happen; who was told."""
    moves = world.install(event, now_ns) if isinstance(event, tuple) else world.apply(event)
    world.check_invariants()
    return set(moves.readers)


def shown(world: World[str]) -> dict[str, str]:
    """What shows where, to the last bit."""
    found = [cell for cell in world.cells() if cell.version.shows]
    return {
        cell.path: repr((c.kind, c.value, c.stamp, c.writer))
        for cell in found
        for c in [cell.version]
    }


@given(EVENTS, st.booleans())
def test_it_shows_what_a_replica_shows(
    events: list[Changes | tuple[Changes, ...]], keeps_past: bool
) -> None:
    """Rows, and at which places anything is; also what came and went with each delta."""
    world: World[str] = World()
    world.keeps_past = keeps_past
    replica = Replica()
    for event in events:
        before = {cell for cell in world.cells() if cell.alive and cell.above}
        if isinstance(event, tuple):
            moves = world.install(event, 7)
            replica.install(event, (), 7)
        else:
            moves = world.apply(event)
            replica.apply(event)
        world.check_invariants()
        rows = replica.rows("**")
        assert shown(world) == {
            path_text(keys): repr((s.kind, s.value, s.stamp, s.writer)) for keys, s in rows
        }
        there = {keys[:length] for keys, _ in rows for length in range(1, len(keys) + 1)}
        assert {cell.keys for cell in world.cells() if cell.alive and cell.above} == there
        after = {cell for cell in world.cells() if cell.alive and cell.above}
        assert not set(moves.came) & set(moves.went)
        assert after - before <= set(moves.came) <= after
        assert before - after <= set(moves.went)
        assert not set(moves.went) & after


@given(EVENTS, st.booleans())
def test_nothing_is_left_of_what_is_gone(
    events: list[Changes | tuple[Changes, ...]], keeps_past: bool
) -> None:
    """Erased, looked away from, and behind the cut: the tree is the root alone."""
    world: World[str] = World()
    world.keeps_past = keeps_past
    looked = [world.cell(keys) for keys in (("a",), ("a", 1), ("z", "z"))]
    world.look(looked, looked, "I")
    changed: list[Cell[str]] = []
    for event in events:
        if isinstance(event, tuple):
            changed += world.install(event, 7).changed
        else:
            changed += world.apply(event).changed
    gone = [Row(path, ERASED, None, 9, 0) for path in shown(world)]
    changed += world.apply(Changes(WRITERS, gone)).changed
    world.look_away(looked, looked, "I")
    for cell in changed:
        world.forget_past(cell, 9)
    assert [*world.cells()] == [world.root]


Answer = tuple[str, bool, bool]


def answer(cell: Cell[str]) -> Answer:
    """What somebody who looks at a place can see there, but for the keys below it."""
    version = cell.version
    said = repr((version.kind, version.value, version.stamp, version.writer))
    return said if version.shows else "", cell.alive > 0, cell.alive > version.shows


@given(EVENTS)
def test_who_looks_is_told_exactly_when_that_changes(
    events: list[Changes | tuple[Changes, ...]],
) -> None:
    """Of a place: its value, whether anything is there, and keys below; of keys: which there are.

    Who looks at keys may be told although they are as before, where one came and went at once.
    """
    world: World[str] = World()
    paths = (("a",), ("b",), ("a", "b"), ("a", 1), ("a", "1"), ("a", "b", 1))
    cells = {str(keys): world.cell(keys) for keys in paths}
    for name, cell in cells.items():
        world.look([cell], [], name)
        world.look([], [cell], f"{name} keys")

    def answers() -> dict[str, object]:
        found: dict[str, object] = {name: answer(cell) for name, cell in cells.items()}
        for name, cell in cells.items():
            below = (cell.below or {}).items()
            found[f"{name} keys"] = {key for key, child in below if child.alive}
        return found

    for event in events:
        before = answers()
        told = take(world, event)
        after = answers()
        changed = {name for name in after if after[name] != before[name]}
        assert changed <= told
        rows = [
            row for part in (event if isinstance(event, tuple) else [event]) for row in part.rows
        ]
        if isinstance(event, Changes) and len({row.path for row in rows}) == len(rows) == 1:
            assert told == changed


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from("abcde")), max_size=40))
def test_looking_is_a_set_of_readers(steps: list[tuple[int, bool, str]]) -> None:
    """Looking twice is looking once; one who looked away is told no more, the others are."""
    world: World[str] = World()
    expected: dict[int, set[str]] = {at: set() for at in range(6)}
    for at, looks, reader in steps:
        cell = world.cell(("places", at))
        if looks:
            world.look([cell], [], reader)
            expected[at].add(reader)
        else:
            world.look_away([cell], [], reader)
            expected[at].discard(reader)
    for at, readers in expected.items():
        row = Row(path_text(("places", at)), REGISTER, 1, 5, 0)
        moves = world.apply(Changes(WRITERS, [row]))
        assert set(moves.readers) == readers


PAST = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from(KINDS), st.integers(0, 3)), max_size=8
)


@given(PAST, st.integers(0, 25), st.integers(0, 25))
def test_what_showed_is_known_back_to_the_cut(
    steps: list[tuple[int, Literal[0, 1, 2, 3], int]], cut_ns: int, at_ns: int
) -> None:
    """As if all versions were kept, for times that are not before the cut."""
    world: World[str] = World()
    world.keeps_past = True
    cell = world.cell(("a",))
    world.look([cell], [cell], "I")
    versions = [NOTHING]
    toggles: list[tuple[int, bool]] = [(0, False)]
    for stamp, kind, value in sorted(steps, key=lambda step: step[0]):
        row = _row("a", kind, value, stamp, 0)
        version = Version(stamp, kind, row.value, WRITERS[0])
        if version.shows or versions[-1].shows:
            versions.append(version)
            if toggles[-1][1] != version.shows:
                toggles.append((stamp, version.shows))
        world.apply(Changes(WRITERS, [row]))
    world.forget_past(cell, cut_ns)
    world.check_invariants()
    if at_ns < cut_ns:
        return
    earlier = [version for version in versions if version.stamp <= at_ns]
    later = [version for version in versions if version.stamp > at_ns]
    assert cell.version_at(at_ns)[:3] == earlier[-1][:3]
    if len({version.stamp for version in versions}) == len(versions):
        assert cell.version_after(at_ns)[:3] == (later[0] if later else versions[-1])[:3]
    if len(toggles) == 1 or at_ns >= toggles[-2][0]:
        assert cell.is_there_at(at_ns) == [there for ns, there in toggles if ns <= at_ns][-1]


def test_keys_of_paths_are_as_written() -> None:
    """A str key and an int key of one text are two places."""
    world: World[str] = World()
    world.apply(Changes(WRITERS, [Row(r"a/\i1", REGISTER, 1, 5, 0), Row("a/1", REGISTER, 2, 5, 0)]))
    assert world.cell(("a", 1)).version.value == 1
    assert world.cell(path_keys("a/1")).version.value == 2
