"""Hostile extras through one handler: python -m benchmarks.torture_hostile HANDLER

For each case one line of JSON: what became of it, and what the log call took, the best of five, in
microseconds. What becomes of an extra is

    ok      it arrives, or the nearest plain value of each part
    marked  it arrives with marks, or cut, and something says so
    gone    the message arrives without it, or with an empty value
    lost    nothing arrives
    RAISES  the log call raises
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import multiprocessing
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.torture_handlers import install, load, otel_handler
from benchmarks.torture_values import HOSTILE, MESSAGE

CALLS = 5
ARRIVAL_S = 2.0

Arrival = Callable[[dict[Any, Any]], str]
"""Waits for what the log calls of this extra sent, and says what became of it."""


def torture(arrival: Arrival) -> Iterator[dict[str, Any]]:
    """Log each case through the handlers that are installed."""
    logger = logging.getLogger("torture")
    for case, make in HOSTILE.items():
        best_us, outcome = float("inf"), ""
        for _ in range(CALLS):
            extra = make()
            started = time.perf_counter()
            try:
                logger.info(MESSAGE, extra=extra)
            except Exception:
                outcome = "RAISES"
            best_us = min(best_us, (time.perf_counter() - started) * 1e6)
        arrived = arrival(make())
        yield {"case": case, "outcome": outcome or arrived, "us": round(best_us, 1)}


@contextmanager
def _shard() -> Generator[Arrival]:
    from shardlog.crdt.wire.codec import decode_report
    from shardlog.handler.shard import ShardReader

    zmq = load("zmq")
    with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
        address = f"ipc://{folder}/collector.sock"
        pull = zmq.Context.instance().socket(zmq.PULL)
        pull.bind(address)
        install("shard", address)
        reader = ShardReader("torture")

        def arrival(extra: dict[Any, Any]) -> str:
            expected = reader.read(logging.makeLogRecord({"msg": MESSAGE, **extra}), 1)
            paths = {path for path, _ in expected.writes}
            end = time.monotonic() + ARRIVAL_S
            while paths and (left := end - time.monotonic()) > 0:
                if pull.poll(left * 1000):
                    paths -= {write.path for write in decode_report(pull.recv()).writes}
            if paths:
                return "lost" if len(paths) == len(expected.writes) else "gone"
            return "marked" if expected.refused else "ok"

        yield arrival
        logging.shutdown()
        pull.close()


@contextmanager
def _queue() -> Generator[Arrival]:
    records: multiprocessing.Queue[logging.LogRecord] = multiprocessing.Queue()
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().addHandler(logging.handlers.QueueHandler(records))

    def arrival(extra: dict[Any, Any]) -> str:
        outcome = "lost"
        try:
            while True:
                record = records.get(timeout=ARRIVAL_S / 2)
                if record.msg == MESSAGE:
                    outcome = "ok" if set(extra) <= set(record.__dict__) else "gone"
        except queue.Empty:
            return outcome

    yield arrival


@contextmanager
def _pub() -> Generator[Arrival]:
    zmq = load("zmq")
    context = zmq.Context.instance()
    sub = context.socket(zmq.SUB)
    sub.rcvhwm = 0
    sub.subscribe(b"")
    port = sub.bind_to_random_port("tcp://127.0.0.1")
    install("pub", f"127.0.0.1:{port}")
    sub.poll(500)  # what is published before the subscription has come is lost

    def arrival(extra: dict[Any, Any]) -> str:
        outcome = "lost"
        while sub.poll(ARRIVAL_S * 250):
            if MESSAGE in sub.recv_multipart()[-1].decode():
                outcome = "gone"  # what arrives is the formatted text
        return outcome

    yield arrival


@contextmanager
def _otel() -> Generator[Arrival]:
    sdk, export = load("opentelemetry.sdk._logs"), load("opentelemetry.sdk._logs.export")
    encode = load("opentelemetry.exporter.otlp.proto.common._log_encoder").encode_logs
    sent: list[Any] = []

    class Exporter(export.LogRecordExporter):  # type: ignore[misc, name-defined]
        """Encodes what it exports, as one that sends would."""

        def export(self, batch: Any) -> Any:
            sent.append(encode(batch))
            return export.LogRecordExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 0) -> bool:
            """Nothing waits."""
            return True

        def shutdown(self) -> None:
            """Nothing to close."""

    provider = sdk.LoggerProvider()
    provider.add_log_record_processor(export.SimpleLogRecordProcessor(Exporter()))
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().addHandler(otel_handler(provider))
    logging.getLogger("opentelemetry").propagate = False

    def arrival(extra: dict[Any, Any]) -> str:
        outcome = "lost"
        for request in sent:
            for record in request.resource_logs[0].scope_logs[0].log_records:
                if record.body.string_value == MESSAGE:
                    values = {item.key: item.value for item in record.attributes}
                    (name,) = map(str, extra)
                    (value,) = extra.values()
                    outcome = _outcome_of_any_value(values.get(name), value)
        sent.clear()
        return outcome

    yield arrival


def _outcome_of_any_value(arrived: Any, value: object) -> str:
    """OpenTelemetry's AnyValue is a union; a part that could not be sent is an empty one."""
    kind = arrived and arrived.WhichOneof("value")
    if not kind:
        return "gone"
    if kind == "string_value":
        return "ok" if arrived.string_value == value else "marked"
    if kind == "kvlist_value" and any(
        not item.value.WhichOneof("value") for item in arrived.kvlist_value.values
    ):
        return "marked"
    return "ok"


def main() -> None:
    """Print a line for each case."""
    threading.excepthook = lambda _: None
    with {"shard": _shard, "queue": _queue, "pub": _pub, "otel": _otel}[sys.argv[1]]() as arrival:
        for row in torture(arrival):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
