"""`shardlog rates`: how fast it is counted, and what was observed."""

from __future__ import annotations

import contextlib
import select
import time
from typing import TYPE_CHECKING

import click

from shardlog.cli.options import DERIVED, connect_option, json_option
from shardlog.cli.output import echo_json, printable
from shardlog.collector.service import stop_requests
from shardlog.crdt.errors import ConfigError, Unreachable
from shardlog.crdt.retention import parse_duration
from shardlog.monitor.derived import figures
from shardlog.monitor.document import rates_document
from shardlog.monitor.follow import follow
from shardlog.monitor.rates import SECOND, WINDOWS, Fold, Rates

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rich.console import RenderableType
    from rich.table import Table

    from shardlog.monitor.derived import Expression, Figure
    from shardlog.monitor.follow import Inbox
    from shardlog.monitor.rates import Look

STEP_S = 0.2
WATCH_S = 1.0
LEAST_NS = SECOND * 11 // 10
"""What the smallest window needs."""
PATIENCE_S = 15.0
"""So much longer than asked for it is waited until anything is known."""
UNKNOWN = "–"


@click.command()
@click.argument("pattern", default="**")
@connect_option
@click.option(
    "--by",
    metavar="NUMBERS",
    help="Sum up over all * of PATTERN but these, counted from 1: 3, or 2,3, or 0 for none.",
)
@click.option(
    "--for",
    "duration",
    metavar="DURATION",
    default="10s",
    show_default=True,
    help="Look for so long, as 10s or 5m: a longer window is not known.",
)
@click.option("--watch", "is_live", is_flag=True, help="Show it anew each second, until Ctrl-C.")
@json_option("Print an object instead, on one line; with --watch, each second one.")
@click.pass_context
def rates(
    context: click.Context,
    pattern: str,
    url: str,
    by: str | None,
    duration: str,
    is_live: bool,
    as_json: bool,
) -> None:
    """Print how much is counted per second, at the paths that match PATTERN.

    Over the last 1 s, 10 s, 1 min and 5 min, which takes some time: two looks are needed, and a –
    stands for what is not known (yet). A line is a counter that moves; with --by it is a sum, also
    over what forgotten records counted. Below that: what was observed (`observe`), and figures
    that follow from counters side by side, see [derived]. Exit 3 if nothing is known.
    """
    fold = Fold(pattern, _numbers(by))
    duration_ns = max(parse_duration(duration), LEAST_NS)
    derived: dict[str, Expression] = context.meta.get(DERIVED, {})
    looking = Rates(fold)
    shows_all = by is not None
    with follow(url) as inbox, stop_requests() as stop:
        if not is_live:
            click.echo(f"shardlog rates: looking for {duration_ns / SECOND:g} s ...", err=True)
            for _ in _looks(looking, inbox, stop, STEP_S, duration_ns):
                pass
            _print(looking.look(), derived, shows_all=shows_all, as_json=as_json)
            return
        with _screen() as show:
            for look in _looks(looking, inbox, stop, WATCH_S, None):
                found = figures(look, derived)
                if as_json:
                    echo_json(rates_document(look, found, shows_all=shows_all), one_line=True)
                else:
                    show(_with_doubts(look, _tables(look, found, shows_all=shows_all)))


def _looks(
    looking: Rates, inbox: Inbox, stop: int, every_s: float, duration_ns: int | None
) -> Iterator[Look]:
    begin_s = shown_s = time.monotonic()
    while not select.select([stop], [], [], 0)[0]:
        for event in inbox.take(min(every_s, STEP_S)):
            looking.take(event)
        now_s = time.monotonic()
        if now_s - shown_s >= every_s:
            shown_s = now_s
            yield looking.look()
        if duration_ns is not None and (
            looking.seconds * SECOND >= duration_ns
            or now_s - begin_s >= duration_ns / SECOND + PATIENCE_S
        ):
            return


def _numbers(by: str | None) -> list[int] | None:
    if by is None:
        return None
    try:
        numbers = [int(number) for number in by.split(",")]
    except ValueError as error:
        raise ConfigError(f"--by {by}: that is numbers, as 2 or 2,3") from error
    return [] if numbers == [0] else numbers


def _print(look: Look, derived: dict[str, Expression], *, shows_all: bool, as_json: bool) -> None:
    from shardlog.cli.console import console_of_rows

    found = figures(look, derived)
    if as_json:
        echo_json(rates_document(look, found, shows_all=shows_all), one_line=True)
    else:
        console_of_rows().print(_tables(look, found, shows_all=shows_all))
    for doubt in look.doubts:
        click.echo(f"shardlog rates: {printable(doubt)}", err=True)
    if not look.is_known:
        raise Unreachable("nothing is known of any window")


@contextlib.contextmanager
def _screen() -> Generator[Callable[[RenderableType], None]]:
    """Shows one thing after the other, on a terminal each in the place of the one before."""
    from rich.live import Live

    from shardlog.cli.console import console_of_rows

    console = console_of_rows()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda shown: live.update(shown, refresh=True)
    else:
        yield console.print


def _with_doubts(look: Look, tables: RenderableType) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(tables, *(Text(printable(doubt), "yellow") for doubt in look.doubts))


def _tables(look: Look, found: list[Figure], *, shows_all: bool) -> RenderableType:
    """What is told, as tables; what has not moved only if all is asked for."""
    from rich.console import Group
    from rich.text import Text

    rates = [rate for rate in look.rates if rate.moves or shows_all]
    observed = [held for held in look.distributions if held.moves or shows_all]
    shown: list[RenderableType] = []
    if rates:
        table = _table("per second", *WINDOWS, "total")
        for rate in rates:
            spans = zip(rate.counts, look.seconds, strict=True)
            each = [None if count is None else count / seconds for count, seconds in spans]
            _row(table, rate.path, *map(_text, each), f"{rate.total:,}")
        shown.append(table)
    if observed:
        table = _table("observed", "in", "p50", "p90", "p99", "max", "count")
        for held in observed:
            for name, said in (*zip(WINDOWS, held.windows, strict=True), ("all", held.total)):
                if said is not None and said.count:
                    numbers = (said.p50, said.p90, said.p99, said.max)
                    _row(table, held.path, name, *map(_text, numbers), f"{said.count:,}")
        shown.append(table)
    derived = [figure for figure in found if figure.moves or shows_all]
    if derived:
        table = _table("derived", "", *WINDOWS, "in all")
        for figure in derived:
            _row(table, figure.path, figure.name, *map(_text, (*figure.windows, figure.total)))
        shown.append(table)
    still = len(look.rates) + len(look.distributions) - len(rates) - len(observed)
    if still or not shown:
        shown.append(Text(f"{still:,} that stand still"))
    return Group(*shown)


def _table(first: str, *columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    return table


def _row(table: Table, path: str, *cells: str) -> None:
    from rich.text import Text

    table.add_row(Text(printable(path)), *map(Text, cells))


def _text(number: float | None) -> str:
    if number is None:
        return UNKNOWN
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
