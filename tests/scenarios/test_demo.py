"""The demo as its user runs it: counts are equal at the end, whatever dies or breaks meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from shardlog.cli.demo.breaks import BREAKS
from shardlog.cli.demo.cluster import BLADES
from shardlog.cli.demo.site import BROKEN
from shardlog.monitor import connect
from tests.helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import IO

    from shardlog.monitor import Cluster

SHARDLOG = str(Path(sys.executable).parent / "shardlog")
SECONDS = 10

COUNTS = ("tries", "time_spent", "item_collected", "item_sent_tries", "item_sent")

Record: TypeAlias = "dict[str, Any]"
"""What the state says of one intent."""


@contextlib.contextmanager
def demo(folder: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A demo that runs; it is killed if the test fails."""
    command = [SHARDLOG, "demo", "--dir", str(folder), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def pid_of(folder: Path, name: str) -> int:
    """The pid of one of its processes, once it has started."""
    file = folder / f"{name}.pid"
    eventually(lambda: file.exists() and file.read_text().strip().isdigit(), f"{file}")
    return int(file.read_text())


def started_asking(folder: Path) -> None:
    """Wait until the blades are at work."""
    pid_of(folder, "orchestrator")
    time.sleep(2)


def said(stream: IO[str] | None, pattern: str) -> str:
    """Read until something in this stream matches; returns what does."""
    assert stream is not None
    lines = iter(stream.readline, "")
    return next(found[0] for line in lines if (found := re.search(pattern, line)))


def check_equal(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, f"{out}\n{err}"
    summary: dict[str, Any] = json.loads(out)
    return summary


def kill(folder: Path, name: str) -> None:
    os.kill(pid_of(folder, name), signal.SIGKILL)


def pause(folder: Path, name: str) -> None:
    pid = pid_of(folder, name)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [kill, pause])
@pytest.mark.parametrize("name", ["collector-1", "aggregator"])
def test_the_counts_are_equal_whatever_happens_to_a_node(
    tmp_path: Path, fault: Any, name: str
) -> None:
    """kill -9 or SIGSTOP for 5 s in the middle: exit 0, and the summary's counts are equal."""
    with demo(tmp_path, "--seconds", str(SECONDS), "--json") as process:
        started_asking(tmp_path)
        fault(tmp_path, name)
        summary = check_equal(process)
    assert summary["equal"]
    assert len(summary["counts"]) > 10


def test_the_books_balance_whatever_was_killed(tmp_path: Path) -> None:
    """kill -9 of a collector, of the aggregator and of a blade: nothing is lost on the way."""
    with demo(tmp_path, "--seconds", "600") as process:
        started_asking(tmp_path)
        for name in ("collector-1", "aggregator", "spotter-1"):
            kill(tmp_path, name)
        url = said(process.stdout, r"tcp://[0-9.:]+")
        command = [SHARDLOG, "check", "--ledger", "--connect", url]
        done = subprocess.run(command, capture_output=True, text=True)
        while done.returncode == 3:  # what was killed is not back yet
            done = subprocess.run(command, capture_output=True, text=True)

    assert (done.returncode, done.stdout[:5]) == (0, "fine "), done.stdout
    assert not done.stdout.startswith("fine         ledger: balanced: 0 counted")


def test_the_counts_are_equal_when_all_nodes_die_just_before_the_end(tmp_path: Path) -> None:
    """The blades end while nobody hears them: what they had to say waits for the nodes."""
    with demo(tmp_path, "--seconds", "5", "--json") as process:
        started_asking(tmp_path)
        time.sleep(2.2)
        for name in ("collector-1", "collector-2", "aggregator"):
            kill(tmp_path, name)
        assert check_equal(process)["equal"]


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--seconds", "60"), 130)])
def test_ctrl_c_ends_all_processes_and_leaves_nothing(
    tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    """SIGINT in the middle: no process of it is alive, its runtime folder is gone; exit 130 where
    it would have ended, and compared, by itself.
    """
    with demo(tmp_path, *arguments) as process:
        started_asking(tmp_path)
        pids = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
        assert len(pids) == 8
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == code
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.glob("*.pid")) == []


def test_kill_9_of_the_demo_itself_leaves_no_process(tmp_path: Path) -> None:
    """Even when the demo cannot clean up, its processes end with it."""
    with demo(tmp_path) as process:
        started_asking(tmp_path)
        pids = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
        process.kill()
        process.communicate()
    eventually(lambda: not any(_is_alive(pid) for pid in pids), "processes are left")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def answer(intent: Record) -> Any:
    """What the scraper that was asked says of the intent."""
    return intent.get("resolution", {}).get(intent["host"], {})


def scraped(intent: Record) -> Any:
    """The counts of the scraper that was asked, for the domain that it was asked for."""
    return answer(intent).get("item_scraped", {}).get(intent["domain"], {})


def received(intent: Record) -> Any:
    """How many items the spotter has taken in."""
    return intent.get("resolution", {}).get("spotter-1", {}).get("item_received", 0)


def asked(cluster: Cluster) -> dict[int, Record]:
    """The intents of which something may be expected, the oldest first."""
    intents = cluster[()].get("intents", {})
    return {
        number: intents[str(number)]
        for number in sorted(int(key) for key in intents if key != "~")
        if intents[str(number)].get("domain", BROKEN) != BROKEN
    }


def test_a_healthy_demo_does_what_it_asks_for(tmp_path: Path) -> None:
    """Each intent is started with the module it names, sent and received; modules change."""

    def done(intent: Record) -> bool:
        return (
            answer(intent).get("module") == intent["module"]
            and all(scraped(intent).get(name, 0) > 0 for name in COUNTS)
            and received(intent) >= scraped(intent)["item_sent"]
        )

    def finished() -> set[tuple[str, str]]:
        return {(i["host"], i["module"]) for i in asked(cluster).values() if done(i)}

    with (
        demo(tmp_path, "--seconds", str(SECONDS), "--json") as process,
        connect(said(process.stderr, r"tcp://[0-9.:]+")) as cluster,
    ):
        eventually(lambda: len(finished()) >= 4, "both scrapers are done with two modules")
        eventually(lambda: all(map(done, list(asked(cluster).values())[:8])), "the oldest are done")
        assert check_equal(process)["equal"]


NOT_RECEIVED = "stuck before rung 2/2 'received', 5 s after 'started'"
SENTENCES = {
    "spotter": {
        "answered": NOT_RECEIVED,
        "counts_agree": "broken for 3 s, ... some sent, 0 received",
    },
    "scraper": {"answered": "stuck before rung 1/2 'started', 5 s after it was asked for"},
    "module": {"right_module": "not within 3 s"},
    "network": {
        "answered": NOT_RECEIVED,
        "sent": "not within 5 s",
        "no_new_error_group": "broken: new",
    },
}
"""Which live tests fail when this is broken, and what they say; all others pass."""


@contextlib.contextmanager
def broken(folder: Path, name: str) -> Generator[Callable[[], list[Record]]]:
    """A demo in which that has broken; gives what shows of the intents asked for after that.

    At the end everybody must still be there, and the counts are equal.
    """
    with (
        demo(folder, "--seconds", "11", "--json", "--break", name) as process,
        connect(said(process.stderr, r"tcp://[0-9.:]+")) as cluster,
    ):
        said(process.stderr, re.escape(BREAKS[name].said))
        first = max(asked(cluster)) + 4  # a few before that may be broken or not
        yield lambda: [intent for number, intent in asked(cluster).items() if number >= first]
        up = dict.fromkeys(BLADES, "up")
        eventually(lambda: {row["blade"]: row["status"] for row in cluster.blades()} == up)
        summary = check_equal(process, code=1)
        assert summary["equal"]
        tests = summary["tests"]["tests"]
        assert {t["name"]: said_by(t) for t in tests if t["verdict"] == "fail"} == SENTENCES[name]
        assert {t["verdict"] for t in tests if t["name"] not in SENTENCES[name]} == {"pass"}


def said_by(test: dict[str, Any]) -> str:
    """What the worst instance of a live test says, numbers left out."""
    headline = test["instances"][0]["explanation"][0].partition(" FAIL: ")[2]
    headline = re.sub(r"^broken.*: new: .*", "broken: new", headline)
    return re.sub(r"after it held .* s: [0-9]+", "... some", headline)


def test_a_broken_spotter_receives_nothing_of_what_is_sent(tmp_path: Path) -> None:
    """Scrapers go on and their items are taken from them, but none is received."""
    with broken(tmp_path, "spotter") as late:
        eventually(lambda: sum(scraped(i).get("item_sent", 0) > 0 for i in late()) >= 3)
        assert [i for i in late() if received(i)] == []


def test_a_broken_scraper_starts_nothing(tmp_path: Path) -> None:
    """It goes on being asked; what the other scraper is asked for is received."""
    with broken(tmp_path, "scraper") as late:
        eventually(lambda: sum(received(i) > 0 for i in late()) >= 2)
        eventually(lambda: sum(i["host"] == "scraper-1" for i in late()) >= 2)
        assert {i["host"] for i in late() if answer(i)} == {"scraper-2"}


def test_a_broken_module_is_not_changed_any_more(tmp_path: Path) -> None:
    """scraper-2 scrapes with the module it had, scraper-1 with the one it is asked for."""
    with broken(tmp_path, "module") as late:

        def modules(host: str) -> set[tuple[str, str]]:
            """Which module was asked for, and which one said that it was used and did something."""
            return {
                (i["module"], answer(i)["module"])
                for i in late()
                if i["host"] == host and answer(i) and received(i)
            }

        eventually(lambda: any(wanted != used for wanted, used in modules("scraper-2")))
        eventually(lambda: bool(modules("scraper-1")))
        assert all(wanted == used for wanted, used in modules("scraper-1"))
        assert len({used for _, used in modules("scraper-2")}) == 1


def test_a_cut_network_lets_nothing_through(tmp_path: Path) -> None:
    """Items are collected and tried to be sent; none is sent, and none is received."""
    with broken(tmp_path, "network") as late:
        eventually(lambda: sum(scraped(i).get("item_sent_tries", 0) > 0 for i in late()) >= 3)
        assert [i for i in late() if scraped(i).get("item_sent") or received(i)] == []
