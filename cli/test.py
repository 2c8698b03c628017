"""`shardlog test`: whether the cluster does what it was told."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click
from rich.live import Live

from shardlog.cli.console import PipedConsole
from shardlog.cli.main import EXIT_CANNOT_TELL, EXIT_USAGE, UNWRITABLE
from shardlog.cli.options import connect_option, json_option
from shardlog.cli.output import echo_doubt, echo_json, printable
from shardlog.cli.verdicts import Seen, Told, final, view
from shardlog.collector.service import stop_requests
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.retention import parse_duration
from shardlog.monitor.feed import Doubt
from shardlog.monitor.follow import follow
from shardlog.monitor.live.document import report_document, transition_document
from shardlog.monitor.live.garbage import freeze_survivors
from shardlog.monitor.live.junit import junit
from shardlog.monitor.live.loading import load
from shardlog.monitor.live.metrics import Metrics
from shardlog.monitor.live.outlet import Outlet
from shardlog.monitor.live.publish import Publisher, left_bad
from shardlog.monitor.live.recording import Recorder, read
from shardlog.monitor.live.report import (
    exit_code,
    is_settled,
    overall,
    report,
    unexplained,
    why_in_doubt,
)
from shardlog.monitor.live.session import Followed, Kept, Recorded, Session, Stuck
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rich.console import Console

    from shardlog.monitor.feed import Event
    from shardlog.monitor.live.declared import Test
    from shardlog.monitor.live.engine import Engine
    from shardlog.monitor.live.instance import Transition
    from shardlog.monitor.live.report import Report
    from shardlog.monitor.live.session import Source

SECOND = 10**9
LATENESS_MS = 2000
LOOK_S = 0.25
LISTED_MAX = 1000
"""So many instances of a test are looked at to show how it stands."""
SHARE = 10
"""Looking takes at most one part in so many of the time."""
HEARD_MAX = 200_000
"""So many new verdicts wait to be shown, if that takes long; of a recording all do."""
WIDTH = 100
"""Of what is printed where there is no terminal to ask for its width."""


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@connect_option
@click.option(
    "--recording",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Judge a recorded run instead, as fast as that goes.",
)
@click.option(
    "--record",
    "record_path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Record what is judged into this folder, to judge it again.",
)
@click.option(
    "--publish",
    "endpoint",
    metavar="ENDPOINT",
    help="Log verdicts to this collector, under shardlog/live, and go on with those found there.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="With --publish, allow tcp addresses that other machines can reach.",
)
@click.option("--until-settled", is_flag=True, help="End once nothing is open any more.")
@click.option("--for", "duration", metavar="DURATION", help="End after so long, as 60s, 5m or 12h.")
@click.option("--only", metavar="NAME", help="One test, or one instance of it: 'answered[42]'.")
@click.option(
    "--lateness-ms",
    type=click.IntRange(min=0),
    default=LATENESS_MS,
    show_default=True,
    help="How long to wait, behind a deadline, for what was said in time.",
)
@click.option(
    "--predicate-timeout-ms",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="A predicate that takes longer is ended, and blind.",
)
@click.option(
    "--junit",
    "junit_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="At the end, write what became of each test there, as JUnit XML.",
)
@click.option("--strict", is_flag=True, help="There, what can't be told is an error, not skipped.")
@click.option("--metrics", metavar="HOST:PORT", help="Meanwhile, serve it to Prometheus there.")
@json_option("Print a line of JSON for each new verdict, and one for the whole at the end.")
def test(
    files: tuple[Path, ...],
    url: str,
    recording: Path | None,
    record_path: Path | None,
    endpoint: str | None,
    insecure: bool,
    until_settled: bool,
    duration: str | None,
    only: str | None,
    lateness_ms: int,
    predicate_timeout_ms: int,
    junit_file: Path | None,
    strict: bool,
    metrics: str | None,
    as_json: bool,
) -> None:
    """Judge the cluster by the live tests in FILE..., files or folders.

    Goes on until Ctrl-C, unless --until-settled or --for say otherwise, and then says what became
    of each test, and why. Exit 0 if all have passed or hold, 1 if one has failed, 2 if a file can't
    be imported, 3 if it can't be told: something is pending, or evidence may be missing.
    """
    if recording is not None and (until_settled or duration or record_path or endpoint):
        raise click.UsageError(
            "a recording is judged to its end, and for itself: --for, --until-settled, --record "
            "and --publish are moot"
        )
    seconds = parse_duration(duration) / SECOND if duration else None
    tests = load(files, only)
    if junit_file is not None:
        _probe(junit_file)  # before anybody waits for what can't be written
    freeze_survivors()
    unwritten = Unwritten()
    with (
        _served(metrics) as served,
        _published(endpoint, insecure=insecure) as published,
        _source(url, recording, record_path, unwritten) as source,
        stop_requests() as stop,
    ):
        show: Show = Json() if as_json else _show(url, source)
        run = Run(tests, source, show, served, published, lateness_ms, predicate_timeout_ms)
        try:
            last = run.to_the_end(stop, until_settled=until_settled, seconds=seconds)
        except Stuck as error:
            if error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            click.echo(f"shardlog test: {printable(str(error))}", err=True)
            sys.exit(EXIT_CANNOT_TELL)
    recorded = recording or record_path
    replay = ["shardlog", "test", *map(str, files), "--recording", str(recorded)]
    replay += [] if lateness_ms == LATENESS_MS else ["--lateness-ms", str(lateness_ms)]
    show.end(last, replay if recorded is not None and not unwritten.is_any else [])
    if junit_file is not None:
        with unwritten.said():
            _write(junit_file, junit(last, strict=strict))
    sys.exit(exit_code(overall(last)) or (EXIT_USAGE if unwritten.is_any else 0))


class Unwritten:
    """Whether something could not be written, as on a full disk: the verdict is told anyway."""

    def __init__(self) -> None:
        self.is_any = False

    @contextlib.contextmanager
    def said(self) -> Generator[None]:
        """Say in one line what can't be written in the block."""
        try:
            yield
        except ConfigError as error:
            self.is_any = True
            click.echo(f"shardlog test: {printable(str(error))}: it is not whole", err=True)


class Show(Protocol):
    """How a run is shown; a context manager for as long as it goes on."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, heard: Sequence[Transition], left_out: int, session: Session) -> None:
        """These have been heard since the last time, and so many more were left out."""
        ...

    def end(self, last: Report, replay: Sequence[str]) -> None:
        """That is what became of all."""
        ...


class Json(contextlib.AbstractContextManager[object]):
    """A line for each verdict, and one for the whole."""

    def __exit__(self, *exception: object) -> None:
        """Nothing is open."""

    def show(self, heard: Sequence[Transition], left_out: int, session: Session) -> None:
        """As `Show.show`."""
        del session
        for transition in heard:
            echo_json(transition_document(transition), one_line=True)
        sys.stdout.flush()
        _say_left_out(left_out)

    def end(self, last: Report, replay: Sequence[str]) -> None:
        """As `Show.end`."""
        del replay
        echo_json(report_document(last), one_line=True)


class Lines(contextlib.AbstractContextManager[object]):
    """A line for each verdict that is bad, or has healed; on a terminal's stderr, how far it is.

    `tells_doubt`: also, on stderr, from when on what shows is in doubt, and that it is no more.
    """

    def __init__(self, *, is_quiet: bool, tells_doubt: bool) -> None:
        self._told = Told()
        self._tells_doubt = tells_doubt
        self._doubt: str | None = None
        self._is_quiet = is_quiet
        self._status = PipedConsole(stderr=True, highlight=False).status("")

    def __enter__(self) -> Lines:
        self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._status.stop()

    def show(self, heard: Sequence[Transition], left_out: int, session: Session) -> None:
        """As `Show.show`."""
        lines = self._told.take(heard)
        if session.is_over:
            lines += self._told.flush()
        else:
            judged_ns, doubt = session.read(_judged)
            lines += self._told.flush(judged_ns)
            self._tell_doubt(judged_ns, doubt)
            self._status.update(f"judged to {iso_utc(judged_ns)}")
        if not self._is_quiet:
            for line in lines:
                click.echo(line)
            sys.stdout.flush()
        _say_left_out(left_out)

    def end(self, last: Report, replay: Sequence[str]) -> None:
        """As `Show.end`."""
        _print(_console(), last, replay)

    def _tell_doubt(self, judged_ns: int, doubt: str) -> None:
        if self._doubt is None:  # all begin in doubt: that is no news
            self._doubt = None if doubt else ""
        elif doubt != self._doubt and self._tells_doubt:
            self._doubt = doubt
            echo_doubt("test", Doubt(judged_ns, doubt))


class View(contextlib.AbstractContextManager[object]):
    """What a terminal shows as long as it runs; what is said at the end takes its place."""

    def __init__(self, url: str, source: Source) -> None:
        self._title = f"shardlog test  {url}"
        self._source = source
        self._console = _console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, heard: Sequence[Transition], left_out: int, session: Session) -> None:
        """As `Show.show`."""
        del heard, left_out  # what stands is shown, whatever was before
        seen = session.read(lambda engine: _seen(engine, self._source.now_ns()))
        size = self._console.size
        self._live.update(view(self._title, seen, size.width, size.height), refresh=True)

    def end(self, last: Report, replay: Sequence[str]) -> None:
        """As `Show.end`."""
        _print(self._console, last, replay)


def _say_left_out(number: int, what: str = "told, as they came faster than they are read") -> None:
    if number:
        click.echo(f"shardlog test: {number:,} verdicts are not {what}", err=True)


def _show(url: str, source: Source) -> Show:
    is_terminal = sys.stdout.isatty()
    is_live = not isinstance(source, Recorded)
    if is_terminal and is_live:
        return View(url, source)
    return Lines(is_quiet=is_terminal, tells_doubt=is_live)


def _seen(engine: Engine, now_ns: int) -> Seen:
    hosts = tuple((host.host, host.status) for host in engine.hosts.known.values())
    return Seen(report(engine, explained_max=0, listed_max=LISTED_MAX), hosts, now_ns)


def _judged(engine: Engine) -> tuple[int, str]:
    return engine.now_ns, why_in_doubt(engine)


def _counted(engine: Engine) -> Report:
    return report(engine, explained_max=0, listed_max=0)


def _console() -> Console:
    return PipedConsole(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def _print(console: Console, last: Report, replay: Sequence[str]) -> None:
    for part in final(last, replay):
        console.print(part, soft_wrap=True)


class Run:
    """A session from its begin to its end, and what is shown of it meanwhile."""

    def __init__(
        self,
        tests: Sequence[Test],
        source: Source,
        show: Show,
        served: Metrics | None,
        published: Published | None,
        lateness_ms: int,
        predicate_timeout_ms: int,
    ) -> None:
        self._source = source
        self._show = show
        # A recording ends, and is told alike, however fast that is read.
        self._heard = Heard(sys.maxsize if isinstance(source, Recorded) else HEARD_MAX)
        self._session = Session(
            tests,
            source,
            lateness_ms=lateness_ms,
            predicate_timeout_ms=predicate_timeout_ms,
            resumes=published is not None,
            hear=self._hear,
        )
        self._programs = Programs(self._session, served, published)

    def to_the_end(self, stop: int, *, until_settled: bool, seconds: float | None) -> Report:
        """Judge, and show that, until `stop` can be read from; what is said at the end.

        Raises:
            Stuck: nothing is judged any more.
            ConfigError: the recording can't be read any further.
        """
        end_s = None if seconds is None else time.monotonic() + seconds
        session, show = self._session, self._show
        with session, show:
            with self._programs.telling():
                wanted = is_settled if until_settled else _never
                wait_s = 0.0
                while not _is_asked(stop) and not session.is_over:
                    left_s = wait_s if end_s is None else min(wait_s, end_s - time.monotonic())
                    if session.wait_for(wanted, left_s) or left_s < wait_s:
                        break
                    began_s = time.monotonic()
                    self._tell()
                    wait_s = max(LOOK_S, SHARE * (time.monotonic() - began_s))
                session.stop()
            self._programs.tell()
            self._tell()
            if not _is_asked(stop):
                session.end()
                self._programs.tell(is_end=True)
                self._tell()
            if isinstance(self._source, Kept):
                self._source.end(session.read(lambda engine: engine.now_ns))
            return session.read(report)

    def _hear(self, _: Engine, transitions: list[Transition]) -> None:
        self._heard.put(transitions)
        self._programs.hear(transitions)

    def _tell(self) -> None:
        heard, left_out = self._heard.take()
        self._show.show(heard, left_out, self._session)


class Heard:
    """New verdicts until somebody takes them; those beyond so many are counted."""

    def __init__(self, heard_max: int) -> None:
        self._heard_max = heard_max
        self._lock = threading.Lock()
        self._transitions: list[Transition] = []
        self._left_out = 0

    def put(self, transitions: Sequence[Transition]) -> None:
        """From any thread; waits for nobody."""
        with self._lock:
            kept = transitions[: self._heard_max - len(self._transitions)]
            self._transitions += kept
            self._left_out += len(transitions) - len(kept)

    def take(self) -> tuple[list[Transition], int]:
        """What has been put since the last time, and how many more."""
        with self._lock:
            taken = self._transitions, self._left_out
            self._transitions, self._left_out = [], 0
            return taken


class Programs:
    """What other programs are told of a run, by a thread: who reads what is shown may be slow."""

    def __init__(
        self, session: Session, served: Metrics | None, published: Published | None
    ) -> None:
        self._session = session
        self._served = served
        self._published = published
        self._heard = Heard(HEARD_MAX)
        self._is_over = threading.Event()

    def hear(self, transitions: list[Transition]) -> None:
        """These are new."""
        if self._published is not None:
            self._heard.put(transitions)

    @contextlib.contextmanager
    def telling(self) -> Generator[None]:
        """Tell what is news, for as long as the block."""
        thread = threading.Thread(target=self._run, name="shardlog-outlets", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def tell(self, *, is_end: bool = False) -> None:
        """Tell what is left; what the end of a run makes of it is not for later ones."""
        if self._served is not None:
            self._served.report = self._session.read(_counted)
        if self._published is not None and not is_end:
            heard, left_out = self._heard.take()
            self._published.publish(heard, self._session)
            _say_left_out(left_out, "published, as there were too many at once")

    def _run(self) -> None:
        wait_s = 0.0
        with contextlib.suppress(Stuck, ConfigError):  # whoever shows it is told, too
            while not self._is_over.wait(wait_s):
                began_s = time.monotonic()
                self.tell()
                wait_s = max(LOOK_S, SHARE * (time.monotonic() - began_s))


def _is_asked(stop: int) -> bool:
    return bool(select.select([stop], [], [], 0)[0])


def _never(_: Engine) -> bool:
    return False


class Published:
    """What is news in the verdicts, logged."""

    def __init__(self, endpoint: str, *, insecure: bool) -> None:
        self._outlet = Outlet(endpoint, insecure=insecure)
        self._publisher: Publisher | None = None

    def publish(self, heard: Sequence[Transition], session: Session) -> None:
        """Log it, from the first time on that anything shows."""
        if self._publisher is None:
            if not session.read(lambda engine: engine.is_begun):
                return
            self._publisher = Publisher(session.read(left_bad))
        self._outlet.say(self._publisher.publish(heard, session.read(unexplained)))

    def close(self) -> None:
        """Send what is left."""
        self._outlet.close()


@contextlib.contextmanager
def _published(endpoint: str | None, *, insecure: bool) -> Generator[Published | None]:
    if endpoint is None:
        yield None
        return
    with contextlib.closing(Published(endpoint, insecure=insecure)) as published:
        yield published


@contextlib.contextmanager
def _served(address: str | None) -> Generator[Metrics | None]:
    if address is None:
        yield None
        return
    with contextlib.closing(Metrics(address)) as metrics:
        yield metrics


def _probe(path: Path) -> None:
    """Whether it can be written; what is there stays."""
    try:
        is_new = not path.exists()
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _write(path: Path, text: str) -> None:
    """Write it whole; what is there stays where there is no room for more."""
    try:
        place = path.resolve()
        if place.exists() and not place.is_file():
            place.write_text(text, encoding="utf-8")  # a pipe, for example
            return
        aside = place.with_name(f".{os.getpid()}.new")
        try:
            aside.write_text(text, encoding="utf-8")
            if place.exists():
                shutil.copymode(place, aside)
            aside.replace(place)
        except OSError as error:
            aside.unlink(missing_ok=True)
            if error.errno in UNWRITABLE:
                raise
            place.write_text(text, encoding="utf-8")  # who may write nothing beside it may do that
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _source(
    url: str, recording: Path | None, record_path: Path | None, unwritten: Unwritten
) -> Generator[Source]:
    if recording is not None:
        yield Recorded(read(recording))
        return
    with follow(url) as inbox:
        if record_path is None:
            yield Followed(inbox)
            return
        with Recorder(record_path, url) as recorder:

            def keep(events: Sequence[Event]) -> None:
                if not unwritten.is_any:
                    with unwritten.said():
                        recorder.write(events)

            yield Kept(Followed(inbox), keep)
