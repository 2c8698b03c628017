"""A SQLite file in a folder: opened, locked, brought to the newest schema, set aside if damaged.

WAL: a commit is one append. The file shrinks with what is in it. One process locks a folder for as
long as it lives. A file that is damaged is set aside, under a name that says so, and a new one is
begun. One that only can't be opened now, or was written by a later version, is left as it is: that
is an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from shardlog.crdt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUSY_SECONDS = 0.2
"""How long a commit waits for whoever else has the file, as a backup: nothing else is done
meanwhile, and a batch that was not written is in the next one."""

JOURNAL_BYTES_KEPT = 4 << 20
"""About what SQLite's journal grows to between two checkpoints; what a large batch adds goes."""

log = logging.getLogger("shardlog.collector")

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""SQLite's codes for what will be no better at the next attempt: the last is a missing table."""

T = TypeVar("T")


class Database:
    """The open database in a folder, which is made if it is missing.

    `steps` make each schema of the one before it; 0 is an empty file. `begin` is run on each
    opening, and raises sqlite3.Error if it does not find what it needs. `synchronous`: "full" has
    each commit on the disk before it returns, "normal" loses the last ones with the power.

    Raises:
        ConfigError: the folder cannot be used, another process has it, the file can't be opened
            now, or its schema is of a later version.
    """

    def __init__(
        self,
        folder: str,
        name: str,
        *,
        synchronous: Literal["full", "normal"],
        steps: Sequence[str],
        begin: Callable[[sqlite3.Connection], object],
    ) -> None:
        self.path = Path(folder)
        self.set_aside: Path | None = None
        """Where a damaged file was put by this opening."""
        self._file = self.path / name
        self._synchronous = synchronous
        self._steps = steps
        self._begin = begin
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path}: another process uses this store; give each its own --store"
            ) from error
        except OSError as error:
            raise ConfigError(f"{self.path}: the store can't be used: {error.strerror}") from error
        try:
            self.connection = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def read(self, load: Callable[[sqlite3.Connection], T]) -> T:
        """What `load` makes of it; if it is damaged, of a new one, and one line in the log.

        Raises:
            ConfigError: it can't be read now.
        """
        try:
            return load(self.connection)
        except (sqlite3.Error, msgspec.MsgspecError, TypeError, ValueError) as error:
            self.connection.close()
            self._set_aside(error)
            self.connection = self._open()
            return load(self.connection)

    def close(self) -> None:
        """Close it and let others have it."""
        self.connection.close()
        os.close(self._lock)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.Error as error:
            self._set_aside(error)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, isolation_level=None, timeout=BUSY_SECONDS)
        newest = len(self._steps)
        try:
            db.execute("pragma auto_vacuum = full")  # before anything is in the file
            db.execute("pragma journal_mode = wal")
            db.execute(f"pragma journal_size_limit = {JOURNAL_BYTES_KEPT}")
            db.execute(f"pragma synchronous = {self._synchronous}")
            (schema,) = db.execute("pragma user_version").fetchone()
            if schema > newest:
                raise ConfigError(
                    f"{self._file} has schema {schema}, this version reads {newest}; "
                    "use the version that wrote it, or move it away to start anew"
                )
            if schema < newest:
                steps = "".join(self._steps[schema:])
                db.executescript(f"begin; {steps} pragma user_version = {newest}; commit;")
            if db.execute("pragma auto_vacuum").fetchone() == (0,):  # an earlier version's
                db.execute("vacuum")
            self._begin(db)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, error: Exception) -> None:
        """Rename a damaged file, with its journal."""
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
        self.set_aside = aside
        log.warning("%s is damaged (%s): kept as %s, a new one is begun", self._file, error, aside)
