"""State -> rows: what tables, plots and metrics start from. Pure: time comes in, text goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from shardlog.crdt.path import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.crdt.delta import Value
    from shardlog.crdt.path import Key, Keys
    from shardlog.crdt.replication.messages import HostStatus
    from shardlog.monitor.replica import Shown

SECOND = 10**9
PRESENCE = f"{RESERVED}/presence/*/*/*"
"""Selects {blade}/{process}/{host, pid, started, status, heard}."""


class Blade(TypedDict):
    """One process of a blade, as it is known; None for what nobody said."""

    blade: str
    host: str | None
    pid: int | None
    process: str
    status: str | None
    started: str | None
    heard: str | None


def blades(rows: Iterable[tuple[Keys, Shown]]) -> list[Blade]:
    """Who is there: one row a process, by blade and start. O(rows log rows).

    `rows` are those that PRESENCE selects: times are ints of ns there, and ISO-8601 here. A value
    of another type counts as not said, for anybody may have written it.
    """
    processes: dict[Keys, dict[Key, Value]] = {}
    for (*process, what), shown in rows:
        processes.setdefault(tuple(process), {})[what] = shown.value
    found: list[tuple[int, Blade]] = []
    for (*_, blade, process_id), said in processes.items():
        row: Blade = {
            "blade": str(blade),
            "host": _text(said.get("host")),
            "pid": _number(said.get("pid")),
            "process": str(process_id),
            "status": _text(said.get("status")),
            "started": _time(said.get("started")),
            "heard": _time(said.get("heard")),
        }
        found.append((_number(said.get("started")) or 0, row))
    found.sort(key=lambda item: (item[1]["blade"], item[0], item[1]["process"]))
    return [row for _, row in found]


def clock_remark(host: HostStatus) -> str:
    """What is to be said of a host whose clock is more than 1 s off, "" of others. O(1).

    >>> from shardlog.crdt.replication.messages import HostStatus
    >>> clock_remark(HostStatus("node-2", "r", "live", 0, 0, offset_ns=-3_601_200_000_000))
    'its clock is 3601 s behind that of the aggregator'
    """
    off_ns = abs(host.offset_ns)
    if off_ns <= SECOND:
        return ""
    way = "behind" if host.offset_ns < 0 else "ahead of"
    return f"its clock is {off_ns // SECOND} s {way} that of the aggregator"


def iso_utc(at_ns: int) -> str:
    """A time (ns since 1970) as ISO-8601 UTC, cut to microseconds. O(1).

    >>> iso_utc(1_764_063_000_123_456_789), iso_utc(951_782_400 * 10**9)
    ('2025-11-25T09:30:00.123456Z', '2000-02-29T00:00:00.000000Z')
    """
    microseconds = at_ns // 1000
    seconds, microsecond = divmod(microseconds, 1_000_000)
    days, second = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    hour, minute = second // 3600, second // 60 % 60
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second % 60:02}.{microsecond:06}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day, `days` after 1970-01-01, in the proleptic Gregorian calendar.

    Years are counted from March, so that the leap day is a year's last: H. Hinnant,
    "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if type(value) is int else None


def _time(value: object) -> str | None:
    return iso_utc(value) if type(value) is int else None
