"""Who is there: processes that speak, fall silent, speak again, and end.

Silence says that a process is lost, unless its life file says that it lives: a paused process is
not gone. What says that it has ended is its free lock, which the machine is told; where no folder
is shared that can't be known, and a process is over soon after its last words, or after a day's
silence.

A process speaks once a second, by a thread of its own. One that lives and does not is late, then
silent, or stopped, if the kernel says so: it is held up as a whole, by code that lets no other
thread run, or its machine is. What it declared as a long task excuses it for as long as it said.

Known anomaly. A process without a life file is called lost by its silence, a paused one too, until
it speaks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.process_id import blade_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardlog.collector.sidecar.config import SidecarConfig
    from shardlog.crdt.delta import Value
    from shardlog.crdt.replication.messages import Report

MS = 1_000_000
SILENCE_NS = 24 * 3600 * 1000 * MS
"""For so long a process that nobody saw end may be silent after it was called lost."""


class Said(NamedTuple):
    """What is to be written into the presence record of a process."""

    process: str
    key: str
    value: Value


@dataclass(slots=True)
class _Process:
    """What is known of a process that has not ended. It is lost at `lost_ns` and late at `late_ns`
    unless it is heard before; a life file puts off the first only.
    """

    heard_ns: int
    lost_ns: int
    sent_ns: int
    late_ns: int
    published_ns: int = 0
    silence: Value = None
    """None, or how it is held up: "late", "silent", "stopped"."""
    is_lost: bool = False
    is_final: bool = False
    """It has said its last words, with `final_sequence` if these were heard by this run."""
    final_sequence: int = -1

    @property
    def is_up(self) -> bool:
        return not self.is_lost and not self.is_final


class Presence:
    """The processes of one host, as far as they were heard."""

    def __init__(self, config: SidecarConfig, now_ns: int) -> None:
        self._interval_ns = config.heartbeat_interval_ms * MS
        self._lost_after_ns = config.lost_after_ms * MS
        self._late_after_ns = config.late_after_ms * MS
        self._silent_after_ns = config.silent_after_ms * MS
        self._publish_ns = config.presence_interval_ms * MS
        self._tick_ns = now_ns
        self._processes: dict[str, _Process] = {}
        self._held_ns: dict[str, int] = {}
        """Until when whoever has a locked life file, and was not heard, is alive."""

    def __len__(self) -> int:
        return len(self._processes)

    def expect(self, process: str, status: Value, silence: Value, now_ns: int) -> None:
        """Watch a process that was there before this collector started. O(1).

        What it said meanwhile it may have yet to send, for however long that was.
        """
        late_ns = now_ns + self._late_after_ns
        known = _Process(now_ns, now_ns + self._lost_after_ns, 0, late_ns, silence=silence)
        known.is_lost, known.is_final = status == "lost", status == "bye"
        self._processes[process] = known

    def hear(self, report: Report, now_ns: int) -> Iterator[Said]:
        """A report has come: its process lives, or has said its last. O(1)."""
        process = report.process
        known = self._processes.get(process)
        if known is None:
            known = _Process(now_ns, now_ns, report.sent_ns, now_ns, now_ns)
            self._processes[process] = known
            self._held_ns.pop(process, None)
            yield Said(process, "heard", now_ns)
        elif report.final and not known.is_final:
            yield Said(process, "heard", now_ns)
        known.heard_ns = now_ns
        known.late_ns = now_ns + self._late_after_ns
        if known.silence is not None:
            known.silence = None
            yield Said(process, "silence", None)
        known.sent_ns = max(known.sent_ns, report.sent_ns)
        if report.final:
            known.is_final, known.final_sequence = True, report.sequence
        yield from self.alive(process, now_ns)

    def alive(self, process: str, now_ns: int) -> Iterator[Said]:
        """A process was heard, or its life file is locked: it is not lost. O(1)."""
        known = self._processes.get(process)
        if known is None:
            self._held_ns[process] = now_ns + self._lost_after_ns
            return
        known.lost_ns = now_ns + self._lost_after_ns
        if known.is_lost:
            known.is_lost = False
            if not known.is_final:
                yield Said(process, "status", "up")

    def is_known(self, process: str) -> bool:
        """Whether it was heard, and has not ended. O(1)."""
        return process in self._processes

    def is_quiet(self, process: str, now_ns: int) -> bool:
        """Whether it should have spoken, and may be stopped. O(1)."""
        known = self._processes.get(process)
        return (
            known is not None
            and not known.is_final
            and now_ns >= known.late_ns
            and known.silence != "stopped"
        )

    def stopped(self, process: str) -> Said:
        """One that is quiet is stopped. O(1)."""
        self._processes[process].silence = "stopped"
        return Said(process, "silence", "stopped")

    def final_sequence(self, process: str) -> int:
        """The sequence of its last words; -1 if they were not heard. O(1)."""
        known = self._processes.get(process)
        return -1 if known is None else known.final_sequence

    def end(self, process: str) -> Said:
        """A process has ended: whether it had said its last. O(1)."""
        known = self._processes.pop(process, None)
        self._held_ns.pop(process, None)
        return Said(process, "status", "bye" if known is not None and known.is_final else "lost")

    def over(self, now_ns: int) -> Iterator[tuple[str, bool]]:
        """Who is silent: for a day, or since its last words, which says the bool. O(processes)."""
        for process, known in self._processes.items():
            if now_ns >= known.lost_ns + SILENCE_NS:
                yield process, False
            elif known.is_final and now_ns >= known.lost_ns:
                yield process, True

    def tick(self, now_ns: int, busy_until: Callable[[str], int]) -> Iterator[Said]:
        """See who has gone silent; to be called at every heartbeat. O(processes).

        `busy_until` says until when a process has declared to be busy.
        """
        # Whoever was paused itself has heard nobody meanwhile; a step forwards looks the same.
        away_ns = max(now_ns - self._tick_ns - self._interval_ns, 0)
        self._tick_ns = now_ns
        self._held_ns = {
            p: at_ns + away_ns for p, at_ns in self._held_ns.items() if now_ns < at_ns + away_ns
        }
        for process, known in self._processes.items():
            known.lost_ns = min(known.lost_ns + away_ns, now_ns + self._lost_after_ns)
            if known.is_up and now_ns >= known.lost_ns:
                known.is_lost = True
                yield Said(process, "status", "lost")
            known.late_ns = min(known.late_ns + away_ns, now_ns + self._late_after_ns)
            if known.is_final:
                continue
            silence = self._silence(known, now_ns)
            if silence != known.silence and busy_until(process) <= now_ns:
                known.silence = silence
                yield Said(process, "silence", silence)
            if abs(known.heard_ns - known.published_ns) >= self._publish_ns:
                known.published_ns = known.heard_ns
                yield Said(process, "heard", known.heard_ns)

    def _silence(self, known: _Process, now_ns: int) -> Value:
        """What silence has come to: never less than it was, which takes a report."""
        if now_ns < known.late_ns or known.silence in ("stopped", "silent"):
            return known.silence
        silent_ns = known.late_ns + self._silent_after_ns - self._late_after_ns
        return "silent" if now_ns >= silent_ns else "late"

    def is_alive(self, process: str) -> bool:
        """Whether it is heard, and not lost, or its life file is locked. O(1)."""
        known = self._processes.get(process)
        return process in self._held_ns if known is None else not known.is_lost

    def blades(self) -> set[str]:
        """The blades of which a process is alive. O(processes)."""
        heard = (process for process, known in self._processes.items() if not known.is_lost)
        return {blade_of(process) for process in (*heard, *self._held_ns)}

    def watermark_ns(self, now_ns: int) -> int:
        """No process that is heard has anything older that is not sent. O(processes)."""
        return min((p.sent_ns for p in self._processes.values() if p.is_up), default=now_ns)
