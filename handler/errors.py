"""A process's part of the error report: what it says of its errors, and no more than it should.

    shardlog/errors/GROUP/
        about/{type, message, culprit, why, logger, level}
        count/HOST/BLADE            how many; a counter, as all below that count
        last/HOST/BLADE             when the last was (ns since 1970)
        recent/YYYY-MM-DDTHH:MM     how many in these ten minutes (UTC); kept for 6 h
        hours/YYYY-MM-DDTHH/VERSION how many in this hour, by the culprit's module; kept for 6 days
        samples/{first-0, first-1, last-0, last-1, last-2, chosen-0, chosen-1, chosen-2}
                                    each [when, process, version, text]

GROUP is a fingerprint (`shardlog.handler.fingerprint`), or `overflow`. Counts sum over processes,
hosts and restarts, so the report needs nobody who remembers. VERSION is the `__version__` of the
culprit's package, else of the program. When a group was seen first is in the keys of its hours. A
sample is one value, so that all of it is of one error.

Bounds. A process has 1,000 groups at a time; what would be one more is counted as `overflow`, and
takes the place of one that was not seen for an hour. A text has 16 kB. Samples: of each group the
first, then one a second at most, of all groups 50 a second; their last are overwritten in turn, and
every 8th, 64th and 512th error, as chance has it, stays until the next such: `chosen`. What is to
be said of groups gathers, and where these are many, 20 are told of in 50 ms, so that a storm of new
ones does not delay what else is logged.

Known anomalies. `first-*` is the first of the process that met the group last, of one host in two.
Without a life file nothing is retired: a group that goes on takes the blade some 170 paths a day.
"""

from __future__ import annotations

import linecache
import os
import stat
import sys
import zlib
from contextlib import suppress
from itertools import islice
from time import gmtime, strftime
from typing import TYPE_CHECKING

from shardlog.crdt.path import ERRORS, OVERFLOW, is_within, path_text
from shardlog.handler.fingerprint import LIBRARY, OWN, STANDARD, Call, Said, Thrown, group_of
from shardlog.handler.occurrence import FRAMES_HEAD, Frame, Raised
from shardlog.handler.scrub import SCRUBBED
from shardlog.handler.shard import Shard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.crdt.delta import Value
    from shardlog.handler.fingerprint import Group
    from shardlog.handler.occurrence import Occurrence
    from shardlog.handler.scrub import Scrub

SECOND = 10**9
UNKNOWN = "unknown"
"""The version of a module that does not say it."""
GROUPS_MAX = 1000
SAMPLE_BYTES_MAX = 16_000
SAMPLES_A_SECOND, SAMPLES_AT_ONCE = 50, 200
TOLD_AT_ONCE, TOLD_NS = 20, SECOND // 20
QUIET_NS = 3600 * SECOND
LOOK_NS = 10 * SECOND
MESSAGE_CHARACTERS = 300
VERSION_CHARACTERS = 80
SOURCE_BYTES_MAX = 1 << 20
REPEATS_SHOWN = 3
"""So many equal frames of a recursion are shown in a row."""
LASTS, FIRSTS = 3, 2

_STANDARD = (os.path.join(os.path.dirname(os.__file__), ""), "<frozen ")  # noqa: PTH118, PTH120
_PACKAGES = ("/site-packages/", "/dist-packages/")


class _Known:
    """A group that this process has met."""

    __slots__ = ("group", "last_ns", "n", "sampled_ns")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.n = 0
        self.last_ns = 0
        self.sampled_ns = 0
        """When a sample was taken, 0 if none was."""


class _Said:
    """What is to be said of a group."""

    __slots__ = ("counts", "writes")

    def __init__(self) -> None:
        self.writes: dict[str, Value] = {}
        self.counts: dict[str, int] = {}


class ErrorBook:
    """Takes errors, gives shards. One thread's, and one process's."""

    def __init__(self, host: str, blade: str, scrub: Scrub) -> None:
        self._message_path = path_text((blade, "msg"))
        self._who = path_text((host, blade))
        self._first = f"first-{zlib.crc32(host.encode()) % FIRSTS}"
        self._scrub = scrub
        self._known: dict[str, _Known] = {}
        self._versions: dict[str, str] = {}
        self._budget, self._budget_ns = float(SAMPLES_AT_ONCE), 0
        self._looked_ns = self._told_ns = 0
        self._waiting: dict[str, _Said] = {}

    def note(self, occurrence: Occurrence, process: str) -> Shard:
        """Take in an error of this process; the shard of its log call, without secrets."""
        shard = self._scrubbed(occurrence)
        group = self._group_of(occurrence)
        now_ns = shard.time_ns
        known = self._place(group, now_ns)
        known.n += 1
        known.last_ns = max(known.last_ns, now_ns)
        top = f"{ERRORS}/{known.group.id}"
        said = self._waiting.get(known.group.id)
        if said is None:
            said = self._waiting[known.group.id] = _Said()
        version = self._version_of(occurrence, group)
        ten_minutes = now_ns // (600 * SECOND) * 600
        hour = strftime("%Y-%m-%dT%H", gmtime(ten_minutes))
        minute = strftime("%Y-%m-%dT%H:%M", gmtime(ten_minutes))
        for path in (
            f"{top}/count/{self._who}",
            f"{top}/recent/{minute}",
            f"{top}/hours/{hour}/{path_text((version,))}",
        ):
            said.counts[path] = said.counts.get(path, 0) + 1
        said.writes[f"{top}/last/{self._who}"] = known.last_ns
        if known.n == 1:
            said.writes.update(self._about(top, known.group, occurrence))
        said.writes.update(self._samples(top, known, occurrence, version, process))
        return shard

    def take(self, now_ns: int, *, hurry: bool) -> Iterator[Shard]:
        """What is to be said now, which is all if it is not much, or if there is no time left."""
        waiting = self._waiting
        number = len(waiting)
        if number > TOLD_AT_ONCE and not hurry:
            if 0 <= now_ns - self._told_ns < TOLD_NS:
                return
            number = TOLD_AT_ONCE
        self._told_ns = now_ns
        for group in [*islice(waiting, number)]:
            said = waiting.pop(group)
            yield Shard(now_ns, [*said.writes.items()], [], [*said.counts.items()], {}, 0)

    def has_waiting(self) -> bool:
        """Whether more is to be said. O(1)."""
        return bool(self._waiting)

    def _place(self, group: Group, now_ns: int) -> _Known:
        known = self._known.get(group.id)
        if known is not None:
            return known
        if len(self._known) >= GROUPS_MAX and not 0 <= now_ns - self._looked_ns < LOOK_NS:
            self._looked_ns = now_ns
            quiet = [key for key, it in self._known.items() if it.last_ns < now_ns - QUIET_NS]
            for key in quiet:
                del self._known[key]
        if len(self._known) >= GROUPS_MAX:
            group = group._replace(id=OVERFLOW, why=f"more than {GROUPS_MAX} groups", culprit="")
        return self._known.setdefault(group.id, _Known(group))

    def _about(self, top: str, group: Group, occurrence: Occurrence) -> Iterator[tuple[str, str]]:
        chain = occurrence.chain
        message = occurrence.message or occurrence.template
        if group.id == OVERFLOW:
            kind, message = "", "errors beyond the bound on groups, which are only counted"
        elif chain:
            kind, message = chain[0].kind, chain[0].text or message
        else:
            kind = ""
        said = {
            "type": kind,
            "message": message,
            "culprit": group.culprit,
            "why": group.why,
            "logger": occurrence.logger if group.id != OVERFLOW else "",
            "level": occurrence.level if group.id != OVERFLOW else "",
        }
        for key, text in said.items():
            limit = MESSAGE_CHARACTERS if key == "message" else SAMPLE_BYTES_MAX
            yield f"{top}/about/{key}", self._scrub.text(text)[:limit]

    def _group_of(self, occurrence: Occurrence) -> Group:
        said = Said(
            occurrence.logger,
            occurrence.function,
            self._scrub.text(occurrence.template),
            occurrence.has_arguments,
        )
        return group_of(said, [*map(_thrown, occurrence.chain)], occurrence.fingerprint)

    def _samples(
        self, top: str, known: _Known, occurrence: Occurrence, version: str, process: str
    ) -> Iterator[tuple[str, Value]]:
        now_ns = known.last_ns
        # Which one is chosen is chance that can be repeated.
        zeros = zlib.crc32(f"{process}{known.group.id}{known.n}".encode())
        zeros = (zeros & -zeros).bit_length() - 1
        # Else each process that logs one error and ends would take the same.
        slots = [f"last-{(zlib.crc32(process.encode()) + known.n) % LASTS}"]
        if not known.sampled_ns:
            slots.append(self._first)
        if zeros >= 3:
            slots.append(f"chosen-{min(zeros // 3, 3) - 1}")
        is_due = known.n <= LASTS or not 0 <= now_ns - known.sampled_ns < SECOND
        if not is_due or not self._may_sample(now_ns):
            return
        known.sampled_ns = now_ns
        text = self._scrub.text(_formatted(occurrence))
        raw = text.encode(errors="replace")
        if len(raw) > SAMPLE_BYTES_MAX:
            half = SAMPLE_BYTES_MAX // 2 - 20
            head, tail = raw[:half].decode(errors="ignore"), raw[-half:].decode(errors="ignore")
            text = f"{head}\n… cut …\n{tail}"
        for slot in slots:
            yield f"{top}/samples/{slot}", [now_ns, process, version, text]

    def _may_sample(self, now_ns: int) -> bool:
        more = max(now_ns - self._budget_ns, 0) / SECOND * SAMPLES_A_SECOND
        self._budget = min(self._budget + more, SAMPLES_AT_ONCE)
        self._budget_ns = now_ns
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    def _scrubbed(self, occurrence: Occurrence) -> Shard:
        shard = occurrence.shard
        scrub = self._scrub
        writes: list[tuple[str, Value]] = []
        for path, value in shard.writes:
            if occurrence.fingerprint and is_within(path, "fingerprint"):
                continue
            if path != self._message_path and scrub.is_secret(path) and type(value) is not dict:
                writes.append((path, SCRUBBED))
            else:
                writes.append((path, scrub.value(value)))
        refused = {why: (n, scrub.text(said)) for why, (n, said) in shard.refused.items()}
        return shard._replace(writes=writes, refused=refused)

    def _version_of(self, occurrence: Occurrence, group: Group) -> str:
        """The version of the culprit's module, as far as it says it, else of the program."""
        name = group.culprit.partition(":")[0] if occurrence.chain else occurrence.logger
        top = name.partition(".")[0]
        found = self._versions.get(top)
        if found is None:
            found = _module_version(top) or _module_version("__main__") or UNKNOWN
            if len(self._versions) < GROUPS_MAX:
                self._versions[top] = found
        return found


def _module_version(name: str) -> str:
    module = sys.modules.get(name)
    # Past a module's own __getattr__, which may do anything.
    version = vars(module).get("__version__") if type(module) is type(sys) else None
    if type(version) is not str or not version.isprintable() or version == "~":
        return ""
    return version[:VERSION_CHARACTERS]


def _thrown(raised: Raised) -> Thrown:
    calls = [
        Call(frame.module, frame.code.co_qualname, _nearness(frame.code.co_filename))
        for frame in raised.frames
    ]
    members = [[*map(_thrown, member)] for member in raised.members]
    place = raised.syntax[0].rpartition("/")[2] if raised.syntax else ""
    return Thrown(raised.kind, calls, members, place)


def _nearness(file: str) -> int:
    if any(folder in file for folder in _PACKAGES):
        return LIBRARY
    return STANDARD if file.startswith(_STANDARD) else OWN


def _formatted(occurrence: Occurrence) -> str:
    """As Python prints a traceback, behind the message of the log call."""
    lines = [f"{occurrence.level} {occurrence.logger}: {occurrence.message}"]
    if occurrence.traceback:
        lines.append(occurrence.traceback)
    lines += _chain_lines(occurrence.chain, "")
    return "\n".join(lines)


def _chain_lines(chain: list[Raised], margin: str) -> Iterator[str]:
    for at in range(len(chain) - 1, -1, -1):
        yield from (f"{margin}{line}" for line in _raised_lines(chain[at]))
        for number, member in enumerate(chain[at].members, 1):
            yield f"{margin}  +---------------- {number} ----------------"
            yield from _chain_lines(member, f"{margin}  | ")
        if at:
            yield from (margin.rstrip(), f"{margin}{chain[at - 1].behind}", margin.rstrip())


def _raised_lines(raised: Raised) -> Iterator[str]:
    if raised.frames:
        yield "Traceback (most recent call last):"
    again = 0
    for at, frame in enumerate(raised.frames):
        if raised.cut and at == FRAMES_HEAD:
            yield f"  … {raised.cut} frames …"
            again = 0
        again = again + 1 if at and frame == raised.frames[at - 1] else 0
        if again >= REPEATS_SHOWN:
            continue
        yield f'  File "{frame.code.co_filename}", line {frame.line}, in {frame.code.co_name}'
        if source := _source(frame):
            yield f"    {source}"
    if raised.syntax is not None:
        file, line, text = raised.syntax
        yield f'  File "{file}", line {line}'
        yield f"    {text.strip()}"
    yield f"{raised.kind}: {raised.text}" if raised.text else raised.kind
    for note in raised.notes:
        yield from note.splitlines()


def _source(frame: Frame) -> str:
    """The line that a frame names, "" where there is no file that is one to be read."""
    file = frame.code.co_filename
    if file not in linecache.cache:
        with suppress(OSError, ValueError):
            found = os.stat(file)  # noqa: PTH116
            if stat.S_ISREG(found.st_mode) and found.st_size <= SOURCE_BYTES_MAX:
                return linecache.getline(file, frame.line).strip()[:200]
        return ""
    return linecache.getline(file, frame.line).strip()[:200]
