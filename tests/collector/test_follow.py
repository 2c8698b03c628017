"""The sockets of a stream: what they refuse, in which words, and what they tell."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from shardlog.collector import follow
from shardlog.crdt.errors import ConfigError
from tests.scenarios.processes import eventually, free_pair

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def context() -> Iterator[follow.Context]:
    """A context whose sockets are gone after the test."""
    context = follow.new_context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="shardlog-") as name:
        yield Path(name)


def receive(socket: follow.Socket) -> bytes:
    assert socket.poll(10_000)
    return socket.recv()


def test_subscription_and_its_end_are_told_upward(context: follow.Context) -> None:
    """An aggregator that comes and goes can be seen from the host, each time."""
    address = free_pair()
    up = follow.xpub_connect(context, address)
    for _ in range(2):
        sub = follow.sub_bind(context, address)
        assert receive(up) == b"\x01"
        up.send(b"\x00delta")
        assert receive(sub) == b"\x00delta"
        sub.close()
        assert receive(up) == b"\x00"


def test_each_subscriber_is_told_to_who_serves(context: follow.Context) -> None:
    """Also a second one of the same topics, so that it gets its heartbeat at once."""
    address = free_pair()
    serve = follow.xpub_bind(context, address)
    subs = [follow.sub_connect(context, address, [b""]) for _ in range(2)]

    assert [receive(serve), receive(serve)] == [b"\x01", b"\x01"]
    serve.send(b"\x00delta")
    assert [receive(sub) for sub in subs] == [b"\x00delta"] * 2
    assert follow.drain(subs[0]) == []


def test_only_subscribed_topics_arrive(context: follow.Context) -> None:
    """The topic is the first byte of a frame."""
    address = free_pair()
    serve = follow.xpub_bind(context, address)
    sub = follow.sub_connect(context, address, [b"\x03", b"\xff"])
    assert {receive(serve), receive(serve)} == {b"\x01\x03", b"\x01\xff"}
    for topic in (b"\x03", b"\x04", b"\xff"):
        serve.send(topic + b"delta")

    assert [receive(sub), receive(sub)] == [b"\x03delta", b"\xffdelta"]


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_request_and_answer(context: follow.Context, folder: Path, scheme: str) -> None:
    """The router knows the dealer by the id it chose; who reconnects takes its id over."""
    address = free_pair() if scheme == "tcp" else f"ipc://{folder}/a"
    router = follow.router_bind(context, address)
    first = follow.dealer_connect(context, address, b"replica-1")
    for dealer in (first, follow.dealer_connect(context, address, b"replica-1")):
        eventually(lambda dealer=dealer: follow.offer(dealer, [b"request"]))
        assert router.poll(10_000)
        assert follow.drain_multipart(router) == [[b"replica-1", b"request"]]
        assert follow.offer(router, [b"replica-1", b"answer"])
        assert receive(dealer) == b"answer"


def test_nobody_there_is_told_and_nothing_is_queued(context: follow.Context) -> None:
    """Neither for a peer that is unknown nor for a server that is not up."""
    router = follow.router_bind(context, free_pair())
    with pytest.raises(zmq.ZMQError) as caught:
        router.send_multipart([b"nobody", b"answer"])

    assert caught.value.errno == errno.EHOSTUNREACH
    assert not follow.offer(router, [b"nobody", b"answer"])
    assert not follow.offer(follow.dealer_connect(context, free_pair()), [b"request"])


def test_drain_takes_no_more_than_it_was_told(context: follow.Context) -> None:
    """So that no socket keeps the others waiting."""
    address = free_pair()
    sub = follow.sub_bind(context, address)
    up = follow.xpub_connect(context, address)
    receive(up)
    for number in range(5):
        up.send(bytes([number]))
    found: list[bytes] = []
    eventually(lambda: found.extend(follow.drain(sub, 2)) or len(found) == 5)

    assert found == [bytes([number]) for number in range(5)]


def test_localhost_reaches_who_has_bound_the_ipv4_loopback(context: follow.Context) -> None:
    """Though names are otherwise looked up for IPv6 too."""
    address = free_pair()
    serve = follow.xpub_bind(context, address)
    follow.sub_connect(context, address.replace("127.0.0.1", "localhost"), [b""])

    assert receive(serve) == b"\x01"


def test_port_in_use_is_a_config_error(context: follow.Context) -> None:
    """One line that says what to do."""
    address = free_pair()
    follow.xpub_bind(context, address)
    with pytest.raises(ConfigError) as caught:
        follow.xpub_bind(context, address)

    assert str(caught.value) == (
        f"{address}: another process listens there; end it, or use another address"
    )


def test_foreign_address_is_a_config_error(context: follow.Context) -> None:
    """An address that no interface of this machine has (RFC 5737)."""
    with pytest.raises(ConfigError, match="no such network address"):
        follow.sub_bind(context, "tcp://192.0.2.1:7400")


def test_path_of_a_living_socket_is_not_stolen(context: follow.Context, folder: Path) -> None:
    """The library would unlink it, and the first owner would hear nobody any more."""
    address = f"ipc://{folder}/a"
    follow.router_bind(context, address)
    with pytest.raises(ConfigError, match="another process listens there"):
        follow.router_bind(context, address)


def test_path_of_a_dead_socket_is_taken_over(context: follow.Context, folder: Path) -> None:
    """As after a kill: the file is there, and nobody listens."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "a"))
    router = follow.router_bind(context, f"ipc://{folder}/a")
    dealer = follow.dealer_connect(context, f"ipc://{folder}/a")

    eventually(lambda: follow.offer(dealer, [b"request"]))
    assert router.poll(10_000)


def test_path_of_a_file_is_left_alone(context: follow.Context, folder: Path) -> None:
    """The library would delete the file."""
    file = folder / "a"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a socket"):
        follow.router_bind(context, f"ipc://{file}")

    assert file.read_text() == "precious"


def test_missing_folder_is_named(context: follow.Context, folder: Path) -> None:
    """And how it should be made."""
    with pytest.raises(ConfigError, match=f"the folder {folder}/x is missing; make it, mode 0700"):
        follow.router_bind(context, f"ipc://{folder}/x/a")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_folder_of_somebody_else_is_named(context: follow.Context, folder: Path) -> None:
    """Permission denied is not a traceback."""
    folder.chmod(0o500)
    with pytest.raises(ConfigError, match="permission denied"):
        follow.router_bind(context, f"ipc://{folder}/a")
    folder.chmod(0o700)
