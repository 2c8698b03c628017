"""Real processes of shardlog for a test: aggregators, collectors, and programs that log.

Every process is started in a session of its own and ended by its pid; nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers import WAIT_S, free_pair

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass
class Node:
    """One process of `shardlog`, with what it takes to start it again."""

    arguments: list[str]
    folder: Path
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "shardlog"), *self.arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"{self.arguments[0]}: {line}{self.log()}"

    def log(self) -> str:
        """What it has said on stderr, over all its starts."""
        return (self.folder / "log").read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM, and wait until it has ended; its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait for its end."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(WAIT_S)


@dataclass
class Cluster:
    """An aggregator and its hosts' collectors. `url` is what monitors connect to."""

    folder: Path
    hosts: tuple[str, ...] = ("node-1",)
    url: str = field(default_factory=free_pair)
    listen: str = field(default_factory=free_pair)
    collectors: dict[str, Node] = field(default_factory=dict[str, "Node"])
    aggregator: Node = field(init=False)

    def start(self) -> None:
        """Start the aggregator, then the collectors."""
        self.aggregator = self._node("aggregator", "aggregate", "--serve", self.url, self.listen)
        for host in self.hosts:
            self.start_collector(host)

    def start_collector(self, host: str, *more: str) -> Node:
        """Start the collector of one host."""
        folder = self.folder / host
        folder.mkdir()
        arguments = [
            "collect",
            "--listen",
            self.endpoint(host),
            "--to",
            self.listen,
            "--host",
            host,
        ]
        node = Node([*arguments, "--store", str(folder / "store"), *more], folder)
        self.collectors[host] = node
        return node

    def endpoint(self, host: str = "node-1") -> str:
        """Where blades of the host send."""
        return f"ipc://{self.folder}/{host}.sock"

    def stop(self) -> None:
        """End all that still runs."""
        for node in (*self.collectors.values(), self.aggregator):
            if node.process.poll() is None:
                node.signal(signal.SIGCONT)
                node.stop()

    def _node(self, name: str, command: str, *arguments: str) -> Node:
        folder = self.folder / name
        folder.mkdir()
        flags = [*arguments[:-1], "--listen", arguments[-1]]
        return Node([command, *flags], folder)


@contextlib.contextmanager
def running(*hosts: str) -> Generator[Cluster]:
    """A cluster that runs for as long as the block; one host unless more are named.

    Its folder has a short path: that of a socket may have 107 bytes.
    """
    with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
        cluster = Cluster(Path(folder), hosts or ("node-1",))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@contextlib.contextmanager
def terminal(columns: int, *arguments: str) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """Run `shardlog` on a terminal so wide, for as long as the block; and where that is read."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, columns))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "shardlog"), *arguments],
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def on_terminal(columns: int, *arguments: str) -> tuple[int, str]:
    """Run `shardlog` on a terminal so wide; its exit code, and all that it has written there."""
    shown = b""
    with terminal(columns, *arguments) as (process, screen):
        with contextlib.suppress(OSError):  # EIO is how a terminal says that it is over
            while chunk := os.read(screen, 65_536):
                shown += chunk
        return process.wait(WAIT_S), shown.decode()
