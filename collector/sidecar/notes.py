"""What a collector says by itself: its health, what it refused, the presence of processes, its log.
The sums by which its books can be checked are part of its health.

It is written into the state, as registers and counters of its own; its log gets one line of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.collector.sidecar.presence import Said
from shardlog.crdt import counter
from shardlog.crdt.path import RESERVED, path_keys, path_text
from shardlog.crdt.process_id import blade_of
from shardlog.crdt.replication.messages import Log
from shardlog.crdt.stamp import StampClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.collector.sidecar.ledger import Ledger
    from shardlog.crdt.delta import Amount, Value, Write
    from shardlog.crdt.state import State

NAMED_MAX = 1000
"""How many samples of what blades refused a log has: whoever invents reasons does not fill it."""
WORDS_CHARACTERS_MAX = 1000
"""How much is kept of what an ended process said last."""
_REFUSED_BY_BLADES = f"{RESERVED}/health/blade/"


class Notes:
    """The own words of the collector of a host; `process` is its process id."""

    def __init__(self, state: State, ledger: Ledger, host: str, process: str) -> None:
        self.refused: dict[str, int] = {}
        self._state = state
        self._ledger = ledger
        self._host = host
        self._process = process
        self._clock = StampClock()
        self.store_trouble = ""
        """Why the store can't be written, "" if it can."""
        self._named = 0
        self._logs: list[Log] = []

    def refuse(self, reason: str, detail: str, now_ns: int) -> None:
        """Count something that was turned away, and name the first of each reason."""
        self.turn_away(reason, detail)
        self.count(f"refused/{reason}", now_ns)

    def turn_away(self, reason: str, detail: str) -> None:
        """Count it in the heartbeats only: what is repeated changes no state."""
        if reason not in self.refused:
            self._logs.append(Log(f"refused ({reason}): {detail}; further ones are only counted"))
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def count(self, what: str, now_ns: int) -> None:
        """Count something in its health."""
        self._ledger.add(self._health(what), 1, now_ns, now_ns, now_ns)

    def store_failed(self, why: str, now_ns: int) -> None:
        """The store can't be written: said once."""
        if not self.store_trouble:
            self.store_trouble = why
            self._logs.append(Log(f"{why}; going on in memory, a restart would lose what comes"))
            self._write(self._health("store"), why, now_ns)

    def store_works(self, now_ns: int) -> None:
        """The store was written."""
        if self.store_trouble:
            self.store_trouble = ""
            self._write(self._health("store"), "written again", now_ns)

    def lost(self, what: str) -> None:
        """A replica was lost, or went back in time."""
        self._logs.append(
            Log(
                f"{what}; another goes on in its place: nothing is counted twice, what was counted "
                "last may be missing (`lower bound`). Keep --store on a disk that stays, and "
                "restore no copy of it"
            )
        )

    def name(self, write: Write) -> None:
        """Tell the operator what a blade itself refused: it can't log about its own logging."""
        if not write.path.startswith(_REFUSED_BY_BLADES):
            return
        *_, blade, what, reason = path_keys(write.path)
        is_new = what == "first" and write.path not in self._state.map.leaves
        if is_new and self._named < NAMED_MAX:
            self._named += 1
            self._logs.append(Log(f"{blade} refused ({reason}): {write.value!r}"))

    def say(self, said: Iterable[Said], now_ns: int) -> None:
        """Write into the presence records of processes."""
        for process, key, value in said:
            self._write(self._presence(process, key), value, now_ns)

    def say_end(self, said: Said, now_ns: int) -> None:
        """Write the status of a process that has ended, unless it says as much, or bye, itself."""
        leaf = self._state.map.leaves.get(self._presence(said.process, said.key))
        if leaf is None or leaf.value not in (said.value, "bye"):
            self.say([said], now_ns)

    def keep_words(self, blade: str, now_ns: int) -> None:
        """Keep the last words of a blade in the record of the process that said them, as that has
        ended or another is to speak: where they are, they may be due, or overwritten. O(1).
        """
        leaf = self._state.map.leaves.get(path_text((blade, "msg")))
        if leaf is None or type(leaf.value) is not str:
            return
        (spoke_ns, process), text = leaf.mark, leaf.value[:WORDS_CHARACTERS_MAX]
        words: Value = [text, spoke_ns]
        kept = self._state.map.leaves.get(self._presence(process, "words"))
        is_there = self._presence(process, "status") in self._state.map.leaves
        if is_there and blade_of(process) == blade and (kept is None or kept.value != words):
            self.say([Said(process, "words", words)], now_ns)

    def busy_until(self, process: str) -> int:
        """Until when a process has declared to be busy, in ns; 0 if it has not. O(1)."""
        leaf = self._state.map.leaves.get(self._presence(process, "busy"))
        match None if leaf is None else leaf.value:
            case [str(), int(), int() as until_ns, False]:
                return until_ns
            case _:
                return 0

    def tell_sums(self, now_ns: int) -> None:
        """Write those sums that have changed, all as of now. O(processes)."""
        sums = self._ledger.sums
        said: dict[str, Value] = {term: _sendable(amount) for term, amount in sums.terms().items()}
        if sums.is_unknown:
            said["refused"] = None
        # Where one of these has to be cut, `counted` is too large as well: nobody reads them then.
        said["undelivered"] = [
            [process, counter.value(counter.cut(counted)), counter.value(counter.cut(missing))]
            for process, counted, missing in sums.undelivered()
        ]
        top = self._sums()
        for term, value in said.items():
            leaf = self._state.map.leaves.get(f"{top}/{term}")
            if leaf is None or leaf.value != value:
                self._write(f"{top}/{term}", value, now_ns)

    def forget_sums(self) -> None:
        """Another replica is to go on: those of this one are told where its entries are."""
        for path in self._state.at_and_below(self._sums()):
            self._state.forget(self._ledger.replica, path, self._state.newest_at(path))

    def take_logs(self) -> list[Log]:
        """The lines for its log since the last call."""
        logs, self._logs = self._logs, []
        return logs

    def _presence(self, process: str, key: str) -> str:
        return path_text((RESERVED, "presence", blade_of(process), process, key))

    def _sums(self) -> str:
        return path_text((RESERVED, "health", "ledger", self._host, self._ledger.replica))

    def _health(self, what: str) -> str:
        return f"{path_text((RESERVED, 'health', 'collector', self._host))}/{what}"

    def _write(self, path: str, value: Value, now_ns: int) -> None:
        """Write a register of its own, above whatever is there."""
        leaf = self._state.map.leaves.get(path)
        above_ns = now_ns if leaf is None else max(now_ns, leaf.stamp + 1)
        self._state.write(path, self._clock.stamp(above_ns), self._process, value)


def _sendable(total: Amount) -> Value:
    """A sum as a register: a number, or four; None if it is too large to be sent."""
    if not counter.fits(total):
        return None
    return total if isinstance(total, int) else list(total)
