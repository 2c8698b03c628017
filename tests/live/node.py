"""A node that is followed, without sockets: it tells when the test says so."""

from __future__ import annotations

import time
from typing import Any

from shardlog.monitor.follow import Inbox
from tests.live.events import heard, moved

S = 10**9


class Node:
    """Events as a followed node would tell them, on the clock."""

    def __init__(self, behind_s: float = 0) -> None:
        self.inbox = Inbox()
        self._behind_ns = round(behind_s * S)
        self._ahead_ns = time.time_ns() - time.monotonic_ns()

    @property
    def now_ns(self) -> int:
        """By the clock of the node."""
        return self.here_ns - self._behind_ns

    @property
    def here_ns(self) -> int:
        """By the clock of whoever follows."""
        return time.monotonic_ns() + self._ahead_ns

    def begin(self, **values: Any) -> None:
        self.inbox.install([moved(self.now_ns, **values).changes], [], self.here_ns)
        self.beat()

    def beat(self) -> None:
        self.inbox.hear(heard(self.now_ns).heartbeat, self.here_ns)

    def write(self, **values: Any) -> None:
        self.inbox.apply(moved(self.now_ns, **values).changes, self.here_ns)
