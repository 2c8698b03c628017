"""The life file of a process, which it holds a lock on, and the exit file that it may leave.

What they say is in `shardlog.crdt.life`. The lock is a record lock: it belongs to the process, not
to the descriptor. So a forked child has no part in it, whatever it does with what it inherited; but
if any descriptor of the file were closed in the process itself, the lock would be free. It is
opened once, and never again by name.

A process that begins reads how far the stamps of its blade have come, where they lead the clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from shardlog.crdt.life import (
    ACKNOWLEDGED_BYTES,
    EXIT,
    LIFE,
    STAMP,
    STAMP_BYTES,
    life_bytes,
    life_folder,
    life_name,
    pack_frames,
    read_stamp,
)
from shardlog.crdt.process_id import blade_of

ASIDE = ".tmp"


class Life:
    """The life file of one process, held until it is closed. Only one thread may use it.

    Raises:
        OSError: there can be none; nothing is left behind.
    """

    def __init__(self, folder: str, process: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)  # noqa: PTH102 - pathlib is slow to load
        owner = os.stat(folder).st_uid  # noqa: PTH116
        if owner not in (0, os.getuid()):
            raise PermissionError(f"{folder} belongs to user {owner}")
        self._path = f"{folder}/{life_name(process)}"
        self.stamp = _stamp_of(f"{folder}/{life_name(blade_of(process))}{STAMP}")
        """A stamp that the blade's have not come to yet; 0 if they do not lead the clock."""
        # It gets its name when it is locked: without the lock it would be that of a dead process.
        path = self._path + LIFE
        self._descriptor = _create(path + ASIDE)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(self._descriptor, life_bytes(process))
            os.rename(path + ASIDE, path)  # noqa: PTH104
        except BaseException:
            _remove(path + ASIDE)
            self.close()
            raise

    def acknowledged(self) -> int:
        """The sequence of the last report that the collector has stored. O(1)."""
        try:
            return int.from_bytes(os.pread(self._descriptor, ACKNOWLEDGED_BYTES, 0), "big")
        except OSError:
            return 0

    def leave(self, frames: list[bytes]) -> None:
        """Leave these in an exit file, which is there as a whole or not at all. O(size).

        Where the disk does not take it, it is lost: nobody is left to be told.
        """
        path = self._path + EXIT
        with contextlib.suppress(OSError):
            descriptor = _create(path + ASIDE)
            try:
                _write(descriptor, pack_frames(frames))
                os.fsync(descriptor)
                os.rename(path + ASIDE, path)  # noqa: PTH104
            except BaseException:
                _remove(path + ASIDE)
                raise
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Free the lock, which says that the process is gone. The collector removes the file."""
        os.close(self._descriptor)


def life_of(endpoint: str, process: str) -> Life | None:
    """The life file that belongs to an endpoint, None where no folder is shared. Raises as Life."""
    folder = life_folder(endpoint)
    return None if folder is None else Life(folder, process)


def _stamp_of(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        return read_stamp(os.read(descriptor, STAMP_BYTES + 1))
    except (OSError, ValueError):
        return 0
    finally:
        os.close(descriptor)


def _create(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
