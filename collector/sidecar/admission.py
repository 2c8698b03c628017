"""What a collector lets in: the one place where it looks at clocks, limits and who may say what.

A register or floor stamped too far ahead, or so long ago that its record is forgotten, is refused
and counted. A count never is for its time: one too old for its record goes to `~`. It is refused
where it would be one path too many. Of what is reserved, a process may write only what is its own
and what is open to all. Nobody says anything at `~`. What is counted in a group of errors too many
goes to `overflow`, and the rest of that group is turned away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.delta import Erase
from shardlog.crdt.path import (
    COLLAPSED,
    ERRORS,
    OVERFLOW,
    RESERVED,
    is_reserved,
    key_texts,
    path_text,
)
from shardlog.crdt.process_id import blade_of
from shardlog.crdt.retention import collapsed, is_collapsed

if TYPE_CHECKING:
    from shardlog.collector.sidecar.config import SidecarConfig
    from shardlog.collector.sidecar.forgetting import Forgetting
    from shardlog.collector.sidecar.leads import Leads
    from shardlog.collector.sidecar.notes import Notes
    from shardlog.crdt.delta import Total, Write
    from shardlog.crdt.state import State

MS = 1_000_000
PROCESS_BYTES_MAX = 512
LOOK_NS = 60_000 * MS
"""How often the groups of errors are counted anew, where there are too many."""


class Admission:
    """Says of each item whether it comes in; `notes` hear of those that do not."""

    def __init__(
        self,
        state: State,
        config: SidecarConfig,
        forgetting: Forgetting,
        leads: Leads,
        notes: Notes,
    ) -> None:
        self._state = state
        self._forgetting = forgetting
        self._leads = leads
        self._refuse = notes.refuse
        self._turn_away = notes.turn_away
        self._max_skew_ns = config.max_skew_ms * MS
        self._paths_max = config.paths_max
        self._groups_max = config.error_groups_max
        self._groups: set[str] | None = None
        self._looked_ns = 0

    def process(self, process: str, now_ns: int) -> bool:
        """Whether this may be a process id. O(len)."""
        if blade_of(process) and len(process.encode()) <= PROCESS_BYTES_MAX:
            return True
        self._refuse("process", f"{process[:80]!r} is no process id", now_ns)
        return False

    def item(self, item: Write | Erase, process: str, now_ns: int) -> bool:
        """Whether a register or a floor comes in. O(len of its path)."""
        path = item.path
        if item.stamp > now_ns:
            if item.stamp > now_ns + self._max_skew_ns:
                ahead_s = (item.stamp - now_ns) // (1000 * MS)
                detail = f"the clock of {blade_of(process)} is {ahead_s} s ahead, at {path!r}"
                self._refuse("skew", detail, now_ns)
                return False
            self._leads.hear(process, item.stamp, now_ns)
        if self._forgetting.is_old(path, item.stamp, now_ns):
            self._turn_away("old", f"{path!r} of {blade_of(process)} is older than is kept")
            return False
        if not self._is_allowed(path, process, now_ns):
            return False
        known = self._state.map
        if path in known.leaves or path in known.floors:
            return True
        if type(item) is Erase and known.index.has_below(path):  # it takes away more than it adds
            return True
        if path.startswith(f"{ERRORS}/") and not self._has_group(path, now_ns):
            self._turn_away("errors", f"more than {self._groups_max} groups, as {path!r}")
            return False
        return self._has_room(path, process, now_ns)

    def count(self, total: Total, process: str, now_ns: int) -> str | None:
        """Where a total that is news is added, None if it does not come in. O(len + rules)."""
        path = total.path
        if not self._is_allowed(path, process, now_ns):
            return None
        record = self._forgetting.is_old(path, total.last, now_ns)
        if record is not None and not record.keeps_counters:  # no limit refuses what collapses
            is_erased = total.last <= self._state.map.floor_over(path)
            return path if is_erased else collapsed(path, record.path)
        if path in self._state.counting:
            return path
        if path.startswith(f"{ERRORS}/") and not self._has_group(path, now_ns):
            _, _, _, *rest = key_texts(path)
            if not rest:
                return None
            path = "/".join((ERRORS, OVERFLOW, *rest))
            if path in self._state.counting:
                return path
        return path if self._has_room(path, process, now_ns) else None

    def _is_allowed(self, path: str, process: str, now_ns: int) -> bool:
        """Whether a process may say something there: of what is reserved, only of itself."""
        if is_collapsed(path):
            self._refuse("collapsed", f"{path!r} is not for {blade_of(process)} to write", now_ns)
            return False
        if not is_reserved(path):
            return True
        blade = blade_of(process)
        own = (
            f"{path_text((RESERVED, 'presence', blade, process))}/",
            f"{path_text((RESERVED, 'health', 'blade', blade))}/",
        )
        if path.startswith(own):
            return True
        self._refuse("reserved", f"{path!r} is not for {blade} to write", now_ns)
        return False

    def _has_group(self, path: str, now_ns: int) -> bool:
        """Whether a path's group of errors is there, or may be. O(len), once a minute O(report)."""
        group = key_texts(path)[2]
        groups = self._groups
        is_full = groups is not None and len(groups) >= self._groups_max
        if groups is None or (is_full and abs(now_ns - self._looked_ns) >= LOOK_NS):
            self._looked_ns = now_ns
            held = self._state.at_and_below(ERRORS)
            groups = self._groups = {key_texts(each)[2] for each in held if each != ERRORS}
            groups -= {OVERFLOW, COLLAPSED}
        if group in groups or group == OVERFLOW:
            return True
        if len(groups) >= self._groups_max:
            return False
        groups.add(group)
        return True

    def _has_room(self, path: str, process: str, now_ns: int) -> bool:
        # What shardlog itself keeps has as much room again, so that users don't keep it out.
        room = self._paths_max * (2 if path.startswith(f"{RESERVED}/") else 1)
        if len(self._state.map.index) + len(self._state.counting) < room:
            return True
        detail = f"{self._paths_max} paths are held, {path!r} of {blade_of(process)} is one more"
        self._refuse("paths", detail, now_ns)
        return False
