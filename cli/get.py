"""`shardlog get`: what shows now."""

from __future__ import annotations

import sys

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_doubts, echo_json, printable
from shardlog.crdt.path import ancestors, path_keys, resolve
from shardlog.monitor import Cluster, connect
from shardlog.monitor.document import document
from shardlog.monitor.views import Doubt, unheard


@click.command()
@click.argument("path", default="")
@connect_option
@json_option("Print it on one line.")
def get(path: str, url: str, as_json: bool) -> None:
    r"""Print the state, or what is at and below PATH, as JSON.

    PATH is written a/b/c; \/ and \\ stand for / and \ within a key, \i42 is the int key 42, and 42
    the str key or, where there is none, the int. What shardlog itself keeps shows only when asked
    for: `get shardlog`. Where something may be missing, stderr says why.

    Exit 1 if nothing is there, 3 if nobody answers.
    """
    path_keys(path)  # before anybody is asked: it is wrong, whoever answers
    with connect(url) as cluster:
        doubts = cluster.doubts()  # before the state: what a heartbeat vouches for is in it
        known = resolve(path, lambda text: path_keys(text) in cluster) if path else ""
        try:
            found = cluster[path_keys(known) if path else ()]
        except KeyError:
            remark = _remark(cluster, known, doubts)
            click.echo(f"shardlog get: nothing is at {path}{remark}", err=True)
            sys.exit(1)
    echo_doubts("get", doubts)
    echo_json(document(found), one_line=as_json)


def _remark(cluster: Cluster, path: str, doubts: list[Doubt]) -> str:
    """What may be the reason: who does not tell, or up to where the path is right."""
    untold = unheard(doubts)
    for doubt in untold:
        if not doubt.host:
            return f"; {printable(doubt.reason)}"
    if untold:
        return f"; {len(untold)} of {len(cluster.hosts)} hosts are not live, see `shardlog check`"
    there = next((above for above in ancestors(path) if path_keys(above) in cluster), "")
    return f"; {there} is there" if there else ""
