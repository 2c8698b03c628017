"""What all programs here have in common: a handler, and log calls that count."""

from __future__ import annotations

import logging.config
import sys
import time

from shardlog.handler import ShardHandler, count, link

link.FLUSH_SECONDS = 30.0  # else a flush is over before the thread of a starved process ran


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
    """Wait until what was logged is stored by the collector, however long that takes."""
    outbox = link_of(log).outbox
    while True:
        log.handlers[0].flush()  # which also has the thread look at what has arrived
        if not outbox.has_unacknowledged():
            return
        time.sleep(0.01)


def link_of(log: logging.Logger) -> link.Link:
    """The link of the logger's handler, once something was logged."""
    (handler,) = log.handlers
    assert isinstance(handler, ShardHandler)
    assert handler.link is not None
    return handler.link
