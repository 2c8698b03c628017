"""`shardlog watch`: what changes."""

from __future__ import annotations

import contextlib

import click

from shardlog.cli.options import connect_option
from shardlog.cli.output import echo_change
from shardlog.crdt.path import Pattern
from shardlog.monitor import connect


@click.command()
@click.argument("pattern", default="**")
@connect_option
def watch(pattern: str, url: str) -> None:
    """Print each change from now on, as one line of JSON.

    What changes at and below the paths that PATTERN matches: * stands for one whole key, ** for any
    number of keys. When changes come faster than they are read, only the latest of each path is
    printed. Ends with Ctrl-C.
    """
    Pattern(pattern)  # before anybody is asked: it is wrong, whoever answers
    with connect(url) as cluster, contextlib.suppress(KeyboardInterrupt):
        for change in cluster.watch(pattern):
            echo_change(change)
