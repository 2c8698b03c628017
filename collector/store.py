"""A collector's store: SQLite, one transaction per batch, before anything of it is published.

What is kept: the replica's name and version, per (process, path) the highest total heard, per
process how far it was heard, the ids of those that have ended, the replica's own entries, the
registers and floors, and the sums of all that. These are JSON, as they may need more than 64 bits.
WAL with synchronous=FULL: a commit is one append and one fsync. One collector locks a store for as
long as it lives.

A store that is damaged is set aside, under a name that says so, and a new one is begun. One that
only can't be opened now, or was written by a later version, is left as it is: that is an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import secrets
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shardlog.collector.batch import Closed, Line, Restored, SavedSums
from shardlog.collector.schema import SCHEMA, STEPS
from shardlog.crdt.counter import Mark, lengthen, shorten
from shardlog.crdt.delta import Amount, Entry
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.lww_map import Floor, Leaf
from shardlog.crdt.wire.codec import decode_value, encode_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.collector.batch import Persist

BUSY_SECONDS = 0.2
"""How long a commit waits for whoever else has the file, as a backup: the collector does not work
meanwhile, and a batch that was not written is in the next one."""

log = logging.getLogger("shardlog.collector")

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""SQLite's codes for what will be no better at the next attempt: the last is a missing table."""


class Store:
    """The open store in a folder, which is made if it is missing.

    Raises:
        ConfigError: the folder cannot be used, another collector has it, the store can't be
            opened now, or its schema is of a later version.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder)
        self._file = self.path / "state.sqlite"
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path}: another collector uses this store; give each its own --store"
            ) from error
        except OSError as error:
            raise ConfigError(f"{self.path}: the store can't be used: {error.strerror}") from error
        try:
            self._db = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def load(self) -> Restored:
        """All that it holds; if that is damaged, a new store, and one line in the log. O(rows).

        Raises:
            ConfigError: it can't be read now.
        """
        try:
            return self._load()
        except (sqlite3.Error, msgspec.MsgspecError, TypeError, ValueError) as error:
            self._db.close()
            self._set_aside(error)
            self._db = self._open()
            return self._load()

    def _load(self) -> Restored:
        (replica, version, watermark_ns) = self._db.execute(
            "select id, version, watermark_ns from replica"
        ).fetchone()
        marks: dict[str, dict[str, Mark]] = {}
        for process, path, generation, *parts in self._db.execute("select * from mark"):
            marks.setdefault(process, {})[path] = Mark(generation, _amount(parts))
        entries = tuple(
            Entry(path, born, last, _amount(parts[:4]), _amount(parts[4:]), reset)
            for path, born, last, *parts, reset in self._db.execute("select * from entry")
        )
        return Restored(
            replica=replica,
            version=version,
            watermark_ns=watermark_ns,
            marks=marks,
            lines={p: Line(*line) for p, *line in self._db.execute("select * from line")},
            closed=tuple(
                Closed(*row) for row in self._db.execute("select * from closed order by number")
            ),
            entries=entries,
            registers=tuple(self._registers()),
            sums=self._sums(),
        )

    def commit(self, batch: Persist) -> None:
        """Write a batch, all of it or nothing, and wait until the disk has it. O(batch).

        Raises:
            sqlite3.Error: it could not be written; the store is as before.
        """
        with self._db:
            self._db.execute("begin immediate")
            self._db.executemany(
                "insert or replace into mark values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (process, path, mark.generation, *lengthen(mark.amount))
                    for process, path, mark in batch.marks
                    if mark is not None
                ],
            )
            self._db.executemany(
                "delete from mark where process = ? and path = ?",
                [(process, path) for process, path, mark in batch.marks if mark is None],
            )
            self._db.executemany(
                "insert or replace into entry values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (e.path, e.born, e.last, *lengthen(e.amount), *lengthen(e.base), e.reset)
                    for e in batch.entries
                ],
            )
            self._db.executemany(
                "insert or replace into register values (?, ?, ?, ?, ?, ?)",
                [
                    (
                        path,
                        *((leaf[0], leaf[1], encode_value(leaf[2])) if leaf else (None,) * 3),
                        *(floor or (None, None)),
                    )
                    for path, leaf, floor in batch.registers
                    if leaf or floor
                ],
            )
            self._db.executemany(
                "delete from register where path = ?",
                [(path,) for path, leaf, floor in batch.registers if not leaf and not floor],
            )
            self._db.executemany(
                "delete from entry where path = ?", [(path,) for path in batch.gone]
            )
            self._commit_lives(batch)
            self._db.execute(
                "update replica set version = ?, watermark_ns = ?",
                (batch.version, batch.watermark_ns),
            )

    def close(self) -> None:
        """Close it and let others have it."""
        self._db.close()
        os.close(self._lock)

    def _commit_lives(self, batch: Persist) -> None:
        execute, executemany = self._db.execute, self._db.executemany
        lines = [(process, *line) for process, line in batch.lines]
        executemany("insert or replace into line values (?, ?, ?)", lines)
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

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.Error as error:
            self._set_aside(error)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = full")
            (schema,) = db.execute("pragma user_version").fetchone()
            if schema > SCHEMA:
                raise ConfigError(
                    f"{self._file} has schema {schema}, this version reads {SCHEMA}; "
                    "use the version that wrote it, or move it away to start anew"
                )
            if schema < SCHEMA:
                steps = "".join(STEPS[schema:])
                db.executescript(f"begin; {steps} pragma user_version = {SCHEMA}; commit;")
            if db.execute("select count(*) from replica").fetchone() == (0,):
                db.execute("insert into replica values (?, 0, 0)", (secrets.token_hex(8),))
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, error: Exception) -> None:
        """Rename a damaged store, with its journal."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code not in _CORRUPT:
            raise ConfigError(f"{self._file}: can't be read: {error}") from error
        aside = next(
            path
            for n in itertools.count(1)
            if not (path := self._file.with_name(f"{self._file.name}.corrupt-{n}")).exists()
        )
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._file}{suffix}").rename(f"{aside}{suffix}")
        log.warning("%s is damaged (%s): kept as %s, a new one is begun", self._file, error, aside)

    def _sums(self) -> SavedSums:
        return SavedSums(
            {
                name: tuple(map(_json_amount, json.loads(amounts)))
                for name, amounts in self._db.execute("select * from account")
            },
            {
                (process, path, generation): _json_amount(json.loads(amount))
                for process, path, generation, amount in self._db.execute("select * from refused")
            },
        )

    def _registers(self) -> Iterator[tuple[str, Leaf | None, Floor | None]]:
        for path, stamp, writer, value, *floor in self._db.execute("select * from register"):
            yield (
                path,
                None if stamp is None else Leaf(stamp, writer, decode_value(value)),
                None if floor[0] is None else Floor(*floor),
            )


def _json_amount(value: int | list[int]) -> Amount:
    return value if isinstance(value, int) else _amount(value)


def _amount(parts: list[int]) -> Amount:
    return shorten((parts[0], parts[1], parts[2], parts[3]))
