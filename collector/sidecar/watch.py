"""Watches over life files: tells the machine who lives and who has ended, and obeys what it owes.

Once a second the folder is scanned. A locked file says that its process lives. A free one says that
it has ended; what it sent may still be on its way, so that the machine is told only once it has
read the process' last words with nothing missing, or the socket was read to its end for a second
since.

Who holds a lock is known to the kernel too, if this is asked while it does: so each process is met
when it is heard or found first, and those that say nothing are asked after.

At the start nothing can be on its way yet: what processes left is taken in before the socket is
bound, so that nobody is answered without it.

What can't be read just now, as at the limit of descriptors, is not taken for nothing: whoever left
it has not ended yet, and is found again by the next scan.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from shardlog.collector.batch import Acknowledge, Lead, Remove

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shardlog.collector.sidecar.kernel import Kernel
    from shardlog.collector.sidecar.life import Bad, LifeFolder
    from shardlog.collector.sidecar.machine import Sidecar
    from shardlog.crdt.replication.messages import Report

SCAN_NS = 10**9
QUIET_NS = 10**9
"""For so long nothing may wait in the socket before a process without last words has ended."""
ENDED_MAX = 100
"""How many ended processes are taken in before the batch is closed."""


class LifeWatch:
    """The life files of one collector, watched on its machine's behalf. Without a `kernel` nothing
    is known of processes but that they live or have ended.
    """

    def __init__(self, folder: LifeFolder, machine: Sidecar, kernel: Kernel | None = None) -> None:
        self._folder = folder
        self._machine = machine
        self._kernel = kernel
        self._scanned_ns = -SCAN_NS
        self._backlog_ns = 0
        self._free: dict[str, int] = {}
        self._ended: deque[str] = deque()

    @property
    def has_more(self) -> bool:
        """Whether more processes are known to have ended than one batch takes in."""
        return bool(self._ended)

    def start(self, now_ns: int) -> None:
        """See who is there, before the socket is; call `look` until it `has_more` no longer."""
        for process, held, has_exit in self._scan(now_ns):
            if held:
                self._machine.alive(process, now_ns)
                self._meet(process)
            elif has_exit:
                self._ended.append(process)

    def look(self, now_ns: int, monotonic_ns: int, *, is_drained: bool) -> None:
        """After the socket was read, to its end or not: see who lives, take in who has ended."""
        for process in self._machine.take_arrived():
            self._meet(process)
        if not is_drained:
            self._backlog_ns = monotonic_ns
        if not self._ended and monotonic_ns - self._scanned_ns >= SCAN_NS:
            self._scanned_ns = monotonic_ns
            self._find_ended(now_ns, monotonic_ns)
        for _ in range(min(ENDED_MAX, len(self._ended))):
            process = self._ended.popleft()
            try:
                self._machine.ended(process, self._left_by(process, now_ns), now_ns)
            except OSError as error:
                self._put_off(f"what {process!r} left", error, now_ns)

    def obey(self, effects: Iterable[Acknowledge | Remove | Lead]) -> None:
        """What is due once a batch is persisted, or is to be made known."""
        for effect in effects:
            match effect:
                case Acknowledge(process, sequence):
                    self._folder.acknowledge(process, sequence)
                case Remove(process):
                    self._folder.remove(process)
                case Lead(blade, stamp):
                    self._folder.lead(blade, stamp)

    def _find_ended(self, now_ns: int, monotonic_ns: int) -> None:
        free: dict[str, int] = {}
        seen = self._scan(now_ns)
        if self._kernel is not None:
            self._ask(self._kernel, [process for process, held, _ in seen if held], now_ns)
        for process, held, _ in seen:
            if held:
                self._machine.alive(process, now_ns)
                continue
            since_ns = free[process] = self._free.get(process, monotonic_ns)
            quiet_ns = monotonic_ns - max(since_ns, self._backlog_ns)
            if quiet_ns >= QUIET_NS or self._machine.said_last(process):
                self._ended.append(process)
        self._free = free

    def _ask(self, kernel: Kernel, held: Iterable[str], now_ns: int) -> None:
        """Whom of these the kernel has stopped, and how others have ended."""
        for process in held:
            self._meet(process)
            if self._machine.is_quiet(process, now_ns) and kernel.is_stopped(process):
                self._machine.stopped(process, now_ns)
        for process, how in kernel.look():
            self._machine.exited(process, how, now_ns)

    def _meet(self, process: str) -> None:
        if self._kernel is not None and process not in self._kernel:
            pid = self._folder.holder(process)
            self._kernel.meet(process, pid)
            if self._folder.holder(process) != pid:  # it ended, and the number may be another's
                self._kernel.part(process)

    def _scan(self, now_ns: int) -> Sequence[tuple[str, bool, bool]]:
        try:
            seen, bad = self._folder.scan()
        except OSError as error:
            self._put_off("who is there", error, now_ns)
            return []
        self._refuse([*bad, *self._folder.drop_stamps(now_ns)], now_ns)
        return seen

    def _left_by(self, process: str, now_ns: int) -> Iterator[Report]:
        """Read only if it is asked for: of a process that is closed it is in already."""
        reports, bad = self._folder.left_by(process)
        self._refuse(bad, now_ns)
        yield from reports

    def _put_off(self, what: str, error: OSError, now_ns: int) -> None:
        why = f"can't be read just now: {error.strerror}; it is tried again"
        self._machine.refuse("unread", f"{self._folder.path}: {what} {why}", now_ns)

    def _refuse(self, bad: Iterable[Bad], now_ns: int) -> None:
        for reason, detail in bad:
            self._machine.refuse(reason, detail, now_ns)
