"""`... ENDPOINT BLADE HOW`: counts to 200, and so does a child that comes, and ends, by HOW."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys

from tests.scenarios.lifecycle.blade import configure, count_up, settle


def work() -> None:
    """What a child of multiprocessing does; it leaves without atexit."""
    log = logging.getLogger("blade")
    if not log.handlers:
        log = configure()
    count_up(log, 200, "child")


def main(how: str) -> None:
    """Count, have a child, and see it end well."""
    log = configure()
    count_up(log, 100)
    if how in ("fork", "forkserver", "spawn"):
        multiprocessing.set_start_method(how)
        process = multiprocessing.Process(target=work)
        process.start()
        count_up(log, 100)
        process.join()
        assert process.exitcode == 0
        return
    pid = os.fork()
    if pid:
        count_up(log, 100)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return
    if how == "os_fork_os_exit":
        count_up(log, 180, "child")
        settle(log)
        count_up(log, 20, "child")
        os._exit(0)
    count_up(log, 200, "child")
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[3])
