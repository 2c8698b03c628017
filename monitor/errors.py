"""The error report: what is at `shardlog/errors`, as groups with a status. Pure: time comes in.

How it lies in the state is said in `shardlog.handler.errors`. All counts there are by tens of
minutes, for 6 h, and by hours, for 6 days; so the report needs no memory of its own, and a window
begins where the ten minutes, or the hour, begin that its start is in. What a clock that is ahead
counted is in it as well, up to an hour, as a collector takes it. Of the status of a group the first
that holds is meant:

    quiet       none in the window
    new         the first of all in the window
    regressed   there was none for 24 h before those in the window; or a version of the culprit's
                module is the first time among them in the window, and another was before
    escalating  10 at least in this and the last ten minutes, at more than three times the rate of
                the two hours before them
    ongoing     else

When a group was first seen is known to the minute where a sample says it, else to the ten minutes,
or to the hour; beyond 6 days, not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict

from shardlog.crdt.path import COLLAPSED, OVERFLOW, RESERVED
from shardlog.crdt.stamp import MAX_SKEW_NS
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SECOND = 10**9
TEN_MINUTES, HOUR = 600 * SECOND, 3600 * SECOND
ERRORS = (RESERVED, "errors")
RECENT_NS, HOURS_NS = 6 * HOUR, 144 * HOUR
QUIET_NS = 24 * HOUR
ESCALATING_MIN, ESCALATING_TIMES, BASELINE_NS = 10, 3, 2 * HOUR
ID_DIGITS_MIN = 4
FAILURES_MAX = 10
BAD_VERDICTS = ("fail", "overdue", "blind")

Status: TypeAlias = Literal["new", "regressed", "escalating", "ongoing", "quiet"]
STATUSES: tuple[Status, ...] = ("new", "regressed", "escalating", "ongoing", "quiet")
"""The most urgent first."""


class Sample(TypedDict):
    """One error in full. `slot` says why it was kept: as the first of its process, as one of the
    last, or chosen by chance.
    """

    slot: str
    at: str
    process: str
    version: str
    text: str


class Failure(TypedDict):
    """What a live test says that has failed, or is in a bad way, in the window.

    `names_host`: it names a host or a blade of the group.
    """

    test: str
    key: str
    verdict: str
    message: str
    since: str
    names_host: bool


class Group(TypedDict):
    """Errors that are the same. `count` is in the window, `total` of all that are known.

    `hosts` is by host and blade how many; `versions` those of the culprit's module, by the time of
    their first. `first` is None where it is longer ago than 6 days.
    """

    id: str
    fingerprint: str
    status: Status
    type: str
    message: str
    culprit: str
    why: str
    logger: str
    level: str
    count: int
    total: int
    hosts: dict[str, dict[str, int]]
    versions: list[str]
    first: str | None
    last: str | None
    samples: list[Sample]


class Report(TypedDict):
    """All groups, the most urgent first. `since` is where the window begins.

    `overflow` is how many errors there were beyond the bounds on groups, `forgotten` how many in
    groups that were not seen for so long that they are kept no more; `hosts` how many hosts logged.
    """

    at: str
    since: str
    hosts: int
    groups: list[Group]
    overflow: int
    forgotten: int


class _Times(NamedTuple):
    """Of the keys of hours and of tens of minutes, in ns since 1970."""

    hours: dict[str, int]
    recent: dict[str, int]
    are_recent: bool
    """Whether the window is within what is counted by tens of minutes."""


def report(errors: Mapping[Any, Any], hosts: int, now_ns: int, window_ns: int) -> Report:
    """The report of what is at ERRORS, in a window that ends now. O(its size log groups)."""
    newest_ns = now_ns + MAX_SKEW_NS
    times = _Times(
        {iso_utc(ns)[:13]: ns for ns in range(_floor(newest_ns, HOUR), now_ns - HOURS_NS, -HOUR)},
        {
            iso_utc(ns)[:16]: ns
            for ns in range(_floor(newest_ns, TEN_MINUTES), now_ns - RECENT_NS, -TEN_MINUTES)
        },
        window_ns <= RECENT_NS - HOUR,
    )
    since_ns = since(now_ns, window_ns)
    names = [
        name
        for name, said in errors.items()
        if isinstance(name, str) and name != COLLAPSED and isinstance(said, dict)
    ]
    digits = _digits([name for name in names if name != OVERFLOW])
    groups = [_group(name, _dict(errors, name), times, since_ns, now_ns, digits) for name in names]
    groups.sort(
        key=lambda group: (
            group["fingerprint"] == OVERFLOW,
            STATUSES.index(group["status"]),
            -group["count"],
            -group["total"],
            group["id"],
        )
    )
    return {
        "at": iso_utc(now_ns),
        "since": iso_utc(since_ns),
        "hosts": max(hosts, len({host for group in groups for host in group["hosts"]})),
        "groups": groups,
        "overflow": _sum(_dict(_dict(errors, OVERFLOW), "count")),
        "forgotten": _sum(_dict(_dict(errors, COLLAPSED), "count")),
    }


def since(now_ns: int, window_ns: int) -> int:
    """Where a window begins that ends now: where what is counted together begins. O(1)."""
    return _floor(now_ns - window_ns, TEN_MINUTES if window_ns <= RECENT_NS - HOUR else HOUR)


def find(groups: Iterable[Group], name: str) -> list[Group]:
    """The groups that a name may mean: an id, or the beginning of a fingerprint. O(groups)."""
    wanted = name.lower()
    prefixes = (wanted, wanted[1:]) if wanted[:1] == "e" and len(wanted) > 1 else (wanted,)
    return [group for group in groups if group["fingerprint"].startswith(prefixes)]


def failures(live: Mapping[Any, Any], group: Group, since_ns: int) -> list[Failure]:
    """What live tests say that went wrong meanwhile; what names a host of the group comes first.

    `live` is what is at `shardlog/live`. O(its size x blades).
    """
    names = [*group["hosts"], *(blade for blades in group["hosts"].values() for blade in blades)]
    found: list[Failure] = []
    for test in live:
        keys = _dict(live, test)
        for key in keys:
            said = _dict(keys, key)
            verdict, at_ns = said.get("verdict"), said.get("since")
            if verdict not in BAD_VERDICTS or type(at_ns) is not int or at_ns < since_ns:
                continue
            message = _text(said, "message")
            found.append(
                {
                    "test": str(test),
                    "key": str(key),
                    "verdict": verdict,
                    "message": message,
                    "since": iso_utc(at_ns),
                    "names_host": any(name in f"{key} {message}" for name in names),
                }
            )
    found.sort(key=lambda failure: (not failure["names_host"], failure["since"]))
    return found[:FAILURES_MAX]


def markdown(said: Report) -> str:
    """The report as a table that most forges and wikis show. O(its size)."""
    lines = [
        f"Errors from {said['since'][:16]}Z to {said['at'][:16]}Z",
        "",
        "| group | status | count | total | hosts | versions | first | last | error | culprit |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | --- | --- | --- |",
    ]
    for group in said["groups"]:
        cells = [
            group["id"],
            group["status"],
            str(group["count"]),
            str(group["total"]),
            f"{len(group['hosts'])}/{said['hosts']}",
            ", ".join(group["versions"]),
            to_the_minute(group["first"]) or "6 days ago or more",
            to_the_minute(group["last"]),
            headline(group),
            group["culprit"],
        ]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += ["", *remarks(said)]
    return "\n".join(lines).rstrip() + "\n"


def remarks(said: Report) -> Iterator[str]:
    """What is not in the groups, in words. O(1)."""
    if said["overflow"]:
        yield f"{said['overflow']} errors were beyond the bound on groups, and are only counted."
    if said["forgotten"]:
        yield f"{said['forgotten']} errors were in groups that are kept no more."


def headline(group: Group) -> str:
    """Type and message, in one line. O(1)."""
    parts = (group["type"].rpartition(".")[2], " ".join(group["message"].split()))
    return ": ".join(part for part in parts if part)


def to_the_minute(time: str | None) -> str:
    """A time without its seconds, "" for none. O(1).

    >>> to_the_minute("2025-11-25T09:30:00.123456Z")
    '2025-11-25T09:30Z'
    """
    return f"{time[:16]}Z" if time else ""


def _group(
    name: str,
    said: Mapping[Any, Any],
    times: _Times,
    since_ns: int,
    now_ns: int,
    digits: int,
) -> Group:
    about = _dict(said, "about")
    hours: list[tuple[int, str, int]] = sorted(
        (times.hours[hour], str(version), n)
        for hour in _dict(said, "hours")
        if hour in times.hours
        for version, n in _dict(_dict(said, "hours"), hour).items()
        if type(n) is int
    )
    recent = sorted(
        (times.recent[minute], n)
        for minute, n in _dict(said, "recent").items()
        if minute in times.recent and type(n) is int
    )
    samples = _samples(_dict(said, "samples"))
    is_older = COLLAPSED in _dict(said, "hours")
    first_ns = None if is_older or not hours else _first(hours[0][0], recent, samples)
    versions = dict.fromkeys(version for _, version, _ in hours)
    starts = recent if times.are_recent else [(at_ns, n) for at_ns, _, n in hours]
    lasts = [
        at_ns
        for host in _dict(said, "last")
        for at_ns in _dict(_dict(said, "last"), host).values()
        if type(at_ns) is int
    ]
    count = sum(n for at_ns, n in starts if at_ns >= since_ns)
    status = _status(count, first_ns, hours, recent, since_ns, now_ns)
    return {
        "id": name if name == OVERFLOW else f"E{name[:digits]}",
        "fingerprint": name,
        "status": status,
        "type": _text(about, "type"),
        "message": _text(about, "message"),
        "culprit": _text(about, "culprit"),
        "why": _text(about, "why"),
        "logger": _text(about, "logger"),
        "level": _text(about, "level"),
        "count": count,
        "total": _sum(_dict(said, "count")),
        "hosts": {
            str(host): {str(blade): n for blade, n in blades.items() if type(n) is int}
            for host in _dict(said, "count")
            if (blades := _dict(_dict(said, "count"), host))
        },
        "versions": [*versions],
        "first": None if first_ns is None else iso_utc(first_ns),
        "last": iso_utc(max(lasts)) if lasts else None,
        "samples": samples,
    }


def _status(
    count: int,
    first_ns: int | None,
    hours: list[tuple[int, str, int]],
    recent: list[tuple[int, int]],
    since_ns: int,
    now_ns: int,
) -> Status:
    if not count:
        return "quiet"
    if first_ns is not None and first_ns >= since_ns:
        return "new"
    since_hour = _floor(since_ns, HOUR)
    before = [at_ns for at_ns, _, _ in hours if at_ns < since_hour]
    # Within the hour in which the window begins, only the tens of minutes tell.
    before += [at_ns for at_ns, _ in recent if since_hour <= at_ns < since_ns]
    within = [at_ns for at_ns, _, _ in hours if at_ns >= since_hour]
    if within and within[0] - max(before, default=0) >= QUIET_NS:
        return "regressed"
    known = {version for at_ns, version, _ in hours if at_ns < since_hour}
    if known and any(at >= since_hour and version not in known for at, version, _ in hours):
        return "regressed"
    this_ns = _floor(now_ns, TEN_MINUTES) - TEN_MINUTES
    now = sum(n for at_ns, n in recent if at_ns >= this_ns)
    base = sum(n for at_ns, n in recent if this_ns - BASELINE_NS <= at_ns < this_ns)
    if now >= ESCALATING_MIN and now * BASELINE_NS > ESCALATING_TIMES * base * (now_ns - this_ns):
        return "escalating"
    return "ongoing"


def _first(hour_ns: int, recent: list[tuple[int, int]], samples: list[Sample]) -> int:
    at_ns, end_ns = hour_ns, hour_ns + HOUR
    if recent and hour_ns <= recent[0][0] < end_ns:
        at_ns, end_ns = recent[0][0], recent[0][0] + TEN_MINUTES
    start, end = iso_utc(at_ns), iso_utc(end_ns)
    times = [sample["at"] for sample in samples if start <= sample["at"] < end]
    if not times or not recent or recent[0][0] != at_ns:
        return at_ns
    minute = int(min(times)[14:16])
    return _floor(at_ns, HOUR) + minute * 60 * SECOND


def _samples(said: Mapping[Any, Any]) -> list[Sample]:
    """Whole ones, the oldest first; one that is kept for two reasons once."""
    found: dict[tuple[int, str, str], Sample] = {}
    for slot, value in said.items():
        match value:
            case [int(at_ns), str(process), str(version), str(text)]:
                sample: Sample = {
                    "slot": str(slot).partition("-")[0],
                    "at": iso_utc(at_ns),
                    "process": process,
                    "version": version,
                    "text": text,
                }
                found.setdefault((at_ns, process, text), sample)
            case _:
                pass
    return [found[key] for key in sorted(found)]


def _digits(names: list[str]) -> int:
    """How many digits tell all groups apart."""
    digits = ID_DIGITS_MIN
    while len({name[:digits] for name in names}) < len(names):
        digits += 1
    return digits


def _sum(said: Mapping[Any, Any]) -> int:
    total = 0
    for key, value in said.items():
        total += value if type(value) is int else _sum(_dict(said, key))
    return total


def _dict(said: Mapping[Any, Any], key: object) -> dict[Any, Any]:
    """What is there, if it is a dict: anybody may have written it."""
    value = said.get(key)
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _text(said: Mapping[Any, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""


def _floor(at_ns: int, step_ns: int) -> int:
    return at_ns // step_ns * step_ns


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
