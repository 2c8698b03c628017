"""The collector as a process: what the network and its user can get wrong, and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import zmq

from shardlog.cli.collect import collect
from shardlog.crdt.delta import Fragment, Total, Write
from shardlog.crdt.endpoint import snapshot_address
from shardlog.crdt.replication.messages import Report, SnapshotChunk
from shardlog.crdt.wire import codec
from shardlog.monitor import connect
from tests.architecture.tree import ROOT
from tests.helpers import eventually
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from collections.abc import Generator

    from shardlog.crdt.delta import Value
    from shardlog.monitor import Cluster as Replica


SHARDLOG = str(Path(sys.executable).parent / "shardlog")
BLADE = "blade@node:boot:1:1:aa"
REFUSED = "shardlog/health/collector/node-1/refused/*"


@pytest.fixture(scope="module")
def cluster() -> Generator[Cluster]:
    """One cluster for the tests that leave it as it was."""
    with running() as cluster:
        yield cluster


@contextmanager
def sender(cluster: Cluster) -> Generator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = 1000
        push.connect(cluster.endpoint())
        yield push


def frame(path: str, n: int, value: Value = None) -> bytes:
    now = time.time_ns()
    writes = [] if value is None else [Write(f"{path}/value", now, 0, value)]
    return codec.encode(
        Report(BLADE, n, now, False, writes, [], [Total(f"{path}/n", 1, now, now, n)])
    )


def shows(replica: Replica, pattern: str, total: int) -> None:
    eventually(lambda: replica.total(pattern) == total, f"{pattern} is {total}")


def nested(depth: int) -> bytes:
    return b"\x01" + b"\x91" * depth + b"\xc0"


BAD = {
    "truncated": (frame("x", 1)[:-5], "malformed"),
    "random": (b"\x01" + bytes(range(7, 200)), "malformed"),
    "deep": (nested(5000), "malformed"),
    "deep-in-a-value": (
        frame("x", 1, "V").replace(b"\xa1V", nested(5000)[1:]),
        "malformed",
    ),
    "2 MiB": (b"\x01" + bytes(2 << 20), "size"),
    "version": (b"\x07" + frame("x", 1)[1:], "version"),
    "empty": (b"", "version"),
    "ext": (b"\x01" + msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x")), "malformed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_frame_is_refused_counted_and_named_and_the_next_is_taken(
    cluster: Cluster, kind: str
) -> None:
    """The reason's counter rises by one, the log names the first of each, good ones go on."""
    bad, reason = BAD[kind]
    path = f"bad/{kind}"
    counter = REFUSED.replace("*", reason)
    with connect(cluster.url) as replica, sender(cluster) as push:
        before = replica.total(counter)
        push.send(bad)
        push.send(frame(path, 3))
        shows(replica, f"{path}/n", 3)
        assert replica.total(counter) == before + 1
    named = f"refused ({reason})"
    eventually(lambda: named in cluster.collectors["node-1"].log())  # said behind what is shown
    assert cluster.collectors["node-1"].log().count(named) == 1


def test_a_20_mib_frame_cuts_the_connection_and_that_is_counted(cluster: Cluster) -> None:
    """Beyond 8 MiB nothing arrives but the disconnect; the next good frame is taken."""
    counter = "shardlog/health/collector/node-1/disconnects"
    with connect(cluster.url) as replica, sender(cluster) as push:
        before = replica.total(counter)
        push.send(b"\x01" + bytes(20 << 20))
        eventually(lambda: replica.total(counter) > before)
        push.send(frame("huge", 2))
        shows(replica, "huge/n", 2)


def test_a_second_collector_on_the_same_socket_is_refused(cluster: Cluster) -> None:
    """Exit 2, one line that says what to do, and the first goes on collecting."""
    command = [
        SHARDLOG,
        *cluster.collectors["node-1"].arguments,
    ]
    second = subprocess.run(
        [*command[:-1], str(cluster.folder / "other")], capture_output=True, text=True
    )
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "another collector listens there" in second.stderr
    with connect(cluster.url) as replica, sender(cluster) as push:
        push.send(frame("second", 1))
        shows(replica, "second/n", 1)


def test_kill_9_of_the_collector_loses_no_count_that_was_published() -> None:
    """After kill -9 and a restart on the same store, totals go on where they were."""
    with running() as cluster, connect(cluster.url) as replica, sender(cluster) as push:
        push.send(frame("a", 5, "before"))
        shows(replica, "a/n", 5)
        cluster.collectors["node-1"].kill()
        cluster.collectors["node-1"].start()
        push.send(frame("a", 8))
        shows(replica, "a/n", 8)
        push.send(frame("a", 5))
        push.send(frame("b", 1))
        shows(replica, "b/n", 1)
        assert replica.total("a/n") == 8
        assert replica["a", "value"] == "before"


def test_a_new_aggregator_has_all_after_its_first_snapshots() -> None:
    """kill -9 of the aggregator: a new one on the same address shows the same state."""
    with running("node-1", "node-2") as cluster:
        for host in ("node-1", "node-2"):
            with zmq.Context() as context, context.socket(zmq.PUSH) as push:
                push.linger = 1000
                push.connect(cluster.endpoint(host))
                push.send(frame(f"hosts/{host}", 4, host))
        with connect(cluster.url) as replica:
            shows(replica, "hosts/*/n", 8)
            before = replica["hosts"]
        cluster.aggregator.kill()
        cluster.aggregator.start()
        with connect(cluster.url) as replica:
            shows(replica, "hosts/*/n", 8)
            assert replica["hosts"] == before


def test_a_paused_collector_and_a_paused_aggregator_lose_nothing() -> None:
    """SIGSTOP of either while a blade sends: after SIGCONT everything is there."""
    with running() as cluster, connect(cluster.url) as replica, sender(cluster) as push:
        for n, node in enumerate([cluster.collectors["node-1"], cluster.aggregator]):
            node.signal(signal.SIGSTOP)
            for i in range(500):
                push.send(frame(f"paused/{n}", i + 1))
                time.sleep(0.002)
            node.signal(signal.SIGCONT)
            shows(replica, f"paused/{n}/n", 500)


def test_sigterm_drains_what_is_under_way() -> None:
    """What was sent before SIGTERM is in the store, and published, when the collector has ended."""
    with running() as cluster, connect(cluster.url) as replica, sender(cluster) as push:
        for i in range(2000):
            push.send(frame(f"drained/{i}", 1))
        assert cluster.collectors["node-1"].stop() == 0
        shows(replica, "drained/*/n", 2000)


def test_readiness_is_said_to_systemd(tmp_path: Path) -> None:
    """sd_notify: READY=1 once it listens, STOPPING=1 when it is told to end."""
    with running() as cluster, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        path = cluster.folder / "notify"
        notify.bind(str(path))
        notify.settimeout(10)
        os.environ["NOTIFY_SOCKET"] = str(path)
        try:
            node = cluster.start_collector("node-2")
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert notify.recv(100) == b"READY=1"
        node.stop()
        assert notify.recv(100) == b"STOPPING=1"


def test_a_disk_that_can_not_be_written_is_said_and_counting_goes_on() -> None:
    """With no room for the store's file, the log says so once; totals still arrive."""
    with running() as cluster, connect(cluster.url) as replica, sender(cluster) as push:
        push.send(frame("disk", 1))
        shows(replica, "disk/n", 1)
        pid = cluster.collectors["node-1"].process.pid
        subprocess.run(["prlimit", "--pid", str(pid), "--fsize=4096"], check=True)
        for n in range(2, 6):
            push.send(frame("disk", n))
            shows(replica, "disk/n", n)
        assert cluster.collectors["node-1"].log().count("can't be written") == 1


def test_sigterm_ends_a_collector_whose_blades_go_on() -> None:
    """Reports that never cease don't keep it: it drains for a bounded time, and exits with 0."""
    with running() as cluster, sender(cluster) as push:
        node = cluster.collectors["node-1"]
        node.signal(signal.SIGTERM)
        end = time.monotonic() + 10
        n = 0
        while node.process.poll() is None and time.monotonic() < end:
            n += 1
            with suppress(zmq.Again):
                push.send(frame("alive", n), zmq.NOBLOCK)
            time.sleep(0.1)
        assert node.process.poll() is not None
        assert node.wait() == 0


def test_a_port_that_is_taken_ends_the_collector_with_2() -> None:
    """Where it can't serve, it says so in one line; nothing that is open already holds it up."""
    with running() as cluster:
        taken = ["collect", "--listen", cluster.endpoint("node-2"), "--to", cluster.listen]
        taken += ["--store", str(cluster.folder / "node-2"), "--serve", cluster.url]
        command = [str(Path(sys.executable).parent / "shardlog"), *taken]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert "another process listens there" in ended.stderr


def test_the_unit_keeps_what_waits_for_its_collector() -> None:
    """The folder of its socket stays while it is down, and its store is where it may write."""
    unit = ConfigParser(interpolation=None)
    unit.read(ROOT / "docs" / "shardlog-collect.service")
    service = unit["Service"]
    name, *arguments = shlex.split(service["ExecStart"])
    said = collect.make_context(name, arguments[1:]).params

    assert (arguments[0], service["RuntimeDirectoryPreserve"]) == ("collect", "yes")
    assert said["listen"] == f"ipc:///run/{service['RuntimeDirectory']}/collector.sock"
    assert said["store"] == f"/var/lib/{service['StateDirectory']}"


def test_systemd_that_is_not_there_does_not_end_a_collector(tmp_path: Path) -> None:
    """$NOTIFY_SOCKET may be stale, as in a container: that nobody is told is no reason to end."""
    with running() as cluster:
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "nobody")
        try:
            node = cluster.start_collector("node-2")
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert node.stop() == 0


def test_a_socket_whose_file_was_removed_is_bound_again() -> None:
    """Something that tidies up temporary folders takes it away: new blades are heard again soon,
    and those that were connected go on."""
    with running() as cluster, connect(cluster.url) as replica, sender(cluster) as old:
        old.send(frame("old", 1))
        shows(replica, "old/n", 1)
        path = Path(cluster.endpoint().removeprefix("ipc://"))
        path.unlink()
        path.with_name(f"{path.name}.lock").unlink()
        with sender(cluster) as new:
            new.send(frame("new", 1))
            shows(replica, "new/n", 1)
        old.send(frame("old", 2))
        shows(replica, "old/n", 2)
        assert path.stat().st_mode & 0o077 == 0
        assert "was removed" in cluster.collectors["node-1"].log()


def test_whoever_answers_for_another_is_refused() -> None:
    """A chunk of a snapshot counts only from its own source; the aggregator goes on."""
    with running() as cluster, connect(cluster.url) as replica, sender(cluster) as push:
        push.send(frame("a", 1))
        shows(replica, "a/n", 1)
        chunk = SnapshotChunk(
            "somebody", "e", 1, None, None, [1], Fragment("x", 0, 1, [], [], [], [])
        )
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 1000
            dealer.connect(snapshot_address(cluster.listen))
            dealer.send(codec.encode(chunk))
            eventually(lambda: "refused (sender)" in cluster.aggregator.log())
        push.send(frame("a", 2))
        shows(replica, "a/n", 2)


@pytest.mark.parametrize("kind", ["file", "folder", "socket"])
def test_what_is_at_the_address_and_is_somebody_elses_stays(tmp_path: Path, kind: str) -> None:
    """A file, a folder, a socket on which another listens: one line, exit 2, and it stays."""
    with (
        tempfile.TemporaryDirectory(prefix="shardlog-") as name,
        socket.socket(socket.AF_UNIX) as other,
    ):
        path = Path(name) / "there"
        if kind == "file":
            path.write_text("kept")
        elif kind == "folder":
            path.mkdir()
        else:
            other.bind(str(path))
            other.listen()
        done = subprocess.run(
            [SHARDLOG, "collect", "--listen", f"ipc://{path}", "--store", str(tmp_path / "store")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert path.exists()
        if kind == "socket":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
