"""`shardlog blades`: who is there, and how they are."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_doubts, echo_json, printable
from shardlog.monitor import connect
from shardlog.monitor.presence import events, missing, node_remark, remark, states
from shardlog.monitor.views import age, clock_remark, is_all_heard, iso_utc, unheard

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from shardlog.monitor import Cluster
    from shardlog.monitor.presence import Blade, Event, Node

STYLES = {
    "up": "green",
    "live": "green",
    "busy": "cyan",
    "bye": "dim",
    "replaced": "dim",
    "silent": "bold red",
    "lost": "bold red",
    "stale": "bold red",
    "never seen": "bold red",
}
LOOK_SECONDS = 0.5


@click.command()
@click.option("--nodes", "of_nodes", is_flag=True, help="Collectors and aggregator instead.")
@click.option(
    "--expected",
    metavar="NAME",
    multiple=True,
    help="A blade that ought to be there; may be repeated.",
)
@click.option("--watch", is_flag=True, help="Go on, and show what changes, until Ctrl-C.")
@connect_option
@json_option("Print a list of objects instead, on one line; with --watch one object a change.")
def blades(url: str, of_nodes: bool, expected: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """Print which processes there are, and how they are.

    up; busy with a long task that it declared; late, with that task, or without a word for 3 s;
    silent for 10 s, or stopped; bye or lost, with exit code or signal where it is known. How long
    ago it started is its age; heard is how long ago it was. Where that may be otherwise by now, as
    a host is not heard, stderr says so.

    Exit 1 if a blade that is expected is not there, or is silent; else 3 if one was, or may be, on
    a host that is not heard.
    """
    with connect(url) as cluster:
        if watch:
            with contextlib.suppress(KeyboardInterrupt):
                _watch(cluster, expected, of_nodes=of_nodes, as_json=as_json)
            return
        rows, nodes, hosts = cluster.blades(expected), cluster.nodes(), cluster.hosts
        doubts, now_ns = cluster.doubts(), cluster.now_ns
    if as_json:
        echo_json(nodes if of_nodes else rows, one_line=True)
    else:
        _print(_table_of_nodes(nodes) if of_nodes else _table(rows, now_ns))
        for host in hosts:
            if said := clock_remark(host):
                click.echo(f"{printable(host.host)}: {said}", err=True)
    echo_doubts("blades", unheard(doubts))
    # Hosts for which a heartbeat has no room make it a lower bound.
    may_lack = any(doubt.status == "lower bound" and not doubt.host for doubt in doubts)
    named = {host.host for host in hosts} if may_lack else None
    absent, untold = missing(rows, expected, is_all_heard=is_all_heard(doubts), named=named)
    for names, what in ((absent, "not there"), (untold, "may be on a host that is not heard")):
        for name in names:
            click.echo(f"shardlog blades: {printable(name)} is expected and {what}", err=True)
    if absent or untold:
        sys.exit(1 if absent else 3)


def _watch(cluster: Cluster, expected: tuple[str, ...], *, of_nodes: bool, as_json: bool) -> None:
    """Look again and again: a table that stays on a terminal, else a line for each change."""
    if sys.stdout.isatty() and not as_json:
        from rich.live import Live

        with Live(auto_refresh=False, screen=True) as live:
            while True:
                live.update(_screen(cluster, expected, of_nodes=of_nodes), refresh=True)
                time.sleep(LOOK_SECONDS)
    before: dict[str, str] = {}
    while True:
        now = states([] if of_nodes else cluster.blades(expected), cluster.nodes())
        for event in events(before, now):
            _echo(event, as_json=as_json)
        before = now
        time.sleep(LOOK_SECONDS)


def _screen(cluster: Cluster, expected: tuple[str, ...], *, of_nodes: bool) -> Group:
    """The table, below what is not heard: a table that is too long is cut off below."""
    from rich.console import Group
    from rich.text import Text

    doubts = unheard(cluster.doubts())  # what only counts lack is no matter here
    rows = cluster.blades(expected)
    table = _table_of_nodes(cluster.nodes()) if of_nodes else _table(rows, cluster.now_ns)
    return Group(*(Text(printable(doubt.reason), "yellow") for doubt in doubts), table)


def _echo(event: Event, *, as_json: bool) -> None:
    at = iso_utc(time.time_ns())
    if as_json:
        echo_json({"at": at, **event._asdict()}, one_line=True)
    else:
        was = f"{event.old} -> " if event.old else ""
        click.echo(f"{at[:19]}Z  {printable(event.who)}: {printable(was + event.new)}")


def _table(rows: list[Blade], now_ns: int) -> Table:
    """`now_ns`: by the clock of the server, from which those of its hosts may be off."""
    table = _empty("blade", "host", "status", "pid", "version", "age", "heard")
    table.add_column("remark", overflow="fold", min_width=20)
    for row in rows:
        now = datetime.fromisoformat(iso_utc(now_ns + (row["offset_ns"] or 0)))
        table.add_row(
            _text(row["blade"]),
            _text(row["host"]),
            _status(row["status"]),
            _text(row["pid"]),
            _text(row["version"]),
            _text(_age(row["started"], now)),
            _text(_age(row["heard"], now)),
            _text(remark(row)),
        )
    return table


def _table_of_nodes(nodes: list[Node]) -> Table:
    table = _empty("node", "kind", "status")
    table.add_column("clock, s", justify="right")
    table.add_column("remark", overflow="fold")
    for node in nodes:
        offset_ns = node["offset_ns"]
        table.add_row(
            _text(node["node"]),
            _text(node["kind"]),
            _status(node["status"]),
            _text("" if offset_ns is None else f"{offset_ns / 10**9:+.3f}"),
            _text(node_remark(node)),
        )
    return table


def _empty(*names: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        is_number = name in ("pid", "age", "heard")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    return table


def _print(table: Table) -> None:
    from shardlog.cli.console import console_of_rows

    console_of_rows().print(table)


def _status(status: str | None) -> Text:
    from rich.text import Text

    return Text(printable(status or ""), STYLES.get(status or "", "yellow"))


def _text(value: object) -> Text:
    from rich.text import Text

    return Text("" if value is None else printable(str(value)))


def _age(since: str | None, now: datetime) -> str:
    return age((now - datetime.fromisoformat(since)).total_seconds()) if since else ""
