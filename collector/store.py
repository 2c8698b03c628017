"""A collector's store: SQLite, one transaction per batch, before anything of it is published.

What is kept: the replica's name and version, per (process, path) the highest total heard, the
replica's own entries, and the registers and floors. WAL with synchronous=FULL: a commit is one
append and one fsync. One collector locks a store for as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shardlog.collector.batch import Restored
from shardlog.crdt.counter import Mark, lengthen, shorten
from shardlog.crdt.delta import Amount, Entry
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.lww_map import Floor, Leaf
from shardlog.crdt.wire.codec import decode_value, encode_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.collector.batch import Persist

SCHEMA = 2
BUSY_SECONDS = 0.2
"""How long a commit waits for whoever else has the file, as a backup: the collector does not work
meanwhile, and a batch that was not written is in the next one."""

_TABLES = """
create table replica (id text not null, version integer not null) strict;
create table mark (
    process text, path text, generation integer not null,
    p integer not null, pn integer not null, n integer not null, nn integer not null,
    primary key (process, path)
) strict, without rowid;
create table entry (
    path text primary key, born integer not null, last integer not null,
    p integer not null, pn integer not null, n integer not null, nn integer not null,
    base_p integer not null, base_pn integer not null,
    base_n integer not null, base_nn integer not null, reset integer not null
) strict, without rowid;
create table register (
    path text primary key,
    stamp integer, writer text, value blob, floor_stamp integer, floor_writer text
) strict, without rowid;
"""


class Store:
    """The open store in a folder, which is made if it is missing.

    Raises:
        ConfigError: the folder cannot be used, another collector has it, or its schema is of
            another version.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder)
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
        except sqlite3.Error as error:
            os.close(self._lock)
            raise self._unreadable(error) from error
        except ConfigError:
            os.close(self._lock)
            raise

    def load(self) -> Restored:
        """All that it holds. O(rows).

        Raises:
            ConfigError: it is damaged.
        """
        try:
            return self._load()
        except (sqlite3.Error, msgspec.MsgspecError, TypeError, ValueError) as error:
            raise self._unreadable(error) from error

    def _load(self) -> Restored:
        (replica, version) = self._db.execute("select id, version from replica").fetchone()
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
            marks=marks,
            entries=entries,
            registers=tuple(self._registers()),
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
                ],
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
            self._db.execute("update replica set version = ?", (batch.version,))

    def close(self) -> None:
        """Close it and let others have it."""
        self._db.close()
        os.close(self._lock)

    def _unreadable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.path}/state.sqlite: can't be read: {error}; move it away to start anew"
        )

    def _open(self) -> sqlite3.Connection:
        path = self.path / "state.sqlite"
        db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        (schema,) = db.execute("pragma user_version").fetchone()
        if schema == 0:
            db.executescript(f"begin; {_TABLES} pragma user_version = {SCHEMA}; commit;")
        elif schema != SCHEMA:
            raise ConfigError(
                f"{self.path}/state.sqlite has schema {schema}, this version reads {SCHEMA}; "
                "use the version that wrote it, or move it away to start anew"
            )
        if db.execute("select count(*) from replica").fetchone() == (0,):
            db.execute("insert into replica values (?, 0)", (secrets.token_hex(8),))
        return db

    def _registers(self) -> Iterator[tuple[str, Leaf | None, Floor | None]]:
        for path, stamp, writer, value, *floor in self._db.execute("select * from register"):
            yield (
                path,
                None if stamp is None else Leaf(stamp, writer, decode_value(value)),
                None if floor[0] is None else Floor(*floor),
            )


def _amount(parts: list[int]) -> Amount:
    return shorten((parts[0], parts[1], parts[2], parts[3]))
