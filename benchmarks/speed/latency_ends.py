"""The other processes of case 6: relays of hops, who waits at the end, who makes load.

    python -m benchmarks.speed.latency_ends ROLE ARGUMENT...

Each says `ready` on stdout. Who waits at an end prints, per probe, its number and when it was there
(`time.perf_counter_ns`, which is one clock for all processes of a machine).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import random
import sqlite3
import sys
import threading
import time
from queue import SimpleQueue
from typing import cast

import msgspec
import zmq

from shardlog.handler import ShardHandler, count
from shardlog.monitor import connect

PROBE = "probe"


class Item(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the plain contender's processes say to each other."""

    writer: str
    path: str
    stamp: int
    value: int


item_encoder = msgspec.msgpack.Encoder()
item_decoder = msgspec.msgpack.Decoder(Item)


def relay_first(receive: str, publish: str) -> None:
    """PULL to PUB, as a collector does."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    source, sink = context.socket(zmq.PULL), context.socket(zmq.PUB)
    source.bind(receive)
    sink.connect(publish)
    _ready()
    while True:
        sink.send(source.recv())


def relay_second(receive: str, publish: str) -> None:
    """SUB to PUB, as an aggregator does."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
    source.set(zmq.SUBSCRIBE, b"")
    source.bind(receive)
    sink.bind(publish)
    _ready()
    while True:
        sink.send(source.recv())


def bare_end(address: str) -> None:
    """The end of the bare hops."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    source = context.socket(zmq.SUB)
    source.set(zmq.SUBSCRIBE, b"")
    source.connect(address)
    _ready()
    while True:
        _arrived(int.from_bytes(source.recv()[:8], "big"))


def plain_collector(receive: str, publish: str, store: str = "") -> None:
    """`relay_first`, which understands what it passes on, and keeps it; in a store, if it has one.

    What it stores it passes on once it is stored.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    source, sink = context.socket(zmq.PULL), context.socket(zmq.PUB)
    source.bind(receive)
    sink.connect(publish)
    _pass_on(source, sink, open_store(store) if store else None)


def plain_aggregator(receive: str, publish: str) -> None:
    """`relay_second`, which understands what it passes on, and keeps it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
    source.set(zmq.SUBSCRIBE, b"")
    source.bind(receive)
    sink.bind(publish)
    _pass_on(source, sink)


def plain_end(address: str) -> None:
    """`bare_end`, whose thread that follows leaves to another what it hears."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    source = context.socket(zmq.SUB)
    source.set(zmq.SUBSCRIBE, b"")
    source.connect(address)
    changes: SimpleQueue[int] = SimpleQueue()

    def follow() -> None:
        state: dict[str, Item] = {}
        while True:
            item = item_decoder.decode(source.recv())
            state[item.path] = item
            changes.put(item.value)

    threading.Thread(target=follow, daemon=True).start()
    _ready()
    while True:
        _arrived(changes.get())


def _pass_on(
    source: zmq.Socket[bytes], sink: zmq.Socket[bytes], store: sqlite3.Connection | None = None
) -> None:
    state: dict[str, Item] = {}
    _ready()
    while True:
        item = item_decoder.decode(source.recv())
        state[item.path] = item
        if store is not None:
            commit(store, item.path, item.value)
        sink.send(item_encoder.encode(item))


def open_store(path: str) -> sqlite3.Connection:
    """A table of rows, durable as a collector's store is."""
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("pragma journal_mode = wal")
    store.execute("pragma synchronous = full")
    store.execute("create table row (path text primary key, value blob)")
    return store


def commit(store: sqlite3.Connection, path: str, value: int) -> None:
    """One row, in a transaction of its own."""
    with store:
        store.execute("begin immediate")
        store.execute("insert or replace into row values (?, ?)", (path, value))


def redis_end(path: str) -> None:
    """A subscriber of Redis."""
    redis = importlib.import_module("redis")
    subscription = redis.Redis(unix_socket_path=path).pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(PROBE)
    _ready()
    for message in subscription.listen():
        if message is not None:
            _arrived(int.from_bytes(message["data"][:8], "big"))


def shardlog_end(url: str, pattern: str) -> None:
    """A monitor of shardlog."""
    with connect(url, timeout_ms=20_000) as cluster, cluster.watch(pattern) as watch:
        _ready()
        for change in watch:
            _arrived(cast("int", change.new))


def load(endpoint: str, blade: str, calls_per_second: str, seconds: str) -> None:
    """A blade that counts so often, or as often as it can if that is 0, and says probes.

    Prints when each probe was said, and then how many calls it made in a second.
    """
    handler = ShardHandler(endpoint=endpoint, blade=blade)
    log = logging.getLogger("load")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    _ready()
    rate = float(calls_per_second)
    sent_ns: list[int] = []
    calls = 0
    began = now = time.perf_counter()
    next_probe = began + 0.2
    while now < began + float(seconds):
        due = int((now - began) * rate) if rate else calls + 20
        while calls < due:
            calls += 1
            log.info("scraped", extra={"intents": {str(calls % 50): {"tries": count()}}})
        if now >= next_probe:
            next_probe = now + random.uniform(0.015, 0.025)
            sent_ns.append(time.perf_counter_ns())
            log.info("probe", extra={PROBE: {blade: {str(len(sent_ns)): len(sent_ns)}}})
        if rate:
            time.sleep(0.001)
        now = time.perf_counter()
    handler.close()
    for number, at_ns in enumerate(sent_ns, 1):
        print(number, at_ns)
    print("calls", calls / (now - began), flush=True)


def _ready() -> None:
    print("ready", flush=True)


def _arrived(number: int) -> None:
    now = time.perf_counter_ns()
    print(number, now, flush=True)


ROLES = {
    role.__name__: role
    for role in (
        relay_first,
        relay_second,
        bare_end,
        plain_collector,
        plain_aggregator,
        plain_end,
        redis_end,
        shardlog_end,
        load,
    )
}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        ROLES[sys.argv[1]](*sys.argv[2:])
