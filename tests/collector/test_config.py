"""What a collector and an aggregator can be told, and what can't work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.crdt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

TCP = "tcp://127.0.0.1"


def make_aggregator(listen: str, serve: str) -> None:
    AggregatorConfig(listen=listen, serve=serve)


def make_collector(listen: str, serve: str) -> None:
    SidecarConfig(listen=listen, serve=serve, to=(), host="node-1", store="/s")


@pytest.mark.parametrize("make", [make_aggregator, make_collector])
@pytest.mark.parametrize(
    ("listen", "serve"),
    [
        (f"{TCP}:7400", f"{TCP}:7400"),
        (f"{TCP}:7401", f"{TCP}:7400"),
        ("ipc:///c.sock", "ipc:///c.sock"),
        ("ipc:///c.sock.snapshot", "ipc:///c.sock"),
    ],
)
def test_listen_within_the_pair_of_serve_is_refused(
    listen: str, serve: str, make: Callable[[str, str], None]
) -> None:
    """In a line that names both flags: nobody else listens there."""
    with pytest.raises(ConfigError, match=f"^--listen {listen} and --serve {serve} both need "):
        make(listen, serve)


@pytest.mark.parametrize(
    ("listen", "serve"),
    [(f"{TCP}:7400", f"{TCP}:7401"), ("ipc:///c.sock", "ipc:///c.sock.snapshot")],
)
def test_serve_within_the_pair_of_listen_is_refused(listen: str, serve: str) -> None:
    """Of an aggregator; where a collector listens there is no second address."""
    with pytest.raises(ConfigError, match=f"both need {serve}: "):
        make_aggregator(listen, serve)

    make_collector(listen, serve)


@pytest.mark.parametrize("make", [make_aggregator, make_collector])
@pytest.mark.parametrize(
    ("listen", "serve"),
    [
        (f"{TCP}:7400", f"{TCP}:7402"),
        (f"{TCP}:7400", "tcp://127.0.0.2:7400"),
        ("ipc:///c.sock", f"{TCP}:7400"),
    ],
)
def test_addresses_apart_are_taken(
    listen: str, serve: str, make: Callable[[str, str], None]
) -> None:
    """Also where one pair begins behind the other."""
    make(listen, serve)
