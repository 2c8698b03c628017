"""What the demo's HTTP servers have in common: on loopback, quiet, connections are kept."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shardlog.cli.demo.ports import LOOPBACK


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two small writes

    def read_body(self) -> bytes:
        """What came with the request."""
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status: int, body: bytes = b"", kind: str = "text/html") -> None:
        """Answer the request; whoever asked may have left by now."""
        self._answer(status, body, kind, len(body))

    def answer_half(self, body: bytes) -> None:
        """Promise the whole body, send the first half of it, and hang up."""
        self._answer(200, body, "text/html", len(body) // 2)
        self.close_connection = True

    def _answer(self, status: int, body: bytes, kind: str, bytes_sent: int) -> None:
        try:
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:bytes_sent])
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base
        """Say nothing: what matters is said by the blades."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: Callable[..., Handler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__((LOOPBACK, 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have the connection served by a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that has ended."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Listen no more, and hang up all connections: they are kept, and would be served on."""
        super().server_close()
        for connection in self._connections.copy():
            with contextlib.suppress(OSError):  # its thread may just have closed it
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(handler: Callable[..., Handler]) -> Generator[str]:
    """Serve on a free port until the block ends; gives the address, `HOST:PORT`."""
    with _Server(handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"{LOOPBACK}:{server.server_address[1]}"
        finally:
            server.shutdown()
