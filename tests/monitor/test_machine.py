"""Which run of a node a monitor follows: nothing that shows is taken back, for 30 s."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from shardlog.crdt.replication.messages import (
    LANES,
    Apply,
    Ask,
    Changes,
    Delta,
    Heartbeat,
    HostStatus,
    Install,
    Row,
    SnapshotChunk,
)
from shardlog.monitor.machine import Following

MS = 1_000_000
SECOND = 1000 * MS


def host(name: str, version: int, status: str = "live") -> HostStatus:
    """What a node says of a host."""
    plain = HostStatus(name, f"replica-{name}", "live", 0, 0, version)
    return msgspec.structs.replace(plain, status=status)


class Address:
    """An address at which one run after the other speaks, and the monitor's machine there."""

    def __init__(self) -> None:
        self.now_ns = 10**12
        self.following = Following(Random(1))
        self.shown: list[str] = []

    def beat(self, run: str, *hosts: HostStatus, settling: str = "") -> None:
        """A run beats, a second later; it answers whatever it is asked."""
        self.now_ns += SECOND
        sequences = [0] * LANES
        beat = Heartbeat(run, run, 0, 1000, sequences, [*hosts], {}, settling=settling)
        self.following.receive(beat, self.now_ns)
        for effect in self.following.take_effects():
            if isinstance(effect, Ask):
                self.answer(run, effect.message.request)

    def answer(self, run: str, request: int) -> None:
        """The whole snapshot of a run: its own name."""
        body = Changes([], [Row("run", 0, run, 1, -1)])
        chunk = SnapshotChunk(run, run, request, None, None, [0] * LANES, body)
        self.following.receive(chunk, self.now_ns)
        installs = [e for e in self.following.take_effects() if isinstance(e, Install)]
        self.shown += [install.source for install in installs]

    def versions(self) -> list[int]:
        """How far each host is known in what shows."""
        assert self.following.heartbeat is not None
        return [host.version for host in self.following.heartbeat.hosts]

    def is_stale(self) -> bool:
        return self.following.stale_since_ns(self.now_ns) is not None


@pytest.fixture
def address() -> Address:
    """A monitor that shows what run "a" has: two hosts."""
    address = Address()
    for _ in range(2):
        address.beat("a", host("1", 5), host("2", 7))
    assert address.shown == ["a"]
    assert not address.is_stale()
    return address


def test_a_fresh_monitor_takes_what_is_there_at_once() -> None:
    """Nothing shows yet, so nothing can be taken back: a node that settles is better than none."""
    address = Address()
    address.beat("a", host("1", 5), settling="it has just started")
    assert address.shown == ["a"]
    assert address.following.note == ""


def test_a_run_that_has_all_is_taken_at_once(address: Address) -> None:
    """As far as what shows, or further: no reason to wait."""
    address.beat("b", host("1", 5), host("2", 9))
    assert address.shown == ["a", "b"]
    assert not address.is_stale()
    assert address.following.note == ""


@pytest.mark.parametrize(
    ("hosts", "settling", "why"),
    [
        ([host("1", 5), host("2", 7)], "1 of 2 hosts are not live yet", "1 of 2 hosts"),
        ([host("1", 5)], "", "less than before of 2"),
        ([host("1", 5), host("2", 6)], "", "less than before of 2"),
        ([host("1", 5), host("2", 7, "stale")], "", "no live stream of 2"),
    ],
)
def test_a_run_that_may_have_less_waits(
    address: Address, hosts: list[HostStatus], settling: str, why: str
) -> None:
    """It settles, lacks a host, knows it less far or does not hear it: what showed stays, stale
    since the old run was heard, and why is said; it is taken as soon as it has all."""
    heard_ns = address.now_ns
    for _ in range(20):
        address.beat("b", *hosts, settling=settling)
        assert address.shown == ["a"]
        assert address.following.stale_since_ns(address.now_ns) == heard_ns
        assert why in address.following.note
        assert address.versions() == [5, 7]
    address.beat("b", host("1", 5), host("2", 7))
    assert address.shown == ["a", "b"]
    assert not address.is_stale()
    assert address.following.note == ""


def test_one_heartbeat_is_enough_to_know_what_must_stay() -> None:
    """The first run ends before it beats again: its snapshot is not taken back either."""
    address = Address()
    address.beat("a", host("1", 5))
    address.beat("b")
    assert address.shown == ["a"]
    assert "less than before of 1" in address.following.note


def test_after_30_seconds_it_is_taken_and_what_is_missing_is_said(address: Address) -> None:
    """A host that nobody knows any more: 30 s, then it is done without, until it is there again."""
    for _ in range(30):
        address.beat("b", host("1", 6))
    assert address.shown == ["a"]
    address.beat("b", host("1", 6))
    assert address.shown == ["a", "b"]
    address.beat("b", host("1", 6))
    assert not address.is_stale()
    assert "less than before of 2" in address.following.note
    address.beat("b", host("1", 6), host("2", 7))
    assert address.following.note == ""


def test_a_run_that_ends_while_it_is_waited_for_gives_its_place_to_the_next(
    address: Address,
) -> None:
    """Runs that start over and over: the 30 s are those since the first, and all the while what
    must not be taken back is what shows."""
    for turn in range(10):
        address.beat(f"b{turn}", host("1", 5))
    address.beat("c", host("1", 5), host("2", 7))
    assert address.shown == ["a", "c"]


def test_a_host_that_was_on_its_way_is_not_taken_back() -> None:
    """It was heard at the last heartbeat, and nothing of it was there: what came since may show by
    now, so the next run must have it live."""
    address = Address()
    address.beat("a", host("1", 0, "syncing"))
    address.beat("b")
    assert address.shown == ["a"]


def test_replaced_hosts_are_no_reason_to_wait(address: Address) -> None:
    """Another replica goes on for it, and all of it is there."""
    address.beat("b", host("1", 5), host("2", 7, "replaced"), host("3", 1))
    assert address.shown == ["a", "b"]


def test_other_words_of_a_run_that_is_not_taken_do_nothing(address: Address) -> None:
    """Deltas and chunks of a run that must wait change nothing."""
    address.beat("b")
    address.following.receive(Delta("b", "b", 0, 1, Changes([], [])), address.now_ns)
    address.answer("b", 1)
    assert address.following.take_effects() == []
    assert address.shown == ["a"]


def test_a_silent_run_is_stale_since_it_was_heard(address: Address) -> None:
    """Three heartbeats missed."""
    heard_ns = address.now_ns
    address.now_ns += 4 * SECOND
    address.following.handle_timer(address.now_ns)
    assert address.following.stale_since_ns(address.now_ns) == heard_ns


def test_messages_that_belong_together_are_taken_in_at_once() -> None:
    """Of a lane; another lane does not wait, and writers keep their names."""
    address = Address()
    address.beat("a")
    row = Row("x/1", 0, 1, 1, 0)
    for lane, sequence, changes in (
        (3, 1, Changes(["p"], [row], more=True)),
        (4, 1, Changes(["q"], [row])),
        (3, 2, Changes([], [], more=True)),
        (3, 3, Changes(["r"], [row, msgspec.structs.replace(row, writer=-1)])),
        (3, 4, Changes(["s"], [row])),
    ):
        address.following.receive(Delta("a", "a", lane, sequence, changes), address.now_ns)
    applied = [e.delta.body for e in address.following.take_effects() if isinstance(e, Apply)]
    assert applied == [
        Changes(["q"], [row]),
        Changes(
            ["p", "r"],
            [row, msgspec.structs.replace(row, writer=1), msgspec.structs.replace(row, writer=-1)],
        ),
        Changes(["s"], [row]),
    ]


def test_a_snapshot_takes_the_place_of_what_waited() -> None:
    """And what comes with it and waits itself is not taken in with it."""
    address = Address()
    address.beat("a")
    row = Row("x/1", 0, 1, 1, -1)
    following = address.following
    part = Changes([], [row], more=True)
    following.receive(Delta("a", "a", 3, 1, part), address.now_ns)
    following.receive(Delta("a", "a", 3, 3, part), address.now_ns)  # a gap
    (ask,) = [e for e in following.take_effects() if isinstance(e, Ask)]
    known = [0] * LANES
    known[3] = 2
    request = ask.message.request
    chunk = SnapshotChunk("a", "a", request, None, None, known, Changes([], []))
    following.receive(chunk, address.now_ns)
    (install,) = following.take_effects()
    assert isinstance(install, Install)
    assert install.deltas == ()
    following.receive(Delta("a", "a", 3, 4, Changes([], [row])), address.now_ns)
    (apply,) = following.take_effects()
    assert isinstance(apply, Apply)
    assert apply.delta.body == Changes([], [row, row])
