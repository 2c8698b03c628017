"""Twenty things that real programs put into `extra`, and that break log handlers.

Only the standard library is used here, so that any Python can make them for any handler.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MESSAGE = "tortured"
MEGABYTES_OF_REPR = 20


class Colour(enum.Enum):
    """An enumeration of plain values."""

    RED = "red"


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: int


class BrokenRepr:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


class HugeRepr:
    """An object that shows itself at length."""

    def __repr__(self) -> str:
        return "x" * (MEGABYTES_OF_REPR << 20)


class LoggingRepr:
    """An object that logs when it is shown."""

    def __repr__(self) -> str:
        logging.getLogger("torture").info("from within a repr")
        return "<logged>"


class BrokenItems(dict[str, int]):
    """A dict that cannot be walked through in the usual way."""

    def items(self) -> Any:
        raise RuntimeError("no items")


def nested(levels: int) -> dict[str, Any]:
    """A dict within a dict within a dict."""
    inner: dict[str, Any] = {"end": 1}
    for _ in range(levels):
        inner = {"in": inner}
    return inner


def _cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {"name": "a"}
    cycle["self"] = cycle
    return cycle


def _numbers() -> Iterator[int]:
    yield 1


HOSTILE: dict[str, Callable[[], dict[Any, Any]]] = {
    "nested plain dict": lambda: {"value": {"a": {"b": [1, 2.5, "c", None, True]}}},
    "object()": lambda: {"value": object()},
    "set, bytes, datetime, Decimal, UUID, Enum, Path": lambda: {
        "value": {
            "set": {1, 2},
            "bytes": b"\x00\xff",
            "datetime": datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC),
            "decimal": decimal.Decimal("1.10"),
            "uuid": uuid.UUID(int=7),
            "enum": Colour.RED,
            "path": Path("a/b"),
        }
    },
    "dataclass": lambda: {"value": Point(1, 2)},
    "NaN, infinity": lambda: {"value": {"nan": float("nan"), "inf": float("inf")}},
    "2**70": lambda: {"value": 2**70},
    "dict within itself": lambda: {"value": _cycle()},
    "keys 1, (1, 2), None": lambda: {"value": {1: "a", (1, 2): "b", None: "c"}},
    "109 as a key of extra": lambda: {109: "value"},
    "lone surrogate": lambda: {"value": "a\ud800b"},
    "repr that raises": lambda: {"value": BrokenRepr()},
    f"repr of {MEGABYTES_OF_REPR} MB": lambda: {"value": HugeRepr()},
    "exception": lambda: {"value": ValueError("bad", 7)},
    "lock": lambda: {"value": threading.Lock()},
    "generator": lambda: {"value": _numbers()},
    "repr that logs": lambda: {"value": LoggingRepr()},
    "dict whose items() raises": lambda: {"value": BrokenItems(a=1)},
    "500 levels": lambda: {"value": nested(500)},
    "5,000 levels": lambda: {"value": nested(5000)},
    "list of 1,000,000": lambda: {"value": list(range(1_000_000))},
}
"""By name, what makes the `extra` of one log call."""
