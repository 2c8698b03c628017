"""`shardlog total`: how much was counted, and whether that is all."""

from __future__ import annotations

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_json, printable
from shardlog.crdt.path import Pattern
from shardlog.monitor import connect
from shardlog.monitor.document import total_document


@click.command()
@click.argument("pattern")
@connect_option
@json_option("Print an object with the status instead, on one line.")
def total(pattern: str, url: str, as_json: bool) -> None:
    """Print the sum of all counters that match PATTERN, over all hosts.

    * stands for one whole key, ** for any number of keys; what forgotten records counted is
    included. Where the sum may not be all that was counted, stderr says why: it is settling, or
    stale, or a lower bound. Without such a line it is exact.
    """
    Pattern(pattern)  # before anybody is asked: it is wrong, whoever answers
    with connect(url) as cluster:
        report = cluster.total_report(pattern)
    if as_json:
        echo_json(total_document(report), one_line=True)
        return
    click.echo(report.value)
    if report.status != "exact":
        click.echo(f"shardlog total: {report.status}: {printable(report.reason)}", err=True)
