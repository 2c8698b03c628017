"""An engine, and what happens to it, said in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from shardlog.crdt.delta import COUNTER, ERASED, REGISTER, Value
from shardlog.crdt.replication.messages import LANES, Changes, Heartbeat, HostStatus, Row
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.live.declared import Test
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.explain import explain
from shardlog.monitor.live.instance import Instance

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.monitor.feed import Event
    from shardlog.monitor.live.verdict import Condition, Verdict

SECOND = 10**9
START_S = 1_700_000_000
"""When the runs begin, so that times are as long as real ones."""
HOSTS = ("node-1", "node-2")
HOST_OF = {"orchestrator": "node-1", "scraper-1": "node-1", "spotter-1": "node-2"}
WRITERS = [f"{blade}@{host}:1:2:3:4" for blade, host in HOST_OF.items()]

Status = Literal["live", "syncing", "stale", "replaced"]


def ns(at_s: float) -> int:
    """So many seconds after the start, by the monitor's clock."""
    return START_S * SECOND + round(at_s * SECOND)


class Run:
    """An engine that judges `functions`, each for the keys of its pattern; "" is the whole."""

    def __init__(self, *tests: tuple[str, Callable[..., Any]], **options: Any) -> None:
        self.engine = Engine([Test(function, pattern) for pattern, function in tests], **options)
        self.happened: list[Event] = []
        self.said: list[tuple[float, str, str]] = []
        """When which instance had which verdict."""

    def begin(self, rows: list[Row] | None = None, at_s: float = 0) -> Run:
        """The monitor connects: this shows, all hosts are live."""
        self.happens(Whole(ns(at_s), (Changes(WRITERS, rows or []),)))
        return self.hear(at_s)

    def row(self, path: str, value: Value, stamp_s: float, by: str = "orchestrator") -> Row:
        """A value that a blade has written."""
        return Row(path, REGISTER, value, ns(stamp_s), [*HOST_OF].index(by))

    def write(
        self,
        at_s: float,
        path: str,
        value: Value,
        *,
        by: str = "orchestrator",
        stamp_s: float | None = None,
    ) -> Run:
        """A value comes; it was written when it came, unless it is said when."""
        stamp_s = at_s if stamp_s is None else stamp_s
        row = self.row(path, value, stamp_s, by)
        return self.happens(Moved(ns(at_s), Changes(WRITERS, [row])))

    def count(self, at_s: float, path: str, total: float, *, stamp_s: float | None = None) -> Run:
        """A counter's total comes."""
        stamp_s = at_s if stamp_s is None else stamp_s
        row = Row(path, COUNTER, total, ns(stamp_s), -1)
        return self.happens(Moved(ns(at_s), Changes([], [row])))

    def erase(self, at_s: float, path: str, *, by: str = "orchestrator") -> Run:
        """A value goes."""
        row = Row(path, ERASED, None, ns(at_s), [*HOST_OF].index(by))
        return self.happens(Moved(ns(at_s), Changes(WRITERS, [row])))

    def hear(self, at_s: float, told_s: float | None = None, **statuses: Status) -> Run:
        """A heartbeat: all hosts have told what they had to tell up to `told_s`."""
        told_ns = ns(at_s if told_s is None else told_s)
        hosts = [
            HostStatus(host, f"r-{host}", statuses.get(host.replace("-", "_"), "live"), 0, told_ns)
            for host in HOSTS
        ]
        heartbeat = Heartbeat("a", "e", ns(at_s), 1000, [0] * LANES, hosts, {})
        return self.happens(Heard(ns(at_s), heartbeat))

    def doubt(self, at_s: float, reason: str) -> Run:
        """The link is in doubt, or "" no more."""
        return self.happens(Doubt(ns(at_s), reason))

    def happens(self, event: Event) -> Run:
        """Let it happen."""
        self.happened.append(event)
        self.engine.receive(event)
        return self.note()

    def pass_time(self, until_s: float) -> Run:
        """Nothing happens, but time goes by, and each timer comes when it is due."""
        while (due_ns := self.engine.next_timer_ns()) is not None and due_ns <= ns(until_s):
            self.engine.handle_timer(due_ns)
            self.note()
        self.engine.handle_timer(ns(until_s))
        return self.note()

    def note(self) -> Run:
        """Note what the engine has said since."""
        for instance, _, condition in self.engine.take_effects():
            at_s = (self.engine.now_ns - ns(0)) / SECOND
            self.said.append((at_s, instance.label, str(condition.verdict)))
        self.engine.check_invariants()
        return self

    def verdicts(self, label: str) -> list[str]:
        """All verdicts that an instance has had, in order."""
        return [verdict for _, said, verdict in self.said if said == label]

    def instance(self, name: str, path: str = "") -> Instance:
        """The instance of a test at a path, if it has not passed."""
        group = self.engine.groups[name]
        found = {**group.failed, **group.open}
        return next(i for cell, i in found.items() if cell.path == path)

    def verdict(self, name: str) -> Verdict:
        """A test's."""
        return self.engine.groups[name].verdict()

    def condition(self, name: str, path: str = "", at: int = 0) -> Condition:
        """What is said of an instance's property."""
        return self.instance(name, path).condition(at, self.engine.now_ns)

    def explanation(self, name: str, path: str = "") -> str:
        """Why, in full."""
        return "\n".join(explain(self.engine, self.instance(name, path)))
