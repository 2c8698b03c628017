"""The demo as its user runs it: counts are equal at the end, whatever dies in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Generator

SHARDLOG = str(Path(sys.executable).parent / "shardlog")
SECONDS = 10


@contextlib.contextmanager
def demo(folder: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A demo that runs; it is killed if the test fails."""
    command = [SHARDLOG, "demo", "--dir", str(folder), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def pid_of(folder: Path, name: str) -> int:
    """The pid of one of its processes, once it has started."""
    file = folder / f"{name}.pid"
    eventually(lambda: file.exists() and file.read_text().strip().isdigit(), f"{file}")
    return int(file.read_text())


def started_asking(folder: Path) -> None:
    """Wait until the blades are at work."""
    pid_of(folder, "orchestrator")
    time.sleep(2)


def check_equal(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, f"{out}\n{err}"
    summary: dict[str, Any] = json.loads(out)
    return summary


def kill(folder: Path, name: str) -> None:
    os.kill(pid_of(folder, name), signal.SIGKILL)


def pause(folder: Path, name: str) -> None:
    pid = pid_of(folder, name)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [kill, pause])
@pytest.mark.parametrize("name", ["collector-1", "aggregator"])
def test_the_counts_are_equal_whatever_happens_to_a_node(
    tmp_path: Path, fault: Any, name: str
) -> None:
    """kill -9 or SIGSTOP for 5 s in the middle: exit 0, and the summary's counts are equal."""
    with demo(tmp_path, "--seconds", str(SECONDS), "--json") as process:
        started_asking(tmp_path)
        fault(tmp_path, name)
        summary = check_equal(process)
    assert summary["equal"]
    assert len(summary["counts"]) > 10


def test_the_books_balance_whatever_was_killed(tmp_path: Path) -> None:
    """kill -9 of a collector, of the aggregator and of a blade: nothing is lost on the way."""
    with demo(tmp_path, "--seconds", "60") as process:
        started_asking(tmp_path)
        for name in ("collector-1", "aggregator", "spotter-1"):
            kill(tmp_path, name)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(found[0] for line in lines if (found := re.findall(r"tcp://[0-9.:]+", line)))
        done = subprocess.run(
            [SHARDLOG, "check", "--ledger", "--connect", url], capture_output=True, text=True
        )

    assert (done.returncode, done.stdout[:5]) == (0, "fine "), done.stdout
    assert not done.stdout.startswith("fine         ledger: balanced: 0 counted")


def test_the_counts_are_equal_when_all_nodes_die_just_before_the_end(tmp_path: Path) -> None:
    """The blades end while nobody hears them: what they had to say waits for the nodes."""
    with demo(tmp_path, "--seconds", "5", "--json") as process:
        started_asking(tmp_path)
        time.sleep(2.2)
        for name in ("collector-1", "collector-2", "aggregator"):
            kill(tmp_path, name)
        assert check_equal(process)["equal"]


def test_ctrl_c_ends_all_processes_and_leaves_nothing(tmp_path: Path) -> None:
    """SIGINT in the middle: exit 130, no process of it is alive, its runtime folder is gone."""
    with demo(tmp_path) as process:
        started_asking(tmp_path)
        pids = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
        assert len(pids) == 8
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.glob("*.pid")) == []


def test_kill_9_of_the_demo_itself_leaves_no_process(tmp_path: Path) -> None:
    """Even when the demo cannot clean up, its processes end with it."""
    with demo(tmp_path) as process:
        started_asking(tmp_path)
        pids = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
        process.kill()
        process.communicate()
    eventually(lambda: not any(_is_alive(pid) for pid in pids), "processes are left")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
