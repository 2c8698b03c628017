"""Changes that wait for their consumer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.delta import ERASED, REGISTER
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.replication.messages import Changes, Row
from shardlog.monitor.change import ABSENT, Change
from shardlog.monitor.replica import Replica
from shardlog.monitor.watch import Watch


def row(path: str, value: Any, stamp: int) -> Row:
    if value is ABSENT:
        return Row(path, ERASED, None, stamp, -1)
    return Row(path, REGISTER, value, stamp, -1)


def change(path: str, new: Any, old: Any = ABSENT) -> Change:
    gone = "erased" if new is ABSENT else None
    return Change((path,), old, new, gone, None, 1, "register")  # type: ignore[arg-type]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, None, ABSENT])),
            st.just("take"),
        )
    )
)
def test_what_is_taken_adds_up_to_the_newest(steps: list[Any]) -> None:
    """However slow the consumer: each old side is what it knows, at most one waits per path."""
    replica, watch = Replica(), Watch()
    known: dict[Any, Any] = {}

    def take() -> None:
        taken = next(watch)
        assert known.get(taken.path, ABSENT) == taken.old
        known[taken.path] = taken.new

    for stamp, step in enumerate(steps):
        if step == "take":
            if watch.waiting:
                take()
        else:
            path, value = step
            watch.push(replica.apply(Changes([], [row(path, value, stamp)])))
            assert watch.waiting <= 3
    while watch.waiting:
        take()

    expected = {keys: shown.value for keys, shown in replica.rows("**")}
    assert {path: value for path, value in known.items() if value is not ABSENT} == expected


def test_oldest_change_is_handed_out_first() -> None:
    """A path that changes all the time keeps its place, and holds up no other."""
    watch = Watch()
    watch.push([change("hot", 1), change("cold", 1)])
    watch.push([change("hot", 2, 1)])

    assert [next(watch), next(watch)] == [change("hot", 2), change("cold", 1)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", {"a", "a/b", "a/b/c", r"\i1", "b"}),
        ("**", {"a", "a/b", "a/b/c", r"\i1", "b"}),
        ("a", {"a", "a/b", "a/b/c"}),
        ("*/b", {"a/b", "a/b/c"}),
        ("**/c", {"a/b/c"}),
        ("1", {r"\i1"}),
        ("shardlog", {"shardlog/health"}),
    ],
)
def test_pattern_selects_what_matches_and_all_below(pattern: str, expected: set[str]) -> None:
    """What shardlog itself keeps is told to those who name it."""
    replica, watch = Replica(), Watch(pattern)
    paths = ["a", "a/b", "a/b/c", r"\i1", "b", "shardlog/health"]
    watch.push(replica.apply(Changes([], [Row(p, REGISTER, 1, 1, -1) for p in paths])))
    watch.close()

    texts = {"/".join(rf"\i{k}" if isinstance(k, int) else k for k in c.path) for c in watch}
    assert texts == expected


def test_bad_pattern_is_a_config_error() -> None:
    """At once, not with the first change."""
    for pattern in (r"a\q", "a\\", "scraper-*"):
        with pytest.raises(ConfigError):
            Watch(pattern)


def test_end_hands_out_what_waits() -> None:
    """Nothing that was told before the end is lost."""
    with Watch() as watch:
        watch.push([change("a", 1)])

    assert list(watch) == [change("a", 1)]
    assert list(watch) == []


def test_waiting_thread_is_woken() -> None:
    """By a change, and by the end."""
    watch = Watch()
    seen: list[Change] = []
    thread = threading.Thread(target=lambda: seen.extend(watch))
    thread.start()
    watch.push([change("a", 1)])
    watch.close()
    thread.join(10)

    assert seen == [change("a", 1)]


def test_two_tasks_share_a_watch() -> None:
    """Each change goes to one of them, and the end to both."""

    async def main() -> list[Change]:
        watch = Watch()
        seen: list[Change] = []

        async def consume() -> None:
            async for found in watch:
                seen.append(found)

        tasks = [asyncio.create_task(consume()) for _ in range(2)]
        await asyncio.sleep(0)
        pusher = threading.Thread(target=watch.push, args=([change("a", 1), change("b", 1)],))
        pusher.start()
        while len(seen) < 2:
            await asyncio.sleep(0)
        pusher.join()
        watch.close()
        await asyncio.gather(*tasks)
        return seen

    assert asyncio.run(main()) == [change("a", 1), change("b", 1)]


def test_push_outlives_the_loop_of_a_sleeper() -> None:
    """A loop that ended under its task disturbs nobody."""

    async def main() -> None:
        sleeper = asyncio.create_task(take(watch))
        await asyncio.sleep(0)
        sleeper.cancel()

    watch = Watch()
    asyncio.run(main())
    watch.push([change("a", 1)])

    assert next(watch) == change("a", 1)


async def take(watch: Watch) -> Change:
    return await anext(watch)


def test_an_event_loop_that_is_busy_is_woken_once() -> None:
    """Whoever sleeps in a loop that does not come to it is told of one change, not of each."""

    async def consume() -> int:
        loop = asyncio.get_running_loop()
        watch = Watch()
        told = 0

        def count(*_: object, **__: object) -> None:
            nonlocal told
            told += 1

        sleeper = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        loop.call_soon_threadsafe = count  # type: ignore[method-assign, assignment]
        for n in range(100):
            watch.push([change("a", n)])
        del loop.call_soon_threadsafe
        sleeper.cancel()
        return told

    assert asyncio.run(consume()) == 1
