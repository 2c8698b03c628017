"""Who is there: rows of processes and of nodes, and what has changed between two looks. Pure.

What a process says of itself, and what the collector of its host knows of it, are registers of one
record; what they come to, its status, is computed here alone:

    never seen   a blade that is expected, and of which there is no process
    up           its handler's thread speaks once a second
    busy         as it has declared: for as long as the task should take
    late         the task takes longer; or the process lives and has said nothing for 3 s
    silent       it lives, and has said nothing for 10 s, or is stopped (SIGSTOP)
    bye          it has ended, and said so
    lost         it has ended without a word

Where the collector of its host is not heard, a row says what was known last, and since when not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypedDict

from shardlog.crdt.path import RESERVED, path_text
from shardlog.crdt.process_id import blade_of
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from shardlog.crdt.path import Key, Keys
    from shardlog.crdt.replication.messages import Heartbeat, HostStatus
    from shardlog.monitor.replica import Shown

PRESENCE = f"{RESERVED}/presence/*/*/*"
"""Selects {blade}/{process}/{host, pid, started, status, heard, ...}."""
COLLECTORS = f"{RESERVED}/health/collector/**"
"""Selects {host}/{refused/{reason}, store, disconnects}."""

Status: TypeAlias = Literal["never seen", "up", "busy", "late", "silent", "bye", "lost"]
WORDS_CHARACTERS_MAX = 120
"""How much of its last words a remark has."""
THERE = ("up", "busy", "late")
"""The statuses of a process that does what it should, as far as is known."""
STATUSES = (*THERE, "silent", "bye", "lost")
"""Those of a process, the best first."""


class Task(TypedDict):
    """What a process declared to be busy with."""

    what: str
    since: str
    until: str


class Wait(TypedDict):
    """Where a main thread is that has not run for 10 s, its innermost functions, and since when."""

    where: str
    since: str


class Blade(TypedDict):
    """One process of a blade, as it is known; None for what nobody said.

    `exit` is the exit code, or `signal` names what ended it, both only where the kernel told the
    collector; `cause`: why it is silent ("stopped") or was killed ("out of memory"); `error`: the
    exception that it did not catch. `queue`: how many log calls waited for its thread at most, in
    the last seconds; `refused`: how much its handler refused. `words`: what it said last, at
    `spoke`. `collector` is the host that tells of it, whose clock is `offset_ns` ahead of the
    aggregator's; if that is not heard, all is as it was at `unheard_since`.
    """

    blade: str
    host: str | None
    pid: int | None
    process: str | None
    status: str | None
    started: str | None
    heard: str | None
    version: str | None
    exit: int | None
    signal: str | None
    cause: str | None
    error: str | None
    busy: Task | None
    main: Wait | None
    queue: int | None
    refused: int | None
    words: str | None
    spoke: str | None
    collector: str | None
    offset_ns: int | None
    unheard_since: str | None


class Node(TypedDict):
    """A collector, or the aggregator that was asked.

    `status`: "live", "syncing" or "settling": not all of it is known yet; "stale": not heard
    `since`; "replaced": another store goes on for it. `store` says why its store can't be written,
    `lower_bound` why counts may be missing for good. `refused`: how much it turned away, by reason.
    """

    node: str
    kind: Literal["collector", "aggregator"]
    status: str
    since: str | None
    offset_ns: int | None
    refused: dict[str, int]
    store: str | None
    lower_bound: str | None
    replica: str


class Event(NamedTuple):
    """Somebody is there, has gone, or is otherwise than before: how it was, "" if it is new."""

    who: str
    old: str
    new: str


def blades(
    rows: Iterable[tuple[Keys, Shown]],
    shown: Callable[[str], Shown | None] = lambda _: None,
    hosts: Sequence[HostStatus] = (),
    expected: Iterable[str] = (),
) -> list[Blade]:
    """Who is there: a row a process, by blade and start, and one for who should be and never was.

    `rows` are those that PRESENCE selects: times are ints of ns there, and ISO-8601 here. A value
    of another type counts as not said, for anybody may have written it. `shown` is what shows at a
    path, `hosts` what the last heartbeat said. O(rows log rows).
    """
    processes: dict[Keys, dict[Key, Shown]] = {}
    for (*process, what), said in rows:
        processes.setdefault(tuple(process), {})[what] = said
    by_name = _best(hosts)
    found = [
        (_number(said, "started") or 0, _row(str(blade), str(process), said, shown, by_name))
        for (*_, blade, process), said in processes.items()
    ]
    names = {row["blade"] for _, row in found}
    found += [(0, _never_seen(name)) for name in sorted({*expected} - names)]
    found.sort(key=lambda item: (item[1]["blade"], item[0], item[1]["process"] or ""))
    return [row for _, row in found]


def missing(
    rows: Iterable[Blade],
    expected: Iterable[str],
    *,
    is_all_heard: bool,
    named: Collection[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Which of these blades have no process that does what it should, and of which that can't be
    told: a process of theirs was on a host that is not heard, or none is known and not all hosts
    are heard. `named`: the only hosts of which it is known how they are, None for all. O(rows).
    """
    heard: list[Blade] = []
    unheard: set[str] = set()
    for row in (row for row in rows if row["process"] is not None):
        is_named = named is None or row["collector"] in named
        if is_named and row["unheard_since"] is None:
            heard.append(row)
        else:
            unheard.add(row["blade"])
    there = {row["blade"] for row in heard if row["status"] in THERE}
    gone = {row["blade"] for row in heard} - unheard
    absent: list[str] = []
    untold: list[str] = []
    for name in dict.fromkeys(expected):
        if name not in there:
            is_sure = name in gone or (is_all_heard and name not in unheard)
            (absent if is_sure else untold).append(name)
    return absent, untold


def nodes(
    url: str,
    heartbeat: Heartbeat | None,
    health: Iterable[tuple[Keys, Shown]],
    stale_since_ns: int | None = None,
) -> list[Node]:
    """The node that serves at `url`, and the collectors it knows, by host. O(rows log rows).

    `health` are the rows that COLLECTORS selects.
    """
    if heartbeat is None:
        return []
    refused: dict[str, dict[str, int]] = {}
    stores: dict[str, str] = {}
    for (_, _, _, name, *what), said in health:
        match what, said.value:
            case ["refused", reason], int() as times:
                refused.setdefault(str(name), {})[str(reason)] = times
            case ["store"], str() as trouble if trouble != "written again":
                stores[str(name)] = trouble
            case _:
                pass
    sources = {host.replica for host in heartbeat.hosts}
    found: list[Node] = []
    if heartbeat.source not in sources:
        is_stale = stale_since_ns is not None
        served: Node = {
            "node": url,
            "kind": "aggregator",
            "status": "stale" if is_stale else "settling" if heartbeat.settling else "live",
            "since": _iso(stale_since_ns),
            "offset_ns": None,
            "refused": dict(heartbeat.refused),
            "store": None,
            "lower_bound": heartbeat.lower_bound or None,
            "replica": heartbeat.source,
        }
        found.append(served)
    for host in sorted(heartbeat.hosts, key=lambda host: (host.host, host.replica)):
        is_heard = host.status in ("live", "syncing")
        is_current = host.status != "replaced"
        collector: Node = {
            "node": host.host,
            "kind": "collector",
            "status": host.status,
            "since": None if is_heard else iso_utc(host.since_ns),
            "offset_ns": host.offset_ns,
            "refused": refused.get(host.host, {}) if is_current else {},
            "store": stores.get(host.host) if is_current else None,
            "lower_bound": host.lower_bound or None,
            "replica": host.replica,
        }
        found.append(collector)
    return found


def status_of(said: Callable[[str], object]) -> str | None:
    """What is said of a process comes to; None: nothing is. `said` reads its record. O(1)."""
    status = said("status")
    if status != "up":
        return status if isinstance(status, str) else None
    silence = said("silence")
    if silence in ("stopped", "silent"):
        return "silent"
    if silence == "late":
        return "late"
    match said("busy"):
        case [str(), int(), int(), bool() as is_late]:
            return "late" if is_late else "busy"
        case _:
            return "up"


def best_status(found: Collection[str | None]) -> str | None:
    """Of the statuses of a blade's processes the best, None if there is none."""
    return next((status for status in STATUSES if status in found), None)


def remark(row: Blade) -> str:
    """What is to be said of a process beside its status, in one line; "" if nothing is. O(1).

    How it ended, what it is at, what waits or was refused; its last words, if it says nothing more.
    """
    return "; ".join(_remarks(row))


def node_remark(node: Node) -> str:
    """What is to be said of a node beside its status, in one line; "" if nothing is. O(reasons)."""
    refused = ", ".join(f"{times} {reason}" for reason, times in sorted(node["refused"].items()))
    said = (
        f"not heard since {_second(node['since'])}" if node["since"] else "",
        f"refused {refused}" if refused else "",
        node["store"] or "",
        f"lower bound: {node['lower_bound']}" if node["lower_bound"] else "",
    )
    return "; ".join(filter(None, said))


def states(rows: Iterable[Blade], nodes: Iterable[Node]) -> dict[str, str]:
    """How all are, each in one line, by who it is: what is compared between two looks. O(rows)."""
    said = {f"node {node['node']} {node['replica']}": _node_state(node) for node in nodes}
    for row in rows:
        at = f" on {row['host']}" if row["host"] else ""
        who = f"{row['blade']} {row['pid']}{at}" if row["pid"] else row["blade"]
        key = f"{row['process'] or ''}\0{who}"
        said[key] = f"{row['status']}{_in_brackets(_ending(row))}"
    return said


def events(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Event]:
    """What is otherwise than before. O(both)."""
    for who, new in now.items():
        old = before.get(who, "")
        if old != new:
            yield Event(who.rpartition("\0")[2], old, new)
    for who, old in before.items():
        if who not in now:
            yield Event(who.rpartition("\0")[2], old, "forgotten")


def _row(
    blade: str,
    process: str,
    said: Mapping[Key, Shown],
    shown: Callable[[str], Shown | None],
    hosts: Mapping[str, HostStatus],
) -> Blade:
    code, signal, cause = _exit(said)
    task, main = _task(said), _main(said)
    words, spoke_ns = _words(blade, process, said, shown)
    collector = _collector(said)
    host = hosts.get(collector or "")
    status = status_of(lambda key: _value(said, key))
    is_over = status in ("bye", "lost")
    if not is_over:
        code, signal = None, None
        cause = "stopped" if _value(said, "silence") == "stopped" else None
    return {
        "blade": blade,
        "host": _text(said, "host"),
        "pid": _number(said, "pid"),
        "process": process,
        "status": status,
        "started": _iso(_number(said, "started")),
        "heard": _iso(_number(said, "heard")),
        "version": _text(said, "version"),
        "exit": code,
        "signal": signal,
        "cause": cause,
        "error": _text(said, "error"),
        "busy": None if is_over else task,
        "main": None if is_over else main,
        "queue": _number(said, "queue"),
        "refused": _number(said, "refused"),
        "words": words,
        "spoke": _iso(spoke_ns),
        "collector": collector,
        "offset_ns": None if host is None else host.offset_ns,
        "unheard_since": iso_utc(host.since_ns) if host and host.status == "stale" else None,
    }


def _never_seen(blade: str) -> Blade:
    return {
        "blade": blade,
        "host": None,
        "pid": None,
        "process": None,
        "status": "never seen",
        "started": None,
        "heard": None,
        "version": None,
        "exit": None,
        "signal": None,
        "cause": None,
        "error": None,
        "busy": None,
        "main": None,
        "queue": None,
        "refused": None,
        "words": None,
        "spoke": None,
        "collector": None,
        "offset_ns": None,
        "unheard_since": None,
    }


def _exit(said: Mapping[Key, Shown]) -> tuple[int | None, str | None, str | None]:
    match _value(said, "exit"):
        case [int() as code, str(), str()]:
            return code, None, None
        case [None, str() as signal, str() as cause]:
            return None, signal or None, cause or None
        case _:
            return None, None, None


def _task(said: Mapping[Key, Shown]) -> Task | None:
    match _value(said, "busy"):
        case [str() as what, int() as since_ns, int() as until_ns, bool()]:
            return {"what": what, "since": iso_utc(since_ns), "until": iso_utc(until_ns)}
        case _:
            return None


def _main(said: Mapping[Key, Shown]) -> Wait | None:
    match _value(said, "main"):
        case [str() as where, int() as since_ns]:
            return {"where": where, "since": iso_utc(since_ns)}
        case _:
            return None


def _words(
    blade: str, process: str, said: Mapping[Key, Shown], shown: Callable[[str], Shown | None]
) -> tuple[str | None, int | None]:
    """What it said last: where its blade says it, unless another process has spoken since."""
    last = shown(path_text((blade, "msg")))
    if last is not None and last.writer == process and isinstance(last.value, str):
        return last.value, last.stamp
    match _value(said, "words"):
        case [str() as text, int() as spoke_ns]:
            return text, spoke_ns
        case _:
            return None, None


def _collector(said: Mapping[Key, Shown]) -> str | None:
    """The host of the collector that tells when it was heard."""
    heard = said.get("heard")
    return blade_of(heard.writer) or None if heard is not None else None


def _best(hosts: Iterable[HostStatus]) -> dict[str, HostStatus]:
    """Of each host the replica that is heard, else the one that was heard last."""
    best: dict[str, HostStatus] = {}
    for host in hosts:
        other = best.get(host.host)
        if other is None or _rank(host) > _rank(other):
            best[host.host] = host
    return best


def _rank(host: HostStatus) -> tuple[int, int]:
    return ("replaced", "stale", "syncing", "live").index(host.status), host.since_ns


def _remarks(row: Blade) -> Iterator[str]:
    if ending := _ending(row):
        yield ending
    if (task := row["busy"]) is not None:
        is_late = row["status"] == "late"
        yield f"{task['what']}, {'was due' if is_late else 'until'} {_second(task['until'])}"
    if (main := row["main"]) is not None:
        yield f"main thread waits in {main['where']} since {_second(main['since'])}"
    if row["unheard_since"] is not None:
        yield f"collector {row['collector']} not heard since {_second(row['unheard_since'])}"
    if row["queue"]:
        yield f"queue {row['queue']}"
    if row["refused"]:
        yield f"refused {row['refused']}"
    if row["words"] and row["status"] in ("bye", "lost", "silent"):
        yield f"said last: {row['words'][:WORDS_CHARACTERS_MAX]}"


def _ending(row: Blade) -> str:
    exited = "" if row["exit"] is None else f"exit {row['exit']}"
    said = (exited, row["signal"], row["cause"], row["error"])
    return ", ".join(filter(None, said))


def _node_state(node: Node) -> str:
    return node["status"] + _in_brackets(node["store"] or node["lower_bound"] or "")


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _second(time: str | None) -> str:
    return f"{time[:19]}Z" if time else ""


def _value(said: Mapping[Key, Shown], key: str) -> object:
    shown = said.get(key)
    return None if shown is None else shown.value


def _text(said: Mapping[Key, Shown], key: str) -> str | None:
    value = _value(said, key)
    return value if isinstance(value, str) else None


def _number(said: Mapping[Key, Shown], key: str) -> int | None:
    value = _value(said, key)
    return value if type(value) is int else None


def _iso(at_ns: int | None) -> str | None:
    return None if at_ns is None else iso_utc(at_ns)
