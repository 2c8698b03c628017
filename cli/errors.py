"""`shardlog errors`: what went wrong, where, how often, and since when."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_json, printable
from shardlog.crdt.path import RESERVED
from shardlog.crdt.retention import parse_duration
from shardlog.monitor import connect
from shardlog.monitor import errors as views
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from shardlog.monitor import Cluster
    from shardlog.monitor.errors import Failure, Group, Report

STYLES = {"new": "bold red", "regressed": "bold red", "escalating": "red", "quiet": "dim"}
PIPE_WIDTH = 200
"""Where there is no terminal, rows are not to be wrapped at 80 characters."""
GROUPS_SHOWN = 100
SLOTS = {"first": "first of its process", "last": "one of the last", "chosen": "by chance"}


@click.command()
@click.argument("group", required=False)
@click.option(
    "--since", default="1h", show_default=True, metavar="1h", help="How long ago the window began."
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a table in Markdown instead.")
@connect_option
@json_option("Print an object instead, on one line.")
def errors(group: str | None, since: str, as_markdown: bool, url: str, as_json: bool) -> None:
    """Print the errors of all processes, the same ones as one group; or all of one GROUP.

    GROUP is its id, such as E7c1d, or the beginning of that.
    """
    window_ns = parse_duration(since)  # before anybody is asked: it is wrong, whoever answers
    if window_ns > views.HOURS_NS:
        raise click.BadParameter("errors are counted by time for 144h", param_hint="--since")
    if group is not None and as_markdown:
        raise click.UsageError("--markdown prints all groups, not one")
    now_ns = time.time_ns()
    with connect(url) as cluster:
        said = _tree(cluster, "errors")
        live = _tree(cluster, "live") if group is not None else {}
        hosts = len({row["host"] for row in cluster.blades() if row["host"]})
    report = views.report(said, hosts, now_ns, window_ns)
    if group is not None:
        _show_one(report, group, live, views.since(now_ns, window_ns), as_json=as_json)
    elif as_json:
        groups = [
            {key: value for key, value in each.items() if key != "samples"}
            for each in report["groups"]
        ]
        echo_json({**report, "groups": groups}, one_line=True)
    elif as_markdown:
        click.echo(_printable_lines(views.markdown(report)), nl=False)
    else:
        _print_table(report)


def _tree(cluster: Cluster, what: str) -> dict[Any, Any]:
    with contextlib.suppress(KeyError):
        found = cluster[RESERVED, what]
        if isinstance(found, dict):
            return found  # pyright: ignore[reportUnknownVariableType]
    return {}


def _show_one(
    report: Report, name: str, live: dict[Any, Any], since_ns: int, *, as_json: bool
) -> None:
    found = views.find(report["groups"], name)
    if len(found) != 1:
        which = ", ".join(each["id"] for each in found[:10])
        said = f"{printable(name)} may be {which}" if found else f"no group is {printable(name)}"
        click.echo(f"shardlog errors: {said}", err=True)
        sys.exit(1)
    failures = views.failures(live, found[0], since_ns)
    if as_json:
        echo_json({**found[0], "failures": failures}, one_line=True)
    else:
        for line in _lines(found[0], failures, iso_utc(since_ns)):
            click.echo(_printable_lines(line))


def _lines(group: Group, failures: list[Failure], since: str) -> list[str]:
    lines = [
        f"{group['id']}  {group['status']}  {views.headline(group)}",
        f"why       {group['why']}",
        f"count     {group['count']} since {views.to_the_minute(since)}, {group['total']} in all",
        f"first     {views.to_the_minute(group['first']) or '6 days ago or more'}",
        f"last      {views.to_the_minute(group['last'])}",
        f"versions  {', '.join(group['versions'])}",
    ]
    for host, blades in sorted(group["hosts"].items()):
        counts = ", ".join(f"{blade} {n}" for blade, n in sorted(blades.items()))
        lines.append(f"host      {host}: {counts}")
    for failure in failures:
        test = f"{failure['test']}[{failure['key']}]" if failure["key"] else failure["test"]
        where = "names a host of it" if failure["names_host"] else "at the same time"
        lines.append(f"live      {test} {failure['verdict']} ({where}): {failure['message']}")
    for sample in group["samples"]:
        version = f"version {sample['version']}"
        why = SLOTS.get(sample["slot"], "")
        lines += ["", f"{why}  {sample['at']}  {sample['process']}  {version}"]
        lines.append(sample["text"])
    return lines


def _print_table(report: Report) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from shardlog.cli.console import PipedConsole

    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("", "status", "count", "total", "hosts"):
        table.add_column(name, justify="right" if name in ("count", "total", "hosts") else "left")
    for name in ("versions", "first", "last"):
        table.add_column(name, overflow="fold")
    table.add_column("error", ratio=3)
    table.add_column("culprit", ratio=2, overflow="fold")
    shown = report["groups"][:GROUPS_SHOWN]
    for group in shown:
        table.add_row(
            group["id"],
            Text(group["status"], STYLES.get(group["status"], "yellow")),
            str(group["count"]),
            str(group["total"]),
            f"{len(group['hosts'])}/{report['hosts']}",
            Text(printable(", ".join(group["versions"]))),
            views.to_the_minute(group["first"]),
            views.to_the_minute(group["last"]),
            Text(printable(views.headline(group))),
            Text(printable(group["culprit"])),
        )
    if shown:
        PipedConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
    else:
        click.echo("no errors")
    left = len(report["groups"]) - len(shown)
    if left:
        click.echo(f"and {left} groups more, which --json has")
    for remark in views.remarks(report):
        click.echo(remark)


def _printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
