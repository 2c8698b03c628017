"""A collector without sockets: its machine, its store on disk, and a clock that one sets."""

from __future__ import annotations

import gc
import resource
import sqlite3
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shardlog.collector.batch import Persist
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.collector.store import Store
from shardlog.crdt.process_id import process_id
from shardlog.crdt.wire import codec
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL
from shardlog.handler.outbox import Outbox
from shardlog.handler.shard import Shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.crdt.replication.messages import Report
    from shardlog.crdt.retention import Retention

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
HOST = "node-1"


class Size(NamedTuple):
    """What a collector takes, in bytes: what it holds of memory, if that is traced, its resident
    set, its store's file, and the journal of that.
    """

    memory: int
    resident: int
    disk: int
    journal: int


class Host:
    """One collector with a store in a folder. `now_ns` is its clock."""

    def __init__(self, folder: Path, retention: Retention) -> None:
        self.now_ns = START_NS
        gc.collect()
        self._others, _ = tracemalloc.get_traced_memory()
        self._folder = folder
        self._store = Store(str(folder))
        config = SidecarConfig(
            listen="ipc:///collector.sock", to=(), host=HOST, store="", retention=retention
        )
        own = process_id(HOST, HOST, "", 1, START_NS, "00000000")
        self.machine = Sidecar(
            config,
            self._store.load(),
            process=own,
            epoch="epoch",
            now_ns=START_NS,
            bytes_max=FRAME_BYTES_GOAL,
        )

    def hear(self, report: Report) -> None:
        """A report comes, as bytes."""
        self.machine.receive(codec.decode_report(codec.encode(report)), self.now_ns)

    def settle(self) -> None:
        """Close the batch."""
        self.machine.handle_timer(self.now_ns)
        for effect in self.machine.take_effects():
            if isinstance(effect, Persist):
                self._store.commit(effect)
                self.machine.persisted(self.now_ns)

    def size(self) -> Size:
        """What it takes now. O(its objects)."""
        gc.collect()
        memory, _ = tracemalloc.get_traced_memory()
        file = self._folder / "state.sqlite"
        journal = (self._folder / "state.sqlite-wal").stat().st_size
        with sqlite3.connect(file) as db:
            db.execute("pragma wal_checkpoint(truncate)")
        db.close()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Size(
            memory - self._others, pages * resource.getpagesize(), file.stat().st_size, journal
        )

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def outbox(blade: str, number: int, now_ns: int) -> Outbox:
    """What a process of a blade has to say, as its handler keeps it; it is connected."""
    process = process_id(blade, HOST, "6f1c2a90", number, now_ns, f"{number:08x}")
    said = Outbox(process, blade, {"host": HOST, "pid": number, "started": now_ns})
    said.receive_connected(now_ns)
    return said


def reports(said: Outbox, paths: Iterable[str], now_ns: int, n: int = 1) -> Iterator[Report]:
    """What the process sends when it counts `n` at each of these paths."""
    said.receive(Shard(now_ns, [], [], [(path, n) for path in paths], {}, 0))
    while (report := said.next_report(now_ns, now_ns)) is not None:
        yield report
        if not said.has_unsent():
            return
