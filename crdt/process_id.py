"""Process ids: one run of one Python process of a blade, as one text that no other run shares.

    scraper-1@node-7:6f1c2a90:4711:1764063000123456789:9b1d
    blade     host   boot     pid  start ns            nonce

Boot tells two lives of a host apart, start two processes with one pid, the nonce two containers
that share all of these, and two handlers within one process. A process whose clock steps back too
far goes on under another id. Leaves keep this text as their writer: who said it can be read off it,
so no table of names has to travel or be kept.
"""

from __future__ import annotations


def process_id(blade: str, host: str, boot: str, pid: int, start_ns: int, nonce: str) -> str:
    """The text of an id. O(len).

    >>> process_id("scraper-1", "node-7", "6f1c", 4711, 17, "9b1d")
    'scraper-1@node-7:6f1c:4711:17:9b1d'
    """
    host = host.replace("@", "-").replace(":", "-")
    return f"{blade}@{host}:{boot}:{pid}:{start_ns}:{nonce}"


def blade_of(process: str) -> str:
    """The blade that a process is a run of. O(len).

    >>> blade_of("scraper-1@node-7:6f1c:4711:17:9b1d")
    'scraper-1'
    """
    return process.rpartition("@")[0]


def host_of(process: str) -> str:
    """The host that a process runs on, as it calls it. O(len).

    >>> host_of("scraper-1@node-7:6f1c:4711:17:9b1d")
    'node-7'
    """
    return process.rpartition("@")[2].partition(":")[0]


def started_ns(process: str) -> int:
    """When the process started, wall-clock ns; 0 where the id does not say. O(len).

    >>> started_ns("scraper-1@node-7:6f1c:4711:17:9b1d"), started_ns("scraper-1@node-7")
    (17, 0)
    """
    fields = process.rpartition("@")[2].split(":")
    return int(fields[3]) if len(fields) == 5 and fields[3].isdecimal() else 0
