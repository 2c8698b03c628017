"""What a path says of what is counted there, and amounts as one number."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from shardlog.crdt.counter import BILLION, lengthen

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount


@lru_cache(maxsize=4096)
def family_of(path: str) -> str | None:
    """Whose sum only rises: the path with the record in it left open, None for others."""
    keys = path.split("/")
    if keys[0] in ("shardlog", "own") or keys[-1] == "f":
        return None
    if keys[0] == "t":
        keys[1] = "*"
    return "/".join(keys)


def record_of(path: str) -> str:
    """What is forgotten as a whole: the first two keys."""
    return "/".join(path.split("/")[:2])


@lru_cache(maxsize=4096)
def prefixes(path: str) -> tuple[str, ...]:
    """The strict prefixes of a path."""
    keys = path.split("/")
    return tuple("/".join(keys[:n]) for n in range(1, len(keys)))


def billionths(amount: Amount) -> int:
    """What an amount stands for, as one number."""
    whole, part, minus, minus_part = lengthen(amount)
    return (whole - minus) * BILLION + part - minus_part
