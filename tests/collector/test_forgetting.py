"""Records go when they are due, their counts go on beside them, and nothing comes back."""

from __future__ import annotations

from typing import Any

import pytest

from shardlog.collector.batch import STEP, Persist, Restored
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import FORGOTTEN, Erase, Forgotten, Fragment, Retired, Total, Write
from shardlog.crdt.replication.messages import (
    Changes,
    Confirm,
    Delta,
    Heard,
    PassDown,
    RecordClock,
    Report,
    Row,
)
from shardlog.crdt.replication.view import View
from shardlog.crdt.retention import Retention
from shardlog.crdt.state import State
from shardlog.monitor.replica import Replica
from tests.collector.network import Network, stored
from tests.collector.test_sidecar import BLADE, NOW, SECOND, deltas, persisted, report, sidecar
from tests.crdt.test_mutants import Mutant, mutated

TABLE = Retention({"intents/*": "10s", "intents/*/pin": "forever", "last": "10s"})


def forgetful(restored: Restored | None = None, **said: Any) -> Sidecar:
    return sidecar(restored, retention=TABLE, **said)


def pass_time(machine: Sidecar, seconds: int, start: int = 0) -> list[Any]:
    """Let the collector's clock tick; the effects of it all."""
    effects: list[Any] = machine.take_effects()
    for second in range(start + 1, start + seconds + 1):
        machine.handle_timer(NOW + second * SECOND)
        effects += machine.take_effects()
    return effects


def followed(effects: list[Any]) -> State:
    """The state of who has heard all of this."""
    state = State()
    state.versions["replica-1"] = STEP
    for delta in deltas(effects, "up"):
        assert isinstance(delta.body, Fragment)
        state.merge(delta.body)
        state.check_invariants()
    return state


def test_a_record_is_forgotten_whole_and_its_counts_go_on() -> None:
    """Not before its newest stamp is old enough; here and wherever it was heard."""
    machine = forgetful()
    machine.receive(
        report(
            Total("intents/1/n", 1, NOW, NOW, 5),
            writes=(Write("intents/1/host", NOW + SECOND, 0, "h"),),
            erases=(Erase("intents/1/gone", NOW, 0),),
        ),
        NOW,
    )
    effects = pass_time(machine, 11)
    assert machine.state.total("intents/1/n") == 5
    effects += pass_time(machine, 1, 11)
    assert machine.state.at_and_below("intents/1") == []
    assert machine.state.total("intents/*/n") == machine.state.total("intents/~/n") == 5
    assert machine.state.entries("intents/~/n")["replica-1"].base == 0
    follower = followed(effects)
    assert follower.digest() == machine.state.digest()
    (body,) = [d.body for d in deltas(effects, "up") if getattr(d.body, "forgotten", [])]
    assert isinstance(body, Fragment)
    assert body.forgotten == [Forgotten("intents/1", NOW + SECOND)]
    assert [(e.path, e.amount) for e in body.entries] == [("intents/~/n", 5)]


def test_each_published_verdict_is_forgotten_by_itself() -> None:
    """Else none would be, as long as any is published."""
    machine = sidecar(retention=Retention({"shardlog/live/*/*": "10s"}))
    old, new = (f"shardlog/live/answered/intents\\/{key}/verdict" for key in (1, 2))
    machine.receive(report(writes=(Write(old, NOW, 0, "fail"),)), NOW)
    pass_time(machine, 9)
    machine.receive(report(writes=(Write(new, NOW + 9 * SECOND, 0, "pass"),)), NOW + 9 * SECOND)
    pass_time(machine, 3, 9)
    assert machine.state.shown(old) is None
    assert machine.state.shown(new) is not None


def test_counts_that_do_not_fit_beside_their_record_are_said_to_be_lost() -> None:
    """Two totals near 2**63 cannot both go on at one path: the second is counted as refused."""
    machine = forgetful()
    for record in ("1", "2"):
        machine.receive(report(Total(f"intents/{record}/n", 1, NOW, NOW, 2**63 - 1)), NOW)
    pass_time(machine, 12)
    assert machine.state.total("intents/~/n") == 2**63 - 1
    assert machine.refused == {"overflow": 1}
    assert machine.state.total("shardlog/health/collector/node-1/refused/overflow") == 1


def test_who_counts_on_makes_the_record_reappear_with_what_is_new() -> None:
    """The totals that were heard are remembered, across a restart too."""
    machine = forgetful()
    machine.receive(report(Total("intents/1/n", 1, NOW, NOW, 5)), NOW)
    effects = pass_time(machine, 12)
    batches = [effect for effect in effects if isinstance(effect, Persist)]
    machine = forgetful(stored(batches, "replica-1"))
    assert "intents/1/n" not in machine.state.counting
    at = NOW + 12 * SECOND
    machine.receive(report(Total("intents/1/n", 1, NOW, at, 7)), at)
    assert machine.state.total("intents/1/n") == 2
    assert machine.state.total("intents/*/n") == 7


def test_a_late_total_and_a_late_register_do_not_bring_a_record_back() -> None:
    """What is too old for its record goes to `~`, or is refused; a repetition changes no byte."""
    machine = forgetful()
    first = report(
        Total("intents/1/n", 1, NOW, NOW, 5), writes=(Write("intents/1/host", NOW, 0, "h"),)
    )
    machine.receive(first, NOW)
    pass_time(machine, 12)
    at = NOW + 12 * SECOND
    machine.receive(report(), at)  # it had been called lost
    digest = machine.state.digest()
    machine.receive(first, at)
    assert machine.state.digest() == digest
    assert machine.refused == {"old": 1}
    machine.receive(report(Total("intents/1/n", 1, NOW, NOW + SECOND, 6)), at)
    assert machine.state.at_and_below("intents/1") == []
    assert machine.state.total("intents/~/n") == 6


def test_a_node_that_was_down_forgets_before_it_speaks() -> None:
    """What fell due meanwhile is gone in its first batch."""
    machine = forgetful()
    machine.receive(report(Total("intents/1/n", 1, NOW - 20 * SECOND, NOW, 5)), NOW)
    machine.receive(report(writes=(Write("intents/2/a", NOW, 0, 1),)), NOW)
    batches = persisted(machine)[0]
    later = forgetful(stored(batches, "replica-1"), now_ns=NOW + 11 * SECOND)
    batches += persisted(later)[0]
    assert later.state.at_and_below("intents/2") == []
    assert later.state.total("intents/~/n") == 5
    registers = stored(batches, "replica-1").registers
    assert not [path for path, _, _ in registers if path.startswith("intents")]


@pytest.mark.parametrize("is_up", [True, False])
def test_a_blades_own_record_stays_while_it_lives(is_up: bool) -> None:
    """Its message and its presence, however long it says nothing else."""
    table = Retention({"*/*": "10s", "shardlog/presence/*/*": "10s"})
    machine = sidecar(retention=table)
    status = Write(f"shardlog/presence/scraper-1/{BLADE}/status", NOW, 0, "up")
    machine.receive(report(writes=(Write("scraper-1/msg", NOW, 0, "hello"), status)), NOW)
    for second in range(1, 30):
        machine.handle_timer(NOW + second * SECOND)
        if is_up:
            machine.receive(report(at_ns=NOW + second * SECOND), NOW + second * SECOND)
        machine.take_effects()
    assert (machine.state.shown("scraper-1/msg") is not None) == is_up
    assert bool(machine.state.at_and_below("shardlog/presence/scraper-1")) == is_up


@pytest.mark.parametrize("is_heard", [True, False])
def test_who_has_a_locked_life_file_lives(is_heard: bool) -> None:
    """However silent; also after a restart that finds it called lost, or never heard of it."""
    table = Retention({"*/*": "10s", "shardlog/presence/*/*": "10s"})
    presence = f"shardlog/presence/scraper-1/{BLADE}/status"
    machine = sidecar(retention=table)
    said = (Write("scraper-1/msg", NOW, 0, "hello"), Write(presence, NOW, 0, "up"))
    machine.receive(report(process=BLADE if is_heard else f"{BLADE}b", writes=said[:1]), NOW)
    machine.receive(report(writes=said[1:] if is_heard else ()), NOW)
    for second in range(1, 8):
        machine.handle_timer(NOW + second * SECOND)
    batches = persisted(machine)[0]
    if not is_heard:
        machine.ended(BLADE, [], NOW + 8 * SECOND)
        batches += persisted(machine)[0]
    name = BLADE if is_heard else f"{BLADE}c"
    later = sidecar(stored(batches, "replica-1"), now_ns=NOW + 30 * SECOND, retention=table)
    for second in range(30, 60):
        later.alive(name, NOW + second * SECOND)
        later.handle_timer(NOW + second * SECOND)
        later.take_effects()
    assert later.state.shown("scraper-1/msg") is not None
    later.ended(name, [], NOW + 60 * SECOND)
    pass_time(later, 12, 60)
    assert later.state.shown("scraper-1/msg") is None


def test_what_a_process_left_too_late_goes_on_beside_its_record_as_it_ends() -> None:
    """Its totals are in, its rows and its registers gone: in one transaction, closed id and all."""
    machine = forgetful()
    at = NOW + 60 * SECOND
    machine.receive(report(Total("intents/1/n", 1, NOW, NOW, 5)), NOW)
    batches = persisted(machine)[0]
    for second in range(1, 61):
        machine.handle_timer(NOW + second * SECOND)
        if second < 60:
            batches += persisted(machine)[0]
    left = report(
        Total("intents/1/n", 1, NOW, NOW, 7), writes=(Write("intents/1/a", NOW, 0, 1),), final=True
    )
    machine.ended(BLADE, [left], at)
    (batch,) = persisted(machine)[0]
    assert (batch.ended, len(batch.closed)) == ((BLADE,), 1)
    after = stored([*batches, batch], "replica-1")
    assert [(e.path, e.amount) for e in after.entries if "intents" in e.path] == [
        ("intents/~/n", 7)
    ]
    assert (after.marks, after.lines, machine.refused) == ({}, {}, {"old": 1})
    again = forgetful(after, now_ns=at)
    again.receive(left, at)
    assert (again.state.total("intents/*/n"), again.refused) == (7, {"closed": 1})


def test_a_retired_path_of_a_forgotten_record_counts_anew() -> None:
    """What a retired total still says is known; a new generation makes the record reappear."""
    machine = forgetful()
    machine.receive(report(Total("intents/1/n", 1, NOW, NOW, 5)), NOW)
    pass_time(machine, 12)
    at = NOW + 12 * SECOND
    said = report(at_ns=at)
    said.retired.append(Retired("intents/1/n", 1))
    machine.receive(said, at)
    machine.receive(report(Total("intents/1/n", 1, NOW, NOW, 5)), at)
    machine.receive(report(Total("intents/1/n", 9, at, at, 2)), at)
    assert machine.state.total("intents/1/n") == 2
    assert machine.state.total("intents/*/n") == 7


def test_a_record_of_one_key_loses_registers_only() -> None:
    """There is no sibling at which its counts could go on."""
    machine = forgetful()
    machine.receive(
        report(Total("last/n", 1, NOW, NOW, 5), writes=(Write("last/at", NOW, 0, 1),)), NOW
    )
    effects = pass_time(machine, 12)
    assert machine.state.at_and_below("last") == ["last/n"]
    assert followed(effects).digest() == machine.state.digest()
    assert machine.state.total("last/n") == 5


def test_a_record_waits_for_those_within_it() -> None:
    """A longer pattern that keeps something for ever keeps what is around it."""
    machine = forgetful()
    machine.receive(
        report(writes=(Write("intents/1/pin", NOW, 0, 1), Write("intents/1/a", NOW, 0, 1))), NOW
    )
    pass_time(machine, 30)
    assert machine.state.at_and_below("intents/1") == ["intents/1/a", "intents/1/pin"]


def test_a_large_record_goes_in_versions_of_each_of_which_the_total_is_right() -> None:
    """Counter by counter, the ones below first; no follower ever sees more or less."""
    machine = forgetful()
    paths = [f"intents/1/{i % 7}/{i}" for i in range(100)]
    machine.receive(report(*(Total(path, 1, NOW, NOW, 1) for path in paths)), NOW)
    state = followed(machine.take_effects())
    steps = 0
    for delta in deltas(pass_time(machine, 12), "up"):
        assert isinstance(delta.body, Fragment)
        state.merge(delta.body)
        steps += bool(delta.body.forgotten)
        assert state.total("intents/**") == 100
    assert steps > 5
    assert state.digest() == machine.state.digest()


def test_monitors_are_told_that_it_was_forgotten() -> None:
    """And not that it was erased."""
    machine = forgetful(serve="ipc:///s")
    machine.receive(report(writes=(Write("intents/1/host", NOW, 0, "h"),)), NOW)
    effects = pass_time(machine, 12)
    rows: list[Row] = []
    for delta in deltas(effects, "serve"):
        assert isinstance(delta.body, Changes)
        rows += [row for row in delta.body.rows if row.path == "intents/1/host"]
    assert (rows[-1].kind, rows[-1].stamp) == (FORGOTTEN, NOW)


@pytest.mark.parametrize("node", ["collector", "aggregator"])
def test_no_total_of_a_monitor_goes_down_between_two_messages(node: str) -> None:
    """Nor up: what counts go on as, and that they are gone, is told at once, however much it is."""
    machine = forgetful(serve="ipc:///s")
    paths = [f"intents/{record}/{i}" for record in range(4) for i in range(25)]
    machine.receive(report(*(Total(path, 1, NOW, NOW, 1) for path in paths)), NOW)
    effects = [machine.take_effects()]
    effects += [pass_time(machine, 1, second) for second in range(12)]
    changes: list[object] = []
    if node == "collector":
        changes += [delta.body for batch in effects for delta in deltas(batch, "serve")]
    else:
        state = State()
        state.versions["replica-1"] = STEP
        view = View(state, "node", "epoch", interval_ms=1000, bytes_max=1000)
        for batch in effects:
            for delta in deltas(batch, "up"):
                assert isinstance(delta.body, Fragment)
                state.merge(delta.body)
            published = [effect.message for effect in view.publish(state.take_touched())]
            changes += [message.body for message in published if isinstance(message, Delta)]
    monitor = Replica()
    total: int | float = 0
    for body in changes:
        assert isinstance(body, Changes)
        monitor.apply(body)
        assert total <= monitor.total("intents/**") <= 100
        total = monitor.total("intents/**")
    assert (total, monitor.total("intents/~/*")) == (100, 100)


def test_records_of_different_shapes_meet_at_the_collapsed_key() -> None:
    """A counter in one record, counters below that place in another: both go on."""
    machine = forgetful()
    machine.receive(report(Total("intents/1/a", 1, NOW, NOW, 5)), NOW)
    machine.receive(report(Total("intents/2/a/b", 1, NOW, NOW + SECOND, 7)), NOW + SECOND)
    before = machine.state.total("intents/*/a"), machine.state.total("intents/*/a/b")
    follower = followed(pass_time(machine, 14))
    for state in (machine.state, follower):
        assert (state.total("intents/*/a"), state.total("intents/*/a/b")) == before == (5, 7)


def test_nobody_writes_at_the_collapsed_key() -> None:
    """It is refused from the wire, as it is in shards."""
    machine = forgetful()
    machine.receive(
        report(Total("intents/~/n", 1, NOW, NOW, 5), writes=(Write("a/~", NOW, 0, 1),)), NOW
    )
    assert machine.refused == {"collapsed": 2}
    assert machine.state.total("intents/*/n") == 0


def test_a_batch_that_was_not_written_is_forgotten_with_the_next() -> None:
    """The entries that are gone are deleted later, unless they came back."""
    machine = forgetful()
    for name in "12":
        machine.receive(report(Total(f"intents/{name}/n", 1, NOW, NOW, 5)), NOW)
    batches = persisted(machine)[0]
    for second in range(1, 13):
        machine.handle_timer(NOW + second * SECOND)
        for effect in machine.take_effects():
            if isinstance(effect, Persist):
                if effect.gone:
                    machine.not_persisted(effect, "full", NOW + second * SECOND)
                else:
                    batches.append(effect)
    at = NOW + 13 * SECOND
    machine.receive(report(Total("intents/2/n", 1, NOW, at, 6)), at)
    batches += persisted(machine)[0]
    kept = {e.path: e.amount for e in stored(batches, "replica-1").entries}
    assert {path: n for path, n in kept.items() if path.startswith("intents")} == {
        "intents/2/n": 1,
        "intents/~/n": 10,
    }


SECONDS = Retention({"intents/*": "5s", "shardlog/presence/*/*": "forever"})
PATTERN = "intents/*/n"


def check_totals(seed: int) -> None:
    """I1 and I2: at every node, all the time; in the end all nodes show what was counted."""
    network = Network(hosts=3, aggregators=2, seed=seed, retention=SECONDS)
    rng = network.rng
    shown: dict[int, int | float] = {}

    def look() -> None:
        for aggregator in network.aggregators:
            total = aggregator.state.total(PATTERN)
            assert shown.get(id(aggregator), 0) <= total <= network.counted
            shown[id(aggregator)] = total
        own = sum(sidecar.state.total(PATTERN) for sidecar in network.sidecars)
        assert own == network.counted

    for _ in range(120):
        network.count(rng.randrange(3), rng.choice("abc"), age_ms=rng.choice([0, 0, 0, 4000, 9000]))
        look()
        if rng.random() < 0.1:
            network.restart(rng.randrange(3))
        network.run(rng.choice([50, 200, 1000, 3000]))
        look()
    network.heal()
    look()
    for aggregator in network.aggregators:
        assert aggregator.state.total(PATTERN) == network.counted
        assert [p for p in aggregator.state.paths() if p.startswith("intents")] == ["intents/~/n"]
    assert len({aggregator.state.digest() for aggregator in network.aggregators}) == 1


@pytest.mark.parametrize("seed", range(12))
def test_no_total_ever_goes_down_whatever_is_forgotten_lost_or_restarted(seed: int) -> None:
    """Collectors that restart, over links that lose, repeat and delay."""
    check_totals(seed)


MUTANTS = [
    Mutant(
        "counts do not collapse in the version that forgets them",
        "yield Piece([Forgotten(record.path, cut)], entries)",
        "yield Piece([Forgotten(record.path, cut)], [])",
    ),
    Mutant(
        "counts stay where they were, too",
        "        self._state.forget(self._ledger.replica, record.path, cut)\n",
        "",
    ),
    Mutant("the cut is lost", "gone.append(Forgotten(path, cut))", "cut = 0"),
    Mutant("what came back is not watched", "            self._watched.discard(record.path)\n", ""),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_a_mistake_in_forgetting_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the totals of some schedule."""
    module = mutated("shardlog.collector.sidecar.forgetting", mutant)
    monkeypatch.setattr("shardlog.collector.sidecar.machine.Forgetting", module.Forgetting)

    assert any(fails(seed) for seed in range(12))


def fails(seed: int) -> bool:
    """Whether the schedule of this seed finds something wrong."""
    try:
        check_totals(seed)
    except (AssertionError, KeyError):
        return True
    return False


def stored_rows(state: State) -> list[object]:
    """All that is stored, but for when processes were heard, which time alone changes."""
    return [
        (
            path,
            state.map.leaves.get(path),
            state.map.floors.get(path),
            state.entries(path),
        )
        for path in state.paths()
        if not path.endswith("/heard")
    ]


@pytest.mark.parametrize("seed", range(12))
def test_replaying_all_reports_after_forgetting_changes_no_byte(seed: int) -> None:
    """I4: in any order, after one more sweep: refused, or known already."""
    network = Network(hosts=1, aggregators=0, seed=seed, retention=SECONDS)
    rng = network.rng
    for _ in range(60):
        network.count(0, rng.choice("abcd"), age_ms=rng.choice([0, 0, 4000, 9000]))
        if rng.random() < 0.1:
            network.restart(0)
        network.run(rng.choice([50, 1000, 3000]))
    for _ in range(3):  # the process lives, and all that it said falls due
        network.run(4000)
        network.deliver(0, Report("blade-0@host-0:1", 1, network.now_ns, False, [], [], []))
    machine, reports = network.sidecars[0], list(network.reports[0])
    assert machine.state.at_and_below("intents") == ["intents/~/n"]
    kept = stored_rows(machine.state)
    network.rng.shuffle(reports)
    for again in reports:
        network.deliver(0, again)
    assert stored_rows(machine.state) == kept
    network.run(1000)
    assert stored_rows(machine.state) == kept
    assert machine.state.total(PATTERN) == network.counted


def test_the_clock_that_a_parent_passes_down_keeps_a_part_as_long() -> None:
    """Across a restart too; of a record of which nothing is here it is of no use."""
    machine = forgetful()
    machine.receive(report(writes=(Write("intents/1/a", NOW, 0, 1),)), NOW)
    clocks = [RecordClock("intents/1", NOW + 15 * SECOND), RecordClock("intents/9", NOW)]
    machine.pass_down(b"parent", PassDown(7, clocks, [], []))
    batches, effects = persisted(machine)
    assert Confirm(b"parent", Heard(7)) in effects
    later = forgetful(stored(batches, "replica-1"), now_ns=NOW + 11 * SECOND)
    batches += [effect for effect in pass_time(later, 25) if isinstance(effect, Persist)]
    assert later.state.total("intents/*/n") == 0
    assert later.state.shown("intents/1/a") is not None
    batches += [effect for effect in pass_time(later, 1, 25) if isinstance(effect, Persist)]
    assert later.state.at_and_below("intents/1") == []
    assert stored(batches, "replica-1").clocks == {}


def test_a_clock_goes_with_the_last_that_it_was_for() -> None:
    """A floor took all of the record: across a restart, too, nothing of it is kept for ever."""
    machine = forgetful()
    machine.receive(report(writes=(Write("intents/1/a", NOW, 0, 1),)), NOW)
    machine.pass_down(b"parent", PassDown(1, [RecordClock("intents/1", NOW)], [], []))
    floor = Erase("intents", NOW + 1, 0)
    machine.pass_down(b"parent", PassDown(2, [], ["q@node-2:1:1:1:a"], [floor]))
    batches, _ = persisted(machine)
    assert stored(batches, "replica-1").clocks == {"intents/1": NOW}
    later = forgetful(stored(batches, "replica-1"))
    for collector in (machine, later):
        said = [e for e in pass_time(collector, 12) if isinstance(e, Persist)]
        assert stored([*batches, *said], "replica-1").clocks == {}


def test_a_floor_that_a_parent_passes_down_takes_what_was_counted_before_it() -> None:
    """The owner resets its entry, keeps the floor, and publishes both; what comes after counts."""
    machine = forgetful()
    machine.receive(report(Total("intents/1/n", 1, NOW, NOW, 5)), NOW)
    effects = machine.take_effects()
    floors = [Erase("intents/1", NOW + 1, 0), Erase("elsewhere", NOW + 1, 0)]
    machine.pass_down(b"parent", PassDown(1, [], ["q@node-2:1:1:1:a"], floors))
    machine.receive(report(Total("intents/1/n", 1, NOW, NOW + 2, 7)), NOW + 2)
    effects += machine.take_effects()
    assert machine.state.total("intents/1/n") == 2
    assert followed(effects).digest() == machine.state.digest()
    assert "elsewhere" not in machine.state.map.floors
    batches = [effect for effect in effects if isinstance(effect, Persist)]
    again = forgetful(stored(batches, "replica-1"))
    again.state.versions["replica-1"] -= STEP
    assert again.state.digest() == machine.state.digest()
