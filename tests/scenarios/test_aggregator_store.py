"""An aggregator with a store as a process: kill -9 takes nothing from it, of nobody."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardlog.handler import ShardHandler, count
from shardlog.monitor import connect
from tests.helpers import eventually
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from collections.abc import Generator

TOTAL = "jobs/*/n"


@contextmanager
def logger(cluster: Cluster, host: str) -> Generator[logging.Logger]:
    """What logs on a host, as the blade of that name."""
    handler = ShardHandler(cluster.endpoint(host), blade=host)
    log = logging.getLogger(f"store.{host}")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()


def add(log: logging.Logger, job: int, n: int = 1) -> None:
    """Count in a job."""
    log.info("counted", extra={"jobs": {f"{job}": {"n": count(n)}}})


def restart_with_store(cluster: Cluster) -> None:
    """Start the aggregator anew, with a store from now on."""
    cluster.aggregator.stop()
    cluster.aggregator.arguments += ["--store", str(cluster.folder / "remembered")]
    cluster.aggregator.start()


def test_a_killed_aggregator_serves_departed_hosts_at_once() -> None:
    """A host leaves, the aggregator is killed: started again it has the host's counts before it
    hears anybody, and says since when the host is stale."""
    with running("node-1", "node-2") as cluster:
        restart_with_store(cluster)
        with connect(cluster.url) as monitor:
            for host in ("node-1", "node-2"):
                with logger(cluster, host) as log:
                    for job in range(10):
                        add(log, job)
            eventually(lambda: monitor.total(TOTAL) == 20, "all counts")
        for node in cluster.collectors.values():
            node.stop()
        cluster.aggregator.kill()
        cluster.aggregator.start()
        with connect(cluster.url) as monitor:
            assert monitor.total(TOTAL) == 20
            assert [host.status for host in monitor.hosts] == ["stale", "stale"]
            assert all(host.since_ns for host in monitor.hosts)
