"""`... ENDPOINT BLADE WHAT`: ten threads, tasks or greenlets that log 200 times each."""

from __future__ import annotations

# ruff: noqa: E402 - gevent asks for being the first
import importlib
import math
import sys

WHAT = sys.argv[3]
if WHAT == "gevent":
    importlib.import_module("gevent.monkey").patch_all()

import asyncio
import logging
import threading
import time

from tests.scenarios.lifecycle.blade import configure, count_up


def work(log: logging.Logger) -> None:
    """Log, and let others run."""
    for _ in range(20):
        count_up(log, 10)
        time.sleep(0.001)


async def work_async(log: logging.Logger) -> None:
    """Log, and let others run."""
    for _ in range(20):
        count_up(log, 10)
        await asyncio.sleep(0.001)


async def all_tasks(log: logging.Logger) -> None:
    """Ten tasks of one loop, which does not complain of how long a busy machine lets them wait."""
    asyncio.get_running_loop().slow_callback_duration = math.inf
    await asyncio.gather(*(work_async(log) for _ in range(10)))


def main() -> None:
    """Log from all of them."""
    log = configure()
    if WHAT == "asyncio":
        asyncio.run(all_tasks(log), debug=True)
        return
    # Where gevent has replaced them, these threads are greenlets.
    threads = [threading.Thread(target=work, args=(log,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
