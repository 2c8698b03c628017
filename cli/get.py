"""`shardlog get`: what shows now."""

from __future__ import annotations

import sys

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_json
from shardlog.crdt.path import path_keys, resolve
from shardlog.monitor import connect
from shardlog.monitor.document import document


@click.command()
@click.argument("path", default="")
@connect_option
@json_option("Print it on one line.")
def get(path: str, url: str, as_json: bool) -> None:
    r"""Print the state, or what is at and below PATH, as JSON.

    PATH is written a/b/c; \/ and \\ stand for / and \ within a key, \i42 is the int key 42, and 42
    the str key or, where there is none, the int. What shardlog itself keeps shows only when asked
    for: `get shardlog`. Exit 1 if nothing is there, 3 if nobody answers.
    """
    with connect(url) as cluster:
        known = resolve(path, lambda text: path_keys(text) in cluster) if path else ""
        try:
            found = cluster[path_keys(known) if path else ()]
        except KeyError:
            click.echo(f"shardlog get: nothing is at {path}", err=True)
            sys.exit(1)
    echo_json(document(found), one_line=as_json)
