r"""What shows, as what JSON can say.

JSON has no int keys, no bytes, no NaN and no infinities:

    {42: 1}             {"42": 1}
    {42: 1, "42": 2}    {"\\i42": 1, "42": 2}       only where both exist
    b"ab"               {"$bytes": "YWI="}
    nan, inf, -inf      {"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, cast

from shardlog.crdt.path import path_text
from shardlog.monitor.change import ABSENT
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardlog.monitor.change import Change
    from shardlog.monitor.views import TotalReport


def document(value: Any) -> Any:
    """A view, or a value, as nested dicts, lists and values that JSON has. O(size).

    >>> document({42: b"ab", "tries": [7, float("nan")]})
    {'42': {'$bytes': 'YWI='}, 'tries': [7, {'$float': 'nan'}]}
    """
    if isinstance(value, dict):
        tree = cast("dict[str | int, Any]", value)
        return {_key(key, tree): document(below) for key, below in tree.items()}
    if isinstance(value, list):
        return [document(item) for item in cast("list[object]", value)]
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    return value


def change_document(change: Change) -> dict[str, Any]:
    """A change, its absent sides left out. O(size of its values)."""
    sides = {"old": change.old, "new": change.new}
    return {
        "path": path_text(change.path),
        **{side: document(value) for side, value in sides.items() if value is not ABSENT},
        "gone": change.gone,
        "by": change.by,
        "at": iso_utc(change.at_ns),
    }


def total_document(report: TotalReport) -> dict[str, Any]:
    """A total with its status. O(1).

    >>> from shardlog.monitor.views import TotalReport
    >>> total_document(TotalReport("a/*", 3, "exact", "", None))
    {'pattern': 'a/*', 'value': 3, 'status': 'exact', 'reason': '', 'since': None}
    """
    said = report._asdict()
    since_ns = said.pop("since_ns")
    return {**said, "since": None if since_ns is None else iso_utc(since_ns)}


def _key(key: str | int, tree: Mapping[str | int, Any]) -> str:
    if isinstance(key, int):
        return f"\\i{key}" if str(key) in tree else str(key)
    return key
