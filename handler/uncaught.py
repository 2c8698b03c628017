"""What nobody caught, as log records: opt-in hooks of the interpreter, of threads, of a loop."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


def log_uncaught(logger: logging.Logger | None = None, loop: Any = None) -> None:
    """Log what ends the program, or a thread of it, and was not caught, at level CRITICAL.

    By this logger, else by the root logger. What was hooked before is called behind that, so what
    Python prints, it still prints. `loop` is an event loop of asyncio: what comes to its exception
    handler, as of tasks that nobody asks for their result, is logged by this logger too; without
    that asyncio's own logger says it, at level ERROR. KeyboardInterrupt is not logged.
    """
    log = logger or logging.getLogger()
    ending, thread_ending = sys.excepthook, threading.excepthook

    def end(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            log.critical("uncaught exception", exc_info=(kind, error, traceback))
        ending(kind, error, traceback)

    def end_thread(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        if error is not None and not issubclass(args.exc_type, SystemExit):
            name = args.thread.name if args.thread is not None else ""
            info = (args.exc_type, error, args.exc_traceback)
            log.critical("uncaught exception in thread %s", name, exc_info=info)
        thread_ending(args)

    def hear(loop: Any, context: dict[str, Any]) -> None:
        del loop
        error = context.get("exception")
        log.error("asyncio: %s", context.get("message"), exc_info=error)

    sys.excepthook, threading.excepthook = end, end_thread
    if loop is not None:
        loop.set_exception_handler(hear)
