"""`... ENDPOINT BLADE HOW`: counts to 2,000, and ends in one of the ways that a process has."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from types import FrameType

from tests.scenarios.lifecycle.blade import configure, count_up, link_of, settle


def leave(number: int, frame: FrameType | None) -> None:
    """What many programs do on SIGTERM."""
    sys.exit(0)


def end(how: str) -> None:
    """End the process, or return from here."""
    if how == "exit":
        sys.exit(0)
    elif how == "os_exit":
        os._exit(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "sigterm_handled":
        signal.signal(signal.SIGTERM, leave)
        os.kill(os.getpid(), signal.SIGTERM)


def main(how: str) -> None:
    """Count, then end."""
    log = configure()
    if how == "late":
        count_up(log, 2000)
        time.sleep(5)
    elif how == "nobody":
        for _ in range(10):
            count_up(log, 2000)
            while link_of(log).shards:
                log.handlers[0].flush()
        print(*link_of(log).outbox.size())
    elif how == "atexit":  # from Python 3.12 on it is too late for a thread then
        atexit.register(count_up, log, 2000)
    elif how in ("exit", "fall", "sigterm_handled"):
        count_up(log, 2000)
    else:  # no chance to say the last words: what is lost is what has not left the process yet
        count_up(log, 1800)
        settle(log)
        count_up(log, 200)
    end(how)


main(sys.argv[3])
