"""The folder of life files, as the collector sees it: who lives, who has ended, what they left.

`shardlog.crdt.life` says what the files are. Whether a process lives is asked of the kernel, with
F_GETLK: it names a lock that somebody else holds, and takes none. To try the lock instead would
turn away a process that locks its file at that moment. The collector must never lock such a file,
nor have a handler of its own that does: a record lock ends when its process closes any descriptor
of the file, and its own lock is what F_GETLK does not see.

A file that can't be understood is refused, and renamed aside for whoever wants to look at it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.errors import ConfigError, RemoteProtocolError
from shardlog.crdt.life import (
    ACKNOWLEDGED_BYTES,
    EXIT,
    LIFE,
    REPLICA,
    STAMP,
    STAMP_BYTES,
    VERSION,
    VERSION_BYTES,
    life_name,
    read_life,
    read_replicas,
    read_stamp,
    replica_bytes,
    stamp_bytes,
    unpack_frames,
)
from shardlog.crdt.wire import codec

if TYPE_CHECKING:
    from shardlog.crdt.replication.messages import Report

DESCRIPTORS_MAX = 256
LIFE_BYTES_MAX = 4096
EXIT_BYTES_MAX = 256 << 20
"""More than a process may have pending."""
BAD = ".bad"
ASIDE = ".tmp"
HALF_NS = 3600 * 10**9
"""What was not written to its end for so long, by a process without a life file, never will be."""

_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_IS_BSD = sys.platform == "darwin" or "bsd" in sys.platform
_FLOCK = "qqihh" if _IS_BSD else "hhqqi"
"""C's struct flock: start, length, pid, type, whence; or type, whence, start, length, pid."""


class Seen(NamedTuple):
    """A process that has files. `is_held`: it lives; `has_exit`: it left something."""

    process: str
    is_held: bool
    has_exit: bool


class Bad(NamedTuple):
    """A file that can't be understood."""

    reason: str
    detail: str


class _Known(NamedTuple):
    inode: int
    process: str


def holder(descriptor: int) -> int | None:
    """The number of the process that holds a record lock on an open file, None if none does.

    0 is one whose number is not known here, as in a container of its own.
    """
    kind, whence, size = fcntl.F_WRLCK, os.SEEK_SET, struct.calcsize(_FLOCK)
    ask = (0, 0, 0, kind, whence) if _IS_BSD else (kind, whence, 0, 0, 0)
    padded = struct.pack(_FLOCK, *ask) + bytes(8)
    found = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, padded)[:size])
    kind, pid = (found[3], found[2]) if _IS_BSD else (found[0], found[4])
    return None if kind == fcntl.F_UNLCK else max(int(pid), 0)


class LifeFolder:
    """The life files beside one collector's socket.

    Raises:
        ConfigError: the folder can't be used.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder)
        self._known: dict[str, _Known] = {}
        self._stamps: list[str] = []
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._replicas: tuple[str, ...] = ()
        try:
            self._make()
            status = self.path.lstat()
        except OSError as error:
            raise ConfigError(f"{folder}: can't be used: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.getuid()):
            raise ConfigError(f"{folder}: is no folder of this user; use another --listen")

    def scan(self) -> tuple[list[Seen], list[Bad]]:
        """All processes that have files, each once. O(files).

        Raises:
            OSError: the folder can't be listed just now, as at the limit of descriptors.
        """
        lives: dict[str, int] = {}
        exits: set[str] = set()
        self._stamps = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    name, suffix = Path(entry.name).stem, Path(entry.name).suffix
                    if suffix == LIFE and entry.is_file(follow_symlinks=False):
                        lives[name] = entry.inode()
                    elif suffix == EXIT and entry.is_file(follow_symlinks=False):
                        exits.add(name)
                    elif suffix == STAMP and entry.is_file(follow_symlinks=False):
                        self._stamps.append(name)
        except FileNotFoundError:  # as by what tidies up temporary folders
            with suppress(OSError):
                self._make()
                self.name(self._replicas)
        for name in self._known.keys() - lives.keys():
            self._forget(name)
        seen: list[Seen] = []
        bad: list[Bad] = []
        for name, inode in lives.items():
            try:
                process = self._identify(name, inode)
                is_held = holder(self._descriptor(name)) is not None
                seen.append(Seen(process, is_held, name in exits))
            except (OSError, ValueError) as error:
                bad += self._refuse(name + LIFE, error)
        for name in exits - lives.keys():
            try:
                first = unpack_frames(self._read(name + EXIT, EXIT_BYTES_MAX))[0]
                process = codec.decode_report(first).process
                if life_name(process) != name:
                    raise ValueError(f"the exit file of {process!r}")
                seen.append(Seen(process, False, True))
            except (OSError, ValueError, IndexError, RemoteProtocolError) as error:
                bad += self._refuse(name + EXIT, error)
        return seen, bad

    def holder(self, process: str) -> int:
        """The number of a process that lives; 0 if it is not known. O(1)."""
        with suppress(OSError):
            return holder(self._descriptor(life_name(process))) or 0
        return 0

    def left_by(self, process: str) -> tuple[list[Report], list[Bad]]:
        """The reports in the exit file of a process that has ended, none if it left none. O(size).

        Raises:
            OSError: it can't be read just now, as at the limit of descriptors.
        """
        name = life_name(process) + EXIT
        reports: list[Report] = []
        error: Exception | None = None
        try:
            for frame in unpack_frames(self._read(name, EXIT_BYTES_MAX)):
                try:
                    reports.append(codec.decode_report(frame))
                except RemoteProtocolError as refused:
                    error = refused
        except FileNotFoundError:
            pass
        except ValueError as cut_off:
            error = cut_off
        return reports, [] if error is None else self._refuse(name, error)

    def acknowledge(self, process: str, sequence: int) -> None:
        """Tell a process, if it has a life file, that the store has all up to this. O(1)."""
        with suppress(OSError):
            descriptor = self._descriptor(life_name(process))
            os.pwrite(descriptor, sequence.to_bytes(ACKNOWLEDGED_BYTES, "big"), 0)

    def remove(self, process: str) -> None:
        """Remove the files of a process that has ended, also the exit file that it was writing
        when it was killed. What can't be removed is found again. O(1).
        """
        name = life_name(process)
        self._forget(name)
        for suffix in (EXIT + ASIDE, EXIT, LIFE):
            with suppress(OSError):
                (self.path / (name + suffix)).unlink()

    def drop_halves(self, now_ns: int) -> None:
        """Remove what processes that are gone began to write an hour ago, or earlier. O(files)."""
        halves: list[str] = []
        with suppress(OSError), os.scandir(self.path) as entries:
            halves += [e.name for e in entries if e.name.endswith((LIFE + ASIDE, EXIT + ASIDE))]
        for half in halves:
            with suppress(OSError):
                descriptor = os.open(self.path / half, _OPEN)
                try:
                    age_ns = now_ns - os.fstat(descriptor).st_mtime_ns
                    is_held = holder(descriptor) is not None
                finally:
                    os.close(descriptor)
                has_life = (self.path / (half.partition(".")[0] + LIFE)).exists()
                if age_ns >= HALF_NS and not is_held and not has_life:
                    (self.path / half).unlink()

    def named(self) -> tuple[str, ...]:
        """The replica that collects here, and those that it goes on for; none if none is named.

        Raises:
            ConfigError: it can't be read.
        """
        try:
            self._replicas = read_replicas((self.path / REPLICA).read_bytes())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ConfigError(f"{error.filename}: can't be read: {error.strerror}") from error
        return self._replicas

    def version(self) -> int:
        """The version that the store of the replica which is named was at; 0 if it is not known."""
        try:
            return int.from_bytes((self.path / VERSION).read_bytes(), "big")
        except OSError:
            return 0

    def note_version(self, version: int) -> None:
        """Note the version that the store is at; where that can't be written it is not known."""
        with suppress(OSError):
            (self.path / VERSION).write_bytes(version.to_bytes(VERSION_BYTES, "big"))

    def name(self, replicas: tuple[str, ...]) -> None:
        """Name the replica that collects here; the disk has it then.

        Raises:
            OSError: it can't be written; what was named before still is.
        """
        self._replicas = replicas
        self.note_version(0)
        path = self.path / REPLICA
        aside = path.with_suffix(ASIDE)
        with aside.open("wb") as file:
            file.write(replica_bytes(replicas))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def lead(self, blade: str, stamp: int) -> None:
        """Make known a stamp that the blade's next process is to start above. O(1)."""
        path = self.path / (life_name(blade) + STAMP)
        aside = path.with_suffix(".tmp")
        with suppress(OSError):
            aside.write_bytes(stamp_bytes(stamp))
            aside.replace(path)

    def drop_stamps(self, now_ns: int) -> list[Bad]:
        """Remove what the clock has caught up with, of what the last scan saw. O(that)."""
        bad: list[Bad] = []
        for name in self._stamps:
            try:
                if read_stamp(self._read(name + STAMP, STAMP_BYTES)) <= now_ns:
                    (self.path / (name + STAMP)).unlink()
            except (OSError, ValueError) as error:
                bad += self._refuse(name + STAMP, error)
        return bad

    def close(self) -> None:
        """Close all descriptors."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def _identify(self, name: str, inode: int) -> str:
        """Whose life file it is; it gets its name only when it is written and locked."""
        known = self._known.get(name)
        if known is None or known.inode != inode:
            self._forget(name)
            process, _ = read_life(os.pread(self._descriptor(name), LIFE_BYTES_MAX, 0))
            if life_name(process) != name:
                raise ValueError(f"the life file of {process!r}")
            known = self._known[name] = _Known(inode, process)
        return known.process

    def _read(self, name: str, bytes_max: int) -> bytes:
        with (self.path / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > bytes_max:
                raise ValueError(f"{size} bytes, at most {bytes_max}")
            return file.read()

    def _descriptor(self, name: str) -> int:
        """A descriptor of a life file, of which a bounded number is kept open."""
        descriptor = self._descriptors.pop(name, None)
        if descriptor is None:
            descriptor = os.open(self.path / (name + LIFE), _OPEN)
        self._descriptors[name] = descriptor
        if len(self._descriptors) > DESCRIPTORS_MAX:
            os.close(self._descriptors.popitem(last=False)[1])
        return descriptor

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        descriptor = self._descriptors.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def _refuse(self, name: str, error: Exception) -> list[Bad]:
        """What to say of a file; none of one that is not there, or can't be read just now."""
        self._forget(name.partition(".")[0])
        if isinstance(error, OSError):
            return []
        with suppress(OSError):
            (self.path / name).rename(self.path / (name + BAD))
        return [Bad("file", f"{self.path / name}: {error or 'empty'}")]
