"""How far the stamps of blades lead the clock, as they do when it has stepped back. Pure.

Theory. A process never stamps below what it has stamped, whatever the clock does. The next process
of its blade knows nothing of that: by the clock that stepped back it would stamp below all that its
predecessor said last, and lose against it until the clock has come so far again. So it is told a
stamp to start above. That need not be tight: it is some time beyond the newest one, so that a blade
that goes on there is not told of at every report.

Leads are found where they arise: at the start, and at a step back of the clock, in what is held;
and then in what is admitted. While the clock goes on there are none, and nothing is looked for.

Known anomalies. A step back by less than a second passes unnoticed. A process that begins before
its collector has seen the step is not told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.collector.batch import Lead
from shardlog.crdt.process_id import blade_of

if TYPE_CHECKING:
    from shardlog.collector.sidecar.notes import Notes
    from shardlog.crdt.lww_map import LwwMap

MARGIN_NS = 10**9
"""What is less far ahead than this is no lead, but was under way when the clock was read."""
BLADES_MAX = 10_000
"""How many blades are told of: whoever invents names does not fill the folder."""


class Leads:
    """Which blades' stamps lead the clock, and up to where that was told."""

    def __init__(self, notes: Notes) -> None:
        self._refuse = notes.refuse
        self._told: dict[str, int] = {}
        self._due: dict[str, None] = {}

    def hear(self, process: str, stamp: int, now_ns: int) -> None:
        """What a process said was admitted, or is held. O(len)."""
        if stamp <= now_ns + MARGIN_NS:
            return
        blade = blade_of(process)
        if stamp < self._told.get(blade, 0):
            return
        if blade not in self._told and len(self._told) >= BLADES_MAX:
            self._refuse("leads", f"{blade!r} is one more blade that is ahead", now_ns)
            return
        self._told[blade] = stamp + MARGIN_NS
        self._due[blade] = None

    def survey(self, known: LwwMap, now_ns: int) -> None:
        """The clock was set: look at all that is held. O(leaves + floors)."""
        for leaf in known.leaves.values():
            self.hear(leaf.writer, leaf.stamp, now_ns)
        for floor in known.floors.values():
            self.hear(floor.writer, floor.stamp, now_ns)

    def handle_timer(self, now_ns: int) -> None:
        """Forget those that the clock has caught up with. O(leads)."""
        if self._told:
            self._told = {b: stamp for b, stamp in self._told.items() if stamp > now_ns}

    def take_effects(self) -> list[Lead]:
        """What is to be made known since the last call."""
        due, self._due = self._due, {}
        return [Lead(blade, self._told[blade]) for blade in due if blade in self._told]
