"""`shardlog demo`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import click
from rich.console import Console

from shardlog.cli.console import PipedConsole
from shardlog.cli.demo.blade import Stop
from shardlog.cli.demo.breaks import BREAKS
from shardlog.cli.demo.cluster import BLADES, Cluster, Stopped
from shardlog.cli.demo.pages import find_pages, names_of
from shardlog.cli.demo.process import DemoError
from shardlog.cli.demo.sight import Look, Sight
from shardlog.cli.demo.summary import Row, Summary, compare, expected
from shardlog.cli.demo.tally import read_tally
from shardlog.cli.demo.watch import Watch
from shardlog.crdt.errors import ConfigError
from shardlog.monitor.follow import follow
from shardlog.monitor.live.loading import load
from shardlog.monitor.live.report import is_settled, report
from shardlog.monitor.live.session import Followed, Session

EXIT_BAD = 1
EXIT_CANNOT_TELL = 3
EXIT_STOPPED = 130
"""What a shell makes of Ctrl-C; without --seconds that is the end."""

TESTS = Path(__file__).with_name("livetests.py")

REST_S = 4
"""So long it may take until all that was asked is done."""

SETTLE_WITHIN_S = 15.0

HEALTHY_AT_LEAST_S = 4.0
"""How long everything runs before something breaks; with --seconds a third of them, if more."""

HEALTHY_S = 8.0
"""The same without --seconds."""

WIDTH = 100
"""Of what is printed where there is no terminal to ask for its width."""


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and only that.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep pid files, counts and what the processes print here.",
)
@click.option(
    "--break",
    "way_to_break",
    type=click.Choice(list(BREAKS)),
    help="Break this while it runs, after 4 s or more.",
)
def demo(
    seconds: float | None, as_json: bool, directory: Path | None, way_to_break: str | None
) -> None:
    """Start a whole cluster on this machine and show it.

    An orchestrator, two scrapers and a spotter on two "hosts" scrape some 200 real pages, and log
    what they do. With --seconds, the counts of the cluster are compared with what each process
    counted for itself: exit 1 when one differs, or a live test has failed. Ctrl-C ends all
    processes.

    With --break something stops working meanwhile, and stays so: the spotter takes no items in, a
    scraper does not start what it is asked, the other one ignores which module it is asked for, or
    the network between scrapers and spotter is cut. No process ends of that, and all counts are
    equal: what is broken shows in the state, by what is missing there, so that live tests fail.
    """
    if way_to_break and seconds is not None and seconds <= HEALTHY_AT_LEAST_S:
        raise ConfigError(f"--break: needs more than {HEALTHY_AT_LEAST_S:.0f} --seconds")
    console = PipedConsole(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    stop = Stop()
    try:
        with _folder(directory) as folder:
            summary = run(console, stop, folder, seconds, way_to_break)
    except Stopped:
        sys.exit(0 if seconds is None else EXIT_STOPPED)
    except BrokenPipeError:
        raise
    except (DemoError, OSError) as error:
        click.echo(f"shardlog demo: {error}", err=True)
        sys.exit(EXIT_CANNOT_TELL)
    if as_json:
        click.echo(json.dumps(summary.as_document(), indent=1))
    else:
        console.print(summary.renderable())
    if not summary.is_good:
        sys.exit(EXIT_BAD)


def run(
    console: Console,
    stop: Stop,
    folder: Path,
    seconds: float | None,
    way_to_break: str | None,
) -> Summary:
    """The whole demo: pages, cluster, view, comparison.

    Raises `Stopped` when told to stop, which is the only end without `seconds`.
    """
    pages = make_site(console, stop, folder)
    with Cluster(folder, stop, way_to_break) as cluster:
        cluster.start(pages)
        console.print(
            f"The cluster is up. Look at it from another terminal:\n"
            f"  shardlog get intents/1 --connect {cluster.url}"
        )
        with (
            follow(cluster.url) as inbox,
            Session(load([TESTS]), Followed(inbox)) as session,
            Sight(cluster.url) as sight,
        ):
            started = time.monotonic()
            healthy = HEALTHY_S if seconds is None else max(HEALTHY_AT_LEAST_S, seconds / 3)
            watch = Watch(console, cluster, sight, session)
            watch.run(stop, seconds, healthy if way_to_break else None)
            lasted = time.monotonic() - started
            console.print("Nothing more is asked; what was asked is done ...")
            cluster.rest()
            session.wait_for(is_settled, REST_S)
            session.end()
            console.print("Stopping the blades, comparing ...")
            cluster.stop_blades()
            tallies: dict[str, dict[str, int]] = {}
            for blade in BLADES:
                with contextlib.suppress(OSError, ValueError):
                    tallies[blade] = read_tally(cluster.tally_file(blade))
            rows = settle(stop, cluster, sight, expected(tallies.values()))
        return Summary(
            seconds=lasted,
            pages=len(names_of(pages)),
            connect=cluster.url,
            rows=rows,
            missing=[blade for blade in BLADES if blade not in tallies],
            restarted=cluster.restarts(),
            tests=session.read(report),
        )


def make_site(console: Console, stop: Stop, folder: Path) -> Path:
    """The folder of the site's pages, made now if there is none."""
    begun = time.monotonic()
    made = 0

    def progress(done: int, modules: int) -> None:
        nonlocal made
        made = done
        if stop.asked:
            raise Stopped
        if done == 1 or done % 50 == 0:
            console.print(f"making pages of the standard library: {done} of {modules}")

    pages = find_pages(folder, progress)
    took = f"made in {time.monotonic() - begun:.1f} s" if made else "made before"
    console.print(f"{len(names_of(pages))} pages, {took}, in {pages}")
    return pages


def settle(stop: Stop, cluster: Cluster, sight: Sight, counted: dict[str, int]) -> list[Row]:
    """Compare until all is equal in two looks, or has had time enough to become so."""
    asked = time.monotonic()
    sight.ask(tuple(counted))
    rows = compare(counted, {})
    shown: Look | None = None
    equal_looks = 0
    while equal_looks < 2 and time.monotonic() - asked < SETTLE_WITHIN_S:
        if stop.wait(0.05):
            raise Stopped
        cluster.tick()
        look = sight.latest
        if look is not None and look is not shown and len(look.totals) == len(counted):
            shown = look
            rows = compare(counted, look.totals)
            equal_looks = equal_looks + 1 if all(row.equal for row in rows) else 0
    return rows


@contextlib.contextmanager
def _folder(directory: Path | None) -> Generator[Path]:
    """The folder of the run: the one asked for, which stays, or one that does not."""
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for left in directory.glob("*.counts.json"):  # an earlier run's are not this run's
                left.unlink()
        except OSError as error:
            raise ConfigError(f"--dir {directory}: {error.strerror}") from error
        if not os.access(directory, os.W_OK):
            raise ConfigError(f"--dir {directory}: this user may not write there")
        yield directory.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="shardlog-demo-") as folder:
            yield Path(folder)
