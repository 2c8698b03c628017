"""How a process says that it is: declared tasks, what waits, what was refused."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from shardlog.handler import ShardHandler, busy
from shardlog.handler.condition import LOOK_NS, TELL_NS, Condition
from shardlog.handler.tasks import SECOND, SECONDS_MAX, current
from tests.handler.receiver import Receiver, connected, flush, outbox
from tests.handler.test_handler import Puller, log, patient, puller

if TYPE_CHECKING:
    from shardlog.handler.outbox import Outbox

__all__ = ["log", "patient", "puller"]  # fixtures


def later(seconds: float) -> int:
    return time.monotonic_ns() + round(seconds * SECOND)


def fail_in_task() -> None:
    with busy("rendering", minutes=1, seconds=30):
        task = current(later(0))
        assert task is not None
        assert (task.what, task.until_ns - task.since_ns) == ("rendering", 90 * SECOND)
        raise KeyError


def test_task_is_on_its_way_in_its_block_and_has_a_bound() -> None:
    """Also where an exception ends it."""
    assert current(later(0)) is None
    with pytest.raises(KeyError):
        fail_in_task()
    assert current(later(0)) is None


def test_of_several_tasks_the_last_to_end_shows_unless_one_is_late() -> None:
    """Whatever the order in which they began, and in whichever threads."""
    done = threading.Event()

    def work() -> None:
        with busy("short", seconds=10):
            done.wait()

    with busy("long", minutes=10):
        thread = threading.Thread(target=work)
        thread.start()
        with busy("longer", minutes=20):
            while current(later(15)) == current(later(0)):  # until the thread has declared
                time.sleep(0.01)
            shown = [current(later(seconds)) for seconds in (0, 15, 1000)]
        done.set()
        thread.join()

    assert [task and task.what for task in shown] == ["longer", "short", "short"]
    assert current(later(0)) is None


@pytest.mark.parametrize(
    ("time_said", "seconds"),
    [
        ({}, 0),
        ({"minutes": -1}, 0),
        ({"minutes": float("nan")}, 0),
        ({"seconds": "ten"}, 0),
        ({"seconds": None}, 0),
        ({"minutes": float("inf")}, SECONDS_MAX),
    ],
)
def test_time_that_is_none_is_late_at_once_and_raises_nothing(
    time_said: dict[str, Any], seconds: int
) -> None:
    """A blade is not broken by what it says of itself."""
    odd: Any = object()
    with busy("x" * 1000, **time_said), busy(odd, seconds=SECONDS_MAX):
        task = current(later(-1) if seconds else later(0))
        assert task is not None
        assert (task.until_ns - task.since_ns) == seconds * SECOND
        assert len(task.what) <= 200


def say(condition: Condition, box: Outbox, at_ns: int, queue: int = 0) -> dict[str, Any]:
    """What it says at a time, by key."""
    condition.tell(box, queue, at_ns, at_ns)
    receiver = Receiver()
    reports = flush(box, at_ns, at_ns)
    for report in reports:
        receiver.receive(report)
    top = "shardlog/presence/blade/p/"
    return {
        write.path.removeprefix(top): write.value
        for report in reports
        for write in report.writes
        if write.path.startswith(top)
    }


def test_what_waits_is_said_by_its_peak_and_not_often() -> None:
    """Nothing where nothing has changed; in between the highest is kept."""
    box = connected(outbox())
    condition = Condition()
    start = later(0)
    assert say(condition, box, start, queue=3)["queue"] == 3
    box.refuse("size", 2, "x", start)
    assert "queue" not in say(condition, box, start + LOOK_NS, queue=70)
    said = say(condition, box, start + TELL_NS, queue=1)
    assert (said["queue"], said["refused"]) == (70, 2)
    assert not {"queue", "refused"} & {*say(condition, box, start + 2 * TELL_NS, queue=70)}
    assert say(condition, box, start + 3 * TELL_NS)["queue"] == 0


def test_declared_task_is_said_and_taken_back() -> None:
    """With its bound, and that it is over; once each."""
    box = connected(outbox())
    condition = Condition()
    start = later(0)
    assert "busy" not in say(condition, box, start)
    with busy("rendering", minutes=1):
        what, since_ns, until_ns, is_late = say(condition, box, start + 1)["busy"]
        assert (what, until_ns - since_ns, is_late) == ("rendering", 60 * SECOND, False)
        assert "busy" not in say(condition, box, start + 2)
        assert say(condition, box, start + 70 * SECOND)["busy"][3] is True
    assert say(condition, box, start + 71 * SECOND)["busy"] is None


def test_new_process_says_all_anew() -> None:
    """After a step of the clock, of another id nothing was said."""
    condition = Condition()
    start = later(0)
    with busy("rendering", minutes=1):
        first = say(condition, connected(outbox()), start)
        second = say(condition, connected(outbox()), start + 1)

    assert first["busy"] == second["busy"]


def test_condition_is_said_again_after_a_break() -> None:
    """As all of its presence is: another collector may be there."""
    box = connected(outbox())
    condition = Condition()
    start = later(0)
    say(condition, box, start, queue=3)
    box.receive_disconnected()
    box.receive_connected(start + 1)
    assert say(condition, box, start + 2)["queue"] == 3


def test_busy_wakes_a_thread_that_rests(puller: Puller, log: logging.Logger) -> None:
    """It arrives without a log call, and before any; with the version that the handler was told."""
    handler = ShardHandler(puller.endpoint, "b", version="scrape_pages==1.4")
    log.addHandler(handler)

    def shows(key: str) -> Any:
        process = next((report.process for report in puller.reports), None)
        return puller.value(f"shardlog/presence/b/{process}/{key}")

    with busy("rendering", minutes=1):
        puller.until(lambda: shows("busy") is not None)
        assert shows("busy")[0] == "rendering"
    puller.until(lambda: shows("busy") is None)
    assert shows("version") == "scrape_pages==1.4"
