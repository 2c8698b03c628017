"""An aggregator's store: all replicas that it ever heard of, as snapshots that are kept up to date.

One transaction a batch, before anything of it is published, so that a restart takes nothing back
that was seen. With synchronous=NORMAL a commit reaches the system at once and the disk a little
later: a process that is killed loses nothing, a machine that loses power loses the last seconds,
which live hosts give again, and departed ones don't.

How it is opened, and what becomes of a damaged one, is said in `shardlog.collector.database`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shardlog.collector.aggregator.memory import Host, Remembered
from shardlog.collector.database import Database
from shardlog.crdt.counter import lengthen, shorten
from shardlog.crdt.delta import Entry, Erase, Fragment, Write
from shardlog.crdt.wire.codec import decode_value, encode_value

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from shardlog.collector.aggregator.memory import Part, Remember

STEPS = (
    """
create table host (
    number integer primary key, replica text not null unique, host text not null,
    run text not null, version integer not null, heard_ns integer not null,
    said_ns integer not null, watermark_ns integer not null, lower_bound text not null,
    replaces text not null, retention text not null
) strict;
create table register (
    host integer, path text, stamp integer, writer text, value blob,
    floor_stamp integer, floor_writer text,
    primary key (host, path)
) strict, without rowid;
create table entry (
    host integer, path text, born integer not null, last integer not null,
    p integer not null, pn integer not null, n integer not null, nn integer not null,
    base_p integer not null, base_pn integer not null,
    base_n integer not null, base_nn integer not null, reset integer not null,
    primary key (host, path)
) strict, without rowid;
""",
    "alter table entry drop column born;",
)
"""What makes each schema of the one before it; 0 is an empty file."""

_AT = "host = ? and path = ?"
_BELOW = "host = ? and path > ? and path < ?"


class Store:
    """The open store in a folder, which is made if it is missing.

    Raises:
        ConfigError: as `Database`.
    """

    def __init__(self, folder: str) -> None:
        self._database = Database(
            folder, "cluster.sqlite", synchronous="normal", steps=STEPS, begin=_look
        )
        self.path = self._database.path

    def load(self) -> list[Remembered]:
        """All that it holds; if that is damaged, nothing, and one line in the log. O(rows).

        Raises:
            ConfigError: it can't be read now.
        """
        return self._database.read(_load)

    @property
    def lower_bound(self) -> str:
        """Why what it holds may not be all that was ever heard, "" if it is."""
        aside = self._database.set_aside
        return "" if aside is None else f"what it remembered was damaged, and is kept as {aside}"

    def commit(self, batch: Remember) -> None:
        """Write a batch, all of it or nothing. O(batch), but for what a cut takes.

        Raises:
            sqlite3.Error: it could not be written; the store is as before.
        """
        db = self._database.connection
        with db:
            db.execute("begin immediate")
            db.executemany(
                "insert into host values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "on conflict (replica) do update set host = excluded.host, run = excluded.run, "
                "version = excluded.version, heard_ns = excluded.heard_ns, "
                "said_ns = excluded.said_ns, watermark_ns = excluded.watermark_ns, "
                "lower_bound = excluded.lower_bound, replaces = excluded.replaces, "
                "retention = excluded.retention",
                [
                    (
                        host.replica,
                        host.host,
                        host.run,
                        host.version,
                        host.heard_ns,
                        host.said_ns,
                        host.watermark_ns,
                        host.lower_bound,
                        msgspec.json.encode(host.replaces).decode(),
                        host.retention,
                    )
                    for host in batch.hosts
                ],
            )
            for part in batch.parts:
                _write(db, part)

    def close(self) -> None:
        """Close it and let others have it."""
        self._database.close()


def _look(db: sqlite3.Connection) -> None:
    """Raise sqlite3.Error unless the tables are there."""
    db.execute("select count(*) from host")


def _write(db: sqlite3.Connection, part: Part) -> None:
    query = "select number from host where replica = ?"
    (host,) = db.execute(query, (part.replica,)).fetchone()
    if part.is_whole:
        db.execute("delete from register where host = ?", (host,))
        db.execute("delete from entry where host = ?", (host,))
    for path, stamp, has_entries in part.cuts:
        # The character behind the slash ends the range of what is below.
        for where, place in ((_AT, (path,)), (_BELOW, (f"{path}/", f"{path}0"))):
            db.execute(
                f"delete from register where {where} "
                "and coalesce(stamp, 0) <= ? and coalesce(floor_stamp, 0) <= ?",
                (host, *place, stamp, stamp),
            )
            if has_entries:
                db.execute(f"delete from entry where {where}", (host, *place))
    for rows in part.rows:
        floors = {item.path: (item.stamp, rows.writers[item.writer]) for item in rows.erases}
        leaves = {
            item.path: (item.stamp, rows.writers[item.writer], encode_value(item.value))
            for item in rows.writes
        }
        db.executemany(
            "insert or replace into register values (?, ?, ?, ?, ?, ?, ?)",
            [
                (host, path, *leaves.get(path, (None,) * 3), *floors.get(path, (None,) * 2))
                for path in {**floors, **leaves}
            ],
        )
        db.executemany(
            "insert or replace into entry values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (host, e.path, e.last, *lengthen(e.amount), *lengthen(e.base), e.reset)
                for e in rows.entries
            ],
        )


def _load(db: sqlite3.Connection) -> list[Remembered]:
    return list(_hosts(db))


def _hosts(db: sqlite3.Connection) -> Iterator[Remembered]:
    for number, replica, name, run, version, *times, lower_bound, replaces, retention in db.execute(
        "select * from host order by number"
    ):
        host = Host(
            replica=replica,
            host=name,
            run=run,
            version=version,
            heard_ns=times[0],
            said_ns=times[1],
            watermark_ns=times[2],
            lower_bound=lower_bound,
            replaces=msgspec.json.decode(replaces, type=list[str]),
            retention=retention,
        )
        yield Remembered(host, _rows(db, number, replica, version))


def _rows(db: sqlite3.Connection, number: int, replica: str, version: int) -> Fragment:
    writers: dict[str, int] = {}
    rows = Fragment(replica, 0, version, [], [], [], [])
    for path, stamp, writer, value, floor_stamp, floor_writer in db.execute(
        "select path, stamp, writer, value, floor_stamp, floor_writer from register "
        "where host = ? order by path",
        (number,),
    ):
        if floor_stamp is not None:
            by = writers.setdefault(floor_writer, len(writers))
            rows.erases.append(Erase(path, floor_stamp, by))
        if stamp is not None:
            by = writers.setdefault(writer, len(writers))
            rows.writes.append(Write(path, stamp, by, decode_value(value)))
    for path, last, *parts, reset in db.execute(
        "select path, last, p, pn, n, nn, base_p, base_pn, base_n, base_nn, reset "
        "from entry where host = ? order by path",
        (number,),
    ):
        amount, base = (shorten((p, pn, n, nn)) for p, pn, n, nn in (parts[:4], parts[4:]))
        rows.entries.append(Entry(path, last, amount, base, reset))
    rows.writers.extend(writers)
    return rows
