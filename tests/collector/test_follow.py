"""The sockets of a stream: what they refuse, in which words, and what they tell."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pytest
import zmq

from shardlog.collector import follow
from shardlog.crdt.endpoint import snapshot_address
from shardlog.crdt.errors import ConfigError
from tests.helpers import eventually, free_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Sockets:
    """Opens sockets, and holds them until the test is over."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._context = stack.enter_context(follow.new_context())

    def open(self, make: Callable[..., follow.Socket], *args: object) -> follow.Socket:
        """What this factory of `follow` makes."""
        return self._stack.enter_context(make(self._context, *args))


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """All sockets of a test."""
    with ExitStack() as stack:
        yield Sockets(stack)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="shardlog-") as name:
        yield Path(name)


def receive(socket: follow.Socket) -> bytes:
    assert socket.poll(10_000)
    return socket.recv()


def subscription(up: follow.Socket, sub: follow.Socket) -> bytes:
    """A bound subscriber says what it wants only while its thread is busy with it."""
    eventually(lambda: sub.poll(10) == 0 and up.poll(10) != 0)
    return up.recv()


def test_subscription_and_its_end_are_told_upward(sockets: Sockets) -> None:
    """An aggregator that comes and goes can be seen from the host, each time."""
    address = free_pair()
    up = sockets.open(follow.xpub_connect, address)
    for _ in range(2):
        sub = sockets.open(follow.sub_bind, address)
        assert subscription(up, sub) == b"\x01"
        up.send(b"\x00delta")
        assert receive(sub) == b"\x00delta"
        sub.close()
        assert receive(up) == b"\x00"


def test_each_subscriber_is_told_to_who_serves(sockets: Sockets) -> None:
    """Also a second one of the same topics, so that it gets its heartbeat at once."""
    address = free_pair()
    serve = sockets.open(follow.xpub_bind, address)
    subs = [sockets.open(follow.sub_connect, address, [b""]) for _ in range(2)]

    assert [receive(serve), receive(serve)] == [b"\x01", b"\x01"]
    serve.send(b"\x00delta")
    assert [receive(sub) for sub in subs] == [b"\x00delta"] * 2
    assert follow.drain(subs[0]) == []


def test_only_subscribed_topics_arrive(sockets: Sockets) -> None:
    """The topic is the first byte of a frame."""
    address = free_pair()
    serve = sockets.open(follow.xpub_bind, address)
    sub = sockets.open(follow.sub_connect, address, [b"\x03", b"\xff"])
    assert {receive(serve), receive(serve)} == {b"\x01\x03", b"\x01\xff"}
    for topic in (b"\x03", b"\x04", b"\xff"):
        serve.send(topic + b"delta")

    assert [receive(sub), receive(sub)] == [b"\x03delta", b"\xffdelta"]


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_request_and_answer(sockets: Sockets, folder: Path, scheme: str) -> None:
    """The router knows the dealer by the id it chose; who reconnects takes its id over."""
    address = free_pair() if scheme == "tcp" else f"ipc://{folder}/a"
    router = sockets.open(follow.router_bind, address)
    for _ in range(2):
        dealer = sockets.open(follow.dealer_connect, address, b"replica-1")
        eventually(partial(follow.offer, dealer, [b"request"]))
        assert router.poll(10_000)
        assert follow.drain_multipart(router) == [[b"replica-1", b"request"]]
        assert follow.offer(router, [b"replica-1", b"answer"])
        assert receive(dealer) == b"answer"


def test_nobody_there_is_told_and_nothing_is_queued(sockets: Sockets) -> None:
    """Neither for a peer that is unknown nor for a server that is not up."""
    router = sockets.open(follow.router_bind, free_pair())
    with pytest.raises(zmq.ZMQError) as caught:
        router.send_multipart([b"nobody", b"answer"])

    assert caught.value.errno == errno.EHOSTUNREACH
    assert not follow.offer(router, [b"nobody", b"answer"])
    assert not follow.offer(sockets.open(follow.dealer_connect, free_pair()), [b"request"])


def test_drain_takes_no_more_than_it_was_told(sockets: Sockets) -> None:
    """So that no socket keeps the others waiting."""
    address = free_pair()
    sub = sockets.open(follow.sub_bind, address)
    up = sockets.open(follow.xpub_connect, address)
    subscription(up, sub)
    for number in range(5):
        up.send(bytes([number]))
    found: list[bytes] = []
    while len(found) < 5:
        assert sub.poll(10_000)
        some = follow.drain(sub, 2)
        assert 1 <= len(some) <= 2
        found += some

    assert found == [bytes([number]) for number in range(5)]


def pipe(sockets: Sockets) -> tuple[follow.Socket, follow.Socket]:
    """A pull and a push socket: what is sent has arrived."""

    def plain(context: follow.Context, kind: int) -> follow.Socket:
        return context.socket(kind)

    pull, push = sockets.open(plain, zmq.PULL), sockets.open(plain, zmq.PUSH)
    pull.bind("inproc://reports")
    push.connect("inproc://reports")
    return pull, push


def test_where_many_reports_wait_more_are_gathered(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes in a while, a long one here, is in the same batch; one that is full ends."""
    monkeypatch.setattr(follow, "GATHER_MS", 60_000)
    monkeypatch.setattr(follow, "REPORTS_MAX", follow.FRAMES_MAX + 10)
    pull, push = pipe(sockets)
    for n in range(follow.FRAMES_MAX):
        push.send(b"%d" % n)

    def send_more() -> None:
        for n in range(follow.FRAMES_MAX, follow.FRAMES_MAX + 20):
            push.send(b"%d" % n)

    later = Timer(0.05, send_more)
    later.start()
    try:
        taken = list(follow.gathered(pull))
    finally:
        later.join()
    assert taken == [b"%d" % n for n in range(follow.FRAMES_MAX + 10)]


def test_where_few_reports_wait_none_is_gathered(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are taken at once: else this would not end."""
    monkeypatch.setattr(follow, "GATHER_MS", float("inf"))
    pull, push = pipe(sockets)
    for n in range(follow.FRAMES_MAX - 1):
        push.send(b"%d" % n)
    assert len(list(follow.gathered(pull))) == follow.FRAMES_MAX - 1


def test_localhost_reaches_who_has_bound_the_ipv4_loopback(sockets: Sockets) -> None:
    """Though names are otherwise looked up for IPv6 too."""
    address = free_pair()
    serve = sockets.open(follow.xpub_bind, address)
    sockets.open(follow.sub_connect, address.replace("127.0.0.1", "localhost"), [b""])

    assert receive(serve) == b"\x01"


def test_port_in_use_is_a_config_error(sockets: Sockets) -> None:
    """One line that says what to do."""
    address = free_pair()
    sockets.open(follow.xpub_bind, address)
    with pytest.raises(ConfigError) as caught:
        sockets.open(follow.xpub_bind, address)

    assert str(caught.value) == (
        f"{address}: another process listens there; end it, or use another address"
    )


def test_foreign_address_is_a_config_error(sockets: Sockets) -> None:
    """An address that no interface of this machine has (RFC 5737)."""
    with pytest.raises(ConfigError, match="no such network address"):
        sockets.open(follow.sub_bind, "tcp://192.0.2.1:7400")


def test_path_of_a_living_socket_is_not_stolen(sockets: Sockets, folder: Path) -> None:
    """The library would unlink it, and the first owner would hear nobody any more."""
    address = f"ipc://{folder}/a"
    sockets.open(follow.router_bind, address)
    with pytest.raises(ConfigError, match="another process listens there"):
        sockets.open(follow.router_bind, address)


def test_path_of_a_dead_socket_is_taken_over(sockets: Sockets, folder: Path) -> None:
    """As after a kill: the file is there, and nobody listens."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "a"))
    router = sockets.open(follow.router_bind, f"ipc://{folder}/a")
    dealer = sockets.open(follow.dealer_connect, f"ipc://{folder}/a")

    eventually(lambda: follow.offer(dealer, [b"request"]))
    assert router.poll(10_000)


def test_path_of_a_file_is_left_alone(sockets: Sockets, folder: Path) -> None:
    """The library would delete the file."""
    file = folder / "a"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a socket"):
        sockets.open(follow.router_bind, f"ipc://{file}")

    assert file.read_text() == "precious"


def test_missing_folder_is_named(sockets: Sockets, folder: Path) -> None:
    """And how it should be made."""
    with pytest.raises(ConfigError, match=f"the folder {folder}/x is missing; make it, mode 0700"):
        sockets.open(follow.router_bind, f"ipc://{folder}/x/a")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_folder_of_somebody_else_is_named(sockets: Sockets, folder: Path) -> None:
    """Permission denied is not a traceback."""
    folder.chmod(0o500)
    with pytest.raises(ConfigError, match="permission denied"):
        sockets.open(follow.router_bind, f"ipc://{folder}/a")
    folder.chmod(0o700)


def push_connect(context: follow.Context, address: str) -> follow.Socket:
    """As a blade does."""
    push = context.socket(zmq.PUSH)
    push.connect(address)
    return push


def test_a_batch_has_an_end_in_bytes_too(sockets: Sockets) -> None:
    """Large frames are taken a few at a time, so that they neither fill the memory nor hold up
    what else there is to do."""
    address = free_pair()
    pull = sockets.open(follow.pull_bind, address)
    router = sockets.open(follow.router_bind, snapshot_address(address))
    push = sockets.open(push_connect, address)
    dealer = sockets.open(follow.dealer_connect, snapshot_address(address))
    eventually(lambda: dealer.poll(10, zmq.POLLOUT) != 0)
    for _ in range(32):
        push.send(bytes(1 << 20))
        dealer.send(bytes(1 << 20))
    for full, drain in ((pull, follow.drain), (router, follow.drain_multipart)):
        sizes: list[int] = []
        while sum(sizes) < 32:
            assert full.poll(10_000)
            sizes.append(len(drain(full)))
        assert max(sizes) <= 4
