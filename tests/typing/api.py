"""The public face, as its users write it: mypy and pyright read this, nothing here runs."""

from __future__ import annotations

import logging
from typing import Any, assert_type

from shardlog.crdt import Pattern, State
from shardlog.handler import ShardHandler, count, erase, log_uncaught
from shardlog.monitor import Change, Cluster, TotalReport, connect


def blade() -> None:
    """A handler made by hand, and what it takes as values."""
    logging.getLogger().addHandler(
        ShardHandler("ipc:///run/shardlog/collector.sock", "scraper-1", loggers=["scraper"])
    )
    logging.getLogger("scraper").info(
        "x", extra={"a": {"n": count(), "s": count(0.21), "gone": erase, 42: None}}
    )
    log_uncaught(logging.getLogger("scraper"))


def monitor() -> None:
    """What a monitor reads."""
    with connect("tcp://127.0.0.1:7410") as cluster:
        assert_type(cluster, Cluster)
        assert_type(cluster["intents", "42"], Any)
        assert_type(cluster.total("intents/*/tries"), int | float)
        report = cluster.total_report("intents/*/tries")
        assert_type(report, TotalReport)
        assert_type(report.value, int | float)
        assert_type(report.since_ns, int | None)
        assert_type("intents" in cluster, bool)
        for change in cluster.watch("intents"):
            assert_type(change, Change)
            assert_type(change.path, tuple[str | int, ...])
            assert_type(change.at_ns, int)


async def asynchronous_monitor() -> None:
    """The same within an event loop."""
    async with connect("tcp://127.0.0.1:7410") as cluster:
        async for change in cluster.watch():
            assert_type(change, Change)


def lattices() -> None:
    """The data types without a cluster."""
    state = State()
    assert_type(state.write("a/b", 1, "process", {}), bool)
    assert_type(state.total("a/*"), int | float)
    assert_type(Pattern("a/*").matches("a/b"), bool)
