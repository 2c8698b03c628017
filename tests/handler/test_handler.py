"""The handler within one process: what arrives, and that a log call neither waits nor raises."""

from __future__ import annotations

import contextlib
import gc
import logging
import logging.config
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from shardlog.crdt import counter
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.life import LIFE, life_folder, life_name
from shardlog.crdt.wire import codec
from shardlog.handler import ShardHandler, connection, count, erase, shell
from shardlog.handler import link as link_module
from shardlog.handler.errors import ErrorBook
from shardlog.handler.link import GATHER_SHARDS, Link
from shardlog.handler.outbox import Outbox
from shardlog.handler.scrub import Scrub
from shardlog.handler.shard import Shard, ShardReader
from tests.helpers import WAIT_S, free_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shardlog.crdt.delta import Value
    from shardlog.crdt.replication.messages import Report


class Puller:
    """What a collector's socket receives, in a thread, once it has begun.

    It acknowledges what is a process's last, which then need not wait for that any longer.
    """

    def __init__(self, endpoint: str, reports_max: int = 100) -> None:
        self.reports: list[Report] = []
        self._folder = life_folder(endpoint)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, reports_max)
        self._socket.bind(endpoint)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def begin(self) -> Puller:
        """Receive from now on."""
        self._thread.start()
        return self

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"never came true; {len(self.reports)} reports"
            time.sleep(0.01)

    def until_final(self) -> None:
        """Wait until a process has said its last."""
        self.until(lambda: any(report.final for report in self.reports))

    def total(self, path: str) -> int | float:
        """The sum of all processes' newest totals at a path."""
        newest = {
            (report.process, total.generation): total.amount
            for report in self.reports
            for total in report.totals
            if total.path == path
        }
        return sum(map(counter.value, newest.values()))

    def value(self, path: str) -> Value:
        """The newest write at a path."""
        writes = [write for report in self.reports for write in report.writes if write.path == path]
        return max(writes, key=lambda write: write.stamp).value if writes else None

    def close(self) -> None:
        """Close all."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._is_over.is_set():
            if not self._socket.poll(20):
                continue
            report = codec.decode_report(self._socket.recv())
            if report.final and self._folder is not None:
                name = f"{self._folder}/{life_name(report.process)}{LIFE}"
                with open(name, "r+b", buffering=0) as life:  # noqa: PTH123
                    life.write(report.sequence.to_bytes(8, "big"))
            self.reports.append(report)


@pytest.fixture
def patient() -> Iterator[None]:
    """A handler waits as long as it takes, at its flush and its end, for a thread held up."""
    with pytest.MonkeyPatch.context() as patch:
        patience_ns = dict.fromkeys(shell.CLOSE_PATIENCE_NS, 10 * shell.SECOND)
        patch.setattr(shell, "CLOSE_PATIENCE_NS", patience_ns)
        patch.setattr(shell, "LINGER_MS", 10_000)
        patch.setattr(link_module, "CLOSE_SECONDS", WAIT_S)
        patch.setattr(link_module, "FLUSH_SECONDS", WAIT_S)
        yield


@pytest.fixture
def puller(patient: None) -> Iterator[Puller]:
    """A collector's socket. Its folder has a short path, as a socket's must."""
    with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
        puller = Puller(f"ipc://{folder}/c.sock").begin()
        yield puller
        puller.close()


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of its own, whose handlers are closed at the end."""
    logger = logging.Logger("blade", logging.INFO)  # noqa: LOG001 - nobody else is to hear it
    yield logger
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "BLADE", "CONFIG"):
        monkeypatch.delenv(f"SHARDLOG_{name}", raising=False)


def nowhere() -> str:
    """An address where nobody listens."""
    return "ipc:///nonexistent/shardlog.sock"


def idle_link() -> Link:
    """A link whose thread takes nothing."""
    untie = ShardReader("b").untie
    errors = ErrorBook("node", "b", Scrub())
    return Link(nowhere(), lambda _: Outbox("p", "b", {}), untie, errors, run=lambda link: None)


def test_what_is_logged_arrives(puller: Puller, log: logging.Logger) -> None:
    """Message, extras and counts of a log call are in a report; at the end comes bye."""
    handler = ShardHandler(puller.endpoint, "scraper-1")
    log.addHandler(handler)
    log.info("asked %s", "twice", extra={"intents": {"42": {"host": "h", "tries": count(2)}}})
    log.info("gone", extra={"intents": {"41": erase}})
    handler.close()
    puller.until_final()

    assert puller.value("scraper-1/msg") == "gone"
    assert puller.value("intents/42/host") == "h"
    assert puller.total("intents/42/tries") == 2
    assert [e.path for report in puller.reports for e in report.erases] == ["intents/41"]
    process = puller.reports[0].process
    assert puller.value(f"shardlog/presence/scraper-1/{process}/status") == "bye"
    assert puller.value(f"shardlog/presence/scraper-1/{process}/pid") == os.getpid()


def test_what_is_logged_arrives_without_close(puller: Puller, log: logging.Logger) -> None:
    """A log call is sent at once, and again what comes while the first is under way."""
    log.addHandler(ShardHandler(puller.endpoint, "b"))
    log.info("hello", extra={"n": count()})
    puller.until(lambda: puller.total("n") == 1)
    for _ in range(5):
        log.info("hello", extra={"n": count()})
    puller.until(lambda: puller.total("n") == 6)


def test_heartbeats_say_that_an_idle_process_lives(puller: Puller, log: logging.Logger) -> None:
    """A process that logs nothing any more goes on reporting."""
    log.addHandler(ShardHandler(puller.endpoint, "b"))
    log.info("hello")
    puller.until(lambda: len(puller.reports) >= 3)

    assert not puller.reports[2].writes


def test_collector_that_comes_back_gets_all_again(puller: Puller, log: logging.Logger) -> None:
    """After a break come totals, what was written lately, and that the process is up."""
    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)
    log.info("hello", extra={"n": count(3), "key": "value"})
    puller.until(lambda: puller.total("n") == 3)
    puller.close()
    returned = Puller(puller.endpoint).begin()
    returned.until(lambda: returned.total("n") == 3 and returned.value("key") == "value")
    process = returned.reports[0].process

    assert returned.value(f"shardlog/presence/b/{process}/status") == "up"
    handler.close()
    returned.close()


@pytest.mark.usefixtures("patient")
def test_collector_that_is_slow_gets_all_in_the_end(log: logging.Logger) -> None:
    """What ZeroMQ does not take waits in the outbox, and goes when there is room again."""
    puller = Puller(free_pair(), reports_max=1)
    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)
    for number in range(300):  # 18 MB, of which its queue and the kernel's take a part
        log.info("hello", extra={"big": {str(number): "x" * 60_000}, "n": count()})
    time.sleep(0.3)
    link = handler.link
    assert link is not None
    assert link.outbox.has_unsent()
    puller.begin()
    puller.until(lambda: puller.total("n") == 300 and not link.outbox.has_unsent())
    handler.close()
    puller.until_final()

    paths = {write.path for report in puller.reports for write in report.writes}
    assert {f"big/{number}" for number in range(300)} <= paths
    puller.close()


def test_threads_share_the_totals(puller: Puller, log: logging.Logger) -> None:
    """Nothing is lost between threads that log at once, and they are one process."""
    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)

    def work() -> None:
        for _ in range(500):
            log.info("hello", extra={"n": count()})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.close()
    puller.until_final()

    assert puller.total("n") == 4000
    assert len({report.process for report in puller.reports}) == 1


def test_flush_hands_over_what_was_logged(puller: Puller, log: logging.Logger) -> None:
    """After flush all is on its way; a process may then be killed."""
    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)
    log.info("hello", extra={"n": count()})
    puller.until(lambda: puller.total("n") == 1)
    for _ in range(300):
        log.info("hello", extra={"n": count()})
    handler.flush()
    link = handler.link

    assert link is not None
    assert not link.shards
    assert not link.outbox.has_unsent()


def test_own_loggers_are_left_out(puller: Puller) -> None:
    """What shardlog itself logs in the process never becomes a shard: it might go round."""
    handler = ShardHandler(puller.endpoint, "b")
    for name in ("shardlog", "shardlog.monitor"):
        handler.handle(logging.LogRecord(name, logging.ERROR, "f", 1, "own", (), None))
    handler.handle(logging.LogRecord("shardlogger", logging.ERROR, "f", 1, "else", (), None))
    handler.close()
    puller.until_final()

    messages = [w.value for r in puller.reports for w in r.writes if w.path == "b/msg"]
    assert messages == ["else"]


def test_filters_and_level_are_those_of_logging(puller: Puller, log: logging.Logger) -> None:
    """A filter may drop a record and, since Python 3.12, replace it; the handler has a level."""
    handler = ShardHandler(puller.endpoint, "b", level="WARNING")
    replaced = logging.LogRecord("blade", logging.ERROR, "f", 1, "replaced", (), None)

    def choose(record: logging.LogRecord) -> Any:
        return {"drop": False, "replace": replaced}.get(str(record.msg), True)

    handler.addFilter(choose)
    log.addHandler(handler)
    log.info("below the level")
    log.error("replace")
    log.error("drop")
    handler.close()
    puller.until_final()

    expected = "replaced" if sys.version_info >= (3, 12) else "replace"
    assert puller.value("b/msg") == expected


def test_log_call_within_a_log_call_arrives(puller: Puller, log: logging.Logger) -> None:
    """An object whose text logs is logged, and so is what it logs; one that never ends is cut."""

    class Talkative:
        def __str__(self) -> str:
            log.info("from within", extra={"inner": count()})
            return "talkative"

    class Endless:
        def __str__(self) -> str:
            log.info("%s", self, extra={"endless": count()})
            return "endless"

    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)
    log.info("%s", Talkative(), extra={"outer": count()})
    log.info("%s", Endless())
    handler.close()
    puller.until_final()

    assert puller.total("inner") == 1
    assert puller.total("outer") == 1
    assert 1 <= puller.total("endless") < 100
    assert puller.total("shardlog/health/blade/b/refused/nested") > 0


def test_nothing_is_raised_into_the_caller(
    puller: Puller, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong within the handler is counted, also near the end of the stack."""
    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)
    log.info("hello")

    def fail(link: Link, encoded: bytes) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(Link, "put_small", fail)
    log.info("lost")
    handler.close()
    puller.until_final()

    assert puller.total("shardlog/health/blade/b/refused/internal") == 1


def test_no_thread_before_the_first_record() -> None:
    """Neither the import nor the constructor starts anything; a close at once has nothing to do."""
    script = (
        "import os; from shardlog.handler import ShardHandler\n"
        "handler = ShardHandler('ipc:///nonexistent/c.sock', 'b')\n"
        "print(len(os.listdir('/proc/self/task')))\n"
        "handler.close()\n"
        "print(len(os.listdir('/proc/self/task')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["1", "1"]


def test_after_close_records_are_refused(puller: Puller, log: logging.Logger) -> None:
    """Close may be repeated; what is logged later is refused in silence, flush does not wait."""
    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)
    log.info("hello", extra={"n": count()})
    handler.close()
    log.info("late", extra={"n": count()})
    handler.flush()
    handler.close()
    puller.until_final()
    link = handler.link

    assert puller.total("n") == 1
    assert link is not None
    assert link.take_refused() == 1


def test_close_before_the_first_record_is_final_too(log: logging.Logger) -> None:
    """A closed handler that gets its first record starts nothing."""
    handler = ShardHandler(nowhere(), "b")
    log.addHandler(handler)
    handler.close()
    log.info("late")
    link = handler.link

    assert link is not None
    assert not link.shards
    assert link.take_refused() == 1


def test_handler_that_nobody_closed_ends_with_its_last_reference(puller: Puller) -> None:
    """Its thread sends what is left, says bye and ends."""
    gc.freeze()  # of all that other tests left a collection would hold up the thread too long
    handler = ShardHandler(puller.endpoint, "b")
    handler.handle(logging.LogRecord("blade", logging.ERROR, "f", 1, "last", (), None))
    del handler
    gc.collect()
    gc.unfreeze()
    puller.until_final()

    assert puller.value("b/msg") == "last"


def test_there_is_no_lock() -> None:
    """What `logging` locks around other handlers is not there for this one."""
    handler = ShardHandler(nowhere(), "b")

    assert handler.lock is None
    handler.acquire()
    handler.acquire()


def test_without_a_thread_close_sends_itself(
    puller: Puller, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is too late to start a thread, as at the interpreter's end, nothing is lost."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    handler = ShardHandler(puller.endpoint, "b")
    log.addHandler(handler)
    for _ in range(10):
        log.info("hello", extra={"n": count()})
    handler.close()
    puller.until_final()

    assert puller.total("n") == 10


def test_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the thread does not come round to it, shards beyond the limit are refused, exactly
    counted also between threads.
    """
    monkeypatch.setattr(link_module, "SHARDS_MAX", 100)
    link = idle_link()

    def work() -> None:
        for _ in range(1000):
            link.put(Shard(1, [], [], [], {}, 0), 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    refused = link.take_refused()
    assert len(link.shards) + refused == 4000
    assert 100 <= len(link.shards) <= 104
    assert link.take_refused() == 0


def put_shard(link: Link) -> None:
    """As a log call that is read in the call."""
    link.put(Shard(1, [], [], [], {}, 0), 0)


def put_encoded(link: Link) -> None:
    """As a log call that is only encoded."""
    link.put_small(b"encoded")


PUTS = pytest.mark.parametrize("put", [put_shard, put_encoded])


@PUTS
def test_many_shards_wake_the_thread(put: Callable[[Link], None]) -> None:
    """While it lets them gather each alone does not, but so many do."""
    woken = threading.Event()
    link = gathering_link(woken)

    for _ in range(GATHER_SHARDS):
        put(link)
    assert not woken.is_set()
    put(link)
    assert woken.wait(WAIT_S)


@PUTS
def test_thread_that_goes_to_rest_meanwhile_is_woken(
    put: Callable[[Link], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes just after it looked for the last time is not left until it wakes by itself."""
    woken = threading.Event()
    link = gathering_link(woken)

    class Late(deque[Any]):
        def append(self, shard: Any) -> None:
            monkeypatch.setattr(link, "_is_idle", True)
            super().append(shard)

    link.shards = Late()
    put(link)
    assert woken.wait(WAIT_S)


@PUTS
def test_closed_link_refuses(put: Callable[[Link], None]) -> None:
    """What comes after the end is counted as refused, and not kept."""
    link = idle_link()
    link.end()
    put(link)

    assert not link.shards
    assert link.take_refused() == 1


def gathering_link(woken: threading.Event) -> Link:
    """A link whose thread lets shards gather."""
    untie = ShardReader("b").untie
    errors = ErrorBook("node", "b", Scrub())
    link = Link(nowhere(), lambda _: Outbox("p", "b", {}), untie, errors, lambda _: woken.set())
    link.rest(0, idle=False)
    return link


def test_queue_is_bounded_in_bytes_too() -> None:
    """Long values fill it before their number does; the thread makes room."""
    link = idle_link()
    large = Shard(1, [("a", "x" * 1000)], [], [], {}, 0)

    for _ in range(100):
        link.put(large, 1 << 20)

    assert len(link.shards) == 64
    assert len(list(link.take_shards(hurry=True))) == 64
    link.put(large, 1 << 20)
    assert len(link.shards) == 1


def test_bytes_of_a_shard_are_about_what_its_paths_and_values_take() -> None:
    """The message counts, and so do values that are cut."""
    reader = ShardReader("blade")
    record = logging.makeLogRecord({"name": "x", "msg": "m" * 5000, "text": "t" * 100_000})

    assert 5000 + 65_536 < reader.read(record, 1).bytes < 72_000


def test_a_handler_that_could_not_be_made_is_unknown_to_logging() -> None:
    """A wrong address raises, and what of the handler is left does not disturb the shutdown."""
    program = """if True:
        import logging, shardlog.handler
        try:
            shardlog.handler.ShardHandler("nonsense")
        except Exception as error:
            kept = error
        """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_blade_whose_name_is_not_utf_8_is_heard() -> None:
    """Lone surrogates, as undecodable environment variables have them, are replaced."""
    handler = ShardHandler(nowhere(), "a\udc80b")

    assert handler.blade == "a\ufffdb"
    handler.close()


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Who made the folder first could listen in it: said in one line."""
    if os.getuid() != 0:
        pytest.skip("only root can make a folder that belongs to another user")
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        ShardHandler(f"ipc://{tmp_path}/c.sock")


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
@pytest.mark.usefixtures("patient")
def test_close_tries_once_more_whenever_the_next_try_was_due(
    scheme: str, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that came back meanwhile gets all, though the pause between two tries is long."""

    def options(endpoint: str) -> dict[int, int]:
        return {zmq.SNDHWM: 4, zmq.LINGER: 0, zmq.RECONNECT_IVL: 60_000}

    monkeypatch.setattr(connection, "options", options)
    with tempfile.TemporaryDirectory(prefix="shardlog-") as folder:
        endpoint = f"ipc://{folder}/c.sock" if scheme == "ipc" else free_pair()
        handler = ShardHandler(endpoint, "b")
        log.addHandler(handler)
        log.info("hello", extra={"n": count()})
        time.sleep(0.2)  # the first try fails
        with contextlib.closing(Puller(endpoint).begin()) as puller:
            handler.close()
            puller.until_final()
            assert puller.total("n") == 1


def test_socket_that_fails_is_opened_again(
    puller: Puller, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ZeroMQ raises, the thread counts it, begins again and loses nothing."""
    connect: Callable[[Any, str], object] = zmq.Socket[bytes].connect
    failures: list[str] = []

    def fail_once(socket: Any, address: str) -> object:
        if address == puller.endpoint and not failures:
            failures.append(address)
            raise zmq.ZMQError(zmq.ENOTSUP)
        return connect(socket, address)

    monkeypatch.setattr(zmq.Socket, "connect", fail_once)
    log.addHandler(ShardHandler(puller.endpoint, "b"))
    log.info("hello", extra={"n": count(4)})
    puller.until(lambda: puller.total("n") == 4)

    assert failures == [puller.endpoint]
    assert puller.total("shardlog/health/blade/b/refused/internal") == 1


def test_dict_config_makes_a_handler_and_twice_is_fine(puller: Puller, log: logging.Logger) -> None:
    """Plain values configure it; the second run closes the first handler, and nothing is lost."""
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "cluster": {
                "class": "shardlog.handler.ShardHandler",
                "endpoint": puller.endpoint,
                "blade": "b",
                "loggers": ["tests.blade"],
            }
        },
        "loggers": {"tests.blade": {"level": "INFO", "handlers": ["cluster"], "propagate": False}},
    }
    logger = logging.getLogger("tests.blade")
    for _ in range(2):
        logging.config.dictConfig(config)
        logger.info("hello", extra={"n": count()})
    (handler,) = logger.handlers
    logger.removeHandler(handler)
    handler.close()
    puller.until(lambda: sum(report.final for report in puller.reports) == 2)

    assert puller.total("n") == 2


def test_settings_come_from_argument_variable_file_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each overrides those behind it; an empty one counts as unset."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    for name in ("ENDPOINT", "BLADE", "VERSION", "HOST", "CONFIG"):
        monkeypatch.setenv(f"SHARDLOG_{name}", "")
    default = ShardHandler("", "")
    assert default.endpoint == "ipc:///run/user/1/shardlog/collector.sock"
    assert default.blade == os.uname().nodename

    file = tmp_path / "shardlog.toml"
    file.write_text(
        '[handler]\nendpoint = "ipc:///file.sock"\nblade = "file"\nloggers = ["scraper"]\n'
    )
    monkeypatch.setenv("SHARDLOG_CONFIG", str(file))
    by_file = ShardHandler()
    assert (by_file.endpoint, by_file.blade) == ("ipc:///file.sock", "file")

    monkeypatch.setenv("SHARDLOG_ENDPOINT", "ipc:///variable.sock")
    monkeypatch.setenv("SHARDLOG_BLADE", "variable")
    by_variable = ShardHandler()
    assert (by_variable.endpoint, by_variable.blade) == ("ipc:///variable.sock", "variable")

    by_argument = ShardHandler("ipc:///argument.sock", "argument")
    assert (by_argument.endpoint, by_argument.blade) == ("ipc:///argument.sock", "argument")


def test_default_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged before any collector has started has a place to wait in."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for _ in range(2):
        ShardHandler()

    assert (tmp_path / "shardlog").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("endpoint", "blade", "file"),
    [
        ("tcp://10.0.0.1:7400", "b", None),
        ("nowhere", "b", None),
        ("ipc:///c.sock", "shardlog", None),
        ("ipc:///c.sock", "~", None),
        ("ipc:///c.sock", "b", "[handler]\ncolour = 1\n"),
        ("ipc:///c.sock", "b", ""),
    ],
)
def test_unusable_settings_are_refused_at_construction(
    endpoint: str,
    blade: str,
    file: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong address, name or file is an error where it is configured, not a silence later."""
    if file is not None:
        path = tmp_path / "shardlog.toml"
        if file:
            path.write_text(file)
        monkeypatch.setenv("SHARDLOG_CONFIG", str(path))

    with pytest.raises(ConfigError):
        ShardHandler(endpoint, blade)


def test_network_is_allowed_where_it_is_said_to_be_trusted() -> None:
    """`insecure` says so."""
    handler = ShardHandler("tcp://10.0.0.1:7400", "b", insecure=True)

    assert handler.endpoint == "tcp://10.0.0.1:7400"


@pytest.mark.usefixtures("patient")
def test_tcp_endpoint(log: logging.Logger) -> None:
    """A blade reaches its collector over tcp as well."""
    with contextlib.closing(Puller("tcp://127.0.0.1:*").begin()) as puller:
        handler = ShardHandler(puller.endpoint, "b")
        log.addHandler(handler)
        log.info("hello", extra={"n": count()})
        handler.close()
        puller.until_final()

        assert puller.total("n") == 1
