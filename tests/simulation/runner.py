"""Runs a schedule, and looks whether all that must hold does."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardlog.collector.aggregator.downwards import AGAIN_NS
from shardlog.crdt import counter
from shardlog.crdt.counter import BILLION
from shardlog.crdt.delta import COUNTER
from shardlog.crdt.path import is_within
from shardlog.handler.shard import Shard
from tests.simulation.clockwork import START_NS, TURN_NS, Clockwork
from tests.simulation.nodes import Cluster
from tests.simulation.paths import billionths, family_of, record_of
from tests.simulation.steps import (
    HOUR,
    MS,
    SECOND,
    Backup,
    Break,
    CrashAggregator,
    CrashCollector,
    Cut,
    Exit,
    FailStore,
    GoBack,
    Kill,
    Log,
    LoseStore,
    Pause,
    Schedule,
    Sleep,
    Start,
    Step,
    StepClock,
    Wait,
    Weather,
)
from tests.simulation.truth import Truth, Violation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardlog.crdt.state import State

BOOKS = "shardlog/health/ledger"
"""The sums of each replica, which stay: they are totals."""
SLICE_NS = 550 * MS
QUIET_SLICES = 4
"""For so long all must be whole: longer than a heartbeat, by which a lost tail is noticed, and what
is to be passed down is; in a tree twice."""
PATIENCE_NS = 120 * SECOND
"""Within this time all must be whole again when nothing fails any more."""


@dataclass
class Outcome:
    """What came of a schedule."""

    violation: str | None = None
    story: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """What happened when: ns since the start, and in words."""
    happened: Counter[str] = field(default_factory=Counter[str])
    """How often there were steps of each kind, and what the network did."""
    trace: str = ""
    """A hash of who did what when, and of what all nodes held in the end."""


def run(schedule: Schedule, *, traced: bool = False) -> Outcome:
    """Run a schedule to its end. Whatever is raised on the way is a violation."""
    outcome = Outcome()
    run = _Run(schedule, outcome)
    if traced:
        run.clockwork.trace = []
    try:
        run.all()
    except Violation as violation:
        outcome.violation = str(violation)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = ", ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in frames[-3:])
        outcome.violation = f"{type(error).__name__}: {error} ({where})"
    outcome.happened["message lost"] = run.clockwork.lost
    outcome.happened["message repeated"] = run.clockwork.repeated
    if traced:
        outcome.trace = run.trace()
    run.take_apart()
    return outcome


class _Run:
    """One run of one schedule."""

    def __init__(self, schedule: Schedule, outcome: Outcome) -> None:
        self.clockwork = Clockwork(schedule.seed)
        self._schedule = schedule
        self._outcome = outcome
        self._truth = Truth(schedule.layout)
        self._cluster = Cluster(self.clockwork, schedule.layout, self._truth)

    def all(self) -> None:
        """All steps, then the end."""
        for step in self._schedule.steps:
            self._note(step.words())
            self._outcome.happened[type(step).__name__] += 1
            self._do(step)
        self._note("nothing fails any more")
        self.settle()
        self.check()
        layout = self._schedule.layout
        if layout.replays:
            self._replay()
        if layout.ends:
            self._note("all processes exit, and 25 h pass")
            for process in self._cluster.processes.values():
                process.exit()
            self.settle()
            self.check()
            self._sleep(25)
            self.settle()
            self.check()
            self._check_memory()
            if layout.replays:
                self._replay()

    def trace(self) -> str:
        """A hash of who did what when, and of what all nodes hold."""
        sha = hashlib.blake2b("\n".join(self.clockwork.trace or ()).encode(), digest_size=16)
        for node in self._cluster.servers():
            sha.update(node.machine.state.digest().encode())
        return sha.hexdigest()

    def take_apart(self) -> None:
        """Cut the nodes from each other: so their memory is given back without a search for cycles,
        which took a tenth of all time."""
        for part in (*self._cluster.nodes().values(), self._cluster, self.clockwork):
            vars(part).clear()

    def _note(self, words: str) -> None:
        self._outcome.story.append((self.clockwork.now_ns - START_NS, words))

    def _do(self, step: Step) -> None:
        cluster, now_ns = self._cluster, self.clockwork.now_ns
        match step:
            case Wait(ms):
                self.clockwork.run_until(now_ns + ms * MS)
            case Start(host, number, parent):
                if parent is None or (p := cluster.processes.get(parent)) is None:
                    cluster.start_process(host, number)
                elif p.is_up:
                    cluster.start_process(p.collector.host, number)
            case Log(number, counts, writes, erases):
                process = cluster.processes.get(number)
                if process is not None and process.is_up:
                    values = [(path, {} if value == {} else value) for path, value in writes]
                    shard = Shard(process.wall_ns, values, [*erases], [*counts], {}, 0)
                    process.log(shard)
            case Kill(number):
                if number in cluster.processes:
                    cluster.processes[number].kill()
            case Exit(number):
                if number in cluster.processes:
                    cluster.processes[number].exit()
            case Break(number):
                if number in cluster.processes:
                    cluster.processes[number].break_link()
            case Weather(loss, duplication, delay_ms):
                self.clockwork.loss = loss / 100
                self.clockwork.duplication = duplication / 100
                self.clockwork.delay_ns = delay_ms * MS
            case Sleep(hours):
                self._sleep(hours)
            case _:
                self._fail(step)

    def _fail(self, step: Step) -> None:
        cluster, now_ns = self._cluster, self.clockwork.now_ns
        match step:
            case Pause(name, ms):
                node = cluster.nodes().get(name)
                if node is not None:
                    node.pause(ms * MS)
            case CrashCollector(host, when, ms):
                if host < len(cluster.collectors):
                    cluster.collectors[host].crash(when, ms * MS)
            case Backup(host):
                if host < len(cluster.collectors):
                    cluster.collectors[host].backup = cluster.collectors[host].store.copy()
            case LoseStore(host, ms) | GoBack(host, ms):
                if host < len(cluster.collectors) and cluster.layout.has_life:
                    collector = cluster.collectors[host]
                    collector.crash("at rest", ms * MS)
                    if isinstance(step, LoseStore):
                        collector.lose_store()
                    else:
                        collector.go_back()
            case CrashAggregator(number, ms):
                if number < len(cluster.aggregators):
                    cluster.aggregators[number].crash()
                    self.clockwork.at(now_ns + ms * MS, cluster.aggregators[number].start)
            case FailStore(host, ms):
                if host < len(cluster.collectors):
                    collector = cluster.collectors[host]
                    collector.disk_is_full = True

                    def mend() -> None:
                        collector.disk_is_full = False

                    self.clockwork.at(now_ns + ms * MS, mend)
            case Cut(lower, upper, ms):
                cluster.cable_between(lower, upper).cut_ns = now_ns + ms * MS
            case StepClock(name, ms):
                node = cluster.nodes().get(name)
                if node is not None:
                    node.skew_ns += ms * MS
                    self._truth.has_stepped = True
            case _:
                pass

    def _sleep(self, hours: int) -> None:
        """All machines are suspended: what is under way arrives when they wake up."""
        self._truth.has_slept = True
        for node in self._cluster.nodes().values():
            node.pause(hours * HOUR)
        end_ns = self.clockwork.now_ns + hours * HOUR
        self.clockwork.run_until(end_ns - 1)
        self.clockwork.slept_ns += hours * HOUR
        self.clockwork.run_until(end_ns)

    def settle(self) -> None:
        """Heal everything, and wait until all is whole."""
        clockwork, cluster = self.clockwork, self._cluster
        clockwork.loss = clockwork.duplication = 0.0
        clockwork.delay_ns = 2 * MS
        for cable in cluster.cables():
            cable.cut_ns = 0
        for collector in cluster.collectors:
            collector.disk_is_full = False
        for node in cluster.nodes().values():
            node.resume()
        for server in cluster.servers():
            server.start()
        end_ns = clockwork.now_ns + PATIENCE_NS
        quiet, why = 0, ""
        quiet_slices = QUIET_SLICES * (1 + cluster.layout.is_tree)
        while quiet < quiet_slices:
            clockwork.run_until(clockwork.now_ns + SLICE_NS)
            sent = -1
            while clockwork.flying or clockwork.sent != sent:  # what has arrived is taken in, too
                sent = clockwork.sent
                clockwork.run_until(clockwork.now_ns + TURN_NS + MS)
            reason = self._restless()
            if not reason and quiet + 1 == quiet_slices:
                reason = self._misled()
            quiet = 0 if reason else quiet + 1
            why = reason or why
            if clockwork.now_ns > end_ns:
                raise Violation(f"never whole again: {why}")

    def _restless(self) -> str:
        """Why not all is whole, "" if it is."""
        cluster = self._cluster
        for process in cluster.processes.values():
            if not process.is_settled():
                return f"{process.name} is not settled"
        for aggregator in cluster.aggregators:
            machine = aggregator.machine
            statuses = {s.replica: s.status for s in machine.hosts(aggregator.wall_ns)}
            for collector in cluster.hosts_of(aggregator):
                replica = collector.machine.replica
                if statuses.get(replica) != "live":
                    return f"{aggregator.name} finds {collector.name} {statuses.get(replica)}"
                version = machine.state.versions.get(replica, 0)
                if version != collector.machine.state.versions[replica]:
                    return f"{aggregator.name} has {collector.name} only up to {version}"
        for monitor in cluster.monitors:
            if monitor.following.stale_since_ns(self.clockwork.now_ns) is not None:
                return f"{monitor.name} shows what is stale"
            if monitor.following.note and not self._truth.has_lost_store:
                return f"{monitor.name} says that {monitor.following.note}"
        return ""

    def _misled(self) -> str:
        """Which monitor does not show what its aggregator does, "" if none."""
        for monitor in self._cluster.monitors:
            shown = {path: tuple(row) for path, row in monitor.aggregator.machine.state.rows()}
            seen = {"/".join(map(str, keys)): tuple(s) for keys, s in _all_rows(monitor.replica)}
            if shown != seen:
                return _difference(f"{monitor.aggregator.name} and {monitor.name}", shown, seen)
        return ""

    def check(self) -> None:
        """What must hold when all is whole."""
        truth, cluster = self._truth, self._cluster
        for collector in cluster.collectors:
            state, store = collector.machine.state, collector.store
            rows: dict[str, Any] = {
                f"{path} register": [leaf and (*leaf.mark, leaf.value), floor]
                for path, leaf, floor in store.registers.values()
            }
            rows.update((f"{path} counter", entry) for path, entry in store.entries.items())
            _compare(f"the store of {collector.name} and it", rows, _part(state, collector.named()))
        for aggregator in cluster.aggregators:
            for collector in cluster.hosts_of(aggregator):
                replica = collector.named()
                _compare(
                    f"I5: {collector.name} and what {aggregator.name} has of it",
                    _part(collector.machine.state, replica),
                    _part(aggregator.machine.state, replica),
                )
        state = cluster.aggregators[-1].machine.state
        state.check_invariants()
        self._check_totals(state)
        self._check_registers(state)
        for process in truth.processes.values():
            if not process.is_killed:
                for path, (stamp, _) in process.said.items():
                    if process.stored.get(path, 0) < stamp:
                        raise Violation(f"I9: the newest of {process.id} at {path} never arrived")

    def _check_totals(self, state: State) -> None:
        truth, layout = self._truth, self._schedule.layout
        expected = truth.expected()
        if truth.has_lost_store:
            self._check_lower_bounds(state)
            return
        if not layout.erases:
            shown = _shown(state)
            _compare(
                "I1: what was counted and what shows",
                _nonzero(_opened(expected)),
                _nonzero(_opened(shown)),
            )
            if not layout.retention_s and not truth.has_slept:
                _compare(
                    "I1: what was counted and what shows to the last bit",
                    {path: n / BILLION for path, n in expected.items()},
                    {path: row.value for path, row in state.rows() if path in shown},
                )
            return
        if layout.retention_s or truth.has_slept:
            return
        since: Counter[str] = Counter()
        own: Counter[str] = Counter()
        for process in truth.processes.values():
            if not process.is_killed:
                since.update(process.since)
                own.update({p: n for p, n in process.since.items() if p.startswith("own/")})
        counted: Counter[str] = Counter()
        for path in state.counting:
            if family_of(path) is not None or path.startswith("own/"):
                entries = state.entries(path).values()
                counted[path] = sum(billionths(entry.amount) for entry in entries)
        for path, n in counted.items():
            if not since[path] <= n <= expected.get(path, 0):
                raise Violation(
                    f"I7: the ledgers have {n} at {path}, where {expected.get(path)} were counted, "
                    f"{since[path]} of these since it was erased"
                )
        if not truth.has_stepped:
            _compare(
                "I1: what was counted and not erased and what shows",
                {path: n for path, n in truth.kept().items() if n and path[:4] != "own/"},
                {path: n for path, n in _shown(state).items() if n and path[:4] != "own/"},
            )
        killed = tuple(
            f"own/{p.number}/" for p in self._cluster.processes.values() if p.truth.is_killed
        )
        shown = Counter({p: n for p, n in _shown(state).items() if p.startswith("own/")})
        for path in [path for path in shown if path.startswith(killed)]:
            del shown[path]
        _compare(
            "I1: what was counted since the last erase and what shows",
            _nonzero(own),
            _nonzero(shown),
        )

    def _check_lower_bounds(self, state: State) -> None:
        """Where a store was lost, nothing is too high, and what is too low is said to be so."""
        shown = _opened(_shown(state))
        expected = _opened(self._truth.expected())
        aggregator = self._cluster.aggregators[-1]
        hosts = aggregator.machine.hosts(aggregator.wall_ns)
        # Without a version beside the socket only followers who were told more know of that.
        is_unknown = self._truth.is_unnoted
        is_lower_bound = is_unknown or any(host.lower_bound for host in hosts)
        for path, n in expected.items():
            if shown[path] != n and not is_lower_bound and not self._truth.layout.erases:
                raise Violation(f"I1: {shown[path]} show at {path}, {n} were counted, and no word")

    def _check_registers(self, state: State) -> None:
        truth = self._truth
        visible = truth.visible()
        expected = {p: (m.stamp, m.writer, (m.value or [None])[0]) for p, m in visible.items()}
        shown = {
            path: (*leaf.mark, leaf.value)
            for path, leaf in state.map.leaves.items()
            if state.map.is_visible(path) and not path.startswith("shardlog/")
        }
        if truth.layout.retention_s or truth.has_slept or truth.has_lost_store:
            for path, row in shown.items():
                if (path, *row[:2]) not in truth.said:
                    raise Violation(f"I3: {path} shows {row!r}, which nobody said")
            if truth.has_stepped or truth.has_lost_store:
                return
            # What is due at one host, and not at another, may be gone in part.
            due = truth.due(self.clockwork.now_ns)
            expected = {path: row for path, row in expected.items() if record_of(path) not in due}
            shown = {path: row for path, row in shown.items() if record_of(path) not in due}
        _compare("I3: the registers in order and what shows", expected, shown)

    def _check_memory(self) -> None:
        """I6: of what is over nothing is left but totals.

        A copy of a store that was put back knows processes whose end it has not seen: for a day.
        """
        if self._outcome.happened["GoBack"]:
            return
        for collector in self._cluster.collectors:
            store = collector.store
            left = [*store.marks, *store.lines, *store.closed, *store.clocks]
            if left:
                raise Violation(f"I6: {collector.name} still keeps {left}")
        for node in self._cluster.servers():
            state = node.machine.state
            left = [path for path in state.map.index if "/" in path and not is_within(path, BOOKS)]
            left += [path for path in state.counting if "/" in path and "~" not in path]
            if left:
                raise Violation(f"I6: {node.name} still has {left}")

    def _replay(self) -> None:
        """I4: all that was ever sent comes again, and changes nothing.

        A store that was lost has lost the ids of those who had ended, too. After a step back of the
        clock what was forgotten is not old any more.
        """
        truth = self._truth
        has_forgotten = truth.layout.retention_s or truth.has_slept
        if truth.has_lost_store or (truth.has_stepped and has_forgotten):
            return
        self._note("all reports that were ever sent come again")
        wait_ns = AGAIN_NS * (1 + truth.layout.is_tree)  # what was passed down may have been lost
        if truth.layout.retention_s:
            wait_ns = max(wait_ns, (truth.layout.retention_s + 2) * SECOND)
        self.clockwork.run_until(self.clockwork.now_ns + wait_ns)
        self.settle()
        before = _replayed(self._cluster)
        rng = self.clockwork.rng("replay")
        for collector in self._cluster.collectors:
            reports = [r for process in collector.processes for r in process.truth.reports]
            rng.shuffle(reports)
            for report in reports:
                collector.machine.receive(report, collector.wall_ns)
        self.settle()
        _compare("I4: before and behind a replay", before, _replayed(self._cluster))


def _replayed(cluster: Cluster) -> dict[str, Any]:
    """What all hold, but for what shardlog says itself."""
    return {
        f"{node.name} {path}": row
        for node in cluster.servers()
        for path, row in _rows(node.machine.state).items()
        if not path.startswith("shardlog/")
    }


def _rows(state: State) -> dict[str, Any]:
    """All that is stored, by path."""
    rows: dict[str, Any] = {f"{path} register": row for path, *row in state.map.rows()}
    rows.update({f"{path} counter": state.entries(path) for path in state.counting})
    return rows


def _part(state: State, replica: str) -> dict[str, Any]:
    """What is stored of a replica, by path."""
    part = state.parts.get(replica)
    if part is None:
        return {}
    rows: dict[str, Any] = {f"{path} register": row for path, *row in part.map.rows()}
    rows.update((f"{path} counter", entry) for path, entry in part.entries.items())
    return rows


def _all_rows(replica: Any) -> list[tuple[Any, Any]]:
    return [*replica.rows("**"), *replica.rows("shardlog/**")]


def _shown(state: State) -> Counter[str]:
    """The counters that show, by path, in billionths."""
    return Counter(
        {
            path: billionths(counter.amount(row.value))
            for path, row in state.rows()
            if row.kind == COUNTER
            and isinstance(row.value, int | float)
            and not path.startswith("shardlog/")
        }
    )


def _opened(counts: Mapping[str, int]) -> Counter[str]:
    """With the record in each path left open: there counts go on when it is forgotten."""
    result: Counter[str] = Counter()
    for path, n in counts.items():
        first, *rest = path.split("/")
        result["/".join([first, *(["*", *rest[1:]] if rest else [])])] += n
    return result


def _nonzero(counts: Mapping[str, int]) -> dict[str, int]:
    return {path: n for path, n in counts.items() if n}


def _compare(what: str, expected: dict[str, Any], seen: dict[str, Any]) -> None:
    if expected != seen:
        raise Violation(_difference(what, expected, seen))


def _difference(what: str, expected: dict[str, Any], seen: dict[str, Any]) -> str:
    lines = [
        f"  {path}: expected {expected.get(path)!r}, seen {seen.get(path)!r}"
        for path in sorted(expected.keys() | seen.keys())
        if expected.get(path) != seen.get(path)
    ]
    return "\n".join([f"{what} differ", *lines[:5]])
