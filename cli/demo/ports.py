"""Free addresses on the loopback interface."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the ports that kernels hand out by themselves: the scrapers open thousands of connections,
# and one of those may sit on the port of a node that is just being restarted.
LOWEST, HIGHEST = 10_240, 32_700


def free_pair(taken: set[int]) -> int:
    """A port which is free and whose successor is free too; both are added to `taken`.

    An address that is published is a pair: the stream on the port, snapshots on the next one.
    Raises `OSError` when there is none.
    """
    for _ in range(1000):
        port = random.randrange(LOWEST, HIGHEST, 2)
        if port not in taken and _is_free(port) and _is_free(port + 1):
            taken.update((port, port + 1))
            return port
    raise OSError(f"no two free ports in a row between {LOWEST} and {HIGHEST}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
