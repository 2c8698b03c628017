"""Life files, with real files, real locks and real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shardlog.collector.batch import Acknowledge, Persist, Remove, Restored
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.life import HALF_NS, LifeFolder, Seen
from shardlog.collector.sidecar.machine import Sidecar
from shardlog.collector.sidecar.watch import ENDED_MAX, LifeWatch
from shardlog.crdt.delta import Total
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.life import life_bytes, life_folder, life_name, pack_frames, read_life
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.wire import codec
from tests.descriptors import descriptors, descriptors_left
from tests.helpers import eventually
from tests.scenarios.processes import running

if TYPE_CHECKING:
    from collections.abc import Generator

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
P = "blade@node:boot:1:1:aa"

HOLDER = """
import fcntl, os, sys, time
path, what = sys.argv[1:]
file = os.open(path + ".tmp", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.write(file, sys.stdin.buffer.read())
if what != "half":
    os.rename(path + ".tmp", path)
if what == "fork":
    os.fork() and os._exit(0)
os.write(1, b"held %d\\n" % os.getpid())
time.sleep(60)
"""


@contextmanager
def holder(folder: Path, process: str = P, what: str = "") -> Generator[subprocess.Popen[bytes]]:
    """Another process that holds the life file of `process`, or `half` of it."""
    path = folder / f"{life_name(process)}.life"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin:
        child.stdin.write(life_bytes(process))
    try:
        assert child.stdout.readline()
        yield child
    finally:
        child.stdout.close()
        child.kill()
        child.wait()


def leave(folder: Path, *reports: Report, process: str = P, life: bool = True) -> Path:
    """The files of a process that has ended."""
    name = life_name(process)
    if life:
        (folder / f"{name}.life").write_bytes(life_bytes(process))
    path = folder / f"{name}.exit"
    path.write_bytes(pack_frames([codec.encode(said) for said in reports]))
    return path


def last(n: int, process: str = P, sequence: int = 2) -> Report:
    return Report(process, sequence, NOW, True, [], [], [Total("n", 1, NOW, NOW, n)])


class Collector:
    """A machine, its folder and the watch over it, without sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = Sidecar(
            SidecarConfig(listen="ipc:///c", to=(), host="node-1", store="/s"),
            Restored(replica="replica-1"),
            process="node-1@node-1::1:1:cc",
            epoch="epoch-1",
            now_ns=NOW,
            bytes_max=10_000,
        )
        self.watch = LifeWatch(LifeFolder(str(folder)), self.machine)
        self.due: list[Acknowledge | Remove] = []

    def look(self, second: float, *, is_drained: bool = True) -> None:
        at_ns = int(second * SECOND)
        self.watch.look(NOW + at_ns, at_ns, is_drained=is_drained)
        self.obey()

    def obey(self) -> None:
        for effect in self.machine.take_effects():
            if isinstance(effect, Persist):
                due = self.machine.persisted(NOW)
                self.watch.obey(due)
                self.due += due

    def status(self, process: str = P) -> object:
        leaf = self.machine.state.map.leaves.get(f"shardlog/presence/blade/{process}/status")
        return leaf and leaf.value

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def test_the_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    """Made where it is missing, 0700 whatever it was; a file in its place is an error."""
    (tmp_path / "open").mkdir(mode=0o755)
    for name in ("open", "new"):
        LifeFolder(str(tmp_path / name))
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be used"):
        LifeFolder(str(tmp_path / "file"))


def test_a_held_file_says_that_its_process_lives_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    """The kernel frees the lock at kill -9; SIGSTOP frees nothing."""
    folder = LifeFolder(str(tmp_path))
    with holder(tmp_path) as child:
        assert folder.scan() == ([Seen(P, True, False)], [])
        child.send_signal(signal.SIGSTOP)
        assert folder.scan() == ([Seen(P, True, False)], [])
        child.kill()
        child.wait()
        assert folder.scan() == ([Seen(P, False, False)], [])


def test_a_forked_child_that_lives_on_holds_nothing(tmp_path: Path) -> None:
    """It has inherited the descriptor, and not the lock."""
    folder = LifeFolder(str(tmp_path))
    path = tmp_path / f"{life_name(P)}.life"
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), "fork"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin:
        parent.stdin.write(life_bytes(P))
    child = int(parent.stdout.readline().split()[1])
    try:
        assert parent.wait() == 0
        os.kill(child, 0)
        assert folder.scan() == ([Seen(P, False, False)], [])
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_the_acknowledgement_is_written_into_the_file_of_a_process(tmp_path: Path) -> None:
    """The holder's lock stays, the id stays, and a process without a file is no error."""
    folder = LifeFolder(str(tmp_path))
    with holder(tmp_path):
        for sequence in (1, 2**40):
            folder.acknowledge(P, sequence)
            folder.acknowledge("nobody", sequence)
            data = (tmp_path / f"{life_name(P)}.life").read_bytes()
            assert read_life(data) == (P, sequence)
        assert folder.scan() == ([Seen(P, True, False)], [])
    folder.close()


def test_descriptors_are_bounded(tmp_path: Path) -> None:
    """Thousands of processes do not take thousands of descriptors."""
    folder = LifeFolder(str(tmp_path))
    before = descriptors(str(tmp_path))
    names = [f"blade@node:boot:{n}:1:aa" for n in range(2000)]
    for process in names:
        (tmp_path / f"{life_name(process)}.life").write_bytes(life_bytes(process))
    seen, bad = folder.scan()
    assert (len(seen), bad) == (2000, [])
    for process in names:
        folder.acknowledge(process, 3)
        assert descriptors(str(tmp_path)) - before <= 256
    folder.close()
    assert descriptors(str(tmp_path)) == before


def test_a_file_that_came_in_the_place_of_another_is_opened_anew(tmp_path: Path) -> None:
    """As by what tidies up: a descriptor of the old one would acknowledge to nobody."""
    folder = LifeFolder(str(tmp_path))
    path = tmp_path / f"{life_name(P)}.life"
    path.write_bytes(life_bytes(P))
    folder.scan()
    folder.acknowledge(P, 1)
    (tmp_path / "new").write_bytes(life_bytes(P))
    (tmp_path / "new").rename(path)
    folder.scan()
    folder.acknowledge(P, 2)
    assert read_life(path.read_bytes()) == (P, 2)


def test_what_a_process_left_is_taken_in_and_removed(tmp_path: Path) -> None:
    """After a second in which nothing waited in the socket, once, and the files are gone."""
    collector = Collector(tmp_path)
    leave(tmp_path, last(5))
    collector.look(1)
    assert collector.machine.state.total("n") == 0
    collector.look(2, is_drained=False)
    collector.look(2.9)
    assert collector.machine.state.total("n") == 0
    collector.look(3.1)
    assert collector.machine.state.total("n") == 5
    assert collector.status() == "bye"
    assert (collector.names(), collector.due) == ([], [Remove(P)])
    leave(tmp_path, last(5))
    for second in (5, 7, 9):
        collector.look(second)
    assert (collector.machine.state.total("n"), collector.names()) == (5, [])


def test_who_said_its_last_in_the_socket_is_not_waited_for(tmp_path: Path) -> None:
    """The chain has reached the end: it is closed at the first look."""
    collector = Collector(tmp_path)
    with holder(tmp_path):
        collector.machine.receive(last(4), NOW)
        collector.look(1)
        assert collector.due == [Acknowledge(P, 2)]
    collector.look(2, is_drained=False)
    assert (collector.status(), collector.names()) == ("bye", [])


def test_who_was_killed_is_lost_and_its_file_is_removed(tmp_path: Path) -> None:
    """It is up for as long as its lock is held, however silent; nothing is shown of it but that."""
    collector = Collector(tmp_path)
    with holder(tmp_path) as child:
        child.send_signal(signal.SIGSTOP)
        collector.machine.receive(Report(P, 1, NOW, False, [], [], []), NOW)
        for second in range(1, 30):
            collector.look(second)
            collector.machine.handle_timer(NOW + second * SECOND)
        assert collector.status() is None
        child.kill()
        child.wait()
        collector.look(30)
        collector.look(31)
    assert (collector.status(), collector.names()) == ("lost", [])


def test_what_a_process_was_writing_when_it_was_killed_is_removed_with_its_files(
    tmp_path: Path,
) -> None:
    """Half an exit file is nothing that could be counted, and may be large."""
    collector = Collector(tmp_path)
    half = tmp_path / f"{life_name(P)}.exit.tmp"
    with holder(tmp_path) as child:
        half.write_bytes(b"half")
        collector.look(1)
        assert half.exists()
        child.kill()
        child.wait()
    collector.look(2)
    collector.look(3)
    assert (collector.status(), collector.names()) == ("lost", [])


def test_halves_of_processes_that_are_gone_are_dropped(tmp_path: Path) -> None:
    """Not young ones, nor those of a process that lives, by either of its files."""
    folder = LifeFolder(str(tmp_path))
    alive, begun = "alive@node:boot:1:1:aa", "begun@node:boot:1:1:aa"
    with holder(tmp_path, alive), holder(tmp_path, begun, "half"):
        kept = {f"{life_name(alive)}.exit.tmp", f"{life_name(begun)}.life.tmp", "replica.tmp"}
        gone = {f"{life_name(P)}.exit.tmp", f"{life_name(P)}.life.tmp"}
        for name in kept | gone:
            (tmp_path / name).touch()
        now_ns = time.time_ns()
        folder.drop_halves(now_ns)
        assert kept | gone < {file.name for file in tmp_path.iterdir()}
        for name in kept | gone:
            os.utime(tmp_path / name, ns=(now_ns, now_ns - HALF_NS))
        folder.drop_halves(now_ns)
        assert {file.name for file in tmp_path.iterdir()} == kept | {f"{life_name(alive)}.life"}


def test_at_the_start_all_that_was_left_is_taken_in_at_once(tmp_path: Path) -> None:
    """In batches, and an exit file whose life file is gone too."""
    for n in range(ENDED_MAX + 10):
        process = f"blade@node:boot:{n}:1:aa"
        leave(tmp_path, last(1, process), process=process, life=n % 2 == 0)
    collector = Collector(tmp_path)
    collector.watch.start(NOW)
    batches = 0
    while collector.watch.has_more:
        collector.look(batches)
        batches += 1
    assert batches == 2
    assert collector.machine.state.total("n") == ENDED_MAX + 10
    assert collector.names() == []


def test_what_can_not_be_read_just_now_is_read_later(tmp_path: Path) -> None:
    """An exit file is there to be counted: it is not taken for none, and said to be unread."""
    collector = Collector(tmp_path)
    leave(tmp_path, last(5))
    names = collector.names()
    with descriptors_left(1):  # which the life file takes
        collector.watch.start(NOW)
        collector.look(0)
        assert not collector.watch.has_more
    assert (collector.names(), collector.due, collector.status()) == (names, [], None)
    assert collector.machine.refused == {"unread": 1}
    collector.look(1)
    collector.look(2)
    assert (collector.machine.state.total("n"), collector.status()) == (5, "bye")
    assert collector.names() == []


def test_a_folder_that_can_not_be_listed_just_now_is_looked_at_again(tmp_path: Path) -> None:
    """At the limit of descriptors the collector goes on, and says that it does not see who ends."""
    collector = Collector(tmp_path)
    leave(tmp_path, last(5))
    with descriptors_left(0):
        collector.look(1)
    assert collector.machine.refused == {"unread": 1}
    collector.look(2)
    collector.look(3)
    assert (collector.machine.state.total("n"), collector.names()) == (5, [])


def test_bad_files_are_refused_counted_and_renamed_aside(tmp_path: Path) -> None:
    """Cut off, of another process, no report, empty, a link: the collector goes on."""
    good, other = last(3), last(9, "other@node:boot:1:1:aa")
    path = leave(tmp_path, good, other)
    path.write_bytes(path.read_bytes() + pack_frames([b"no report"]))
    cut = leave(tmp_path, good, process="b@n:b:1:1:cut")
    cut.write_bytes(cut.read_bytes()[:-1])
    leave(tmp_path, good, process="b@n:b:1:1:orphan", life=False)
    (tmp_path / "empty.life").write_bytes(b"")
    (tmp_path / "empty.exit").write_bytes(b"")
    (tmp_path / "wrong.life").write_bytes(life_bytes(P))
    (tmp_path / "link.life").symlink_to("/etc/passwd")
    (tmp_path / "folder.exit").mkdir()
    collector = Collector(tmp_path)
    for second in range(1, 6):
        collector.look(second)
    assert collector.machine.state.total("n") == 3
    assert collector.machine.refused == {"file": 6, "process": 1}
    left = [name for name in collector.names() if not name.endswith(".bad")]
    assert left == ["folder.exit", "link.life"]


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """As by what tidies up temporary folders."""
    folder = LifeFolder(str(tmp_path / "life"))
    (tmp_path / "life").rmdir()
    assert folder.scan() == ([], [])
    assert (tmp_path / "life").stat().st_mode & 0o777 == 0o700


def test_the_replica_that_collects_is_named_in_the_folder(tmp_path: Path) -> None:
    """None at first; then the newest name, also where the folder was removed meanwhile."""
    folder = LifeFolder(str(tmp_path / "life"))
    assert folder.named() == ()
    folder.name(("first",))
    folder.name(("second", "first"))
    assert LifeFolder(str(tmp_path / "life")).named() == ("second", "first")
    assert folder.scan() == ([], [])
    shutil.rmtree(tmp_path / "life")
    folder.scan()
    assert LifeFolder(str(tmp_path / "life")).named() == ("second", "first")


def test_the_version_of_the_store_is_noted_in_the_folder(tmp_path: Path) -> None:
    """0 if it is not known: at first, behind another name, where it is damaged or gone."""
    folder = LifeFolder(str(tmp_path / "life"))
    assert folder.version() == 0
    folder.name(("first",))
    folder.note_version(7)
    assert LifeFolder(str(tmp_path / "life")).version() == 7
    folder.name(("second", "first"))
    assert LifeFolder(str(tmp_path / "life")).version() == 0
    (tmp_path / "life" / "version").write_bytes(b"")
    assert folder.version() == 0
    shutil.rmtree(tmp_path / "life")
    folder.note_version(8)
    assert folder.version() == 0


def test_a_name_that_is_damaged_is_another_name(tmp_path: Path) -> None:
    """Then what is in the store may be too little, and nothing is counted twice."""
    (tmp_path / "replica").write_bytes(b"\xff\xfe")
    assert LifeFolder(str(tmp_path)).named() not in [(), ("first",)]


def test_a_collector_reads_what_was_left_while_it_was_away() -> None:
    """The whole of it, as a process: exit files first, acknowledgements and ends while it runs."""
    with running() as cluster:
        node = cluster.collectors["node-1"]
        path = life_folder(cluster.endpoint())
        assert path is not None
        folder = Path(path)
        node.stop()
        leave(folder, last(5))
        half = folder / f"{life_name('gone')}.exit.tmp"
        half.touch()
        os.utime(half, ns=(0, 0))
        node.start()
        assert {file.name for file in folder.iterdir()} == {"replica", "version"}
        with holder(folder) as child:
            name = folder / f"{life_name(P)}.life"
            time.sleep(2.5)
            assert name.exists()
            child.kill()
            child.wait()
        eventually(lambda: not name.exists(), "its file is removed")
