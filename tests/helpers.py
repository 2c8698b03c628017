"""What tests of several folders need: to wait for what must come, and addresses that are free."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shardlog.cli.demo import ports
from shardlog.cli.demo.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 30.0
"""How long a test waits for what must come; it fails then, and is not slow where it does come."""

_taken = set[int]()


def eventually(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until it holds; AssertionError if it never does."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"never came true: {what or condition}"
        time.sleep(0.05)


def free_pair() -> str:
    """A loopback address whose port and next port are free, and no client's by chance."""
    return f"tcp://{LOOPBACK}:{ports.free_pair(_taken)}"
