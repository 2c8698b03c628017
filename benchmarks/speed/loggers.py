"""A process that logs through one handler: python -m benchmarks.speed.loggers NAME FOLDER ADDRESS

What is logged is the same for all: a message and three leaves below four keys, as of a process that
is busy with one task. Values change from call to call, the path does not: what gathers conflates,
and what many paths cost a collector is case 5. It is logged in bursts that fit every queue, with a
pause after each in which the queues drain.

A machine may be half as fast again at one moment as at another, and so may one process be beside
another. So each has a NullHandler and a QueueHandler besides, and they take turns within the
process, burst by burst. For each line on its standard input, `WHAT HANDLER`, it prints the
microseconds of CPU of a call: for `caller` those of the calling thread, for `total` those of this
whole process. The handler is `null`, `queue`, `own`, or `count`: that is `own` with a count among
the leaves. CPU time and not wall clock: what other processes do meanwhile is not the caller's cost.

Everyone is set up as its own documentation advises for speed:

    ShardHandler             as it comes, with a collector that runs
    QueueHandler             a Queue(-1), as in the logging cookbook; a QueueListener that writes
                             to a file what the record says, extras included
    SocketHandler            as it comes: it pickles and sends in the call
    PUBHandler               a PUB socket that is connected before; its formatter writes the extras
    python-logstash-async    events in memory (database_path=None), which a worker sends over TCP
    OpenTelemetry            LoggingHandler with a BatchLogRecordProcessor, OTLP over HTTP
    structlog, QueueHandler  a filtering bound logger that is cached on first use, whose events are
                             extras; then as QueueHandler
"""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import sys
import time
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDLOG = "shardlog ShardHandler"
QUEUE = "QueueHandler"

BURST = 300
WARM_UP = 30
TOTAL_BURSTS = 6
PAUSE_S = 0.06
DRAIN_S = 0.1
TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s %(intents)s"

log = logging.getLogger("scraper")


def load(module: str) -> Any:
    """A module that may be missing, and is unknown to the type checkers."""
    return importlib.import_module(module)


def _shardlog(folder: Path, address: str) -> logging.Handler:
    handler: logging.Handler = load("shardlog.handler").ShardHandler(address, "scraper-1")
    return handler


def _queue(folder: Path, address: str) -> logging.Handler:
    file = logging.FileHandler(folder / "queue.log")
    file.setFormatter(logging.Formatter(TEXT))
    records: Queue[Any] = Queue(-1)
    logging.handlers.QueueListener(records, file).start()
    return logging.handlers.QueueHandler(records)


def _socket(folder: Path, address: str) -> logging.Handler:
    host, _, port = address.rpartition(":")
    return logging.handlers.SocketHandler(host, int(port))


def _pub(folder: Path, address: str) -> logging.Handler:
    socket = load("zmq").Context.instance().socket(load("zmq").PUB)
    socket.connect(f"tcp://{address}")
    handler: logging.Handler = load("zmq.log.handlers").PUBHandler(socket)
    handler.setFormatter(logging.Formatter(TEXT))
    time.sleep(0.5)  # what is published before the subscription has come is not sent at all
    return handler


def _logstash(folder: Path, address: str) -> logging.Handler:
    host, _, port = address.rpartition(":")
    module = load("logstash_async.handler")
    handler: logging.Handler = module.AsynchronousLogstashHandler(
        host, int(port), database_path=None
    )
    return handler


def _otel(folder: Path, address: str) -> logging.Handler:
    exporter = load("opentelemetry.exporter.otlp.proto.http._log_exporter").OTLPLogExporter(
        endpoint=f"http://{address}/v1/logs"
    )
    provider = load("opentelemetry.sdk._logs").LoggerProvider()
    batches = load("opentelemetry.sdk._logs.export").BatchLogRecordProcessor(exporter)
    provider.add_log_record_processor(batches)
    module = load("opentelemetry.instrumentation.logging.handler")
    handler: logging.Handler = module.LoggingHandler(logger_provider=provider)
    return handler


HANDLERS: dict[str, tuple[str, Callable[[Path, str], logging.Handler]]] = {
    SHARDLOG: ("collector", _shardlog),
    "SocketHandler": ("stream", _socket),
    "PUBHandler": ("sub", _pub),
    "python-logstash-async": ("stream", _logstash),
    "OpenTelemetry": ("http", _otel),
    "structlog, QueueHandler": ("", _queue),
}
"""By name, who receives what is sent, and how the handler is set up."""


def _plain(number: int) -> int:
    started = time.thread_time_ns()
    for at in range(number):
        log.info(
            "scraping",
            extra={
                "intents": {
                    "42": {
                        "resolution": {
                            "scraper-1": {
                                "status": "scraping",
                                "tries": at,
                                "url": f"https://pages.local/{at}",
                            }
                        }
                    }
                }
            },
        )
    return time.thread_time_ns() - started


def _counting(number: int) -> int:
    count: Callable[[int], Any] = load("shardlog.handler").count
    started = time.thread_time_ns()
    for at in range(number):
        log.info(
            "scraping",
            extra={
                "intents": {
                    "42": {
                        "resolution": {
                            "scraper-1": {
                                "status": "scraping",
                                "tries": count(1),
                                "url": f"https://pages.local/{at}",
                            }
                        }
                    }
                }
            },
        )
    return time.thread_time_ns() - started


def _structlog() -> Callable[[int], int]:
    structlog = load("structlog")
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    bound = structlog.get_logger("scraper")

    def burst(number: int) -> int:
        started = time.thread_time_ns()
        for at in range(number):
            bound.info(
                "scraping",
                intents={
                    "42": {
                        "resolution": {
                            "scraper-1": {
                                "status": "scraping",
                                "tries": at,
                                "url": f"https://pages.local/{at}",
                            }
                        }
                    }
                },
            )
        return time.thread_time_ns() - started

    return burst


def main() -> None:
    """Log when told to, until the standard input ends."""
    name, folder, address = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    log.setLevel(logging.INFO)
    log.propagate = False
    queue, own = _queue(folder, ""), HANDLERS[name][1](folder, address)
    handlers: dict[str, tuple[logging.Handler, Callable[[int], int]]] = {
        "null": (logging.NullHandler(), _plain),
        "queue": (queue, _plain),
        "own": (own, _structlog() if name.startswith("structlog") else _plain),
        "count": (own, _counting),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        what, handler = line.split()
        log.handlers[:], burst = [handlers[handler][0]], handlers[handler][1]
        print({"caller": _caller, "total": _total}[what](burst, own) / 1000, flush=True)


def _caller(burst: Callable[[int], int], own: logging.Handler) -> float:
    burst(WARM_UP)
    took = burst(BURST) / BURST
    time.sleep(PAUSE_S)
    return took


def _total(burst: Callable[[int], int], own: logging.Handler) -> float:
    burst(BURST)
    _drain(own)
    started = time.process_time_ns()
    for _ in range(TOTAL_BURSTS):
        burst(BURST)
        time.sleep(PAUSE_S)
    _drain(own)
    return (time.process_time_ns() - started) / (TOTAL_BURSTS * BURST)


def _drain(handler: logging.Handler) -> None:
    handler.flush()
    provider: Any = getattr(handler, "_logger_provider", None)
    if provider is not None:
        provider.force_flush()
    time.sleep(DRAIN_S)


if __name__ == "__main__":
    main()
