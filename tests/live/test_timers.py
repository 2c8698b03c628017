"""Who is due when, and how much is kept to know that."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shardlog.monitor.live.instance import Instance
from shardlog.monitor.live.properties import always, moves
from shardlog.monitor.live.timers import FEW, Timers
from shardlog.monitor.live.verdict import Verdict
from tests.live.run import Run


class Due(Instance):
    """What is due at a time."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.due_ns: int | None = None


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(1, 50)), st.integers(0, 2)),
        max_size=400,
    )
)
def test_who_is_due_is_told_in_order_however_often_that_changes(
    steps: list[tuple[int, int | None, int]],
) -> None:
    """Everybody once, at the time that was said last; and no more is kept than twice of these."""
    timers = Timers(attrgetter("due_ns"))
    all_due = [Due(name) for name in range(5)]
    now_ns = 0
    for name, in_ns, passes_ns in steps:
        due_ns = None if in_ns is None else now_ns + in_ns
        if due_ns != all_due[name].due_ns:
            all_due[name].due_ns = due_ns
            if due_ns is not None:
                timers.add(due_ns, all_due[name])
        now_ns += passes_ns
        known = [one.due_ns for one in all_due if one.due_ns is not None]
        assert timers.first_ns() == min(known, default=None)
        expected = sorted(due_ns for due_ns in known if due_ns <= now_ns)
        taken: list[int | None] = []
        while (instance := timers.take(now_ns)) is not None:
            taken.append(instance.due_ns)
            instance.due_ns = None
        assert taken == expected
        assert len(timers) <= max(FEW, 2 * len(all_due))


def test_what_is_due_much_later_takes_no_more_however_often_it_moves() -> None:
    """Each of many changes moves a deadline that is an hour ahead."""

    def goes_on(live: Any) -> Any:
        yield moves(lambda: live.n, every=3600)
        yield always(lambda: live.n % 2 == 0, broken_for=3600)

    run = Run(("", goes_on)).begin().write(0, "n", 0)
    for second in range(1, 1000):
        run.write(second, "n", second).hear(second + 0.5)
    engine = run.engine
    assert len(engine._timers) <= FEW  # pyright: ignore[reportPrivateUsage]
    assert len(engine._cut_timers) <= FEW  # pyright: ignore[reportPrivateUsage]
    assert run.pass_time(999 + 3599).condition("goes_on").verdict is Verdict.HOLDING
    assert run.pass_time(999 + 3603).condition("goes_on").verdict is Verdict.FAIL
