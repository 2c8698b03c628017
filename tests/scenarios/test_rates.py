"""How fast it is counted, as real processes count: right over restarts, and by their own files."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardlog.cli.demo.tally import read_tally
from shardlog.monitor.feed import Heard
from shardlog.monitor.follow import follow
from shardlog.monitor.rates import SECOND, STEPS, WINDOWS, Fold, Look, Rates
from tests.helpers import WAIT_S, eventually
from tests.scenarios.processes import running
from tests.scenarios.test_demo import demo, said

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from shardlog.monitor.follow import Inbox

SHARDLOG = str(Path(sys.executable).parent / "shardlog")

BLADE = """
import sys, time
from shardlog.handler import ShardHandler, counter, distribution
handler = ShardHandler(sys.argv[1], "blade")
tries, spent = counter("work", "tries"), distribution("work", "time")
added = 0
with open(sys.argv[2], "w") as file:
    while True:
        tries.add(); added += 1
        spent.observe(0.2 if added % 10 else 5)
        print(time.time_ns(), added, file=file, flush=True)
        time.sleep(0.005)
"""

LATE_NS = 4 * SECOND
"""What is counted is here after so long, however slow the machine is."""
AWAY_S = 3 * LATE_NS / SECOND
"""So that what comes at once after an outage is much more than what may be late."""
UNNOTICED_NS = LATE_NS + 5 * SECOND // 2
"""So long a host may be silent before it is missed."""


class Watched:
    """What rates said at each heartbeat."""

    def __init__(self, inbox: Inbox, fold: Fold) -> None:
        self.inbox = inbox
        self.rates = Rates(fold)
        self.looks: list[Look] = []

    def until(self, condition: Callable[[Look], bool], what: str) -> None:
        """Take what happens until a look is so."""
        end = time.monotonic() + 2 * WAIT_S
        while not self.take() or not condition(self.looks[-1]):
            assert time.monotonic() < end, what

    def take(self) -> bool:
        """Take what has happened; whether there is another look."""
        number = len(self.looks)
        for event in self.inbox.take(0.2):
            self.rates.take(event)
            if isinstance(event, Heard):
                self.looks.append(self.rates.look())
        return len(self.looks) > number


@contextlib.contextmanager
def blade(endpoint: str, file: Path) -> Generator[None]:
    """A blade that counts, and notes for itself when it did."""
    process = subprocess.Popen([sys.executable, "-c", BLADE, endpoint, str(file)])
    try:
        eventually(lambda: file.exists() and file.stat().st_size > 0, "the blade is at work")
        yield
    finally:
        process.kill()
        process.wait()


def counts(look: Look) -> tuple[int | float | None, ...]:
    return next((rate.counts for rate in look.rates if rate.path == "work/tries"), ())


def test_restarts_are_neither_spikes_nor_zeros(tmp_path: Path) -> None:
    """A collector, then the aggregator is away for 12 s: what is known of any window agrees with
    what the process noted itself.
    """
    file = tmp_path / "noted"
    with (
        running() as cluster,
        blade(cluster.endpoint(), file),
        follow(cluster.url) as inbox,
    ):
        watched = Watched(inbox, Fold("work/tries"))
        collector, aggregator = cluster.collectors["node-1"], cluster.aggregator

        def known(look: Look) -> bool:
            found = counts(look)
            return bool(found) and found[0] not in (None, 0)

        def after(seconds: float) -> Callable[[Look], bool]:
            end_ns = watched.looks[-1].at_ns + round(seconds * SECOND)
            return lambda look: known(look) and look.at_ns > end_ns

        watched.until(known, "rates are known")
        watched.until(after(3), "and go on")
        collector.kill()
        time.sleep(AWAY_S)
        collector.start()
        watched.until(after(4), "known again after the collector's return")
        aggregator.kill()
        time.sleep(AWAY_S)
        aggregator.start()
        watched.until(after(4), "known again after the aggregator's return")
        watched.until(lambda look: counts(look)[1] is not None, "so are 10 s")

    noted = [tuple(map(int, line.split())) for line in file.read_text().splitlines()[:-1]]
    times = [at_ns for at_ns, _ in noted]

    def truth(at_ns: int) -> int:
        return bisect_right(times, at_ns)

    checked = 0
    for look in watched.looks:
        for length_ns, count in zip(WINDOWS.values(), counts(look), strict=False):
            if count is not None:
                step_ns = length_ns // STEPS
                begin_ns = (look.at_ns - length_ns) // step_ns * step_ns
                assert count <= truth(look.at_ns) - truth(begin_ns - LATE_NS), look
                assert count >= truth(look.at_ns - UNNOTICED_NS) - truth(begin_ns), look
                checked += 1
    assert checked > 10
    assert any(None in counts(look)[:1] for look in watched.looks)


def test_rates_of_the_demo_are_those_of_its_processes(tmp_path: Path) -> None:
    """What is counted in each second comes to what the processes wrote, within one window."""
    fold = Fold("intents/*/resolution/*/item_scraped/*/*", ())
    with demo(tmp_path, "--seconds", "12", "--json") as process:
        url = said(process.stderr, r"tcp://\S+")
        with follow(url) as inbox:
            watched = Watched(inbox, fold)
            watched.until(lambda look: bool(look.rates), "the scrapers are at work")
            while process.poll() is None:
                watched.take()
        summary = json.loads(process.communicate(timeout=90)[0])

    assert summary["equal"] is True
    tallies = [read_tally(file) for file in tmp_path.glob("*.counts.json")]
    written: Counter[str] = Counter()
    for path, nanos in (item for tally in tallies for item in tally.items()):
        if path.startswith("intents/") and "/item_scraped/" in path:
            written[path.rpartition("/")[2]] += nanos
    assert set(written) >= {"tries", "time_spent", "item_collected", "item_sent_tries", "item_sent"}
    for name, nanos in written.items():
        check_sum(watched.looks, name, nanos / SECOND)


def check_sum(looks: list[Look], name: str, written: float) -> None:
    """The rates of a counter, over the time that they are told for, come to what was written."""
    found = [
        (look, rate)
        for look in looks
        for rate in look.rates
        if rate.path.endswith(f"/{name}") and rate.counts[0] is not None
    ]
    per_second = [(rate.counts[0] or 0) / look.seconds[0] for look, rate in found]
    spans = [(b.at_ns - a.at_ns) / SECOND for (a, _), (b, _) in pairwise(found)]
    summed = sum(rate * span for rate, span in zip(per_second[1:], spans, strict=True))
    expected = written - found[0][1].total
    assert abs(summed - expected) <= 1.1 * max(per_second) + 0.1 * expected, name


def rates(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SHARDLOG, "rates", *arguments], capture_output=True, text=True, timeout=3 * WAIT_S
    )


def test_command_shows_rates_distributions_and_figures(tmp_path: Path) -> None:
    """As tables, and as JSON; figures as the configuration derives them."""
    config = tmp_path / "shardlog.toml"
    config.write_text('[derived]\n"twice" = "2 * tries / seconds"\n')
    with running() as cluster, blade(cluster.endpoint(), tmp_path / "noted"):
        flags = ("--for", "2s", "--connect", cluster.url, "--config", str(config))
        told = rates("work/**", *flags, "--json")

        def knows_the_last_second() -> bool:  # not if the host was just silent, on a busy machine
            nonlocal told
            if not any(rate["1s"] for rate in json.loads(told.stdout)["rates"]):
                told = rates("work/**", *flags, "--json")
                return False
            return True

        eventually(knows_the_last_second)
        shown = rates(*flags)
        watching = subprocess.Popen(
            [SHARDLOG, "rates", "--watch", "--json", *flags], stdout=subprocess.PIPE, text=True
        )
        assert watching.stdout is not None
        assert any(json.loads(line)["rates"] for line in islice(watching.stdout, 60))
        watching.terminate()
        watching.communicate()

    assert told.returncode == shown.returncode == 0, told.stderr + shown.stderr
    document: dict[str, Any] = json.loads(told.stdout)
    [rate] = document["rates"]
    assert rate["path"] == "work/tries"
    assert rate["1s"] > 0
    assert rate["5m"] is None
    [observed] = document["observed"]
    assert observed["path"] == "work/time"
    assert observed["total"]["p50"] == observed["1s"]["p50"]
    assert abs(observed["total"]["p50"] - 0.2) <= 0.002
    assert abs(observed["total"]["max"] - 5) <= 0.05
    [figure] = document["derived"]
    assert figure["name"] == "twice"
    assert figure["1s"] == 2 * rate["1s"]
    assert "looking for 2 s" in told.stderr
    for text in ("work/tries", "work/time", "twice", "p99"):
        assert text in shown.stdout


def test_watching_says_who_is_not_heard(tmp_path: Path) -> None:
    """Below the tables of each second, from when a collector is killed, until Ctrl-C: exit 0."""
    with running() as cluster, blade(cluster.endpoint(), tmp_path / "noted"):
        command = [SHARDLOG, "rates", "--watch", "--connect", cluster.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            assert any("work/tries" in line for line in islice(watching.stdout, 300))
            cluster.collectors["node-1"].kill()
            said = "node-1 has not been heard for "
            assert any(line.startswith(said) for line in islice(watching.stdout, 300))
            watching.send_signal(signal.SIGINT)
        assert watching.returncode == 0


def test_command_refuses_what_is_none(tmp_path: Path) -> None:
    """Patterns, numbers and expressions: in one line, with exit 2; nobody there: 3."""
    config = tmp_path / "shardlog.toml"
    config.write_text('[derived]\n"bad" = "open(1)"\n')
    wrong = (("a\\q",), ("a/*", "--by", "2"), ("a/*", "--by", "x"), ("--config", str(config)))
    for arguments in wrong:
        refused = rates(*arguments, "--connect", "tcp://127.0.0.1:9")
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.count("\n") == 1
    assert rates("--connect", "tcp://127.0.0.1:9").returncode == 3
