"""An aggregator with a store as a process: kill -9 takes nothing from it, of nobody."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from shardlog.handler import ShardHandler, count
from shardlog.monitor import connect
from tests.helpers import eventually
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from collections.abc import Generator

    from shardlog.monitor import Cluster as Monitor

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


@pytest.mark.parametrize("has_store", [True, False])
def test_a_total_never_goes_down_at_a_monitor(*, has_store: bool) -> None:
    """I2: the aggregator is killed and started again while hosts count, with a store, or without
    one where all its hosts return: a monitor that stays connected never shows less than it did."""
    with running("node-1", "node-2") as cluster:
        if has_store:
            restart_with_store(cluster)
        shown: list[float] = [0]

        def look(monitor: Monitor) -> float:
            shown.append(monitor.total(TOTAL))
            assert shown[-1] >= shown[-2]
            return shown[-1]

        with (
            connect(cluster.url) as monitor,
            logger(cluster, "node-1") as one,
            logger(cluster, "node-2") as two,
        ):
            counted = 0
            for _ in range(2):
                for job in range(20):
                    add(one, job)
                    add(two, job, 2)
                    counted += 3
                    look(monitor)
                cluster.aggregator.kill()
                for job in range(20):
                    add(one, job)
                    counted += 1
                    look(monitor)
                cluster.aggregator.start()
                eventually(lambda: look(monitor) == counted, "all counts")  # noqa: B023
            eventually(lambda: monitor.stale_since_ns is None, "the new run is followed")
            assert monitor.note == ""


def test_what_a_restarted_aggregator_lacks_stays_on_a_monitor_at_first() -> None:
    """Without a store the aggregator lost a host that had left: the monitor keeps its counts, as
    stale, and says why."""
    with running("node-1", "node-2") as cluster, connect(cluster.url) as monitor:
        for host in ("node-1", "node-2"):
            with logger(cluster, host) as log:
                add(log, 1)
        eventually(lambda: monitor.total(TOTAL) == 2, "all counts")
        eventually(lambda: len(monitor.hosts) == 2, "both hosts are told of")
        cluster.collectors["node-2"].stop()
        cluster.aggregator.kill()
        cluster.aggregator.start()
        eventually(lambda: "node-2" in monitor.note, "why is said")
        assert monitor.stale_since_ns is not None
        assert monitor.total(TOTAL) == 2
