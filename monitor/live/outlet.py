"""Publishes what live tests say, by a handler of its own: `shardlog test --publish ENDPOINT`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from shardlog.handler import ShardHandler

if TYPE_CHECKING:
    from collections.abc import Iterable

BLADE = "live-tests"
"""Under this name whoever tests is there, as a blade like others."""


class Outlet:
    """The way to the collector at `endpoint`. Like a log call, `say` neither waits nor raises.

    Raises:
        ConfigError: this is no endpoint; the text says why.
    """

    def __init__(self, endpoint: str, *, insecure: bool = False) -> None:
        self._handler = ShardHandler(endpoint, BLADE, insecure=insecure)

    def say(self, shards: Iterable[dict[str, Any]]) -> None:
        """Publish them, in order. O(their size)."""
        for shard in shards:
            # `shardlog` and its children are loggers of which a handler takes nothing.
            record = {"name": "live", "msg": "verdicts", "shard": shard}
            self._handler.handle(logging.makeLogRecord(record))

    def close(self) -> None:
        """Send what is left, for 1.5 s at most."""
        self._handler.close()
