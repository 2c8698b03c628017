"""Addresses: their two forms, the pairs they come in, and the defaults.

    tcp://HOST:PORT      snapshots at PORT + 1
    ipc:///PATH          snapshots at PATH.snapshot

Environment, user id and temporary directory are arguments: nothing here looks outside.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shardlog.crdt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

AGGREGATOR_LISTEN = "tcp://127.0.0.1:7400"
AGGREGATOR_SERVE = "tcp://127.0.0.1:7410"
IPC_PATH_BYTES_MAX = 107 - len(".snapshot")
"""What the kernel leaves of a socket's path, with room for the pair."""

_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+):(?P<port>[0-9]{1,5})")
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|\[::1\]")


def check_address(address: str, *, insecure: bool = False) -> str:
    """The address itself, if it is one. O(len).

    >>> check_address("tcp://127.0.0.1:7400")
    'tcp://127.0.0.1:7400'

    Raises:
        ConfigError: it is no address, no host can have its name, its path is too long for a socket,
            or it is reachable from other machines and nobody said that this is meant (`insecure`).
    """
    if not address.isprintable():
        raise ConfigError(f"{address!r} is not an address: it has characters that do not print")
    if address.startswith("ipc://"):
        path = address.removeprefix("ipc://")
        if not path.startswith("/"):
            raise ConfigError(f"{address!r}: an ipc address is ipc:// and an absolute path")
        if len(path.encode()) > IPC_PATH_BYTES_MAX:
            raise ConfigError(
                f"{address!r}: the path of a socket may have {IPC_PATH_BYTES_MAX} bytes, this one "
                f"has {len(path.encode())}; use a shorter folder"
            )
        return address
    match = _TCP.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65535:
        raise ConfigError(
            f"{address!r} is not an address: write tcp://HOST:PORT (1 to 65534, the next port is "
            "used too) or ipc:///PATH"
        )
    if _LOOPBACK.fullmatch(match["host"]):
        return address
    try:
        match["host"].encode("idna")  # as whoever looks it up does
    except UnicodeError as error:
        raise ConfigError(
            f"{address!r}: {match['host']!r} is no name of a host: between dots it has 1 to 63 "
            "characters, as IDNA writes them"
        ) from error
    if not insecure:
        raise ConfigError(
            f"{address!r} can be reached from other machines, without encryption or "
            "authentication; use a loopback address, or say insecure = true (--insecure) if the "
            "network is trusted"
        )
    return address


def snapshot_address(address: str) -> str:
    """The second address of a pair. O(len).

    >>> snapshot_address("tcp://127.0.0.1:7400"), snapshot_address("ipc:///run/c.sock")
    ('tcp://127.0.0.1:7401', 'ipc:///run/c.sock.snapshot')
    """
    if address.startswith("ipc://"):
        return f"{address}.snapshot"
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + 1}"


def check_apart(listens: tuple[str, ...], serve: str) -> None:
    """Raise ConfigError unless one process can have the addresses of both flags. O(len).

    `listens` is what --listen stands for, the address that was said first; --serve is a pair.

    >>> check_apart(("tcp://127.0.0.1:7400", "tcp://127.0.0.1:7401"), "tcp://127.0.0.1:7410")
    """
    common = {*listens} & {serve, snapshot_address(serve)}
    if common:
        raise ConfigError(
            f"--listen {listens[0]} and --serve {serve} both need {min(common)}: the next port, or "
            "PATH.snapshot, is used too; move one of them"
        )


def runtime_directory(environ: Mapping[str, str], uid: int, temporary: str) -> str:
    """The folder of sockets and life files: `$XDG_RUNTIME_DIR/shardlog` or a private temporary one.

    >>> runtime_directory({}, 1000, "/tmp"), runtime_directory({"XDG_RUNTIME_DIR": "/r"}, 1, "/tmp")
    ('/tmp/shardlog-1000', '/r/shardlog')
    """
    base = environ.get("XDG_RUNTIME_DIR")
    return f"{base}/shardlog" if base else f"{temporary}/shardlog-{uid}"


def collector_listen(environ: Mapping[str, str], uid: int, temporary: str) -> str:
    """Where a host's collector listens, and its blades send, unless told otherwise.

    >>> collector_listen({}, 1000, "/tmp")
    'ipc:///tmp/shardlog-1000/collector.sock'
    """
    return f"ipc://{runtime_directory(environ, uid, temporary)}/collector.sock"
