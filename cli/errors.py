"""`shardlog errors`: what went wrong, where, how often, and since when."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_doubts, echo_json, printable
from shardlog.crdt.path import RESERVED
from shardlog.crdt.retention import parse_duration
from shardlog.monitor import connect
from shardlog.monitor import errors as views
from shardlog.monitor.views import is_all_heard, iso_utc

if TYPE_CHECKING:
    from shardlog.monitor import Cluster
    from shardlog.monitor.errors import Failure, Group, Report

STYLES = {"new": "bold red", "regressed": "bold red", "escalating": "red", "quiet": "dim"}
HEAD = ("", "status", "count", "total", "hosts", "first", "last")
NUMBERS = ("count", "total", "hosts")
INDENT = " " * 4
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

    GROUP is its id, such as E7c1d, or the beginning of that. Where there may be more errors, stderr
    says why. Exit 1 if there is no such GROUP; 3 if none is known, and there may be some.
    """
    window_ns = parse_duration(since)  # before anybody is asked: it is wrong, whoever answers
    if window_ns > views.HOURS_NS:
        raise click.BadParameter("errors are counted by time for 144h", param_hint="--since")
    if group is not None and as_markdown:
        raise click.UsageError("--markdown prints all groups, not one")
    with connect(url) as cluster:
        doubts = cluster.doubts()  # before the errors: what a heartbeat vouches for is in them
        said = _tree(cluster, "errors")
        live = _tree(cluster, "live") if group is not None else {}
        hosts = len({row["host"] for row in cluster.blades() if row["host"]})
        now_ns = cluster.now_ns
    report = views.report(said, hosts, now_ns, window_ns)
    echo_doubts("errors", doubts)
    if group is not None:
        _show_one(report, group, live, views.since(now_ns, window_ns), as_json=as_json)
        return
    is_untold = not report["groups"] and not is_all_heard(doubts)
    if as_json:
        groups = [
            {key: value for key, value in each.items() if key != "samples"}
            for each in report["groups"]
        ]
        reasons = [doubt.reason for doubt in doubts]
        echo_json({**report, "groups": groups, "doubts": reasons}, one_line=True)
    elif as_markdown:
        click.echo(_printable_lines(views.markdown(report)), nl=False)
    else:
        _print_groups(report, "no errors are known" if is_untold else "no errors")
    if is_untold:
        sys.exit(3)


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
        which = ", ".join(printable(each["id"]) for each in found[:10])
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


def _print_groups(report: Report, none: str) -> None:
    """Of each group a row, and below that what happened, and where; `none` where there is none."""
    shown = report["groups"][:GROUPS_SHOWN]
    if shown:
        _print_rows(shown, report["hosts"])
    else:
        click.echo(none)
    left = len(report["groups"]) - len(shown)
    if left:
        click.echo(f"and {left} groups more, which --json has")
    for remark in views.remarks(report):
        click.echo(remark)


def _print_rows(groups: list[Group], hosts: int) -> None:
    from rich.text import Text

    from shardlog.cli.console import console_of_rows

    rows = [HEAD, *(_row(group, hosts) for group in groups)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *lines = (
        "  ".join(
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for name, cell, width in zip(HEAD, row, widths, strict=True)
        )
        for row in rows
    )
    console = console_of_rows()
    console.print(Text(head), no_wrap=True)
    for line, group in zip(lines, groups, strict=True):
        row = Text(line)
        row.stylize(STYLES.get(group["status"], "yellow"), 0, sum(widths[:2]) + 2)
        what = Text(INDENT + printable(views.headline(group)), "bold")
        where = f"in {group['culprit']}" if group["culprit"] else ""
        version = f"version {', '.join(group['versions'])}" if group["versions"] else ""
        said = ", ".join(filter(None, (where, version)))
        for text in (row, what, Text(INDENT + printable(said), "dim")):
            console.print(text, no_wrap=True, overflow="ellipsis")


def _row(group: Group, hosts: int) -> tuple[str, ...]:
    return (
        printable(group["id"]),
        group["status"],
        f"{group['count']:,}",
        f"{group['total']:,}",
        f"{len(group['hosts'])}/{hosts}",
        views.to_the_minute(group["first"]),
        views.to_the_minute(group["last"]),
    )


def _printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
