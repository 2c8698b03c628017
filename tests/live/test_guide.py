"""The examples of docs/livetests.md, on a recorded run: they print what the guide says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shardlog.cli.test import test as COMMAND
from shardlog.cli.verdicts import MARKS
from shardlog.crdt.delta import COUNTER, REGISTER
from shardlog.crdt.replication.messages import LANES, Changes, Heartbeat, HostStatus, Row
from shardlog.monitor import live
from shardlog.monitor.feed import Heard, Moved, Whole
from shardlog.monitor.live.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.delta import Value
    from shardlog.monitor.feed import Event

SHARDLOG = str(Path(sys.executable).parent / "shardlog")
GUIDE = Path(__file__).parents[2] / "docs" / "livetests.md"
S = 10**9
BEGIN_NS = 1_764_063_000 * S
SECONDS = 100

HOSTS = {"orchestrator": "node-1", "scraper-1": "node-2", "spotter-1": "node-3"}
PROCESS = {blade: f"{blade}@{host}:boot:7:1:x" for blade, host in HOSTS.items()}


def says(seconds: float, blade: str, **values: Value) -> Moved:
    """A blade logs these, with `__` between the keys."""
    at_ns = BEGIN_NS + round(seconds * S)
    rows = [Row(k.replace("__", "/"), REGISTER, v, at_ns, 0) for k, v in values.items()]
    return Moved(at_ns + S // 20, Changes([PROCESS[blade]], rows))


def counts(seconds: float, path: str, total: int) -> Moved:
    at_ns = BEGIN_NS + round(seconds * S)
    return Moved(at_ns + S // 20, Changes([], [Row(path, COUNTER, total, at_ns, -1)]))


def told() -> Iterator[Event]:
    """The run: two intents, of which one is done."""
    there = [
        Row(f"shardlog/presence/{blade}/{PROCESS[blade]}/{key}", REGISTER, value, BEGIN_NS, at)
        for at, (blade, host) in enumerate(HOSTS.items())
        for key, value in (("host", host), ("status", "up"))
    ]
    yield Whole(BEGIN_NS, (Changes([*PROCESS.values()], there),))
    found: list[Event] = [
        says(0.5, "orchestrator", settings__mode="careful"),
        says(1, "orchestrator", **{"intents/42/host": "scraper-1", "intents/42/module": "1.4"}),
        says(2.2, "scraper-1", **{"intents/42/resolution/scraper-1/module": "1.4"}),
        says(3, "orchestrator", **{"intents/43/host": "scraper-2", "intents/43/module": "1.4"}),
        counts(4, "intents/42/resolution/scraper-1/sent", 7),
        counts(4.5, "intents/42/resolution/spotter-1/received", 7),
    ]
    for second in range(5, 80, 5):
        found.append(counts(second, "pages/tries", second))
    for second in range(SECONDS):
        at_ns = BEGIN_NS + second * S + S // 2
        hosts = [HostStatus(h, f"{h}-1", "live", 0, at_ns - S // 5) for h in HOSTS.values()]
        found.append(Heard(at_ns, Heartbeat("node", "epoch", at_ns, 1000, [0] * LANES, hosts, {})))
    yield from sorted(found, key=lambda event: event.at_ns)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the guide's reader is: with the file, and the recording."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "livetests.py").write_text("\n".join(blocks))
    with Recorder(tmp_path / "run", "tcp://127.0.0.1:7410") as recorder:
        recorder.write(told())
    return tmp_path


def shown() -> Iterator[tuple[str, list[str]]]:
    """The commands of the guide that have an output, and it."""
    command, lines = "", list[str]()
    for line in [*GUIDE.read_text().splitlines(), "end"]:
        if command and (line.startswith("    $ ") or (line and not line.startswith("    "))):
            while not lines[-1]:
                lines.pop()
            yield command, lines
            command, lines = "", []
        if line.startswith("    $ shardlog "):
            command = line.removeprefix("    $ shardlog ")
        elif command:
            lines.append(line.removeprefix("    "))


@pytest.mark.usefixtures("folder")
def test_the_examples_print_what_the_guide_says() -> None:
    """To the letter, each command that is shown with its output."""
    commands = [*shown()]
    assert len(commands) == 2
    for command, lines in commands:
        command, _, tail = command.partition(" | tail -")
        # In a process of its own: how garbage is collected is changed there.
        done = subprocess.run(
            [SHARDLOG, *shlex.split(command)], capture_output=True, text=True, check=False
        )
        printed = [line.rstrip() for line in done.stdout.splitlines()]
        assert printed[-int(tail or 0) :] == lines
        assert done.returncode == 1


def test_the_guide_names_each_verdict_and_each_option() -> None:
    """And has an example of each kind of property."""
    text = GUIDE.read_text()
    for name in {*live.__all__} - {"Verdict", "LiveFailure", "LiveUnknown"}:
        assert f"{name}(" in text or f"@{name}\n" in text
    for verdict, mark in MARKS.items():
        assert f"| {mark} | {verdict} |" in text
    for option in COMMAND.params:
        assert any(name in text for name in option.opts if name.startswith("-")) or (
            option.name in ("files", "url", "config")
        )
