"""A cluster of real processes, and what kills them at random and starts them again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.chaos_blade import Tally, read_tally
from benchmarks.report import ROOT
from tests.scenarios.processes import Cluster, Node

if TYPE_CHECKING:
    from collections.abc import Generator
    from random import Random

HOST = "node-1"
RATE = 5000
"""Counts per second, of each blade, at most."""
PAUSE_S = 0.5
"""How long it is quiet between two kills, at most."""
AWAY_S = 1.0
"""How long a node is away that was killed, at most."""
LEAVE_S = 10.0
IN_DOUBT_S = 3.0
"""What was handed over so shortly before a collector was killed may have been lost with it, and is
said again within so long after its return."""


class Outage(NamedTuple):
    """When a node was killed, and when it was there again. Monotonic seconds."""

    killed_s: float
    ready_s: float


class Run:
    """One process of a blade. Each run has a name of its own, which is its blade's."""

    def __init__(self, folder: Path, blade: str, endpoint: str) -> None:
        self.blade = blade
        self.killed_s = 0.0
        self.left_alone = False
        self._tally = folder / f"{blade}.tally"
        command = [sys.executable, "-m", "benchmarks.chaos_blade", endpoint, blade]
        self.process = subprocess.Popen(
            [*command, str(self._tally), str(RATE)], cwd=ROOT, start_new_session=True
        )

    @property
    def tally(self) -> Tally:
        """What it has counted."""
        return read_tally(self._tally)

    @property
    def has_left(self) -> bool:
        """Whether it ended in an orderly way."""
        return self.process.poll() == 0

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.killed_s = time.monotonic()
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Have it end by itself, and wait until it has."""
        self.killed_s = time.monotonic()  # for one that did not come so far as to handle SIGTERM
        self.process.terminate()
        self.process.wait(LEAVE_S)


class Storm:
    """So many blades, one collector, one aggregator; `strike` kills something of them."""

    def __init__(self, cluster: Cluster, blades: int, rng: Random) -> None:
        self.cluster = cluster
        self.runs: list[Run] = []
        self.kills: Counter[str] = Counter()
        self.outages: dict[str, list[Outage]] = {"collector": [], "aggregator": []}
        self._rng = rng
        self._working = [self._start(slot) for slot in range(blades)]

    def blow(self, until_s: float) -> None:
        """Strike again and again until that time, monotonic."""
        while time.monotonic() < until_s:
            time.sleep(self._rng.uniform(0, PAUSE_S))
            self.strike()

    def strike(self) -> None:
        """Kill a node for a while, or a blade; or have a blade leave. Of blades others follow."""
        slot = self._rng.randrange(len(self._working))
        match self._rng.choice(["collector", "aggregator", "blade", "blade", "leaves", "alone"]):
            case "collector":
                self.kill_nodes("collector")
            case "aggregator":
                self.kill_nodes("aggregator")
            case "alone":
                self.kill_nodes("collector", leaving=self._working[slot])
                self._working[slot] = self._start(slot)
            case "leaves":
                self._working[slot].leave()
                self._working[slot] = self._start(slot)
            case _:
                self._working[slot].kill()
                self.kills["blade"] += 1
                self._working[slot] = self._start(slot)

    def kill_nodes(self, *names: str, leaving: Run | None = None) -> None:
        """Kill nodes and start them again after a while, in which a blade may leave."""
        killed_s = time.monotonic()
        for name in names:
            self._node(name).kill()
            self.kills[name] += 1
        if leaving is not None:
            leaving.leave()
            leaving.left_alone = leaving.has_left
        time.sleep(self._rng.uniform(0, AWAY_S))
        for name in names:
            self._node(name).start()
            self.outages[name].append(Outage(killed_s, time.monotonic()))

    def end(self) -> None:
        """The blades that are left end in a calm, in which no node is killed, every other one by
        kill -9: of these nothing can have been lost with a collector.
        """
        time.sleep(IN_DOUBT_S)
        for number, run in enumerate(self._working):
            if number % 2:
                run.leave()
            else:
                run.kill()
                self.kills["blade"] += 1
        time.sleep(IN_DOUBT_S)

    def close(self) -> None:
        """Kill all blades that still run."""
        for run in self.runs:
            run.process.kill()
            run.process.wait()

    def is_quiet(self) -> bool:
        """Whether the collector has taken in all processes that have ended."""
        return not any((self.cluster.folder / f"{HOST}.sock.life").iterdir())

    def had_collector(self, run: Run) -> bool:
        """Whether the collector was there when a process was killed, shortly before, and after."""
        return not any(
            outage.killed_s - IN_DOUBT_S < run.killed_s < outage.ready_s + IN_DOUBT_S
            for outage in self.outages["collector"]
        )

    def _node(self, name: str) -> Node:
        return self.cluster.aggregator if name == "aggregator" else self.cluster.collectors[HOST]

    def _start(self, slot: int) -> Run:
        blade = f"blade-{slot}-{len(self.runs)}"
        run = Run(self.cluster.folder, blade, self.cluster.endpoint(HOST))
        self.runs.append(run)
        return run


@contextmanager
def cluster_of(retention: dict[str, str]) -> Generator[Cluster]:
    """A cluster of one host that forgets by this table."""
    with tempfile.TemporaryDirectory(prefix="shardlog-") as name:
        folder = Path(name)
        lines = ["[retention]", *(f'"{what}" = "{time}"' for what, time in retention.items())]
        lines += ["[aggregate]", f'store = "{folder}/aggregator-store"']
        config = folder / "shardlog.toml"
        config.write_text("\n".join(lines) + "\n")
        before = os.environ.get("SHARDLOG_CONFIG")
        os.environ["SHARDLOG_CONFIG"] = str(config)
        cluster = Cluster(folder, (HOST,))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            if before is None:
                del os.environ["SHARDLOG_CONFIG"]
            else:
                os.environ["SHARDLOG_CONFIG"] = before
