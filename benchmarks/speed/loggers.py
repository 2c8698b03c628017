"""A process that logs through one handler: python -m benchmarks.speed.loggers NAME FOLDER

What is logged is the same for all: a message and three leaves below four keys, as of a process that
is busy with one task. Values change from call to call, the path does not. It is logged in bursts
that fit every queue, with a pause after each in which the queues drain. For each line `BURSTS` on
its standard input it prints, per call and in microseconds, what the calling thread took, and what
this process did: `CALLER PROCESS`. CPU time and not wall clock: what other threads and processes do
meanwhile is not the caller's cost.

Everyone is set up as its own documentation advises for speed:

    ShardHandler             as it comes, with a collector that runs
    QueueHandler             a Queue(-1), as in the logging cookbook, and behind it a QueueListener
                             that writes to a file what the record says, extras included
    SocketHandler            as it comes: it pickles and sends in the call; makePickle is its format
    PUBHandler               a PUB socket that is connected before; its formatter writes the extras
    python-logstash-async    events in memory (database_path=None), a worker sends them over TCP
    OpenTelemetry            LoggingHandler with a BatchLogRecordProcessor, OTLP over HTTP
    structlog, QueueHandler  a filtering bound logger that is cached on first use, its events as
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
SHARDLOG_COUNT = "shardlog ShardHandler, one of them a count"
QUEUE = "QueueHandler"
NULL = "NullHandler"

BURST = 300
PAUSE_S = 0.05
DRAIN_S = 0.2
TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s %(intents)s"

log = logging.getLogger("scraper")


def load(module: str) -> Any:
    """A module that may be missing, and is unknown to the type checkers."""
    return importlib.import_module(module)


def _shardlog(folder: Path, address: str) -> None:
    log.addHandler(load("shardlog.handler").ShardHandler(address, "scraper-1"))


def _queue(folder: Path, address: str) -> None:
    file = logging.FileHandler(folder / "queue.log")
    file.setFormatter(logging.Formatter(TEXT))
    records: Queue[Any] = Queue(-1)
    logging.handlers.QueueListener(records, file).start()
    log.addHandler(logging.handlers.QueueHandler(records))


def _socket(folder: Path, address: str) -> None:
    host, _, port = address.rpartition(":")
    log.addHandler(logging.handlers.SocketHandler(host, int(port)))


def _pub(folder: Path, address: str) -> None:
    socket = load("zmq").Context.instance().socket(load("zmq").PUB)
    socket.connect(f"tcp://{address}")
    handler = load("zmq.log.handlers").PUBHandler(socket)
    handler.setFormatter(logging.Formatter(TEXT))
    log.addHandler(handler)
    time.sleep(0.5)  # what is published before the subscription has come is not sent at all


def _logstash(folder: Path, address: str) -> None:
    host, _, port = address.rpartition(":")
    module = load("logstash_async.handler")
    log.addHandler(module.AsynchronousLogstashHandler(host, int(port), database_path=None))


def _otel(folder: Path, address: str) -> None:
    exporter = load("opentelemetry.exporter.otlp.proto.http._log_exporter").OTLPLogExporter(
        endpoint=f"http://{address}/v1/logs"
    )
    provider = load("opentelemetry.sdk._logs").LoggerProvider()
    batches = load("opentelemetry.sdk._logs.export").BatchLogRecordProcessor(exporter)
    provider.add_log_record_processor(batches)
    module = load("opentelemetry.instrumentation.logging.handler")
    log.addHandler(module.LoggingHandler(logger_provider=provider))


def _null(folder: Path, address: str) -> None:
    log.addHandler(logging.NullHandler())


HANDLERS: dict[str, tuple[str, Callable[[Path, str], None]]] = {
    NULL: ("", _null),
    SHARDLOG: ("collector", _shardlog),
    SHARDLOG_COUNT: ("collector", _shardlog),
    QUEUE: ("", _queue),
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
    HANDLERS[name][1](folder, address)
    burst: Callable[[int], int] = _counting if name == SHARDLOG_COUNT else _plain
    if name.startswith("structlog"):
        burst = _structlog()
    print("ready", flush=True)
    for line in sys.stdin:
        burst(BURST)  # wakes what slept
        _drain()
        bursts = int(line)
        started = time.process_time_ns()
        caller_ns = 0
        for _ in range(bursts):
            caller_ns += burst(BURST)
            time.sleep(PAUSE_S)
        _drain()
        process_ns = time.process_time_ns() - started
        calls = bursts * BURST * 1000
        print(caller_ns / calls, process_ns / calls, flush=True)
    logging.shutdown()


def _drain() -> None:
    for handler in log.handlers:
        handler.flush()
        provider: Any = getattr(handler, "_logger_provider", None)
        if provider is not None:
            provider.force_flush()
    time.sleep(DRAIN_S)


if __name__ == "__main__":
    main()
