"""`shardlog watch`: what changes."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import click

from shardlog.cli.options import connect_option
from shardlog.cli.output import echo_change, echo_doubt
from shardlog.crdt.path import Pattern
from shardlog.monitor import connect
from shardlog.monitor.feed import Doubt

if TYPE_CHECKING:
    from collections.abc import Generator

    from shardlog.monitor import Cluster

LOOK_SECONDS = 0.5


@click.command()
@click.argument("pattern", default="**")
@connect_option
def watch(pattern: str, url: str) -> None:
    """Print each change from now on, as one line of JSON.

    What changes at and below the paths that PATTERN matches: * stands for one whole key, ** for any
    number of keys. When changes come faster than they are read, only the latest of each path is
    printed. What may be missing is said on stderr. Ends with Ctrl-C.
    """
    Pattern(pattern)  # before anybody is asked: it is wrong, whoever answers
    with connect(url) as cluster, contextlib.suppress(KeyboardInterrupt), _doubts(cluster):
        for change in cluster.watch(pattern):
            echo_change(change)


@contextlib.contextmanager
def _doubts(cluster: Cluster) -> Generator[None]:
    """Say what is in doubt whenever that changes, though no change comes, or nobody reads them."""
    is_over = threading.Event()

    def look() -> None:
        told = ""
        while True:
            reason = "; ".join(doubt.reason for doubt in cluster.doubts())
            if reason != told:
                told = reason
                echo_doubt("watch", Doubt(time.time_ns(), reason))
            if is_over.wait(LOOK_SECONDS):
                return

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        is_over.set()
        looking.join()
