"""`... ENDPOINT BLADE TALLY RATE`: counts as fast as it may, and keeps a tally beside shardlog.

The n-th count goes to the intent n // STEP, so that the tally alone says what belongs where. The
tally is a file in memory that outlives the process: each number in it is written before, or after,
what it tells of, so that whatever ends the process it is a bound.
"""

from __future__ import annotations

import logging
import mmap
import signal
import struct
import sys
import time
from collections import deque
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from shardlog.handler import ShardHandler, count

if TYPE_CHECKING:
    from shardlog.crdt.replication.messages import Report
    from shardlog.handler.outbox import Outbox

STEP = 1000
"""So many counts of a process go to one intent."""
ITEM = "pages.local"
PATTERN = "intents/*/resolution/*/item_scraped/*/tries"
_LAYOUT = struct.Struct("qqqqqq")
_NUMBER = struct.Struct("q")


class Tally(NamedTuple):
    """What a process had done, as far as it is certain.

    `begun` and `done`: log calls that were begun, and that returned. `flushed`: how many of these
    were in reports that ZeroMQ had taken before the newest. `stored`: in reports that the collector
    has acknowledged. Times are of the monotonic clock, ns, of the first call and the newest.
    """

    begun: int
    done: int
    flushed: int
    stored: int
    first_ns: int
    last_ns: int


def read_tally(path: Path) -> Tally:
    """What a process has left; nothing at all if it did not come so far as to begin."""
    data = path.read_bytes() if path.exists() else b""
    return Tally(*_LAYOUT.unpack(data)) if len(data) == _LAYOUT.size else Tally(0, 0, 0, 0, 0, 0)


def counted_at(intent: int, counts: int) -> int:
    """How many of a process' first `counts` counts go to an intent.

    >>> counted_at(0, 1500), counted_at(1, 1500), counted_at(2, 1500)
    (1000, 500, 0)
    """
    return min(max(counts - intent * STEP, 0), STEP)


class _Observer:
    """Notes, at the handler's outbox, what has left the process and what has arrived."""

    def __init__(self, outbox: Outbox, memory: mmap.mmap) -> None:
        self._memory = memory
        self._next_report = outbox.next_report
        self._receive_acknowledged = outbox.receive_acknowledged
        self._put_back = outbox.put_back
        self._amounts: dict[str, int] = {}
        self._newest = self._sum = 0
        self._sent: deque[tuple[int, int]] = deque()
        vars(outbox).update(
            next_report=self.next_report,
            receive_acknowledged=self.receive_acknowledged,
            put_back=self.put_back,
        )

    def next_report(self, now_ns: int, wall_ns: int) -> Report | None:
        """What the report before this one carried was taken: it is asked for behind that."""
        report = self._next_report(now_ns, wall_ns)
        if report is not None:
            _NUMBER.pack_into(self._memory, 16, self._newest)
            for total in report.totals:
                if total.path.startswith("intents/") and isinstance(total.amount, int):
                    self._sum += total.amount - self._amounts.get(total.path, 0)
                    self._amounts[total.path] = total.amount
            self._newest = self._sum
            self._sent.append((report.sequence, self._sum))
        return report

    def put_back(self, report: Report) -> None:
        """The newest report was not taken."""
        self._put_back(report)
        self._sent.pop()
        self._newest = min(self._newest, self._sent[-1][1] if self._sent else 0)

    def receive_acknowledged(self, sequence: int) -> None:
        """All up to that report is stored."""
        self._receive_acknowledged(sequence)
        while self._sent and self._sent[0][0] <= sequence:
            _NUMBER.pack_into(self._memory, 24, self._sent.popleft()[1])


def main(endpoint: str, blade: str, tally: str, rate: float) -> None:
    """Count until SIGTERM, then leave in an orderly way."""
    is_over = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, end)
    path = Path(tally)
    path.with_suffix(".new").write_bytes(bytes(_LAYOUT.size))
    with path.with_suffix(".new").open("r+b") as file:
        memory = mmap.mmap(file.fileno(), _LAYOUT.size)
    log = logging.getLogger("blade")
    log.setLevel(logging.INFO)
    handler = ShardHandler(endpoint, blade)
    log.addHandler(handler)
    log.info("begins")
    assert handler.link is not None
    _Observer(handler.link.outbox, memory)
    path.with_suffix(".new").rename(path)

    first_ns = time.monotonic_ns()
    _NUMBER.pack_into(memory, 32, first_ns)
    n = 0
    while not is_over:
        intent = str(n // STEP)
        _NUMBER.pack_into(memory, 0, n + 1)
        scraped = {ITEM: {"tries": count()}}
        extra = {"intents": {intent: {"resolution": {blade: {"item_scraped": scraped}}}}}
        log.info("scraped", extra=extra)
        n += 1
        now_ns = time.monotonic_ns()
        _NUMBER.pack_into(memory, 8, n)
        _NUMBER.pack_into(memory, 40, now_ns)
        early_s = n / rate - (now_ns - first_ns) / 1e9
        if early_s > 0.001:
            time.sleep(early_s)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
