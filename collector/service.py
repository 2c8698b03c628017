"""What a long-running process owes its surroundings: readiness, an end on request, room for files.

Readiness is said on stdout, for whoever started it, and to systemd where `$NOTIFY_SOCKET` is set
(sd_notify(3)). SIGTERM and SIGINT become readable on a file descriptor, so that a poll loop ends
where it is whole.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

FILES = 65_536
"""Connections need a descriptor each, and libzmq aborts where ipc runs out of them."""
LINE_CHARACTERS_MAX = 1000


def say_ready(*addresses: str) -> None:
    """Say on stdout, and to systemd, that all addresses are bound."""
    print("ready", *addresses, flush=True)
    _notify("READY=1")


def say_stopping() -> None:
    """Say to systemd that the end has begun."""
    _notify("STOPPING=1")


def one_line(text: str) -> str:
    r"""A line for a log that others have a say in: nothing in it is obeyed, and it has an end.

    >>> one_line("a name \x1b[2J\n")
    'a name \\x1b[2J\\n'
    """
    shown = (c if c.isprintable() else repr(c)[1:-1] for c in text[:LINE_CHARACTERS_MAX])
    return "".join(shown) + ("..." if len(text) > LINE_CHARACTERS_MAX else "")


def raise_files_limit() -> None:
    """Allow this process as many descriptors as it may have, up to FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def stop_requests() -> Generator[int]:
    """A descriptor that becomes readable when SIGTERM or SIGINT arrives."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def request(_number: int, _frame: FrameType | None) -> None:
        os.write(writer, b"x")

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        # Whoever listened there may be gone; that it is not told is no reason to end.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        ):
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(state.encode())
