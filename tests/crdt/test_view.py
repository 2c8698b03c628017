"""What shows, as messages: each fits into a frame, whatever is in the state."""

from __future__ import annotations

import pytest

from shardlog.crdt.counter import PART_MAX
from shardlog.crdt.delta import Amount, Entry
from shardlog.crdt.replication.messages import Changes, Delta, SnapshotRequest
from shardlog.crdt.replication.view import View
from shardlog.crdt.state import State
from shardlog.crdt.wire.codec import decode_published, encode, encode_published
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL, FRAME_BYTES_MAX


def view_of(state: State) -> View:
    return View(state, "node", "epoch", interval_ms=1000, bytes_max=FRAME_BYTES_GOAL)


@pytest.mark.parametrize("part", [PART_MAX, (0, 0, PART_MAX, 0)], ids=["above", "below"])
def test_a_sum_beyond_64_bits_is_shown_as_the_nearest_float(part: Amount) -> None:
    """Each replica's entry fits, their sum does not: it is told on, and nobody fails to send it."""
    state = State()
    for replica in ("east", "west", "north"):
        state.put(replica, Entry("n", 2, part))
    (publish,) = view_of(state).publish(state.take_touched())
    delta = decode_published(encode_published(publish.message))
    assert isinstance(delta, Delta)
    assert isinstance(delta.body, Changes)
    assert delta.body.rows[0].value == pytest.approx(state.total("n"))


def test_names_of_writers_count_towards_the_size_of_a_message() -> None:
    """Thousands of processes with long names: no delta, chunk or fragment outgrows a frame."""
    state = State("east")
    for i in range(10_000):
        state.write(f"r/{i}", 1, f"{i}@{'x' * 500}", i)
    view = view_of(state)
    frames = [encode_published(p.message) for p in view.publish(state.take_touched())]
    frames.append(encode(view.answer(b"peer", SnapshotRequest(1, None)).message))
    fragment, _ = state.snapshot("east", None, FRAME_BYTES_GOAL)
    frames.append(encode(Delta("s", "e", 0, 1, fragment)))
    assert max(map(len, frames)) < FRAME_BYTES_MAX // 2


def test_what_is_forgotten_at_once_fits_into_frames_however_much_it_is() -> None:
    """Ten thousand records that go on at one path travel in messages that say so."""
    state = State()
    for i in range(10_000):
        state.put("east", Entry(f"r/{i}-{'x' * 200}/n", 2, 1))
    state.take_touched()
    for path in list(state.counting):
        state.forget("east", path.removesuffix("/n"), 2)
    state.put("east", Entry("r/~/n", 2, 10_000))
    frames = [encode_published(p.message) for p in view_of(state).publish(state.take_touched())]
    assert max(map(len, frames)) < FRAME_BYTES_MAX
    assert len(frames) > 5
    bodies = [message.body for frame in frames if isinstance(message := told(frame), Delta)]
    more = [body.more for body in bodies if isinstance(body, Changes)]
    assert more == [True] * (len(frames) - 1) + [False]


def told(frame: bytes) -> object:
    return decode_published(frame)


def test_what_goes_on_twice_in_one_batch_is_told_at_once() -> None:
    """A record within a record is forgotten, and then the other: three paths, one message."""
    state = State()
    state.put("east", Entry("a/1/b/2/n", 2, 5))
    state.put("east", Entry("a/1/b/3/n", 2, 5))
    state.take_touched()
    view = view_of(state)
    state.forget("east", "a/1/b/2", 2)
    state.put("east", Entry("a/1/b/~/n", 2, 5))
    state.forget("east", "a/1", 2)
    state.put("east", Entry("a/~/b/~/n", 2, 5))
    state.put("east", Entry("a/~/b/3/n", 2, 5))
    state.put("east", Entry("a/4/n", 2, 5))
    (publish,) = view.publish(state.take_touched())
    assert isinstance(publish.message, Delta)
    assert isinstance(publish.message.body, Changes)
    assert len(publish.message.body.rows) == 6
    small = View(state, "node", "epoch", interval_ms=1000, bytes_max=1)
    paths = ["a/1/b/2/n", "a/4/n", "a/1/b/~/n", "a/1/b/3/n", "a/~/b/~/n", "a/~/b/3/n"]
    messages = [publish.message for publish in small.publish(paths)]
    bodies = [message.body for message in messages if isinstance(message, Delta)]
    assert sorted(len(body.rows) for body in bodies if isinstance(body, Changes)) == [1, 5]
