"""Who is there: processes that speak, fall silent, and speak again.

Known anomalies. A process is called lost by its silence, a paused one too, until it speaks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.process_id import blade_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.collector.sidecar.config import SidecarConfig
    from shardlog.crdt.delta import Value
    from shardlog.crdt.replication.messages import Report

MS = 1_000_000


class Said(NamedTuple):
    """What is to be written into the presence record of a process."""

    process: str
    key: str
    value: Value


@dataclass(slots=True)
class _Process:
    """What is known of a process that has not said bye."""

    heard_ns: int
    lost_ns: int
    sent_ns: int
    published_ns: int = 0
    is_lost: bool = False


class Presence:
    """The processes of one host, as far as they were heard."""

    def __init__(self, config: SidecarConfig, now_ns: int) -> None:
        self._interval_ns = config.heartbeat_interval_ms * MS
        self._lost_after_ns = config.lost_after_ms * MS
        self._publish_ns = config.presence_interval_ms * MS
        self._tick_ns = now_ns
        self._processes: dict[str, _Process] = {}

    def expect(self, process: str, now_ns: int) -> None:
        """Watch a process that was there before this collector started. O(1)."""
        self._processes[process] = _Process(now_ns, now_ns + self._lost_after_ns, now_ns)

    def hear(self, report: Report, now_ns: int) -> Iterator[Said]:
        """A report has come: its process lives, or has said its last. O(1)."""
        process = report.process
        if report.final:
            self._processes.pop(process, None)
            yield Said(process, "heard", now_ns)
            return
        known = self._processes.get(process)
        if known is None:
            known = self._processes[process] = _Process(now_ns, now_ns, report.sent_ns, now_ns)
            yield Said(process, "heard", now_ns)
        known.heard_ns = now_ns
        known.lost_ns = now_ns + self._lost_after_ns
        known.sent_ns = max(known.sent_ns, report.sent_ns)
        if known.is_lost:
            known.is_lost = False
            yield Said(process, "status", "up")

    def tick(self, now_ns: int) -> Iterator[Said]:
        """See who has gone silent; to be called at every heartbeat. O(processes)."""
        # Whoever was paused itself has heard nobody meanwhile; a step forwards looks the same.
        away_ns = max(now_ns - self._tick_ns - self._interval_ns, 0)
        self._tick_ns = now_ns
        for process, known in self._processes.items():
            known.lost_ns = min(known.lost_ns + away_ns, now_ns + self._lost_after_ns)
            if not known.is_lost and now_ns >= known.lost_ns:
                known.is_lost = True
                yield Said(process, "status", "lost")
            if abs(known.heard_ns - known.published_ns) >= self._publish_ns:
                known.published_ns = known.heard_ns
                yield Said(process, "heard", known.heard_ns)

    def is_alive(self, process: str) -> bool:
        """Whether it is heard, and not lost. O(1)."""
        known = self._processes.get(process)
        return known is not None and not known.is_lost

    def blades(self) -> set[str]:
        """The blades of which a process is alive. O(processes)."""
        return {
            blade_of(process) for process, known in self._processes.items() if not known.is_lost
        }

    def watermark_ns(self, now_ns: int) -> int:
        """No process that is heard has anything older that is not sent. O(processes)."""
        sent = (known.sent_ns for known in self._processes.values() if not known.is_lost)
        return min(sent, default=now_ns)
