"""The supervisor: which processes the demo has, and in which order they start and stop.

    site, aggregator            first: others are told their addresses
    collector-1, collector-2    two "hosts", each with its own runtime folder
    spotter-1                   before the scrapers, which are told its address
    scraper-1, scraper-2        before the orchestrator, for the same reason
    orchestrator

They stop the other way round, so that nobody is asked by one who is gone: first nothing more is
asked, then the scrapers end the page in hand, then nothing more can be received. The nodes stay
until all that was counted has been seen, and a node that was killed comes back.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from shardlog.cli.demo.blade import Stop
from shardlog.cli.demo.breaks import BREAKS
from shardlog.cli.demo.ports import LOOPBACK, free_pair
from shardlog.cli.demo.process import DemoError, Process
from shardlog.cli.demo.site import BROKEN, DOMAINS
from shardlog.crdt.endpoint import IPC_PATH_BYTES_MAX

HOSTS = ("node-1", "node-2")
ORCHESTRATOR, SPOTTER, SCRAPERS = "orchestrator", "spotter-1", ("scraper-1", "scraper-2")
BLADES = (ORCHESTRATOR, *SCRAPERS, SPOTTER)
HOST_OF = {ORCHESTRATOR: HOSTS[0], "scraper-1": HOSTS[0], "scraper-2": HOSTS[1], SPOTTER: HOSTS[1]}

RESTART_AFTER_S = 1.0
READY_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
PORT_TRIES = 3


class Stopped(Exception):
    """The demo was told to stop while it waited for something."""


class Cluster:
    """All processes of the demo; a context manager that leaves none of them behind."""

    def __init__(self, folder: Path, stop: Stop, way_to_break: str | None = None) -> None:
        self.folder = folder
        self.stop = stop
        self._way_to_break = way_to_break
        self.url = ""
        self.blades: dict[str, Process] = {}
        self.nodes: dict[str, Process] = {}
        self.site: Process | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="shardlog-demo-", dir=short_folder())
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SHARDLOG_")
        }

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._end(self.blades.values())
            self.stop_nodes()
        finally:
            self._scratch.cleanup()

    def start(self, pages: Path) -> None:
        """Start everything; returns when all are ready. Raises `DemoError` and `Stopped`."""
        self.site = self._process("site", "shardlog.cli.demo.site", ["--pages", str(pages)])
        self.site.start()
        to = self._start_aggregator()
        for number, host in enumerate(HOSTS, start=1):
            self._add_collector(f"collector-{number}", host, to)
        self._wait_ready(self.nodes.values())
        (site_address,) = self._wait_ready([self.site])
        (spotter_address,) = self._wait_ready([self._add_blade(SPOTTER, "spotter")])
        names = [f"{domain}={site_address}" for domain in (*DOMAINS, BROKEN)]
        known = _resolve([*names, f"{SPOTTER}={spotter_address}"])
        scrapers = [self._add_blade(name, "scraper", *known) for name in SCRAPERS]
        addresses = self._wait_ready(scrapers)
        names += [f"{name}={address}" for name, address in zip(SCRAPERS, addresses, strict=True)]
        chosen = [word for name in SCRAPERS for word in ("--scraper", name)]
        self._wait_ready([self._add_blade(ORCHESTRATOR, "orchestrator", *_resolve(names), *chosen)])

    def tally_file(self, blade: str) -> Path:
        """The file into which a blade writes at its end what it has counted."""
        return self.folder / f"{blade}.counts.json"

    def tick(self) -> list[str]:
        """Restart the nodes that were killed a while ago; returns their names."""
        now = time.monotonic()
        return [
            name
            for name, node in self.nodes.items()
            if node.restart_if_ended(now, after_s=RESTART_AFTER_S)
        ]

    def ended(self) -> list[str]:
        """What has ended though nobody stopped it, and is not started again."""
        others = [*self.blades.values(), *([self.site] if self.site else [])]
        return [process.name for process in others if not process.running]

    def break_it(self) -> str:
        """Break what this cluster was made to break; returns what is broken then, for people."""
        assert self._way_to_break is not None
        blade, said = BREAKS[self._way_to_break]
        self.blades[blade].send(signal.SIGUSR1)
        return f"{blade} {said}"

    def rest(self) -> None:
        """Have nothing more asked; what was asked is done."""
        self.blades[ORCHESTRATOR].send(signal.SIGUSR1)

    def restarts(self) -> dict[str, int]:
        """How often each node that was killed has been restarted."""
        return {name: node.restarts for name, node in self.nodes.items() if node.restarts}

    def stop_blades(self) -> None:
        """Stop the blades in order, each when it has ended what it was at."""
        for stage in ((ORCHESTRATOR,), SCRAPERS, (SPOTTER,)):
            self._end(self.blades[name] for name in stage if name in self.blades)

    def stop_nodes(self) -> None:
        """Stop the collectors, then the aggregator they speak to, and the site."""
        self._end(node for name, node in self.nodes.items() if name != "aggregator")
        self._end(node for name, node in self.nodes.items() if name == "aggregator")
        self._end([self.site] if self.site else [])

    def _start_aggregator(self) -> str:
        """Start the aggregator on free ports; returns where it listens to collectors."""
        taken: set[int] = set()
        for tries_left in reversed(range(PORT_TRIES)):
            listen = f"tcp://{LOOPBACK}:{free_pair(taken)}"
            self.url = f"tcp://{LOOPBACK}:{free_pair(taken)}"
            words = ["aggregate", "--listen", listen, "--serve", self.url]
            node = self.nodes["aggregator"] = self._node("aggregator", words)
            node.start()
            try:
                self._wait_ready([node])
            except DemoError:
                if not tries_left:
                    raise
            else:
                return listen
            # another program may have been faster in taking a port: try others
        raise AssertionError("PORT_TRIES is positive")

    def _add_collector(self, name: str, host: str, to: str) -> None:
        words = ["collect", "--listen", self._endpoint(host), "--to", to]
        words += ["--host", host, "--store", str(self._folder(f"store-{host}"))]
        node = self.nodes[name] = self._node(name, words, host)
        node.start()

    def _node(self, name: str, words: list[str], host: str | None = None) -> Process:
        return self._process(name, "shardlog.cli.main", words, host)

    def _add_blade(self, name: str, module: str, *arguments: str) -> Process:
        host = HOST_OF[name]
        words = ["--blade", name, "--endpoint", self._endpoint(host)]
        words += ["--tally", str(self.tally_file(name)), *arguments]
        if self._way_to_break is not None and BREAKS[self._way_to_break].blade == name:
            words += ["--break", self._way_to_break]
        blade = self._process(name, f"shardlog.cli.demo.{module}", words, host)
        self.blades[name] = blade
        blade.start()
        return blade

    def _process(
        self, name: str, module: str, arguments: list[str], host: str | None = None
    ) -> Process:
        environment = self._environment
        if host is not None:
            # Two hosts on one machine: each needs the runtime folder that a host has.
            folder = str(self._folder(host))
            environment = {**environment, "XDG_RUNTIME_DIR": folder, "SHARDLOG_HOST": host}
        return Process(name, module, arguments, self.folder, environment)

    def _endpoint(self, host: str) -> str:
        folder = self._folder(host) / "shardlog"
        folder.mkdir(mode=0o700, exist_ok=True)
        return f"ipc://{folder}/collector.sock"

    def _folder(self, name: str) -> Path:
        folder = Path(self._scratch.name) / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _wait_ready(self, processes: Iterable[Process]) -> list[str]:
        """Wait until all are ready; returns the first address of each, if it has one."""
        deadline = time.monotonic() + READY_WITHIN_S
        addresses: list[str] = []
        for process in processes:
            while (words := process.ready()) is None:
                if time.monotonic() > deadline:
                    raise DemoError(f"{process.name} is not ready after {READY_WITHIN_S:.0f} s")
                if self.stop.wait(0.05):
                    raise Stopped
            addresses += words[:1]
        return addresses

    def _end(self, processes: Iterable[Process]) -> None:
        """End some processes together; those that do not end in time are killed."""
        ending = list(processes)
        for process in ending:
            process.terminate()
        deadline = time.monotonic() + STOP_WITHIN_S
        for process in ending:
            process.wait(deadline)


def short_folder() -> str | None:
    """Where the sockets' folder is made: None for the usual place, `/tmp` if that is too deep."""
    longest = Path(tempfile.gettempdir()) / "shardlog-demo-12345678/node-1/shardlog/collector.sock"
    return None if len(os.fsencode(longest)) <= IPC_PATH_BYTES_MAX else "/tmp"


def _resolve(pairs: Iterable[str]) -> list[str]:
    return [word for pair in pairs for word in ("--resolve", pair)]
