"""What live tests are for, and where others fail: eight cases."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shardlog.crdt.delta import COUNTER
from shardlog.crdt.replication.messages import LANES, Changes, Heartbeat, HostStatus, Row
from shardlog.crdt.sketch import bucket
from shardlog.monitor.feed import Heard, Moved, Whole
from shardlog.monitor.live.properties import always, eventually, ladder, rung
from shardlog.monitor.live.verdict import Verdict
from shardlog.monitor.live.view import quantile
from tests.live.run import SECOND, WRITERS, Run, ns


def answered(i: Any, live: Any) -> Any:
    """The scraper starts within 30 s; somebody else receives within 60 s of that, for 0.5 s."""
    return ladder(
        rung("started", lambda: i.host in i.resolution, within=30),
        rung("received", lambda: any(h != i.host for h in i.resolution), within=60, hold=0.5),
    )


def asked(run: Run, at_s: float) -> Run:
    """The orchestrator asks."""
    run.write(at_s, "intents/42/host", "scraper-1")
    return run.write(at_s, "intents/42/module", "scrape_pages==1.4")


@pytest.mark.parametrize("phase_ms", range(0, 250, 25))
def test_a_flap_of_50_ms_never_passes_for_half_a_second(phase_ms: int) -> None:
    """The verdict is the same whenever it begins: nothing depends on when anybody looks."""
    run = Run(("intents/*", answered)).begin()
    asked(run, 1)
    run.write(1.2, "intents/42/resolution/scraper-1/state", "started", by="scraper-1")
    at_s = 1.35 + phase_ms / 1000
    run.write(at_s, "intents/42/resolution/spotter-1/items", 3, by="spotter-1")
    run.erase(at_s + 0.05, "intents/42/resolution/spotter-1/items", by="spotter-1")
    for second in range(2, 65):
        run.hear(second)
    run.pass_time(70)
    assert run.verdicts("answered[42]") == ["pending", "overdue", "fail"]
    said = run.explanation("answered", "intents/42")
    assert "stuck before rung 2/2 'received', 60 s after 'started'" in said
    assert "it was true for 50 ms only" in said
    assert "T+   0.20  scraper-1" in said
    assert "3 -> absent" in said


def test_silence_after_the_ask_fails_at_its_deadline_and_says_where_it_stands() -> None:
    """Nobody answers: a failure 30 s after the ask, once all hosts have told all up to then."""
    run = Run(("intents/*", answered)).begin()
    asked(run, 1)
    run.hear(30).hear(31.0, told_s=30.9)
    assert run.verdicts("answered[42]") == ["pending", "overdue"]
    run.hear(31.5, told_s=31.2)
    assert run.verdicts("answered[42]") == ["pending", "overdue", "fail"]
    at_s, *_ = run.said[-1]
    assert at_s == pytest.approx(31.5)
    assert "stuck before rung 1/2 'started', 30 s after it was asked for" in run.explanation(
        "answered", "intents/42"
    )


def test_a_restart_amid_a_deadline_changes_nothing() -> None:
    """A monitor that comes anew has the same deadlines: they begin when it was asked."""
    run = Run(("intents/*", answered)).begin()
    asked(run, 1)
    run.write(5, "intents/42/resolution/scraper-1/state", "started", by="scraper-1")
    again = Run(("intents/*", answered))
    again.begin(
        [
            again.row("intents/42/host", "scraper-1", 1),
            again.row("intents/42/module", "scrape_pages==1.4", 1),
            again.row("intents/42/resolution/scraper-1/state", "started", 5, "scraper-1"),
        ],
        at_s=20,
    )
    for one in (run, again):
        for second in range(21, 70):
            one.hear(second)
        one.pass_time(70)
    failed_s = [at_s for at_s, _, verdict in run.said if verdict == "fail"]
    assert failed_s == [at_s for at_s, _, verdict in again.said if verdict == "fail"]
    assert failed_s == [pytest.approx(65)]
    assert run.condition("answered", "intents/42").message == (
        again.condition("answered", "intents/42").message
    )


def test_a_lost_shard_makes_blind_and_neither_red_nor_green() -> None:
    """While something is missing nothing fails; what comes with the healing counts in time."""
    run = Run(("intents/*", answered)).begin()
    asked(run, 1)
    run.doubt(2, "messages 8812 to 8840 are missing")
    run.pass_time(50)
    assert run.verdicts("answered[42]") == ["pending", "blind"]
    assert run.condition("answered", "intents/42").message == "messages 8812 to 8840 are missing"
    rows = [
        run.row("intents/42/host", "scraper-1", 1),
        run.row("intents/42/resolution/scraper-1/state", "started", 3, "scraper-1"),
        run.row("intents/42/resolution/spotter-1/items", 3, 4, "spotter-1"),
    ]
    run.happens(Whole(ns(50), (Changes(WRITERS, rows),)))
    run.doubt(50, "")
    run.hear(51)
    assert run.verdicts("answered[42]")[-1] == "pass"


def test_what_is_still_missing_when_the_doubt_is_over_fails() -> None:
    """Blind is no excuse: once all is there again, what was not done was not done."""
    run = Run(("intents/*", answered)).begin()
    asked(run, 1)
    run.doubt(2, "lost")
    run.pass_time(50)
    run.doubt(50, "")
    run.hear(51)
    assert run.verdicts("answered[42]")[-1] == "fail"


def agree(i: Any, live: Any) -> Any:
    """The spotter never receives more than the scraper has sent."""
    return always(lambda: i.received <= i.sent)


class Pair:
    """A scraper on one host that sends, a spotter on another that receives; both count.

    What they count is on its way for up to 0.5 s, their clocks are up to `skew_s` apart, and both
    send what they counted in so many ms at once, as handlers do while they are busy.
    """

    def __init__(self, seed: int, skew_s: float) -> None:
        self.rng = random.Random(seed)
        self.skew_s = skew_s

    def events(self, seconds: int, twice_at: int | None = None) -> list[tuple[float, Any]]:
        """What comes at the monitor, in order; `twice_at`: which item is received twice."""
        rng = self.rng
        sent: list[float] = []
        received: list[float] = []
        at_s = 1.0
        while at_s < seconds:
            at_s += rng.expovariate(20)
            sent.append(at_s)
            received.append(at_s + rng.uniform(0, 0.02))
            if len(sent) == twice_at:
                received.append(received[-1] + 0.001)
        skews = {"sent": self.skew_s / 2, "received": -self.skew_s / 2}
        if rng.random() < 0.5:
            skews = {name: -skew for name, skew in skews.items()}
        rows: list[tuple[float, Any]] = []
        told: dict[str, list[tuple[float, float]]] = {}
        for name, times in (("sent", sent), ("received", sorted(received))):
            rows += self._rows(name, times, skews[name], told.setdefault(name, []))
        for second in range(1, 2 * seconds):
            at_s = second / 2
            hosts: list[HostStatus] = []
            for name, host in (("sent", "node-1"), ("received", "node-2")):
                known = [stamp for came, stamp in told[name] if came <= at_s]
                # Who has nothing to send says that, too, half a second late at most.
                mark = max([at_s - 0.6 + skews[name], *known[-1:]])
                late = [stamp for came, stamp in told[name] if came > at_s]
                mark = min([mark, *(stamp - 0.05 for stamp in late)])
                offset = round(skews[name] * SECOND)
                hosts.append(HostStatus(host, host, "live", 0, ns(mark), offset_ns=offset))
            heartbeat = Heartbeat("a", "e", ns(at_s), 500, [0] * LANES, hosts, {})
            rows.append((at_s, Heard(ns(at_s), heartbeat)))
        return sorted(rows, key=lambda row: row[0])

    def _rows(
        self, name: str, times: list[float], skew_s: float, told: list[tuple[float, float]]
    ) -> list[tuple[float, Any]]:
        rows: list[tuple[float, Any]] = []
        total, at, came_s = 0, 0, 0.0
        while at < len(times):
            flush_s = times[at] + self.rng.choice((0, 0.05))
            while at < len(times) and times[at] <= flush_s:
                at += 1
                total += 1
            stamp_s = times[at - 1] + skew_s
            came_s = max(came_s + 1e-6, flush_s + self.rng.uniform(0, 0.5))
            told.append((came_s, stamp_s))
            row = Row(f"intents/42/{name}", COUNTER, total, ns(stamp_s), -1)
            rows.append((came_s, Moved(ns(came_s), Changes([], [row]))))
        return rows


def judge(pair: Pair, seconds: int, *, twice_at: int | None = None, at: str) -> tuple[Run, int]:
    """A run of the pair; how often it was judged."""

    def agree(i: Any, live: Any) -> Any:
        return always(lambda: i.received <= i.sent, at=at)  # type: ignore[arg-type]

    run = Run(("intents/*", agree)).begin()
    for _, event in pair.events(seconds, twice_at):
        run.engine.receive(event)
    run.note()
    group = run.engine.groups["agree"]
    judged = [*group.open.values(), *group.failed.values()][0].asked[0]
    return run, judged.judged  # type: ignore[attr-defined]


@pytest.mark.parametrize("skew_s", [0.0, 0.5])
def test_two_hosts_counters_give_no_false_alarm_in_12_000_judgements(skew_s: float) -> None:
    """Values of different times are not compared, also where the clocks are 0.5 s apart."""
    judged = 0
    for seed in range(100):
        run, times = judge(Pair(seed, skew_s), 20, at="cut")
        assert run.verdict("agree") is Verdict.HOLDING, run.explanation("agree", "intents/42")
        judged += times
        if judged >= 12_000:
            break
    assert judged >= 12_000


def test_judged_as_it_arrives_the_same_pair_does_give_false_alarms() -> None:
    """The pair is one that is worth the cut: else the test above would show nothing."""
    verdicts = [judge(Pair(seed, 0.0), 20, at="arrival")[0].verdict("agree") for seed in range(10)]
    assert verdicts.count(Verdict.FAIL) == 10


@pytest.mark.parametrize("skew_s", [0.0, 0.5])
def test_an_item_that_is_received_twice_is_found(skew_s: float) -> None:
    """What is wrong for good shows as soon as what is under way has come to rest."""
    for seed in range(10):
        run, _ = judge(Pair(seed, skew_s), 20, twice_at=100, at="cut")
        run.hear(50).hear(51)
        assert run.verdict("agree") is Verdict.FAIL


def test_a_predicate_that_raises_is_blind_and_the_others_are_judged() -> None:
    """It is said where and what; when it has an answer again, it has a verdict again."""

    def rate(i: Any, live: Any) -> Any:
        return always(lambda: i.sent / i.tries > 0.5, at="arrival")

    run = Run(("intents/*", answered), ("intents/*", rate)).begin()
    asked(run, 1)
    run.count(2, "intents/42/sent", 1)
    run.count(2, "intents/42/tries", 0)
    condition = run.condition("rate", "intents/42")
    assert (condition.verdict, condition.reason) == (Verdict.BLIND, "Raised")
    assert "ZeroDivisionError: division by zero" in condition.message
    assert "test_acceptance.py" in condition.message
    assert run.verdict("answered") is Verdict.PENDING
    run.count(3, "intents/42/tries", 1)
    assert run.verdicts("rate[42]") == ["blind", "holding"]


def test_an_always_that_is_never_reached_is_idle_and_no_pass() -> None:
    """What was never judged has not been found to be right, also at the end of a run."""

    def sends(i: Any, live: Any) -> Any:
        return always(lambda: i.sent <= i.tries)

    run = Run(("intents/*", sends)).begin()
    assert run.verdict("sends") is Verdict.IDLE
    asked(run, 1)
    run.hear(2).hear(10)
    assert run.verdict("sends") is Verdict.IDLE
    run.engine.end(ns(11))
    assert run.verdict("sends") is Verdict.IDLE


def test_all_intents_that_are_owed_are_judged_each_at_its_time() -> None:
    """1,000 intents at once; in benchmarks/live.py 100,000."""

    def soon(i: Any, live: Any) -> Any:
        return eventually(lambda: i.done, within=i.within)

    run = Run(("intents/*", soon), lateness_ms=0).begin()
    rows = [run.row(f"intents/{n}/within", 10 + n / 1000, 1) for n in range(1000)]
    run.happens(Moved(ns(1), Changes(WRITERS, rows)))
    run.happens(Moved(ns(2), Changes(WRITERS, [run.row("intents/500/done", True, 2)])))
    run.engine.take_effects()
    failed: list[float] = []
    while (due_ns := run.engine.next_timer_ns()) is not None:
        run.engine.handle_timer(due_ns)
        failed += [
            (run.engine.now_ns - ns(0)) / SECOND
            for _, _, condition in run.engine.take_effects()
            if condition.verdict is Verdict.FAIL
        ]
    assert failed == [pytest.approx(11 + n / 1000) for n in range(1000) if n != 500]
    assert run.engine.groups["soon"].counts() == {Verdict.FAIL: 999, Verdict.PASS: 1}


def test_quantiles_of_what_was_observed_can_be_asked_for() -> None:
    """They are judged anew as buckets come and grow; before there are any there is no answer."""

    def fast(i: Any, live: Any) -> Any:
        yield always(lambda: quantile(i.time, 0.5) == i.time.p50 < 1, at="arrival")
        yield eventually(lambda: i.time.count == 4, within=10)

    run = Run(("intents/*", fast)).begin()
    asked(run, 1)
    assert run.verdict("fast") is Verdict.PENDING
    run.count(2, f"intents/42/time/~{bucket(0.2)}", 3)
    assert run.verdict("fast") is Verdict.PENDING
    run.count(3, f"intents/42/time/~{bucket(70)}", 1)
    assert run.verdict("fast") is Verdict.HOLDING
    run.count(4, f"intents/42/time/~{bucket(70)}", 9)
    assert run.verdict("fast") is Verdict.FAIL
