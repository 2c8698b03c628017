"""Who receives what handlers send: python -m benchmarks.speed.receivers KIND FILE

It does as little as can be done: what comes is written to the file, and not looked into. Prints its
port, and ends with its standard input.
"""

from __future__ import annotations

import http.server
import importlib
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any


class _Stream(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with Path(sys.argv[2]).open("ab") as file:
            while data := self.request.recv(1 << 16):
                file.write(data)


class _Exports(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        with Path(sys.argv[2]).open("ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def _subscribe() -> None:
    zmq: Any = importlib.import_module("zmq")
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.subscribe(b"")
    print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    with Path(sys.argv[2]).open("ab") as file:
        while True:
            file.write(b"".join(socket.recv_multipart()))


def main() -> None:
    """Receive until the standard input ends."""
    kind = sys.argv[1]
    if kind == "sub":
        threading.Thread(target=_subscribe, daemon=True).start()
    else:
        address = ("127.0.0.1", 0)
        server: socketserver.TCPServer = (
            http.server.ThreadingHTTPServer(address, _Exports)
            if kind == "http"
            else _Server(address, _Stream)
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
