"""What all programs here have in common: a handler, and log calls that count."""

from __future__ import annotations

import logging.config
import sys
import time

from shardlog.handler import ShardHandler, count

SETTLE_S = 0.3
"""Longer than the handler lets anything gather."""


def configure() -> logging.Logger:
    """The logger of the blade that the command line names: `... ENDPOINT BLADE`."""
    endpoint, blade = sys.argv[1:3]
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "cluster": {
                    "class": "shardlog.handler.ShardHandler",
                    "endpoint": endpoint,
                    "blade": blade,
                }
            },
            "loggers": {"blade": {"level": "INFO", "handlers": ["cluster"]}},
        }
    )
    return logging.getLogger("blade")


def count_up(log: logging.Logger, times: int, key: str = "calls") -> None:
    """That many log calls, each of which counts one at `lifecycle/BLADE/KEY`."""
    blade = sys.argv[2]
    for number in range(times):
        log.info("call %d", number, extra={"lifecycle": {blade: {key: count()}}})


def settle(log: logging.Logger) -> None:
    """Wait until what was logged has left the process."""
    for handler in log.handlers:
        handler.flush()
    time.sleep(SETTLE_S)


def handler_of(log: logging.Logger) -> ShardHandler:
    """The logger's handler."""
    (handler,) = log.handlers
    assert isinstance(handler, ShardHandler)
    return handler
