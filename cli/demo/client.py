"""The blades' HTTP client: names without DNS, connections that are kept, one kind of error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 1.0
"""How long a server may be silent before a request has failed."""


class FetchError(Exception):
    """A request that got no good answer; `status` is None when it got none at all."""

    def __init__(self, url: str, reason: str, status: int | None = None) -> None:
        super().__init__(f"{url}: {reason}")
        self.status = status


class Client:
    """Requests to servers whose names are resolved here; not for several threads at once."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses
        self._connections: dict[str, HTTPConnection] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def get(self, url: str) -> bytes:
        """The body at the URL. Raises `FetchError`."""
        return self._request("GET", url, None)

    def post(self, url: str, document: Any) -> bytes:
        """Send a document as JSON, get the answer's body. Raises `FetchError`."""
        return self._request("POST", url, json.dumps(document).encode())

    def _request(self, method: str, url: str, body: bytes | None) -> bytes:
        parts = urlsplit(url)
        name = parts.netloc
        connection = self._connections.pop(name, None)
        if connection is None:
            connection = HTTPConnection(self._addresses.get(name, name), timeout=TIMEOUT_S)
        try:
            connection.request(method, parts.path, body, {"Host": name})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise FetchError(url, str(error) or type(error).__name__) from error
        self._connections[name] = connection
        if not 200 <= response.status < 300:
            raise FetchError(url, f"{response.status} {response.reason}", response.status)
        return answer
