"""Stamps that lead the clock: who is told of them, from when, and for how long."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.collector.batch import Lead, Persist, Restored
from shardlog.collector.sidecar import leads
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.life import LifeFolder
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import Erase, Write
from shardlog.crdt.life import STAMP, life_name, read_stamp
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.stamp import MAX_SKEW_NS
from shardlog.handler.life import Life
from tests.collector.network import stored

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 10**9
MINUTE = 60 * SECOND
NOW = 1_700_000_000 * SECOND
P = f"blade@node:boot:1:{NOW}:aa"
Q = f"other@node:boot:2:{NOW}:bb"


def sidecar(now_ns: int = NOW, restored: Restored | None = None) -> Sidecar:
    return Sidecar(
        SidecarConfig(listen="ipc:///c", to=(), host="node", store="/s"),
        restored or Restored(replica="replica-1"),
        process="node@node::1:1:cc",
        epoch="epoch-1",
        now_ns=now_ns,
        bytes_max=10_000,
    )


def say(machine: Sidecar, stamp: int, now_ns: int, process: str = P, path: str = "a") -> None:
    machine.receive(Report(process, 1, now_ns, False, [Write(path, stamp, 0, 1)], [], []), now_ns)


def told(machine: Sidecar, batches: list[Persist] | None = None) -> list[Lead]:
    """Who is told of, behind all that is to be persisted."""
    effects = machine.take_effects()
    kinds = [type(effect) for effect in effects]
    found = [effect for effect in effects if isinstance(effect, Lead)]
    if found and Persist in kinds:
        assert kinds.index(Persist) < kinds.index(Lead)
    for effect in effects:
        if isinstance(effect, Persist) and batches is not None:
            batches.append(effect)
    return found


@given(st.lists(st.tuples(st.integers(0, 10 * MINUTE), st.integers(0, SECOND)), max_size=30))
def test_while_the_clock_goes_on_nobody_is_told_of(steps: list[tuple[int, int]]) -> None:
    """Whatever is late, or was stamped while the collector read its clock."""
    machine, now_ns = sidecar(), NOW
    for forward_ns, ahead_ns in steps:
        now_ns += forward_ns
        say(machine, now_ns + ahead_ns, now_ns)
        machine.handle_timer(now_ns)
        assert told(machine) == []


def test_blade_that_goes_on_ahead_is_told_of_once() -> None:
    """Not with each report, but again when it has come a second further; floors count too."""
    machine = sidecar()
    say(machine, NOW + MINUTE, NOW)
    assert told(machine) == [Lead("blade", NOW + MINUTE + SECOND)]
    for n in range(100):
        say(machine, NOW + MINUTE + n, NOW + n)
    assert told(machine) == []
    erase = Erase("a", NOW + 2 * MINUTE, 0)
    machine.receive(Report(P, 2, NOW, False, [], [erase], []), NOW)
    assert told(machine) == [Lead("blade", NOW + 2 * MINUTE + SECOND)]


def test_what_is_refused_leads_nobody() -> None:
    """More than an hour ahead: else a successor would be refused as well."""
    machine = sidecar()
    say(machine, NOW + MAX_SKEW_NS + 1, NOW)
    assert (machine.refused, told(machine)) == ({"skew": 1}, [])


def test_step_back_under_what_is_held_is_noticed() -> None:
    """Nobody needs to say anything: who was heard last comes by its newest stamp."""
    machine = sidecar()
    for second in range(10):
        say(machine, NOW + second * SECOND, NOW + second * SECOND, path=f"a/{second}")
    say(machine, NOW - MINUTE, NOW, process=Q)
    machine.handle_timer(NOW + 10 * SECOND)
    assert told(machine) == []
    machine.handle_timer(NOW - MINUTE)
    assert Lead("blade", NOW + 10 * SECOND) in (found := told(machine))
    assert "other" not in {lead.blade for lead in found}


def test_step_back_while_the_collector_was_down_is_noticed_at_its_start() -> None:
    """In the first batch, which comes before anybody is heard."""
    batches: list[Persist] = []
    machine = sidecar()
    say(machine, NOW, NOW)
    assert told(machine, batches) == []
    again = sidecar(NOW - MINUTE, stored(batches, "replica-1"))
    assert Lead("blade", NOW + SECOND) in told(again)


def test_blade_is_told_of_anew_once_the_clock_has_caught_up() -> None:
    """What was told is forgotten then: the file is gone too."""
    machine = sidecar()
    for now_ns in (NOW, NOW + 2 * MINUTE):
        machine.handle_timer(now_ns)
        say(machine, now_ns + MINUTE, now_ns)
        assert len(told(machine)) == 1
    machine.handle_timer(NOW + 4 * MINUTE)
    assert machine._leads._told == {}  # pyright: ignore[reportPrivateUsage]


def test_invented_blades_do_not_fill_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit they are counted, and those that were told of go on."""
    monkeypatch.setattr(leads, "BLADES_MAX", 3)
    machine = sidecar()
    for n in range(5):
        say(machine, NOW + MINUTE + n, NOW, process=f"b{n}@node:boot:1:{NOW}:aa")
    say(machine, NOW + 2 * MINUTE, NOW, process=f"b0@node:boot:1:{NOW}:aa", path="b")
    assert [lead.blade for lead in told(machine)] == ["b0", "b1", "b2"]
    assert machine.refused == {"leads": 2}


@pytest.mark.parametrize("seed", range(20))
def test_whoever_is_told_stamps_above_all_that_was_admitted(seed: int) -> None:
    """A blade's processes come and go while the clock steps within the hour: each one that begins
    after the collector has seen the step wins over all before it.
    """
    rng, machine = Random(seed), sidecar()
    lead, last_ns, now_ns = 0, 0, NOW
    for n in range(200):
        now_ns += rng.choice([SECOND, 10 * SECOND, -20 * MINUTE, 20 * MINUTE])
        now_ns = max(now_ns, last_ns - MAX_SKEW_NS + MINUTE)
        machine.handle_timer(now_ns)
        lead = max([lead, *(told.stamp for told in told(machine) if told.blade == "blade")])
        stamp = max(now_ns, lead + 1)
        say(machine, stamp, now_ns, process=f"blade@node:boot:{n}:{NOW}:{n}")
        assert machine.state.map.leaves["a"].stamp == stamp
        last_ns = stamp
        lead = 0 if lead <= now_ns else lead


def test_file_says_it_to_the_next_process_until_the_clock_is_beyond(tmp_path: Path) -> None:
    """Written over by what is higher, removed by the scan, and nobody else's."""
    folder = LifeFolder(str(tmp_path))
    for stamp in (NOW, NOW + 5):
        folder.lead("blade", stamp)
        life = Life(str(tmp_path), P.replace("aa", str(stamp)))
        assert life.stamp == stamp
        life.close()
    life = Life(str(tmp_path), Q)
    assert life.stamp == 0
    life.close()
    path = tmp_path / (life_name("blade") + STAMP)
    for now_ns in (NOW, NOW + 5):
        assert read_stamp(path.read_bytes()) == NOW + 5
        folder.scan()
        assert folder.drop_stamps(now_ns) == []
    assert not path.exists()


@pytest.mark.parametrize("data", [b"", b"short", b"much too long"])
def test_bad_file_is_no_stamp_and_is_put_aside(tmp_path: Path, data: bytes) -> None:
    """The process begins by its clock, the collector counts one bad file."""
    path = tmp_path / (life_name("blade") + STAMP)
    path.write_bytes(data)
    life = Life(str(tmp_path), P)
    assert life.stamp == 0
    life.close()
    folder = LifeFolder(str(tmp_path))
    folder.scan()
    assert [bad.reason for bad in folder.drop_stamps(NOW)] == ["file"]
    folder.scan()
    assert folder.drop_stamps(NOW) == []
    assert [p.name for p in tmp_path.glob("*.bad")] == [f"{path.name}.bad"]


def test_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    """Neither by the process nor by the collector."""
    (tmp_path / "elsewhere").write_bytes(NOW.to_bytes(8, "big"))
    (tmp_path / (life_name("blade") + STAMP)).symlink_to(tmp_path / "elsewhere")
    life = Life(str(tmp_path), P)
    assert life.stamp == 0
    life.close()
    folder = LifeFolder(str(tmp_path))
    folder.scan()
    assert folder.drop_stamps(NOW) == []
    assert (tmp_path / "elsewhere").exists()
