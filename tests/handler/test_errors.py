"""Errors of one process: what of them is sent, whatever they are."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from shardlog.handler import ShardHandler, log_uncaught
from shardlog.handler.errors import (
    GROUPS_MAX,
    SAMPLE_BYTES_MAX,
    SAMPLES_AT_ONCE,
    TOLD_AT_ONCE,
    TOLD_NS,
    ErrorBook,
)
from shardlog.handler.occurrence import (
    EXCEPTIONS_MAX,
    FRAMES_HEAD,
    FRAMES_TAIL,
    Occurrence,
    is_error,
    occurrence_of,
)
from shardlog.handler.scrub import Scrub
from shardlog.handler.shard import ShardReader
from tests.handler.test_handler import Puller, log, patient, puller

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.handler.shard import Shard

__all__ = ["log", "patient", "puller"]  # fixtures

SECOND = 10**9
NOW = 1_764_063_000 * SECOND
PROCESS = "scraper-1@node-1:boot:7:1:x"

Tree = dict[str, dict[str, Any]]


def book() -> ErrorBook:
    return ErrorBook("node-1", "scraper-1", Scrub())


def record(
    error: BaseException | None = None, message: str = "failed", *arguments: object, **extra: Any
) -> logging.LogRecord:
    logger = logging.Logger("blade")  # noqa: LOG001 - nobody is to hear it
    info = None if error is None else (type(error), error, error.__traceback__)
    return logger.makeRecord(
        "blade", logging.ERROR, "/app/pages.py", 7, message, arguments, info, "fetch", extra
    )


def read(made: logging.LogRecord, now_ns: int = NOW) -> Occurrence:
    shard = ShardReader("scraper-1").read(made, now_ns)
    return occurrence_of(made, shard)


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def groups(*shards: Shard) -> Tree:
    """What was said of each group, by the path below it; counts are added up."""
    found: Tree = {}
    for shard in shards:
        for path, value in [*shard.writes, *shard.counts]:
            if path.startswith("shardlog/errors/"):
                _, _, name, rest = path.split("/", 3)
                said = found.setdefault(name, {})
                is_count = (path, value) in shard.counts
                said[rest] = said.get(rest, 0) + value if is_count else value
    return found


def told(*errors: BaseException | None) -> Tree:
    """What is said of these errors, one after the other."""
    said = book()
    for error in errors:
        said.note(read(record(error)), PROCESS)
    return groups(*said.take(NOW, hurry=True))


def newest(said: dict[str, Any]) -> Any:
    """The newest sample of a group."""
    lasts = [value for key, value in said.items() if key.startswith("samples/last-")]
    return max(lasts, key=lambda sample: (sample[0], sample[3]))


def fetch() -> NoReturn:
    raise ValueError("page 7")


def test_an_error_is_counted_where_it_was_and_when_and_shown_in_full() -> None:
    """One group, with counts by host, time and version, its kind, and a sample."""
    error = raised(fetch)
    found = told(error, error)

    [said] = found.values()
    assert said["count/node-1/scraper-1"] == 2
    assert said["recent/2025-11-25T09:30"] == 2
    assert said["hours/2025-11-25T09/unknown"] == 2
    assert said["last/node-1/scraper-1"] == NOW
    assert said["about/type"] == "ValueError"
    assert said["about/message"] == "page 7"
    assert said["about/culprit"] == f"{__name__}:fetch"
    assert said["about/why"].startswith("ValueError in ")
    at_ns, process, version, text = newest(said)
    assert (at_ns, process, version) == (NOW, PROCESS, "unknown")
    assert text.startswith("ERROR blade: failed\nTraceback (most recent call last):\n")
    assert 'raise ValueError("page 7")' in text
    assert text.endswith("ValueError: page 7")


def test_errors_and_exceptions_are_what_is_reported() -> None:
    """A record of a lower level is if it has an exception, and no other is."""
    plain = record()
    plain.levelno = logging.WARNING
    caught = record(ValueError())
    caught.levelno = logging.INFO
    empty = record()
    empty.levelno, empty.exc_info = logging.INFO, (None, None, None)

    level = record()
    level.levelno = IntEnum("Level", {"BAD": 45}).BAD  # type: ignore[attr-defined]

    assert [is_error(made) for made in (record(), level, plain, caught, empty)] == [
        True,
        True,
        False,
        True,
        False,
    ]


class RaisingText(Exception):
    def __str__(self) -> str:
        raise KeyError


class Lying(Exception):
    """Everything that may be overridden, is."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class NoText(Exception):
    def __str__(self) -> Any:
        return 7


def cycle() -> NoReturn:
    one, other = ValueError("one"), KeyError("other")
    one.__context__, other.__cause__ = other, one
    raise one


def long_chain() -> NoReturn:
    error: Exception | None = None
    for n in range(3000):
        following = ValueError(str(n))
        following.__cause__ = error
        error = following
    assert error is not None
    raise error


def self_containing() -> NoReturn:
    inner: list[Exception] = [KeyError("inner")]
    group = ExceptionGroup("group", inner)
    inner[0].__cause__ = group
    raise group


def wide() -> NoReturn:
    error: Exception = KeyError()
    for n in range(30):
        members: list[Exception] = [error, *(ValueError(str(i)) for i in range(50))]
        error = ExceptionGroup(f"level {n}", members)
    raise error


def recursion(depth: int = 0) -> int:
    return recursion(depth + 1)


def surrogate() -> NoReturn:
    raise ValueError("lone \ud800 surrogate")


def huge() -> NoReturn:
    raise ValueError("x" * 10_000_000)


def huge_list() -> NoReturn:
    raise ValueError([0] * 10_000_000)


def hostile_class() -> NoReturn:
    class Meta(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise ValueError

    class Odd(Exception, metaclass=Meta):
        pass

    raise Odd


def syntax() -> None:
    compile("x = = 1", "/app/plugins/broken.py", "exec")


def odd_syntax() -> None:
    error = SyntaxError("odd")
    error.filename, error.lineno, error.text = 7, "x", b"y"  # type: ignore[assignment]
    raise error


def ends() -> NoReturn:
    sys.exit(3)


def noted() -> NoReturn:
    error = ValueError("noted")
    error.__notes__ = ["a note", 7, "another"]  # type: ignore[list-item]
    raise error


def device() -> None:
    exec(compile("raise OSError('endless')", "/dev/zero", "exec"))


HOSTILE: list[Callable[[], object]] = [
    lambda: (_ for _ in ()).throw(RaisingText()),
    lambda: (_ for _ in ()).throw(Lying()),
    lambda: (_ for _ in ()).throw(NoText()),
    cycle,
    long_chain,
    self_containing,
    wide,
    recursion,
    surrogate,
    huge,
    huge_list,
    hostile_class,
    syntax,
    odd_syntax,
    ends,
    noted,
    device,
]


@pytest.mark.parametrize("function", HOSTILE, ids=lambda function: function.__name__)
def test_any_exception_is_counted_once_and_shown_within_bounds(
    function: Callable[[], object],
) -> None:
    """Whatever it does when it is asked what it is."""
    error = raised(function)
    made = record()
    made.exc_info = (type(error), error, BaseException.__dict__["__traceback__"].__get__(error))
    said = book()
    said.note(read(made), PROCESS)
    [found] = groups(*said.take(NOW, hurry=True)).values()

    assert found["count/node-1/scraper-1"] == 1
    assert found["about/why"]
    text = newest(found)[3]
    assert len(text.encode()) <= SAMPLE_BYTES_MAX


def test_what_has_no_text_says_why() -> None:
    """And shows nothing else that is not so."""
    [said] = told(raised(HOSTILE[0])).values()

    assert said["about/message"] == "<str() raised builtins.KeyError>"


def test_chain_and_group_are_shown_as_python_does() -> None:
    """The cause comes first; members are numbered."""

    def chained() -> None:
        try:
            fetch()
        except ValueError as error:
            raise ExceptionGroup("several", [error, OSError("disk")]) from error

    [said] = told(raised(chained)).values()
    text = newest(said)[3]

    assert text.index("direct cause") < text.index("ExceptionGroup: several")
    assert "---------------- 2 ----------------\n  | OSError: disk" in text


def test_broken_file_tells_syntax_errors_apart() -> None:
    """Who imports it does not: all plugins are imported by one function."""
    errors = [
        raised(lambda name=name: compile("x = = 1", name, "exec"))  # type: ignore[misc]
        for name in ("/app/a.py", "/app/b.py", "/other/a.py")
    ]

    assert len(told(*errors)) == 2


def test_recursion_is_one_group_at_any_depth() -> None:
    """And what is kept of it is bounded."""

    def deeper(n: int) -> None:
        if n:
            deeper(n - 1)
        else:
            recursion()

    errors = [raised(lambda n=n: deeper(n)) for n in (1, 5, 9)]  # type: ignore[misc]

    assert len(told(*errors)) == 1
    [first, *_] = read(record(errors[0])).chain
    assert len(first.frames) == FRAMES_HEAD + FRAMES_TAIL
    assert first.cut > 500


def test_exceptions_that_are_read_are_bounded() -> None:
    """However many there are in groups of groups."""

    def number(chain: list[Any]) -> int:
        return sum(1 + sum(map(number, each.members)) for each in chain)

    assert number(read(record(raised(wide))).chain) <= EXCEPTIONS_MAX


def test_two_types_in_one_function_are_two_groups() -> None:
    """And one type at two lines of it is one."""

    def either(n: int) -> None:
        if n == 0:
            raise ValueError
        if n == 1:
            raise KeyError
        raise ValueError

    errors = [raised(lambda n=n: either(n)) for n in (0, 1, 2)]  # type: ignore[misc]

    assert sorted(said["about/type"] for said in told(*errors).values()) == [
        "KeyError",
        "ValueError",
    ]


def test_log_call_names_its_group() -> None:
    """From any logger; and that is no shard."""
    said = book()
    one = said.note(read(record(raised(fetch), fingerprint=["quota", 7], page=1)), PROCESS)
    said.note(read(record(KeyError(), fingerprint=("quota", "7"))), PROCESS)
    [found] = groups(*said.take(NOW, hurry=True)).values()

    assert found["count/node-1/scraper-1"] == 2
    assert found["about/why"] == "as the log call says: quota, 7"
    assert [path for path, _ in one.writes] == ["scraper-1/msg", "page"]


def test_errors_without_exception_go_by_their_template() -> None:
    """With the arguments put in it is another message each time."""
    said = book()
    for n in range(5):
        said.note(read(record(None, "page %s failed", n)), PROCESS)
    [found] = groups(*said.take(NOW, hurry=True)).values()

    assert found["count/node-1/scraper-1"] == 5
    assert found["about/message"] == "page 0 failed"
    assert newest(found)[3] == "ERROR blade: page 2 failed"


def test_more_groups_than_may_be_are_one() -> None:
    """Every error is counted, in its group or in `overflow`."""
    said = book()
    number = GROUPS_MAX + 500
    for n in range(number):
        said.note(read(record(None, f"kind {n} %s", n)), PROCESS)
    found = groups(*said.take(NOW, hurry=True))

    assert len(found) == GROUPS_MAX + 1
    assert found["overflow"]["count/node-1/scraper-1"] == 500
    assert sum(each["count/node-1/scraper-1"] for each in found.values()) == number
    samples = {n for each in found.values() for n in each if n.startswith("samples/")}
    assert samples
    assert sum(n.startswith("samples/last") for each in found.values() for n in each) == (
        SAMPLES_AT_ONCE
    )


def test_group_that_was_quiet_gives_way() -> None:
    """After an hour, so that what is new is seen on its own."""
    said = book()
    for n in range(GROUPS_MAX):
        said.note(read(record(None, f"kind {n} %s", n)), PROCESS)
    said.note(read(record(None, "new %s", 1), NOW + 3601 * SECOND), PROCESS)
    found = groups(*said.take(NOW, hurry=True))

    assert "overflow" not in found
    assert len(found) == GROUPS_MAX + 1


def test_many_groups_are_told_of_one_after_the_other() -> None:
    """Those that wait longest come first; and all where there is no time left."""
    said = book()

    def told_of(now_ns: int, *, hurry: bool = False) -> int:
        return len(groups(*said.take(now_ns, hurry=hurry)))

    for n in range(5 * TOLD_AT_ONCE):
        said.note(read(record(None, f"kind {n} %s", n)), PROCESS)

    assert told_of(NOW) == TOLD_AT_ONCE
    assert told_of(NOW + 1) == 0
    assert told_of(NOW + TOLD_NS) == TOLD_AT_ONCE
    said.note(read(record(None, "kind 0 %s", 0)), PROCESS)
    assert told_of(NOW + TOLD_NS, hurry=True) == 3 * TOLD_AT_ONCE + 1
    assert not said.has_waiting()


def test_samples_are_renewed_once_a_second() -> None:
    """The first few at once; counts go on meanwhile."""
    said = book()
    for n in range(100):
        said.note(read(record(raised(fetch)), NOW + n * SECOND // 100), PROCESS)
    found = [*said.take(NOW, hurry=True)]
    said.note(read(record(raised(fetch)), NOW + 3 * SECOND), PROCESS)
    later = groups(*said.take(NOW, hurry=True))

    [first], [last] = groups(*found).values(), later.values()
    assert first["count/node-1/scraper-1"] == 100
    assert {first[f"samples/last-{n}"][0] for n in range(3)} == {NOW, NOW + 10**7, NOW + 2 * 10**7}
    assert len([n for n in last if n.startswith("samples/last")]) == 1


def test_secrets_of_an_error_are_not_said() -> None:
    """Neither by its message, its extras, its exception, its notes nor its source lines."""

    def leak() -> None:
        error = ValueError("GET http://spider:hunter2@pages.local", {"Cookie": "a=hunter2"})
        error.add_note("Authorization: Bearer hunter2")
        raise error

    said = book()
    made = record(
        raised(leak),
        "login with password=%s failed",
        "hunter2",
        request={"headers": {"Authorization": "Bearer hunter2", "n": 1}, "password": 7},
        note=["token: hunter2"],
    )
    shard = said.note(read(made), PROCESS)
    [rest] = said.take(NOW, hurry=True)

    assert "hunter2" not in f"{shard}{rest}"
    assert dict(shard.writes)["request/headers/n"] == 1
    assert dict(shard.writes)["request/password"] == "[scrubbed]"


def test_secrets_are_what_the_handler_is_told(puller: Puller, log: logging.Logger) -> None:
    """By other words, or by none."""
    handler = ShardHandler(puller.endpoint, "scraper-1", scrub=["ssn"])
    log.addHandler(handler)
    log.error("ssn=1 password=2")
    handler.close()
    puller.until_final()

    assert puller.value("scraper-1/msg") == "ssn=[scrubbed] password=2"


def test_errors_of_loggers_out_of_scope_are_reported(puller: Puller, log: logging.Logger) -> None:
    """Their extras are no shards all the same; and nothing is said of a group before its count."""
    handler = ShardHandler(puller.endpoint, "scraper-1", loggers=["other"])
    log.addHandler(handler)
    log.error("failed", extra={"page": 1})
    handler.flush()
    handler.close()
    puller.until_final()
    paths = {total.path for report in puller.reports for total in report.totals}

    assert {path.split("/")[3] for path in paths} == {"count", "hours", "recent"}
    assert puller.value("page") is None


def test_variables_of_the_application_do_not_live_longer(
    puller: Puller, log: logging.Logger
) -> None:
    """Nothing that is kept of an exception leads to its frames."""
    handler = ShardHandler(puller.endpoint, "scraper-1")
    log.addHandler(handler)
    gone = threading.Event()

    class Precious:
        def __del__(self) -> None:
            gone.set()

    def fails() -> None:
        precious = Precious()
        raise ValueError(f"{type(precious).__name__}")

    try:
        fails()
    except ValueError:
        log.exception("failed")

    assert gone.is_set()
    handler.close()


def test_what_nobody_caught_is_logged(
    puller: Puller, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the program, of a thread, of a task; and what was hooked before is still called."""
    called: list[object] = []

    def end(kind: type[BaseException], error: object, traceback: object) -> None:
        called.append(kind)

    def end_thread(args: threading.ExceptHookArgs) -> None:
        called.append(args.exc_type)

    monkeypatch.setattr(sys, "excepthook", end)
    monkeypatch.setattr(threading, "excepthook", end_thread)
    handler = ShardHandler(puller.endpoint, "scraper-1")
    log.addHandler(handler)

    async def loop() -> None:
        log_uncaught(log, asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(fetch)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(loop())
    thread = threading.Thread(target=fetch, name="worker")
    thread.start()
    thread.join()
    error = KeyError("main")
    sys.excepthook(KeyError, error, None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    handler.close()
    puller.until_final()
    types = {
        str(write.value)
        for report in puller.reports
        for write in report.writes
        if write.path.endswith("about/type")
    }
    texts = [
        str(write.value)
        for report in puller.reports
        for write in report.writes
        if "/samples/last" in write.path
    ]

    assert types == {"ValueError", "KeyError"}
    assert any("uncaught exception in thread worker" in text for text in texts)
    assert any("Exception in callback" in text for text in texts)
    assert called == [ValueError, KeyError, KeyboardInterrupt]
