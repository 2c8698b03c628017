"""What the kernel tells of processes: how each ended, and whether it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shardlog.collector.sidecar import kernel as kernel_module
from shardlog.collector.sidecar.kernel import Exit, Kernel
from tests.descriptors import descriptors, descriptors_left
from tests.helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

KERNELS = ("anon_inode:[pidfd]", "/sys/fs/cgroup")

CHILD = "import os, signal, sys; os.write(1, b'x'); os.read(0, 1); "


@contextmanager
def child(program: str = "") -> Generator[subprocess.Popen[bytes]]:
    """A process that runs `program` when a byte is written to it."""
    started = subprocess.Popen(
        [sys.executable, "-c", CHILD + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with started:
        assert started.stdout is not None
        assert started.stdout.read(1)
        try:
            yield started
        finally:
            started.kill()


def go_on(started: subprocess.Popen[bytes]) -> None:
    assert started.stdin is not None
    started.stdin.write(b"x")
    started.stdin.close()


ENDS = [
    ("", Exit(0)),
    ("sys.exit(3)", Exit(3)),
    ("1 / 0", Exit(1)),
    ("os._exit(255)", Exit(255)),
    ("os.kill(os.getpid(), signal.SIGKILL)", Exit(None, "SIGKILL")),
    ("os.kill(os.getpid(), signal.SIGTERM)", Exit(None, "SIGTERM")),
    ("os.kill(os.getpid(), 40)", Exit(None, "signal 40")),
]


def ended(kernel: Kernel) -> list[tuple[str, Exit]]:
    found: list[tuple[str, Exit]] = []

    def look() -> bool:
        found.extend(kernel.look())
        return bool(found)

    eventually(look)
    return found


@pytest.mark.parametrize(("program", "how"), ENDS)
def test_end_of_a_process_that_nobody_collects_is_known(program: str, how: Exit) -> None:
    """It is a zombie; it is told once."""
    kernel = Kernel()
    with child(program) as started:
        kernel.meet("p", started.pid)
        assert [*kernel.look()] == []
        go_on(started)
        assert ended(kernel) == [("p", how)]
        assert "p" not in kernel
        assert [*kernel.look()] == []
    kernel.close()


def tells_when_collected() -> bool:
    """Whether this kernel tells of one that its parent has collected: since Linux 6.15."""
    kernel = Kernel()
    with child() as started:
        kernel.meet("p", started.pid)
        go_on(started)
        started.wait()
        found = [*kernel.look()]
    kernel.close()
    return bool(found)


@pytest.mark.parametrize(("program", "how"), ENDS)
def test_end_of_a_process_that_its_parent_collected_is_known(program: str, how: Exit) -> None:
    """The parent was faster: newer kernels tell, others let it go, and say nothing wrong."""
    kernel = Kernel()
    with child(program) as started:
        kernel.meet("p", started.pid)
        go_on(started)
        started.wait()
        assert [*kernel.look()] == ([("p", how)] if tells_when_collected() else [])
        assert "p" not in kernel
    kernel.close()


@pytest.mark.parametrize(("looks", "cause"), [(0, "out of memory"), (1, "out of memory"), (2, "")])
def test_kill_for_memory_is_known_though_the_end_takes_longer(
    looks: int, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel counts the kill at once; what holds much memory has ended some time later."""
    counted = tmp_path / "memory.events"
    counted.write_text("oom_kill 1\n")

    def kills_file(_: int) -> Path:
        return counted

    monkeypatch.setattr(kernel_module, "_kills_file", kills_file)
    kernel = Kernel()
    with child() as started:
        kernel.meet("p", started.pid)
        assert [*kernel.look()] == []
        counted.write_text("oom_kill 2\n")
        for _ in range(looks):
            assert [*kernel.look()] == []
        started.kill()
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        assert [*kernel.look()] == [("p", Exit(None, "SIGKILL", cause))]
    kernel.close()


def test_stopped_process_is_told_from_one_that_runs_or_has_ended() -> None:
    """And one that was never met is not stopped."""
    kernel = Kernel()
    with child() as started:
        kernel.meet("p", started.pid)
        assert not kernel.is_stopped("p")
        started.send_signal(signal.SIGSTOP)
        eventually(lambda: kernel.is_stopped("p"))
        started.send_signal(signal.SIGCONT)
        eventually(lambda: not kernel.is_stopped("p"))
        started.kill()
        started.wait()
        assert not kernel.is_stopped("p")
        assert not kernel.is_stopped("q")
    kernel.close()


def test_number_that_is_not_known_is_not_met() -> None:
    """0 stands for one in a container of its own, and nobody may have the highest."""
    kernel = Kernel()
    kernel.meet("p", 0)
    kernel.meet("p", 2**22 + 1)
    assert "p" not in kernel
    assert [*kernel.look()] == []


def test_descriptors_are_bounded_and_all_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest is let go."""
    monkeypatch.setattr(kernel_module, "PROCESSES_MAX", 2)
    before = descriptors(*KERNELS)
    kernel = Kernel()
    for process in ("a", "b", "c"):
        kernel.meet(process, os.getpid())
    assert [process in kernel for process in ("a", "b", "c")] == [False, True, True]
    assert descriptors(*KERNELS) == before + 2
    kernel.part("b")
    kernel.part("b")
    kernel.close()
    assert descriptors(*KERNELS) == before


def test_process_whose_cgroup_can_not_be_read_is_met_all_the_same() -> None:
    """How it ended is known; and asking in vain leaves no descriptor open."""
    before = descriptors(*KERNELS)
    kernel = Kernel()
    with child("sys.exit(3)") as started:
        with descriptors_left(1):  # which the process takes
            kernel.meet("p", started.pid)
        assert "p" in kernel
        assert descriptors(*KERNELS) == before + 1
        go_on(started)
        assert ended(kernel) == [("p", Exit(3))]
    kernel.close()
    assert descriptors(*KERNELS) == before
