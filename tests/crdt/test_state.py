"""Registers and counters of several replicas in one state, against brute force."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shardlog.crdt import counter
from shardlog.crdt.delta import (
    COUNTER,
    ERASED,
    FORGOTTEN,
    Amount,
    Entry,
    Erase,
    Forgotten,
    Fragment,
    Write,
)
from shardlog.crdt.errors import LocalProtocolError
from shardlog.crdt.path import Pattern, is_within
from shardlog.crdt.state import State
from tests.crdt.fragments import (
    COLLAPSED_PLACES,
    PATHS,
    REPLICAS,
    Brute,
    joined,
    merged,
    ops_in,
    streams,
)
from tests.crdt.histories import apply
from tests.crdt.owners import snapshot


def check_views(fragments: list[Fragment], state_class: type[State] = State) -> None:
    """After every fragment: what shows is what must, and all that changed was named."""
    paths = sorted({*PATHS, *COLLAPSED_PLACES[0]})
    state = state_class()
    before = {path: state.shown(path) for path in paths}
    for count, fragment in enumerate(fragments, start=1):
        state.merge(fragment)
        state.check_invariants()
        brute = Brute(fragments[:count])
        after = {path: state.shown(path) for path in paths}
        touched = state.take_touched()

        assert after == {path: brute.shown(path) for path in paths}
        for path in paths:
            assert state.total(path) == counter.value(brute.amount(path))
        assert {path for path in paths if before[path] != after[path]} <= set(touched)
        assert len(touched) == len(set(touched))
        before = after
    assert state.take_touched() == []


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Fragment], list[Fragment]]:
    """Streams, and what of them arrives: windows of versions, old, overlapping or too new."""
    fragments = draw(streams())
    windows: list[Fragment] = []
    for _ in range(draw(st.integers(0, 8))):
        replica = draw(st.sampled_from(REPLICAS))
        own = [f for f in fragments if f.replica == replica]
        if own:
            start = draw(st.integers(0, len(own) - 1))
            windows.append(joined(own[start : draw(st.integers(start + 1, len(own)))]))
    for replica in draw(st.permutations(REPLICAS)):
        own = [f for f in fragments if f.replica == replica]
        if own:
            windows.append(joined(own))
    return fragments, windows


def check_deliveries(
    fragments: list[Fragment], windows: list[Fragment], state_class: type[State] = State
) -> None:
    """Windows apply iff from <= known < to; after all of them the state is as if in order."""
    state = state_class()
    known = dict.fromkeys(REPLICAS, 0)
    for window in windows:
        digest = state.digest()
        is_gap = known[window.replica] < min(window.from_version, window.to_version)
        try:
            state.merge(window)
        except LocalProtocolError:
            assert is_gap
            assert state.digest() == digest
            continue
        assert not is_gap
        state.check_invariants()
        if window.to_version <= known[window.replica]:
            assert state.digest() == digest
        known[window.replica] = max(known[window.replica], window.to_version)

    assert state.versions == {replica: v for replica, v in known.items() if v}
    assert state.digest() == merged(fragments).digest()


@given(streams())
def test_what_shows_is_what_the_rules_say(fragments: list[Fragment]) -> None:
    """Where registers and counters meet, always and everywhere; and touched is complete."""
    check_views(fragments)


@given(streams(places=COLLAPSED_PLACES))
def test_what_shows_of_forgotten_records_is_what_the_rules_say(fragments: list[Fragment]) -> None:
    """Collapsed counters beside each other, below others, and where somebody wrote above them."""
    check_views(fragments)


@given(deliveries())
def test_windows_of_versions_merge_in_any_order(
    delivery: tuple[list[Fragment], list[Fragment]],
) -> None:
    """A repetition changes nothing, a gap raises and changes nothing, an overlap applies."""
    check_deliveries(*delivery)


@given(streams(), st.randoms(use_true_random=False))
def test_replicas_interleave_in_any_way(fragments: list[Fragment], random: Random) -> None:
    """How the streams of two replicas are woven together leaves no trace."""
    queues = {r: [f for f in fragments if f.replica == r] for r in REPLICAS}
    woven: list[Fragment] = []
    while any(queues.values()):
        replica = random.choice([r for r in REPLICAS if queues[r]])
        woven.append(queues[replica].pop(0))

    assert merged(woven).digest() == merged(fragments).digest()
    assert list(merged(woven).rows()) == list(merged(fragments).rows())


@given(streams(), st.data())
def test_order_within_a_state_without_versions(
    fragments: list[Fragment], data: st.DataObject
) -> None:
    """Writes, erases and newest entries put in any order: what shows does not depend on it."""
    entries = {(f.replica, e.path): e for f in fragments for e in f.entries}
    state = State()
    steps: list[Callable[[], object]] = [
        *(partial(apply, op, state) for op in ops_in(fragments)),
        *(partial(state.put, replica, entry) for (replica, _), entry in entries.items()),
    ]
    for step in data.draw(st.permutations(steps)):
        step()

    assert dict(state.rows()) == dict(merged(fragments).rows())


@given(streams())
def test_rows_are_sorted_and_a_subtree_is_a_part_of_them(fragments: list[Fragment]) -> None:
    """`rows()` has each path once, sorted; `rows(top)` is what of it lies at or below the top."""
    state = merged(fragments)
    rows = list(state.rows())

    assert [path for path, _ in rows] == sorted({path for path, _ in rows})
    assert dict(rows) == {p: shown for p in PATHS if (shown := state.shown(p)) is not None}
    for top in PATHS:
        assert list(state.rows(top)) == [row for row in rows if is_within(row[0], top)]


@given(streams(), st.sampled_from(["**", "*", "*/*", "a/**", "**/b", "a/*/b", "a", "a/b", "c/*"]))
def test_total_is_the_sum_of_the_counters_that_show(
    fragments: list[Fragment], pattern: str
) -> None:
    """A total is the exact sum over the matching paths, floats included; no match is 0."""
    brute = Brute(fragments)
    expected = counter.value(0)
    total: Amount = 0
    for path in PATHS:
        if Pattern(pattern, collapsed=True).matches(path):
            total = counter.add(total, brute.amount(path))
    expected = counter.value(total)

    assert merged(fragments).total(pattern) == expected
    assert type(merged(fragments).total(pattern)) is type(expected)


@st.composite
def takings(
    draw: st.DrawFn,
) -> tuple[list[Fragment], list[Fragment], int, list[tuple[int, int]], int]:
    """All of one replica, all of another, and how the first's snapshot is taken.

    That is: the version at the first chunk; per chunk its limit in bytes and how many fragments the
    source merges behind it; the version that the taker knows already, if it is so far.
    """
    fragments = draw(streams(("east",)))
    chunk = st.tuples(st.sampled_from([1, 150, 10_000]), st.integers(0, 2))
    return (
        fragments,
        draw(streams(("west",))),
        draw(st.integers(0, len(fragments))),
        draw(st.lists(chunk, max_size=6)),
        draw(st.integers(0, len(fragments))),
    )


def check_snapshot(
    fragments: list[Fragment],
    others: list[Fragment],
    version: int,
    plan: list[tuple[int, int]],
    known: int,
    state_class: type[State] = State,
) -> None:
    """The chunks and the fragments behind the version of the first are all there is."""
    source = merged(others + fragments[:version], state_class)
    now = version
    chunks: list[Fragment] = []
    after: str | None = None
    while not chunks or after is not None:
        bytes_max, more = plan[len(chunks)] if len(chunks) < len(plan) else (10_000, 0)
        chunk, after = source.snapshot("east", after, bytes_max)
        chunks.append(chunk)
        for fragment in fragments[now : now + more]:
            source.merge(fragment)
            now += 1
    taker = merged(others + fragments[: min(known, version)], state_class)
    taker.install("east", chunks[0].to_version, chunks)
    for fragment in fragments[version:]:
        taker.merge(fragment)
    taker.check_invariants()

    assert chunks[0].to_version == version
    assert taker.digest() == merged(others + fragments).digest()


@given(takings())
def test_a_snapshot_and_the_deltas_behind_it_equal_all_deltas(
    taking: tuple[list[Fragment], list[Fragment], int, list[tuple[int, int]], int],
) -> None:
    """I5: chunks made while the source moves on, then the deltas behind the first chunk's version.

    Whoever takes it may be empty or know an earlier version, and knows another replica too.
    """
    check_snapshot(*taking)


@given(streams(("east",)), st.integers(1, 3))
def test_fragments_of_what_was_touched_carry_all_news(
    fragments: list[Fragment], batch: int
) -> None:
    """What is stored at the touched paths is a delta: who merges all of them has the same state."""
    source, taker = State(), State()
    for start in range(0, len(fragments), batch):
        for fragment in fragments[start : start + batch]:
            source.merge(fragment)
        versions = (taker.versions.get("east", 0), source.versions["east"])
        touched = source.take_touched()
        delta, end = source.fragment("east", versions, touched, 0, 1 << 20)
        assert end == len(touched)
        taker.merge(delta)

    assert taker.digest() == source.digest()


@given(streams(("east",)))
def test_gone_by_names_what_took_a_scalar_away(fragments: list[Fragment]) -> None:
    """When a write or an erase hides a scalar, `gone_by` names it."""
    state = State()
    for op in ops_in(fragments):
        before = [path for path, shown in state.rows() if shown.value != {}]
        apply(op, state)
        for path in before:
            if state.shown(path) is None:
                assert state.gone_by(path) == (ERASED, *op.mark)


def test_an_entry_that_a_snapshot_lacks_is_removed() -> None:
    """A snapshot replaces its replica's entries; those of others stay."""
    state = State()
    state.put("east", Entry("a/x", 1, 5))
    state.put("east", Entry("a/y", 1, 7))
    state.put("west", Entry("a/x", 1, 1))
    state.take_touched()
    state.install("east", 3, [Fragment("east", 0, 3, [], [], [], [Entry("a/y", 2, 8)])])

    assert state.total("a/*") == 9
    assert set(state.take_touched()) == {"a/x", "a/y"}
    assert state.versions == {"east": 3}


def test_a_chunk_holds_something_however_small_its_limit() -> None:
    """Chunks go on until the end for any limit: one path at least is in each."""
    state = State("east")
    for path in "abc":
        state.write(path, 1, "p", "x")
    chunks: list[list[str]] = []
    after: str | None = None
    while not chunks or after is not None:
        chunk, after = state.snapshot("east", after, 0)
        chunks.append([write.path for write in chunk.writes])

    assert [path for chunk in chunks for path in chunk] == ["a", "b", "c"]


@pytest.mark.parametrize("bytes_max", [500, 2000, 20_000])
def test_a_chunk_keeps_to_its_limit_unless_it_is_one_path(bytes_max: int) -> None:
    """Whatever values lie side by side: all paths are in some chunk, none is in two."""
    state, rng = State("east"), Random(7)
    for n in range(700):
        text = "x" * rng.choice([0, 10, 100, 3000 if n % 50 == 0 else 1])
        state.write(f"r/{n}", n + 1, f"p{n % 9}", text)
        state.put("east", Entry(f"c/{n}", n + 1, n))
    paths: list[str] = []
    for chunk in snapshot(state, "east", bytes_max):
        rows = [write.path for write in chunk.writes] + [entry.path for entry in chunk.entries]
        envelope = len(msgspec.msgpack.encode(replace(chunk, writers=[], writes=[], entries=[])))
        assert len(msgspec.msgpack.encode(chunk)) <= bytes_max + envelope or len(rows) == 1
        paths += rows

    assert sorted(paths) == list(state.paths())


def test_a_new_part_is_what_its_rows_are_one_by_one() -> None:
    """Rows that meet one another, or come twice, too; what meets nothing is taken in at once."""
    writes = [
        Write("r/1/a", 5, 0, "new"),
        Write("r/1/a", 3, 0, "old"),
        Write("r/1/b", 4, 0, "above"),
        Write("r/1/b/c", 6, 0, "newer"),
        Write("r/1/b/d", 2, 0, "dominated"),
        Write("r/1/n", 4, 0, "beside a count"),
        Write("r/2/x", 3, 0, "erased"),
        Write("r/3/y", 3, 0, "shows"),
        Write("r/4/z", 3, 0, {}),
        Write(r"r/5\/6/e", 3, 0, "a slash in a key"),
    ]
    entries = [Entry("r/1/n", 7, 1), Entry("r/3/m", 7, 1), Entry("r/3/m/k", 8, 1)]
    rows = Fragment("east", 0, 1, ["p"], writes, [Erase("r/2", 4, 0)], entries)
    west = Fragment("west", 0, 1, ["q"], [Write("r/3/y/w", 1, 0, 1)], [], [Entry("r/4", 2, 1)])
    for before in ([], [west]):
        straight, late = merged(before), merged(before)
        straight.merge(rows)
        late.install("east", 1, [rows])
        late.check_invariants()

        assert late.digest() == straight.digest()
        assert list(late.rows()) == list(straight.rows())
        assert set(late.take_touched()) >= {path for path, _ in straight.rows()}


@pytest.mark.parametrize("order", ["floor first", "counter first"])
def test_a_floor_below_hides_an_older_counter(order: str) -> None:
    """An erase below an older counter makes a dict of that place, whichever comes first."""
    state = State()
    if order == "floor first":
        state.erase("a/b", 5, "p")
    state.put("east", Entry("a", 3, 1))
    if order == "counter first":
        state.erase("a/b", 5, "p")

    assert state.shown("a") is None


def test_collapsed_counters_of_different_shapes_do_not_hide_each_other() -> None:
    """They come from different records: each was visible there, and all go on."""
    state = State()
    state.put("east", Entry("r/~/a", 3, 5))
    state.put("west", Entry("r/~/a/b", 4, 7))
    state.put("west", Entry("r/~", 2, 1))
    state.check_invariants()

    assert [state.total(p) for p in ("r/*/a", "r/*/a/b", "r/*", "r/**")] == [5, 7, 1, 13]


def test_what_a_replica_forgets_is_its_own_and_a_snapshot_says_it_too() -> None:
    """Others' rows stay, later ones too; who missed it in a gap drops the same by the snapshot."""
    east = [
        Fragment("east", 0, 1, ["p"], [Write("r/1/a", 3, 0, 1)], [], [Entry("r/1/n", 3, 5)]),
        Fragment("east", 1, 2, [], [], [], [Entry("r/~/n", 3, 5)], [Forgotten("r/1", 3)]),
        Fragment("east", 2, 3, ["p"], [Write("r/1/c", 9, 0, 1)], [], []),
    ]
    west = Fragment("west", 0, 1, ["q"], [Write("r/1/b", 2, 0, 1)], [], [Entry("r/1/n", 2, 7)])
    straight, late = merged([west, *east]), merged([west, east[0]])
    late.take_touched()
    chunk, _ = merged(east).snapshot("east", None, 1 << 20)
    late.install("east", chunk.to_version, [chunk])

    assert [path for path, _ in straight.rows()] == ["r/1/b", "r/1/c", "r/1/n", "r/~/n"]
    assert straight.total("r/*/n") == 12
    assert late.digest() == straight.digest()
    assert "r/1/a" in late.take_touched()
    assert late.gone_by("r/1/a") == (FORGOTTEN, 3, "")


def test_a_counter_of_several_replicas_shows_their_sum() -> None:
    """Entries add up; those that a floor hides are left out until their owner counts again."""
    state = State()
    state.put("east", Entry("a", 3, 5))
    state.put("west", Entry("a", 7, (2, 500_000_000, 0, 0)))
    assert state.total("a") == 7.5

    state.erase("a", 4, "p")
    assert state.total("a") == 2.5
    assert [(path, shown.kind) for path, shown in state.rows()] == [("a", COUNTER)]

    state.merge(Fragment("x", 0, 1, ["p"], [Write("a", 8, 0, "text")], [Erase("b", 1, 0)], []))
    assert state.total("a") == 0
    assert state.total("nothing/*") == 0
