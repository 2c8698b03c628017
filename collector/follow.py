"""The sockets over which a stream is published, asked for and followed, and how they are emptied.

A stream has two sockets at each end (`shardlog.crdt.endpoint` makes the second address):

                     deltas, heartbeats      snapshots
    upward           XPUB connect            DEALER connect
    aggregator       SUB bind                ROUTER bind
    serving          XPUB bind               ROUTER bind
    following        SUB connect             DEALER connect

What an option guards against:

- queues are bounded: a peer that is slow loses messages, sees the gap and asks for a snapshot.
  No XPUB_NODROP, where one stuck peer stops all; no CONFLATE, which keeps single frames.
- IMMEDIATE upward: nothing is queued for a peer that is not there, and XPUB_VERBOSER tells when
  one comes and goes.
- ROUTER_MANDATORY: an answer that does not fit is an error and not a silent loss;
  ROUTER_HANDOVER: who reconnects takes its routing id over from its half-open former self.
- TCP keepalive finds dead idle links, TCP_MAXRT dead links with something under way. ZMTP
  heartbeats stay off: a full pipe does not read its peer's answers, and libzmq 4.3.5 may abort.
- RECONNECT_IVL is drawn at random, so that a thousand hosts do not come back in step.

The factories raise ConfigError, one line for a person, when an address cannot be used.
"""

from __future__ import annotations

import errno
import random
import socket as os_socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import zmq

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.wire.schema import FRAME_BYTES_CUT

if TYPE_CHECKING:
    from collections.abc import Iterator

Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"
Socket: TypeAlias = "zmq.Socket[bytes]"
Options: TypeAlias = dict[int, int | bytes]

FRAMES_MAX = 256
"""How many messages a shell takes from one socket before it looks at the others."""
BATCH_BYTES = 4 << 20
"""Or after how many bytes of them, if they are large: it holds this much and one frame at most."""

REPORTS_MAX = 2048
REPORTS_BYTES = 16 << 20
"""How many reports a collector takes at once, and how many bytes; it joins them as they come."""
GATHER_MS = 20
"""So long it gathers them where FRAMES_MAX or more are there, as what a batch costs does not grow
with them: less than a busy process gathers what it says."""
PAUSE_MS = 1

REPORTS_HWM = 100
PUBLISH_UP_HWM = 200
PASS_ON_HWM = 1000
"""Upward of an aggregator: a batch of all its hosts."""
PUBLISH_SERVE_HWM = 1000
FOLLOW_HOST_HWM = 100
"""Per host: what waits at an aggregator is this times the hosts times the size of a delta."""
FOLLOW_SERVED_HWM = 1000
SNAPSHOT_HWM = 64

_TCP_OPTIONS: Options = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 15,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 20_000,
}


def new_context() -> Context:
    """A context of one's own, whose end never waits for messages that nobody takes."""
    context = zmq.Context()
    context.set(zmq.BLOCKY, 0)
    return context


def pull_bind(context: Context, address: str) -> Socket:
    """Receives the reports of this host's processes."""
    return _bind(context.socket(zmq.PULL), address, {zmq.RCVHWM: REPORTS_HWM})


def xpub_connect(context: Context, *addresses: str, send_hwm: int = PUBLISH_UP_HWM) -> Socket:
    """Publishes upward, to each of the addresses.

    Whoever wants its last words delivered closes it with a `linger` in ms.
    """
    return _connect(
        context.socket(zmq.XPUB),
        addresses,
        {
            zmq.SNDHWM: send_hwm,
            zmq.RCVHWM: SNAPSHOT_HWM,
            zmq.IMMEDIATE: 1,
            zmq.XPUB_VERBOSER: 1,
        },
    )


def xpub_bind(context: Context, address: str) -> Socket:
    """Publishes to all who connect; each subscription can be read from it."""
    options: Options = {zmq.SNDHWM: PUBLISH_SERVE_HWM, zmq.XPUB_VERBOSE: 1}
    return _bind(context.socket(zmq.XPUB), address, options)


def sub_bind(context: Context, address: str) -> Socket:
    """Follows all hosts that connect; subscribed to all they say."""
    return _bind(
        context.socket(zmq.SUB), address, {zmq.RCVHWM: FOLLOW_HOST_HWM, zmq.SUBSCRIBE: b""}
    )


def sub_connect(context: Context, address: str, topics: list[bytes]) -> Socket:
    """Follows one publisher over the given topics, `[b""]` for all."""
    socket = _connect(context.socket(zmq.SUB), (address,), {zmq.RCVHWM: FOLLOW_SERVED_HWM})
    for topic in topics:
        socket.set(zmq.SUBSCRIBE, topic)
    return socket


def router_bind(context: Context, address: str) -> Socket:
    """The answering end of snapshots, or the asking end upward; never blocks.

    `send_multipart([peer, frame])` raises ZMQError: EHOSTUNREACH for a peer that is not there,
    EAGAIN for one whose queue is full.
    """
    options: Options = {
        zmq.SNDHWM: SNAPSHOT_HWM,
        zmq.RCVHWM: SNAPSHOT_HWM,
        zmq.SNDTIMEO: 0,
        zmq.ROUTER_MANDATORY: 1,
        zmq.ROUTER_HANDOVER: 1,
    }
    return _bind(context.socket(zmq.ROUTER), address, options)


def dealer_connect(context: Context, address: str, routing_id: bytes | None = None) -> Socket:
    """The other end of `router_bind`. A send raises EAGAIN while there is no connection.

    `routing_id` is what the router knows this end by; None lets the router choose.
    """
    options: Options = {
        zmq.SNDHWM: SNAPSHOT_HWM,
        zmq.RCVHWM: SNAPSHOT_HWM,
        zmq.SNDTIMEO: 0,
        zmq.IMMEDIATE: 1,
    }
    if routing_id is not None:
        options[zmq.ROUTING_ID] = routing_id
    return _connect(context.socket(zmq.DEALER), (address,), options)


def drain(socket: Socket, frames_max: int = FRAMES_MAX) -> list[bytes]:
    """What has arrived on a socket whose messages are single frames; never waits."""
    return list(arrived(socket, frames_max, BATCH_BYTES))


def arrived(socket: Socket, frames_max: int, bytes_max: int) -> Iterator[bytes]:
    """As `drain`, one at a time: for who keeps less than the frames."""
    size = 0
    try:
        for _ in range(frames_max):
            frame = socket.recv(zmq.NOBLOCK)
            yield frame
            size += len(frame)
            if size >= bytes_max:
                return
    except zmq.Again:
        pass


def gathered(pull: Socket) -> Iterator[bytes]:
    """The reports that have arrived, and if they are many, what comes within GATHER_MS.

    Sockets hold fewer than can be joined: who sends more has to wait until there is room.
    """
    frames = size = 0
    end = time.monotonic() + GATHER_MS / 1_000
    while True:
        for frame in arrived(pull, REPORTS_MAX - frames, REPORTS_BYTES - size):
            frames += 1
            size += len(frame)
            yield frame
        is_full = frames >= REPORTS_MAX or size >= REPORTS_BYTES
        if is_full or frames < FRAMES_MAX or time.monotonic() >= end:
            return
        time.sleep(PAUSE_MS / 1_000)


def drain_multipart(socket: Socket, messages_max: int = FRAMES_MAX) -> list[list[bytes]]:
    """What has arrived on a router: routing id first. Never waits."""
    messages: list[list[bytes]] = []
    size = 0
    try:
        while len(messages) < messages_max and size < BATCH_BYTES:
            messages.append(socket.recv_multipart(zmq.NOBLOCK))
            size += sum(map(len, messages[-1]))
    except zmq.Again:
        pass
    return messages


def offer(socket: Socket, frames: list[bytes]) -> bool:
    """Send without waiting; whether somebody was there to take it, with room for it."""
    try:
        socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise
    return True


def wait_ms(wait_ns: int, wait_ms_max: int) -> int:
    """What a poll is given until a timer is due: whole ms, rounded up; 0 if it is over already.

    Never more than `wait_ms_max`: a clock that stepped back must not silence a loop.
    """
    return min(max(-(-wait_ns // 1_000_000), 0), wait_ms_max)


def check_ipc_path(address: str) -> None:
    """Raise ConfigError unless a socket may be bound there.

    The library unlinks whatever it finds at the path, a file of somebody else or the socket of a
    process that still listens, and says nothing.
    """
    path = Path(address.removeprefix("ipc://"))
    try:
        if not path.parent.is_dir():
            raise ConfigError(f"{address}: the folder {path.parent} is missing; make it, mode 0700")
        if path.exists() and not path.is_socket():
            raise ConfigError(f"{address}: {path} exists and is not a socket; use another path")
        with os_socket.socket(os_socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(str(path))
    except BlockingIOError:  # so many wait there already that its queue is full
        pass
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except OSError as error:
        raise _unusable(address, error.errno, error.strerror or str(error)) from error
    raise _unusable(address, errno.EADDRINUSE, "")


def _bind(socket: Socket, address: str, options: Options) -> Socket:
    try:
        if address.startswith("ipc://"):
            check_ipc_path(address)
        _configure(socket, [address], {zmq.BACKLOG: 1024, **options})
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close()
        raise _unusable(address, error.errno, error.strerror) from error
    except ConfigError:
        socket.close()
        raise
    return socket


def _connect(socket: Socket, addresses: tuple[str, ...], options: Options) -> Socket:
    reconnect: Options = {
        zmq.RECONNECT_IVL: random.randint(100, 500),
        zmq.RECONNECT_IVL_MAX: 10_000,
        zmq.CONNECT_TIMEOUT: 5000,
    }
    _configure(socket, list(addresses), {**reconnect, **options})
    for address in addresses:
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            socket.close()
            raise _unusable(address, error.errno, error.strerror) from error
    return socket


def _configure(socket: Socket, addresses: list[str], options: Options) -> None:
    common: Options = {zmq.LINGER: 0, zmq.MAXMSGSIZE: FRAME_BYTES_CUT, zmq.HANDSHAKE_IVL: 5000}
    tcp = [address for address in addresses if address.startswith("tcp://")]
    if tcp:
        common |= _TCP_OPTIONS
        # Under IPV6 `localhost` is ::1 only, where nobody listens who has bound 127.0.0.1.
        common[zmq.IPV6] = int(not any(address.startswith("tcp://localhost:") for address in tcp))
    for option, value in {**common, **options}.items():
        socket.set(option, value)


def _unusable(address: str, number: int | None, text: str) -> ConfigError:
    reason = {
        errno.EADDRINUSE: "another process listens there; end it, or use another address",
        errno.EACCES: "permission denied; use a place that this user may write to",
        errno.EADDRNOTAVAIL: "this machine has no such network address",
        errno.ENODEV: "this machine has no such network address",
        errno.ENAMETOOLONG: "the path is too long for a socket; use a shorter folder",
    }.get(number or 0, text or f"error {number}")
    return ConfigError(f"{address}: {reason}")


def libzmq_version() -> tuple[int, int, int]:
    """Of the library that is loaded."""
    return zmq.zmq_version_info()
