"""Receivers of the handlers that are compared: python -m benchmarks.torture_receivers HANDLER PORT

Says `ready`, then answers each line on its standard input by how many log calls of that run have
come. It ends with its standard input.
"""

from __future__ import annotations

import http.server
import pickle
import socketserver
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable

from benchmarks.torture_handlers import load

arrived: Counter[str] = Counter()
"""Log calls by run, which is the second word of their messages."""


def _take(message: str) -> None:
    words = message.split()
    if words[:1] == ["torture"]:
        arrived[words[1]] += 1


class _Records(socketserver.StreamRequestHandler):
    """What a SocketHandler sends: pickled records, each behind its length."""

    def handle(self) -> None:
        while head := self.rfile.read(4):
            (size,) = struct.unpack(">L", head)
            _take(pickle.loads(self.rfile.read(size))["msg"])


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Exports(http.server.BaseHTTPRequestHandler):
    """What an OTLP exporter posts."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service = load("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
        request = service.ExportLogsServiceRequest.FromString(body)
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    _take(record.body.string_value)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


def _queue(port: int) -> Callable[[], None]:
    return _Server(("127.0.0.1", port), _Records).serve_forever


def _otel(port: int) -> Callable[[], None]:
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), _Exports).serve_forever


def _pub(port: int) -> Callable[[], None]:
    zmq = load("zmq")
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.subscribe(b"")
    socket.bind(f"tcp://127.0.0.1:{port}")

    def receive() -> None:
        while True:
            _take(socket.recv_multipart()[-1].decode())

    return receive


def main() -> None:
    """Receive until the standard input ends."""
    serve = {"queue": _queue, "pub": _pub, "otel": _otel}[sys.argv[1]](int(sys.argv[2]))
    threading.Thread(target=serve, daemon=True).start()
    print("ready", flush=True)
    for run in sys.stdin:
        print(arrived[run.strip()], flush=True)


if __name__ == "__main__":
    main()
