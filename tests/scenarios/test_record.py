"""Recording a cluster of real processes, and what the commands make of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from shardlog.crdt.endpoint import snapshot_address
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.replication.messages import SnapshotRequest
from shardlog.crdt.wire import codec
from shardlog.monitor import connect
from shardlog.monitor.document import document
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.live.recording import read
from shardlog.monitor.replica import Replica
from tests.helpers import WAIT_S, eventually, free_pair
from tests.scenarios.processes import Cluster, Node, running

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from shardlog.crdt.replication.messages import Heartbeat

SHARDLOG = str(Path(sys.executable).parent / "shardlog")

LOGGING = """
import logging.config
from shardlog.handler import count
logging.config.dictConfig({
    "version": 1,
    "handlers": {"cluster": {"class": "shardlog.handler.ShardHandler"}},
    "root": {"level": "INFO", "handlers": ["cluster"]},
})
log = logging.getLogger("program")
"""


def log(cluster: Cluster, blade: str, program: str) -> None:
    """Run a program that logs, as a blade, to its end."""
    environment = {
        **os.environ,
        "SHARDLOG_ENDPOINT": cluster.endpoint("node-1"),
        "SHARDLOG_BLADE": blade,
    }
    subprocess.run([sys.executable, "-c", LOGGING + program], env=environment, check=True)


def shardlog(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SHARDLOG, *arguments], capture_output=True, text=True, timeout=WAIT_S)


@contextlib.contextmanager
def recorder(cluster: Cluster, path: Path, *more: str) -> Generator[subprocess.Popen[str]]:
    """`shardlog record`, which has begun; killed at the end, if it still runs."""
    process = subprocess.Popen(
        [SHARDLOG, "record", str(path), "--connect", cluster.url, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    known = len(list(path.glob("*.shards"))) if path.exists() else 0
    try:
        eventually(lambda: len(list(path.glob("*.shards"))) > known, "its first segment")
        yield process
    finally:
        process.kill()
        process.communicate()


def recorded(path: Path) -> dict[str, Any]:
    """What the recording comes to; nothing if there is none yet."""
    replica = Replica()
    try:
        for event in read(path):
            match event:
                case Whole(at_ns, changes):
                    replica.install(changes, (), at_ns)
                case Moved(_, changes):
                    replica.apply(changes)
                case _:
                    pass
    except ConfigError:
        return {}
    return dict(document(replica.view(())))


def last_heard(path: Path) -> Heartbeat:
    """The last heartbeat that was recorded."""
    return [event.heartbeat for event in read(path) if isinstance(event, Heard)][-1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One host."""
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def recording(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorder that found `before`, heard `during`, and was ended by Ctrl-C."""
    path = tmp_path_factory.mktemp("recordings") / "run-1"
    log(cluster, "orchestrator", "log.info('asked', extra={'before': {'n': 1}})")
    eventually(lambda: shardlog("get", "before", "--connect", cluster.url).returncode == 0)
    with recorder(cluster, path) as process:
        log(
            cluster,
            "scraper-1",
            "for n in range(5): log.info('seen', extra={'during': {'n': n, 'tries': count(2)}})",
        )
        eventually(lambda: recorded(path).get("during") == {"n": 4, "tries": 10})
        eventually(lambda: last_heard(path).settling == "", "a heartbeat that vouches for all")
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, errors) == (0, "")
    assert said.startswith("recorded ")
    assert said.endswith(f": {path}\n")
    assert said.count("\n") == 1
    return path


def test_ctrl_c_ends_it_with_one_line(recording: Path) -> None:
    """And what it recorded has the heartbeats with the host, and no doubt."""
    assert [host.host for host in last_heard(recording).hosts] == ["node-1"]
    assert not any(isinstance(event, Doubt) for event in read(recording))


def test_a_terminal_is_shown_how_it_goes(cluster: Cluster, tmp_path: Path) -> None:
    """One line on stderr that is written over, and is gone at the end."""
    terminal, stderr = pty.openpty()
    arguments = [SHARDLOG, "record", str(tmp_path), "--connect", cluster.url, "--for", "2s"]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=stderr, text=True)
    said = os.read(terminal, 10_000).decode()
    os.close(stderr)
    os.close(terminal)

    assert said.count(" events, ") >= 2
    assert "\n" not in said
    assert said.endswith("\r\x1b[K")
    assert done.stdout.startswith("recorded ")


def test_what_a_killed_recorder_had_heard_is_there(cluster: Cluster, tmp_path: Path) -> None:
    """All that the cluster shows, after kill -9; and the next one goes on in the same folder."""
    log(cluster, "teller", "log.info('one', extra={'killed': {'n': 1, 'tries': count(3)}})")
    with recorder(cluster, tmp_path / "run") as process:
        log(cluster, "teller", "log.info('two', extra={'killed': {'n': 2, 'tries': count(4)}})")
        wanted = {"n": 2, "tries": 7}
        eventually(lambda: recorded(tmp_path / "run").get("killed") == wanted)
        process.kill()
        process.communicate()
    shown = shardlog("get", "--json", "--connect", cluster.url).stdout

    assert recorded(tmp_path / "run") == json.loads(shown)
    log(cluster, "teller", "log.info('three', extra={'killed': {'n': 3}})")
    with recorder(cluster, tmp_path / "run"):
        eventually(lambda: recorded(tmp_path / "run")["killed"]["n"] == 3)
    done = shardlog("replay", str(tmp_path / "run"))
    assert "nothing is recorded from here to 000002.shards" in done.stderr
    assert "what shows is all there again" in done.stderr


def test_it_ends_by_itself_and_says_so_as_json(cluster: Cluster, tmp_path: Path) -> None:
    """Path, events, rows, bytes and seconds."""
    arguments = (str(tmp_path), "--connect", cluster.url, "--for", "1s", "--json")
    done = shardlog("record", *arguments)

    said = json.loads(done.stdout)
    assert list(said) == ["path", "events", "rows", "bytes", "seconds"]
    assert said["events"] == len(list(read(tmp_path)))
    assert said["bytes"] == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert (done.returncode, done.stderr) == (0, "")


def test_replay_prints_what_watch_would_have(recording: Path) -> None:
    """One line of JSON a change, in order, without what was there at first."""
    done = shardlog("replay", str(recording))
    changes = [json.loads(line) for line in done.stdout.splitlines()]

    numbers = [change["new"] for change in changes if change["path"] == "during/n"]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 4
    assert all(list(c)[-3:] == ["gone", "by", "at"] for c in changes)
    assert not any(change["path"].startswith(("before", "shardlog")) for change in changes)
    assert (done.returncode, done.stderr) == (0, "")


def test_replay_at_a_time_prints_what_get_would_have(recording: Path) -> None:
    """At its beginning, at an ISO time, and behind its end, which is said."""
    first = json.loads(shardlog("replay", str(recording), "--at", "+0", "--json").stdout)
    assert first["before"] == {"n": 1}
    assert "during" not in first
    end = shardlog("replay", str(recording), "--at", "2999-01-01T00:00:00Z")
    assert json.loads(end.stdout)["during"] == {"n": 4, "tries": 10}
    assert end.stdout.startswith('{\n  "')
    assert end.stderr.startswith("shardlog replay: the recording ends at ")
    assert end.returncode == 0


def test_replay_serves_monitors_as_an_aggregator(recording: Path, tmp_path: Path) -> None:
    """`get`, `total`, `watch` and `blades` answer, also when its end is long over."""
    url = free_pair()
    node = Node(["replay", str(recording), "--serve", url, "--speed", "1000"], tmp_path)
    try:
        eventually(lambda: "this was all" in node.log(), "its end")
        get = shardlog("get", "during", "--json", "--connect", url)
        total = shardlog("total", "during/tries", "--connect", url)
        blades = shardlog("blades", "--json", "--connect", url)
        assert json.loads(get.stdout) == {"n": 4, "tries": 10}
        assert (total.stdout, total.stderr) == ("10\n", "")
        assert "scraper-1" in {row["blade"] for row in json.loads(blades.stdout)}
    finally:
        code = node.stop()
    assert code == 0


def test_of_what_a_replay_refuses_one_of_a_kind_is_told(recording: Path, tmp_path: Path) -> None:
    """However often somebody sends it; what makes sense is answered all the same."""
    url = free_pair()
    node = Node(["replay", str(recording), "--serve", url], tmp_path)
    try:
        with zmq.Context() as context, context.socket(zmq.DEALER) as asker:
            asker.linger = 0
            asker.connect(snapshot_address(url))
            for _ in range(100):
                asker.send(b"nonsense")
                asker.send(b"")
            asker.send(codec.encode(SnapshotRequest(1, None)))
            assert asker.poll(int(WAIT_S * 1000))
    finally:
        node.stop()
    lines = [line for line in node.log().splitlines() if "refused" in line]
    assert len(lines) == 1
    assert lines[0].startswith("shardlog replay: refused: version: ")


def test_who_watches_a_replay_sees_what_moved(recording: Path, tmp_path: Path) -> None:
    """As it moved then."""
    url = free_pair()
    node = Node(["replay", str(recording), "--serve", url, "--speed", "0.2"], tmp_path)
    try:
        with connect(url) as watched:
            last = next(change for change in watched.watch("during/n") if change.new == 4)
    finally:
        node.stop()
    assert last.by == "scraper-1"


def test_nobody_there_is_said_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """Exit 3."""
    url = free_pair()
    done = shardlog("record", str(tmp_path / "run"), "--connect", url)
    assert done.returncode == 3
    assert done.stderr.startswith(f"shardlog record: {url}: nobody answers")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record", "{notes}"], "File exists"),
        (["record", "{folder}"], "has files, and is no recording"),
        (["record", "{notes}/run"], "Not a directory"),
        (["record", "{folder}/run", "--for", "soon"], "no duration"),
        (["record", "{folder}/run", "--keep-mb", "100"], "two files at least"),
        (["record", "{folder}/run", "--connect", "nowhere"], "is not an address"),
        (["replay", "{notes}"], "this is no recording"),
        (["replay", "{folder}"], "no .shards files"),
        (["replay", "{folder}/none"], "No such file"),
        (["replay", "{recording}", "--at", "noon"], "+SECONDS from the beginning"),
        (["replay", "{recording}", "--at", "1999-01-01T00:00:00Z"], "begins at"),
        (["replay", "{recording}", "--at", "+1", "--serve", "ipc:///tmp/x"], "one of the two"),
        (["replay", "{recording}", "--serve", "tcp://10.0.0.1:7410"], "--insecure"),
        (["replay", "{recording}", "--serve", "nowhere"], "is not an address"),
        (["replay", "{recording}", "--serve", "ipc:///tmp/x", "--speed", "nan"], "above 0"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(
    recording: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Exit 2, and nothing is changed."""
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    places = {"notes": notes, "folder": tmp_path, "recording": recording}
    done = shardlog(*(argument.format(**places) for argument in arguments))

    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith(f"shardlog {arguments[0]}: ")
    assert done.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
