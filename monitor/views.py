"""State -> rows: what tables, plots and metrics start from. Pure: time comes in, text goes out.

How far a total is to be trusted is a matter of doubts. Each says what may be missing: part of what
was said has not come yet ("settling"), or does not come any more ("stale"), or never will ("lower
bound"). Without any of them the total is exact: it is all that its hosts had counted and sent when
they were last heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.crdt.replication.messages import Heartbeat, HostStatus

SECOND = 10**9
Status: TypeAlias = Literal["exact", "settling", "stale", "lower bound"]


class Doubt(NamedTuple):
    """Something that may be missing: where, why in one line, and since when, if that is known."""

    status: Literal["settling", "stale", "lower bound"]
    host: str
    """"" is the server itself."""
    reason: str
    since_ns: int | None = None


class TotalReport(NamedTuple):
    """A total and how far it is to be trusted.

    `status` is the first that applies of settling, stale, lower bound, exact; `reason` names all
    that do, in one line, "" where it is exact. `since_ns`: since when something that is in it is
    not heard any more, None if all is heard.
    """

    pattern: str
    value: int | float
    status: Status
    reason: str
    since_ns: int | None


def doubts(
    url: str,
    heartbeat: Heartbeat | None,
    *,
    is_whole: bool,
    stale_since_ns: int | None,
    note: str = "",
) -> list[Doubt]:
    """What may be missing of what the server at `url` serves, the worst first. O(hosts log hosts).

    `is_whole` says that all it has sent is here, `stale_since_ns` since when what shows is not what
    it has, and `note` why, unless it is silent; or what it lacks that it once had.
    """
    found: list[Doubt] = []
    hosts = [] if heartbeat is None else heartbeat.hosts
    if not is_whole:
        found.append(Doubt("settling", "", f"the snapshot of {url} is on the way"))
    if heartbeat is not None and heartbeat.settling:
        found.append(Doubt("settling", "", heartbeat.settling))
    if not hosts:
        found.append(Doubt("settling", "", "no host has been heard yet"))
    if stale_since_ns is not None or note:
        silent = f"{url} has not been heard since {iso_utc(stale_since_ns or 0)}"
        found.append(Doubt("stale", "", note or silent, stale_since_ns))
    if heartbeat is not None and heartbeat.lower_bound:
        found.append(Doubt("lower bound", "", heartbeat.lower_bound))
    for host in hosts:
        if host.status == "syncing":
            found.append(Doubt("settling", host.host, f"{host.host}: its snapshot is on the way"))
        elif host.status == "stale":
            reason = f"{host.host} has not been heard since {iso_utc(host.since_ns)}"
            found.append(Doubt("stale", host.host, reason, host.since_ns))
        if host.lower_bound:
            reason = f"{host.host}: {host.lower_bound}"
            found.append(Doubt("lower bound", host.host, reason))
    return sorted(found, key=lambda doubt: _WORST_FIRST.index(doubt.status))


def unheard(doubts: Iterable[Doubt]) -> list[Doubt]:
    """Those of something that is on its way, or with somebody who is not heard. O(n)."""
    return [doubt for doubt in doubts if doubt.status != "lower bound"]


def is_all_heard(doubts: Iterable[Doubt]) -> bool:
    """Whether nothing is on its way, or with somebody who is not heard: it may yet be lost. O(n).

    >>> is_all_heard([Doubt("lower bound", "node-2", "node-2: its store was lost")])
    True
    """
    return not unheard(doubts)


def total_report(pattern: str, value: int | float, doubts: Iterable[Doubt]) -> TotalReport:
    """A total with its status, by what may be missing, the worst first. O(doubts).

    >>> total_report("a/*", 3, [])
    TotalReport(pattern='a/*', value=3, status='exact', reason='', since_ns=None)
    >>> total_report("a/*", 3, [Doubt("lower bound", "node-2", "node-2: its store was lost")])[2:4]
    ('lower bound', 'node-2: its store was lost')
    """
    reasons: dict[str, None] = {}
    status: Status = "exact"
    since_ns: int | None = None
    for doubt in doubts:
        status = doubt.status if status == "exact" else status
        reasons[doubt.reason] = None
        if doubt.since_ns is not None:
            since_ns = doubt.since_ns if since_ns is None else min(since_ns, doubt.since_ns)
    return TotalReport(pattern, value, status, "; ".join(reasons), since_ns)


def served_ns(heartbeat: Heartbeat | None, stale_since_ns: int | None, now_ns: int) -> int:
    """What time it is by the clock of the server: that of the reader, `now_ns`, may be off. O(1).

    `stale_since_ns` is when it was heard last, by the reader's clock, if that is too long ago.

    >>> from shardlog.crdt.replication.messages import Heartbeat
    >>> heartbeat = Heartbeat("a", "e", 500, 1000, [], [], {})
    >>> served_ns(heartbeat, None, 9), served_ns(heartbeat, 5, 9), served_ns(None, None, 9)
    (500, 504, 9)
    """
    if heartbeat is None:
        return now_ns
    return heartbeat.at_ns + (0 if stale_since_ns is None else max(now_ns - stale_since_ns, 0))


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


def age(seconds: float) -> str:
    """How long that is, in one unit; what lies ahead, by a clock that is off, is 0 s. O(1).

    >>> age(-1), age(89.9), age(90), age(5400), age(36 * 3600)
    ('0 s', '89 s', '1 min', '1 h', '1 d')
    """
    whole = max(int(seconds), 0)
    for unit, length, most in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 36 * 3600)):
        if whole < most:
            return f"{whole // length} {unit}"
    return f"{whole // 86_400} d"


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


_WORST_FIRST: tuple[Status, ...] = ("settling", "stale", "lower bound")
