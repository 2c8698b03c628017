"""The demo's eye on its cluster: a thread that follows the aggregator, whatever happens to that."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shardlog.monitor import connect

LOOK_EVERY_S = 0.5
RETRY_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment."""

    at: float
    """Seconds of the monotonic clock."""
    state: dict[Any, Any]
    blades: list[dict[str, Any]]
    totals: dict[str, int | float]
    """Pattern -> total, for the patterns that were asked for."""


class Sight:
    """Looks at the cluster twice a second, in a thread of its own, as a look may take long."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.latest: Look | None = None
        self.problem = ""
        """Why the last attempt to look failed, empty when it did not."""
        self._patterns: Sequence[str] = ()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sight", daemon=True)

    def __enter__(self) -> Sight:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._thread.join(timeout=5)  # at most the time of one look, and it is a daemon

    def ask(self, patterns: Sequence[str]) -> None:
        """Have the totals of these patterns in all further looks."""
        self._patterns = patterns

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            # Whatever it is, it is over when the aggregator is back; until then it is shown.
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                self._closed.wait(RETRY_EVERY_S)

    def _follow(self) -> None:
        with connect(self.url) as cluster:
            while not self._closed.is_set():
                patterns = self._patterns
                began = time.monotonic()
                state: dict[Any, Any] = cluster[()]  # the root is a dict always
                self.latest = Look(
                    at=time.monotonic(),
                    state=state,
                    blades=[dict(blade) for blade in cluster.blades()],
                    totals={pattern: cluster.total(pattern) for pattern in patterns},
                )
                self.problem = ""
                # A state that has become large must not keep a core busy with being looked at.
                self._closed.wait(max(LOOK_EVERY_S, 4 * (time.monotonic() - began)))
