"""Who asks waits; and reads what shows from another thread than the one that judges."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from shardlog.crdt.errors import ConfigError
from shardlog.monitor.follow import Inbox
from shardlog.monitor.live import (
    LiveFailure,
    LiveUnknown,
    always,
    eventually,
    moves,
    plain,
    sometimes,
    total,
)
from shardlog.monitor.live.eager import Eager
from shardlog.monitor.live.properties import TAKER
from shardlog.monitor.live.session import Followed, Session
from shardlog.monitor.live.verdict import Verdict
from tests.live.events import heard, moved

if TYPE_CHECKING:
    from collections.abc import Generator

LATENESS_MS = 200


class Cluster:
    """A node that is followed, and what is asked of it."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.source = Followed(self.inbox)
        self.session = Session([], self.source, lateness_ms=LATENESS_MS)
        self.write_all()
        self.beat()

    def write_all(self, **values: Any) -> None:
        """All that shows is this."""
        now_ns = self.source.now_ns()
        self.inbox.install([moved(now_ns, **values).changes], [], now_ns)

    def write(self, **values: Any) -> None:
        """These change, at once."""
        now_ns = self.source.now_ns()
        self.inbox.apply(moved(now_ns, **values).changes, now_ns)

    def beat(self) -> None:
        """All hosts have told all."""
        now_ns = self.source.now_ns()
        self.inbox.hear(heard(now_ns).heartbeat, now_ns)


@contextmanager
def asking() -> Generator[tuple[Cluster, Eager]]:
    """A cluster, and a taker for all that is asked for in the block."""
    cluster = Cluster()
    with cluster.session:
        cluster.session.wait_for(lambda engine: not engine.doubt and bool(engine.hosts.known))
        taker = Eager(cluster.session, cluster.source.now_ns, LATENESS_MS)
        token = TAKER.set(taker)
        try:
            yield cluster, taker
        finally:
            TAKER.reset(token)


def test_a_change_in_another_thread_ends_the_waiting() -> None:
    """And what the predicate gave is given back."""
    with asking() as (cluster, taker):
        timer = threading.Timer(0.05, cluster.write, kwargs={"a": 7})
        timer.start()
        assert eventually(lambda: taker.live.a, within=60) == 7
        timer.join()


def test_what_shows_is_read_as_a_whole_while_it_changes() -> None:
    """Two values that always change together never differ, nor do their keys come apart."""
    with asking() as (cluster, taker):
        is_over = threading.Event()

        def write() -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                cluster.write(**{"x/a": number, "x/b": number, f"y/{number % 50}": number})
                if number % 50 == 0:
                    cluster.write_all(**{"x/a": number, "x/b": number})
                time.sleep(0)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            eventually(lambda: taker.live.x, within=60)
            x, seen = taker.live.x, set[int]()
            end_s = time.monotonic() + 1.5
            while time.monotonic() < end_s:
                both = plain(x)
                assert both["a"] == both["b"]
                assert x == {"a": x.a, "b": x.a} or x.a != both["a"]
                assert len([*taker.live.y]) <= 50
                assert total(taker.live, "y/*") == 0
                assert repr(taker.live)
                seen.add(both["a"])
            assert len(seen) > 1
        finally:
            is_over.set()
            thread.join()


def test_a_place_that_went_and_came_is_the_same_place() -> None:
    """Whoever holds it looks at what is there now."""
    with asking() as (cluster, taker):
        leaf = taker.live.x.y
        eventually(lambda: not leaf, within=60)
        for _ in range(2):
            cluster.write(**{"x/y/z": 1})
            assert eventually(lambda: leaf.z == 1, within=60) is True
            cluster.write_all()
            assert eventually(lambda: not leaf, within=60) is True


def test_evidence_that_is_missing_is_waited_for_and_then_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure it is only once all is there."""
    with asking() as (cluster, taker):
        cluster.inbox.trust(is_whole=True, doubt="a gap", now_ns=cluster.source.now_ns())
        cluster.session.wait_for(lambda engine: bool(engine.doubt))
        with monkeypatch.context() as patch:
            patch.setattr("shardlog.monitor.live.eager.PATIENCE_S", 0.1)
            with pytest.raises(LiveUnknown, match="BLIND: a gap"):
                eventually(lambda: taker.live.a, within=0.1)
        cluster.inbox.trust(is_whole=True, doubt="", now_ns=cluster.source.now_ns())
        with pytest.raises(LiveFailure, match=r"not within 0\.1 s"):
            eventually(lambda: taker.live.a, within=0.1)


def test_what_holds_and_is_not_judged_to_its_end_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host tells no more: whether it held for all the time nobody can say."""
    monkeypatch.setattr("shardlog.monitor.live.eager.PATIENCE_S", 0.1)
    with asking() as (cluster, taker):
        cluster.write(a=1)
        is_holding = threading.Event()

        def beat() -> None:
            while not is_holding.is_set():
                cluster.beat()
                engine = cluster.session.read
                if engine(lambda e: any(g.verdict() is Verdict.HOLDING for g in e.groups.values())):
                    is_holding.set()

        thread = threading.Thread(target=beat)
        thread.start()
        with pytest.raises(LiveUnknown, match="HOLDING: not all hosts have told up to its end"):
            always(lambda: taker.live.a == 1, during=2)
        thread.join()


def test_what_is_asked_for_amid_a_doubt_is_watched_behind_it() -> None:
    """For as long as it is to be, and judged: though that would have been over meanwhile."""
    with asking() as (cluster, taker):
        cluster.write(a=1)
        cluster.inbox.trust(is_whole=True, doubt="a gap", now_ns=cluster.source.now_ns())
        is_over = threading.Event()

        def heal() -> None:
            for beat in range(10_000):
                cluster.beat()
                if beat == 30:
                    now_ns = cluster.source.now_ns()
                    cluster.inbox.trust(is_whole=True, doubt="", now_ns=now_ns)
                if is_over.wait(0.02):
                    return

        thread = threading.Thread(target=heal)
        thread.start()
        try:
            always(lambda: taker.live.a == 1, during=0.1)
        finally:
            is_over.set()
            thread.join()


def test_the_assertion_that_failed_is_the_cause() -> None:
    """With its traceback, which begins in the predicate."""
    with asking() as (_, taker):

        def judged() -> None:
            assert taker.live.a == 1, "a is one"

        with pytest.raises(LiveFailure, match="not within 0 s: a is one") as raised:
            eventually(judged, within=0)
        cause = raised.value.__cause__
        assert isinstance(cause, AssertionError)
        assert cause.__traceback__ is not None
        assert cause.__traceback__.tb_frame.f_code is judged.__code__


def test_what_is_of_the_whole_time_is_judged_at_its_end() -> None:
    """A value that was seen; one that moved; and one that did not."""
    with asking() as (cluster, taker):
        sometimes(lambda: taker.live.a == 1)
        moves(lambda: taker.live.a, every=60)
        cluster.write(a=1)
        cluster.write(a=2)
        cluster.beat()
        eventually(lambda: taker.live.a == 2, within=60)
        taker.settle()
        sometimes(lambda: taker.live.a == 3)
        with pytest.raises(LiveFailure, match="not seen"):
            taker.settle()
        assert cluster.session.read(lambda engine: [*engine.groups]) == []


def test_a_wait_without_an_end_is_refused() -> None:
    """Nothing has a default."""
    with asking() as (_, taker):
        with pytest.raises(ConfigError, match="within= is missing"):
            eventually(lambda: taker.live.a)
        with pytest.raises(ConfigError, match="during= is missing"):
            always(lambda: taker.live.a)
        with pytest.raises(ConfigError, match="number of seconds"), taker.within(-1):
            pass


def test_an_end_of_the_judging_is_unknown() -> None:
    """It is neither a failure nor waited for."""
    with asking() as (cluster, taker):

        def take(timeout_s: float) -> list[Any]:
            raise ZeroDivisionError(f"after {timeout_s}")

        cluster.inbox.take = take  # type: ignore[method-assign]
        with pytest.raises(LiveUnknown, match="the judging has failed: ZeroDivisionError"):
            eventually(lambda: taker.live.a, within=60)
