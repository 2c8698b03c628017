"""The shell of a replay: the sockets at which monitors read it. It obeys, it never decides."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

import zmq

from shardlog.collector import follow
from shardlog.collector.service import one_line, say_ready, say_stopping, stop_requests
from shardlog.crdt.endpoint import check_address, snapshot_address
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.replication.messages import Answer, Log, Publish
from shardlog.crdt.wire import codec
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL
from shardlog.monitor.live.replay import INTERVAL_MS, Replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.monitor.feed import Event

log = logging.getLogger("shardlog.replay")


def serve(events: Iterator[Event], url: str, *, speed: float = 1.0, insecure: bool = False) -> None:
    """Serve what happened to monitors that connect to `url`, until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address can't be used.
    """
    check_address(url, insecure=insecure)
    with (
        stop_requests() as stop,
        follow.new_context() as context,
        follow.router_bind(context, snapshot_address(url)) as router,
        follow.xpub_bind(context, url) as xpub,
    ):
        wall_clock_ns = time.time_ns() - time.monotonic_ns()
        now_ns = time.monotonic_ns() + wall_clock_ns
        replay = Replay(
            events,
            source=secrets.token_hex(8),
            speed=speed,
            now_ns=now_ns,
            bytes_max=FRAME_BYTES_GOAL,
        )
        replay.handle_timer(now_ns)  # who connects finds what showed first
        say_ready(url)
        refused = set[str]()
        poller = zmq.Poller()
        for readable in (stop, router, xpub):
            poller.register(readable, zmq.POLLIN)
        while True:
            wait_ns = replay.next_timer_ns() - (time.monotonic_ns() + wall_clock_ns)
            ready = dict(poller.poll(follow.wait_ms(wait_ns, INTERVAL_MS)))
            if stop in ready:
                say_stopping()
                return
            now_ns = time.monotonic_ns() + wall_clock_ns
            if b"\x01" in (subscription[:1] for subscription in follow.drain(xpub)):
                replay.subscribed(now_ns)
            for peer, *rest in follow.drain_multipart(router):
                _hear(replay, peer, rest[-1] if rest else b"", refused)
            replay.handle_timer(now_ns)
            for effect in replay.take_effects():
                match effect:
                    case Publish(_, message):
                        xpub.send(codec.encode_published(message))
                    case Answer(_, asker, chunk):
                        follow.offer(router, [asker, codec.encode(chunk)])
                    case Log(text):
                        log.warning(one_line(text))


def _hear(replay: Replay, peer: bytes, frame: bytes, refused: set[str]) -> None:
    """Let it answer a request; of what is refused for the same reason one is told."""
    try:
        replay.request(peer, codec.decode_request(frame))
    except RemoteProtocolError as error:
        if error.reason not in refused:
            refused.add(error.reason)
            log.warning(one_line(f"refused: {error}; further ones are not told"))
