"""Replicated data types, and how their deltas travel: pure, they run nowhere.

General layout, from the ground up:

- `errors`       what is raised on purpose
- `stamp`, `path`, `process_id`, `endpoint`, `retention`, `config`: the words everything else is
  said in
- `delta`        what deltas are made of; `path_index` which paths there are
- `lww_map`, `counter`: the lattices
- `entry`        how one replica's counter counts on, and is reset by an erase
- `filling`      what a part holds, as fragments that fit into messages
- `state`        their product, which is replicated
- `replication`  how deltas travel, without a socket
- `wire`         the only place that knows bytes

The names below are loaded when they are used: a blade needs no more than it says.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardlog.crdt.counter import Mark
    from shardlog.crdt.delta import Entry, Erase, Fragment, Total, Write
    from shardlog.crdt.errors import (
        ConfigError,
        LocalProtocolError,
        RemoteProtocolError,
        ShardlogError,
        Unreachable,
    )
    from shardlog.crdt.lww_map import Floor, Leaf, LwwMap
    from shardlog.crdt.path import Pattern, path_keys, path_text
    from shardlog.crdt.stamp import StampClock
    from shardlog.crdt.state import Shown, State

__all__ = [
    "State",
    "Shown",
    "LwwMap",
    "Leaf",
    "Floor",
    "Mark",
    "StampClock",
    "Pattern",
    "path_keys",
    "path_text",
    "Fragment",
    "Write",
    "Erase",
    "Entry",
    "Total",
    "ShardlogError",
    "ConfigError",
    "Unreachable",
    "LocalProtocolError",
    "RemoteProtocolError",
]

_HOMES = {
    "State": "state",
    "Shown": "state",
    "LwwMap": "lww_map",
    "Leaf": "lww_map",
    "Floor": "lww_map",
    "Mark": "counter",
    "StampClock": "stamp",
    "Pattern": "path",
    "path_keys": "path",
    "path_text": "path",
    "Fragment": "delta",
    "Write": "delta",
    "Erase": "delta",
    "Entry": "delta",
    "Total": "delta",
    "ShardlogError": "errors",
    "ConfigError": "errors",
    "Unreachable": "errors",
    "LocalProtocolError": "errors",
    "RemoteProtocolError": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"shardlog.crdt.{_HOMES[name]}"), name)
