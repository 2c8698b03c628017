"""Any object becomes a value that a register can hold, within bounds; nothing raises."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import logging
import pathlib
import random
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import msgspec
import pytest

from shardlog.handler.nearest import ELEMENTS_MAX, VALUE_BYTES_MAX
from shardlog.handler.shard import Shard, ShardReader

READER = ShardReader("blade")


def read(value: Any) -> Shard:
    """The shard of a log call with that value under `value`."""
    record = logging.LogRecord("app", logging.INFO, "app.py", 1, "said", None, None)
    record.__dict__["value"] = value
    return READER.read(record, 1)


def plain(value: Any) -> Any:
    """What the value becomes at its path, without any refusal."""
    shard = read(value)
    assert shard.refused == {}
    written = dict(shard.writes)
    return written["value"]


def marked(value: Any) -> tuple[Any, set[str]]:
    """What the value becomes at its path, and the reasons that were counted."""
    shard = read(value)
    written = dict(shard.writes)
    return written["value"], set(shard.refused)


class Colour(enum.Enum):
    RED = "red"
    ODD = object()


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    A = "a"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    x: int
    y: str


@dataclass
class Point:
    kind: ClassVar[str] = "point"
    x: int
    y: list[int] = field(default_factory=list[int])


class Struct(msgspec.Struct):
    a: int
    b: str = "b"


class Text(str):
    """Text whose methods are not to be trusted."""

    def __str__(self) -> str:
        raise AssertionError

    __len__ = __getitem__ = isascii = encode = None  # type: ignore[assignment]


class Number(int):
    def __int__(self) -> int:
        raise AssertionError

    __index__ = __str__ = __repr__ = __int__  # type: ignore[assignment]


class Real(float):
    def __float__(self) -> float:
        raise AssertionError


class Items(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError

    __getitem__ = __len__ = __iter__  # type: ignore[assignment]


class Table(dict[Any, Any]):
    def items(self) -> Any:
        raise AssertionError

    __iter__ = __getitem__ = keys = __len__ = items  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class Settings(Mapping[str, Any]):
    """A mapping of its own kind, as frameworks have them."""

    def __init__(self, held: dict[str, Any]) -> None:
        self.held = held

    def __getitem__(self, key: str) -> Any:
        return self.held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


class FailingSettings(Settings):
    """A mapping that fails after its first item."""

    def __iter__(self) -> Iterator[str]:
        yield from list(self.held)[:1]
        raise OSError("gone")


class Stamp(datetime.datetime):
    """As libraries derive from datetime."""


def iter_nothing() -> Iterator[int]:
    """A generator."""
    yield from ()


def itself(thing: object) -> object:
    """A method that returns its object."""
    return thing


def half(_: object) -> float:
    """A method that returns a number."""
    return 0.5


def fail(_: object) -> None:
    """A method that raises."""
    raise ZeroDivisionError


class Meta(type):
    """A metaclass that answers no question."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __hash__(cls) -> int:
        raise RuntimeError

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError


class Unspeakable(metaclass=Meta):
    pass


class Liar:
    """An object that raises whatever it is asked, its class too."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


STANDS_FOR: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    (float("inf"), float("inf")),
    ("Grüße 🙂", "Grüße 🙂"),
    (b"\x00\xff", b"\x00\xff"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"ab"), b"ab"),
    ([1, [2.5, "x", None, b"y"]], [1, [2.5, "x", None, b"y"]]),
    ({}, {}),
    ([], []),
    ((1, (2,)), [1, [2]]),
    (Pair(1, "a"), [1, "a"]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({"a", 1, None}, [None, 1, "a"]),
    (collections.deque([1, 2]), [1, 2]),
    ({"a": 1}.keys(), ["a"]),
    ([{"a": 1, 2: {"b": []}}], [[["a", 1], [2, [["b", []]]]]]),
    ([Point(1, [2])], [[["x", 1], ["y", [2]]]]),
    (datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC), "2024-02-29T00:00:00+00:00"),
    (Stamp(2024, 2, 29, 1, 2, 3), "2024-02-29T01:02:03"),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (datetime.time(1, 2), "01:02:00"),
    (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
    (decimal.Decimal("1.10"), "1.10"),
    (fractions.Fraction(1, 3), "1/3"),
    (complex(1, 2), "(1+2j)"),
    (range(3), "range(0, 3)"),
    (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (pathlib.PurePosixPath("a/b"), "a/b"),
    (Colour.RED, "red"),
    (Colour.ODD, "ODD"),
    (Level.HIGH, 3),
    (Name.A, "a"),
    (Access.READ | Access.WRITE, 3),
    (ValueError("bad", 7), "ValueError: bad, 7"),
    (KeyError(), "KeyError"),
    (Number(7), 7),
    (Real(1.5), 1.5),
    (Text("ab"), "ab"),
    (Items([1, 2]), [1, 2]),
    (Table(), {}),
    (Settings({}), {}),
]


@pytest.mark.parametrize(("value", "expected"), STANDS_FOR, ids=lambda value: type(value).__name__)
def test_value_becomes_the_nearest_plain_value(value: Any, expected: Any) -> None:
    """Types of the standard library have a value that they stand for, of its exact type."""
    became = plain(value)

    assert became == expected
    assert type(became) is type(expected)


def test_nan_stays_nan() -> None:
    """NaN is a float like others."""
    assert str(plain(float("nan"))) == "nan"


RECORDS: list[Any] = [
    Point(1, [2]),
    Table(x=1, y=[2]),
    collections.OrderedDict(x=1, y=[2]),
    Settings({"x": 1, "y": [2]}),
    MappingProxyType({"x": 1, "y": [2]}),
    collections.ChainMap[str, Any]({"x": 1}, {"y": [2]}),
]


@pytest.mark.parametrize("value", RECORDS, ids=lambda value: type(value).__name__)
def test_records_and_mappings_become_leaves(value: Any) -> None:
    """Fields of a record and items of any mapping are leaves below its path."""
    shard = read(value)

    assert sorted(shard.writes[1:]) == [("value/x", 1), ("value/y", [2])]
    assert shard.refused == {}


def test_struct_becomes_leaves() -> None:
    """A msgspec struct is a dict of its fields."""
    assert read(Struct(1)).writes[1:] == [("value/a", 1), ("value/b", "b")]


def test_numpy_scalars_are_known_without_numpy() -> None:
    """A class `numpy.generic` is asked for its item(), whichever module it really comes from."""
    generic = type("generic", (), {"item": half, "__module__": "numpy"})
    number = type("float32", (generic,), {"__module__": "numpy"})

    assert plain(number()) == 0.5


def test_scalar_that_gives_itself_is_marked() -> None:
    """numpy's longdouble.item() returns a longdouble: it is not asked for ever."""
    generic = type("generic", (), {"item": itself, "__module__": "numpy"})

    assert marked(generic()) == ("<numpy.generic>", {"type"})


@pytest.mark.parametrize(
    ("value", "mark", "reason"),
    [
        (object(), "<builtins.object>", "type"),
        (object, "<builtins.type>", "type"),
        (print, "<builtins.builtin_function_or_method>", "type"),
        (threading.Lock(), "<_thread.lock>", "type"),
        (iter_nothing(), "<builtins.generator>", "type"),
        (SimpleNamespace(a=1), "<types.SimpleNamespace>", "type"),
        (2**63, "<int 9223372036854775808>", "number"),
        (-(2**80), "<int -1208925819614629174706176>", "number"),
        (10**5000, "<int of 16610 bits>", "number"),
        (Number(2**64), "<int 18446744073709551616>", "number"),
        ("a\ud800b", "a\ufffdb", "text"),
        (Text("a\ud800b"), "a\ufffdb", "text"),
        (decimal.Decimal(10**20_000), "<decimal.Decimal>", "type"),
        (memoryview(b"abcd").cast("B", (2, 2)), "<builtins.memoryview>", "type"),
        ([object(), 1], ["<builtins.object>", 1], "type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_value_is_near_to_is_marked_and_counted(value: Any, mark: Any, reason: str) -> None:
    """The mark names the type, and nothing that the object says of itself."""
    assert marked(value) == (mark, {reason})


def test_objects_that_answer_no_question_are_marked() -> None:
    """Neither the object nor its class needs to work."""
    assert marked(Liar()) == (f"<{__name__}.Liar>", {"type"})
    assert marked(Unspeakable()) == ("<?>", {"raised"})


def test_sample_says_where_and_what_and_who() -> None:
    """The first of each reason is named: path, type, logger; the others are counted."""
    shard = read({"a": object(), "b": threading.Lock()})

    assert shard.refused == {"type": (2, "value/a: <builtins.object>, logger app")}


@pytest.mark.parametrize(
    ("value", "head"),
    [
        ("x" * (VALUE_BYTES_MAX + 1), "xxx"),
        ("é" * VALUE_BYTES_MAX, "ééé"),
        ("🙂" * 100_000, "🙂🙂"),
        (Text("x" * 100_000), "xxx"),
        (b"x" * (VALUE_BYTES_MAX + 1), b"xxx"),
        (bytearray(20 << 20), b"\0\0"),
        (memoryview(bytearray(20 << 20)), b"\0\0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_long_text_and_bytes_are_cut_with_a_mark(value: Any, head: Any) -> None:
    """A cut value is as long as it may be, and says that it was cut."""
    became, reasons = marked(value)

    data = became.encode() if isinstance(became, str) else became
    assert became.startswith(head)
    assert data.endswith("…<cut>".encode())
    assert VALUE_BYTES_MAX - 8 < len(data) <= VALUE_BYTES_MAX
    assert reasons == {"cut"}


def test_text_of_the_greatest_length_is_not_cut() -> None:
    """The limit itself is within the limit."""
    assert plain("x" * VALUE_BYTES_MAX) == "x" * VALUE_BYTES_MAX


@pytest.mark.parametrize("kind", [list, tuple, set, collections.deque, Items])
def test_many_elements_are_cut_with_a_mark(kind: Any) -> None:
    """A list has its first elements, then a mark."""
    became, reasons = marked(kind(range(100_000)))

    assert became == [*range(ELEMENTS_MAX), "…<cut>"]
    assert reasons == {"cut"}


def test_lists_of_lists_share_the_limits() -> None:
    """However a value is nested, all that is in it counts together."""
    became, reasons = marked([["x" * 1000] * 100] * 100)

    assert len(repr(became)) < VALUE_BYTES_MAX + 2000
    assert reasons == {"cut"}


def test_list_within_itself_is_marked() -> None:
    """A cycle is cut where it closes; the same list twice is no cycle."""
    cycle: list[Any] = [1]
    cycle.append(cycle)
    twice = [1]

    assert marked(cycle) == ([1, "<cycle>"], {"cycle"})
    assert plain([twice, twice]) == [[1], [1]]


def test_deep_lists_are_cut() -> None:
    """Lists nest as deep as a path may be long."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    expected: Any = "<deeper than 32>"
    for _ in range(32):
        expected = [expected]

    assert marked(deep) == (expected, {"depth"})


def test_sets_are_equal_whatever_their_order() -> None:
    """Equal sets give equal lists, mixed types too."""
    elements: list[Any] = [1, "a", None, (2, "b"), b"c", 2.5, frozenset({3})]
    shuffled = random.Random(1).sample(elements, len(elements))

    assert plain(set(elements)) == plain(set(shuffled))


def test_mapping_that_fails_gives_what_it_gave() -> None:
    """What could be read is taken; that not all could is counted."""
    shard = read(FailingSettings({"a": 1, "b": 2}))

    assert shard.writes[1:] == [("value/a", 1)]
    assert set(shard.refused) == {"raised"}


def test_mapping_whose_items_are_none_is_marked() -> None:
    """What items() returns may be anything."""
    broken = type("Broken", (Settings,), {"items": fail, "__module__": "m"})

    assert marked(broken({"a": 1})) == ("<m.Broken>", {"raised"})


def test_record_that_lacks_a_field_gives_the_others() -> None:
    """A field without value ends the reading of that record only."""
    point = Point(1)
    del point.y

    assert read({"p": point, "q": 2}).writes[1:] == [("value/p/x", 1), ("value/q", 2)]
