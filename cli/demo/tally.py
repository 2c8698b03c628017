"""What a blade counts for itself, beside what it logs: the demo's second opinion.

`Tally.say` is the only way in which the demo's blades count. It adds to plain integers and logs
under one lock, so that at any moment, and at the end above all, both have been told the same.
Nothing of shardlog takes part in the adding up: a difference between the two is shardlog's fault.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from shardlog.handler import count

NANOS = 10**9
"""Tallies are kept in units of 1e-9, in which a count of seconds is a whole number."""


@dataclass(frozen=True, slots=True)
class Add:
    """Stands in a shard where something is counted; `Tally.say` makes a `count` of it."""

    number: int | float = 1

    @property
    def nanos(self) -> int:
        """The number in units of 1e-9, exact for whole numbers of any size."""
        if isinstance(self.number, int):
            return self.number * NANOS
        return round(self.number * NANOS)


class Tally:
    """The counts of one blade: pattern -> whole number of 1e-9.

    The pattern is the counted path with the intent's number replaced by `*`, so that a tally
    stays small however long the demo runs.
    """

    def __init__(self, blade: str) -> None:
        self.blade = blade
        self.nanos: dict[str, int] = {}
        self._closed = False
        self._lock = threading.Lock()

    def say(
        self,
        log: logging.Logger,
        level: int,
        message: str,
        *args: object,
        shard: Mapping[str, Any],
        exc_info: bool = False,
    ) -> bool:
        """Log a message with a shard, and count what the shard's `Add`s say.

        Returns False, and neither logs nor counts, once the tally is closed.
        """
        with self._lock:
            if self._closed:
                return False
            extra = self._counted(shard, ())
            log.log(level, message, *args, extra=extra, exc_info=exc_info, stacklevel=2)
            return True

    def failed(self, log: logging.Logger, message: str, *args: object) -> bool:
        """Log an error, and count it for the logger under the blade's own key."""
        shard = {self.blade: {"errors": {log.name: Add(1)}}}
        return self.say(log, logging.ERROR, message, *args, shard=shard)

    def close(self, file: Path) -> None:
        """Count nothing from now on, and write what was counted to the file, all or nothing."""
        with self._lock:
            self._closed = True
            text = json.dumps({"blade": self.blade, "nanos": self.nanos}, indent=1, sort_keys=True)
        aside = file.with_name(f".{file.name}.{os.getpid()}")
        aside.write_text(text, encoding="utf-8")
        aside.rename(file)

    def _counted(self, shard: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        """The shard as logging wants it, with every `Add` in it counted."""
        result: dict[str, Any] = {}
        for key, value in shard.items():
            here = (*path, key)
            if isinstance(value, Add):
                name = pattern(here)
                self.nanos[name] = self.nanos.get(name, 0) + value.nanos
                result[key] = count(value.number)
            elif isinstance(value, dict):
                result[key] = self._counted(cast("dict[str, Any]", value), here)
            else:
                result[key] = value
        return result


def pattern(path: tuple[str, ...]) -> str:
    """The pattern under which a path is tallied: `intents/42/...` becomes `intents/*/...`.

    >>> pattern(("intents", "42", "resolution", "spotter-1", "item_received"))
    'intents/*/resolution/spotter-1/item_received'
    """
    if path[0] == "intents" and len(path) > 2:
        path = ("intents", "*", *path[2:])
    return "/".join(path)


def read_tally(file: Path) -> dict[str, int]:
    """What a process wrote at its end: pattern -> whole number of 1e-9.

    Raises `OSError` or `ValueError` when there is no such file or it is not one of `Tally`'s.
    """
    document = json.loads(file.read_text(encoding="utf-8"))
    try:
        return {str(name): int(nanos) for name, nanos in document["nanos"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a tally") from error
