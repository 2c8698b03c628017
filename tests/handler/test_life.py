"""What real processes leave beside the socket: life files, held while they live, and exit files."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from shardlog.crdt.life import EXIT, LIFE, life_folder, life_name, read_life, unpack_frames
from shardlog.crdt.process_id import blade_of
from shardlog.crdt.wire import codec
from shardlog.crdt.wire.schema import FRAME_BYTES_MAX
from shardlog.handler.life import Life
from tests.descriptors import descriptors
from tests.handler.receiver import Receiver
from tests.helpers import WAIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.replication.messages import Report

START = """if True:
    import logging, os, signal, sys, time
    from shardlog.handler import ShardHandler, count
    log = logging.getLogger("blade")
    log.setLevel("INFO")
    handler = ShardHandler(sys.argv[1], "b")
    log.addHandler(handler)
    log.info("hello", extra={"key": "value", "n": count(3)})
    """


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An address in a folder of its own, with a short path, as a socket's must have."""
    with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
        yield f"ipc://{folder}/c.sock"


def start(endpoint: str, rest: str) -> subprocess.Popen[str]:
    """A process that logs once, and then does the rest."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + rest, endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(endpoint: str, rest: str) -> tuple[int, str]:
    """Such a process, to its end: its exit code, and what it printed. It has no complaints."""
    process = start(endpoint, rest)
    out, errors = process.communicate(timeout=WAIT_S)
    assert errors == ""
    return process.returncode, out


def files(endpoint: str, end: str) -> list[Path]:
    """The files in the folder that end so."""
    return sorted(Path(life_folder(endpoint) or "").glob(f"*{end}"))


def is_held(path: Path) -> bool:
    """Whether a process holds the lock."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def left(path: Path) -> tuple[Receiver, list[Report]]:
    """What an exit file says."""
    receiver = Receiver()
    reports = [codec.decode_report(frame) for frame in unpack_frames(path.read_bytes())]
    for report in reports:
        receiver.receive(report)
    return receiver, reports


class Collector:
    """Receives, and acknowledges at once what it receives."""

    def __init__(self, endpoint: str) -> None:
        self.receiver = Receiver()
        self._folder = life_folder(endpoint) or ""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind(endpoint)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Close all."""
        self._is_over.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._is_over.is_set():
            if not self._socket.poll(20):
                continue
            report = codec.decode_report(self._socket.recv())
            self.receiver.receive(report)
            name = f"{self._folder}/{life_name(report.process)}{LIFE}"
            with open(name, "r+b", buffering=0) as life:  # noqa: PTH123
                life.write(report.sequence.to_bytes(8, "big"))


def test_living_process_holds_its_file(endpoint: str) -> None:
    """The file names the process and is nobody else's; kill -9 frees the lock, and leaves it."""
    process = start(endpoint, "sys.stdin.read()")
    eventually(lambda: bool(files(endpoint, LIFE)), "a life file")
    (life,) = files(endpoint, LIFE)
    name, acknowledged = read_life(life.read_bytes())

    assert (blade_of(name), acknowledged, life.stem) == ("b", 0, life_name(name))
    assert is_held(life)
    assert (life.stat().st_mode & 0o777, life.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    process.kill()
    process.communicate(timeout=WAIT_S)
    assert not is_held(life)
    assert files(endpoint, EXIT) == []


@pytest.mark.parametrize("how", ["", "sys.exit(0)", "handler.close()"])
def test_process_that_met_no_collector_leaves_all(endpoint: str, how: str) -> None:
    """Registers, counts and bye are in the exit file; the lock is free."""
    code, _ = run(endpoint, how)
    (life,), (path,) = files(endpoint, LIFE), files(endpoint, EXIT)
    receiver, (report,) = left(path)

    assert code == 0
    assert (path.stem, path.stat().st_mode & 0o777) == (life.stem, 0o600)
    assert (report.final, report.follows) == (True, 0)
    assert receiver.registers() == {"key": "value", "b/msg": "hello"}
    assert receiver.counters() == {"n": 3}
    assert receiver.own(f"presence/b/{report.process}/status") == "bye"
    assert not is_held(life)
    assert len([*life.parent.iterdir()]) == 2


def test_close_is_quick_where_nobody_is_there(endpoint: str) -> None:
    """Half a second, the exit file included; the best of three, as a disk may take its time."""
    seconds: list[float] = []
    for each in (endpoint, f"{endpoint}2", f"{endpoint}3"):
        _, out = run(each, "t = time.monotonic(); handler.close(); print(time.monotonic() - t)")
        seconds.append(float(out))
        assert len(files(each, EXIT)) == 1

    assert min(seconds) < 0.5


def test_killed_process_leaves_its_life_file_only(endpoint: str) -> None:
    """Nothing could be written any more; that it is gone is seen all the same."""
    process = start(endpoint, "sys.stdin.read()")
    eventually(lambda: bool(files(endpoint, LIFE)), "a life file")
    process.kill()
    process.communicate(timeout=WAIT_S)
    (life,) = files(endpoint, LIFE)

    assert process.returncode == -signal.SIGKILL
    assert not is_held(life)
    assert [*life.parent.iterdir()] == [life]


def test_child_that_was_forked_unnoticed_has_files_of_its_own(endpoint: str) -> None:
    """As by a server in C that runs no hook of Python: its first log call finds out."""
    rest = """import ctypes
    handler.flush()
    time.sleep(0.3)
    if ctypes.PyDLL(None).fork() == 0:
        log.info("child", extra={"n": count(4)})
        log.info("child", extra={"n": count(4)})
        handler.close()
        os._exit(0)
    os.wait()
    handler.close()
    """
    process = start(endpoint, rest)
    process.communicate("", timeout=WAIT_S)

    counted = [left(path)[0].counters()["n"] for path in files(endpoint, EXIT)]
    assert sorted(counted) == [3, 8]


def test_forked_child_has_files_of_its_own(endpoint: str) -> None:
    """Its end, and what it does with what it inherited, leave the parent's lock alone."""
    rest = """time.sleep(0.3)
    if os.fork() == 0:
        log.info("child", extra={"n": count(4)})
        logging.shutdown()
        os.closerange(3, 256)
        os._exit(0)
    os.wait()
    print("waited", flush=True)
    sys.stdin.read()
    """
    process = start(endpoint, rest)
    assert process.stdout is not None
    assert process.stdout.readline() == "waited\n"
    lives = files(endpoint, LIFE)
    held = [life for life in lives if is_held(life)]
    (child,) = files(endpoint, EXIT)
    process.communicate("", timeout=WAIT_S)

    assert len(lives) == 2
    assert [life.stem != child.stem for life in held] == [True]
    counted = [left(path)[0].counters()["n"] for path in files(endpoint, EXIT)]
    assert sorted(counted) == [3, 4]
    assert not any(map(is_held, lives))


def test_process_of_which_all_is_acknowledged_leaves_nothing(endpoint: str) -> None:
    """The collector has all, and is told so by the final report; it removes the life file.

    A process with much patience does not wait it out.
    """
    rest = """from shardlog.handler import link, shell
    shell.CLOSE_PATIENCE_NS = dict.fromkeys(shell.CLOSE_PATIENCE_NS, 60 * 10**9)
    link.CLOSE_SECONDS = 60
    handler.close()
    """
    with contextlib.closing(Collector(endpoint)) as collector:
        assert run(endpoint, rest) == (0, "")  # in less than WAIT_S
        assert collector.receiver.counters() == {"n": 3}

    assert files(endpoint, EXIT) == []
    (life,) = files(endpoint, LIFE)
    assert not is_held(life)


def test_only_what_is_not_acknowledged_is_left(endpoint: str) -> None:
    """The collector dies before the last words: these are in the exit file, and not the rest."""
    rest = """sys.stdin.readline()
    log.info("last", extra={"m": count(1)})
    """
    with contextlib.closing(Collector(endpoint)) as collector:
        process = start(endpoint, rest)
        eventually(lambda: collector.receiver.counters() == {"n": 3})
        (life,) = files(endpoint, LIFE)
        eventually(lambda: read_life(life.read_bytes())[1] > 0)
        # The process looks into the file once a second while it has nothing to say.
        seen = read_life(life.read_bytes())[1]
        eventually(lambda: read_life(life.read_bytes())[1] > seen + 1)
    process.communicate("\n", timeout=WAIT_S)
    receiver, reports = left(files(endpoint, EXIT)[0])

    assert receiver.counters() == {"m": 1}
    assert receiver.registers() == {"b/msg": "last"}
    assert reports[-1].final


def test_large_backlog_is_split(endpoint: str) -> None:
    """The exit file has as many frames as it takes, each small enough for a collector."""
    rest = """for n in range(100):
        log.info("hello", extra={"big": {str(n): "x" * 50_000}, "n": count()})
    """
    run(endpoint, rest)
    (path,) = files(endpoint, EXIT)
    receiver, reports = left(path)

    assert len(reports) > 10
    assert max(map(len, unpack_frames(path.read_bytes()))) < FRAME_BYTES_MAX // 2
    assert reports[0].follows == 0
    assert [report.final for report in reports] == [False] * (len(reports) - 1) + [True]
    assert receiver.counters() == {"n": 103}
    assert len(receiver.registers()) == 102


def test_where_there_can_be_no_folder_it_goes_on_without(endpoint: str) -> None:
    """Once it is counted, with the error as the sample; the rest is as without a life file."""
    Path(life_folder(endpoint) or "").touch()
    rest = """outbox = handler.link.outbox
    while not outbox.refused:
        time.sleep(0.01)
    print(outbox.refused, outbox.has_life)
    """

    assert run(endpoint, rest) == (0, "{'life': 1} False\n")


def test_disk_that_takes_nothing_is_silent(tmp_path: Path) -> None:
    """Neither an exit file that cannot be written nor one that is there already raises."""
    life = Life(str(tmp_path / "folder"), "p")
    (tmp_path / "folder" / f"{life_name('p')}{EXIT}.tmp").touch()
    life.leave([b"frame"])
    life.close()

    assert files(f"ipc://{tmp_path}/none", EXIT) == []


def test_file_that_cannot_be_held_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder on a disk without locks is as none."""

    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(OSError, match="no locks here"):
        Life(str(tmp_path), "p")

    assert [*tmp_path.iterdir()] == []
    assert descriptors(str(tmp_path)) == 0
