"""What live tests say, as shards: merged into the state, it is what they say now."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from shardlog.crdt.delta import ERASED, REGISTER
from shardlog.crdt.path import path_keys, path_text
from shardlog.crdt.replication.messages import Changes, Row
from shardlog.handler.shard import ShardReader
from shardlog.handler.words import erase
from shardlog.monitor.feed import Doubt, Moved, Whole
from shardlog.monitor.live import report as reports
from shardlog.monitor.live.declared import each, once
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.properties import always, eventually
from shardlog.monitor.live.publish import MESSAGE_MAX, SHARD_MAX, Publisher, left_bad
from shardlog.monitor.live.report import report
from shardlog.monitor.live.verdict import Condition, Verdict
from tests.live.verdicts import (
    SECOND,
    START,
    WRITERS,
    answered,
    declared,
    heard,
    judged,
    moved,
    sane,
    there,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def leaves(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What a shard says, leaf by leaf."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def merge(state: dict[tuple[Any, ...], Any], shards: Iterable[dict[str, Any]]) -> None:
    """Take them into a state: a value overwrites, an erase takes all below it away."""
    for shard in shards:
        for keys, value in leaves(shard):
            if value is erase:
                for known in [known for known in state if known[: len(keys)] == keys]:
                    del state[known]
            else:
                state[keys] = value


def said(state: dict[tuple[Any, ...], Any], what: str = "verdict") -> dict[str, Any]:
    """One of the things that are said of each instance and each test, by `TEST/KEY`."""
    return {f"{keys[2]}/{keys[3]}": value for keys, value in state.items() if keys[4:] == (what,)}


def publish(engine: Engine, publisher: Publisher) -> list[dict[str, Any]]:
    """What a shell would log now."""
    return publisher.publish(engine.take_effects(), report(engine))


def whole(state: dict[tuple[Any, ...], Any], at_s: float) -> Whole:
    """A state, as a monitor that begins anew gets it: it is older than the monitor."""
    rows = [Row(path_text(keys), REGISTER, value, START, 0) for keys, value in state.items()]
    return Whole(START + int(at_s * SECOND), (Changes(WRITERS, rows),))


def test_finals_and_what_is_bad_are_said_and_each_test_as_a_whole() -> None:
    """Not what is pending, or holds; and nothing but below `shardlog/live`."""
    state: dict[tuple[Any, ...], Any] = {}
    merge(state, publish(judged(), Publisher()))

    assert {keys[:2] for keys in state} == {("shardlog", "live")}
    assert said(state) == {
        "answered/jobs/good": "pass",
        "answered/jobs/bad": "fail",
        "answered/jobs/away": "blind",
        "answered/jobs/late": "overdue",
        "answered/": "fail",
        "sane/jobs/bad": "blind",
        "sane/jobs/away": "blind",
        "sane/": "blind",
        "there/": "pass",
        "unreached/": "idle",
    }
    failed = ("shardlog", "live", "answered", "jobs/bad")
    assert state[(*failed, "reason")] == "DeadlineExceeded"
    assert state[(*failed, "message")] == "not within 5 s"
    assert state[(*failed, "since")] == START + 8 * SECOND
    counts = ("shardlog", "live", "answered", "", "counts")
    assert state[(*counts, "pass")] == state[(*counts, "fail")] == 1
    assert state[(*counts, "holding")] == 0
    assert state["shardlog", "live", "there", "", "reason"] == "Seen"


def test_what_has_been_said_is_not_said_again_but_the_whole_each_minute() -> None:
    """So a monitor that is gone can be told by how old its last word is."""
    engine = judged()
    publisher = Publisher()
    publish(engine, publisher)

    assert publish(engine, publisher) == []
    engine.handle_timer(START + 31 * SECOND)
    assert publish(engine, publisher) == []
    later = report(engine)._replace(judged_ns=START + 90 * SECOND)
    (shard,) = publisher.publish([], later)
    assert {keys[3:5] for keys, _ in leaves(shard)} == {
        ("", "verdict"),
        ("", "counts"),
        ("", "judged"),
    }


def test_what_has_healed_is_erased_or_overwritten() -> None:
    """Blind becomes pending, overdue becomes pass."""
    engine, publisher = judged(), Publisher()
    state: dict[tuple[Any, ...], Any] = {}
    merge(state, publish(engine, publisher))
    engine.receive(heard(30.5, 20))
    late = Row("jobs/late/done", REGISTER, True, START + 29 * SECOND, 0)
    engine.receive(Moved(START + 31 * SECOND, Changes(WRITERS, [late])))
    engine.receive(moved(31, {"jobs/bad/divisor": 2}))
    merge(state, publish(engine, publisher))

    now = said(state)
    assert now["answered/jobs/late"] == "pass"
    assert now["sane/"] == "holding"
    assert not any(place.startswith("sane/jobs") for place in now)


def test_what_is_asked_no_more_is_not_bad_any_more() -> None:
    """Its subject is erased: what was overdue or blind is not there, what failed stays."""
    engine, publisher = judged(), Publisher()
    state: dict[tuple[Any, ...], Any] = {}
    merge(state, publish(engine, publisher))
    at_ns = START + 30 * SECOND
    paths = [c.path for c in engine.world.cells() if c.path.startswith("jobs/") and c.version.shows]
    gone = [Row(path, ERASED, None, at_ns, 0) for path in paths]
    engine.receive(Moved(at_ns, Changes(WRITERS, gone)))
    merge(state, publish(engine, publisher))

    assert {place: verdict for place, verdict in said(state).items() if place[-1] != "/"} == {
        "answered/jobs/good": "pass",
        "answered/jobs/bad": "fail",
    }


@once
def quiet(live: Any) -> Any:
    """Cannot be told while the error count is text."""
    return always(lambda: live.errors / 2 < 1, at="arrival")


def test_a_test_that_is_run_once_is_its_own_whole() -> None:
    """What was said of its one instance goes when it heals; the verdict of the test stays."""
    engine, publisher = Engine([declared(quiet)]), Publisher()
    state: dict[tuple[Any, ...], Any] = {}
    engine.receive(Whole(START, ()))
    engine.receive(heard(0, 0))
    engine.receive(moved(1, {"errors": "none"}))
    merge(state, publish(engine, publisher))
    assert said(state) == {"quiet/": "blind"}
    assert "TypeError" in said(state, "message")["quiet/"]
    engine.receive(moved(2, {"errors": 0}))
    merge(state, publish(engine, publisher))
    assert said(state) == {"quiet/": "holding"}
    assert said(state, "message") == said(state, "reason") == said(state, "since") == {}


def test_in_doubt_a_test_of_keys_has_not_passed_as_a_whole() -> None:
    """There may be more of them. What is there once has passed for good, and goes on so."""
    engine, publisher = Engine([declared(there), declared(answered)]), Publisher()
    state: dict[tuple[Any, ...], Any] = {}
    engine.receive(Whole(START, ()))
    engine.receive(heard(0, 0))
    engine.receive(moved(1, {"jobs/good/within": 9, "jobs/good/done": True}))
    merge(state, publish(engine, publisher))
    assert {*said(state).values()} == {"pass"}

    engine.receive(Doubt(START + 2 * SECOND, "the link is silent"))
    merge(state, publish(engine, publisher))
    assert said(state) == {"answered/": "blind", "answered/jobs/good": "pass", "there/": "pass"}
    engine.receive(Doubt(START + 3 * SECOND, ""))
    merge(state, publish(engine, publisher))
    assert {*said(state).values()} == {"pass"}


def test_a_new_monitor_goes_on_with_final_verdicts() -> None:
    """Also where the state, judged anew, would say otherwise; and it says nothing again."""
    state: dict[tuple[Any, ...], Any] = {}
    first = judged()
    merge(state, publish(first, Publisher()))
    jobs = {c.path: c.version.value for c in first.world.cells() if c.path.startswith("jobs/")}
    state.update({path_keys(path): value for path, value in jobs.items() if value is not None})
    state["jobs", "bad", "done"] = True
    del state["jobs", "good", "done"]

    engine = Engine([declared(answered), declared(there)], resumes=True)
    engine.receive(whole(state, 20))
    engine.receive(heard(20, 19))
    assert engine.groups["answered"].counts()[Verdict.FAIL] == 1
    (failed,) = engine.groups["answered"].failed.values()
    assert failed.label == "answered[bad]"
    assert [each.path for each in engine.groups["answered"].passed] == ["jobs/good"]
    shards = Publisher(left_bad(engine)).publish(engine.take_effects(), report(engine))
    again = {keys[2:4] for shard in shards for keys, _ in leaves(shard)}
    assert not again & {("answered", "jobs/good"), ("answered", "jobs/bad")}


def test_what_an_earlier_monitor_left_bad_is_taken_back() -> None:
    """Unless it still is; of tests that are not run now, nothing is touched."""
    state: dict[tuple[Any, ...], Any] = {}
    merge(state, publish(judged(), Publisher()))
    engine = Engine([declared(sane)], resumes=True)
    state["jobs", "away", "divisor"] = 1
    state["jobs", "bad", "divisor"] = 0
    engine.receive(whole(state, 40))
    engine.receive(heard(40, 39))
    merge(state, Publisher(left_bad(engine)).publish(engine.take_effects(), report(engine)))

    now = said(state)
    assert now["sane/jobs/bad"] == "blind"
    assert "sane/jobs/away" not in now
    assert now["answered/jobs/away"] == "blind"


def test_int_and_str_keys_stay_apart() -> None:
    """Each is an instance of its own, and so is what is said of it."""
    engine, publisher = Engine([declared(answered)]), Publisher()
    state: dict[tuple[Any, ...], Any] = {}
    engine.receive(Whole(START, ()))
    engine.receive(heard(0, 0))
    engine.receive(moved(1, {"jobs/42/within": 5, "jobs/\\i42/within": 5, "jobs/42/done": True}))
    engine.receive(heard(20, 19))
    merge(state, publish(engine, publisher))

    assert said(state)["answered/jobs/42"] == "pass"
    assert said(state)["answered/jobs/\\i42"] == "fail"


@each("many/*")
def many(one: Any, live: Any) -> Any:
    """Passes at once."""
    return eventually(lambda: bool(one), within=1)


def test_many_verdicts_are_several_shards() -> None:
    """None is beyond the bounds of a shard, however long the paths and messages are."""
    engine = Engine([declared(many)])
    engine.receive(Whole(START, ()))
    engine.receive(heard(0, 0))
    engine.receive(moved(1, {f"many/{n}": n for n in range(3 * SHARD_MAX)}))
    shards = publish(engine, Publisher())

    assert len(shards) == 4
    assert max(len([*leaves(shard)]) for shard in shards) <= 4 * SHARD_MAX


def test_the_largest_shard_is_let_through() -> None:
    """With paths as long as keys may be, and messages of four bytes a character."""
    condition = Condition(
        Verdict.BLIND, "EvidenceMissing", "\N{GRINNING FACE}" * 1000, START, START
    )
    shown = tuple(
        reports.Judged("t", f"{n:0256}", START, Verdict.BLIND, "t", (("p", condition),), ())
        for n in range(SHARD_MAX)
    )
    test = reports.TestReport("t", "*", Verdict.BLIND, {}, None, {}, None, shown)
    shards = Publisher().publish([], reports.Report(Verdict.BLIND, START, START, "", (test,)))
    reader = ShardReader("live-tests")
    read = [reader.read(logging.makeLogRecord({"shard": shard}), START) for shard in shards]

    assert [shard.refused for shard in read] == [{}, {}]
    assert len(read[0].writes) == 4 * SHARD_MAX + 1
    assert max(len(str(value)) for _, value in read[0].writes) == MESSAGE_MAX
