"""`shardlog replay`: what was recorded, once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from shardlog.cli.options import json_option
from shardlog.cli.output import echo_change, echo_doubt, echo_json, log_to_stderr
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import path_text
from shardlog.monitor.document import document
from shardlog.monitor.feed import Doubt, Moved, Whole
from shardlog.monitor.live.recording import read, segments
from shardlog.monitor.live.serve import serve
from shardlog.monitor.replica import Replica, Selection
from shardlog.monitor.views import iso_utc


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--at",
    metavar="TIME|+SECONDS",
    help="Print the state at that time instead, as 2025-11-25T09:30:00Z or +12.5.",
)
@click.option(
    "--serve",
    "url",
    metavar="ADDRESS",
    help="Serve it to monitors instead, as it happened, until Ctrl-C.",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    help="With --serve, so many times as fast as it happened.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="With --serve, allow tcp addresses that other machines can reach.",
)
@json_option("With --at, print the state on one line.")
def replay(
    path: Path, at: str | None, url: str | None, speed: float, insecure: bool, as_json: bool
) -> None:
    """Print each change that `record` has recorded in PATH, as `watch` does.

    PATH is the folder, or one of its files: each begins with all that showed then. Where something
    is missing, or was in doubt when it was recorded, stderr says so.
    """
    if at is not None and url is not None:
        raise ConfigError("--at and --serve: use one of the two")
    if not speed > 0:  # nan is not
        raise ConfigError(f"--speed {speed}: it must be above 0")
    if at is not None:
        _print_state(path, at, one_line=as_json)
    elif url is not None:
        log_to_stderr("replay")
        serve(read(path), url, speed=speed, insecure=insecure)
    else:
        _print_changes(path)


def _print_changes(path: Path) -> None:
    replica = Replica()
    selection = Selection("**")
    is_first = True
    for event in read(path):
        match event:
            case Whole(at_ns, rows):
                changes = replica.install(rows, (), at_ns)
                if is_first:
                    changes = []
                is_first = False
            case Moved(_, rows):
                changes = replica.apply(rows)
            case Doubt():
                echo_doubt("replay", event)
                continue
            case _:
                continue
        for change in changes:
            if selection.matches(path_text(change.path)):
                echo_change(change)


def _print_state(path: Path, at: str, *, one_line: bool) -> None:
    start_ns = segments(path)[0].header.at_ns
    wanted_ns = _time_ns(at, start_ns)
    if wanted_ns < start_ns:
        raise ConfigError(f"--at {at}: the recording begins at {iso_utc(start_ns)}")
    replica = Replica()
    doubt: Doubt | None = None
    last_ns = start_ns
    is_beyond = True
    for event in read(path):
        if event.at_ns > wanted_ns:
            is_beyond = False
            break
        last_ns = event.at_ns
        match event:
            case Whole(at_ns, rows):
                replica.install(rows, (), at_ns)
            case Moved(_, rows):
                replica.apply(rows)
            case Doubt():
                doubt = event if event.reason else None
            case _:
                pass
    echo_json(document(replica.view(())), one_line=one_line)
    if doubt is not None:
        echo_doubt("replay", doubt)
    if is_beyond and wanted_ns > last_ns:
        click.echo(f"shardlog replay: the recording ends at {iso_utc(last_ns)}", err=True)


def _time_ns(text: str, start_ns: int) -> int:
    """A time as people write it; `+` counts from the beginning.

    >>> _time_ns("+1.5", 10), _time_ns("1970-01-01T00:00:01Z", 10)
    (1500000010, 1000000000)
    """
    try:
        if text.startswith("+"):
            return start_ns + round(float(text) * 10**9)
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        since = time - datetime(1970, 1, 1, tzinfo=UTC)
        return since // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--at {text}: write a time as 2025-11-25T09:30:00Z, or +SECONDS from the beginning"
        ) from None
