"""The commands that read, against a node in this process: what they print, and how they end."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from click.testing import CliRunner, Result

from shardlog.cli.main import main
from shardlog.crdt.replication.messages import HostStatus
from shardlog.monitor import connect
from shardlog.monitor.views import iso_utc
from tests.helpers import WAIT_S, eventually, free_pair
from tests.monitor.server import Server
from tests.scenarios.processes import on_terminal, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.delta import Value

SHARDLOG = str(Path(sys.executable).parent / "shardlog")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables but those that a test sets, and a runtime directory of its own."""
    for name in os.environ:
        if name.startswith("SHARDLOG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def server() -> Iterator[Server]:
    """A node that shows nothing yet."""
    with Server() as server:
        yield server


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def get(server: Server, *arguments: str) -> Any:
    result = run("get", *arguments, "--connect", server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_get_prints_json_for_people_or_on_one_line(server: Server) -> None:
    """Indented unless `--json` is asked for, in UTF-8."""
    server.write("42/host", "späher-1")
    server.count("42/tries", 7)

    assert run("get", "--connect", server.url).stdout == (
        '{\n  "42": {\n    "host": "späher-1",\n    "tries": 7\n  }\n}\n'
    )
    assert run("get", "--json", "--connect", server.url).stdout == (
        '{"42": {"host": "späher-1", "tries": 7}}\n'
    )


def test_get_prints_ascii_where_the_output_can_do_no_more(server: Server) -> None:
    """As escapes, which are the same JSON."""
    server.write("host", "späher-1")
    done = subprocess.run(
        [SHARDLOG, "get", "--json", "--connect", server.url],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )

    assert done.stdout == b'{"host": "sp\\u00e4her-1"}\n'


def test_get_of_an_empty_state_is_an_empty_object(server: Server) -> None:
    """And fine."""
    result = run("get", "--json", "--connect", server.url)

    assert (result.stdout, result.exit_code) == ("{}\n", 0)


def test_get_of_an_absent_path_says_so_and_exits_1(server: Server) -> None:
    """Nothing on stdout, one line on stderr, with the part of the path that is there."""
    server.write("intents/42", {})
    for path, there in (
        ("intents/43", "; intents is there"),
        (r"intents/\i42", "; intents is there"),
        ("intents/42/host/x", "; intents/42 is there"),
        ("intents/", "; intents is there"),
        ("shardlog", ""),
    ):
        result = run("get", path, "--connect", server.url)

        assert (result.stdout, result.exit_code) == ("", 1)
        assert result.stderr == f"shardlog get: nothing is at {path}{there}\n"


@pytest.mark.parametrize(
    ("statuses", "remark"),
    [
        ([], "no host has been heard yet"),
        (["live", "stale"], "1 of 2 hosts are not live, see `shardlog check`"),
    ],
)
def test_get_says_who_may_have_more(
    server: Server, statuses: list[Literal["live", "stale"]], remark: str
) -> None:
    """What is absent may be what a host that is not heard had to say."""
    server.hosts = [
        HostStatus(f"node-{number}", f"replica-{number}", status, 0, 0)
        for number, status in enumerate(statuses)
    ]
    result = run("get", "intents", "--connect", server.url)

    assert (result.stdout, result.exit_code) == ("", 1)
    assert result.stderr == f"shardlog get: nothing is at intents; {remark}\n"


def test_get_says_what_may_be_missing(server: Server) -> None:
    """As `total` does: what is absent may yet come, and what is there may be old."""
    server.settling = "it was started just now"
    server.write("a", 1)
    found = run("get", "--json", "--connect", server.url)
    absent = run("get", "b", "--connect", server.url)

    assert (found.stdout, found.exit_code) == ('{"a": 1}\n', 0)
    assert found.stderr == "shardlog get: settling: it was started just now\n"
    assert (absent.stdout, absent.exit_code) == ("", 1)
    assert absent.stderr == "shardlog get: nothing is at b; it was started just now\n"


def test_get_finds_the_int_key_where_no_str_key_is(server: Server) -> None:
    r"""A bare 42 is the str or else the int; `\i42` is the int."""
    server.write(r"a/\i42/\i1", "int")
    assert get(server, "a/42/1") == get(server, r"a/\i42/1") == "int"

    server.write("a/42", "str")
    assert get(server, "a/42") == "str"
    assert get(server, r"a/\i42") == {"1": "int"}
    assert get(server, "a") == {"42": "str", r"\i42": {"1": "int"}}


def test_get_takes_escapes(server: Server) -> None:
    """A key may hold what separates keys."""
    server.write(r"a\/b/c\\d/\*", 1)

    assert get(server, r"a\/b/c\\d") == {"*": 1}
    assert get(server, r"a\/b/c\\d/*") == 1
    assert get(server) == {"a/b": {"c\\d": {"*": 1}}}


def test_get_writes_what_json_lacks(server: Server) -> None:
    """Bytes as base64, NaN and infinities by their names."""
    server.write("bytes", b"ab")
    server.write("floats", [float("nan"), float("inf"), 0.5])

    assert get(server) == {
        "bytes": {"$bytes": "YWI="},
        "floats": [{"$float": "nan"}, {"$float": "inf"}, 0.5],
    }


@pytest.mark.parametrize("lines", [[], ["--json"]])
def test_json_has_nothing_that_a_terminal_obeys(server: Server, lines: list[str]) -> None:
    """ESC, DEL, CSI in one character, what turns the direction of writing, and a tag beyond 16
    bits: as escapes, which are the same JSON. What can be read stays as it is.
    """
    text = "späher \U0001f642 \x1b[2J \x7f \x9b2J \u202e \U000e0001"
    server.write("a/b", [text])
    server.write("\x9bkey", 1)
    shown = run("get", *lines, "--connect", server.url).stdout

    assert json.loads(shown) == {"a": {"b": [text]}, "\x9bkey": 1}
    assert shown.replace("\n", "").isprintable()
    assert "späher \U0001f642 " in shown


def test_get_shows_what_shardlog_keeps_only_when_asked(server: Server) -> None:
    """At the root it is left out."""
    server.write("shardlog/health/x", 1)
    server.write("a", 1)

    assert get(server) == {"a": 1}
    assert get(server, "shardlog/health") == {"x": 1}


def test_get_exits_3_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the address, and no traceback."""
    monkeypatch.setattr("shardlog.cli.get.connect", functools.partial(connect, timeout_ms=50))
    url = free_pair()
    result = run("get", "--connect", url)

    assert (result.stdout, result.exit_code) == ("", 3)
    assert result.stderr.startswith(f"shardlog get: {url}: nobody answers")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "--connect", "localhost"),
        ("check", "--connect", "localhost"),
        ("check", "--connect", ""),
        ("check", "--ledger", "--connect", "localhost"),
        ("check", "--ledger", "--connect", ""),
        ("get", "--unknown"),
        ("get", "--config", "/nowhere/shardlog.toml"),
        ("unknown",),
        ("get", "a", "b"),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    """With a word on stderr, nothing on stdout, and no traceback."""
    result = run(*arguments)

    assert (result.stdout, result.exit_code) == ("", 2)
    assert result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("get", r"a\q"), ("watch", r"a\q"), ("watch", r"\ix"), ("watch", "a\\"), ("total", r"a\q")],
)
def test_bad_path_exits_2(arguments: tuple[str, ...]) -> None:
    """One line, whether somebody answers or not."""
    result = run(*arguments, "--connect", free_pair())

    assert (result.stdout, result.exit_code) == ("", 2)
    assert result.stderr.count("\n") == 1


def test_unknown_key_in_the_file_exits_2(tmp_path: Path) -> None:
    """In any table: the file is wrong, whoever reads it."""
    file = tmp_path / "shardlog.toml"
    file.write_text("[collect]\nlisen = 'x'\n")
    result = run("get", "--config", str(file))

    assert result.exit_code == 2
    assert result.stderr == (
        f"shardlog get: {file}: [collect] has no key 'lisen'; "
        "the keys are listen, to, host, store, serve, insecure\n"
    )


def test_collect_without_a_home_asks_for_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has a number alone; one line, exit 2."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    result = run("collect", "--host", "node-1")

    assert (result.exit_code, result.stderr) == (
        2,
        "shardlog collect: this user has no home folder to keep counts in: say --store DIR\n",
    )


def test_flag_beats_variable_beats_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is used where nothing stronger says otherwise."""
    file = tmp_path / "shardlog.toml"
    file.write_text(f"[monitor]\nconnect = '{server.url}'\n")
    monkeypatch.setenv("SHARDLOG_CONFIG", str(file))
    assert run("get").exit_code == 0

    monkeypatch.setenv("SHARDLOG_CONNECT", "by variable")
    assert "'by variable' is not an address" in run("get").stderr
    assert "'by flag' is not an address" in run("get", "--connect", "by flag").stderr

    monkeypatch.setenv("SHARDLOG_CONNECT", server.url)
    file.write_text("[monitor]\nconnect = 'by file'\n")
    assert run("get").exit_code == 0
    assert run("get", "--config", str(file), "--connect", server.url).exit_code == 0


def test_get_loads_neither_a_store_nor_tables(server: Server) -> None:
    """Each command loads what it needs."""
    program = (
        "import sys; from shardlog.cli.main import main\n"
        f"main(['get', '--connect', {server.url!r}], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(done.stdout.splitlines()[1].split())

    assert "shardlog.monitor.client" in loaded
    assert loaded.isdisjoint(
        {"sqlite3", "rich", "shardlog.collector.store", "shardlog.cli.collect"}
    )


def total(server: Server, *arguments: str) -> Result:
    return run("total", "intents/*/tries", *arguments, "--connect", server.url)


def test_total_prints_the_sum_alone_where_it_is_exact(server: Server) -> None:
    """So that a shell can go on with it; what matches nothing is 0."""
    result = total(server)
    assert (result.stdout, result.stderr, result.exit_code) == ("0\n", "", 0)

    server.count("intents/42/tries", 2)
    server.count("intents/~/tries", 0.21, "replica-2")
    result = total(server)
    assert (result.stdout, result.stderr, result.exit_code) == ("2.21\n", "", 0)


def test_total_says_on_stderr_why_it_may_be_too_low(server: Server) -> None:
    """One line with the status; it is a value all the same."""
    server.count("intents/42/tries", 2)
    server.hosts = [*server.hosts, HostStatus("node\x1b2", "replica-2", "stale", 0, 0)]
    result = total(server)

    assert (result.stdout, result.exit_code) == ("2\n", 0)
    assert result.stderr == (
        "shardlog total: stale: node\N{REPLACEMENT CHARACTER}2 has not been heard since "
        "1970-01-01T00:00:00.000000Z\n"
    )


def test_total_prints_one_object_with_its_status(server: Server) -> None:
    """All of it on stdout, for programs."""
    server.hosts = []
    result = total(server, "--json")

    assert (result.stderr, result.exit_code) == ("", 0)
    assert json.loads(result.stdout) == {
        "pattern": "intents/*/tries",
        "value": 0,
        "status": "settling",
        "reason": "no host has been heard yet",
        "since": None,
    }


def test_total_where_nobody_answers_exits_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on stdout: no number is better than a wrong one."""
    monkeypatch.setattr("shardlog.cli.total.connect", functools.partial(connect, timeout_ms=50))
    result = run("total", "intents/*", "--connect", free_pair())

    assert (result.stdout, result.exit_code) == ("", 3)


@pytest.fixture
def watching(server: Server) -> Iterator[subprocess.Popen[str]]:
    """A `watch` that has begun; the first change was read."""
    process = subprocess.Popen(
        [SHARDLOG, "watch", "intents", "--connect", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    number = 0
    while not select.select([process.stdout], [], [], 0.1)[0]:
        number += 1
        server.write("intents/0", number)
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_watch_prints_each_change_at_once(server: Server, watching: subprocess.Popen[str]) -> None:
    """One line of JSON each, though its output is no terminal."""
    assert watching.stdout is not None
    server.write("other", 1)
    server.write("intents/42/host", "scraper-1", "orchestrator@node-1:boot:8:1:x")
    while '"path": "intents/0"' in (line := watching.stdout.readline()):
        pass
    appeared = json.loads(line)
    server.erase("intents/42")
    erased = json.loads(watching.stdout.readline())

    assert list(appeared) == ["path", "new", "gone", "by", "at"]
    assert appeared["path"] == erased["path"] == "intents/42/host"
    assert (appeared["new"], appeared["gone"], appeared["by"]) == (
        "scraper-1",
        None,
        "orchestrator",
    )
    assert list(erased) == ["path", "old", "gone", "by", "at"]
    assert (erased["old"], erased["gone"], erased["by"]) == ("scraper-1", "erased", "scraper-1")
    assert appeared["at"].startswith("2025-11-25T09:30:00.000000")


def test_watch_ends_quietly_with_ctrl_c(watching: subprocess.Popen[str]) -> None:
    """That is the end it has: 0."""
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)

    assert (watching.returncode, said) == (0, "")


def test_watch_ends_quietly_when_its_reader_has_gone(
    server: Server, watching: subprocess.Popen[str]
) -> None:
    """As in `shardlog watch | head -1`."""
    assert watching.stdout is not None
    assert watching.stderr is not None
    watching.stdout.close()

    def has_ended() -> bool:
        server.write("intents/0", 0)
        return watching.poll() is not None

    eventually(has_ended)
    assert (watching.returncode, watching.stderr.read()) == (141, "")


def test_watch_says_when_nothing_is_heard_any_more(
    server: Server, watching: subprocess.Popen[str]
) -> None:
    """Or else it looks as if nothing changed."""
    assert watching.stderr is not None
    server.stop()

    assert f": {server.url} has not been heard since " in watching.stderr.readline()


@pytest.mark.parametrize(
    "arguments",
    [("get",), ("total", "*"), ("blades",), ("blades", "--json"), ("errors",), ("check",)],
)
def test_command_ends_quietly_when_its_reader_has_gone(
    server: Server, arguments: tuple[str, ...]
) -> None:
    """Also when all of it would have fitted into a buffer."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            [SHARDLOG, *arguments, "--connect", server.url],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("get", "--help"),
        ("total", "*"),
        ("rates", "--for", "1s"),
        ("blades",),
        ("blades", "--json"),
        ("blades", "--watch"),
        ("errors",),
        ("errors", "--markdown"),
        ("check",),
    ],
)
def test_command_whose_output_cannot_be_written_exits_3(
    server: Server, arguments: tuple[str, ...]
) -> None:
    """As on a disk that is full: one line, and no code that says that something was found."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [SHARDLOG, *arguments, "--connect", server.url],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    said = f"shardlog {arguments[0]}: the output cannot be written: No space left on device\n"

    assert done.returncode == 3
    assert done.stderr.removeprefix("shardlog rates: looking for 1.1 s ...\n") == said


def test_error_that_is_not_of_the_output_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a mistake of shardlog, which nobody finds without its traceback."""

    def connect(_: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("shardlog.cli.get.connect", connect)

    assert isinstance(run("get").exception, OSError)


def test_demo_that_would_end_before_it_breaks_exits_2() -> None:
    """--break with fewer seconds than all is healthy at first: one line."""
    words = [SHARDLOG, "demo", "--seconds", "4", "--break", "spotter"]
    done = subprocess.run(words, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr == "shardlog demo: --break: needs more than 4 --seconds\n"


def test_demo_in_a_folder_that_cannot_be_made_exits_2(tmp_path: Path) -> None:
    """One line that names it, before anything starts."""
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "demo")
    done = subprocess.run([SHARDLOG, "demo", "--dir", folder], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"shardlog demo: --dir {folder}: Not a directory\n"


def test_blades_prints_a_table_or_a_list(server: Server) -> None:
    """Names are shown as they are, and a terminal does not obey them."""
    blade = "[red]\x1b[2Jx"
    presence = f"shardlog/presence/{blade}/{blade}@node-1:boot:7:1:x"
    said: dict[str, Value] = {
        "host": "node-1",
        "pid": 4711,
        "started": time.time_ns() - 3 * 86_400 * 10**9,
        "status": "up",
    }
    for key, value in said.items():
        server.write(f"{presence}/{key}", value)
    table = run("blades", "--connect", server.url).stdout
    (row,) = json.loads(run("blades", "--json", "--connect", server.url).stdout)

    lines = [line.split() for line in table.splitlines()]
    columns = ["blade", "host", "status", "pid", "version", "age", "heard", "remark"]
    assert lines[0] == columns
    assert lines[2] == [
        "[red]\N{REPLACEMENT CHARACTER}[2Jx",
        "node-1",
        "up",
        "4711",
        "3",
        "d",
    ]
    assert list(row)[:7] == ["blade", "host", "pid", "process", "status", "started", "heard"]
    assert (row["blade"], row["pid"], row["heard"]) == (blade, 4711, None)


def test_blades_says_what_is_not_heard(server: Server) -> None:
    """On stderr; what only counts lack is no matter here."""
    server.hosts = [
        HostStatus("node-1", "replica-1", "stale", 0, 0),
        HostStatus("node-2", "replica-2", "live", 0, 0, lower_bound="store lost"),
    ]
    result = run("blades", "--json", "--connect", server.url)

    assert (result.stdout, result.exit_code) == ("[]\n", 0)
    assert result.stderr == (
        "shardlog blades: stale: node-1 has not been heard since 1970-01-01T00:00:00.000000Z\n"
    )


def test_blades_on_a_terminal_says_when_the_server_is_not_heard_any_more(server: Server) -> None:
    """Or else all that was up stays green."""
    with terminal(200, "blades", "--watch", "--connect", server.url) as (process, screen):
        shown = os.read(screen, 65_536)
        while b"remark" not in shown:
            shown += os.read(screen, 65_536)
        assert b"has not been heard" not in shown
        server.stop()
        while f"{server.url} has not been heard since ".encode() not in shown:
            shown += os.read(screen, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0


def test_blades_cannot_tell_of_a_host_that_is_not_named(server: Server) -> None:
    """There may be more hosts than a heartbeat has room for; its lower bound says so."""
    process = "shardlog/presence/scraper-1/scraper-1@node-9:boot:7:1:x"
    server.write(f"{process}/status", "up", "node-9@replica-9")
    server.write(f"{process}/heard", time.time_ns(), "node-9@replica-9")
    expected = ("blades", "--expected", "scraper-1", "--connect", server.url)
    assert run(*expected).exit_code == 0

    server.lower_bound = "7 more hosts do not fit into a heartbeat"
    result = run(*expected)
    assert result.exit_code == 3
    assert result.stderr == (
        "shardlog blades: scraper-1 is expected and may be on a host that is not heard\n"
    )


def test_blades_of_nobody_is_an_empty_list(server: Server) -> None:
    """And fine."""
    result = run("blades", "--json", "--connect", server.url)

    assert (result.stdout, result.exit_code) == ("[]\n", 0)


def test_errors_that_may_be_missing_are_not_none(server: Server) -> None:
    """Exit 3 where none is known and a host is not heard; stderr and the JSON say which. What is
    missing for good makes no difference; neither does a doubt where there are errors.
    """
    none = run("errors", "--connect", server.url)
    assert (none.stdout, none.stderr, none.exit_code) == ("no errors\n", "", 0)

    server.hosts = [HostStatus("node-1", "replica-1", "live", 0, 0, lower_bound="store lost")]
    server.beat()
    low = run("errors", "--connect", server.url)
    assert low.stderr == "shardlog errors: lower bound: node-1: store lost\n"
    assert low.exit_code == 0

    server.hosts = [HostStatus("node-1", "replica-1", "stale", 0, 0)]
    server.beat()
    reason = "node-1 has not been heard since 1970-01-01T00:00:00.000000Z"
    untold = run("errors", "--json", "--connect", server.url)
    assert json.loads(untold.stdout)["doubts"] == [reason]
    assert untold.stderr == f"shardlog errors: stale: {reason}\n"
    assert untold.exit_code == 3
    assert run("errors", "--connect", server.url).stdout == "no errors are known\n"
    assert run("errors", "E7c1d", "--connect", server.url).exit_code == 1

    server.write("shardlog/errors/4c1634f49fd1/about/type", "pages.NotFound")
    some = run("errors", "--connect", server.url)
    assert (some.stderr, some.exit_code) == (untold.stderr, 0)


def test_errors_prints_a_table_a_list_or_one_group(server: Server) -> None:
    """What was logged is shown as it is, and a terminal does not obey it."""
    group = "shardlog/errors/4c1634f49fd1"
    server.write(f"{group}/about/type", "pages.NotFound")
    server.write(f"{group}/about/message", "[red]\x1b[2Jx")
    sample: list[Value] = [1_764_063_000 * 10**9, "p", "1.4", "line 1\n\x1b[2J line 2"]
    server.write(f"{group}/samples/first-0", sample)
    server.count(f"{group}/count/node-1/scraper-1", 7)
    server.write("shardlog/live/answered/intents\\/42/verdict", "fail")
    server.write("shardlog/live/answered/intents\\/42/message", "nothing from scraper-1")
    server.write("shardlog/live/answered/intents\\/42/since", time.time_ns())
    [row] = json.loads(run("errors", "--json", "--connect", server.url).stdout)["groups"]
    table = run("errors", "--connect", server.url).stdout
    one = run("errors", "e4C16", "--connect", server.url).stdout
    whole = json.loads(run("errors", "E4c16", "--json", "--connect", server.url).stdout)

    assert (row["id"], row["status"], row["total"]) == ("E4c16", "quiet", 7)
    assert "NotFound: [red]\N{REPLACEMENT CHARACTER}[2Jx" in table
    assert "line 1\n\N{REPLACEMENT CHARACTER}[2J line 2\n" in one
    assert "answered[intents/42] fail (names a host of it): nothing from scraper-1" in one
    assert whole["samples"][0]["text"] == sample[3]
    assert [failure["test"] for failure in whole["failures"]] == ["answered"]


def test_errors_shows_names_of_groups_that_a_terminal_does_not_obey(server: Server) -> None:
    """Any process may write there."""
    for digit in "12":
        server.count(f"shardlog/errors/\x1b[0m{digit}/count/node-1/x", 1)
    table = run("errors", "--connect", server.url).stdout
    which = run("errors", "E\x1b[0m", "--connect", server.url)

    assert "E\N{REPLACEMENT CHARACTER}[0m1" in table
    assert which.stderr.endswith(
        " may be E\N{REPLACEMENT CHARACTER}[0m1, E\N{REPLACEMENT CHARACTER}[0m2\n"
    )
    assert "\x1b" not in table + which.stderr


def rows_on_terminal(*arguments: str) -> list[str]:
    """The lines of 80 columns that a command prints, without colours."""
    code, shown = on_terminal(80, *arguments)
    assert code == 0
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()]


def test_blades_and_errors_are_read_on_80_columns(server: Server) -> None:
    """Nothing that matters is cut off, and no line is longer."""
    process = "orchestrator@node-17:boot:1234567:1:x"
    said: dict[str, Value] = {
        "host": "node-17",
        "pid": 1_234_567,
        "started": time.time_ns() - 7 * 3600 * 10**9,
        "heard": time.time_ns() - 200 * 10**9,
        "status": "lost",
        "exit": [None, "SIGKILL", "out of memory"],
    }
    for key, value in said.items():
        server.write(f"shardlog/presence/orchestrator/{process}/{key}", value)
    group = "shardlog/errors/4c1634f49fd1"
    for key, value in (("type", "a.NotFound"), ("message", "m" * 99), ("culprit", "pages:fetch")):
        server.write(f"{group}/about/{key}", value)
    sample: list[Value] = [time.time_ns() - 3600 * 10**9, "p", "1.4", "text"]
    server.write(f"{group}/samples/first-0", sample)
    server.count(f"{group}/count/node-17/orchestrator", 123_456)
    there = rows_on_terminal("blades", "--connect", server.url)
    wrong = rows_on_terminal("errors", "--connect", server.url)

    assert max(map(len, [*there, *wrong])) <= 80
    row = "orchestrator  node-17  lost    1234567           7 h  3 min  SIGKILL, out of"
    assert there[2:] == [row, f"{'memory':>67}"]
    assert wrong[1].split() == ["E4c16", "quiet", "0", "123,456", "1/1"]
    assert wrong[2:] == [f"    NotFound: {'m' * 65}…", "    in pages:fetch"]


def test_errors_and_blades_go_by_the_clock_of_the_server(server: Server) -> None:
    """What is now there is not quiet for a reader whose clock is behind, and what was said minutes
    ago was not said just now; where a collector's clock is off, its own says when that was.
    """
    server.ahead_ns = 3 * 3600 * 10**9
    offset_ns = 600 * 10**9
    server.hosts = [HostStatus("node-1", "replica-1", "live", 0, 0, offset_ns=offset_ns)]
    now_ns = time.time_ns() + server.ahead_ns
    group = "shardlog/errors/4c1634f49fd1"
    now = iso_utc(now_ns)
    server.count(f"{group}/hours/{now[:13]}/1.4", 500)
    server.count(f"{group}/recent/{now[:15]}0", 500)
    process = "shardlog/presence/scraper-1/scraper-1@node-1:boot:7:1:x"
    server.write(f"{process}/heard", now_ns + offset_ns - 200 * 10**9, "node-1@replica-1")
    [found] = json.loads(run("errors", "--json", "--connect", server.url).stdout)["groups"]

    assert (found["status"], found["count"]) == ("new", 500)
    assert run("blades", "--connect", server.url).stdout.split()[-2:] == ["3", "min"]


def test_errors_of_nobody_are_none(server: Server) -> None:
    """And fine; one that is asked for is not there."""
    assert run("errors", "--connect", server.url).stdout == "no errors\n"
    missing = run("errors", "E7", "--connect", server.url)

    assert (missing.exit_code, missing.stderr) == (1, "shardlog errors: no group is E7\n")


def check(*arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    result = run("check", "--json", *arguments)
    findings = json.loads(result.stdout)
    return result.exit_code, {f["subject"]: (f["status"], f["says"]) for f in findings}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("blades",),
        ("errors",),
        ("errors", "E4c16"),
        ("rates", "*/*", "--by", "1", "--for", "2s"),
        ("check",),
    ],
)
def test_what_the_output_lacks_is_shown_as_a_question_mark(
    server: Server, encoding: str, arguments: tuple[str, ...]
) -> None:
    """Nothing raises, whatever anybody has logged, and wherever it is shown."""
    name = "späher→1"
    server.write(f"shardlog/presence/{name}/{name}@{name}:boot:7:1:x/host", name)
    server.count(f"{name}/tries", 7)
    group = "shardlog/errors/4c1634f49fd1"
    server.write(f"{group}/about/message", name)
    server.write(f"{group}/samples/first-0", [1_764_063_000 * 10**9, "p", "1.4", name])
    server.count(f"{group}/count/{name}/{name}", 7)
    server.lower_bound = name
    done = subprocess.run(
        [SHARDLOG, *arguments, "--connect", server.url],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )

    assert b"Traceback" not in done.stderr
    # click takes ascii for a mistake, and writes UTF-8.
    shown = [name.encode(encoding, "replace"), *([name.encode()] if encoding == "ascii" else [])]
    assert any(text in done.stdout for text in shown)


def test_check_of_a_sound_host_is_fine(server: Server, tmp_path: Path) -> None:
    """Who listens is found, and all hosts are live."""
    (tmp_path / "shardlog").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as collector:
        path = tmp_path / "shardlog" / "collector.sock"
        collector.bind(str(path))
        collector.listen()
        code, findings = check("--connect", server.url)

    assert code == 0
    assert {status for status, _ in findings.values()} == {"fine"}
    assert findings[f"collector ipc://{path}"] == ("fine", "listens")
    assert findings["monitors"] == ("fine", f"{server.url} serves 1 host")


def test_check_names_what_is_wrong(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Addresses, folders, variables and hosts; exit 1."""
    (tmp_path / "shardlog").mkdir()
    (tmp_path / "shardlog").chmod(0o755)
    (tmp_path / "shardlog" / "collector.sock").touch()
    file = tmp_path / "shardlog.toml"
    file.write_text("[aggregate]\nserve = 'tcp://0.0.0.0:7410'\n")
    monkeypatch.setenv("SHARDLOG_CONNEKT", "x")
    server.hosts = [*server.hosts, HostStatus("node-2", "replica-2", "stale", 0, 0)]
    code, findings = check("--connect", server.url, "--config", str(file))

    assert code == 1
    assert {subject for subject, (status, _) in findings.items() if status == "wrong"} == {
        "SHARDLOG_CONNEKT",
        "[aggregate] serve",
        "collector",
        "host node-2",
    }
    assert findings["host node-2"][1] == (
        "stale: node-2 has not been heard since 1970-01-01T00:00:00.000000Z; "
        "its collector has ended, or does not reach its aggregator"
    )


def test_check_tells_a_replaced_store_from_a_silent_host(server: Server) -> None:
    """A live collector of the same name says that nothing is to be mended there."""
    server.hosts = [*server.hosts, HostStatus("node-1", "replica-2", "stale", 0, 0)]
    _, findings = check("--connect", server.url)

    assert findings["host node-1"][1].endswith("a collector with another store has taken its place")


def test_check_names_hosts_that_are_called_alike(server: Server) -> None:
    """As cloned machines are: what is said of one is taken for the other's."""
    server.hosts = [*server.hosts, HostStatus("node-1", "replica-2", "live", 0, 0)]
    code, findings = check("--connect", server.url)

    assert (code, findings["host node-1"]) == (
        1,
        ("wrong", "2 live collectors are called so; give each host its own name (--host)"),
    )


def test_check_cannot_tell_while_something_is_on_the_way(server: Server) -> None:
    """Exit 3: nothing is wrong as far as it is known."""
    server.settling = "it was started just now"
    server.hosts = [*server.hosts, HostStatus("node-2", "replica-2", "syncing", 0, 0)]
    result = run("check", "--connect", server.url)
    code, findings = check("--connect", server.url)

    assert result.exit_code == code == 3
    assert "settling     host node-2: settling: node-2: its snapshot" in result.stdout
    assert findings["host node-2"] == ("settling", "settling: node-2: its snapshot is on the way")


def test_check_names_hosts_that_forget_by_other_tables(server: Server) -> None:
    """One finding; a store that was replaced has no say any more."""
    server.hosts = [
        HostStatus("node-1", "replica-1", "live", 0, 0, retention="x"),
        HostStatus("node-2", "replica-2", "live", 0, 0, retention="x"),
        HostStatus("node-1", "replica-0", "replaced", 0, 0, retention="y"),
    ]
    assert check("--connect", server.url)[0] == 0

    server.hosts = [*server.hosts, HostStatus("node-3", "replica-3", "live", 0, 0, retention="y")]
    code, findings = check("--connect", server.url)
    assert code == 1
    assert findings["[retention]"] == (
        "wrong",
        "the tables of node-1, node-2 | node-3 differ; write the same one everywhere",
    )


def test_check_compares_the_tables_of_hosts_with_that_of_their_aggregator(server: Server) -> None:
    """Which forgets for those who have departed."""
    server.hosts = [HostStatus("node-1", "replica-1", "live", 0, 0, retention="x")]
    server.retention = "x"
    assert check("--connect", server.url)[0] == 0

    server.retention = "y"
    code, findings = check("--connect", server.url)
    assert code == 1
    assert findings["[retention]"][1].startswith(f"the tables of node-1 | {server.url} differ; ")


def test_check_names_what_was_lost_and_what_was_refused(server: Server) -> None:
    """Of a host, of the server itself, and frames by reason."""
    server.lower_bound = "node-9 is gone"
    server.hosts = [
        HostStatus("node-1", "replica-1", "live", 0, 0, lower_bound="its store was lost")
    ]
    server.refused = {"malformed": 3}
    code, findings = check("--connect", server.url)

    assert code == 1
    assert findings["monitors"] == ("wrong", "lower bound: node-9 is gone")
    assert findings["host node-1"] == ("wrong", "lower bound: node-1: its store was lost")
    assert findings["refused malformed"][1].startswith("turned away 3 times since the start of ")


def test_check_names_what_collectors_and_blades_refused(server: Server) -> None:
    """By host and by blade, with where to read more; what was forgotten of it is nobody's."""
    health = "shardlog/health"
    server.count(f"{health}/collector/node-1/refused/skew", 3)
    server.write(f"{health}/collector/node-2/store", "disk full")
    server.hosts = [*server.hosts, HostStatus("node-2", "replica-2", "live", 0, 0)]
    server.write(f"{health}/blade/fine/first/key", "x")
    server.count(f"{health}/blade/~/refused/key", 7)
    assert "blade" not in " ".join(check("--connect", server.url)[1])

    server.count(f"{health}/blade/odd\\/1/refused/key", 4)
    server.count(f"{health}/blade/odd\\/1/refused/depth", 1)
    code, findings = check("--connect", server.url)

    assert code == 1
    assert findings["host node-1"] == ("wrong", "refused 3 skew, its log names the first of each")
    assert findings["host node-2"] == ("wrong", "disk full")
    assert findings["blade odd/1"] == (
        "wrong",
        r"refused 1 depth, 4 key, `shardlog get shardlog/health/blade/odd\/1/first` "
        "shows the first of each",
    )


def test_check_leaves_out_what_cannot_be_what_blades_refused(server: Server) -> None:
    """A process that speaks the wire may write anything there: what is understood is told."""
    blades = "shardlog/health/blade"
    server.write(f"{blades}/evil/refused", 5)
    server.write(f"{blades}/worse", "x")
    server.write(f"{blades}/text/refused/key", "many")
    server.count(rf"{blades}/\i7/refused/\i1", 4)
    server.count(rf"{blades}/\i7/refused/key", 2)
    code, findings = check("--connect", server.url)

    assert code == 1
    assert {subject for subject in findings if "blade" in subject} == {"blade 7"}
    assert findings["blade 7"][1].startswith("refused 4 1, 2 key, ")

    server.write(blades, 5)
    assert check("--connect", server.url)[0] == 0


TERMS: dict[str, Any] = {
    **dict.fromkeys(("counted", "heard", "visible"), 7),
    **dict.fromkeys(("refused", "baseline", "moved", "erased"), 0),
    **dict.fromkeys(("collapsed", "erased_collapsed", "overflow"), 0),
    "undelivered": [],
}


def tell_sums(
    server: Server, host: str = "node-1", replica: str = "replica-1", **said: Any
) -> None:
    for term, value in {**TERMS, **said}.items():
        server.write(f"shardlog/health/ledger/{host}/{replica}/{term}", value)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way in these tests."""
    monkeypatch.setattr("shardlog.cli.ledger.PATIENCE_S", 0.5)


def check_ledger(server: Server) -> tuple[int, dict[str, tuple[str, str]]]:
    return check("--ledger", "--connect", server.url)


def test_ledger_adds_up_over_all_hosts(server: Server) -> None:
    """And says of what, in one line."""
    server.hosts = [*server.hosts, HostStatus("node-2", "replica-2", "live", 0, 0)]
    tell_sums(server)
    tell_sums(server, "node-2", "replica-2", counted=9, refused=2)
    server.count("a/n", 7)
    server.count("b/n", 7.0, "replica-2")
    code, findings = check_ledger(server)

    assert code == 0
    assert findings == {
        "ledger": (
            "fine",
            "balanced: 16 counted = 14 visible + 0 collapsed + 0 erased + 2 refused "
            "+ 0 undelivered",
        )
    }


def test_ledger_waits_for_what_is_on_its_way(server: Server) -> None:
    """A term that comes a moment later is no fault."""
    tell_sums(server, counted=9)
    server.count("a/n", 7)
    timer = threading.Timer(1, lambda: tell_sums(server))
    timer.start()
    assert check_ledger(server)[0] == 0
    timer.join()


@pytest.mark.usefixtures("hasty")
def test_ledger_names_the_term_and_the_node_that_are_off(server: Server) -> None:
    """One line, exit 1."""
    tell_sums(server, counted=12, undelivered=[["scraper-1@node-1:b:1:1:a", 12, 5]])
    server.count("a/n", 7)
    result = run("check", "--ledger", "--connect", server.url)

    assert result.exit_code == 1
    assert result.stdout == (
        "wrong        ledger undelivered: node-1: 12 counted by scraper-1, "
        "5 of them not delivered\n"
    )


@pytest.mark.usefixtures("hasty")
def test_ledger_finds_that_less_shows_than_hosts_have(server: Server) -> None:
    """Then it is the one who shows it that is off."""
    tell_sums(server)
    server.count("a/n", 6)
    code, findings = check_ledger(server)

    assert code == 1
    assert findings == {
        "ledger shown": ("wrong", f"{server.url}: shows 6, its hosts have 7"),
    }


@pytest.mark.usefixtures("hasty")
def test_ledger_cannot_tell_where_something_is_missing(server: Server) -> None:
    """Settling, stale, a host that told nothing, a term that is not known: exit 3."""
    server.count("a/n", 7)
    code, findings = check_ledger(server)
    assert (code, findings["ledger"]) == (3, ("settling", "node-1 has not told its sums yet"))

    tell_sums(server, refused=None)
    code, findings = check_ledger(server)
    assert (code, findings["ledger undelivered"][0]) == (3, "unknown")

    tell_sums(server)
    server.hosts = [HostStatus("node-1", "replica-1", "stale", 0, 0)]
    code, findings = check_ledger(server)
    assert (code, findings["ledger"][0]) == (3, "unreachable")

    server.hosts = [HostStatus("node-1", "replica-1", "live", 0, 0)]
    server.settling = "it was started just now"
    code, findings = check_ledger(server)
    assert (code, findings["ledger"]) == (3, ("settling", "it was started just now"))


@pytest.mark.usefixtures("hasty")
def test_ledger_of_a_replaced_store_is_no_fault_of_who_shows_it(server: Server) -> None:
    """Its counters may be newer than its sums; where they agree all is fine."""
    server.hosts = [*server.hosts, HostStatus("node-1", "replica-0", "replaced", 0, 0)]
    tell_sums(server)
    server.count("a/n", 7)
    assert check_ledger(server)[0] == 0

    server.count("b/n", 1, "replica-0")
    code, findings = check_ledger(server)
    assert (code, findings["ledger shown"][0]) == (3, "unknown")


def test_ledger_where_nobody_answers_exits_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a wrong address exits 2."""
    monkeypatch.setattr("shardlog.cli.check.TIMEOUT_S", 0.05)
    assert check("--ledger", "--connect", free_pair())[0] == 3
    assert run("check", "--ledger", "--connect", "nowhere").exit_code == 2


def test_check_and_blades_name_a_host_whose_clock_is_off(server: Server) -> None:
    """By more than a second, either way; for `check` that is wrong, however live the host is."""
    server.hosts = [
        HostStatus(f"node-{n}", f"replica-{n}", "live", 0, 0, offset_ns=offset)
        for n, offset in enumerate((0, -3_601_400_000_000, 2_000_000_000, 1_000_000_000))
    ]
    code, findings = check("--connect", server.url)
    result = run("blades", "--connect", server.url)

    assert code == 1
    assert {subject: says for subject, (_, says) in findings.items() if "host" in subject} == {
        "host node-1": "its clock is 3601 s behind that of the aggregator",
        "host node-2": "its clock is 2 s ahead of that of the aggregator",
    }
    assert result.stderr == (
        "node-1: its clock is 3601 s behind that of the aggregator\n"
        "node-2: its clock is 2 s ahead of that of the aggregator\n"
    )
    assert run("blades", "--json", "--connect", server.url).stderr == ""


def test_check_names_a_host_that_only_its_blades_call_so(server: Server) -> None:
    """Once, however many there are, and as long as one of them has not ended."""
    for blade, host, status in (
        ("ended", "node-8", "bye"),
        ("right", "node-1", "up"),
        ("scraper-1", "machine", "lost"),
        ("scraper-2", "machine", "up"),
        ("scraper-3", "machine", "up"),
    ):
        presence = f"shardlog/presence/{blade}/{blade}@{host}:boot:7:1:x"
        server.write(f"{presence}/host", host, "node-1@replica-1")
        server.write(f"{presence}/heard", time.time_ns(), "node-1@replica-1")
        server.write(f"{presence}/status", status, "node-1@replica-1")
    code, findings = check("--connect", server.url)

    assert code == 1
    assert {subject: found for subject, found in findings.items() if "host" in subject} == {
        "host machine": (
            "wrong",
            "scraper-2 says that it runs there, but the collector that hears it is called node-1; "
            "give blades their collector's name, as SHARDLOG_HOST=node-1",
        )
    }


def test_check_cannot_tell_where_no_host_is_heard(server: Server) -> None:
    """An aggregator that nobody sends to is no cluster that is fine."""
    server.hosts = []
    code, findings = check("--connect", server.url)

    assert code == 3
    assert findings["monitors"] == (
        "unreachable",
        f"{server.url} serves no host: no collector sends there",
    )


def test_check_asks_the_collector_of_the_file(server: Server, tmp_path: Path) -> None:
    """Where it listens is where blades are heard, unless they are told to send elsewhere."""
    file = tmp_path / "shardlog.toml"
    file.write_text(f"[collect]\nlisten = 'ipc://{tmp_path}/c.sock'\n")
    code, findings = check("--connect", server.url, "--config", str(file))

    assert code == 3
    assert findings[f"collector ipc://{tmp_path}/c.sock"][0] == "unreachable"


def test_check_looks_at_all_addresses_of_the_file(server: Server, tmp_path: Path) -> None:
    """Each of a wrong form is a finding, and nobody is looked for there."""
    file = tmp_path / "shardlog.toml"
    file.write_text(
        "[collect]\nto = 'to'\nserve = 'serve'\n"
        "[aggregate]\nto = ['tcp://127.0.0.1:7400', 'above']\npeer = 'twin'\n"
        "[monitor]\nconnect = 'connect'\n"
    )
    code, findings = check("--config", str(file))

    assert code == 1
    assert {subject: says.split()[0] for subject, (_, says) in findings.items()} == {
        "versions": "shardlog",
        "configuration": str(file),
        "[collect] to": "'to'",
        "[collect] serve": "'serve'",
        "[aggregate] to": "'above'",
        "[aggregate] peer": "'twin'",
        "[monitor] connect": "'connect'",
        "collector": "none",
    }
    assert check("--config", str(file), "--connect", server.url)[1]["monitors"][0] == "fine"


def test_check_tells_whether_those_above_an_aggregator_and_its_twins_listen(
    server: Server, tmp_path: Path
) -> None:
    """As it does of those that a collector sends to; one that both name is asked once."""
    file = tmp_path / "shardlog.toml"
    to, above, twin = (free_pair() for _ in range(3))
    file.write_text(
        f"[collect]\nto = '{to}'\n[aggregate]\nto = ['{to}', '{above}']\n"
        f"peer = ['{twin}', '{server.url}']\n"
    )
    result = run("check", "--json", "--connect", server.url, "--config", str(file))
    found = [(f["subject"], f["status"]) for f in json.loads(result.stdout)]

    assert result.exit_code == 3
    assert [finding for finding in found if "tcp" in finding[0]] == [
        (f"aggregator {to}", "unreachable"),
        (f"aggregator {above}", "unreachable"),
        (f"twin {twin}", "unreachable"),
        (f"twin {server.url}", "fine"),
    ]


def test_check_judges_an_address_by_the_table_that_needs_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SHARDLOG_TO is in two tables: where collectors may use it, no aggregator has to."""
    monkeypatch.setattr("shardlog.cli.check.TIMEOUT_S", 0.05)
    monkeypatch.setenv("SHARDLOG_TO", "tcp://0.0.0.0:1")
    file = tmp_path / "shardlog.toml"
    file.write_text("[collect]\ninsecure = true\n")
    _, findings = check("--connect", server.url, "--config", str(file))

    assert findings["aggregator tcp://0.0.0.0:1"][0] == "unreachable"
    assert "[aggregate] to" not in findings


def test_check_of_a_socket_in_a_folder_that_it_may_not_enter(
    server: Server, monkeypatch: pytest.MonkeyPatch, closed_folder: Path
) -> None:
    """By default or by name: permission is denied, and nobody says that no collector is there."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(closed_folder))
    default = f"ipc://{closed_folder}/shardlog/collector.sock"
    _, findings = check("--connect", server.url)
    assert findings[f"collector {default}"] == ("unreachable", "Permission denied")

    monkeypatch.setenv("SHARDLOG_ENDPOINT", other := f"ipc://{closed_folder}/a/b.sock")
    _, findings = check("--connect", server.url)
    assert findings[f"collector {other}"] == ("unreachable", "Permission denied")


def test_check_of_a_broken_file_says_so(tmp_path: Path) -> None:
    """As a finding: exit 1, and nothing else is looked at."""
    file = tmp_path / "shardlog.toml"
    file.write_text("[monitor]\nconect = 'x'\n")
    code, findings = check("--config", str(file))

    assert code == 1
    assert findings["configuration"] == (
        "wrong",
        f"{file}: [monitor] has no key 'conect'; the keys are connect, expected",
    )


def test_check_exits_3_where_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of those who are named: the collector, the aggregators, and who serves monitors."""
    monkeypatch.setattr("shardlog.cli.check.TIMEOUT_S", 0.05)
    monkeypatch.setenv("SHARDLOG_ENDPOINT", f"ipc://{tmp_path}/c.sock")
    monkeypatch.setenv("SHARDLOG_TO", free_pair())
    code, findings = check("--connect", free_pair())

    assert code == 3
    assert sorted(status for status, _ in findings.values()) == [
        "fine",
        "fine",
        "unreachable",
        "unreachable",
        "unreachable",
    ]


def test_check_prints_a_line_each_for_people(server: Server) -> None:
    """The status first."""
    lines = run("check", "--connect", server.url).stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["fine"] * 4
