"""The machine that judges: woken by what happens, never by a sampling loop.

Theory of operation. A test is run for every key that matches its pattern, as soon as it shows; each
such instance has properties, and is judged when a place changes that it looked at, or when one
of its deadlines is there. A delta is taken in whole before anything is judged.

There are two timelines. By arrival, everything is judged as it comes: what is owed is seen as early
as possible, and that something is there stays true whatever comes late. By the cut, the state is
judged as it was at each stamp, once all hosts have said that they have nothing older to tell (their
watermarks, K. M. Chandy and L. Lamport, "Distributed Snapshots", 1985, is the problem): whether
two hosts' counters agree can't be said of values of different times.

A counter's row says what it was at its stamp, and what was counted since the row before it, not
when. And clocks differ. So at a stamp every other place may be as it was earlier by as much as the
clocks differ, or as the first row says that is later by as much. A predicate is false at the cut
only if it is false in each of these ways, where places of one name move together, and so do all
keys below places of one name; if more than six names move, there are too many ways to try, and
there is no answer yet. What is wrong by less than what was under way shows as soon as that stands
still.

Evidence may be missing: the link is in doubt, or a host that an instance has to do with is not
live, or the cut stands still (see `hosts`). Such an instance is `blind`, and nothing fails, until
that has healed.

A predicate that raises, writes, or takes too long is blind, too; the others are judged.

Known anomalies. What was already there when the monitor came, or what is told of a host behind an
outage, has no known time: if it is true, it counts as having been so in time. What was broken while
it was blind, and is not when that heals, may go unseen.
"""

from __future__ import annotations

import heapq
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING

from shardlog.crdt.path import RESERVED, is_within
from shardlog.monitor.feed import Doubt, Heard, Moved, Whole
from shardlog.monitor.live.asking import Asking, Builder, Raised, Unguarded
from shardlog.monitor.live.errors import errors_of
from shardlog.monitor.live.hosts import Hosts, names_at
from shardlog.monitor.live.instance import (
    ARRIVAL,
    BUILT,
    CUT,
    NOWHERE,
    Evidence,
    Group,
    Instance,
    Looks,
    Resumed,
    Step,
    Transition,
    alive_keys,
    born_ns_of,
    depth_of,
    two_digits,
)
from shardlog.monitor.live.properties import Ladder, Property
from shardlog.monitor.live.timers import Timers
from shardlog.monitor.live.verdict import Verdict
from shardlog.monitor.live.view import Glance, Live, Node
from shardlog.monitor.live.world import Cell, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shardlog.crdt.replication.messages import Heartbeat
    from shardlog.monitor.feed import Event
    from shardlog.monitor.live.asking import Guard
    from shardlog.monitor.live.declared import Test
    from shardlog.monitor.live.world import Moves

MS = 1_000_000
SECOND = 10**9
KEPT_MAX = 1000
"""Of so many failures of a test the evidence is kept, and what became of so many that are gone."""


class Engine:
    """Judges tests by what happens. All times are those of events, and only go forward."""

    def __init__(
        self,
        tests: Iterable[Test],
        *,
        lateness_ms: int = 2000,
        slack_ms: int = 100,
        guard: Guard | None = None,
        resumes: bool = False,
    ) -> None:
        self.groups = {test.name: Group(test) for test in tests}
        self.now_ns = 0
        self.cut_ns = 0
        """Up to when all live hosts have told what they had to tell, less what clocks differ."""
        self.world: World[Instance] = World()
        self.hosts = Hosts(self.world, slack_ms * MS, lateness_ms * MS)
        self.doubt = "nothing has been heard yet"
        """Why what shows may not be what the node has, "" if it is."""
        self.lateness_ns = lateness_ms * MS
        self.guard: Guard = guard or Unguarded()
        self._resumes = resumes
        self._glance = Glance(self.world)
        self._glance.slack_ns = self.hosts.slack_ns
        self.live = Live(self.world.root, self._glance)
        self._by_depth: dict[int, list[Group]] = {}
        for group in self.groups.values():
            self._by_depth.setdefault(len(group.test.parts), []).append(group)
        self._order = count()
        self._timers = Timers(attrgetter("due_ns"))
        self._cut_timers = Timers(attrgetter("cut_due_ns"))
        self._later: list[tuple[int, int, Instance]] = []
        """Who is to be judged at the cut at which stamp."""
        self._past: list[tuple[int, int, Cell[Instance]]] = []
        """Of which places the past is kept, and until which cut."""
        self._waiting: dict[Instance, None] = {}
        """Who waits for hosts to say that they have told all."""
        self._transitions: list[Transition] = []
        self.is_begun = False
        """Whether anything has been shown yet."""

    def receive(self, event: Event) -> None:
        """Take in what happened. O(what it changed x depth + who looks at it)."""
        self.handle_timer(event.at_ns)
        match event:
            case Moved(_, changes):
                self._take(self.world.apply(changes), is_guessed=False)
            case Whole(at_ns, parts):
                if not self.is_begun:
                    self.doubt = ""
                self._take(self.world.install(parts, at_ns), is_guessed=True)
                self._begin()
            case Heard(_, heartbeat):
                self._hear(heartbeat)
            case Doubt(_, reason):
                if reason != self.doubt:
                    self.doubt = reason
                    self._look_for_blind()

    def handle_timer(self, now_ns: int) -> None:
        """Judge those whose time is there, each as of its own time. O(them x log n)."""
        while (instance := self._timers.take(now_ns)) is not None:
            self.now_ns = max(self.now_ns, instance.due_ns or 0)
            self._judge(instance)
        self.now_ns = max(self.now_ns, now_ns)

    def next_timer_ns(self) -> int | None:
        """When `handle_timer` has something to do, None if never."""
        return self._timers.first_ns()

    def take_effects(self) -> list[Transition]:
        """Which properties have got other verdicts, in order."""
        taken, self._transitions = self._transitions, []
        return taken

    def add(self, test: Test, at_ns: int) -> Group:
        """Judge one more test from now on. O(places)."""
        self.handle_timer(at_ns)
        group = self.groups[test.name] = Group(test)
        self._by_depth.setdefault(len(test.parts), []).append(group)
        if self.is_begun:
            if not test.parts:
                self._bear(self.world.root, [group], is_guessed=True)
            for cell in [*self.world.cells()] if test.parts else ():
                if cell.alive:
                    self._bear(cell, [group], is_guessed=True)
        return group

    def remove(self, group: Group) -> None:
        """Judge a test no more. O(its instances)."""
        for instance in group.open.values():
            self._let_go(instance)
        del self.groups[group.test.name]
        self._by_depth[len(group.test.parts)].remove(group)

    def end(self, now_ns: int) -> None:
        """The run ends. What is judged at the cut was judged up to that. O(instances)."""
        self.handle_timer(now_ns)
        self._glance.begin(now_ns)
        for group in self.groups.values():
            for instance in [*group.open.values()]:
                for at, asked in enumerate(instance.asked):
                    if not instance.blind and not instance.raised(at):
                        asked.end(now_ns)
                self._tell(instance)

    def evidence(self, instance: Instance, at_ns: int | None = None) -> Evidence:
        """What is known of an instance now; of values, what they were at a time. O(its looks)."""
        places = instance.places()
        looked = [cell for cell in places if cell.version.shows or not cell.alive]
        keys_of = dict.fromkeys(cell for looks in instance.looks for cell in looks[1])
        hosts = self.hosts
        known = [hosts.known[name] for name in hosts.concerned_by(instance)]
        told = [(host.host, host.status, host.watermark_ns) for host in known]
        names = dict.fromkeys(name for cell in places for name in names_at(cell))
        blades = {name: status for name in names if (status := hosts.presence(name))}
        return Evidence(
            self.now_ns,
            at_ns,
            tuple(
                (cell.path, cell.version if at_ns is None else cell.version_at(at_ns))
                for cell in looked
                if cell is not instance.cell
            ),
            tuple((cell.path, alive_keys(cell)) for cell in keys_of),
            tuple(told),
            tuple(sorted(blades.items())),
            errors_of(self.world, blades, instance.born_ns),
        )

    def check_invariants(self) -> None:
        """Raise AssertionError where who looks and what is looked at differ. O(all)."""
        self.world.check_invariants()
        for group in self.groups.values():
            for cell, instance in group.open.items():
                assert instance.cell is cell
                assert cell not in group.passed
                assert cell not in group.failed
                for place in instance.places():
                    assert place.above is None or (place.above.below or {})[place.key] is place

    def _begin(self) -> None:
        if not self.is_begun:
            self.is_begun = True
            for group in self._by_depth.get(0, ()):
                self._bear(self.world.root, [group], is_guessed=True)
        self._look_for_blind()

    def _take(self, moves: Moves[Instance], *, is_guessed: bool) -> None:
        for cell in moves.changed:
            heapq.heappush(self._past, (cell.version.stamp, next(self._order), cell))
        for instance, what in moves.readers.items():
            if is_guessed or any(self.hosts.is_late(cell) for cell, _ in what):
                instance.guessed_ns = self.now_ns
            for cell, before in what:
                if cell in self._glance.samples and isinstance(cell.version.value, int | float):
                    self._glance.samples[cell].add(cell.version.stamp, cell.version.value)
                instance.note(Step(self.now_ns, cell, before, cell.version))
                if instance.has_cut:
                    self._judge_later(instance, cell.version.stamp)
        for cell in moves.went:
            if cell.above is not None:  # the whole is there, also where nothing shows
                for group in self._by_depth.get(depth_of(cell), ()):
                    self._withdraw(group, cell)
        if self._by_depth:
            for cell in moves.came:
                groups = self._by_depth.get(depth_of(cell))
                if groups:
                    self._bear(cell, groups, is_guessed=is_guessed)
        for instance, what in moves.readers.items():
            # A part of the story may be missing in what replaces all.
            said_ns = 0 if is_guessed else min(cell.version.stamp for cell, _ in what)
            self._judge(instance, said_ns)

    def _bear(self, cell: Cell[Instance], groups: Sequence[Group], *, is_guessed: bool) -> None:
        """A place came: whoever tests it is to begin."""
        path = cell.path
        is_reserved = is_within(path, RESERVED)
        for group in groups:
            if cell in group.open or cell in group.passed or cell in group.failed:
                continue
            parts = group.test.parts
            if parts and (not group.test.matches(path) or is_reserved != (parts[0] == RESERVED)):
                continue
            if cell.above is None:  # what is asked of the whole is owed from now on
                instance = Instance(group.test, cell, self.now_ns, 0)
            else:
                born_ns = min(born_ns_of(cell, self.now_ns), self.now_ns)
                instance = Instance(group.test, cell, born_ns, self.now_ns if is_guessed else 0)
            group.open[cell] = instance
            if not self._is_resumed(group, instance):
                self._build(instance)
                self._judge(instance)

    def _is_resumed(self, group: Group, instance: Instance) -> bool:
        """Whether a final verdict of it has been published, which stays."""
        if not self._resumes:
            return False
        cell = self.world.known((RESERVED, "live", group.test.name, instance.cell.path))
        if cell is None:
            return False
        told = (cell.below or {}).items()
        said = {key: child.version.value for key, child in told if child.version.shows}
        final = {"pass": Verdict.PASS, "fail": Verdict.FAIL}.get(str(said.get("verdict")))
        since_ns = said.get("since")
        if final is None or type(since_ns) is not int:
            return False
        # A key that came since then is asked for anew; the whole never comes, nor goes.
        if instance.test.parts and instance.born_ns > since_ns + self.hosts.slack_ns:
            return False
        instance.asked = (Resumed(group.test.name, final, said, instance.born_ns),)
        self._tell(instance)
        return True

    def _build(self, instance: Instance) -> None:
        """Run the test's function: what it asks for."""
        glance = self._glance
        glance.begin(self.now_ns)
        test = instance.test
        builder = Builder(self.live)
        node = (Node(instance.cell, glance),) if test.parts else ()
        raised = builder.build(test.function, (*node, self.live), self.guard)
        if raised:
            instance.asked = (Property(test.name),)
        else:
            instance.asked = tuple(builder.asked)
        instance.note_raised(0, raised)
        instance.has_cut = any(asked.timeline == "cut" for asked in instance.asked)
        instance.shown = tuple(Verdict.IDLE for _ in instance.asked)
        for asked in instance.asked:
            asked.begin(instance.born_ns)
        if test.parts:
            glance.cells.append(instance.cell)
        self._look(instance, BUILT)
        if instance.has_cut:
            self.world.keeps_past = True
            self._judge_later(instance, max(instance.born_ns, instance.guessed_ns))

    def _judge(self, instance: Instance, changed_ns: int | None = None) -> None:
        """Judge what is judged by arrival. `changed_ns`: see `Moment`; None: nothing has."""
        if instance.is_over:
            return
        if self.doubt or instance.blind or self.hosts.is_doubtful:
            self._set_blind(instance)
        if instance.raised(0) and type(instance.asked[0]) is Property:
            self._build_again(instance)
            return
        self._glance.begin(self.now_ns)
        moment = self._asking(instance)
        if changed_ns is not None:
            moment.changed_ns = changed_ns
        due_ns: int | None = None
        waits = False
        for at, asked in enumerate(instance.asked):
            if asked.timeline == "cut" or asked.verdict.is_final:
                continue
            self._ask(instance, at, asked, moment)
            waits |= asked.verdict is Verdict.OVERDUE or (
                asked.verdict is Verdict.PENDING and asked.reason == "Holding"
            )
            if asked.due_ns is not None and (due_ns is None or asked.due_ns < due_ns):
                due_ns = asked.due_ns
        self._look(instance, ARRIVAL)
        if self.hosts.low:
            self._set_blind(instance)
        if instance.blind and due_ns is not None and due_ns <= self.now_ns + 1:
            due_ns = None  # nothing can be said before that has healed; then it is judged anyway
        recheck_ns = self._glance.recheck_ns
        if recheck_ns is not None and (due_ns is None or recheck_ns < due_ns):
            due_ns = max(recheck_ns, self.now_ns + 1)
        if due_ns != instance.due_ns:
            instance.due_ns = due_ns
            if due_ns is not None:
                self._timers.add(due_ns, instance)
        if waits:
            self._waiting[instance] = None
        elif self._waiting:
            self._waiting.pop(instance, None)
        self._tell(instance)

    def _build_again(self, instance: Instance) -> None:
        self._build(instance)
        if instance.raised(0):
            self._tell(instance)
        else:
            self._judge(instance)

    def _judge_at_cut(self, instance: Instance, at_ns: int) -> None:
        """Judge what is judged at the cut, as of a stamp."""
        if instance.is_over or instance.blind:
            return
        self._glance.begin(at_ns, at_ns)
        moment = self._asking(instance)
        due_ns: int | None = None
        for at, asked in enumerate(instance.asked):
            if asked.timeline == "cut" and not asked.verdict.is_final:
                self._ask(instance, at, asked, moment)
                if asked.due_ns is not None and (due_ns is None or asked.due_ns < due_ns):
                    due_ns = asked.due_ns
        self._look(instance, CUT, at_ns)
        if self.hosts.low:
            self._set_blind(instance)
        recheck_ns = self._glance.recheck_ns
        if recheck_ns is not None and (due_ns is None or recheck_ns < due_ns):
            due_ns = max(recheck_ns, at_ns + 1)
        if due_ns != instance.cut_due_ns:
            instance.cut_due_ns = due_ns
            if due_ns is not None:
                self._cut_timers.add(due_ns, instance)
        self._tell(instance)

    def _asking(self, instance: Instance) -> Asking:
        return Asking(instance, self._glance, self.hosts, self.guard, self.lateness_ns)

    def _judge_later(self, instance: Instance, stamp: int) -> None:
        heapq.heappush(self._later, (max(stamp, self.cut_ns), next(self._order), instance))

    def _ask(self, instance: Instance, at: int, asked: Property, moment: Asking) -> None:
        try:
            asked.judge(moment)
        except Raised as raised:
            instance.note_raised(at, str(raised))
        else:
            if instance.raised(at):
                instance.note_raised(at, "")

    def _hear(self, heartbeat: Heartbeat) -> None:
        """How far each host is known has changed."""
        if self.hosts.hear(heartbeat):
            self._look_for_blind()
        for instance in [*self._waiting]:
            self._judge(instance)
        self._glance.slack_ns = self.hosts.slack_ns
        if self.hosts.no_cut:
            self._skip(self.hosts.no_cut_ns)
        else:
            self._advance(self.hosts.cut_ns)

    def _advance(self, cut_ns: int) -> None:
        """All is here that was said up to then: judge as of each stamp up to it, in order."""
        if cut_ns <= self.cut_ns:
            return
        later, timers = self._later, self._cut_timers
        while True:
            first_ns = timers.first_ns()
            at_ns = min(later[0][0] if later else cut_ns + 1, first_ns or cut_ns + 1)
            if at_ns > cut_ns:
                break
            self.cut_ns = max(self.cut_ns, at_ns)
            concerned: dict[Instance, None] = {}
            while later and later[0][0] <= at_ns:
                concerned[heapq.heappop(later)[2]] = None
            while (instance := timers.take(at_ns)) is not None:
                concerned[instance] = None
            for instance in concerned:
                self._judge_at_cut(instance, at_ns)
        self.cut_ns = cut_ns
        self._forget_past(cut_ns - self._glance.slack_ns)

    def _skip(self, until_ns: int) -> None:
        """Judge nothing as of any time up to then: whoever would be is blind meanwhile."""
        while self._later and self._later[0][0] <= until_ns:
            for asked in heapq.heappop(self._later)[2].asked:
                if asked.timeline == "cut":
                    asked.miss()
        while (instance := self._cut_timers.take(until_ns)) is not None:
            instance.cut_due_ns = None
        self._forget_past(until_ns)

    def _forget_past(self, kept_ns: int) -> None:
        while self._past and self._past[0][0] <= kept_ns:
            self.world.forget_past(heapq.heappop(self._past)[2], kept_ns)

    def _look_for_blind(self) -> None:
        """What may be missing has changed. O(instances)."""
        for group in self.groups.values():
            for instance in [*group.open.values()]:
                self._judge(instance)

    def _set_blind(self, instance: Instance) -> None:
        blind = self.doubt or self.hosts.why_blind(instance)
        if blind and not instance.blind:
            instance.blind_ns = self.now_ns
        if instance.blind and not blind and instance.has_cut:
            # What showed before is not known, or not all of it.
            self._judge_later(instance, self.now_ns)
        instance.blind = blind

    def _tell(self, instance: Instance) -> None:
        """Say which verdicts are others than those that were said."""
        shown = instance.shown
        now: list[Verdict] = []
        for at, asked in enumerate(instance.asked):
            condition = instance.condition(at, self.now_ns)
            is_first = at >= len(shown) or shown[at] is Verdict.IDLE
            is_begin = not self.hosts.known or (is_first and self.hosts.settling)
            if condition.verdict is Verdict.BLIND and is_begin:
                now.append(Verdict.IDLE)  # all begin so: that is no news
                continue
            now.append(condition.verdict)
            if at >= len(shown) or shown[at] != condition.verdict:
                self._transitions.append(Transition(instance, asked, condition))
        instance.shown = tuple(now)
        if now and (Verdict.FAIL in now or all(verdict is Verdict.PASS for verdict in now)):
            self._finish(instance)

    def _finish(self, instance: Instance) -> None:
        group = self.groups[instance.test.name]
        if group.open.pop(instance.cell, None) is None:
            return
        if instance.verdict is Verdict.PASS:
            group.passed[instance.cell] = None
            group.passes += 1
            # What only had to hold took as long as it was watched, which says nothing.
            owed = [asked.since_ns for asked in instance.asked if isinstance(asked, Ladder)]
            if owed:
                group.took_ms[two_digits((max(owed) - instance.born_ns) // MS)] += 1
            group.note_features(instance.cell)
            instance.steps = []
        else:
            group.failures += 1
            if len(group.failed) < KEPT_MAX:
                instance.evidence = self.evidence(instance, self._glance.at_ns)
            group.failed[instance.cell] = instance
        self._let_go(instance)

    def _withdraw(self, group: Group, cell: Cell[Instance]) -> None:
        """What a test is about is gone: what is still open is asked for no more; failures stay."""
        group.passed.pop(cell, None)
        failed = group.failed.pop(cell, None)
        if failed is not None and len(group.gone) < KEPT_MAX:
            group.gone.append(failed)
        instance = group.open.pop(cell, None)
        if instance is not None:
            self._let_go(instance)

    def _let_go(self, instance: Instance) -> None:
        for at in (BUILT, ARRIVAL, CUT):
            self._set_looks(instance, at, NOWHERE)
        instance.is_over = True
        instance.due_ns = instance.cut_due_ns = None
        self._waiting.pop(instance, None)

    def _look(self, instance: Instance, at: int, stamp: int | None = None) -> None:
        """Note where it looked just now, to be told when something changes there."""
        glance = self._glance
        looks = (tuple(dict.fromkeys(glance.cells)), tuple(dict.fromkeys(glance.key_cells)))
        if looks == instance.looks[at] or instance.is_over:
            return
        before = instance.looks[at]
        self._set_looks(instance, at, looks)
        if stamp is not None:
            # What came while nobody looked, and is later than this, is still to be judged.
            for cell in set(looks[0]).difference(before[0]):
                for version in (*(cell.past or ()), cell.version):
                    if version.stamp > stamp:
                        self._judge_later(instance, version.stamp)
            for cell in set(looks[1]).difference(before[1]):
                for child in (cell.below or {}).values():
                    if child.toggled > stamp:
                        self._judge_later(instance, child.toggled)

    def _set_looks(self, instance: Instance, at: int, looks: Looks) -> None:
        before = instance.looks[at]
        all_looks = [*instance.looks]
        all_looks[at] = looks
        built, arrival, cut = all_looks
        instance.looks = (built, arrival, cut)
        self.world.look(*looks, instance)
        if before != NOWHERE:
            cells = set(before[0]).difference(built[0], arrival[0], cut[0])
            keys_of = set(before[1]).difference(built[1], arrival[1], cut[1])
            self.world.look_away(cells, keys_of, instance)
            samples = self._glance.samples
            for cell in cells if samples else ():
                if not cell.readers:
                    samples.pop(cell, None)
