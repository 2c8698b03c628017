"""Life files: how a process and its collector know of each other's end, by name and layout.

Beside a collector's socket lies a folder with one small file per living process. The process holds
an fcntl record lock on it for as long as it lives: the kernel frees that at any death, and a forked
child, which inherits descriptors, does not inherit it. The collector writes into it the
acknowledgement that PUSH does not give: the sequence of the last report that its store has. Where
that falls, the store was lost, and the process says all its totals again. What a process could not
have acknowledged at its end it leaves in an exit file of the same name.

After the clock has stepped back, the stamps of a blade may lead it. Then the collector makes known
how far they have come, so that the blade's next process starts above its predecessor's.

    NAME.life     8 bytes, the acknowledged sequence, big-endian; then the process id, UTF-8
    NAME.exit     frames, each behind its length in 4 bytes, big-endian; written aside and renamed
    BLADE.stamp   8 bytes, a stamp above all of the blade's, big-endian; written aside and renamed
    replica       the replica that collects here, then those that it goes on for, a line each
    version       8 bytes, the version that its store is at, big-endian; 0 if that is not known

NAME is a hash of the process id, which may hold characters that a file name may not, and BLADE one
of the blade's name. A collector whose store is of another replica than is named knows by that that
the named one was lost, and one whose store is behind the version that it went back in time.
"""

from __future__ import annotations

import hashlib

ACKNOWLEDGED_BYTES = 8
STAMP_BYTES = 8
LIFE = ".life"
EXIT = ".exit"
REPLICA = "replica"
STAMP = ".stamp"
VERSION = "version"
VERSION_BYTES = 8


def life_folder(listen: str) -> str | None:
    """The folder of the life files of a collector's address; None where no folder is shared.

    >>> life_folder("ipc:///run/shardlog/collector.sock"), life_folder("tcp://127.0.0.1:7300")
    ('/run/shardlog/collector.sock.life', None)
    """
    if not listen.startswith("ipc://"):
        return None
    return f"{listen.removeprefix('ipc://')}.life"


def life_name(process: str) -> str:
    """The name of the files of a process, or a blade, without what is behind the dot. O(len).

    >>> life_name("scraper-1@node-7:6f1c:4711:17:9b1d")
    '4fd29f94ee533fa0aa3c84d4'
    """
    return hashlib.blake2b(process.encode(), digest_size=12).hexdigest()


def life_bytes(process: str, acknowledged: int = 0) -> bytes:
    """What a life file holds. O(len)."""
    return acknowledged.to_bytes(ACKNOWLEDGED_BYTES, "big") + process.encode()


def read_life(data: bytes) -> tuple[str, int]:
    """The process and the acknowledged sequence that a life file holds. O(len).

    >>> read_life(life_bytes("scraper-1@node-7:6f1c:4711:17:9b1d", 42))
    ('scraper-1@node-7:6f1c:4711:17:9b1d', 42)

    Raises:
        ValueError: it is cut off, or no UTF-8.
    """
    if len(data) <= ACKNOWLEDGED_BYTES:
        raise ValueError(f"a life file of {len(data)} bytes")
    head, process = data[:ACKNOWLEDGED_BYTES], data[ACKNOWLEDGED_BYTES:]
    return process.decode(), int.from_bytes(head, "big")


def replica_bytes(replicas: tuple[str, ...]) -> bytes:
    """What names the replica that collects, the first of these. O(size)."""
    return "".join(f"{replica}\n" for replica in replicas).encode()


def read_replicas(data: bytes) -> tuple[str, ...]:
    """The inverse; what is damaged is read as another name, which says that one was lost. O(size).

    >>> read_replicas(replica_bytes(("6f1c", "2a90")))
    ('6f1c', '2a90')
    """
    return tuple(data.decode(errors="replace").split())


def stamp_bytes(stamp: int) -> bytes:
    """What a stamp file holds. O(1)."""
    return stamp.to_bytes(STAMP_BYTES, "big")


def read_stamp(data: bytes) -> int:
    """The stamp that a stamp file holds. O(1).

    >>> read_stamp(stamp_bytes(42))
    42

    Raises:
        ValueError: it is cut off.
    """
    if len(data) != STAMP_BYTES:
        raise ValueError(f"a stamp file of {len(data)} bytes")
    return int.from_bytes(data, "big")


def pack_frames(frames: list[bytes]) -> bytes:
    """What an exit file holds. O(size)."""
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def unpack_frames(data: bytes) -> list[bytes]:
    """The frames of an exit file. O(size).

    >>> unpack_frames(pack_frames([b"one", b""]))
    [b'one', b'']

    Raises:
        ValueError: it is cut off.
    """
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise ValueError(f"an exit file that ends within frame {len(frames) + 1}")
        frames.append(data[at + 4 : end])
        at = end
    return frames
