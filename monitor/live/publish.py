"""What live tests say, as shards: verdicts are state like any other, which all viewers show. Pure.

    shardlog/live/TEST/KEY    of each instance that has passed, failed, or is in a bad way (blind,
                              overdue): `verdict`, `reason`, `message`, `since` (ns since 1970)
    shardlog/live/TEST/""     of the test as a whole: `verdict`, `counts` of instances by verdict,
                              and up to when it is `judged`; said again each minute

KEY is the path of what the instance is about, as one key, such as `intents/42`; no path is empty,
so the empty key is free. A test that is run `once` has one instance, which is the whole: both say
the same there.

Final verdicts stay, so that an engine that begins anew goes on with them (`Engine(resumes=True)`),
unless all that shows of what the instance is about is newer: then that has come again. A bad one is
erased when it has healed, or when nobody asks for it any more; also one that an earlier run has
left. Each instance is a record of its own, which is forgotten 24 h after it was said, unless a
table says otherwise: `"shardlog/live/*/*" = "7d"`.

Known anomalies. What failed, or is bad, is forgotten then too, though it still is so: the whole
says it as long as the monitor runs. Where two monitors run the same test, the last one's word
stands, also against a worse one. What was written anew in all its parts can't be told from what has
come again. A KEY of more than 256 bytes is refused by the handler, and counted: that verdict does
not outlive its monitor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardlog.crdt.path import RESERVED
from shardlog.handler.words import erase
from shardlog.monitor.live.instance import Resumed
from shardlog.monitor.live.report import overall
from shardlog.monitor.live.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardlog.monitor.live.engine import Engine
    from shardlog.monitor.live.instance import Transition
    from shardlog.monitor.live.report import Report, TestReport
    from shardlog.monitor.live.verdict import Condition
    from shardlog.monitor.live.world import Cell

LIVE = "live"
WHOLE = ""
"""The key of a test as a whole."""
BAD = (Verdict.OVERDUE, Verdict.BLIND)
RESAID_NS = 60 * 10**9
SHARD_MAX = 200
"""So many instances are in one shard at most: with long paths and messages, half of its bound."""
MESSAGE_MAX = 500
_OF_ONE = ("reason", "message", "since")
"""What is said of instances only."""

_Place = tuple[str, str]
_Said = dict[str, Any]


class Publisher:
    """Decides what is to be said. `bad` is what an earlier run may have left, see `left_bad`."""

    def __init__(self, bad: Iterable[_Place] = ()) -> None:
        self._bad: dict[_Place, _Said] = {place: {} for place in bad}
        self._wholes: dict[str, tuple[int, _Said]] = {}

    def publish(
        self, transitions: Iterable[Transition], report: Report
    ) -> list[dict[str, dict[str, Any]]]:
        """The shards to log, in order: what the transitions and the report say that is news.

        O(transitions + instances that have not passed).
        """
        said: dict[_Place, Any] = {}
        for instance, asked, _ in transitions:
            verdict = instance.verdict
            if verdict.is_final and not isinstance(asked, Resumed):
                conditions = [instance.condition(at, 0) for at in range(len(instance.asked))]
                worst = max(conditions, key=lambda condition: condition.verdict)
                said[instance.test.name, instance.cell.path] = _record(worst)
        bad = {
            (test.name, judged.path): _record(judged.condition)
            for test in report.tests
            for judged in test.instances
            if judged.verdict in BAD
        }
        named = {test.name for test in report.tests}
        for place in self._bad:
            if place not in bad and place not in said and place[0] in named:
                # The whole is not erased with its one instance: it is said below.
                said[place] = dict.fromkeys(_OF_ONE, erase) if place[1] == WHOLE else erase
        said.update((place, now) for place, now in bad.items() if self._bad.get(place) != now)
        self._bad = bad
        for test in report.tests:
            if whole := self._whole(test, overall(report, test), report.judged_ns):
                said[test.name, WHOLE] = {**said.get((test.name, WHOLE), {}), **whole}
        return [*_shards(said)]

    def _whole(self, test: TestReport, verdict: Verdict, judged_ns: int) -> _Said:
        """What is to be said of a test as a whole, nothing if that has just been said."""
        counts = {str(verdict): test.counts.get(verdict, 0) for verdict in Verdict}
        said: _Said = {"verdict": str(verdict), "counts": counts}
        told_ns, told = self._wholes.get(test.name, (0, {}))
        if told == said and judged_ns < told_ns + RESAID_NS:
            return {}
        self._wholes[test.name] = (judged_ns, said)
        return {**said, "judged": judged_ns}


def left_bad(engine: Engine) -> list[_Place]:
    """Where an earlier run has left a verdict that is not final. O(what is published)."""
    live = engine.world.known((RESERVED, LIVE))
    words = [str(verdict) for verdict in BAD]
    return [
        (str(test), str(key))
        for test, keys in ((live.below if live else None) or {}).items()
        for key, cell in (keys.below or {}).items()
        if _value(cell, "reason") is not None and _value(cell, "verdict") in words
    ]


def _value(cell: Cell[Any], key: str) -> object:
    """What shows below a place, None if nothing does."""
    child = (cell.below or {}).get(key)
    return child.version.value if child is not None and child.version.shows else None


def _record(condition: Condition) -> _Said:
    return {
        "verdict": str(condition.verdict),
        "reason": condition.reason,
        "message": condition.message[:MESSAGE_MAX],
        "since": condition.since_ns,
    }


def _shards(said: dict[_Place, Any]) -> Iterator[dict[str, dict[str, Any]]]:
    places = [*said]
    for start in range(0, len(places), SHARD_MAX):
        tests: dict[str, Any] = {}
        for place in places[start : start + SHARD_MAX]:
            test, key = place
            tests.setdefault(test, {})[key] = said[place]
        yield {RESERVED: {LIVE: tests}}
