"""The collector's machine: exact counts from absolute totals, persisted before they are seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.collector.batch import STEP, Acknowledge, Persist, Restored
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import Erase, Fragment, Total, Write
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.replication.messages import (
    Answer,
    Changes,
    Delta,
    Heartbeat,
    Log,
    Publish,
    Report,
    SnapshotRequest,
)
from tests.collector.network import stored

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
BLADE = "scraper-1@node-1:boot:1:1:aa"


def config(**said: Any) -> SidecarConfig:
    usual: dict[str, Any] = {"listen": "ipc:///c", "to": (), "host": "node-1", "store": "/s"}
    return SidecarConfig(**(usual | said))


def sidecar(restored: Restored | None = None, now_ns: int = NOW, **said: Any) -> Sidecar:
    return Sidecar(
        config(**said),
        restored or Restored(replica="replica-1"),
        process="node-1@node-1::1:1:cc",
        epoch="epoch-1",
        now_ns=now_ns,
        bytes_max=1000,
    )


def report(
    *totals: Total,
    process: str = BLADE,
    writes: tuple[Write, ...] = (),
    erases: tuple[Erase, ...] = (),
    final: bool = False,
    at_ns: int = NOW,
) -> Report:
    return Report(process, 1, at_ns, final, list(writes), list(erases), list(totals))


def persisted(machine: Sidecar) -> tuple[list[Persist], list[Any]]:
    effects = machine.take_effects()
    return [e for e in effects if isinstance(e, Persist)], effects


def deltas(effects: list[Any], channel: str) -> list[Delta]:
    return [
        e.message
        for e in effects
        if isinstance(e, Publish) and e.channel == channel and isinstance(e.message, Delta)
    ]


def test_a_batch_is_persisted_before_it_is_published() -> None:
    """Persist comes first, once, and holds what the fragments behind it carry."""
    machine = sidecar()
    machine.receive(report(Total("a/n", 1, NOW, NOW, 5)), NOW)
    machine.receive(report(Total("a/n", 1, NOW, NOW, 7)), NOW)
    effects = machine.take_effects()
    assert isinstance(effects[0], Persist)
    assert [type(e) for e in effects].count(Persist) == 1
    (delta,) = deltas(effects, "up")
    assert isinstance(delta.body, Fragment)
    assert [e.amount for e in delta.body.entries if e.path == "a/n"] == [7]
    assert effects[0].version == delta.body.to_version == delta.body.from_version + STEP


def known_process() -> tuple[Sidecar, list[Persist]]:
    """A collector that has heard of a process, and what its store was told."""
    machine = sidecar()
    machine.receive(report(Total("n", 1, NOW, NOW, 5)), NOW)
    batches, _ = persisted(machine)
    return machine, batches


def test_registers_alone_are_published_before_they_are_stored() -> None:
    """In one version; they are acknowledged when they are stored."""
    machine, (before,) = known_process()
    machine.receive(Report(BLADE, 2, NOW, False, [Write("a", NOW, 0, 1)], [], [], follows=1), NOW)
    effects = machine.take_effects()
    kinds = [type(e) for e in effects if isinstance(e, Publish | Persist)]
    assert kinds == [Publish, Persist]
    (delta,) = deltas(effects, "up")
    assert isinstance(delta.body, Fragment)
    assert delta.body.to_version == delta.body.from_version + 1 == before.version + 1
    assert machine.persisted(NOW) == [Acknowledge(BLADE, 2)]


@pytest.mark.parametrize(
    ("erases", "totals"),
    [([], [Total("n", 1, NOW, NOW, 6)]), ([Erase("n", NOW + 1, 0)], [])],
    ids=["a count that rises", "a count that an erase ends"],
)
def test_registers_beside_counts_wait_for_the_store(
    erases: list[Erase], totals: list[Total]
) -> None:
    """No count is told before it is stored, and no reset."""
    machine, _ = known_process()
    writes = [Write("a", NOW, 0, 1)]
    machine.receive(Report(BLADE, 2, NOW, False, writes, erases, totals, follows=1), NOW)
    kinds = [type(e) for e in machine.take_effects() if isinstance(e, Publish | Persist)]
    assert kinds == [Persist, Publish]


def test_registers_in_several_fragments_wait_for_the_store() -> None:
    """An end before the commit leaves nobody further ahead than one version."""
    machine, _ = known_process()
    writes = [Write(f"a/{n}", NOW, 0, "x" * 100) for n in range(50)]
    machine.receive(Report(BLADE, 2, NOW, False, writes, [], [], follows=1), NOW)
    kinds = [type(e) for e in machine.take_effects() if isinstance(e, Publish | Persist)]
    assert kinds[:3] == [Persist, Publish, Publish]


def test_registers_that_were_told_and_not_stored_are_no_store_that_went_back() -> None:
    """Who was told of them is answered by the next run, and with a version that is above theirs."""
    machine, batches = known_process()
    machine.receive(Report(BLADE, 2, NOW, False, [Write("a", NOW, 0, 1)], [], [], follows=1), NOW)
    (told,) = deltas(machine.take_effects(), "up")
    assert isinstance(told.body, Fragment)
    restored = replace(stored(batches, "replica-1"), runs=(("epoch-0", STEP - 1),))
    again = sidecar(restored)
    version = told.body.to_version
    again.request("up", b"a", SnapshotRequest(1, None, run="epoch-0", version=version))
    (answer,) = [e.message.body for e in again.take_effects() if isinstance(e, Answer)]
    assert isinstance(answer, Fragment)
    assert (answer.replica, answer.to_version > version) == ("replica-1", True)


def test_a_snapshot_holds_nothing_that_was_not_published() -> None:
    """A request that arrives within a batch is answered behind the batch's deltas."""
    machine = sidecar(serve="ipc:///s")
    machine.request("serve", b"monitor", SnapshotRequest(1, None))
    machine.receive(report(Total("a/n", 1, NOW, NOW, 5)), NOW)
    effects = machine.take_effects()
    kinds = [type(e) for e in effects]
    assert kinds.index(Answer) > max(i for i, kind in enumerate(kinds) if kind is Publish)
    (answer,) = [e for e in effects if isinstance(e, Answer)]
    assert isinstance(answer.message.body, Changes)
    sequences = {d.lane: d.sequence for d in deltas(effects, "serve")}
    assert {lane: answer.message.sequences[lane] for lane in sequences} == sequences


def test_repeats_and_late_totals_add_nothing() -> None:
    """Totals are absolute: the same, an older one, and one of an old generation change nothing."""
    machine = sidecar()
    for generation, amount in [(3, 5), (3, 5), (3, 2), (1, 9), (3, 6), (4, 1), (3, 6), (4, 1)]:
        machine.receive(report(Total("n", generation, NOW, NOW, amount)), NOW)
    assert machine.state.total("n") == 7


totals = st.lists(
    st.tuples(
        st.sampled_from(["p@h:1", "q@h:2"]),
        st.sampled_from(["a", "b/c"]),
        st.integers(1, 2),
        st.integers(1, 5),
    ),
    max_size=12,
)


@given(totals, st.randoms(use_true_random=False), st.sets(st.integers(0, 30)))
def test_counts_are_exact_whatever_is_repeated_reordered_or_restarted(
    history: list[tuple[str, str, int, int]], rng: Any, crashes: set[int]
) -> None:
    """Within a generation every order and repetition ends at the highest total, restarts included.

    Generations only ever come in their order: a process sends its frames through one socket.
    """
    in_order = sorted(history, key=lambda item: item[2])
    expected: dict[tuple[str, str, int], int] = {}
    for process, path, generation, amount in in_order:
        key = (process, path, generation)
        expected[key] = max(expected.get(key, 0), amount)
    sent: list[tuple[str, str, int, int]] = []
    for generation in (1, 2):
        part = [item for item in in_order if item[2] == generation] * 2
        rng.shuffle(part)
        sent += part
    machine, batches = sidecar(), list[Persist]()
    for at, (process, path, generation, amount) in enumerate(sent):
        machine.receive(report(Total(path, generation, NOW, NOW, amount), process=process), NOW)
        batches += persisted(machine)[0]
        machine.check_invariants()
        if at in crashes:
            machine = sidecar(stored(batches, "replica-1"))
    for path in ("a", "b/c"):
        total = sum(n for (_, where, _), n in expected.items() if where == path)
        assert machine.state.total(path) == total


@given(st.lists(st.integers(0, 5), min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_replaying_every_message_changes_no_byte(picks: list[int], rng: Any) -> None:
    """I4: all reports again, in any order, after everything else: the same digest."""
    reports = [
        report(
            Total("n", 1, NOW, NOW + i, i + 1),
            writes=(Write("a/b" if pick % 2 else "a", NOW + i, 0, pick),),
            erases=(Erase("a", NOW + i - 1, 0),) if pick == 5 else (),
        )
        for i, pick in enumerate(picks)
    ]
    machine = sidecar()
    for message in reports:
        machine.receive(message, NOW)
    machine.take_effects()
    before = machine.state.digest()
    rng.shuffle(reports)
    for message in reports:
        machine.receive(message, NOW)
    machine.take_effects()
    assert machine.state.digest() == before


def test_a_large_batch_is_cut_into_versions_that_follow_one_another() -> None:
    """Each fragment is small, and begins at the version at which the one before it ends."""
    machine = sidecar()
    machine.receive(report(*(Total(f"n/{i}", 1, NOW, NOW, 1) for i in range(200))), NOW)
    (batch,), effects = persisted(machine)
    bodies = [d.body for d in deltas(effects, "up") if isinstance(d.body, Fragment)]
    assert len(bodies) > 5
    assert [b.from_version for b in bodies] == [STEP, *(b.to_version for b in bodies[:-1])]
    assert bodies[-1].to_version == batch.version


def test_a_stamp_from_the_future_is_refused_and_the_blade_is_named() -> None:
    """A register beyond max_skew is refused, counted, and named once; a count never is."""
    machine = sidecar()
    ahead = NOW + 2 * 3600 * SECOND
    for _ in range(2):
        machine.receive(
            report(Total("n", 1, ahead, ahead, 3), writes=(Write("a", ahead, 0, 1),)), NOW
        )
    effects = machine.take_effects()
    assert machine.state.shown("a") is None
    assert machine.state.total("n") == 3
    assert machine.state.total("shardlog/health/collector/node-1/refused/skew") == 2
    (log,) = [e for e in effects if isinstance(e, Log)]
    assert "scraper-1" in log.text
    assert "7200 s ahead" in log.text


def test_beyond_paths_max_new_paths_are_refused_and_old_ones_go_on() -> None:
    """The limit turns away what is new, counted by reason, and nothing else."""
    machine = sidecar(paths_max=3)
    machine.receive(report(Total("a", 1, NOW, NOW, 1), writes=(Write("b", NOW, 0, 1),)), NOW)
    machine.receive(report(Total("c", 1, NOW, NOW, 1), writes=(Write("d", NOW, 0, 1),)), NOW)
    machine.receive(report(Total("a", 1, NOW, NOW, 2), writes=(Write("b", NOW + 1, 0, 2),)), NOW)
    assert machine.state.total("a") == 2
    assert machine.state.shown("c") is machine.state.shown("d") is None
    assert machine.refused == {"paths": 2}


def test_floors_count_as_paths_and_an_erase_of_what_is_there_finds_room() -> None:
    """Erasing ever new paths does not grow without bound; what is held can always be erased."""
    machine = sidecar(paths_max=5)
    machine.receive(report(writes=(Write("a/b", NOW, 0, 1), Write("a/c", NOW, 0, 1))), NOW)
    machine.receive(report(erases=tuple(Erase(f"e/{i}", NOW, 0) for i in range(10))), NOW)
    assert machine.refused == {"paths": 8}
    machine.receive(report(erases=(Erase("a", NOW + 1, 0),)), NOW)
    assert machine.state.shown("a/b") is machine.state.shown("a/c") is None
    assert machine.refused == {"paths": 8}


@pytest.mark.parametrize(
    "path",
    [
        "shardlog",
        "shardlog/presence/scraper-1",
        "shardlog/presence/spotter-1/spotter-1@node-1:boot:1:1:aa/status",
        "shardlog/health/blade/spotter-1/first/key",
        "shardlog/health/collector/node-1/store",
        "shardlog/live",
        "shardlog/errors",
        "shardlog/lively/x",
    ],
)
def test_a_process_has_no_say_in_what_is_not_its_own(path: str) -> None:
    """Below `shardlog` it may write its own presence, its blade's health, and what is open."""
    machine = sidecar()
    own = Write(f"shardlog/presence/scraper-1/{BLADE}/status", NOW, 0, "up")
    machine.receive(report(writes=(own, Write(path, NOW + 1, 0, "x"))), NOW)
    machine.receive(report(Total(path, 1, NOW, NOW, 5), erases=(Erase(path, NOW + 1, 0),)), NOW)
    assert machine.refused == {"reserved": 3}
    assert presence(machine, "status") == "up"
    assert machine.state.shown(path) is None


@pytest.mark.parametrize("top", ["shardlog/live/answered", "shardlog/errors/E7"])
def test_what_live_tests_and_errors_say_is_open_to_all_processes(top: str) -> None:
    """Registers, counts and erases of any process come in below these two, and show."""
    machine = sidecar()
    machine.receive(report(Total(f"{top}/n", 1, NOW, NOW, 5)), NOW)
    machine.receive(report(writes=(Write(f"{top}/x", NOW, 0, "fail"),), process="q@h:2"), NOW)
    assert machine.state.total(f"{top}/n") == 5
    assert machine.state.shown(f"{top}/x") is not None
    machine.receive(report(erases=(Erase(f"{top}/x", NOW + 1, 0),)), NOW)
    assert machine.state.shown(f"{top}/x") is None
    assert machine.refused == {}


def test_many_new_followers_are_greeted_by_one_heartbeat() -> None:
    """A heartbeat goes to all who follow: one per batch is enough, however many subscribe."""
    machine = sidecar(serve="ipc:///s")
    for _ in range(100):
        machine.subscribed("up", NOW)
        machine.subscribed("serve", NOW)
    assert len(machine.take_effects()) == 2


def test_a_total_too_large_to_store_is_refused() -> None:
    """A sum beyond 64 bits is refused; what was counted before stays."""
    machine = sidecar()
    machine.receive(report(Total("n", 1, NOW, NOW, 2**63 - 1)), NOW)
    machine.receive(report(Total("n", 1, NOW, NOW, 1), process="q@h:2"), NOW)
    assert machine.state.total("n") == 2**63 - 1
    assert machine.refused == {"overflow": 1}


def presence(machine: Sidecar, key: str) -> Any:
    shown = machine.state.shown(f"shardlog/presence/scraper-1/{BLADE}/{key}")
    return shown and shown.value


def test_silence_is_lost_and_speaking_again_is_up() -> None:
    """Five seconds of silence say lost; the next report says up; a final one ends the watch."""
    machine = sidecar()
    status = Write(f"shardlog/presence/scraper-1/{BLADE}/status", NOW, 0, "up")
    machine.receive(report(writes=(status,)), NOW)
    for second in range(1, 8):
        machine.handle_timer(NOW + second * SECOND)
    assert presence(machine, "status") == "lost"
    machine.receive(report(), NOW + 8 * SECOND)
    assert presence(machine, "status") == "up"
    bye = Write(status.path, NOW + 9 * SECOND, 0, "bye")
    machine.receive(report(writes=(bye,), final=True), NOW + 9 * SECOND)
    for second in range(10, 20):
        machine.handle_timer(NOW + second * SECOND)
    assert presence(machine, "status") == "bye"
    assert presence(machine, "heard") == NOW + 9 * SECOND


def test_a_collector_that_was_paused_calls_nobody_lost() -> None:
    """What was not heard because the collector itself slept is not held against the processes."""
    machine = sidecar()
    status = Write(f"shardlog/presence/scraper-1/{BLADE}/status", NOW, 0, "up")
    machine.receive(report(writes=(status,)), NOW)
    machine.handle_timer(NOW + SECOND)
    machine.handle_timer(NOW + 60 * SECOND)
    assert presence(machine, "status") == "up"
    for second in range(61, 68):
        machine.handle_timer(NOW + second * SECOND)
    assert presence(machine, "status") == "lost"


def test_a_clock_that_steps_back_or_forwards_neither_silences_nor_kills() -> None:
    """An hour forwards: nobody is lost; an hour back: heartbeats and the watch go on."""
    machine = sidecar()
    status = Write(f"shardlog/presence/scraper-1/{BLADE}/status", NOW, 0, "up")
    machine.receive(report(writes=(status,)), NOW)
    machine.handle_timer(NOW + SECOND)
    machine.handle_timer(NOW + 3601 * SECOND)
    assert presence(machine, "status") == "up"
    machine.take_effects()
    back = NOW - 3600 * SECOND
    for second in range(8):
        machine.handle_timer(back + second * SECOND)
        beats = [e for e in machine.take_effects() if isinstance(e, Publish) and e.channel == "up"]
        assert any(isinstance(beat.message, Heartbeat) for beat in beats)
    assert presence(machine, "status") == "lost"


def test_a_process_that_died_with_the_collector_is_called_lost_after_its_restart() -> None:
    """Who was up when the collector fell is watched by its successor."""
    machine = sidecar()
    status = Write(f"shardlog/presence/scraper-1/{BLADE}/status", NOW, 0, "up")
    machine.receive(report(writes=(status,)), NOW)
    machine = sidecar(stored(persisted(machine)[0], "replica-1"))
    for second in range(1, 8):
        machine.handle_timer(NOW + second * SECOND)
    assert presence(machine, "status") == "lost"


def test_what_a_blade_refused_is_named_once_in_the_log() -> None:
    """The first sample of a reason, as the blade tells it, is one line; repeats are none."""
    machine = sidecar()
    first = Write("shardlog/health/blade/scraper-1/first/key", NOW, 0, "10240 bytes at 'a'")
    for _ in range(2):
        machine.receive(report(writes=(first,)), NOW)
    logs = [e for e in machine.take_effects() if isinstance(e, Log)]
    assert logs == [Log("scraper-1 refused (key): \"10240 bytes at 'a'\"")]


def test_a_batch_that_could_not_be_written_is_in_the_next_one() -> None:
    """The store fails and recovers: health says so, and a restart then has everything."""
    machine = sidecar()
    machine.receive(report(Total("a", 1, NOW, NOW, 5), writes=(Write("r", NOW, 0, 1),)), NOW)
    (failed,), _ = persisted(machine)
    machine.not_persisted(failed, "/s can't be written: disk full", NOW)
    health = "shardlog/health/collector/node-1/store"
    shown = machine.state.shown(health)
    assert shown is not None
    assert shown.value == "/s can't be written: disk full"
    machine.receive(report(Total("b", 1, NOW, NOW, 1)), NOW)
    (batch,), _ = persisted(machine)
    machine.persisted(NOW)
    successor = sidecar(stored([batch], "replica-1"))
    assert (successor.state.total("a"), successor.state.total("b")) == (5, 1)
    assert successor.state.map.leaves["r"].value == 1
    shown = machine.state.shown(health)
    assert shown is not None
    assert shown.value == "written again"


def test_a_new_follower_hears_a_heartbeat_at_once() -> None:
    """A subscription is answered by the sequences, without waiting for the next second."""
    machine = sidecar()
    machine.subscribed("up", NOW)
    (beat,) = machine.take_effects()
    assert isinstance(beat, Publish)
    assert isinstance(beat.message, Heartbeat)
    assert beat.message.hosts[0].host == "node-1"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"listen": "tcp://0.0.0.0:7300"}, "insecure"),
        ({"to": ("tcp://127.0.0.1",)}, "not an address"),
        ({"listen": "ipc://relative"}, "absolute path"),
        ({"listen": "ipc:///" + "x" * 100}, "bytes"),
        ({"host": ""}, "--host"),
        ({"host": "h" * 256}, "--host"),
        ({"host": "h\udcff"}, "--host"),
        ({"lost_after_ms": 10}, "heartbeats"),
    ],
)
def test_what_can_not_work_is_refused_in_one_line(said: dict[str, Any], what: str) -> None:
    """The error says what is wrong, in one line."""
    with pytest.raises(ConfigError, match=what) as error:
        config(**said)
    assert "\n" not in str(error.value)


def test_an_erase_begins_a_count_anew_wherever_it_falls_in_a_report() -> None:
    """The old total, the floor, the new total: what came after shows, whoever erased, and stays."""
    machine = sidecar()
    machine.receive(report(Total("a/n", 1, NOW, NOW + 1, 5)), NOW)
    machine.receive(report(Total("a/n", 1, NOW, NOW + 1, 3), process="q@h:2"), NOW)
    machine.receive(
        report(Total("a/n", 2, NOW + 3, NOW + 3, 2), erases=(Erase("a", NOW + 2, 0),)), NOW
    )
    assert machine.state.total("a/n") == 2
    entry = machine.state.entries("a/n")["replica-1"]
    assert (entry.amount, entry.base, entry.reset) == (10, 8, NOW + 2)
    machine.receive(report(Total("a/n", 1, NOW, NOW + 5, 4), process="q@h:2"), NOW)
    assert machine.state.total("a/n") == 3
    successor = sidecar(stored(persisted(machine)[0], "replica-1"))
    successor.receive(report(Total("a/n", 1, NOW, NOW + 1, 5)), NOW)
    assert successor.state.total("a/n") == 3


def test_a_scalar_over_counters_erases_them_too() -> None:
    """An overwrite is a floor; counts that were made before it and come late show no more."""
    machine = sidecar()
    machine.receive(report(Total("a/n", 1, NOW, NOW, 5), writes=(Write("a", NOW + 2, 0, 1),)), NOW)
    machine.receive(report(Total("a/n", 1, NOW, NOW + 1, 6), process="q@h:2"), NOW)
    assert machine.state.total("a/n") == 0
    machine.receive(report(Total("a/n", 2, NOW + 4, NOW + 4, 1)), NOW)
    assert machine.state.total("a/n") == 1
    assert machine.state.shown("a") is None
