"""The store: what was committed is there again, and nobody else has it open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from shardlog.collector.batch import (
    NO_SUMS,
    STEP,
    UNHEARD,
    Closed,
    Identity,
    Line,
    Persist,
    SavedSums,
)
from shardlog.collector.database import JOURNAL_BYTES_KEPT
from shardlog.collector.store import Store
from shardlog.crdt.counter import Mark
from shardlog.crdt.delta import Entry
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.lww_map import Floor, Leaf

if TYPE_CHECKING:
    from pathlib import Path

BATCH = Persist(
    version=3,
    marks=(("p", "n", Mark(1, 5)), ("p", "f", Mark(2, (0, 210_000_000, 0, 0)))),
    entries=(Entry("n", 2, 5, 3, 1, born=1), Entry("f", 2, (0, 210_000_000, 0, 0), born=1)),
    registers=(
        ("a", Leaf(1, "p", ["x", 1, b"y", float("inf")]), None),
        ("b", None, Floor(2, "p")),
        ("c", Leaf(4, "p", {}), Floor(3, "p")),
    ),
    clocks=(("a", 7), ("b", 8)),
    members={("tcp://a:1", "q"): "node-2", ("tcp://b:1", "q"): "node-2"},
    sums=SavedSums(
        {"p": (5, (0, 210_000_000, 0, 0), 2**80), "": (1,)},
        {("p", "n", 3): (1, 0, 2, 0), ("p", "m", 4): 7},
    ),
)


def test_what_was_committed_is_loaded_again(tmp_path: Path) -> None:
    """Marks, entries, registers, floors, the version and the name come back as they were."""
    store = Store(str(tmp_path / "new" / "folder"))
    replica = store.load().replica
    store.commit(BATCH)
    store.close()
    loaded = Store(str(tmp_path / "new" / "folder")).load()
    assert loaded.replica == replica
    assert loaded.version == BATCH.version
    assert loaded.marks == {"p": {"n": Mark(1, 5), "f": Mark(2, (0, 210_000_000, 0, 0))}}
    assert sorted(loaded.entries, key=lambda e: e.path, reverse=True) == list(BATCH.entries)
    assert sorted(loaded.registers) == list(BATCH.registers)
    assert loaded.clocks == dict(BATCH.clocks)
    assert loaded.members == BATCH.members
    assert loaded.sums == BATCH.sums


def test_sums_of_what_is_no_more_go(tmp_path: Path) -> None:
    """A total that is no longer refused, and all of a process that has ended."""
    store = Store(str(tmp_path))
    store.commit(BATCH)
    store.commit(Persist(4, (), (), (), sums=SavedSums({"p": (6,)}, {("p", "n", 3): 0})))
    assert store.load().sums == SavedSums({"p": (6,), "": (1,)}, {("p", "m", 4): 7})
    store.commit(Persist(5, (), (), (), ended=("p",), sums=SavedSums({"": (7,)}, {})))
    assert store.load().sums == SavedSums({"": (7,)}, {})


def test_what_is_gone_from_the_map_is_gone_from_the_store(tmp_path: Path) -> None:
    """A register without leaf and floor deletes its row, an entry that is gone too."""
    store = Store(str(tmp_path))
    store.commit(BATCH)
    registers = (("a", None, None), ("b", Leaf(5, "p", 1), None))
    store.commit(Persist(4, (), (), registers, gone=("f",), clocks=(("a", None),)))
    assert sorted(store.load().registers) == [("b", Leaf(5, "p", 1), None), BATCH.registers[2]]
    assert store.load().entries == BATCH.entries[:1]
    assert store.load().clocks == {"b": 8}


def test_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """One transaction: when one row can't be written, none is, and the store goes on."""
    store = Store(str(tmp_path))
    with pytest.raises((sqlite3.Error, OverflowError)):
        store.commit(Persist(9, (("p", "n", Mark(1, 1)),), (Entry("n", 2, 2**64),), ()))
    assert (store.load().version, store.load().marks) == (0, {})
    store.commit(BATCH)
    assert store.load().version == BATCH.version


def test_a_store_has_one_owner(tmp_path: Path) -> None:
    """A second process is told that another process uses it, and is free to once that ended."""
    program = f"from shardlog.collector.store import Store; Store({str(tmp_path)!r})"
    store = Store(str(tmp_path))
    second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "another process uses this store" in second.stderr
    store.close()
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_store_that_can_not_be_used_says_so_in_one_line(tmp_path: Path) -> None:
    """A file in the place of the folder, or a later schema: what, where, what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be used"):
        Store(str(tmp_path / "file"))
    (tmp_path / "newer").mkdir()
    with sqlite3.connect(tmp_path / "newer" / "state.sqlite") as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="schema 99"):
        Store(str(tmp_path / "newer"))
    assert [f.name for f in (tmp_path / "newer").glob("*corrupt*")] == []


def test_a_store_that_can_not_be_opened_now_is_left_as_it_is(tmp_path: Path) -> None:
    """Locked by somebody is not damaged: an error in one line, and nothing is renamed."""
    Store(str(tmp_path)).close()
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    other.execute("pragma locking_mode = exclusive")
    other.execute("begin exclusive")
    with pytest.raises(ConfigError, match=r"state\.sqlite: can't be read: .*locked"):
        Store(str(tmp_path)).load()
    other.close()
    assert list(tmp_path.glob("*corrupt*")) == []


def test_no_database_is_set_aside_and_a_new_store_is_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log says where it is now; the second time it gets another name."""
    file = tmp_path / "state.sqlite"
    garbage = b"no database " * 1000
    for n in (1, 2):
        file.write_bytes(garbage)
        caplog.clear()
        store = Store(str(tmp_path))
        assert store.load().version == 0
        store.commit(BATCH)
        store.close()
        (record,) = caplog.records
        assert f"state.sqlite.corrupt-{n}" in record.getMessage()
        assert "\n" not in record.getMessage()
        assert (tmp_path / f"state.sqlite.corrupt-{n}").read_bytes() == garbage


def test_a_store_that_is_damaged_inside_is_set_aside_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It opens, and its rows cannot be read: the new one has another replica's name."""
    store = Store(str(tmp_path))
    replica = store.load().replica
    rows = tuple(("p", f"path/{i}", Mark(1, i)) for i in range(5000))
    store.commit(replace(BATCH, marks=rows))
    store.close()
    file = tmp_path / "state.sqlite"
    data = bytearray(file.read_bytes())
    data[8 * 4096 : 40 * 4096] = b"\xff" * (32 * 4096)
    file.write_bytes(data)
    store = Store(str(tmp_path))
    loaded = store.load()
    assert (loaded.version, loaded.marks) == (0, {})
    assert loaded.replica != replica
    assert len(caplog.records) == 1
    store.commit(BATCH)
    store.close()
    assert Store(str(tmp_path)).load().version == BATCH.version


SCHEMA_1 = """
create table replica (id text not null, version integer not null) strict;
create table mark (
    process text, path text, generation integer not null,
    p integer not null, pn integer not null, n integer not null, nn integer not null,
    primary key (process, path)
) strict, without rowid;
create table entry (
    path text primary key, born integer not null, last integer not null,
    p integer not null, pn integer not null, n integer not null, nn integer not null
) strict, without rowid;
create table register (
    path text primary key,
    stamp integer, writer text, value blob, floor_stamp integer, floor_writer text
) strict, without rowid;
insert into replica values ('old', 7);
insert into mark values ('p', 'n', 1, 5, 0, 0, 0);
insert into entry values ('n', 1, 2, 5, 0, 0, 0);
insert into register values ('a', 1, 'p', x'01', null, null);
pragma user_version = 1;
"""


def test_a_store_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """All that it held is there, its processes are known, and it takes the new rows."""
    with sqlite3.connect(tmp_path / "state.sqlite") as db:
        db.executescript(SCHEMA_1)
    db.close()
    store = Store(str(tmp_path))
    loaded = store.load()
    assert (loaded.replica, loaded.version, loaded.watermark_ns) == ("old", 7, 0)
    assert loaded.marks == {"p": {"n": Mark(1, 5)}}
    assert loaded.lines == {"p": UNHEARD}
    assert loaded.entries == (Entry("n", 2, 5, born=1),)
    assert loaded.registers == (("a", Leaf(1, "p", 1), None),)
    assert loaded.closed == ()
    assert loaded.sums == NO_SUMS
    store.commit(replace(BATCH, lines=(("p", Line(4, 2)),)))
    store.close()
    again = Store(str(tmp_path)).load()
    assert again.lines == {"p": Line(4, 2)}
    assert set(again.entries) == set(BATCH.entries)
    assert again.sums == BATCH.sums


SCHEMA_2 = """
pragma user_version = 1;
create table line (
    process text primary key, last integer not null, retired integer not null
) strict, without rowid;
create table closed (
    number integer primary key,
    key integer not null, started_ns integer not null, closed_ns integer not null
) strict;
alter table replica add column watermark_ns integer not null default 0;
alter table entry add column base_p integer not null default 0;
alter table entry add column base_pn integer not null default 0;
alter table entry add column base_n integer not null default 0;
alter table entry add column base_nn integer not null default 0;
alter table entry add column reset integer not null default 0;
insert into line values ('p', 4, 2);
pragma user_version = 2;
"""


def test_a_store_of_the_second_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """Nothing was lost of it, its processes have no baseline, and there are no sums yet."""
    with sqlite3.connect(tmp_path / "state.sqlite") as db:
        db.executescript(SCHEMA_1 + SCHEMA_2)
    db.close()
    store = Store(str(tmp_path))
    loaded = store.load()
    assert (loaded.replica, loaded.version) == ("old", 7)
    assert loaded.lines == {"p": Line(4, 2, 0)}
    assert loaded.entries == (Entry("n", 2, 5, born=1),)
    assert (loaded.lost_ns, loaded.lower_bound, loaded.replaces) == (0, "", ())
    assert loaded.sums == NO_SUMS
    store.commit(BATCH)
    assert store.load().sums == BATCH.sums


def test_a_store_remembers_its_latest_runs(tmp_path: Path) -> None:
    """In order, each with one version more than there was; it goes on one above that. Of many the
    last hundred."""
    store = Store(str(tmp_path))
    store.begin("first")
    store.commit(BATCH)
    store.begin("second")
    assert store.load().runs == (("first", 1), ("second", BATCH.version + 1))
    assert store.load().version == BATCH.version + STEP
    for n in range(150):
        store.begin(f"run-{n}")
    runs = store.load().runs
    assert (len(runs), runs[0][0], runs[-1][0]) == (100, "run-50", "run-149")
    store.close()


def test_a_run_that_can_not_be_noted_goes_with_the_next_batch(tmp_path: Path) -> None:
    """A disk that is full at the start does not end it, and leaves no run unknown."""
    store = Store(str(tmp_path))
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    other.execute("begin immediate")
    store.begin("first")
    assert store.load().runs == ()
    other.close()
    store.commit(BATCH)
    store.commit(BATCH)
    assert (store.load().runs, store.load().version) == ((("first", 1),), BATCH.version)
    store.close()


def test_another_replica_takes_a_store_over(tmp_path: Path) -> None:
    """Its name, what it goes on for and the baselines come back; entries that are gone do not."""
    store = Store(str(tmp_path))
    old = store.load().replica
    store.begin("run-1")
    store.commit(replace(BATCH, lines=(("p", Line(4, 2)),)))
    identity = Identity("new", 17, "why", ("older", old))
    store.commit(
        Persist(
            0,
            (),
            (),
            (),
            gone=("n", "f"),
            lines=(("p", Line(4, 2, 9)),),
            sums=SavedSums({"": (0,)}, {}),
            identity=identity,
        )
    )
    store.close()
    loaded = Store(str(tmp_path)).load()
    assert (loaded.replica, loaded.version, loaded.runs) == ("new", 0, (("new", 0),))
    assert (loaded.lost_ns, loaded.lower_bound, loaded.replaces) == (17, "why", ("older", old))
    assert (loaded.lines, loaded.entries) == ({"p": Line(4, 2, 9)}, ())
    assert loaded.sums == SavedSums({"": (0,)}, {})
    assert len(loaded.registers) == len(BATCH.registers)


@pytest.mark.parametrize("schema", [0, 1])
def test_the_file_shrinks_with_what_is_in_it(tmp_path: Path, schema: int) -> None:
    """After thousands of rows came and went a store is as large as before, also one that an earlier
    version made; its journal keeps no more than its usual size.
    """
    if schema:
        with sqlite3.connect(tmp_path / "state.sqlite") as db:
            db.executescript(SCHEMA_1)
        db.close()
    store = Store(str(tmp_path))

    def size() -> int:
        with sqlite3.connect(tmp_path / "state.sqlite") as db:
            db.execute("pragma wal_checkpoint")
            (pages,) = db.execute("pragma page_count").fetchone()
        db.close()
        return int(pages)

    before = size()
    entries = tuple(Entry(f"some/rather/long/path/to/{n}", 2, 3, born=1) for n in range(100_000))
    store.commit(Persist(1, (), entries, ()))
    assert size() > 10 * before
    store.commit(Persist(2, (), (), (), gone=tuple(entry.path for entry in entries)))
    assert size() <= before
    store.commit(BATCH)
    assert (tmp_path / "state.sqlite-wal").stat().st_size <= 2 * JOURNAL_BYTES_KEPT


def test_what_ended_leaves_its_closed_id_and_nothing_else(tmp_path: Path) -> None:
    """Lines come back; a retired mark, an ended process and what is forgotten do not."""
    store = Store(str(tmp_path))
    first, second = Closed(1, 2**63 - 1, 5, 6), Closed(2, 8, 9, 10)
    marks = (*BATCH.marks, ("q", "n", Mark(1, 1)))
    store.commit(replace(BATCH, marks=marks, lines=(("p", Line(3, 1)), ("q", Line(9, -1)))))
    store.commit(Persist(4, (("p", "n", None),), (), (), ended=("q",), closed=(first, second)))
    loaded = store.load()
    assert loaded.marks == {"p": {"f": Mark(2, (0, 210_000_000, 0, 0))}}
    assert loaded.lines == {"p": Line(3, 1)}
    assert loaded.closed == (first, second)
    store.commit(Persist(5, (), (), (), forgotten=2, watermark_ns=6))
    store.close()
    loaded = Store(str(tmp_path)).load()
    assert (loaded.closed, loaded.watermark_ns) == ((second,), 6)


def test_whoever_else_has_the_file_does_not_hold_up_a_commit(tmp_path: Path) -> None:
    """A backup that holds the lock: the commit fails at once, and the batch is kept for later."""
    store = Store(str(tmp_path))
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    other.execute("begin immediate")
    connection = store._database.connection  # pyright: ignore[reportPrivateUsage]
    (wait_ms,) = connection.execute("pragma busy_timeout").fetchone()
    assert wait_ms < 2000
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.commit(BATCH)
    other.close()
    store.commit(BATCH)
    assert store.load().version == BATCH.version
