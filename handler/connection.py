"""The handler's socket: a PUSH socket that keeps nothing, and tells of what happens to its link."""

from __future__ import annotations

import os
import sys

import zmq

CONNECTED = zmq.EVENT_HANDSHAKE_SUCCEEDED
DISCONNECTED = zmq.EVENT_DISCONNECTED
SIGNS: dict[int, bool | None] = {
    zmq.EVENT_CONNECTED: True,
    zmq.EVENT_HANDSHAKE_SUCCEEDED: True,
    zmq.EVENT_DISCONNECTED: None,
    zmq.EVENT_CONNECT_RETRIED: False,
}
"""What an event says of whether somebody is there. Between the first two a busy host takes time."""


class Connection:
    """A PUSH socket with a context and a monitor of its own. Only one thread may use it."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.BLOCKY, 0)
        try:
            self._socket = self._context.socket(zmq.PUSH)
            for option, value in options(endpoint).items():
                self._socket.setsockopt(option, value)
            self._monitor = self._socket.get_monitor_socket(sum(SIGNS))
            self._socket.connect(endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._has_hurried = False

    def events(self) -> list[int]:
        """What happened to the link since the last call, of what `SIGNS` lists."""
        events: list[int] = []
        while self._monitor.poll(0):
            frame = self._monitor.recv_multipart(zmq.NOBLOCK)[0]
            events.append(int.from_bytes(frame[:2], sys.byteorder))
        return events

    def send(self, frame: bytes) -> bool:
        """Hand a frame to ZeroMQ; whether it took it. Never waits."""
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def hurry(self) -> None:
        """Try to connect now, whenever the next try was due. Does so once."""
        if not self._has_hurried:
            self._has_hurried = True
            self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)

    def close(self, linger_ms: int) -> None:
        """Close all, after at most `linger_ms` for what was handed over."""
        self._socket.disable_monitor()
        self._socket.close(linger=linger_ms)
        self._context.destroy(linger=linger_ms)


def options(endpoint: str) -> dict[int, int]:
    """What the socket is set to."""
    chosen: dict[int, int] = {
        zmq.SNDHWM: 4,
        zmq.IMMEDIATE: 0,
        zmq.LINGER: 0,
        # At random, so that many blades do not come back at one moment.
        zmq.RECONNECT_IVL: 50 + int.from_bytes(os.urandom(2), "big") % 101,
        # What waits is lost with a blade that is killed, and to ask the own host is cheap.
        zmq.RECONNECT_IVL_MAX: 250,
    }
    if endpoint.startswith("tcp:"):
        chosen |= {
            zmq.RECONNECT_IVL_MAX: 2_000,
            zmq.IPV6: 1,
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: 15,
            zmq.TCP_KEEPALIVE_INTVL: 5,
            zmq.TCP_KEEPALIVE_CNT: 3,
            zmq.TCP_MAXRT: 20_000,
        }
    return chosen
