"""What tests of several folders need: to wait for what must come, and addresses that are free."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from shardlog.cli.demo import ports
from shardlog.cli.demo.ports import HIGHEST, LOOPBACK, LOWEST

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 45.0
"""How long a test waits for what must come; it fails then, and is not slow where it does come."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_taken = {port for port in range(LOWEST, HIGHEST, 2) if port // 2 % _workers != _worker}
"""Those of other workers, too: what one has chosen may be free for a while, as in a restart."""


def eventually(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until it holds; AssertionError if it never does."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"never came true: {what or condition}"
        time.sleep(0.05)


def free_pair() -> str:
    """A loopback address whose port and next port are free, and no client's by chance."""
    return f"tcp://{LOOPBACK}:{ports.free_pair(_taken)}"
