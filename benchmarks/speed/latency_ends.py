"""The other processes of case 6: relays of bare hops, who waits at the end, and who makes load.

    python -m benchmarks.speed.latency_ends ROLE ARGUMENT...

Each says `ready` on stdout. Who waits at an end prints, per probe, its number and when it was there
(`time.perf_counter_ns`, which is one clock for all processes of a machine).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import random
import sys
import time
from typing import cast

import zmq

from shardlog.handler import ShardHandler, count
from shardlog.monitor import connect

PROBE = "probe"


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
    for role in (relay_first, relay_second, bare_end, redis_end, shardlog_end, load)
}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        ROLES[sys.argv[1]](*sys.argv[2:])
