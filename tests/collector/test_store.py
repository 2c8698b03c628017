"""The store: what was committed is there again, and nobody else has it open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from shardlog.collector.batch import Persist
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
    entries=(Entry("n", 1, 2, 5, 3, 1), Entry("f", 1, 2, (0, 210_000_000, 0, 0))),
    registers=(
        ("a", Leaf(1, "p", ["x", 1, b"y", float("inf")]), None),
        ("b", None, Floor(2, "p")),
        ("c", Leaf(4, "p", {}), Floor(3, "p")),
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


def test_what_is_gone_from_the_map_is_gone_from_the_store(tmp_path: Path) -> None:
    """A register without leaf and floor deletes its row."""
    store = Store(str(tmp_path))
    store.commit(BATCH)
    store.commit(Persist(4, (), (), (("a", None, None), ("b", Leaf(5, "p", 1), None))))
    assert sorted(store.load().registers) == [("b", Leaf(5, "p", 1), None), BATCH.registers[2]]


def test_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """One transaction: when one row can't be written, none is, and the store goes on."""
    store = Store(str(tmp_path))
    with pytest.raises((sqlite3.Error, OverflowError)):
        store.commit(Persist(9, (("p", "n", Mark(1, 1)),), (Entry("n", 1, 2, 2**64),), ()))
    assert (store.load().version, store.load().marks) == (0, {})
    store.commit(BATCH)
    assert store.load().version == BATCH.version


def test_a_store_has_one_owner(tmp_path: Path) -> None:
    """A second process is told that another collector uses it, and is free to once that ended."""
    program = f"from shardlog.collector.store import Store; Store({str(tmp_path)!r})"
    store = Store(str(tmp_path))
    second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "another collector uses this store" in second.stderr
    store.close()
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_store_that_can_not_be_used_says_so_in_one_line(tmp_path: Path) -> None:
    """A file in the place of the folder, no database, another schema: what, where, what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be used"):
        Store(str(tmp_path / "file"))
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "state.sqlite").write_bytes(b"no database " * 1000)
    with pytest.raises(ConfigError, match="move it away"):
        Store(str(tmp_path / "garbage"))
    (tmp_path / "newer").mkdir()
    with sqlite3.connect(tmp_path / "newer" / "state.sqlite") as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="schema 99"):
        Store(str(tmp_path / "newer"))


def test_a_store_that_is_damaged_inside_is_said_in_one_line(tmp_path: Path) -> None:
    """It opens, and its rows cannot be read: the error names the file and what to do."""
    store = Store(str(tmp_path))
    rows = tuple(("p", f"path/{i}", Mark(1, i)) for i in range(5000))
    store.commit(replace(BATCH, marks=rows))
    store.close()
    file = tmp_path / "state.sqlite"
    data = bytearray(file.read_bytes())
    data[8 * 4096 : 40 * 4096] = b"\xff" * (32 * 4096)
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=r"state\.sqlite.*move it away"):
        Store(str(tmp_path)).load()


def test_whoever_else_has_the_file_does_not_hold_up_a_commit(tmp_path: Path) -> None:
    """A backup that holds the lock: the commit fails at once, and the batch is kept for later."""
    store = Store(str(tmp_path))
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    other.execute("begin immediate")
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.commit(BATCH)
    assert time.monotonic() - began < 2
    other.close()
    store.commit(BATCH)
    assert store.load().version == BATCH.version
