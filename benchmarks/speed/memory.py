"""Case 7: a million leaves: how much memory they take, how long a snapshot and a restart take.

The leaves are those of `benchmarks.speed.leaves`; each contender has them in a process of its own,
and hears them in portions of a hundred. Memory is what the process has grown by (RSS), by leaf.

- *shardlog*: a collector's state (one host) and an aggregator's (ten hosts). For what it takes
  beyond its paths and values, these are subtracted as Python objects. A snapshot is all chunks of
  all replicas, encoded, as followers ask for them; a restart decodes, checks and installs them.
- *plain chunks*: what a chunk must do, by the plainest Python: paths in their order, some thousand
  at once, looked up, made rows, and encoded. No bound of bytes, no numbers of writers, no message.
- *dict of tuples*: path -> (stamp, writer, value), nothing else; a snapshot is one call of msgspec
  over the list of its rows, a restart decodes and rebuilds the dict.
- *pycrdt*, *loro*: one map by path, as in case 4; snapshots as their docs say: `get_update()` of a
  `Doc`, `ExportMode.Snapshot` of a `LoroDoc`; a restart applies that to an empty one.
- *Redis*: a hash for each record, as its docs advise to save memory, set by pipelines; no
  persistence while it runs. A snapshot is `SAVE` (RDB), a restart a server that is started with
  that file, until it answers.

None but shardlog keeps an order of paths, hosts apart from each other, or can be asked for a part.
The bare encoding that a snapshot is compared with is one call of msgspec over the list of all rows
that the chunks hold, made beforehand, in the same process.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.report import ROOT
from benchmarks.speed.case import Case, Goal, in_turns
from benchmarks.speed.leaves import LEAVES, Leaf, deltas, tellings
from shardlog.crdt.delta import Fragment, Write
from shardlog.crdt.replication.messages import SnapshotChunk
from shardlog.crdt.state import State
from shardlog.crdt.wire.codec import decode_stream, encode
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

N = 1_000_000
TURNS = 3
"""Of snapshots and restarts."""
BYTES = 250
"""A leaf, beyond its path and value."""
SHARE = 0.5
"""Of the throughput of the bare encoding."""


def measure(tell: Callable[[str], object]) -> list[Case]:
    """Run the case: a process for each contender."""
    memory: dict[str, list[float]] = {}
    snapshot: dict[str, list[float]] = {}
    restart: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    goals: list[Goal] = []
    snapshot_goals: list[Goal] = []
    for name in CONTENDERS:
        tell(name)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.memory", name, str(N)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            missing[name] = done.stderr.strip().splitlines()[-1]
            continue
        said: dict[str, Any] = json.loads(done.stdout)
        memory[name] = [said["bytes"]]
        snapshot[name], restart[name] = said["snapshot"], said["restart"]
        if "beyond" in said:
            goals.append(Goal(f"{name}: bytes a leaf beyond path and value", said["beyond"], BYTES))
            ratios = [b / s for b, s in zip(said["bare encoding"], said["snapshot"], strict=True)]
            what = f"{name}: snapshot's throughput over the bare encoding's"
            snapshot_goals.append(Goal(what, median(ratios), SHARE, is_floor=True))
            for floor in ("plain chunks", "bare encoding"):
                snapshot[f"{floor}, {name.partition(' ')[2]}"] = said[floor]
    return [
        Case(7, "Memory at a million leaves", "bytes a leaf", memory, missing, goals),
        Case(7, "Snapshot of a million leaves", "ns a leaf", snapshot, missing, snapshot_goals),
        Case(7, "Restart until a million leaves are whole", "ns a leaf", restart, missing, []),
    ]


def _collector(n: int) -> dict[str, Any]:
    return _shardlog(1, n)


def _aggregator(n: int) -> dict[str, Any]:
    return _shardlog(10, n)


def _shardlog(hosts: int, n: int) -> dict[str, Any]:
    before = _rss()
    state = State()
    for delta in deltas(hosts, n // LEAVES // hosts, 0):
        message: Any = decode_stream(encode(delta))
        state.merge(message.body)
        state.take_touched()
    used = _rss() - before
    leaves = state.map.leaves.items()
    known = sum(_size(path) + _size(leaf.value) for path, leaf in leaves)
    for part in state.parts.values():
        known += sum(_size(path) + _size(e.amount) for path, e in part.entries.items())
    rows = [row for chunk in _chunks(state) for row in (*chunk.writes, *chunk.entries)]
    contenders: dict[str, Callable[[], float]] = {
        "snapshot": lambda: _time(lambda: _snapshot(state), n),
        "plain chunks": lambda: _time(lambda: _plain(state), n),
        "bare encoding": lambda: _time(lambda: msgspec.msgpack.encode(rows), n),
    }
    taken = in_turns(contenders, TURNS)
    rows.clear()
    frames = _snapshot(state)
    restart = [_time(lambda: _install(frames), n) for _ in range(TURNS)]
    beyond = (used - known) / n
    return {"bytes": used / n, "beyond": beyond, "restart": restart, **taken}


def _chunks(state: State) -> Iterator[Fragment]:
    for replica in state.parts:
        after: str | None = None
        while True:
            chunk, after = state.snapshot(replica, after, FRAME_BYTES_GOAL)
            yield chunk
            if after is None:
                break


def _snapshot(state: State) -> dict[str, list[bytes]]:
    frames: dict[str, list[bytes]] = {replica: [] for replica in state.parts}
    for chunk in _chunks(state):
        message = SnapshotChunk("node", "5f0c", 1, None, None, [1], chunk)
        frames[chunk.replica].append(encode(message))
    return frames


def _plain(state: State) -> list[bytes]:
    frames: list[bytes] = []
    for part in state.parts.values():
        leaf_at = part.map.leaves.__getitem__
        for paths in part.map.index.runs(None):
            leaves = zip(paths, map(leaf_at, paths), strict=True)
            writes = [Write(path, leaf.stamp, 0, leaf.value) for path, leaf in leaves]
            frames.append(msgspec.msgpack.encode(writes))
        for paths in part.counted.runs(None):
            frames.append(msgspec.msgpack.encode([part.entries[path] for path in paths]))
    return frames


def _install(frames: dict[str, list[bytes]]) -> None:
    state = State()
    for replica, chunks in frames.items():
        messages: list[Any] = [decode_stream(frame) for frame in chunks]
        bodies: list[Fragment] = [message.body for message in messages]
        assert state.install(replica, bodies[0].to_version, bodies)
    state.take_touched()


def _dict(n: int) -> dict[str, Any]:
    before = _rss()
    rows: dict[str, tuple[Any, ...]] = {}
    for delta in deltas(10, n // LEAVES // 10, 0):
        message: Any = decode_stream(encode(delta))
        (writer,) = map(sys.intern, message.body.writers)
        rows.update((w.path, (w.stamp, writer, w.value)) for w in message.body.writes)
        rows.update((e.path, (e.last, writer, e.amount)) for e in message.body.entries)
    used = _rss() - before

    def snapshot() -> bytes:
        return msgspec.msgpack.encode([(path, *row) for path, row in rows.items()])

    def restart() -> object:
        decoded: list[tuple[str, int, str, Any]] = msgspec.msgpack.decode(data, type=ROWS)
        return {path: (stamp, writer, value) for path, stamp, writer, value in decoded}

    data = snapshot()
    return {"bytes": used / n} | _times(snapshot, restart, n)


ROWS = list[tuple[str, int, str, Any]]


def _pycrdt(n: int) -> dict[str, Any]:
    pycrdt: Any = import_module("pycrdt")
    before = _rss()
    target = pycrdt.Doc({"state": pycrdt.Map()})
    for _, leaves in tellings(10, n // LEAVES // 10, 0):
        with target.transaction():
            target["state"].update({leaf.path: leaf.value for leaf in leaves})
    used = _rss() - before
    data = target.get_update()

    def restart() -> object:
        doc = pycrdt.Doc({"state": pycrdt.Map()})
        doc.apply_update(data)
        return doc

    return {"bytes": used / n} | _times(target.get_update, restart, n)


def _loro(n: int) -> dict[str, Any]:
    loro: Any = import_module("loro")
    before = _rss()
    target = loro.LoroDoc()
    state = target.get_map("state")
    leaves: list[Leaf] = []
    for _, leaves in tellings(10, n // LEAVES // 10, 0):
        for leaf in leaves:
            state.insert(leaf.path, leaf.value)
        target.commit()
    used = _rss() - before

    def snapshot() -> bytes:
        return bytes(target.export(loro.ExportMode.Snapshot()))

    def restart() -> object:
        doc = loro.LoroDoc()
        doc.import_(data)
        return doc.get_map("state").get(path)  # it reads no map before it is asked for

    data, path = snapshot(), leaves[0].path
    return {"bytes": used / n} | _times(snapshot, restart, n)


def _redis(n: int) -> dict[str, Any]:
    redis: Any = import_module("redis")
    if shutil.which("redis-server") is None:
        sys.exit("there is no redis-server: apt install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        server, client = _redis_server(redis, folder)
        try:
            before = _rss(server.pid)
            for _, leaves in tellings(10, n // LEAVES // 10, 0):
                pipe = client.pipeline(transaction=False)
                for start in range(0, len(leaves), LEAVES):
                    record = leaves[start : start + LEAVES]
                    top = record[0].path.rpartition("/")[0]
                    pipe.hset(top, mapping={e.path[len(top) + 1 :]: e.value for e in record})
                pipe.execute()
            used = _rss(server.pid) - before
            snapshots = [_time(client.save, n) for _ in range(TURNS)]
        finally:
            _end(server)
        restarts: list[float] = []
        for _ in range(TURNS):
            start_ns = perf_counter_ns()
            server, client = _redis_server(redis, folder)
            restarts.append((perf_counter_ns() - start_ns) / n)
            try:
                assert client.dbsize() == n // LEAVES
            finally:
                _end(server)
    return {"bytes": used / n, "snapshot": snapshots, "restart": restarts}


def _redis_server(redis: Any, folder: str) -> tuple[subprocess.Popen[bytes], Any]:
    path = f"{folder}/redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder]
    command += ["--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=path)
    while True:
        try:
            client.ping()
        except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
            assert server.poll() is None, "redis-server has ended"
            sleep(0.001)
        else:
            return server, client


def _end(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()


CONTENDERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "shardlog collector": _collector,
    "shardlog aggregator": _aggregator,
    "dict of tuples": _dict,
    "pycrdt": _pycrdt,
    "loro": _loro,
    "Redis": _redis,
}


def _times(snapshot: Callable[[], object], restart: Callable[[], object], n: int) -> dict[str, Any]:
    return {
        "snapshot": [_time(snapshot, n) for _ in range(TURNS)],
        "restart": [_time(restart, n) for _ in range(TURNS)],
    }


def _time(run: Callable[[], object], n: int) -> float:
    gc.collect()
    start_ns = perf_counter_ns()
    result = run()
    taken = (perf_counter_ns() - start_ns) / n
    del result
    return taken


def _size(thing: object) -> int:
    """The bytes that an object takes, as Python's allocator rounds them."""
    return -(-sys.getsizeof(thing) // 16) * 16


def _rss(pid: int | None = None) -> int:
    gc.collect()
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(CONTENDERS[sys.argv[1]](int(sys.argv[2]))))
