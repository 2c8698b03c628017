"""The parts of the demo, each by itself: pages, site, scraper, tally, processes, view, summary."""

import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from shardlog.cli.demo import pages
from shardlog.cli.demo.breaks import Broken
from shardlog.cli.demo.client import TIMEOUT_S, Client, FetchError
from shardlog.cli.demo.cluster import short_folder
from shardlog.cli.demo.command import TESTS as LIVE_TESTS
from shardlog.cli.demo.links import ParseError, parse_page
from shardlog.cli.demo.orchestrator import INTENTS_PER_BROKEN, plan
from shardlog.cli.demo.ports import free_pair
from shardlog.cli.demo.process import DemoError, Process
from shardlog.cli.demo.server import serving
from shardlog.cli.demo.site import BROKEN, DOMAINS, FAULTS, Site, SiteHandler
from shardlog.cli.demo.spotter import REFUSED, Spotter, SpotterHandler
from shardlog.cli.demo.summary import Summary, compare, expected
from shardlog.cli.demo.tally import NANOS, Add, Tally, read_tally
from shardlog.cli.demo.view import Sample, render
from shardlog.handler import count
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.loading import load
from shardlog.monitor.live.report import report
from tests.helpers import WAIT_S

PAGE = b"<title>Python: module json</title><a href='json.decoder.html#top'>decoder</a>"

PATIENT_SCRAPER = f"""
from shardlog.cli.demo import client
from shardlog.cli.demo.scraper import main
client.TIMEOUT_S = {WAIT_S}
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers here are threads of the test, and may be slow where they are not meant to be."""
    monkeypatch.setattr("shardlog.cli.demo.client.TIMEOUT_S", WAIT_S)


@pytest.fixture(scope="module")
def all_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The whole site, made for this test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DEMO_TEST_SECRET", "an-unlikely-word")
        yield pages.find_pages(tmp_path_factory.mktemp("spare"), lambda done, modules: None)


@pytest.fixture
def few_pages(tmp_path: Path) -> Path:
    """A folder with enough pages for each domain to have one."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("abc", "bisect", "cmd", "json"):
        (folder / f"{name}.html").write_bytes(PAGE + b"<p>text</p>" * 100)
    return folder


@pytest.fixture
def site(few_pages: Path) -> Iterator[str]:
    """The address of a site of few pages."""
    with serving(partial(SiteHandler, Site(few_pages))) as address:
        yield address


@pytest.fixture
def client(site: str) -> Iterator[Client]:
    """A client that knows the site's domains."""
    with Client(dict.fromkeys((*DOMAINS, BROKEN), site)) as client:
        yield client


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What is logged below `blade` during the test."""
    seen: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler = Keep()
    log = logging.getLogger("blade")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield seen
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for as long as it takes; the test's own timeout ends what never comes."""
    while not true():
        time.sleep(0.02)


def test_site_is_about_two_hundred_real_pages_of_ten_megabytes(all_pages: Path) -> None:
    """Enough pages, of the expected size, and each of them can be parsed."""
    bodies = {name: (all_pages / name).read_bytes() for name in pages.names_of(all_pages)}

    assert 150 <= len(bodies) <= 400
    assert 7_000_000 <= sum(map(len, bodies.values())) <= 15_000_000
    assert "json.html" in parse_page(bodies["json.decoder.html"]).links
    assert [name for name, body in bodies.items() if not parse_page(body).title] == []


def test_pages_do_not_show_the_environment(all_pages: Path) -> None:
    """The documentation of `os` shows `os.environ`: it must not be the user's."""
    assert b"an-unlikely-word" not in (all_pages / "os.html").read_bytes()


def test_pages_are_made_once(
    all_pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run finds what the first one has made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(all_pages.parent.parent))

    assert pages.find_pages(tmp_path, lambda done, modules: pytest.fail("made again")) == all_pages


def test_pages_go_elsewhere_when_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cache folder the pages are made in the folder of the run."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(pages, "module_names", lambda: ["abc", "no_such_module"])
    progress: list[tuple[int, int]] = []

    folder = pages.find_pages(tmp_path, lambda done, modules: progress.append((done, modules)))

    assert folder.parent == tmp_path
    assert pages.names_of(folder) == ["abc.html"]
    assert progress == [(1, 2), (2, 2)]


def test_pages_that_are_interrupted_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops the making of pages finds no half-made folder the next time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pages, "module_names", lambda: ["abc", "bisect"])

    def interrupt(done: int, modules: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pages.find_pages(tmp_path, interrupt)

    assert list((tmp_path / "cache" / "shardlog").iterdir()) == []


def test_site_serves_its_domains_by_name(client: Client) -> None:
    """Each domain has pages of its own, all that its index names without a fault can be fetched."""
    index = json.loads(client.get(f"http://{DOMAINS[0]}/index.json"))

    assert set(index) == {*DOMAINS, BROKEN}
    for domain in DOMAINS:
        good = [path for path in index[domain] if path.count("/") == 1]
        assert good
        assert all(client.get(f"http://{domain}{path}") for path in good)
    assert all(path.split("/")[1] in FAULTS for path in index[BROKEN])
    assert set(index[DOMAINS[0]]).isdisjoint(index[DOMAINS[1]])


def test_missing_page_is_404(client: Client) -> None:
    """A fault path and a page of another domain are both not there."""
    for path in ("/missing/abc.html", "/bisect.html", "/other/abc.html", "/"):
        with pytest.raises(FetchError) as caught:
            client.get(f"http://{DOMAINS[0]}{path}")
        assert caught.value.status == 404


def test_failing_page_comes_with_the_third_try(client: Client) -> None:
    """Two times 500, then the page, and so on."""
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(FetchError) as caught:
                client.get(f"http://{DOMAINS[0]}/failing/abc.html")
            assert caught.value.status == 500
        assert client.get(f"http://{DOMAINS[0]}/failing/abc.html").startswith(PAGE)


def test_cut_and_late_pages_fail_without_a_status(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends, or is silent too long, is a failure; the next request is fine."""
    for fault, timeout_s in (("cut", WAIT_S), ("slow", TIMEOUT_S)):
        monkeypatch.setattr("shardlog.cli.demo.client.TIMEOUT_S", timeout_s)
        with pytest.raises(FetchError) as caught:
            client.get(f"http://{DOMAINS[0]}/{fault}/abc.html")
        assert caught.value.status is None
    monkeypatch.setattr("shardlog.cli.demo.client.TIMEOUT_S", WAIT_S)
    assert client.get(f"http://{DOMAINS[0]}/slow/abc.html").startswith(PAGE)


def test_garbled_page_cannot_be_parsed(client: Client) -> None:
    """Its bytes are not text."""
    with pytest.raises(ParseError):
        parse_page(client.get(f"http://{BROKEN}/garbled/abc.html"))


def test_parser_takes_title_and_links() -> None:
    """Each linked page once, without its anchor; no other sites, files or anchors."""
    page = parse_page(
        b"<title>Python:\n module &lt;x&gt;</title><a name='here'>"
        b"<a href='.'>index</a><a href='os.html#open'>1</a><a href='os.html'>2</a>"
        b"<a href='https://docs.example/x.html'>3</a><a href='file:/usr/os.html'>4</a>"
        b"<a href='#x.html'>5</a><a href='abc.html'>6</a>"
    )

    assert page.title == "Python: module <x>"
    assert page.links == ("os.html", "abc.html")


def test_parser_raises_nothing_but_parse_error() -> None:
    """Whatever the bytes are, they are a page or a `ParseError`."""
    rng = random.Random(1)
    words = [b"<title>", b"</title>", b"<a href=", b"'", b">", b"<!", b"[", b"&#", b"\xff", b"x"]
    for _ in range(2000):
        body = b"".join(rng.choices(words, k=rng.randrange(12)))
        try:
            parse_page(body)
        except ParseError:
            continue


def test_plan_asks_hosts_in_turn_and_for_newer_modules() -> None:
    """Hosts alternate, the module is never older than before, each intent is for one domain."""
    index = {domain: [f"/{number}.html" for number in range(20)] for domain in (*DOMAINS, BROKEN)}
    intents = [
        intent for intent, _ in zip(plan(index, ["a", "b"], seed=1), range(40), strict=False)
    ]

    assert [intent.number for intent in intents] == list(range(1, 41))
    assert {intent.host for intent in intents[::2]} == {"b"}
    assert list(dict.fromkeys(intent.module for intent in intents)) == [
        f"scrape_pages==1.{minor}" for minor in range(4, 9)
    ]
    assert {(intent.host, intent.domain) for intent in intents} == {
        (host, domain) for host in ("a", "b") for domain in (*DOMAINS, BROKEN)
    }
    for intent in intents:
        assert (intent.domain == BROKEN) == (intent.number % INTENTS_PER_BROKEN == 0)
        assert all(url.startswith(f"http://{intent.domain}/") for url in intent.pages)


def test_tally_adds_exactly_what_is_logged(
    records: list[logging.LogRecord], tmp_path: Path
) -> None:
    """Floats are rounded once to 1e-9 and then summed as integers, intents are summed together."""
    tally = Tally("scraper-1")
    log = logging.getLogger("blade.test")
    rng = random.Random(1)
    spent = [rng.random() * 10 for _ in range(1000)]
    for number, seconds in enumerate(spent):
        shard = {"intents": {str(number): {"time": Add(seconds), "n": Add(2**40), "host": "x"}}}
        tally.say(log, logging.INFO, "said %d", number, shard=shard)
    tally.failed(log, "failed")
    tally.close(tmp_path / "counts.json")

    exact = sum(Fraction(round(seconds * NANOS)) for seconds in spent)
    assert read_tally(tmp_path / "counts.json") == {
        "intents/*/time": exact,
        "intents/*/n": 1000 * 2**40 * NANOS,
        "scraper-1/errors/blade.test": NANOS,
    }
    assert len(records) == 1001
    said: Any = records[0]
    assert said.getMessage() == "said 0"
    assert said.intents["0"]["host"] == "x"
    assert said.intents["0"]["time"] == count(spent[0])


def test_closed_tally_neither_logs_nor_counts(
    records: list[logging.LogRecord], tmp_path: Path
) -> None:
    """What comes after the end is on neither side of the comparison."""
    tally = Tally("spotter-1")
    tally.close(tmp_path / "counts.json")

    assert not tally.failed(logging.getLogger("blade.test"), "late")
    assert records == []
    assert tally.nanos == {}


def test_what_is_no_tally_is_refused(tmp_path: Path) -> None:
    """A file of something else is a `ValueError`, an absent one an `OSError`."""
    file = tmp_path / "counts.json"
    with pytest.raises(OSError):
        read_tally(file)
    for text in ("", "[]", "{}", '{"nanos": [1]}', '{"nanos": {"a": null}}'):
        file.write_text(text)
        with pytest.raises(ValueError):
            read_tally(file)


def test_spotter_refuses_some_items_and_counts_both() -> None:
    """One in so many is refused; what is no item is told apart."""
    tally = Tally("spotter-1")
    with (
        serving(partial(SpotterHandler, Spotter(tally, Broken("")))) as address,
        Client({"spotter-1": address}) as client,
    ):
        refused = 0
        for number in range(2 * REFUSED):
            try:
                client.post("http://spotter-1/items", {"intent": "1", "item": str(number)})
            except FetchError as error:
                refused += error.status == 503
        with pytest.raises(FetchError) as caught:
            client.post("http://spotter-1/items", ["no item"])

    assert caught.value.status == 400
    assert refused == 2
    assert tally.nanos == {
        "intents/*/resolution/spotter-1/item_received": (2 * REFUSED - 2) * NANOS,
        "spotter-1/errors/blade.receive": 2 * NANOS,
    }


def environment() -> dict[str, str]:
    """For processes that must not find the settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHARDLOG_")}


def test_scraper_process_counts_what_site_and_spotter_saw(site: str, tmp_path: Path) -> None:
    """A real scraper, asked over HTTP and ended by SIGTERM, leaves the counts of what it did."""
    spotted = Tally("spotter-1")
    with serving(partial(SpotterHandler, Spotter(spotted, Broken("")))) as spotter:
        names = [f"{domain}={site}" for domain in (*DOMAINS, BROKEN)] + [f"spotter-1={spotter}"]
        resolve = [word for name in names for word in ("--resolve", name)]
        tally_file = tmp_path / "scraper-1.counts.json"
        endpoint = f"ipc://{short_folder() or '/tmp'}/nobody-listens-here.sock"
        words = ["--blade", "scraper-1", "--endpoint", endpoint, "--tally", str(tally_file)]
        (tmp_path / "patient_scraper.py").write_text(PATIENT_SCRAPER)
        path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        scraper = Process(
            "scraper-1",
            "patient_scraper",
            [*words, *resolve],
            tmp_path,
            {**environment(), "XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": path},
        )
        scraper.start()
        try:
            wait_until(lambda: scraper.ready() is not None)
            (address,) = scraper.ready() or [""]
            with Client({"scraper-1": address}) as client:
                urls = [f"http://{DOMAINS[0]}/{path}abc.html" for path in ("", "failing/")]
                task = {"intent": "7", "module": "scrape_pages==1.5", "pages": urls}
                client.post("http://scraper-1/intents", task)
                received = "intents/*/resolution/spotter-1/item_received"
                wait_until(lambda: spotted.nanos.get(received) == 4 * NANOS)
            scraper.terminate()
            wait_until(lambda: not scraper.running)
        finally:
            scraper.wait(time.monotonic() + 30)
    counted = read_tally(tally_file)
    time_spent = counted.pop("intents/*/resolution/scraper-1/item_scraped/pages.local/time_spent")

    assert time_spent > 0
    prefix = "intents/*/resolution/scraper-1/item_scraped/pages.local"
    assert counted == {
        f"{prefix}/tries": 4 * NANOS,
        f"{prefix}/item_collected": 4 * NANOS,
        f"{prefix}/item_sent_tries": 4 * NANOS,
        f"{prefix}/item_sent": 4 * NANOS,
        "scraper-1/errors/blade.fetch": 2 * NANOS,
    }


def test_process_has_a_pid_file_and_comes_back_when_killed(few_pages: Path, tmp_path: Path) -> None:
    """The pid file names the process that runs now, and is gone when it is stopped."""
    site = Process(
        "site", "shardlog.cli.demo.site", ["--pages", str(few_pages)], tmp_path, environment()
    )
    site.start()
    try:
        wait_until(lambda: site.ready() is not None)
        first = int((tmp_path / "site.pid").read_text())
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not site.running)
        assert not site.restart_if_ended(now=10.0, after_s=1.0)
        assert not site.restart_if_ended(now=10.9, after_s=1.0)
        assert site.restart_if_ended(now=11.0, after_s=1.0)
        wait_until(lambda: site.ready() is not None)
        assert int((tmp_path / "site.pid").read_text()) != first
        assert site.restarts == 1
        site.terminate()
    finally:
        ended_by_itself = site.wait(time.monotonic() + 30)

    assert ended_by_itself
    assert not (tmp_path / "site.pid").exists()


def test_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    """What it wrote to stderr is in the error."""
    process = Process("site", "shardlog.cli.demo.site", [], tmp_path, environment())
    process.start()
    wait_until(lambda: not process.running)

    with pytest.raises(DemoError, match="required: --pages"):
        process.ready()
    process.wait(time.monotonic())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ties processes")
def test_processes_die_with_a_demo_that_is_killed(few_pages: Path, tmp_path: Path) -> None:
    """Not even SIGKILL of the supervisor leaves a process behind."""
    script = (
        "import os, pathlib, sys, time\n"
        "from shardlog.cli.demo.process import Process\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "words = ['--pages', sys.argv[2]]\n"
        "site = Process('site', 'shardlog.cli.demo.site', words, folder, os.environ)\n"
        "site.start()\n"
        "while site.ready() is None: time.sleep(0.02)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path, few_pages], stdout=subprocess.PIPE
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"up\n"
        pid = int((tmp_path / "site.pid").read_text())
        supervisor.kill()

    wait_until(lambda: has_ended(pid))


def has_ended(pid: int) -> bool:
    """Whether no such process runs; one that nobody has waited for has ended too."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def test_free_pairs_are_free_and_never_given_twice() -> None:
    """Both ports of a pair can be bound, and no two pairs share one."""
    taken: set[int] = set()
    for port in [free_pair(taken) for _ in range(20)]:
        for number in (port, port + 1):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", number))

    assert len(taken) == 40


STATE: dict[Any, Any] = {
    "intents": {
        "~": {"resolution": {"scraper-1": {"item_scraped": {"pages.local": {"tries": 90}}}}},
        "9": {"host": "scraper-1", "module": "scrape_pages==1.4"},
        "10": {
            "host": "scraper-2",
            "module": "scrape_pages==1.5",
            "resolution": {"scraper-2": {"module": "scrape_pages==1.4"}},
        },
        "42": {
            "host": "scraper-1",
            "module": "scrape_pages==1.4",
            "resolution": {
                "scraper-1": {
                    "module": "scrape_pages==1.4",
                    "item_scraped": {
                        "pages.local": {
                            "tries": 10,
                            "time_spent": 2.1,
                            "item_collected": 7,
                            "item_sent_tries": 8,
                            "item_sent": 6,
                        }
                    },
                },
                "spotter-1": {"item_received": 6},
            },
        },
    },
    "scraper-1": {"msg": "[red]sent", "errors": {"blade.fetch": 3}},
    "scraper-2": {"msg": "failed", "errors": {"blade.fetch": 1, "blade.send": 5}},
}


def printed(what: RenderableType) -> list[str]:
    """The lines that a terminal of 100 columns shows."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=100, file=nowhere)
        console.print(what)
    return console.export_text().splitlines()


def test_view_shows_how_far_each_intent_got() -> None:
    """Asked only, started with another module, received: in the order of their numbers."""
    sample = Sample.of(STATE, at=1.0)

    assert [rung.intent for rung in sample.rungs] == ["9", "10", "42"]
    assert [rung.module_started for rung in sample.rungs] == [
        None,
        "scrape_pages==1.4",
        "scrape_pages==1.4",
    ]
    assert [rung.received for rung in sample.rungs] == [0, 0, 6]
    assert sample.domains["pages.local"]["tries"] == 100
    assert sample.errors == {
        "blade.fetch": {"scraper-1": 3, "scraper-2": 1},
        "blade.send": {"scraper-2": 5},
    }
    assert sample.progress() == (
        "3 intents asked, 2 started, 1 received; 6 items received; 9 errors"
    )


TESTS = report(Engine(load([LIVE_TESTS])))


def test_view_fits_a_terminal_and_shows_rates() -> None:
    """100 columns by 35 lines hold it; a rate is the difference between two samples."""
    blades = [
        {"blade": "scraper-1", "host": "node-1", "pid": 7, "status": "live"},
        {"blade": "scraper-2", "host": "node-2", "pid": 8, "status": "lost"},
    ]
    before = Sample(
        at=0.0, domains={"pages.local": {"tries": 50}}, errors={"blade.fetch": {"a": 2}}
    )
    intents = {str(number): STATE["intents"]["42"] for number in range(100)}
    many = {**STATE, "intents": {**STATE["intents"], **intents}}
    lines = printed(render("the title", blades, many, Sample.of(many, at=4.0), before, TESTS))
    few = printed(render("the title", blades, STATE, Sample.of(STATE, at=4.0), before, TESTS))

    assert len(lines) <= 35
    assert max(map(len, lines)) <= 100
    text = "\n".join(few)
    assert "the title" in text
    assert "[red]sent" in text
    assert next(line for line in few if "pages.local" in line).split() == [
        *("pages.local", "100", "12.5", "0.021", "7", "1.8", "6", "75.0%")
    ]
    assert next(line for line in few if "blade.fetch" in line).split()[-3:] == [
        *("blade.fetch", "4", "0.5")
    ]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"intents": 1},
        {"intents": {"1": 2, 3: {}}},
        {"intents": {1: {"host": {}, "resolution": {"a": {"item_scraped": {"d": {"n": "x"}}}}}}},
        {"scraper-1": {"errors": [1], "msg": {"a": 1}}},
        {"scraper-1": {"errors": {"a": True, "b": "c"}}},
    ],
)
def test_view_passes_over_what_it_does_not_expect(state: dict[Any, Any]) -> None:
    """Anybody may write anything into a cluster: the view shows what it can."""
    blades = [{"blade": "scraper-1"}, {}]

    assert printed(render("title", blades, state, Sample.of(state, 1.0), Sample(at=0.0), TESTS))


TALLIES = {
    "scraper-1": {
        "intents/*/resolution/scraper-1/item_scraped/pages.local/tries": 3 * NANOS,
        "intents/*/resolution/scraper-1/item_scraped/docs.local/tries": 2 * NANOS,
        "intents/*/resolution/scraper-1/item_scraped/docs.local/time_spent": 123_456_789,
    },
    "spotter-1": {"intents/*/resolution/spotter-1/item_received": 4 * NANOS},
}
TRIES = "intents/*/resolution/*/item_scraped/*/tries"


def summary(totals: dict[str, int | float], missing: list[str]) -> Summary:
    """A summary of the tallies above beside these totals."""
    return Summary(
        seconds=20.04,
        pages=200,
        connect="tcp://127.0.0.1:7410",
        rows=compare(expected(TALLIES.values()), totals),
        missing=missing,
        restarted={"aggregator": 1},
        tests=TESTS,
    )


def exact_totals() -> dict[str, int | float]:
    """What a cluster that is right says."""
    counted = expected(TALLIES.values())
    return {
        name: nanos / NANOS if nanos % NANOS else nanos // NANOS for name, nanos in counted.items()
    }


def test_summary_compares_each_count_and_their_sums() -> None:
    """Equal in each pattern and in the sums over blades and domains."""
    found = summary(exact_totals(), missing=[])
    document = json.loads(json.dumps(found.as_document()))
    text = "\n".join(printed(found.renderable()))

    assert found.equal
    assert document["equal"] is True
    assert document["restarted"] == {"aggregator": 1}
    assert {"pattern": TRIES, "processes": 5, "cluster": 5, "equal": True} in document["counts"]
    assert "0.123456789" in text
    assert "≠" not in text


def test_summary_shows_what_differs() -> None:
    """One count too many anywhere makes the whole unequal, and its row is shown."""
    wrong = {**exact_totals(), "intents/*/resolution/scraper-1/item_scraped/docs.local/tries": 3}
    found = summary(wrong, missing=[])

    assert not found.equal
    assert [row.pattern for row in found.rows if not row.equal] == [
        "intents/*/resolution/scraper-1/item_scraped/docs.local/tries"
    ]
    lines = printed(found.renderable())
    assert "1 of 7 counts differ." in lines
    assert [line.split() for line in lines if "≠" in line] == [
        ["intents/*/resolution/scraper-1/item_scraped/docs.local/tries", "2", "3", "≠"]
    ]


def test_summary_of_what_cannot_be_compared_is_not_equal() -> None:
    """A blade without counts, or no counts at all, is never taken for success."""
    assert not summary(exact_totals(), missing=["orchestrator"]).equal
    assert not Summary(20.0, 200, "tcp://127.0.0.1:7410", [], [], {}, TESTS).equal
