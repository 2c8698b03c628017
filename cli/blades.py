"""`shardlog blades`: who is there."""

from __future__ import annotations

import sys

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_json, printable
from shardlog.monitor import connect
from shardlog.monitor.views import Blade, clock_remark

STYLES = {"up": "green", "bye": "dim", "lost": "bold red"}
PIPE_WIDTH = 200
"""Where there is no terminal, rows are not to be wrapped at 80 characters."""


@click.command()
@connect_option
@json_option("Print a list of objects instead, on one line.")
def blades(url: str, as_json: bool) -> None:
    """Print which processes there are, and how they are."""
    with connect(url) as cluster:
        rows, hosts = cluster.blades(), cluster.hosts
    if as_json:
        echo_json(rows, one_line=True)
    else:
        _print_table(rows)
        for host in hosts:
            if remark := clock_remark(host):
                click.echo(f"{printable(host.host)}: {remark}", err=True)


def _print_table(rows: list[Blade]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from shardlog.cli.console import PipedConsole

    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("blade", "host", "status", "pid", "started", "heard"):
        table.add_column(name, justify="right" if name == "pid" else "left")
    for row in rows:
        status = row["status"] or ""
        table.add_row(
            Text(printable(row["blade"])),
            Text(printable(row["host"] or "")),
            Text(printable(status), STYLES.get(status, "yellow")),
            str(row["pid"] or ""),
            _to_the_second(row["started"]),
            _to_the_second(row["heard"]),
        )
    PipedConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _to_the_second(time: str | None) -> str:
    return f"{time[:19]}Z" if time else ""
