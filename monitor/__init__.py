"""Read-only replicas, and what people see of them.

General layout:

- `client`     `connect`: the thread and the sockets that follow a node
- `cluster`    `Cluster`: what `connect` returns
- `board`      where the thread writes and all others read
- `feed`       what happened, event by event, for who must miss nothing; `follow` waits for it
- `replica`    what shows: rows by path; `change` what is told of them, `watch` to whom, how fast
- `views`      state -> rows of tables; `document` state -> what JSON can say
- `presence`   who is there, and how they are
- `rates`      how fast counters rise; `derived`: figures that follow from them
- `balance`    whether what shows is what was counted
- `live`       recordings of what happened

The names below are loaded when they are used: importing this package loads no sockets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardlog.crdt.errors import ConfigError, Unreachable
    from shardlog.monitor.change import ABSENT, Change
    from shardlog.monitor.client import connect
    from shardlog.monitor.cluster import Cluster
    from shardlog.monitor.views import TotalReport

__all__ = ["connect", "Cluster", "Change", "ABSENT", "TotalReport", "ConfigError", "Unreachable"]

_HOMES = {
    "connect": "shardlog.monitor.client",
    "Cluster": "shardlog.monitor.cluster",
    "Change": "shardlog.monitor.change",
    "ABSENT": "shardlog.monitor.change",
    "TotalReport": "shardlog.monitor.views",
    "ConfigError": "shardlog.crdt.errors",
    "Unreachable": "shardlog.crdt.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
