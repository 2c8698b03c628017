"""What is said of all tests at one time, also of what is not there any more."""

from __future__ import annotations

from typing import Any

import pytest

from shardlog.crdt.delta import ERASED
from shardlog.crdt.replication.messages import Changes, Row
from shardlog.monitor.feed import Moved
from shardlog.monitor.live.engine import KEPT_MAX
from shardlog.monitor.live.junit import junit
from shardlog.monitor.live.properties import eventually
from shardlog.monitor.live.report import is_settled, overall, report
from shardlog.monitor.live.verdict import Verdict
from tests.live.run import WRITERS, Run, ns


def done(i: Any, live: Any) -> Any:
    """Owed within 5 s."""
    return eventually(lambda: i.done, within=5)


def test_what_has_failed_is_said_and_explained_also_when_its_key_is_gone() -> None:
    """As it was when it failed; of a key that comes again, what is asked is another instance."""
    run = Run(("intents/*", done)).begin()
    run.write(1, "intents/1/host", "a").write(1, "intents/2/done", True).pass_time(20)
    (before,) = report(run.engine).tests[0].instances
    run.erase(21, "intents/1/host").erase(21, "intents/2/done")
    (after,) = report(run.engine).tests[0].instances
    assert (after.label, after.path, after.born_ns) == ("done[1]", "intents/1", ns(1))
    assert after.explanation == before.explanation
    assert 'failures="1"' in junit(report(run.engine))

    run.write(30, "intents/1/host", "a").write(30, "intents/3/host", "a").pass_time(50)
    (test,) = report(run.engine).tests
    assert [one.label for one in test.instances] == ["done[1]", "done[1]", "done[3]"]
    assert any("2 more failed alike" in line for line in test.instances[2].explanation)


def test_of_what_has_failed_and_is_gone_so_much_is_kept_and_all_is_counted() -> None:
    """Keys may come and go for ever."""
    run = Run(("intents/*", done)).begin()
    rows = [run.row(f"intents/{n}/host", "a", 1) for n in range(KEPT_MAX + 5)]
    run.happens(Moved(ns(1), Changes(WRITERS, rows))).pass_time(20)
    gone = [Row(row.path, ERASED, None, ns(21), row.writer) for row in rows]
    run.happens(Moved(ns(21), Changes(WRITERS, gone)))
    (test,) = report(run.engine, explained_max=0).tests
    assert test.counts == {Verdict.FAIL: KEPT_MAX + 5}
    assert len(test.instances) == KEPT_MAX


@pytest.mark.parametrize("is_over", [False, True])
def test_a_run_is_in_doubt_while_a_host_is_not_heard_that_may_say_more(is_over: bool) -> None:
    """What was told there is not known, and judged by nobody; unless all there had ended."""
    run = Run(("intents/*", done)).begin().write(1, "intents/1/done", True)
    for blade in ("spotter-1", "spotter-2"):
        process = f"shardlog/presence/{blade}/p"
        run.write(1, f"{process}/host", "node-2", by="spotter-1")
        run.write(1, f"{process}/status", "bye" if is_over else "up", by="spotter-1")
    run.hear(2)
    assert (report(run.engine).doubt, is_settled(run.engine)) == ("", True)
    run.hear(3600, node_2="stale")
    why = "" if is_over else "node-2 has not been heard since 1970-01-01T00:00:00.000000Z"
    assert (report(run.engine).doubt, is_settled(run.engine)) == (why, is_over)
    run.hear(3601, node_1="syncing", node_2="stale")
    doubt = report(run.engine).doubt
    assert doubt.startswith("node-1: its snapshot is on the way")
    assert doubt.endswith(" (and 1 more)") is not is_over
    run.hear(3602)
    assert (report(run.engine).doubt, is_settled(run.engine)) == ("", True)


def test_a_run_of_what_is_there_once_is_in_no_doubt_about_keys() -> None:
    """Its instance says itself whether evidence is missing; where there are keys it is in doubt."""

    def begun(live: Any) -> Any:
        return eventually(lambda: live.intents, within=5)

    run = Run(("", begun), ("intents/*", done)).begin().write(1, "intents/1/done", True)
    whole, of_keys = (run.engine.groups[name] for name in ("begun", "done"))
    run.hear(2, node_2="stale")
    assert is_settled(run.engine, [whole])
    assert not is_settled(run.engine, [of_keys])
    assert not is_settled(run.engine)
    said = report(run.engine)
    verdicts = {test.name: overall(said, test) for test in said.tests}
    assert verdicts == {"begun": Verdict.PASS, "done": Verdict.BLIND}
    assert (said.verdict, overall(said)) == (Verdict.PASS, Verdict.BLIND)


@pytest.mark.parametrize("value", [True, False])
def test_a_run_is_settled_also_when_all_is_gone_that_it_was_about(value: bool) -> None:
    """There was something, and nothing is open; before that, nothing was there to judge."""
    run = Run(("intents/*", done)).begin()
    assert not is_settled(run.engine)
    run.write(1, "intents/1/done", value).pass_time(20)
    assert is_settled(run.engine)
    run.erase(21, "intents/1/done")
    assert is_settled(run.engine)
