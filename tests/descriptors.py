"""How many files of a kind this process has open, and how many more it may open."""

from __future__ import annotations

import gc
import os
import resource
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


def descriptors(*below: str) -> int:
    """How many files this process has open of which the names begin so.

    Others come and go meanwhile: the sockets of an earlier test, once they are collected.
    """
    names: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the list itself
            names.append(str(descriptor.readlink()))
    return sum(name.startswith(below) for name in names)


@contextmanager
def descriptors_left(n: int) -> Generator[None]:
    """This process can open so many files more, and no further one.

    Meanwhile nothing is collected: that might close some.
    """
    gc.collect()
    gc.disable()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open("/dev/null", os.O_RDONLY) for _ in range(n + 1)]
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[n], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        gc.enable()
