"""Stores that are lost or go back in time: never too much, and said where it may be too little."""

from __future__ import annotations

from random import Random

import pytest

from shardlog.collector.aggregator import machine as aggregator
from shardlog.collector.aggregator import roll
from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.batch import Acknowledge, Line, Name, Persist, Restored
from shardlog.collector.sidecar import machine as sidecar
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.machine import LOST, WENT_BACK, Sidecar
from shardlog.crdt.counter import Mark
from shardlog.crdt.delta import Entry, Fragment, Retired, Total, Write
from shardlog.crdt.replication.messages import (
    REPLACED,
    Answer,
    Ask,
    Delta,
    Heartbeat,
    HostStatus,
    Log,
    Publish,
    Report,
    SnapshotChunk,
    SnapshotRequest,
)
from shardlog.crdt.state import State
from tests.collector.lossy_stores import Fate, World, lossy_run
from tests.collector.network import stored
from tests.crdt.test_mutants import Mutant, mutated

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
P = f"blade@node:boot:1:{NOW}:aa"
BOTH: tuple[Fate, ...] = ("lost", "copy")


@pytest.mark.parametrize("fates", [(), ("lost",), ("copy",), BOTH])
@pytest.mark.parametrize("hundred", range(2))
def test_nothing_is_counted_twice_whatever_becomes_of_the_store(
    fates: tuple[Fate, ...], hundred: int
) -> None:
    """At random times it is lost, or an older copy is put in its place, with disks that fail, ends,
    retirements, erases and restarts between: no aggregator is ever above what was counted, one
    that is below says `lower bound`, and where nothing was lost all are exact."""
    for seed in range(50 * hundred, 50 * hundred + 50):
        lossy_run(seed, fates=fates)


@pytest.mark.parametrize("bytes_max", [500, 2000, 4000])
def test_without_a_runtime_directory_a_copy_is_noticed_too(bytes_max: int) -> None:
    """By what the aggregators know, as over tcp, in however many versions it is told."""
    for seed in range(100):
        lossy_run(seed, is_named=False, fates=("copy",), bytes_max=bytes_max)


def test_the_random_stores_meet_what_they_are_about() -> None:
    """Other replicas went on, several times in one history, for both reasons."""
    runs = [lossy_run(seed, fates=BOTH) for seed in range(60)]
    assert sum(len(run.named) for run in runs) > 120
    assert max(len(run.named) for run in runs) > 4
    for what in ("which collected here", "went back in time"):
        assert sum(what in log for run in runs for log in run.logs) > 20


def count_on(world: World) -> None:
    """Something is counted, and all that is said arrives."""
    world.count()
    for process in world.processes:
        world.send(process)
        world.deliver(process, len(process.wire))
    for _ in range(5):
        world.tick(1100)


def put_back(world: World, number: int) -> None:
    """The copy of this number takes the place of the store."""
    copies, world.copies = world.copies, [world.copies[number]]
    world.crash("copy")
    world.copies = copies
    count_on(world)


@pytest.mark.parametrize("is_named", [True, False])
def test_a_copy_of_the_replica_that_an_earlier_copy_brought_about_is_noticed(
    is_named: bool,
) -> None:
    """A copy is put back, and another replica goes on; the copy is put back again, and another goes
    on for both; then a copy of the first of these is, which would count what the second did."""
    world = World(1, is_named=is_named)
    world.loss = 0.0
    count_on(world)
    world.copy()
    count_on(world)
    put_back(world, 0)
    first = world.machine.replica
    world.copy()
    put_back(world, 0)
    second = world.machine.replica
    assert world.statuses(0)[first].status == "replaced"
    put_back(world, 1)
    assert world.machine.replica not in (first, second)
    world.heal()
    world.check_healed()


LEDGER = [
    Mutant("a first total is no baseline", "            more = 0\n", "            pass\n"),
    Mutant(
        "the old entries are added to the new replica",
        "        self._state.succeed(successor)\n",
        """        paths = self._state.counters("a") + self._state.counters("b")
        kept = [self._state.entries(path)[self.replica] for path in paths]
        self._state.succeed(successor)
        for old in kept:
            self._state.put(successor, old)
            self._dirty_entries[old.path] = old
""",
    ),
    Mutant(
        "the marks of the store stay",
        "if path not in paths}",
        "if path not in paths or True}",
    ),
    Mutant(
        "a baseline outlives another loss",
        "line._replace(baseline=self._first.get(process, 0))",
        "line",
    ),
    Mutant("a baseline is in no book", "has_baseline=line.baseline > 0", "has_baseline=False"),
    Mutant("the old books go on", "        self.sums = Sums(NO_SUMS, (), ())\n", ""),
]


@pytest.mark.parametrize("mutant", LEDGER, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_ledger_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the random stores: some aggregator shows more than was counted, or books are off."""
    module = mutated("shardlog.collector.sidecar.ledger", mutant)
    monkeypatch.setattr(sidecar, "Ledger", module.Ledger)
    assert any(map(fails, range(100)))


def test_a_version_that_is_compared_with_the_current_one_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store has gone on from where it was opened, to what was known of its other run."""
    text = "request.version > self.left_by(request.run)"
    mutant = Mutant("current", text, "request.version > self.version")
    module = mutated("shardlog.collector.sidecar.outlet", mutant)
    machine, _ = went_back(heard=True)
    machine.take_effects()
    assert machine.replica == "run-2"
    monkeypatch.setattr(sidecar, "Outlet", module.Outlet)
    machine, _ = went_back(heard=True)
    machine.take_effects()
    assert machine.replica == "replica-1"


def test_a_follower_that_takes_back_what_it_knew_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls live what has less than it knew, and asks no more."""
    mutant = Mutant("back", "return is_less and", "return False and")
    module = mutated("shardlog.crdt.replication.follower", mutant)
    knows = follower_of_two_runs()
    assert [e for e in knows.take_effects() if isinstance(e, Log)] == []
    assert knows.state.total("n") == 9
    monkeypatch.setattr(aggregator, "Follower", module.Follower)
    assert knows.hosts(NOW)[0].status == "syncing"
    assert follower_of_two_runs().hosts(NOW)[0].status == "live"


def fails(seed: int) -> bool:
    """Whether the random stores of this seed find something wrong."""
    try:
        lossy_run(seed, fates=BOTH)
        lossy_run(seed, is_named=False, fates=("copy",))
    except (AssertionError, KeyError):
        return True
    return False


def aggregator_machine() -> aggregator.Aggregator:
    return aggregator.Aggregator(
        AggregatorConfig(listen="ipc:///l", serve="ipc:///v"),
        source="aggregator",
        epoch="e",
        rng=Random(1),
        now_ns=NOW,
        bytes_max=10_000,
    )


def beat(source: str, run: str, *, replaces: tuple[str, ...] = (), why: str = "") -> Heartbeat:
    status = HostStatus("node-1", source, "live", NOW, NOW, 0, why, list(replaces))
    return Heartbeat(source, run, NOW, 1000, [0], [status], {})


def chunk(source: str, run: str, request: int, version: int, n: int) -> SnapshotChunk:
    entries = [Entry("n", NOW, n)]
    body = Fragment(source, 0, version, [], [], [], entries)
    return SnapshotChunk(source, run, request, None, None, [0], body)


def follower_of_two_runs() -> aggregator.Aggregator:
    """An aggregator that knows version 9 of a replica, and is told of version 4 by its next run."""
    knows = aggregator_machine()
    knows.receive(beat("r", "run-1"), NOW)
    knows.receive(chunk("r", "run-1", 1, 9, 9), NOW)
    knows.receive(beat("r", "run-2"), NOW)
    knows.receive(chunk("r", "run-2", 2, 4, 4), NOW)
    return knows


def asked(knows: aggregator.Aggregator) -> list[SnapshotRequest]:
    return [effect.message for effect in knows.take_effects() if isinstance(effect, Ask)]


def test_an_aggregator_says_what_it_knows_and_asks_again_for_what_is_not_less() -> None:
    """The claim is in every request; a snapshot that is further than what is known is taken."""
    knows = follower_of_two_runs()
    assert asked(knows)[-1] == SnapshotRequest(2, None, run="run-1", version=9)
    knows.handle_timer(NOW + 2 * SECOND)
    assert asked(knows) == [SnapshotRequest(3, None, run="run-1", version=9)]
    knows.receive(chunk("r", "run-2", 3, 10, 12), NOW)
    assert knows.state.total("n") == 12
    (status,) = knows.hosts(NOW)
    assert (status.status, status.version) == ("live", 10)


def test_who_was_asked_about_others_is_yet_to_be_asked_about_what_is_known_here() -> None:
    """The answer of a run that has begun meanwhile says nothing of it."""
    known = roll.Roll(State(), interval_ms=1000)
    known.add("r", roll.Known(run="run-2"))
    assert known.doubts("r", "run-1", 1)
    assert known.extent("r") == ("run-1", 1)
    assert not known.vouch("r", "run-3")
    assert known.extent("r") == ("run-2", 0)
    assert known.vouch("r", "run-3")
    assert known.extent("r") == ("run-3", 0)
    assert not known.doubts("r", "run-1", 1)


def test_a_replica_that_another_goes_on_for_is_replaced_and_its_part_stays() -> None:
    """Also when it is heard again: then it is asked for more than it can have."""
    knows = aggregator_machine()
    knows.receive(beat("old", "run-1"), NOW)
    knows.receive(chunk("old", "run-1", 1, 9, 9), NOW)
    knows.receive(beat("new", "run-2", replaces=("old",), why=LOST), NOW)
    knows.receive(chunk("new", "run-2", 1, 1, 2), NOW)
    assert knows.state.total("n") == 11
    old, new = knows.hosts(NOW + 60 * SECOND)
    assert (old.status, old.version, old.lower_bound) == ("replaced", 9, "")
    assert (new.status, new.lower_bound, new.replaces) == ("stale", LOST, ["old"])
    asked(knows)
    knows.receive(beat("old", "run-3"), NOW)
    assert asked(knows) == [
        SnapshotRequest(2, None, run="new", version=REPLACED),
    ]
    knows.receive(chunk("old", "run-3", 2, 50, 50), NOW)
    assert knows.state.total("n") == 11


def test_a_replaced_replica_that_is_heard_first_after_that_is_not_taken_in() -> None:
    """An aggregator that never knew it learns from the other that its store went back."""
    knows = aggregator_machine()
    knows.receive(beat("new", "run-2", replaces=("old",)), NOW)
    asked(knows)
    knows.receive(beat("old", "run-3"), NOW)
    (request,) = asked(knows)
    assert (request.run, request.version) == ("new", REPLACED)
    knows.receive(chunk("old", "run-3", 1, 50, 50), NOW)
    assert knows.state.total("n") == 0


def test_who_has_not_said_yet_for_whom_it_goes_on_is_not_taken_in() -> None:
    """Else a replica that it replaced, put back, would be taken in beside it, and nobody told."""
    knows = aggregator_machine()
    body = Fragment("new", 0, 2, [], [], [], [Entry("n", NOW, 2)])
    knows.receive(Delta("new", "run-2", 0, 1, body), NOW)
    assert asked(knows) == []
    knows.receive(beat("new", "run-2", replaces=("old",)), NOW)
    assert asked(knows) == [SnapshotRequest(1, None)]


def test_who_replaces_replicas_of_another_host_is_not_believed() -> None:
    """A host speaks for its own stores alone."""
    knows = aggregator_machine()
    status = HostStatus("node-2", "other", "live", NOW, NOW)
    knows.receive(Heartbeat("other", "run-1", NOW, 1000, [0], [status], {}), NOW)
    knows.receive(beat("new", "run-2", replaces=("other",)), NOW)
    assert knows.hosts(NOW)[0].status == "syncing"


def collector(
    restored: Restored | None = None,
    *,
    epoch: str = "run-2",
    named: tuple[str, ...] | None = (),
    now_ns: int = NOW + SECOND,
    paths_max: int = 1000,
    named_version: int = 0,
) -> Sidecar:
    return Sidecar(
        SidecarConfig(
            listen="ipc:///c", to=("ipc:///l",), host="node-1", store="/s", paths_max=paths_max
        ),
        restored or Restored(replica="replica-1"),
        process="node-1@node-1::1:1:cc",
        epoch=epoch,
        now_ns=now_ns,
        bytes_max=10_000,
        named=named,
        named_version=named_version,
    )


def total(generation: int, n: int, path: str = "n") -> Total:
    return Total(path, generation, NOW, NOW, n)


def report(
    sequence: int, *totals: Total, process: str = P, retired: tuple[Retired, ...] = ()
) -> Report:
    return Report(process, sequence, NOW, False, [], [], list(totals), 0, list(retired))


def test_where_none_is_named_all_totals_are_new_and_the_store_is_named() -> None:
    """A collector that merely started late loses nothing, and says no `lower bound`."""
    machine = collector()
    assert [e for e in machine.take_effects() if isinstance(e, Name)] == [Name(("replica-1",))]
    machine.receive(report(7, total(3, 5)), NOW)
    assert machine.state.total("n") == 5
    assert said(machine).lower_bound == ""
    assert not any(isinstance(e, Name) for e in machine.take_effects())


def said(machine: Sidecar) -> HostStatus:
    """What its next heartbeat says of it."""
    machine.handle_timer(NOW + 10 * SECOND)
    beats = [
        effect.message
        for effect in machine.take_effects()
        if isinstance(effect, Publish) and isinstance(effect.message, Heartbeat)
    ]
    return beats[-1].hosts[0]


def test_the_named_replica_needs_no_other_name() -> None:
    """A restart on its own store changes nothing."""
    machine = collector(named=("replica-1", "older"))
    assert machine.take_effects() == []
    assert machine.replica == "replica-1"


def test_first_totals_are_baselines_where_the_named_replica_is_lost() -> None:
    """What was carried before the first report that is heard counts nothing, later totals their
    excess, and a total that is first carried from then on in full."""
    machine = collector(named=("lost", "older"))
    assert machine.replica == "run-2"
    effects = machine.take_effects()
    (log,) = [e.text for e in effects if isinstance(e, Log)]
    assert "/s is not the store of lost" in log
    assert "\n" not in log
    order = [type(e) for e in effects if isinstance(e, Persist | Name)]
    assert order == [Persist, Name]
    assert Name(("run-2", "older", "lost")) in effects

    machine.receive(report(10, total(4, 5), total(10, 3, "m")), NOW)
    assert (machine.state.total("n"), machine.state.total("m")) == (0, 3)
    machine.receive(report(11, total(4, 7), total(9, 4, "k"), total(11, 1, "l")), NOW)
    assert [machine.state.total(path) for path in "nmkl"] == [2, 3, 0, 1]
    machine.receive(report(12, total(9, 9)), NOW)
    assert machine.state.total("n") == 2, "another generation that the lost one may have heard"
    machine.receive(report(13, total(13, 4), retired=(Retired("k", 9),)), NOW)
    machine.receive(report(14, total(9, 4, "k")), NOW)
    assert (machine.state.total("n"), machine.state.total("k")) == (6, 0)
    status = said(machine)
    assert (status.lower_bound, status.replaces) == (LOST, ["older", "lost"])


def test_a_process_that_started_after_the_loss_counts_in_full() -> None:
    """Beyond `max_skew`, lest a clock that stepped decides."""
    machine = collector(named=("lost",))
    for hours, expected in ((0, 0), (2, 5)):
        process = f"blade@node:boot:2:{NOW + hours * 3600 * SECOND}:aa"
        path = f"hours/{hours}"
        machine.receive(report(10, total(4, 5, path), process=process), NOW)
        assert machine.state.total(path) == expected


def test_baselines_survive_restarts_of_the_collector() -> None:
    """They are in the store, with what was lost; the next first report moves no baseline."""
    batches: list[Persist] = []
    machine = collector(named=("lost",))
    machine.receive(report(10, total(4, 5)), NOW)
    settle(machine, batches)
    restored = stored(batches, "replica-1")
    assert restored.lines[P].baseline == 10
    assert (restored.replica, restored.replaces) == ("run-2", ("lost",))
    machine = collector(restored, epoch="run-3", named=("run-2", "lost"))
    machine.receive(report(20, total(12, 3, "m"), total(4, 6)), NOW)
    assert (machine.state.total("n"), machine.state.total("m")) == (1, 3)
    assert said(machine).lower_bound == LOST
    assert machine.replica == "run-2"


def test_a_baseline_that_was_refused_is_still_one_when_there_is_room() -> None:
    """The lost replica may have let it in: it counts nothing, and later its excess."""
    batches: list[Persist] = []
    machine = collector(named=("lost",), paths_max=1)
    machine.receive(report(10, total(4, 5)), NOW)
    assert machine.refused == {"paths": 1}
    settle(machine, batches)
    machine = collector(stored(batches, "replica-1"), epoch="run-3", named=("run-2", "lost"))
    machine.receive(report(11, total(4, 5)), NOW)
    assert machine.state.total("n") == 0
    machine.receive(report(12, total(4, 7)), NOW)
    assert machine.state.total("n") == 2


def test_what_was_refused_before_a_store_was_found_to_be_old_is_a_baseline() -> None:
    """The other run may have let it in."""
    batches: list[Persist] = []
    restored = Restored(replica="replica-1", version=5)
    machine = collector(restored, named=("replica-1",), paths_max=1)
    machine.receive(report(20, total(4, 8)), NOW)
    assert machine.refused == {"paths": 1}
    settle(machine, batches)
    machine.request("up", b"a", SnapshotRequest(1, None, run="run-1", version=7))
    settle(machine, batches)
    assert machine.replica == "run-2"
    machine = collector(stored(batches, ""), epoch="run-3", named=("run-2", "replica-1"))
    machine.receive(report(21, total(4, 8)), NOW)
    assert machine.state.total("n") == 0


def settle(machine: Sidecar, batches: list[Persist]) -> None:
    for effect in machine.take_effects():
        if isinstance(effect, Persist):
            batches.append(effect)
            machine.persisted(NOW)


@pytest.mark.parametrize("named", [("lost",), ("replica-1",)])
def test_processes_that_live_are_asked_to_say_all_again(named: tuple[str, ...]) -> None:
    """What they had acknowledged by a lost replica would else be said with the next count only."""
    machine = collector(named=named)
    machine.alive(P, NOW)
    batches = [e for e in machine.take_effects() if isinstance(e, Persist)]
    due = machine.persisted(NOW) if batches else []
    assert due == ([Acknowledge(P, 0)] if named == ("lost",) else [])


def test_an_end_between_the_store_and_the_name_is_no_loss() -> None:
    """The store already goes on for the one that is named: only the name is written again."""
    restored = Restored(replica="run-2", replaces=("lost",), lost_ns=NOW, lower_bound=LOST)
    machine = collector(restored, epoch="run-3", named=("lost",))
    assert Name(("run-2", "lost")) in machine.take_effects()
    assert machine.replica == "run-2"


def went_back(*, heard: bool) -> tuple[Sidecar, list[Persist]]:
    """A collector on a store of version 5 that has gone on to another, and is told of version 7."""
    restored = Restored(
        replica="replica-1",
        version=5,
        marks={P: {"n": Mark(4, 5), "m": Mark(5, 1)}},
        entries=(Entry("n", NOW, 5), Entry("m", NOW, 1)),
    )
    machine, batches = collector(restored, named=("replica-1",)), list[Persist]()
    if heard:
        writes = [Write("said", NOW, 0, 1)]
        machine.receive(Report(P, 20, NOW, False, writes, [], [total(4, 8)]), NOW)
        settle(machine, batches)
        assert machine.state.total("n") == 8
    machine.request("up", b"a", SnapshotRequest(1, None, run="run-1", version=7))
    return machine, batches


def test_a_store_that_went_back_is_frozen_and_another_goes_on() -> None:
    """In one batch: stored, named, and published under the new name; whoever asked is not answered.
    Registers stay, entries begin from nothing, what was heard in this run is a baseline."""
    machine, batches = went_back(heard=True)
    effects = machine.take_effects()
    assert [type(e) for e in effects if isinstance(e, Persist | Name | Publish | Answer)][:2] == [
        Persist,
        Name,
    ]
    assert not any(isinstance(e, Answer) for e in effects)
    sources = {e.message.source for e in effects if isinstance(e, Publish)}
    assert sources <= {"run-2"}
    (log,) = [e.text for e in effects if isinstance(e, Log)]
    assert "version 7 of replica-1 is known, it had told no more than 6" in log
    assert machine.replica == "run-2"
    assert machine.state.total("*") == 0
    assert machine.state.map.leaves["said"].value == 1
    machine.receive(report(21, total(4, 10), total(5, 9, "m"), total(20, 2, "k")), NOW)
    assert [machine.state.total(path) for path in "nmk"] == [2, 0, 2]
    status = said(machine)
    assert (status.lower_bound, status.replaces) == (WENT_BACK, ["replica-1"])
    batches += [e for e in effects if isinstance(e, Persist)]
    restored = stored(batches, "replica-1")
    assert (restored.replica, restored.version, restored.entries) == ("run-2", 0, ())
    assert restored.marks == {P: {"n": Mark(4, 8)}}


def test_who_was_not_heard_in_this_run_begins_with_its_first_report() -> None:
    """Its marks are those of the store, below what the other run may have counted."""
    machine, _ = went_back(heard=False)
    machine.take_effects()
    machine.receive(report(30, total(4, 9), total(30, 1, "k")), NOW)
    assert [machine.state.total(path) for path in "nk"] == [0, 1]


@pytest.mark.parametrize(
    ("run", "version", "is_back"),
    [("run-1", 5, False), ("run-1", 6, True), ("run-2", 9, False), ("run-x", 6, True)],
)
def test_a_copy_is_noticed_runs_later(run: str, version: int, is_back: bool) -> None:
    """By who was away since: what counts is what the run behind the one it heard began with. Of
    one that the store does not know it is what the first began with."""
    runs = (("run-1", 3), ("run-2", 5))
    restored = Restored(replica="replica-1", version=9, runs=runs)
    machine = collector(restored, epoch="run-3", named=("replica-1",))
    machine.request("up", b"a", SnapshotRequest(1, None, run=run, version=version))
    machine.take_effects()
    assert machine.replica == ("run-3" if is_back else "replica-1")


def test_who_is_told_that_another_went_on_for_it_replaces_both() -> None:
    """So that everybody knows whom it goes on for, and waits for neither."""
    machine = collector(named=None)
    machine.request("up", b"a", SnapshotRequest(1, None, run="other", version=REPLACED))
    (log,) = [e.text for e in machine.take_effects() if isinstance(e, Log)]
    assert "/s went back in time: other goes on for replica-1; " in log
    machine.persisted(NOW)
    assert said(machine).replaces == ["replica-1", "other"]


@pytest.mark.parametrize(
    ("named", "is_told"), [(None, [False, False, True]), (("replica-1",), [True, True, True])]
)
def test_nobody_above_hears_of_another_that_is_neither_stored_nor_named(
    named: tuple[str, ...] | None, is_told: list[bool]
) -> None:
    """As over tcp with a full disk: what comes back is the lost one, and would count it again."""
    machine = collector(named=named)
    machine.request("up", b"a", SnapshotRequest(1, None, run="run-1", version=9))
    told: list[bool] = []
    for second, is_full in enumerate((True, True, False), 1):
        machine.receive(report(second, total(second, 5)), NOW)
        machine.request("up", b"b", SnapshotRequest(1, None))
        machine.handle_timer(NOW + 2 * second * SECOND)
        effects = machine.take_effects()
        (batch,) = [e for e in effects if isinstance(e, Persist)]
        if is_full:
            machine.not_persisted(batch, "disk full", NOW)
        else:
            machine.persisted(NOW)
            effects = machine.take_effects()
        told.append(any(isinstance(e, Publish | Answer) for e in effects))
    assert (machine.replica, told) == ("run-2", is_told)


@pytest.mark.parametrize(
    "request_",
    [
        SnapshotRequest(1, None),
        SnapshotRequest(1, None, run="run-1", version=5),
        SnapshotRequest(1, None, run="run-1", version=6),
        SnapshotRequest(1, None, run="run-2", version=9),
        SnapshotRequest(1, None, source="another", run="run-1", version=9),
    ],
)
def test_who_knows_no_more_than_the_store_held_is_answered(request_: SnapshotRequest) -> None:
    """Nothing is known, as much as there was, registers that were told before they would have been
    stored, this very run, or another replica."""
    machine = collector(Restored(replica="replica-1", version=5), named=("replica-1",))
    machine.request("up", b"a", request_)
    assert any(isinstance(e, Answer) for e in machine.take_effects())
    assert machine.replica == "replica-1"


def test_a_disk_that_can_not_be_written_is_a_lower_bound_while_it_lasts() -> None:
    """A restart would lose what was counted meanwhile."""
    machine = collector(named=("replica-1",))
    machine.receive(report(1, total(1, 1)), NOW)
    (batch,) = [e for e in machine.take_effects() if isinstance(e, Persist)]
    machine.not_persisted(batch, "/s can't be written: disk full", NOW)
    assert said(machine).lower_bound == "/s can't be written: disk full"
    machine.persisted(NOW)
    machine.handle_timer(NOW + 20 * SECOND)
    beats = [e.message for e in machine.take_effects() if isinstance(e, Publish)]
    assert [b.hosts[0].lower_bound for b in beats if isinstance(b, Heartbeat)] == [""]


def test_a_delta_that_is_still_under_way_does_not_end_a_replacement() -> None:
    """What the replaced replica said in its last run is applied; it stays replaced."""
    knows = aggregator_machine()
    knows.receive(beat("old", "run-1"), NOW)
    knows.receive(chunk("old", "run-1", 1, 9, 9), NOW)
    knows.receive(beat("new", "run-2", replaces=("old",)), NOW)
    body = Fragment("old", 9, 10, [], [], [], [Entry("n", NOW, 10)])
    knows.receive(Delta("old", "run-1", 0, 1, body), NOW)
    assert knows.state.total("n") == 10
    assert knows.hosts(NOW)[0].status == "replaced"


def test_a_store_behind_the_version_that_is_named_went_back() -> None:
    """No follower is needed: processes are asked to say all again, and nothing is counted twice."""
    restored = Restored(
        replica="replica-1",
        version=5,
        lines={P: Line(7, -1)},
        marks={P: {"n": Mark(4, 5)}},
        entries=(Entry("n", NOW, 5),),
    )
    machine = collector(restored, named=("replica-1",), named_version=6)
    effects = machine.take_effects()
    (log,) = [e.text for e in effects if isinstance(e, Log)]
    assert "went back in time" in log
    assert Name(("run-2", "replica-1")) in effects
    assert Acknowledge(P, 0) in machine.persisted(NOW)
    machine.receive(report(20, total(4, 9)), NOW)
    assert machine.state.total("n") == 0
    machine.receive(report(21, total(4, 10)), NOW)
    assert machine.state.total("n") == 1
    assert (said(machine).lower_bound, machine.replica) == (WENT_BACK, "run-2")


@pytest.mark.parametrize(
    ("named", "version"), [(("replica-1",), 5), (("replica-1",), 0), (("older",), 9), (None, 9)]
)
def test_a_store_that_is_as_far_as_is_named_did_not_go_back(
    named: tuple[str, ...] | None, version: int
) -> None:
    """Nor one of which that is not known, or that is said of another."""
    restored = Restored(replica="replica-1", version=5, replaces=("older",))
    machine = collector(restored, named=named, named_version=version)
    assert said(machine).lower_bound == ""
    assert machine.replica == "replica-1"
