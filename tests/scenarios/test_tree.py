"""Aggregators under an aggregator, as processes: whoever is killed, the top has every count."""

from __future__ import annotations

import logging
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shardlog.handler import ShardHandler, count
from shardlog.monitor import connect
from tests.helpers import eventually, free_pair
from tests.scenarios.processes import Node

if TYPE_CHECKING:
    from collections.abc import Generator

TOTAL = "jobs/*/n"


class Tree:
    """Two regional aggregators with a host each, a third host that speaks to both, and the top."""

    def __init__(self, folder: Path) -> None:
        self.top_url = free_pair()
        self.nodes: dict[str, Node] = {}
        self._folder = folder
        self._listen = {name: free_pair() for name in ("top", "east", "west")}

    def start(self) -> None:
        """Start all, the top first."""
        self._start("top", "aggregate", "--listen", self._listen["top"], "--serve", self.top_url)
        for region in ("east", "west"):
            flags = ["--listen", self._listen[region], "--serve", free_pair()]
            self._start(region, "aggregate", *flags, "--to", self._listen["top"])
        for host, regions in {"a": ["east"], "b": ["west"], "c": ["east", "west"]}.items():
            to = [flag for region in regions for flag in ("--to", self._listen[region])]
            store = str(self._folder / f"{host}.store")
            flags = ["--listen", self.endpoint(host), "--host", host, "--store", store, *to]
            self._start(host, "collect", *flags)

    def endpoint(self, host: str) -> str:
        """Where blades of the host send."""
        return f"ipc://{self._folder}/{host}.sock"

    def _start(self, name: str, *arguments: str) -> None:
        (self._folder / name).mkdir()
        self.nodes[name] = Node([*arguments], self._folder / name)


@contextmanager
def running() -> Generator[Tree]:
    with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
        tree = Tree(Path(folder))
        try:
            tree.start()
            yield tree
        finally:
            for node in tree.nodes.values():
                if node.process.poll() is None:
                    node.stop()


def test_the_top_has_every_count_whoever_is_killed() -> None:
    """A region, a collector and the top are killed and started again while hosts count: the top
    ends with exactly what was counted, and every host is live there."""
    with running() as tree:
        handlers = {host: ShardHandler(tree.endpoint(host), blade=host) for host in "abc"}
        loggers = {host: logging.getLogger(f"tree.{host}") for host in handlers}
        for host, handler in handlers.items():
            loggers[host].setLevel(logging.INFO)
            loggers[host].addHandler(handler)
        counted = 0
        with connect(tree.top_url) as top:
            for turn, victim in enumerate(["east", "c", "top", "west"]):
                for host, log in loggers.items():
                    for i in range(50):
                        log.info("counted", extra={"jobs": {f"{host}-{turn}-{i}": {"n": count(1)}}})
                        counted += 1
                tree.nodes[victim].kill()
                for log in loggers.values():
                    log.info("counted", extra={"jobs": {"all": {"n": count(2)}}})
                    counted += 2
                tree.nodes[victim].start()
            eventually(lambda: top.total(TOTAL) == counted, f"{counted} at the top")
            eventually(
                lambda: (
                    sorted((h.host, h.status) for h in top.hosts)
                    == [(host, "live") for host in "abc"]
                ),
                "all live",
            )
        for host, handler in handlers.items():
            loggers[host].removeHandler(handler)
            handler.close()


def test_a_twin_has_from_the_other_what_a_departed_host_counted() -> None:
    """Two aggregators name each other with --peer. A host that speaks to both leaves, one of them
    is killed: started again it has the host's counts from its twin."""
    with tempfile.TemporaryDirectory(prefix="shardlog-") as name:
        folder = Path(name)
        listen, urls = [free_pair(), free_pair()], [free_pair(), free_pair()]
        nodes: list[Node] = []
        try:
            for n in range(2):
                (folder / f"{n}").mkdir()
                flags = ["--listen", listen[n], "--serve", urls[n], "--peer", listen[1 - n]]
                nodes.append(Node(["aggregate", *flags], folder / f"{n}"))
            endpoint = f"ipc://{folder}/host.sock"
            (folder / "host").mkdir()
            flags = ["--listen", endpoint, "--host", "host", "--store", f"{folder}/store"]
            to = ["--to", listen[0], "--to", listen[1]]
            nodes.append(Node(["collect", *flags, *to], folder / "host"))
            handler = ShardHandler(endpoint, blade="host")
            log = logging.getLogger("tree.twin")
            log.setLevel(logging.INFO)
            log.addHandler(handler)
            for job in range(10):
                log.info("counted", extra={"jobs": {f"{job}": {"n": count(1)}}})
            log.removeHandler(handler)
            handler.close()
            with connect(urls[1]) as second:
                eventually(lambda: second.total(TOTAL) == 10, "all counts at the second")
            nodes[2].stop()
            nodes[0].kill()
            nodes[0].start()
            with connect(urls[0]) as first:
                eventually(lambda: first.total(TOTAL) == 10, "all counts at the first")
                eventually(lambda: [h.status for h in first.hosts] == ["stale"], "and no life")
        finally:
            for node in nodes:
                if node.process.poll() is None:
                    node.stop()
