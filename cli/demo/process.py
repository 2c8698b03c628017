"""One process that the demo supervises: its start, its first words, its end, its pid file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Process:
    """A Python module that runs as a process in a session of its own.

    In its folder it has `NAME.pid` while it runs, `NAME.out` and `NAME.err` with what it printed.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.restarts = 0
        self._command = [
            # -P: what lies in the current folder must not be taken for a module
            *(sys.executable, "-P", "-m", "shardlog.cli.demo.tied", str(os.getpid())),
            *(module, *arguments),
        ]
        self._environment = dict(environment)
        self._pid_file = folder / f"{name}.pid"
        self._out = folder / f"{name}.out"
        self._err = folder / f"{name}.err"
        self._popen: subprocess.Popen[bytes] | None = None
        self._ended_at: float | None = None

    def start(self) -> None:
        """Start the process; `ready` says when it is up."""
        # A restart keeps what was said before: that may be why it was needed.
        with self._out.open("wb") as out, self._err.open("ab" if self.restarts else "wb") as err:
            self._popen = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._environment,
                start_new_session=True,
            )
        self._ended_at = None
        aside = self._pid_file.with_suffix(".pid~")
        aside.write_text(f"{self._popen.pid}\n", encoding="ascii")
        aside.rename(self._pid_file)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def ready(self) -> list[str] | None:
        """The addresses of its line `ready ADDRESS...`, None while there is no such line.

        Raises `DemoError` when the process has ended.
        """
        ended = not self.running
        for line in self._out.read_text(encoding="utf-8", errors="replace").splitlines(True):
            if line.endswith("\n") and line.split()[:1] == ["ready"]:
                return line.split()[1:]
        if ended:
            raise DemoError(f"{self.name} has ended before it was ready\n{self.last_words()}")
        return None

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        try:
            return self._err.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
        except OSError:
            return ""

    def restart_if_ended(self, now: float, after_s: float) -> bool:
        """Start it again once it has been gone for that long; returns whether it was started.

        The first call that finds it gone only notes the time.
        """
        if self._popen is None or self.running:
            return False
        if self._ended_at is None:
            self._ended_at = now
        if now - self._ended_at < after_s:
            return False
        self.restarts += 1
        self.start()
        return True

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._popen is not None and self.running:
            self._popen.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end, also when somebody has paused it."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)

    def wait(self, deadline: float) -> bool:
        """Wait for its end; kill it at the deadline. Returns whether it ended by itself."""
        if self._popen is None:
            return True
        by_itself = True
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            by_itself = False
            self._popen.kill()
            self._popen.wait()
        self._pid_file.unlink(missing_ok=True)
        return by_itself
