"""A collector's store: SQLite, one transaction per batch, before anything of it is published.

What is kept: the replica's name, version and runs, and what it goes on for, per (process, path) the
highest total heard, per process how far it was heard, the ids of those that have ended, the
replica's own entries, the registers and floors, the clocks that others have said records have, and
the sums of all that. These are JSON, as they may need more than 64 bits. With synchronous=FULL a
commit is one append and one fsync. How it is opened, and what becomes of a damaged one, is said in
`shardlog.collector.database`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from typing import TYPE_CHECKING

from shardlog.collector.batch import STEP, Closed, Line, Restored, SavedSums
from shardlog.collector.database import Database
from shardlog.collector.schema import STEPS
from shardlog.crdt.counter import Mark, lengthen, shorten
from shardlog.crdt.delta import Amount, Entry
from shardlog.crdt.lww_map import Floor, Leaf
from shardlog.crdt.wire.codec import decode_value, encode_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.collector.batch import Persist


RUNS_MAX = 100
"""How many runs of a replica are known: who heard it last before these is believed."""


class Store:
    """The open store in a folder, which is made if it is missing.

    Raises:
        ConfigError: the folder cannot be used, another collector has it, the store can't be
            opened now, or its schema is of a later version.
    """

    def __init__(self, folder: str) -> None:
        self._database = Database(
            folder, "state.sqlite", synchronous="full", steps=STEPS, begin=_name_replica
        )
        self.path = self._database.path
        self._unnoted: str | None = None

    def load(self) -> Restored:
        """All that it holds; if that is damaged, a new store, and one line in the log. O(rows).

        Raises:
            ConfigError: it can't be read now.
        """
        return self._database.read(_load)

    def begin(self, epoch: str) -> None:
        """Note that a run begins, before anything is published by it. O(1).

        If that can't be written now, it goes with the next batch.
        """
        self._unnoted = epoch
        db = self._database.connection
        with contextlib.suppress(sqlite3.Error), db:
            db.execute("begin immediate")
            _note_run(db, epoch)
            self._unnoted = None

    def commit(self, batch: Persist) -> None:
        """Write a batch, all of it or nothing, and wait until the disk has it. O(batch).

        Raises:
            sqlite3.Error: it could not be written; the store is as before.
        """
        db = self._database.connection
        with db:
            db.execute("begin immediate")
            if self._unnoted is not None:
                _note_run(db, self._unnoted)
            db.executemany(
                "insert or replace into mark values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (process, path, mark.generation, *lengthen(mark.amount))
                    for process, path, mark in batch.marks
                    if mark is not None
                ],
            )
            db.executemany(
                "delete from mark where process = ? and path = ?",
                [(process, path) for process, path, mark in batch.marks if mark is None],
            )
            db.executemany(
                "insert or replace into entry values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (e.path, e.born, e.last, *lengthen(e.amount), *lengthen(e.base), e.reset)
                    for e in batch.entries
                ],
            )
            db.executemany(
                "insert or replace into register values (?, ?, ?, ?, ?, ?)",
                [
                    (
                        path,
                        *((*leaf.mark, encode_value(leaf.value)) if leaf else (None,) * 3),
                        *(floor or (None, None)),
                    )
                    for path, leaf, floor in batch.registers
                    if leaf or floor
                ],
            )
            db.executemany(
                "delete from register where path = ?",
                [(path,) for path, leaf, floor in batch.registers if not leaf and not floor],
            )
            db.executemany("delete from entry where path = ?", [(path,) for path in batch.gone])
            _commit_lives(db, batch)
            db.executemany(
                "insert or replace into clock values (?, ?)",
                [(record, stamp) for record, stamp in batch.clocks if stamp is not None],
            )
            members = [(*key, host) for key, host in batch.members.items()]
            db.executemany("insert or replace into member values (?, ?, ?)", members)
            db.executemany(
                "delete from clock where record = ?",
                [(record,) for record, stamp in batch.clocks if stamp is None],
            )
            db.execute(
                "update replica set version = ?, watermark_ns = ?",
                (batch.version, batch.watermark_ns),
            )
            if batch.identity is not None:
                *identity, replaces = batch.identity
                db.execute(
                    "update replica set id = ?, lost_ns = ?, lower_bound = ?, replaces = ?",
                    (*identity, " ".join(replaces)),
                )
                db.execute("delete from run")
                first_run = (batch.identity.replica, batch.version)
                db.execute("insert into run (epoch, opened) values (?, ?)", first_run)
        self._unnoted = None

    def close(self) -> None:
        """Close it and let others have it."""
        self._database.close()


def _name_replica(db: sqlite3.Connection) -> None:
    """A new store is a new replica."""
    if db.execute("select count(*) from replica").fetchone() == (0,):
        db.execute("insert into replica (id, version) values (?, 0)", (secrets.token_hex(8),))


def _note_run(db: sqlite3.Connection, epoch: str) -> None:
    db.execute("insert into run (epoch, opened) select ?, version + 1 from replica", (epoch,))
    db.execute("update replica set version = version + ?", (STEP,))
    db.execute("delete from run where number <= (select max(number) from run) - ?", (RUNS_MAX,))


def _load(db: sqlite3.Connection) -> Restored:
    replica, version, watermark_ns, lost_ns, lower_bound, replaces = db.execute(
        "select id, version, watermark_ns, lost_ns, lower_bound, replaces from replica"
    ).fetchone()
    entries = tuple(
        Entry(path, last, _amount(parts[:4]), _amount(parts[4:]), reset, born)
        for path, born, last, *parts, reset in db.execute("select * from entry")
    )
    paths = {entry.path: entry.path for entry in entries}  # one text for all processes
    marks: dict[str, dict[str, Mark]] = {}
    for process, path, generation, *parts in db.execute("select * from mark"):
        mark = Mark(generation, _amount(parts))
        marks.setdefault(process, {})[paths.setdefault(path, path)] = mark
    return Restored(
        replica=replica,
        version=version,
        watermark_ns=watermark_ns,
        marks=marks,
        lines={p: Line(*line) for p, *line in db.execute("select * from line")},
        closed=tuple(Closed(*row) for row in db.execute("select * from closed order by number")),
        entries=entries,
        registers=tuple(_registers(db)),
        clocks=dict(db.execute("select record, stamp from clock")),
        members={tuple(key): host for *key, host in db.execute("select * from member")},
        lost_ns=lost_ns,
        lower_bound=lower_bound,
        replaces=tuple(replaces.split()),
        runs=tuple(db.execute("select epoch, opened from run order by number")),
        sums=_sums(db),
    )


def _commit_lives(db: sqlite3.Connection, batch: Persist) -> None:
    execute, executemany = db.execute, db.executemany
    lines = [(process, *line) for process, line in batch.lines]
    executemany("insert or replace into line values (?, ?, ?, ?)", lines)
    if batch.identity is not None:
        execute("delete from account")
        execute("delete from refused")
    rows = [(name, json.dumps(row)) for name, row in batch.sums.rows.items()]
    executemany("insert or replace into account values (?, ?)", rows)
    refused = batch.sums.refused
    executemany(
        "insert or replace into refused values (?, ?, ?, ?)",
        [(*row, json.dumps(amount)) for row, amount in refused.items() if amount],
    )
    executemany(
        "delete from refused where process = ? and path = ? and generation = ?",
        [row for row, amount in refused.items() if not amount],
    )
    ended = [(process,) for process in batch.ended]
    executemany("delete from mark where process = ?", ended)
    executemany("delete from line where process = ?", ended)
    executemany("delete from account where name = ?", ended)
    executemany("delete from refused where process = ?", ended)
    executemany("insert or replace into closed values (?, ?, ?, ?)", batch.closed)
    execute("delete from closed where number < ?", (batch.forgotten,))


def _sums(db: sqlite3.Connection) -> SavedSums:
    return SavedSums(
        {
            name: tuple(map(_json_amount, json.loads(amounts)))
            for name, amounts in db.execute("select * from account")
        },
        {
            (process, path, generation): _json_amount(json.loads(amount))
            for process, path, generation, amount in db.execute("select * from refused")
        },
    )


def _registers(db: sqlite3.Connection) -> Iterator[tuple[str, Leaf | None, Floor | None]]:
    for path, stamp, writer, value, *floor in db.execute("select * from register"):
        yield (
            path,
            None if stamp is None else Leaf(stamp, writer, decode_value(value)),
            None if floor[0] is None else Floor(*floor),
        )


def _json_amount(value: int | list[int]) -> Amount:
    return value if isinstance(value, int) else _amount(value)


def _amount(parts: list[int]) -> Amount:
    return shorten((parts[0], parts[1], parts[2], parts[3]))
