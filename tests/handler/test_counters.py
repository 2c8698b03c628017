"""Counters that are kept and added to: nothing is lost or doubled, whoever adds and whenever."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter as Counts
from typing import TYPE_CHECKING, Any

import pytest

from shardlog.crdt.counter import value
from shardlog.crdt.sketch import bucket
from shardlog.handler import ShardHandler, count, counter, distribution, erase, observe
from shardlog.handler.conflation import conflated
from shardlog.handler.counters import Counter
from tests.handler.receiver import Sequential
from tests.handler.test_handler import Puller, idle_link, log, nowhere, patient, puller
from tests.helpers import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.delta import Amount

__all__ = ["log", "patient", "puller"]


@pytest.fixture
def handler(puller: Puller) -> Iterator[ShardHandler]:
    """A handler that is open and has a collector."""
    gc.collect()  # of handlers that other tests left open
    handler = ShardHandler(puller.endpoint, "b")
    yield handler
    handler.close()


def test_what_is_added_arrives(puller: Puller, handler: ShardHandler) -> None:
    """Ints stay ints, fractions are exact, and negative numbers count down."""
    tries, spent, balance = counter("n", "tries"), counter("n", 7), counter("n", "a/b")
    for _ in range(10):
        tries.add()
        spent.add(0.1)
    balance.add(5)
    balance.add(-7)
    handler.close()
    puller.until_final()

    assert puller.total("n/tries") == 10
    assert puller.total("n/\\i7") == 1.0
    assert puller.total("n/a\\/b") == -2


def test_additions_arrive_without_close(puller: Puller, handler: ShardHandler) -> None:
    """The first is sent at once, and those that come later too."""
    tries = counter("tries")
    tries.add()
    puller.until(lambda: puller.total("tries") == 1)
    tries.add()
    puller.until(lambda: puller.total("tries") == 2)


def test_additions_and_log_calls_share_a_total(
    puller: Puller, handler: ShardHandler, log: logging.Logger
) -> None:
    """A counter is the one that `count` counts at, of the same process."""
    log.addHandler(handler)
    counter("n").add(2)
    log.info("hello", extra={"n": count(3)})
    handler.close()
    puller.until_final()

    assert puller.total("n") == 5
    assert len({report.process for report in puller.reports}) == 1


def test_observations_arrive_in_their_buckets(
    puller: Puller, handler: ShardHandler, log: logging.Logger
) -> None:
    """Those of a distribution that is kept and those of log calls are counted together."""
    log.addHandler(handler)
    spent = distribution("n", "time")
    for x in (0.21, 0.21, 0, -3):
        spent.observe(x)
    log.info("hello", extra={"n": {"time": observe(0.21)}, "m": observe(7)})
    handler.close()
    puller.until_final()

    assert puller.total(f"n/time/~{bucket(0.21)}") == 3
    assert puller.total("n/time/~0") == 1
    assert puller.total(f"n/time/~{bucket(-3)}") == 1
    assert puller.total(f"m/~{bucket(7)}") == 1


def test_what_is_too_deep_is_refused_and_all_else_arrives(
    puller: Puller, handler: ShardHandler
) -> None:
    """As in a shard, 32 keys are taken, and more are not: no collector would take such a report,
    nor any that comes behind it.
    """
    counter(*["n"] * 32).add()
    distribution(*["t"] * 32).observe(0)
    for depth in (33, 70):
        counter(*["n"] * depth).add()
        distribution(*["t"] * depth).observe(0)
    handler.close()
    puller.until_final()

    assert puller.total("/".join(["n"] * 32)) == 1
    assert puller.total("/".join([*["t"] * 32, "~0"])) == 1
    assert puller.total("shardlog/health/blade/b/refused/depth") == 4


@pytest.mark.parametrize("x", [float("nan"), float("inf"), 2**53 + 1, "text", None])
def test_what_is_no_number_is_refused_as_in_a_log_call(
    puller: Puller, handler: ShardHandler, x: Any
) -> None:
    """It is reported with where it was, and nothing is raised into the caller."""
    distribution("n").observe(x)
    distribution("n").observe(1)
    handler.close()
    puller.until_final()

    assert puller.total(f"n/~{bucket(1)}") == 1
    assert puller.total("shardlog/health/blade/b/refused/count") == 1


def test_threads_observe_and_lose_nothing(puller: Puller, handler: ShardHandler) -> None:
    """Many threads that make the counters of one distribution at once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    spent = distribution("time")

    def work() -> None:
        for at in range(500):
            spent.observe(1.05**at)

    threads = [threading.Thread(target=work) for _ in range(6)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    handler.close()
    puller.until_final()

    expected = Counts(bucket(1.05**at) for at in range(500))
    assert {at: puller.total(f"time/~{at}") for at in expected} == {
        at: 6 * number for at, number in expected.items()
    }


def test_threads_lose_nothing(puller: Puller, handler: ShardHandler) -> None:
    """Many threads at one counter, and one that makes new ones at the same path."""
    tries = counter("tries")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work() -> None:
        for at in range(5000):
            tries.add()
            if at % 50 == 0:
                counter("tries").add(-1)
                tries.add(0.5)

    threads = [threading.Thread(target=work) for _ in range(6)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    handler.close()
    puller.until_final()

    assert puller.total("tries") == 6 * (5000 - 100 + 50)


def test_signal_handler_may_add_within_an_addition(puller: Puller, handler: ShardHandler) -> None:
    """What interrupts an addition and adds at the same counter loses nothing."""
    tries, within = counter("tries"), 0

    def interrupt(*_: object) -> None:
        nonlocal within
        within += 1
        tries.add()

    before = signal.signal(signal.SIGALRM, interrupt)
    # The timer may be that of pytest-timeout, which goes on behind the loop.
    timeout = signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    added, end_s = 0, time.monotonic() + WAIT_S
    try:
        while within < 200 and time.monotonic() < end_s:
            tries.add()
            added += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timeout)
    handler.close()
    puller.until_final()

    assert within >= 200
    assert puller.total("tries") == added + within


def test_code_between_any_two_steps_may_add(puller: Puller, handler: ShardHandler) -> None:
    """A tracer that adds at every line, at its worst within an addition, loses nothing."""
    tries, traced = counter("tries"), 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal traced
        if "counters.py" in frame.f_code.co_filename and frame.f_code.co_name == "add":
            frame.f_trace_opcodes = True
            if event == "opcode":
                sys.settrace(None)
                tries.add(2)
                sys.settrace(trace)
                traced += 1
        return trace

    sys.settrace(trace)
    for _ in range(20):
        tries.add()
    sys.settrace(None)
    handler.close()
    puller.until_final()

    assert traced > 100
    assert puller.total("tries") == 20 + 2 * traced


def test_addition_while_the_thread_looks_is_not_overlooked() -> None:
    """What is added just after the thread has read a total is announced to it again."""

    class Raced(Counter):
        def total(self) -> int:
            read = super().total()
            if read < 3:
                self.add(1)
            return read

    handler = ShardHandler(nowhere(), "b")
    link = handler.link = idle_link()
    Raced("n", None).add(1)
    taken = [shard.counts for _ in range(5) for shard in link.take_shards(hurry=True)]
    handler.close()

    assert taken == [[("n", 1)], [("n", 1)], [("n", 1)]]


@pytest.mark.parametrize("newer", [3, 7])
def test_two_threads_take_each_addition_once(newer: int) -> None:
    """While an older handler closes, its thread and the next one's may take from one counter."""
    taken: list[Amount] = []
    steps_left = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal steps_left
        if frame.f_code.co_name != "take":
            return None
        frame.f_trace_opcodes = True
        steps_left -= event == "opcode"
        if steps_left == 0:
            sys.settrace(None)
            taken.append(tries.take(newer))
        return trace

    at = 0
    while steps_left == 0:
        at += 1
        steps_left = at
        tries = Counter("n", None)
        tries.add(newer)
        taken.clear()
        sys.settrace(trace)
        taken.append(tries.take(3))
        sys.settrace(None)
        assert sum(map(value, taken)) == (3 if steps_left else newer), at

    assert at > 20


def test_forked_child_counts_from_zero(puller: Puller, handler: ShardHandler) -> None:
    """What was added before belongs to the parent, also what its thread has not taken yet."""
    tries = counter("tries")
    tries.add(5)
    child = os.fork()
    if not child:
        tries.add(2)
        handler.close()
        os._exit(0)
    tries.add(10)
    os.waitpid(child, 0)
    handler.close()
    puller.until(lambda: sum(report.final for report in puller.reports) == 2)

    assert puller.total("tries") == 17
    assert len({report.process for report in puller.reports}) == 2


FORKS_IN_C = """
import ctypes, os, sys
from shardlog.handler import ShardHandler, counter, distribution, link, shell

shell.CLOSE_PATIENCE_NS = dict.fromkeys(shell.CLOSE_PATIENCE_NS, 10 * shell.SECOND)
link.CLOSE_SECONDS = 30
endpoint, case = sys.argv[1:]
tries, spent = counter("tries"), distribution("time")
if case == "no handler":
    tries.add(5)
else:
    handler = ShardHandler(endpoint, "b")
    link = handler._open()
    link._starts.clear()  # no thread as yet: none may be within Python where C forks
    tries.add(5)
    tries.is_waiting = case != "looked at"
child = ctypes.PyDLL(None).fork()
if case == "no handler":
    handler = ShardHandler(endpoint, "b")
    handler.flush()
elif child:
    link._starts.append(None)
    tries.is_waiting = False
if case == "refused" and not child:
    spent.observe("text")
tries.add(10 if child else 2)
handler.close()
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("case", ["looked at", "waits", "no handler", "refused"])
def test_child_that_was_forked_unnoticed_counts_from_its_first_step(
    case: str, puller: Puller
) -> None:
    """Where C forks, as uWSGI does, no hook runs: whatever comes first in the child is its own, and
    the parent's additions are not, whether its thread was to look at them or there was no handler.
    """
    path = os.pathsep.join(sys.path)
    script = [sys.executable, "-c", FORKS_IN_C, puller.endpoint, case]
    subprocess.run(script, env={**os.environ, "PYTHONPATH": path}, timeout=60, check=True)
    puller.until(lambda: sum(report.final for report in puller.reports) == 2)

    assert puller.total("tries") == 17
    assert puller.total("shardlog/health/blade/b/refused/count") == (case == "refused")


def test_counter_may_be_made_before_the_handler(puller: Puller) -> None:
    """What was added by then goes to the first handler, though nothing is added or logged later."""
    early = counter("early")
    early.add(3)
    handler = ShardHandler(puller.endpoint, "b")
    handler.close()
    puller.until_final()

    assert puller.total("early") == 3


def test_next_handler_goes_on(puller: Puller) -> None:
    """As after a second dictConfig: what comes after the close is counted by the next, once."""
    tries = counter("tries")
    first = ShardHandler(puller.endpoint, "b")
    tries.add(1)
    first.close()
    tries.add(10)
    second = ShardHandler(puller.endpoint, "b")
    tries.add(100)
    second.close()
    puller.until(lambda: sum(report.final for report in puller.reports) == 2)

    assert puller.total("tries") == 111


def test_of_two_handlers_one_counts(puller: Puller, handler: ShardHandler) -> None:
    """What is counted is counted once in a process, though it has another handler."""
    other = ShardHandler(puller.endpoint, "other")
    counter("tries").add()
    other.close()
    handler.close()
    puller.until_final()

    assert puller.total("tries") == 1


def test_counter_that_nobody_keeps_is_counted(puller: Puller, handler: ShardHandler) -> None:
    """It lives until it was taken, and no longer."""
    for _ in range(100):
        counter("tries").add()
    handler.close()
    puller.until_final()

    assert puller.total("tries") == 100


def test_erase_ends_what_was_added_before_it_only(
    puller: Puller, handler: ShardHandler, log: logging.Logger
) -> None:
    """However the thread comes round to it: additions and erases of a thread keep their order."""
    log.addHandler(handler)
    tries = counter("n", "tries")
    for _ in range(50):
        tries.add(3)
        log.info("again", extra={"n": erase})
        tries.add(4)
    handler.close()
    puller.until_final()
    last = max(total.generation for report in puller.reports for total in report.totals)
    newest = [
        total.amount
        for report in puller.reports
        for total in report.totals
        if total.path == "n/tries" and total.generation == last
    ]

    assert max(newest) == 4


def test_erase_at_any_step_of_the_look_at_counters_ends_what_was_added_before_it(
    log: logging.Logger,
) -> None:
    """Wherever the thread is when a log call erases: what was added by then is gone, what is added
    after it is counted.
    """
    gc.collect()
    handler = ShardHandler(nowhere(), "b")
    log.addHandler(handler)
    counters: list[Counter] = []
    at = steps_left = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal steps_left
        if "link.py" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        steps_left -= event == "opcode"
        if steps_left == 0:
            sys.settrace(None)
            log.info("again", extra={"n": erase})
            for tries in counters:
                tries.add(4)
        return trace

    while steps_left == 0:
        at += 1
        steps_left = at
        link, sequential = idle_link(), Sequential()
        handler.link = link
        counters[:] = [counter("n", key) for key in "abc"]
        for tries in counters:
            tries.add(3)
        sys.settrace(trace)
        shards = [*link.take_shards(hurry=True)]
        sys.settrace(None)
        for shard in conflated([*shards, *link.take_shards(hurry=True)]):
            sequential.apply(shard)
        expected = 3 if steps_left else 4
        assert sequential.counters() == dict.fromkeys(["n/a", "n/b", "n/c"], expected), at

    assert at > 100


@pytest.mark.parametrize(
    ("keys", "n", "reason"),
    [
        (("n",), float("nan"), "count"),
        (("n",), float("inf"), "count"),
        (("n",), 2**60, "count"),
        (("n",), "text", "count"),
        (("shardlog", "n"), 1, "reserved"),
        (("shardlog", "live"), 1, "reserved"),
        (("a", "~"), 1, "collapsed"),
        (("a", "x" * 300), 1, "key"),
        ((), 1, "key"),
        (("n",) * 33, 1, "depth"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    keys: tuple[str, ...], n: Any, reason: str, puller: Puller, handler: ShardHandler
) -> None:
    """Nothing is raised, nothing counted, and the blade's health names it."""
    counter(*keys).add(n)
    handler.close()
    puller.until_final()

    assert puller.total(f"shardlog/health/blade/b/refused/{reason}") == 1
    assert not any(
        total.path.startswith(("n", "a")) for report in puller.reports for total in report.totals
    )


def test_without_a_handler_nothing_happens() -> None:
    """Additions neither raise nor wait nor start anything where no handler is made."""
    script = (
        "import os; from shardlog.handler import counter\n"
        "tries = counter('tries')\n"
        "for _ in range(100_000): tries.add()\n"
        "tries.add(float('nan'))\n"
        "print(len(os.listdir('/proc/self/task')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["1"]


def test_what_waits_does_not_grow_with_additions() -> None:
    """Where the thread does not come round, a million additions take no more than one."""
    handler = ShardHandler(nowhere(), "b")
    tries = counter("tries")
    for _ in range(1000):
        tries.add()
    before = sys.getallocatedblocks()
    for _ in range(100_000):
        tries.add()

    assert sys.getallocatedblocks() - before < 10_000
    handler.close()
