"""The handlers that are tortured, each set up as its documentation says.

A handler's own libraries are imported when it is set up: programs of the others run without them.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import logging.handlers
import queue
from typing import Any

HANDLERS = {
    "shard": "ShardHandler",
    "queue": "QueueHandler",
    "pub": "PUBHandler",
    "otel": "OpenTelemetry",
}
"""By the short name that programs are given, the name in the tables."""


def install(handler: str, address: str) -> None:
    """Let all loggers of this process log to the address by this handler.

    An address is `ipc://PATH` for ShardHandler, else `HOST:PORT`.
    """
    logging.getLogger().setLevel(logging.INFO)
    if handler:
        logging.getLogger().addHandler(_MAKERS[handler](address))
    # Peers that log about themselves, through the handler that fails, would count their own.
    for name in ("opentelemetry", "urllib3"):
        logging.getLogger(name).propagate = False


def load(module: str) -> Any:
    """A module that may be of another environment, and unknown to the type checkers."""
    return importlib.import_module(module)


def _shard(address: str) -> logging.Handler:
    handler: logging.Handler = load("shardlog.handler").ShardHandler(address, "torture")
    return handler


def _queue(address: str) -> logging.Handler:
    host, _, port = address.rpartition(":")
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    sender = logging.handlers.SocketHandler(host, int(port))
    listener = logging.handlers.QueueListener(records, sender)
    listener.start()
    atexit.register(listener.stop)
    return logging.handlers.QueueHandler(records)


def _pub(address: str) -> logging.Handler:
    socket = load("zmq").Context.instance().socket(load("zmq").PUB)
    socket.connect(f"tcp://{address}")
    handler: logging.Handler = load("zmq.log.handlers").PUBHandler(socket)
    return handler


def _otel(address: str) -> logging.Handler:
    exporter = load("opentelemetry.exporter.otlp.proto.http._log_exporter").OTLPLogExporter(
        endpoint=f"http://{address}/v1/logs"
    )
    provider = load("opentelemetry.sdk._logs").LoggerProvider()
    batches = load("opentelemetry.sdk._logs.export").BatchLogRecordProcessor(exporter)
    provider.add_log_record_processor(batches)
    return otel_handler(provider)


def otel_handler(provider: Any) -> logging.Handler:
    """OpenTelemetry's handler: the one of the SDK is deprecated for it."""
    module = load("opentelemetry.instrumentation.logging.handler")
    handler: logging.Handler = module.LoggingHandler(logger_provider=provider)
    return handler


_MAKERS = {"shard": _shard, "queue": _queue, "pub": _pub, "otel": _otel}
