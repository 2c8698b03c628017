"""While the cluster runs: what is seen is shown, live in a terminal, in lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import deque

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from shardlog.cli.demo.blade import Stop
from shardlog.cli.demo.cluster import Cluster, Stopped
from shardlog.cli.demo.sight import Look, Sight
from shardlog.cli.demo.view import Sample, render
from shardlog.monitor.live.report import unexplained
from shardlog.monitor.live.session import Session

PROGRESS_EVERY_S = 2.0
RATE_OVER_LOOKS = 10
"""Rates are taken over so many looks at the cluster, about five seconds."""


class Watch:
    """Shows a cluster and keeps an eye on its processes."""

    def __init__(self, console: Console, cluster: Cluster, sight: Sight, session: Session) -> None:
        self.console = console
        self.cluster = cluster
        self.sight = sight
        self.session = session
        self._began = time.monotonic()
        self._said_at = self._began
        self._shown: Look | None = None
        self._samples: deque[Sample] = deque(maxlen=RATE_OVER_LOOKS)
        self._gone: set[str] = set()

    def run(self, stop: Stop, seconds: float | None, break_after: float | None) -> None:
        """Show it until the time is over, and break it meanwhile if it is to be broken.

        Raises `Stopped` when told to stop.
        """
        live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        with live or contextlib.nullcontext():
            while seconds is None or time.monotonic() - self._began < seconds:
                if stop.wait(0.1):
                    raise Stopped
                if break_after is not None and time.monotonic() - self._began >= break_after:
                    self._say(self.cluster.break_it(), "bold red")
                    break_after = None
                self._look_after_processes()
                self._show(live)

    def _look_after_processes(self) -> None:
        for name in self.cluster.tick():
            self._say(f"{name} was gone, it has been started again", "yellow")
        for name in self.cluster.ended():
            if name not in self._gone:
                self._gone.add(name)
                self._say(f"{name} has ended by itself", "bold red")

    def _say(self, what: str, style: str) -> None:
        """Say in one line, however narrow the terminal is, what happened and when."""
        ago = time.monotonic() - self._began
        self.console.print(f"{ago:.0f} s: {what}", style=style, soft_wrap=True)

    def _show(self, live: Live | None) -> None:
        """Show what is new since the last call."""
        now = time.monotonic()
        look = self.sight.latest
        if look is not None and look is not self._shown:
            self._shown = look
            sample = Sample.of(look.state, look.at)
            self._samples.append(sample)
            if live is not None:
                before = self._samples[0] if len(self._samples) > 1 else None
                tests = self.session.read(unexplained)
                view = render(self._title(now), look.blades, look.state, sample, before, tests)
                live.update(view, refresh=True)
        if live is None and now - self._said_at >= PROGRESS_EVERY_S:
            self._said_at = now
            progress = self._samples[-1].progress() if self._samples else "nothing seen yet"
            self.console.print(escape(f"{now - self._began:.0f} s: {progress}{self._problem()}"))

    def _title(self, now: float) -> str:
        return (
            f"shardlog demo   {now - self._began:.0f} s   "
            f"--connect {self.cluster.url}{self._problem()}"
        )

    def _problem(self) -> str:
        return f"   ({self.sight.problem})" if self.sight.problem else ""
