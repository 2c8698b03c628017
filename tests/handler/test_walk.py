"""Which leaves a shard has, at which paths, within which limits; that nothing makes it raise."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.torture_values import HOSTILE, nested
from shardlog.crdt import counter
from shardlog.crdt.path import key_text
from shardlog.handler.walk import KEY_BYTES_MAX, LEAVES_MAX, SHARD_BYTES_MAX
from shardlog.handler.words import count, erase
from tests.handler.reading import READER, check_sendable, log, written


@pytest.mark.parametrize(
    "n", [float("nan"), float("inf"), 2**53 + 1, 2**80, "1", None, [], object()]
)
def test_what_cannot_be_counted_is_refused(n: Any) -> None:
    """`count` takes anything, and the log call says that it was nothing."""
    shard = log({"a": count(n)})

    assert shard.counts == []
    assert shard.refused["count"][0] == 1


def test_numbers_of_other_types_are_counted() -> None:
    """A bool counts as 0 or 1; subclasses of int and float as what they are."""
    number = type("Real", (float,), {})(0.25)

    assert log({"a": count(True), "b": count(number)}).counts == [
        ("a", 1),
        ("b", (0, 250_000_000, 0, 0)),
    ]


def test_count_within_a_list_is_marked() -> None:
    """A list is one value, in which nothing counts or erases."""
    shard = log({"a": [count(), erase]})

    assert shard.counts == []
    assert shard.erases == []
    assert written(shard) == {
        "a": ["<shardlog.handler.words.Count>", "<shardlog.handler.words.EraseType>"]
    }
    assert shard.refused["type"][0] == 2


def test_key_of_collapsed_counts_is_refused_anywhere() -> None:
    """`~` is where forgotten records go."""
    shard = log({"~": 1, "a": {"~": {"b": 1}, "~~": 2}})

    assert written(shard) == {"a/~~": 2}
    assert shard.refused["collapsed"][0] == 2


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b", "d/a\\/b"),
        ("*", "d/\\*"),
        ("", "d/"),
        ("é" * 128, "d/" + "é" * 128),
        (42, "d/\\i42"),
        (-(2**70), f"d/\\i{-(2**70)}"),
    ],
)
def test_text_and_ints_are_keys_as_they_are(key: Any, path: str) -> None:
    """An int key is not the text of it."""
    shard = log({"d": {key: 1}})

    assert written(shard) == {path: 1}
    assert shard.refused == {}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (None, "d/None"),
        (True, "d/True"),
        (1.5, "d/1.5"),
        ((1, "a"), "d/(1, 'a')"),
        (b"k", "d/b'k'"),
        (frozenset({1}), "d/[1]"),
        (object, "d/<builtins.type>"),
        ("a\ud800", "d/a\ufffd"),
    ],
)
def test_other_keys_become_text_and_are_counted(key: Any, path: str) -> None:
    """A key is never lost, and never silently another one."""
    shard = log({"d": {key: 1}})

    assert written(shard) == {path: 1}
    assert shard.refused


@pytest.mark.parametrize("key", ["k" * (KEY_BYTES_MAX + 1), "é" * 129, 10**300])
def test_long_keys_are_refused_with_all_below(key: Any) -> None:
    """A key of more than 256 bytes is data in the wrong place."""
    shard = log({"d": {key: {"a": 1}, "b": 2}})

    assert written(shard) == {"d/b": 2}
    assert shard.refused["key"][0] == 1


def test_empty_key_at_the_root_is_refused() -> None:
    """Its path would be that of the whole state."""
    assert log({"": 1, "a": 2}).refused["key"][0] == 1


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_extras_are_taken_or_marked_in_time(case: str) -> None:
    """Each is taken or marked, in 1 ms at most (the best of five calls), and nothing raises.

    Time is that of the thread here and below: others of the machine do not count.
    """
    record = logging.getLogger("app").makeRecord(
        "app", logging.INFO, "app.py", 1, "said", (), None, "main", HOSTILE[case]()
    )
    seconds: list[float] = []
    for _ in range(5):
        started = time.thread_time()
        READER.read(record, 1)
        seconds.append(time.thread_time() - started)

    shard = READER.read(record, 1)
    assert written(shard)
    check_sendable(shard)
    assert min(seconds) < 1e-3


class Spider:
    """Stands for a library's object: large, alive, and not to be looked into."""

    name = "pages"

    def __repr__(self) -> str:
        raise AssertionError


@pytest.mark.parametrize(
    ("logger", "extra", "expected"),
    [
        (
            "django.request",
            {"status_code": 404, "request": Spider()},
            {"status_code": 404, "request": f"<{__name__}.Spider>"},
        ),
        (
            "celery.app.trace",
            {"data": {"id": "1", "args": "()", "runtime": 0.5, "exc": KeyError("x")}},
            {"data/id": "1", "data/args": "()", "data/runtime": 0.5, "data/exc": "KeyError: x"},
        ),
        (
            "gunicorn.access",
            {"metric": "gunicorn.requests", "value": 1, "mtype": "counter"},
            {"metric": "gunicorn.requests", "value": 1, "mtype": "counter"},
        ),
        ("scrapy.core.engine", {"spider": Spider()}, {"spider": f"<{__name__}.Spider>"}),
        (
            "aiohttp.access",
            {
                "remote_address": "::1",
                "request_header": {"User-Agent": "-"},
                "response_status": 200,
            },
            {"remote_address": "::1", "request_header/User-Agent": "-", "response_status": 200},
        ),
        (
            "uvicorn.error",
            {"color_message": "\x1b[36m%d\x1b[0m"},
            {"color_message": "\x1b[36m%d\x1b[0m"},
        ),
        ("ddtrace", {"dd.trace_id": "0", "dd.env": ""}, {"dd.trace_id": "0", "dd.env": ""}),
        (
            "temporalio.worker",
            {"__temporal_queue": "q", "temporal_workflow": {"attempt": 1, "run_id": "r"}},
            {
                "__temporal_queue": "q",
                "temporal_workflow/attempt": 1,
                "temporal_workflow/run_id": "r",
            },
        ),
    ],
)
def test_extras_of_libraries_are_taken(
    logger: str, extra: dict[str, Any], expected: dict[str, Any]
) -> None:
    """What known libraries put into their records; objects show by their type only."""
    shard = log(extra, logger=logger)

    assert written(shard) == expected
    check_sendable(shard)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("dict within itself", {"value/name": "a", "value/self": "<cycle>"}),
        ("109 as a key of extra", {"\\i109": "value"}),
        ("dict whose items() raises", {"value/a": 1}),
        ("dataclass", {"value/x": 1, "value/y": 2}),
        ("500 levels", {"value" + "/in" * 31: "<deeper than 32>"}),
        ("5,000 levels", {"value" + "/in" * 31: "<deeper than 32>"}),
    ],
)
def test_hostile_extras_become(case: str, expected: dict[str, Any]) -> None:
    """What is left of them is what a reader of the state expects."""
    assert written(log(HOSTILE[case]())) == expected


def test_leaf_at_the_greatest_depth_is_taken() -> None:
    """32 keys are a path, 33 are not."""
    assert list(written(log({"value": nested(30)}))) == ["value" + "/in" * 30 + "/end"]
    assert list(written(log({"value": nested(31)})).values()) == ["<deeper than 32>"]


def test_leaves_are_limited() -> None:
    """10,000 leaves of a shard are taken, however they are nested; the rest is counted."""
    square = {str(i): {str(j): i for j in range(100)} for i in range(100)}

    exact = log({"a": square})
    assert len(written(exact)) == LEAVES_MAX
    assert exact.refused == {}
    flat = log({"a": dict.fromkeys(range(1_000_000))})
    assert len(written(flat)) == LEAVES_MAX
    assert flat.refused["leaves"][0] == 1_000_000 - LEAVES_MAX
    more = log({"a": square, "b": 1})
    assert len(written(more)) == LEAVES_MAX
    assert more.refused["leaves"][0] == 1


def test_dicts_are_limited() -> None:
    """A few dicts that hold each other many times do not take for ever."""
    wide: dict[str, Any] = {"end": 1}
    for _ in range(20):
        wide = {str(i): wide for i in range(10)}
    started = time.thread_time()
    shard = log({"a": wide})

    assert time.thread_time() - started < 1
    assert set(shard.refused) & {"leaves", "size"}
    check_sendable(shard)


@pytest.mark.parametrize(
    "extra",
    [
        {str(i): datetime.date(2024, 2, 29) for i in range(10_000)},
        {str(i): [object()] * 1000 for i in range(10_000)},
        {str(i): list(range(1000)) for i in range(1000)},
        dict.fromkeys(map(str, range(10_000)), "é" * 70_000),
        {"k" * i: i for i in range(10_000)},
        {str(i): nested(29) for i in range(1000)},
    ],
    ids=["objects", "objects in lists", "lists", "long text", "long keys", "deep"],
)
def test_time_of_a_call_is_bounded(extra: dict[str, Any]) -> None:
    """The limits bound what a call may take: some 40 ms, here with much room for a busy machine."""
    seconds: list[float] = []
    for _ in range(3):
        started = time.thread_time()
        log({"a": extra})
        seconds.append(time.thread_time() - started)

    assert min(seconds) < 0.2


def test_bytes_of_a_shard_are_limited() -> None:
    """What comes before 1 MiB is taken, the rest is refused."""
    shard = log({"n": count(), "a": {str(i): "x" * 60_000 for i in range(50)}, "s": 1})

    assert SHARD_BYTES_MAX // 60_000 == 17
    assert list(written(shard)) == [f"a/{i}" for i in range(17)]
    assert shard.counts == [("n", 1)]
    assert shard.refused["size"][0] == 50 - 17 + 1


def test_dict_that_grows_meanwhile_gives_what_was_read() -> None:
    """What another thread does to a dict does not raise into the log call."""
    held = {"a": 1}

    class Growing(dict[str, Any]):
        def items(self) -> Any:
            for key in held:
                yield key, held[key]
                held["b"] = 2

    items = MappingProxyType(Growing())
    shard = log({"d": items, "e": 1})

    assert written(shard) == {"d/a": 1, "e": 1}
    assert set(shard.refused) == {"changed"}


def test_threads_that_change_a_dict_do_not_disturb() -> None:
    """A dict that threads write to is read without an error, again and again."""
    shared: dict[str, Any] = {str(i): i for i in range(500)}
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            shared["more"] = 1
            del shared["more"]

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            check_sendable(log({"shared": shared}))
    finally:
        stop.set()
        thread.join()


def test_call_with_little_of_the_stack_left_does_not_raise() -> None:
    """Whatever is left of the stack, from nothing to enough."""
    extra = {"a": {"b": {"c": [[{"d": 1}], object()]}}}
    record = logging.makeLogRecord({"msg": "m", **extra})
    raised: list[BaseException] = []

    def descend() -> None:
        # Before each deeper frame: the last of them have next to nothing left.
        try:
            shard = READER.read(record, 1)
        except RecursionError as error:
            raised.append(error)
        else:
            assert shard.time_ns == 1
            descend()

    descend()
    assert len(raised) == 1  # the frame of the call itself did not fit


plain_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
plain_values = plain_scalars | st.lists(plain_scalars, max_size=5)
plain_keys = st.text(max_size=8).filter(lambda key: key not in ("", "~", "shardlog")) | st.integers(
    -(2**63), 2**63 - 1
)
plain_dicts = st.recursive(
    st.dictionaries(plain_keys, plain_values, max_size=5),
    lambda dicts: st.dictionaries(plain_keys, plain_values | dicts, max_size=5),
    max_leaves=20,
)


def oracle(shard: dict[Any, Any], above: str = "") -> list[tuple[str, Any]]:
    """The leaves of plain data, as simply as it can be said."""
    leaves: list[tuple[str, Any]] = []
    for key, value in shard.items():
        path = above + key_text(key)
        if type(value) is dict and value != {}:
            leaves += oracle(value, path + "/")  # pyright: ignore[reportUnknownArgumentType]
        else:
            leaves += [(path, value)]
    return leaves


@given(shard=plain_dicts)
def test_plain_data_is_taken_as_it_is(shard: dict[Any, Any]) -> None:
    """Plain dicts give their leaves, in order, and nothing is refused."""
    read = log({"shard": shard})

    assert repr(read.writes[1:]) == repr(oracle(shard))
    assert read.refused == {}
    check_sendable(read)


hashable = (
    plain_scalars
    | st.text(st.characters(codec=None), max_size=5)
    | st.integers()
    | st.complex_numbers()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.sampled_from(["~", "shardlog", erase, object(), print, int, "/", "x" * 300])
    | st.builds(count, st.integers() | st.floats() | st.none())
)
odd_values = st.recursive(
    hashable | st.builds(object) | st.sampled_from(list(HOSTILE.values())).map(lambda make: make()),
    lambda values: (
        st.lists(values, max_size=4)
        | st.tuples(values, values)
        | st.sets(hashable, max_size=4)
        | st.frozensets(hashable, max_size=4)
        | st.dictionaries(hashable, values, max_size=4)
        | st.builds(ValueError, values)
    ),
    max_leaves=15,
)


@given(extra=st.dictionaries(hashable, odd_values, max_size=4), msg=odd_values)
def test_anything_is_taken_or_marked(extra: dict[Any, Any], msg: Any) -> None:
    """Whatever is nested in whatever: nothing raises, and what is left can be sent."""
    record = logging.makeLogRecord({"msg": "said %s", "args": (1,)})
    record.__dict__.update(extra)
    record.__dict__["shard"] = msg

    check_sendable(READER.read(record, 1))


def test_amounts_are_those_of_the_counter() -> None:
    """There is one rule for what a count adds."""
    numbers = [0, 1, -1, 2**53, -(2**53), 0.1, -2.5, 1e-10]

    shard = log({"a": {str(n): count(n) for n in numbers}})
    assert [amount for _, amount in shard.counts] == [counter.amount(n) for n in numbers]
