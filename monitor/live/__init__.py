"""Live tests: whether the cluster does what it was told, judged while it runs.

General layout:

- `verdict`     the seven verdicts and their order
- `world`       what shows, as a tree whose places know who looks at them
- `view`        the same as predicates see it
- `properties`  what can be asked for, and how each is judged
- `declared`    how a file says what it tests; `loading` reads files; `source` what predicates say
- `engine`      the machine that judges; `instance` what it keeps; `asking` how, `hosts` whom
- `explain`     why, and what went wrong meanwhile (`errors`); `report` all at one time
- `session`     the thread that tells an engine what happens; `guard` ends predicates in it
- `eager`       who asks waits, and gets an answer or an error: so does `pytest_plugin`
- `recording`   what happened, in files; `replay` and `serve` tell it again
- `document`, `junit`, `metrics`, `publish`   what other programs read

The names below are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardlog.monitor.live.declared import each, once
    from shardlog.monitor.live.eager import LiveFailure, LiveUnknown
    from shardlog.monitor.live.properties import (
        always,
        eventually,
        expect,
        ladder,
        moves,
        never,
        rung,
        sometimes,
    )
    from shardlog.monitor.live.verdict import Verdict
    from shardlog.monitor.live.view import above, key_of, plain, quantile, said_by, total

__all__ = [
    "each",
    "once",
    "eventually",
    "ladder",
    "rung",
    "always",
    "never",
    "moves",
    "sometimes",
    "expect",
    "above",
    "key_of",
    "total",
    "quantile",
    "said_by",
    "plain",
    "Verdict",
    "LiveFailure",
    "LiveUnknown",
]

_HOMES = {
    "each": "declared",
    "once": "declared",
    "eventually": "properties",
    "ladder": "properties",
    "rung": "properties",
    "always": "properties",
    "never": "properties",
    "moves": "properties",
    "sometimes": "properties",
    "expect": "properties",
    "above": "view",
    "key_of": "view",
    "total": "view",
    "quantile": "view",
    "said_by": "view",
    "plain": "view",
    "Verdict": "verdict",
    "LiveFailure": "eager",
    "LiveUnknown": "eager",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
