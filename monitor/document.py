r"""What shows, as what JSON can say.

JSON has no int keys, no bytes, no NaN and no infinities:

    {42: 1}             {"42": 1}
    {42: 1, "42": 2}    {"\\i42": 1, "42": 2}       only where both exist
    b"ab"               {"$bytes": "YWI="}
    nan, inf, -inf      {"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}

What was observed at a path is said as a distribution and not bucket by bucket:

    {"~959": 7}         {"$observed": {"count": 7, "p50": 0.208, ...}}
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import asdict

from shardlog.crdt.path import path_text
from shardlog.crdt.sketch import bucket_at, summary
from shardlog.monitor.change import ABSENT
from shardlog.monitor.rates import WINDOWS
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shardlog.monitor.change import Change
    from shardlog.monitor.derived import Figure
    from shardlog.monitor.rates import Look
    from shardlog.monitor.views import TotalReport


def document(value: Any) -> Any:
    """A view, or a value, as nested dicts, lists and values that JSON has. O(size).

    >>> document({42: b"ab", "tries": [7, float("nan")]})
    {'42': {'$bytes': 'YWI='}, 'tries': [7, {'$float': 'nan'}]}
    """
    if isinstance(value, dict):
        tree = cast("dict[str | int, Any]", value)
        buckets = {
            at: n
            for key, n in tree.items()
            if (at := bucket_at(key)) is not None and type(n) is int
        }
        said = summary(buckets)
        if said is None:
            return {_key(key, tree): document(below) for key, below in tree.items()}
        rest = {key: below for key, below in tree.items() if bucket_at(key) not in buckets}
        return {**document(rest), "$observed": asdict(said)}
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


def rates_document(look: Look, figures: Iterable[Figure], *, shows_all: bool) -> dict[str, Any]:
    """What is known of rates: numbers per second by window, None for what is not. O(its size).

    What has not moved is only there if all is to be shown; `still` says how many there are.
    """
    windows = dict(zip(WINDOWS, look.seconds, strict=True))
    rates = [
        {
            "path": rate.path,
            "total": rate.total,
            **{
                name: None if count is None else count / windows[name]
                for name, count in zip(windows, rate.counts, strict=True)
            },
        }
        for rate in look.rates
        if rate.moves or shows_all
    ]
    distributions = [
        {
            "path": held.path,
            "total": asdict(held.total),
            **{
                name: None if said is None else asdict(said)
                for name, said in zip(windows, held.windows, strict=True)
            },
        }
        for held in look.distributions
        if held.moves or shows_all
    ]
    derived = [
        {
            "path": figure.path,
            "name": figure.name,
            "total": figure.total,
            **dict(zip(windows, figure.windows, strict=True)),
        }
        for figure in figures
        if figure.moves or shows_all
    ]
    return {
        "at": iso_utc(look.at_ns),
        "seconds": windows,
        "rates": rates,
        "observed": distributions,
        "derived": derived,
        "still": len(look.rates) + len(look.distributions) - len(rates) - len(distributions),
        "doubts": look.doubts,
    }


def _key(key: str | int, tree: Mapping[str | int, Any]) -> str:
    if isinstance(key, int):
        return f"\\i{key}" if str(key) in tree else str(key)
    return key
