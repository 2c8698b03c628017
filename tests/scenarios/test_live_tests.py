"""`shardlog test` against a cluster of real processes: what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from shardlog.monitor import connect
from shardlog.monitor.follow import follow
from shardlog.monitor.live.recording import Recorder
from tests.helpers import WAIT_S, eventually
from tests.scenarios.processes import Cluster, on_terminal, running

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SHARDLOG = str(Path(sys.executable).parent / "shardlog")

BLADE = """
import logging.config, sys
from shardlog.handler import count
logging.config.dictConfig({
    "version": 1,
    "handlers": {"cluster": {"class": "shardlog.handler.ShardHandler"}},
    "root": {"level": "INFO", "handlers": ["cluster"]},
})
log = logging.getLogger("program")
for line in sys.stdin:
    log.info("said", extra=eval(line))
"""

HEAD = "from shardlog.monitor.live import always, each, eventually, ladder, never, once, rung\n"
GOOD = (
    HEAD
    + """
@each("intents/*")
def answered(intent, live):
    return ladder(
        rung("started", lambda: intent.host in intent.resolution, within=60),
        rung("received", lambda: any(b != intent.host for b in intent.resolution), within=60),
    )

@each("intents/*")
def counts_agree(intent, live):
    yield never(lambda: intent.received > intent.sent, "more received than sent")
"""
)
BAD = (
    HEAD
    + """
@each("intents/*")
def started_at_once(intent, live):
    return eventually(lambda: intent.resolution["scraper-9"], within=1)
"""
)
NAUGHTY = (
    HEAD
    + """
@each("intents/*")
def loops(intent, live):
    def judged():
        while True:
            pass
    yield always(judged, at="arrival")

@each("intents/*")
def writes(intent, live):
    def judged():
        intent.host = "me"
        return True
    yield always(judged, at="arrival")

@each("intents/*")
def writes_in_secret(intent, live):
    yield always(lambda: setattr(intent, "host", "me"), at="arrival")

@each("intents/*")
def raises(intent, live):
    yield always(lambda: 1 / 0, at="arrival")

@each("intents/*")
def is_asked(intent, live):
    yield eventually(lambda: intent.host == "scraper-1", within=60)
"""
)


class Blade:
    """A process that logs what the test says."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        environment = {"SHARDLOG_ENDPOINT": cluster.endpoint(), "SHARDLOG_BLADE": name}
        self._process = subprocess.Popen(
            [sys.executable, "-c", BLADE],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            text=True,
        )

    def log(self, extra: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(extra + "\n")
        self._process.stdin.flush()

    def ask(self, intent: str) -> None:
        self.log(f"{{'intents': {{{intent!r}: {{'host': 'scraper-1'}}}}}}")

    def answer(self, intent: str) -> None:
        for blade in ("scraper-1", "spotter-1"):
            self.log(f"{{'intents': {{{intent!r}: {{'resolution': {{{blade!r}: 'there'}}}}}}}}")
        self.log(f"{{'intents': {{{intent!r}: {{'sent': count(2), 'received': count(2)}}}}}}")

    def end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(WAIT_S)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture
def blade(cluster: Cluster) -> Iterator[Blade]:
    """It has asked for an intent, and that shows."""
    blade = Blade(cluster, "orchestrator")
    blade.ask("1")
    with connect(cluster.url) as seen:
        eventually(lambda: ("intents", "1", "host") in seen)
    yield blade
    blade.end()


def write(folder: Path, text: str) -> str:
    path = folder / "livetests.py"
    path.write_text(text)
    return str(path)


def start(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SHARDLOG, "test", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def run(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=WAIT_S)
    return process.returncode, stdout, stderr


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {test["name"]: test["verdict"] for test in document["tests"]}


@contextlib.contextmanager
def recorded(cluster: Cluster, folder: Path) -> Generator[Path]:
    """What the cluster tells during the block, on the disk."""
    path = folder / "recording"
    with follow(cluster.url) as inbox, Recorder(path, cluster.url) as recorder:
        yield path
        recorder.write(inbox.take(0))


def test_what_was_told_and_is_done_passes(cluster: Cluster, blade: Blade, tmp_path: Path) -> None:
    """Until all is settled; an intent that comes meanwhile is judged, too."""
    process = start(write(tmp_path, GOOD), "--connect", cluster.url, "--until-settled")
    blade.ask("2")
    blade.answer("1")
    blade.answer("2")
    stdout, stderr = process.communicate(timeout=WAIT_S)

    assert (process.returncode, stderr) == (0, "")
    assert "✓ pass   answered       ✓ 2 pass" in stdout
    assert "✓ PASS: ✓ 4 pass; judged to " in stdout


def test_what_was_told_and_is_not_done_fails_and_says_why(
    cluster: Cluster, blade: Blade, tmp_path: Path
) -> None:
    """One line when it happens, and the explanation at the end."""
    path = write(tmp_path, BAD)
    code, stdout, stderr = run(path, "--connect", cluster.url, "--until-settled")

    says = "started_at_once[1] FAIL: not within 1 s"
    assert (code, stderr) == (1, "")
    assert "Z ✗ fail started_at_once[1]: not within 1 s\n" in stdout
    assert f"✗ {says}\n  looked for intents/1/resolution is absent\n" in stdout
    assert "             intents/1/resolution/scraper-9 is absent\n" in stdout
    assert "✗ FAIL: ✗ 1 fail; judged to " in stdout


def test_a_host_that_is_not_heard_is_blind_and_fails_nothing(
    cluster: Cluster, blade: Blade, tmp_path: Path
) -> None:
    """A deadline passes meanwhile; exit 3 says that it can't be told."""
    text = BAD.replace("within=1", "within=10")
    process = start(write(tmp_path, text), "--connect", cluster.url, "--for", "16s")
    time.sleep(1)  # so that it is pending first
    cluster.collectors["node-1"].kill()
    stdout, stderr = process.communicate(timeout=WAIT_S)

    assert process.returncode == 3
    assert "Z: node-1 has not been heard since " in stderr
    assert "? started_at_once[1] BLIND: node-1 has not been heard since " in stdout
    assert "nothing fails until that has healed" in stdout
    assert "? CAN'T TELL: ? 1 blind; judged to " in stdout


def test_a_predicate_that_misbehaves_is_blind_and_the_others_are_judged(
    cluster: Cluster, blade: Blade, tmp_path: Path
) -> None:
    """One loops for ever, one writes, one raises: each says where, exit 3."""
    path = write(tmp_path, NAUGHTY)
    arguments = (path, "--connect", cluster.url, "--for", "3s", "--json")
    code, stdout, stderr = run(*arguments, "--predicate-timeout-ms", "100")

    assert (code, stderr) == (3, "")
    *lines, last = map(json.loads, stdout.splitlines())
    assert verdicts(last) == {
        "loops": "blind",
        "writes": "blind",
        "writes_in_secret": "blind",
        "raises": "blind",
        "is_asked": "pass",
    }
    said = {test["name"]: test["instances"] for test in last["tests"]}
    messages = {name: found[0]["conditions"][0]["message"] for name, found in said.items() if found}
    assert messages == {
        "loops": f"{path}:5: took longer than it may",
        "writes": f"writes: ConfigError: {path}:12: a predicate only looks; "
        "this one writes the attribute host",
        "writes_in_secret": f"{path}:19: writes: intents/1: "
        "the state is not written here (host = ...)",
        "raises": f"{path}:23: ZeroDivisionError: division by zero",
    }
    assert {line["test"] for line in lines} == {*verdicts(last)}


@pytest.mark.parametrize("text", ["def f(:\n", "import no_such_module\n", "x = 1\n"])
def test_a_file_that_cannot_be_imported_is_said_before_anybody_is_asked(
    tmp_path: Path, text: str
) -> None:
    """In one line, exit 2."""
    path = write(tmp_path, text)
    code, stdout, stderr = run(path, "--connect", "tcp://127.0.0.1:1")

    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"shardlog test: {path}:")
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--for", "soon"], "'soon' is no duration"),
        (["--recording", "x", "--for", "3s"], "a recording is judged to its end"),
        (["--recording", "x", "--publish", "ipc://y"], "a recording is judged to its end"),
        (["--publish", "nowhere"], "nowhere"),
        (["--publish", "tcp://192.0.2.1:7300"], "--insecure"),
        (["--only", "nothing"], "there is no test 'nothing'; there are answered, counts_agree"),
        (["--recording", "no-such-folder"], "no-such-folder: No such file"),
        (["--connect", "nowhere"], "nowhere"),
        (["--junit", "no-such-folder/x.xml"], "no-such-folder/x.xml: No such file"),
        (["--junit", "x" * 300], "x: File name too long"),
    ],
)
def test_what_is_asked_for_in_a_wrong_way(tmp_path: Path, arguments: list[str], says: str) -> None:
    """Exit 2, and the reason."""
    code, _, stderr = run(write(tmp_path, GOOD), *arguments)

    assert (code, says in stderr) == (2, True)


def test_nobody_who_answers_can_tell(tmp_path: Path) -> None:
    """Exit 3."""
    code, stdout, stderr = run(write(tmp_path, GOOD), "--connect", "tcp://127.0.0.1:1")

    assert (code, stdout) == (3, "")
    assert "nobody answers" in stderr


def test_report_of_before_stays_until_there_is_another(tmp_path: Path) -> None:
    """Where nobody answers there is none, and no empty file either."""
    last, new = tmp_path / "last.xml", tmp_path / "new.xml"
    last.write_text("<testsuites/>")
    for file in (last, new):
        arguments = ("--connect", "tcp://127.0.0.1:1", "--junit", str(file))
        assert run(write(tmp_path, GOOD), *arguments)[0] == 3

    assert (last.read_text(), new.exists()) == ("<testsuites/>", False)


def test_it_publishes_to_another_machine_where_that_is_allowed(tmp_path: Path) -> None:
    """The address is taken, and who is to be judged is asked: nobody answers, exit 3."""
    elsewhere = ("--publish", "tcp://192.0.2.1:7300", "--insecure")
    code, _, stderr = run(write(tmp_path, GOOD), "--connect", "tcp://127.0.0.1:1", *elsewhere)

    assert (code, "nobody answers" in stderr) == (3, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_until_it_is_told_to_end_and_says_then_how_it_stands(
    cluster: Cluster, blade: Blade, tmp_path: Path, number: signal.Signals
) -> None:
    """What holds, holds: exit 0, not 130. The recovery of what was bad is told."""
    text = HEAD + "@once\ndef calm(live):\n    always(lambda: live.alarm != 'on', at='arrival',"
    process = start(
        write(tmp_path, text + " broken_for=60)\n"), "--connect", cluster.url, bufsize=1
    )
    assert process.stdout is not None
    blade.log("{'alarm': 'on'}")
    assert process.stdout.readline().endswith("Z ! overdue calm: broken\n")
    blade.log("{'alarm': 'off'}")
    assert "Z ● holding calm" in process.stdout.readline()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=WAIT_S)

    assert (process.returncode, stderr) == (0, "")
    assert "● PASS: ● 1 holding; judged to " in stdout


def test_a_recording_has_the_verdicts_of_the_run_and_says_how_to_look_again(
    cluster: Cluster, blade: Blade, tmp_path: Path
) -> None:
    """One intent is done, the other one is not; the command that it prints judges that one."""
    with recorded(cluster, tmp_path) as recording:
        blade.ask("2")
        blade.answer("2")
        path = write(tmp_path, GOOD.replace("within=60", "within=2"))
        live = run(path, "--connect", cluster.url, "--for", "5s", "--json")
    again = run(path, "--recording", str(recording), "--json")

    assert live[0] == again[0] == 1
    documents = [json.loads(stdout.splitlines()[-1]) for _, stdout, _ in (live, again)]
    assert verdicts(documents[0]) == verdicts(documents[1])
    counts = [[test["counts"] for test in document["tests"]] for document in documents]
    assert counts[0] == counts[1]

    junit = tmp_path / "junit.xml"
    code, stdout, stderr = run(path, "--recording", str(recording), "--junit", str(junit))
    replay = f"shardlog test {path} --recording {recording} --only 'answered[1]'"
    assert (code, stderr) == (1, "")
    assert f"  replay     {replay}\n" in stdout
    (failed,) = ElementTree.parse(junit).findall(".//testcase[failure]")
    assert failed.get("name") == "answered[1]"
    code, stdout, _ = run(path, "--recording", str(recording), "--only", "answered[1]")
    assert code == 1
    assert "answered[1] FAIL: stuck before rung 1/2 'started', 2 s after it was asked for" in stdout
    assert "✗ FAIL: ✗ 1 fail; judged to" in stdout


def test_a_run_that_records_itself_is_told_again_to_the_letter(
    cluster: Cluster, blade: Blade, tmp_path: Path
) -> None:
    """Continuously, until it is ended: each verdict, and its time, are those of the recording."""
    path, recording = write(tmp_path, GOOD.replace("within=60", "within=6")), tmp_path / "run"
    live = start(path, "--connect", cluster.url, "--record", str(recording), "--json")
    blade.ask("2")
    blade.answer("2")
    assert live.stdout is not None
    said: list[str] = []
    while not any('"fail"' in line for line in said):
        said.append(live.stdout.readline())
    live.send_signal(signal.SIGINT)
    *more, _ = live.communicate(timeout=WAIT_S)[0].splitlines(keepends=True)
    *again, _ = run(path, "--recording", str(recording), "--json")[1].splitlines(keepends=True)

    said += more
    assert len(said) > 4
    assert again[: len(said)] == said


def test_what_is_published_is_state_and_a_later_run_goes_on_with_it(
    cluster: Cluster, blade: Blade, tmp_path: Path
) -> None:
    """A failure stays one, though what was owed has come since; what held is judged on."""
    text = BAD + "\n@each('intents/*')\ndef holds(i, live):\n"
    path = write(tmp_path, text + "    always(lambda: i.host != 'x', at='arrival')\n")
    arguments = (path, "--connect", cluster.url, "--publish", cluster.endpoint(), "--json")
    code, stdout, _ = run(*arguments, "--until-settled")
    assert code == 1
    with connect(cluster.url) as seen:
        eventually(lambda: ("shardlog", "live", "started_at_once", "intents/1") in seen)
        assert ("shardlog", "live", "holds", "intents/1") not in seen
        said = seen["shardlog", "live", "started_at_once", "intents/1"]
        assert (said["verdict"], said["reason"]) == ("fail", "DeadlineExceeded")
        blade.log("{'intents': {'1': {'resolution': {'scraper-9': 1}}}}")
        eventually(lambda: ("intents", "1", "resolution", "scraper-9") in seen)

    code, stdout, _ = run(*arguments, "--for", "2s")
    last = json.loads(stdout.splitlines()[-1])
    assert (code, verdicts(last)) == (1, {"started_at_once": "fail", "holds": "pass"})
    code, _, _ = run(path, "--connect", cluster.url, "--for", "2s")
    assert code == 0


def test_a_terminal_shows_how_it_stands_while_it_runs(
    cluster: Cluster, blade: Blade, tmp_path: Path
) -> None:
    """The view is gone at the end; what a state says does not move the cursor."""
    blade.log(r"{'intents': {'\x1b[2Jevil': {'host': 'x'}}}")
    arguments = ("test", write(tmp_path, GOOD), "--connect", cluster.url, "--for", "3s")
    code, text = on_terminal(100, *arguments)

    assert code == 3
    assert "nothing is in doubt" in text
    assert "of 1 hosts live" in text
    assert "before rung 1/2 'started'" in text
    assert "CAN'T TELL" in text
    assert "\x1b[2J" not in text
    assert "answered[�[2Jevil]" in text
