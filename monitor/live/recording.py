"""Recordings: what a monitor was told, on the disk, so that it can be judged and shown again.

A recording is a folder of segments, 000001.shards and so on. A segment is

    magic, version       8 bytes and 1
    record, record, ...  length and CRC-32 of what follows (4 bytes each, big-endian), then that

The first record is the segment's header, then comes its opening: all that shows at its beginning,
what was last heard, and what is in doubt, so that each segment can be read alone. Then come the
events. A record of changes is a delta as on the wire, one of a heartbeat the heartbeat; before it
stand its kind, its flags and its time. What is too large for a frame of the wire takes several
records, and so do the parts of a `Whole`.

A segment is put in its place when its opening is whole; records are appended behind it, each event
at once. A killed recorder leaves a torn tail at worst: it is read up to the last whole event, and
then a `Doubt` says so. A recorder that finds a recording goes on in a new segment, as another
`session`, without an opening: it does not know what showed meanwhile. Whoever reads is told by a
`Doubt` there too, until the next `Whole`.

Known anomalies. The oldest segments go, so the bound is that of the folder, or two segments if
that is more. A segment is at least as large as its opening, or a large state would be written over
and over. What the system had not written when its power failed is missing as if it were torn off.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec

from shardlog.crdt.delta import Natural
from shardlog.crdt.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from shardlog.crdt.replication.messages import Changes, Delta, Heartbeat
from shardlog.crdt.wire import codec
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL, FRAME_BYTES_MAX
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.replica import Replica
from shardlog.monitor.rows import join, split

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from types import TracebackType

    from shardlog.monitor.feed import Event

MAGIC = b"shardlog"
VERSION = 1
SUFFIX = ".shards"
UNSEEN = ".new"
MIB = 1 << 20

_NAME = re.compile(r"([0-9]{6,})" + re.escape(SUFFIX))
_FRAME = struct.Struct(">II")
_HEAD = struct.Struct(">BBq")
"""Kind, flags, time."""
_RECORD_BYTES_MAX = _HEAD.size + FRAME_BYTES_MAX

_WHOLE, _MOVED, _HEARD, _DOUBT = range(4)
_MORE = 1
"""Flag: the next record belongs to the same event."""
_PART = 2
"""Flag: it even belongs to the same changes."""
_OPENING = 4
"""Flag: of the opening, which is no event where the segment before was read."""


class Header(msgspec.Struct, array_like=True, frozen=True):
    """Where a segment comes from: the address, the recorder's run, and when it began, ns."""

    url: str
    session: str
    number: Natural
    at_ns: Natural


class _Record(NamedTuple):
    kind: int
    flags: int
    at_ns: int
    body: bytes


class Recorder:
    """Writes events into a folder, which is made, or goes on there. A context manager.

    `segment_bytes` is when another segment is begun, `keep_bytes` when the oldest one goes.
    `events`, `rows` and `size` (bytes) say what this recorder has written, and `span_ns` how long
    it was from the first event to the last.

    Raises:
        ConfigError: the folder can't be written, is no recording, or another recorder writes there.
    """

    def __init__(
        self,
        path: Path,
        url: str,
        *,
        segment_bytes: int = 64 * MIB,
        keep_bytes: int = 1024 * MIB,
    ) -> None:
        self.events = self.rows = self.size = self.span_ns = 0
        self._first_ns: int | None = None
        self._path = path
        self._url = url
        self._session = secrets.token_hex(8)
        self._segment_bytes = segment_bytes
        self._keep_bytes = keep_bytes
        self._fold = _Fold()
        self._file = -1
        self._behind = self._opening = 0
        """Bytes of the newest segment: behind its opening, and up to there."""
        with _said(path):
            self._is_new = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            self._folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._sizes = self._claim()
            except BaseException:
                os.close(self._folder)
                raise
        self._number = max(self._sizes, default=0)

    def write(self, events: Iterable[Event]) -> None:
        """Append events; the system has them then. O(size). It is closed where that fails.

        Raises:
            ConfigError: the disk is full, or the folder is gone.
            LocalProtocolError: it is closed.
        """
        if self._folder < 0:
            raise LocalProtocolError("this recorder is closed")
        try:
            with _said(self._path):
                for event in events:
                    self._write(event)
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """End it; may be repeated. A folder that was made for nothing goes."""
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._folder = -1
        if self._is_new and not self._sizes:
            with contextlib.suppress(OSError):
                self._path.rmdir()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _claim(self) -> dict[int, int]:
        """Keep others out; how large each segment is that is there already."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{self._path}: another recorder writes there") from None
        sizes = {number: file.stat().st_size for number, file in _files(self._path)}
        if not sizes and any(file.suffix != UNSEEN for file in self._path.iterdir()):
            raise ConfigError(f"{self._path}: the folder has files, and is no recording")
        return sizes

    def _write(self, event: Event) -> None:
        if self._file < 0 or self._behind >= max(self._segment_bytes, self._opening):
            self._begin(event.at_ns)
        self._append(b"".join(map(_packed, _records(event))))
        self._fold.take(event)
        self.events += 1
        self.rows += _rows(event)
        if self._first_ns is None:
            self._first_ns = event.at_ns
        self.span_ns = event.at_ns - self._first_ns

    def _begin(self, at_ns: int) -> None:
        """Begin the next segment: nobody sees it before it has its opening."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._number += 1
        self._behind = self._sizes[self._number] = 0
        place = self._path / f"{self._number:06}{SUFFIX}"
        unseen = place.with_suffix(UNSEEN)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.open(unseen, flags, 0o666)
            header = Header(self._url, self._session, self._number, at_ns)
            self._append(MAGIC + bytes([VERSION]) + _framed(msgspec.msgpack.encode(header)))
            for event in self._fold.events(at_ns):
                for record in _records(event):
                    self._append(_packed(record._replace(flags=record.flags | _OPENING)))
            unseen.rename(place)
        except OSError:
            unseen.unlink(missing_ok=True)
            raise
        self._opening, self._behind = self._behind, 0

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self.size += len(data)
        self._behind += len(data)
        self._sizes[self._number] += len(data)
        while len(self._sizes) > 2 and sum(self._sizes.values()) > self._keep_bytes:
            oldest = min(self._sizes)
            (self._path / f"{oldest:06}{SUFFIX}").unlink(missing_ok=True)
            del self._sizes[oldest]


class _Fold:
    """What all events so far come to."""

    def __init__(self) -> None:
        self._replica = Replica()
        self._is_known = False
        self._heartbeat: Heartbeat | None = None
        self._doubt = ""

    def take(self, event: Event) -> None:
        match event:
            case Whole(at_ns, changes):
                self._replica.install(changes, (), at_ns)
                self._is_known = True
            case Moved(_, changes):
                self._replica.apply(changes)
            case Heard(_, heartbeat):
                self._heartbeat = heartbeat
            case Doubt(_, reason):
                self._doubt = reason

    def events(self, at_ns: int) -> Iterator[Event]:
        """The few events that come to the same. O(n)."""
        if self._is_known:
            yield Whole(at_ns, tuple(self._chunks()))
        if self._heartbeat is not None:
            yield Heard(at_ns, self._heartbeat)
        if self._doubt:
            yield Doubt(at_ns, self._doubt)

    def _chunks(self) -> Iterator[Changes]:
        after: str | None = None
        while True:
            changes, after = self._replica.chunk(after, FRAME_BYTES_GOAL)
            yield changes
            if after is None:
                return


class Segment:
    """One file of a recording.

    Raises:
        ConfigError: it is no recording, or one of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = ""
        """Why `events` ended before the file did, once it has."""
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + 1)
            if head[:-1] != MAGIC:
                raise ConfigError(f"{path}: this is no recording")
            if head[-1] != VERSION:
                raise ConfigError(
                    f"{path}: a recording of version {head[-1]}; this shardlog reads {VERSION}, "
                    "replay it with the one that wrote it"
                )
            data, _ = _next(file)
            try:
                self.header = msgspec.msgpack.decode(data, type=Header)
            except msgspec.MsgspecError:
                raise ConfigError(f"{path}: this is no recording: its header is torn") from None
            self._start = file.tell()

    def events(self) -> Iterator[tuple[Event, bool]]:
        """The whole events, and whether each is one of the opening. O(size)."""
        whole = 0
        with self.path.open("rb") as file:
            file.seek(self._start)
            records: list[_Record] = []
            while True:
                data, problem = _next(file)
                if not data:
                    break
                kind, flags, at_ns = _HEAD.unpack_from(data)
                records.append(_Record(kind, flags, at_ns, data[_HEAD.size :]))
                if records[-1].flags & _MORE:
                    continue
                try:
                    event = _event(records)
                except RemoteProtocolError as error:
                    problem = f"is damaged ({error})"
                    break
                whole += not records[-1].flags & _OPENING
                yield event, bool(records[-1].flags & _OPENING)
                records = []
        if records and not problem:
            problem = "ends within an event"
        if problem:
            self.torn = f"{self.path.name} {problem}, behind {whole} whole events"


def segments(path: Path) -> list[Segment]:
    """The segments of a recording, or the one that `path` is itself. O(segments).

    Raises:
        ConfigError: nothing is there, or it is no recording, or one of a newer version.
    """
    with _said(path):
        files = [file for _, file in _files(path)] if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path}: the folder is no recording: it has no {SUFFIX} files")
        return [Segment(file) for file in files]


def read(path: Path) -> Iterator[Event]:
    """The events of a recording, all its segments in order, or of the one that `path` is.

    Where some are missing, because a segment is torn, or gone, or nobody recorded for a while, a
    `Doubt` says so, and another, behind the next `Whole`, that this is over.

    Raises:
        ConfigError: as `segments`, at once; or a file can't be read, later on.
    """
    return _read(segments(path))


def _read(found: list[Segment]) -> Iterator[Event]:
    at_ns = found[0].header.at_ns
    awaited = (found[0].header.session, found[0].header.number)
    is_whole = is_read = True
    for segment in found:
        header = segment.header
        is_next = is_read and (header.session, header.number) == awaited
        if is_whole and not is_next:
            is_whole = False
            yield Doubt(at_ns, f"nothing is recorded from here to {segment.path.name}")
        for event, is_opening in _events(segment):
            if is_opening and is_next and segment is not found[0]:
                continue
            at_ns = event.at_ns
            yield event
            if isinstance(event, Whole) and not is_whole:
                is_whole = True
                yield Doubt(at_ns, "")
        is_read = not segment.torn
        awaited = (header.session, header.number + 1)
        if segment.torn:
            is_whole = False
            yield Doubt(at_ns, segment.torn)


def _events(segment: Segment) -> Iterator[tuple[Event, bool]]:
    with _said(segment.path):
        yield from segment.events()


def _files(folder: Path) -> list[tuple[int, Path]]:
    """The segments in a folder, by number."""
    found = ((_NAME.fullmatch(file.name), file) for file in folder.iterdir())
    return sorted((int(name[1]), file) for name, file in found if name)


def _records(event: Event) -> list[_Record]:
    """An event as records, in order."""
    match event:
        case Whole(at_ns, changes):
            records = [record for part in changes for record in _parts(_WHOLE, at_ns, part)]
            records = records or [_Record(_WHOLE, 0, at_ns, b"")]
        case Moved(at_ns, changes):
            records = _parts(_MOVED, at_ns, changes)
        case Heard(at_ns, heartbeat):
            records = [_Record(_HEARD, 0, at_ns, codec.encode(heartbeat))]
        case Doubt(at_ns, reason):
            records = [_Record(_DOUBT, 0, at_ns, reason.encode(errors="replace"))]
    return [*(r._replace(flags=r.flags | _MORE) for r in records[:-1]), records[-1]]


def _parts(kind: int, at_ns: int, changes: Changes) -> list[_Record]:
    body = _encoded(changes)
    if len(body) <= FRAME_BYTES_MAX:
        return [_Record(kind, 0, at_ns, body)]
    parts = split(changes, FRAME_BYTES_GOAL)
    return [_Record(kind, _PART if part.more else 0, at_ns, _encoded(part)) for part in parts]


def _encoded(changes: Changes) -> bytes:
    return codec.encode(Delta("", "", 0, 0, changes))


def _event(records: list[_Record]) -> Event:
    """The event that these records are.

    Raises:
        RemoteProtocolError: they are none.
    """
    kind, _, at_ns, body = records[-1]
    if kind == _DOUBT:
        return Doubt(at_ns, body.decode(errors="replace"))
    if kind == _HEARD:
        heartbeat = codec.decode_stream(body)
        if isinstance(heartbeat, Heartbeat):
            return Heard(at_ns, heartbeat)
        raise RemoteProtocolError("malformed", "no heartbeat")
    changes: list[Changes] = []
    parts: list[Changes] = []
    for record in records:
        if record.body:
            parts.append(_decoded(record.body))
            if not record.flags & _PART:
                changes.append(join(parts))
                parts = []
    if kind == _WHOLE:
        return Whole(at_ns, tuple(changes))
    if kind == _MOVED and len(changes) == 1:
        return Moved(at_ns, changes[0])
    raise RemoteProtocolError("malformed", f"kind {kind}")


def _decoded(body: bytes) -> Changes:
    delta = codec.decode_stream(body)
    if isinstance(delta, Delta) and isinstance(delta.body, Changes):
        return delta.body
    raise RemoteProtocolError("malformed", "no changes")


def _rows(event: Event) -> int:
    match event:
        case Whole(_, changes):
            return sum(len(part.rows) for part in changes)
        case Moved(_, changes):
            return len(changes.rows)
        case _:
            return 0


def _packed(record: _Record) -> bytes:
    return _framed(_HEAD.pack(record.kind, record.flags, record.at_ns) + record.body)


def _framed(data: bytes) -> bytes:
    return _FRAME.pack(len(data), zlib.crc32(data)) + data


def _next(file: BinaryIO) -> tuple[bytes, str]:
    """What the next record holds; b"" where none is, and why, "" at the end of the file."""
    frame = file.read(_FRAME.size)
    if not frame:
        return b"", ""
    if len(frame) < _FRAME.size:
        return b"", "ends within a record"
    length, checksum = _FRAME.unpack(frame)
    if not _HEAD.size <= length <= _RECORD_BYTES_MAX:
        return b"", "is damaged (no length of a record)"
    data = file.read(length)
    if len(data) < length:
        return b"", "ends within a record"
    if zlib.crc32(data) != checksum:
        return b"", "is damaged (a checksum)"
    return data, ""


@contextlib.contextmanager
def _said(path: Path) -> Generator[None]:
    """Say in one line what the system has against a file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror or error}") from error
