"""The state as the product of its replicas' parts: whoever holds the same versions is equal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.delta import FORGOTTEN, Entry, Erase, Forgotten, Fragment, Value, Write
from shardlog.crdt.state import State
from tests.crdt.owners import (
    PATHS,
    PLACES,
    REPLICAS,
    Follower,
    News,
    Owner,
    Step,
    deal,
    dealings,
    sayings,
    snapshot,
)


def check_dealings(steps: list[Step], state_class: type[State] = State) -> None:
    """All who hold the same versions are equal, and equal to who has only the snapshots.

    Then one goes back in each replica's versions and on again, and one drops them all.
    A function of its own, so that mutants can be put to the same test.
    """
    owners, (first, second) = deal(steps, state_class)
    fresh = Follower(state_class)
    for owner in owners:
        fresh.install(owner.version, snapshot(owner.state, owner.replica), [])
        alone = state_class()
        alone.install(owner.replica, owner.version, snapshot(first.state, owner.replica, 100))
        assert alone.digest() == owner.state.digest()
        assert list(alone.rows()) == list(owner.state.rows())

    digest = first.state.digest()
    assert digest == second.state.digest() == fresh.state.digest()
    assert list(first.state.rows()) == list(second.state.rows()) == list(fresh.state.rows())
    for owner in owners:
        for old in [*reversed(owner.snapshots), *owner.snapshots[::2], owner.snapshots[-1]]:
            first.take_back(old)
    assert first.state.digest() == digest
    for owner in owners:
        fresh.drop(owner.replica)
    assert fresh.state.digest() == state_class().digest()


def check_what_is_named(said: list[News], state_class: type[State] = State) -> None:
    """What an owner is told changes what shows only at paths that it names.

    A function of its own, so that mutants can be put to the same test.
    """
    owner = Owner("east", state_class)
    for news in said:
        before = {path: owner.state.shown(path) for path in PATHS}
        owner.hear(news)
        owner.state.check_invariants()
        touched = set(owner.state.take_touched())
        assert {path for path in PATHS if before[path] != owner.state.shown(path)} <= touched


@given(sayings())
def test_an_owner_names_what_looks_different(said: list[News]) -> None:
    """Also where a register and a counter meet, or a `{}` and what is below it."""
    check_what_is_named(said)


@given(dealings())
def test_who_holds_the_same_versions_is_equal(steps: list[Step]) -> None:
    """Whatever was lost, repeated, or filled by snapshots of the owner or of another follower."""
    check_dealings(steps)


@given(dealings(), st.sampled_from(REPLICAS))
def test_a_replica_that_loses_all_leaves_nothing(steps: list[Step], replica: str) -> None:
    """What it hid shows again: the state is that of who never heard of it."""
    owners, (follower, _) = deal(steps)
    follower.drop(replica)
    others = State()
    for owner in owners:
        if owner.replica != replica:
            others.install(owner.replica, owner.version, snapshot(owner.state, owner.replica))

    assert follower.state.digest() == others.digest()
    assert list(follower.state.rows()) == list(others.rows())
    assert follower.state.held_by(replica) == []


@given(dealings(), st.sampled_from(PLACES))
def test_who_has_something_at_and_below_a_path_and_how_new_it_is(
    steps: list[Step], top: str
) -> None:
    """By replica, hidden things too, as the owners themselves would tell."""
    owners, (follower, _) = deal(steps)
    expected = {
        owner.replica: max(map(owner.state.newest_at, paths))
        for owner in owners
        if (paths := owner.state.at_and_below(top))
    }

    assert follower.state.newest_by_replica(top) == expected
    for owner in owners:
        alone = {owner.replica: expected[owner.replica]} if owner.replica in expected else {}
        assert owner.state.newest_by_replica(top) == alone


def test_a_snapshot_holds_the_rows_of_its_replica_only() -> None:
    """At an aggregator as at the owner: no register of others, not even one that hides its own."""
    state = State()
    state.merge(Fragment("east", 0, 1, ["p"], [Write("a", 1, 0, 1)], [], []))
    state.merge(Fragment("west", 0, 1, ["q"], [Write("a", 2, 0, 2), Write("b", 1, 0, 3)], [], []))
    (chunk,) = snapshot(state, "east")

    assert [(write.path, write.value) for write in chunk.writes] == [("a", 1)]
    assert chunk.writers == ["p"]
    assert snapshot(state, "nobody") == [Fragment("nobody", 0, 0, [], [], [], [])]
    assert list(state.parts) == ["east", "west"]


def test_what_a_forgotten_row_had_hidden_shows_again() -> None:
    """A floor of one replica that goes lets the older rows of others show: registers and counts."""
    state = State()
    said = [Write("r/1/a", 2, 0, "old"), Write("r/1/b", 3, 0, {})]
    state.merge(Fragment("east", 0, 1, ["p"], said, [], [Entry("r/1/n", 2, 7)]))
    state.merge(Fragment("west", 0, 1, ["q"], [], [Erase("r/1", 5, 0)], []))
    assert list(state.rows()) == []
    state.take_touched()
    state.merge(Fragment("west", 1, 2, [], [], [], [], [Forgotten("r/1", 5)]))

    assert [path for path, _ in state.rows()] == ["r/1/a", "r/1/b", "r/1/n"]
    assert set(state.take_touched()) >= {"r/1/a", "r/1/b", "r/1/n"}


def test_a_floor_that_several_hold_goes_with_the_last_of_them() -> None:
    """Until then nothing looks different, and nobody is told anything."""
    state = State()
    state.merge(Fragment("east", 0, 1, ["p"], [Write("r/1/a", 2, 0, 1)], [], []))
    for replica in ("west", "north"):
        state.merge(Fragment(replica, 0, 1, ["q"], [], [Erase("r/1", 5, 0)], []))
    state.take_touched()
    state.forget("north", "r/1", 5)
    assert state.take_touched() == []
    assert state.shown("r/1/a") is None
    state.forget("west", "r/1", 5)

    assert state.shown("r/1/a") is not None
    assert set(state.take_touched()) >= {"r/1/a"}


def test_what_a_forgotten_count_had_hidden_is_named() -> None:
    """Where a `{}` beside the count stays, too: a register below shows again."""
    state = State()
    state.merge(Fragment("east", 0, 1, ["p"], [Write("r/1", 2, 0, {})], [], [Entry("r/1", 2, 1)]))
    state.merge(Fragment("west", 0, 1, ["q"], [Write("r/1/a", 1, 0, 1)], [], []))
    assert state.shown("r/1/a") is None
    state.take_touched()
    state.forget("east", "r/1", 1)

    assert state.shown("r/1/a") is not None
    assert "r/1/a" in state.take_touched()


def test_a_late_scalar_below_a_newer_dict_names_the_counts_that_its_floor_hides() -> None:
    """The dict shows before and after; the count below it does no more."""
    state = State()
    state.put("east", Entry("r/1/n", 3, 1))
    state.merge(Fragment("east", 0, 1, ["p"], [Write("r/1", 4, 0, {})], [Erase("r/1", 2, 0)], []))
    assert state.shown("r/1/n") is not None
    state.take_touched()
    state.write("r/1", 3, "q", "late")

    assert state.shown("r/1/n") is None
    assert "r/1/n" in state.take_touched()


def test_a_write_where_another_replicas_value_shows_is_joined_to_its_own_part() -> None:
    """What the part has there and below, and does not show, is superseded as at its owner."""
    state, owner = State(), State("east")
    steps: list[tuple[str, int, Value]] = [
        ("r/1", 1, 0),
        ("r/1", 2, {}),
        ("r/1/a", 3, 0),
        ("r/1", 5, 0),
    ]
    for version, (path, stamp, value) in enumerate(steps):
        if stamp == 5:
            state.merge(Fragment("west", 0, 1, ["q"], [Write("r/1", 4, 0, 0)], [], []))
        write = Write(path, stamp, 0, value)
        state.merge(Fragment("east", version, version + 1, ["p"], [write], [], []))
        owner.write(path, stamp, "p", value)
    state.check_invariants()

    assert list(state.parts["east"].map.rows()) == list(owner.map.rows())


def test_what_is_forgotten_is_said_to_be_forgotten_however_much_went_with_it() -> None:
    """A path, what is above it and what is below it, counters too: none was erased."""
    owner = Owner("east")
    state = owner.state
    state.put("east", Entry("r/1/n", 3, 5))
    state.write("r/1/a/b", 4, "p", 1)
    state.write("r/1", 2, "p", {})
    state.take_touched()
    state.forget("east", "r/1", 9)
    touched = state.take_touched()

    assert set(touched) == {"r/1", "r/1/a/b", "r/1/n"}
    assert [state.gone_by(path) for path in touched] == [(FORGOTTEN, 9, "")] * 3


def test_a_snapshot_that_is_older_than_what_is_known_is_ignored() -> None:
    """It would take the replica back."""
    old = Fragment("east", 0, 1, ["p"], [Write("a", 1, 0, 1)], [], [])
    state = State()
    state.merge(old)
    state.merge(Fragment("east", 1, 2, ["p"], [Write("b", 1, 0, 1)], [], []))
    digest = state.digest()

    assert not state.install("east", 1, [old])
    assert state.digest() == digest


def test_a_snapshot_that_restates_a_dict_without_its_floor_takes_the_floor_away() -> None:
    """A scalar became `{}`, and the floor that it left was forgotten: nothing of it stays."""
    owner = Owner("east")
    follower = State()
    owner.state.write("r/1", 3, "p", 1)
    follower.install("east", 1, snapshot(owner.state, "east"))
    owner.state.write("r/1", 5, "p", {})
    owner.state.forget("east", "r/1", 4)
    follower.install("east", 1, snapshot(owner.state, "east"))
    owner.state.versions["east"] = 1

    assert follower.digest() == owner.state.digest()
    assert follower.map.floor_over("r/1") == 0
