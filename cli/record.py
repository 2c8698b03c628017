"""`shardlog record`: what a monitor is told, on the disk."""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path

import click

from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_doubt, echo_json
from shardlog.collector.service import stop_requests
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.retention import parse_duration
from shardlog.monitor.feed import Doubt
from shardlog.monitor.follow import follow
from shardlog.monitor.live.recording import MIB, Recorder

SECOND = 10**9
STEP_S = 0.2


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@connect_option
@click.option(
    "--for",
    "duration",
    metavar="DURATION",
    default="forever",
    show_default=True,
    help="End by itself after so long, as 60s, 5m or 12h.",
)
@click.option(
    "--segment-mb",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Begin another file when one has so many MiB.",
)
@click.option(
    "--keep-mb",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Remove the oldest file when all have so many MiB, but never the last two.",
)
@json_option("Print the summary as an object, on one line.")
def record(
    path: Path, url: str, duration: str, segment_mb: int, keep_mb: int, as_json: bool
) -> None:
    """Record all that shows, and each change, into the folder PATH, until Ctrl-C.

    A folder that is a recording already is gone on with. `replay` shows it again.
    """
    duration_ns = parse_duration(duration)
    if keep_mb < 2 * segment_mb:
        raise ConfigError(f"--keep-mb {keep_mb}: that must be two files at least, see --segment-mb")
    with (
        Recorder(path, url, segment_bytes=segment_mb * MIB, keep_bytes=keep_mb * MIB) as recorder,
        follow(url) as inbox,
        stop_requests() as stop,
    ):
        end_ns = time.monotonic_ns() + duration_ns
        shown_s = 0.0
        is_over = False
        while not is_over:
            wait_s = min((end_ns - time.monotonic_ns()) / SECOND, STEP_S)
            events = inbox.take(wait_s)
            recorder.write(events)
            for event in events:
                if isinstance(event, Doubt):
                    _clear_progress()
                    echo_doubt("record", event)
            is_over = time.monotonic_ns() >= end_ns or bool(select.select([stop], [], [], 0)[0])
            if sys.stderr.isatty() and time.monotonic() - shown_s >= 1:
                shown_s = time.monotonic()
                click.echo(f"\r{_summary(recorder)}\x1b[K", err=True, nl=False)
    _clear_progress()
    if as_json:
        said = {"events": recorder.events, "rows": recorder.rows, "bytes": recorder.size}
        echo_json({"path": str(path), **said, "seconds": recorder.span_ns / SECOND}, one_line=True)
    else:
        click.echo(f"recorded {_summary(recorder)}: {path}")


def _clear_progress() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)


def _summary(recorder: Recorder) -> str:
    size = f"{recorder.size / MIB:,.1f} MiB, {recorder.span_ns / SECOND:,.1f} s"
    return f"{recorder.events:,} events, {recorder.rows:,} rows, {size}"
