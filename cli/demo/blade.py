"""What the demo's programs have in common: how they log, how they start, how they are ended."""

from __future__ import annotations

import logging.config
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType


class Stop:
    """Whether SIGINT, SIGTERM or SIGHUP came. To be made in the main thread.

    The signal handler does nothing but set a flag: whatever the program is at, it ends it first,
    and what was counted is counted everywhere.
    """

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means it
            signal.signal(signal.SIGHUP, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until asked to stop, or that many seconds; returns whether asked to stop."""
        end = None if seconds is None else time.monotonic() + seconds
        # Short sleeps and no event, whose lock a signal handler must not take.
        while not self.asked and (end is None or time.monotonic() < end):
            time.sleep(0.05)
        return self.asked


def configure_logging(blade: str, endpoint: str) -> None:
    """All that is needed to become a blade: one handler in an ordinary logging configuration."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "cluster": {
                    "class": "shardlog.handler.ShardHandler",
                    "endpoint": endpoint,
                    "blade": blade,
                    "loggers": ["blade"],
                }
            },
            "root": {"level": "INFO", "handlers": ["cluster"]},
        }
    )


def announce(address: str = "") -> None:
    """Tell the supervisor that this program is up, and where it listens if it does."""
    print("ready", address, flush=True)


def resolver(pairs: Sequence[str]) -> dict[str, str]:
    """What `--resolve NAME=HOST:PORT` arguments say: name -> address.

    >>> resolver(["pages.local=127.0.0.1:4242"])
    {'pages.local': '127.0.0.1:4242'}
    """
    addresses: dict[str, str] = {}
    for pair in pairs:
        name, separator, address = pair.partition("=")
        if not separator:
            sys.exit(f"not NAME=HOST:PORT: {pair}")
        addresses[name] = address
    return addresses
