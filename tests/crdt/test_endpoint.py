"""Addresses: what is one, what others can reach, and the second of each pair."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.endpoint import (
    AGGREGATOR_LISTEN,
    AGGREGATOR_SERVE,
    IPC_PATH_BYTES_MAX,
    check_address,
    collector_listen,
    runtime_directory,
    snapshot_address,
)
from shardlog.crdt.errors import ConfigError


@pytest.mark.parametrize(
    "address",
    [
        AGGREGATOR_LISTEN,
        AGGREGATOR_SERVE,
        "tcp://localhost:1",
        "tcp://127.255.0.3:65534",
        "tcp://[::1]:7400",
        "ipc:///run/shardlog/collector.sock",
        "ipc:///" + "a" * (IPC_PATH_BYTES_MAX - 1),
    ],
)
def test_local_addresses_are_taken_as_they_are(address: str) -> None:
    """Loopback and ipc need no leave."""
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65535",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:7400/x",
        "tcp://127.0.0.1:7400\n",
        "tcp://127.0.0.1: 7400",
        "tcp://127.0.0.1:٧٤٠٠",
        "tcp://::1:7400",
        "tcp://a..b:7400",
        "tcp://.b:7400",
        f"tcp://{'a' * 64}.example.org:7400",
        f"tcp://{'é' * 60}:7400",
        "tcp://\u0627a:7400",
        "udp://127.0.0.1:7400",
        "127.0.0.1:7400",
        "inproc://x",
        "ipc://relative.sock",
        "ipc://@abstract",
        "ipc://",
        "ipc:///" + "a" * IPC_PATH_BYTES_MAX,
        "ipc:///" + "é" * (IPC_PATH_BYTES_MAX // 2 + 1),
        "ipc:///run/a\0b",
        "ipc:///run/\udc80",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """A ConfigError that says why, even where the network is trusted."""
    for insecure in (False, True):
        with pytest.raises(ConfigError):
            check_address(address, insecure=insecure)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://0.0.0.0:7400",
        "tcp://*:7400",
        "tcp://[::]:7400",
        "tcp://10.0.0.1:7400",
        "tcp://node-1:7400",
        f"tcp://{'a' * 63}.example.org.:7400",
        "tcp://knoten-ä:7400",
        "tcp://localhost.example.org:7400",
        "tcp://127.0.0.1.example.org:7400",
        "tcp://x127.0.0.1:7400",
        "tcp://127.0.0.1;10.0.0.5:7400",
    ],
)
def test_what_others_can_reach_needs_leave(address: str) -> None:
    """Beyond loopback only with `insecure`; a name that begins like loopback is beyond it."""
    with pytest.raises(ConfigError, match="insecure"):
        check_address(address)

    assert check_address(address, insecure=True) == address


@given(st.text(max_size=20), st.sampled_from(["", "tcp://", "ipc:///", "tcp://127.0.0.1:"]))
def test_any_text_is_an_address_or_a_config_error(text: str, scheme: str) -> None:
    """No other exception; and the second of the pair is as good an address as the first."""
    try:
        address = check_address(scheme + text)
    except ConfigError:
        return

    assert snapshot_address(address) != address


@given(st.integers(1, 65534))
def test_the_pair_of_a_port_is_the_next_port(port: int) -> None:
    """Every allowed port has a next one."""
    assert snapshot_address(f"tcp://[::1]:{port}") == f"tcp://[::1]:{port + 1}"


def test_the_runtime_directory_is_the_session_s_or_a_private_one() -> None:
    """An empty variable is as good as none."""
    assert runtime_directory({"XDG_RUNTIME_DIR": "/run/u"}, 7, "/tmp") == "/run/u/shardlog"
    assert runtime_directory({"XDG_RUNTIME_DIR": ""}, 7, "/tmp") == "/tmp/shardlog-7"
    assert collector_listen({}, 7, "/tmp") == "ipc:///tmp/shardlog-7/collector.sock"
