"""One collector to a socket, which belongs to its user alone."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shardlog.collector.follow import check_ipc_path
from shardlog.crdt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def sole_owner(listen: str) -> Generator[None]:
    """Holds the lock beside an ipc socket: a second bind would silently steal it.

    Raises:
        ConfigError: another has it, or its folder can't be used.
    """
    if not listen.startswith("ipc://"):
        yield
        return
    path = Path(listen.removeprefix("ipc://"))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.parent.stat().st_uid
        if owner not in (0, os.getuid()):
            raise ConfigError(f"{listen}: {path.parent} belongs to user {owner}; use another")
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{listen}: {error.strerror}: {error.filename}") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigError(
            f"{listen}: another collector listens there; end it, or use another --listen"
        ) from error
    umask = os.umask(0o077)
    try:
        check_ipc_path(listen)  # what is there and is somebody else's stays
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.umask(umask)
        os.close(lock)
