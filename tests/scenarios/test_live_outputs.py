"""Verdicts of live tests in a cluster of real processes: published, shown, and gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from shardlog.crdt.delta import REGISTER
from shardlog.crdt.path import path_text
from shardlog.crdt.replication.messages import Changes, Row
from shardlog.monitor import connect
from shardlog.monitor.feed import Whole
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.outlet import Outlet
from shardlog.monitor.live.publish import Publisher, left_bad
from shardlog.monitor.live.report import report
from shardlog.monitor.live.verdict import Verdict
from tests.helpers import WAIT_S, eventually
from tests.live.verdicts import START, WRITERS, answered, declared, heard, judged
from tests.scenarios.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARDLOG = str(Path(sys.executable).parent / "shardlog")


def rows(tree: dict[Any, Any], above: tuple[Any, ...]) -> Iterator[Row]:
    """A view as rows."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from rows(cast("dict[str, Any]", value), (*above, key))
        else:
            yield Row(path_text((*above, key)), REGISTER, value, START, 0)


def test_verdicts_are_state_and_outlive_the_monitor() -> None:
    """A collector and an aggregator pass them on; a new engine resumes with them."""
    with running("node-1") as cluster:
        outlet = Outlet(cluster.endpoint("node-1"))
        first = judged()
        publisher = Publisher()
        outlet.say(publisher.publish(first.take_effects(), report(first)))
        live: dict[Any, Any] = {}
        with connect(cluster.url) as monitor:

            def is_there() -> bool:
                if ("shardlog", "live", "answered", "jobs/bad") in monitor:
                    live.update(monitor["shardlog", "live"])
                return len(live) == 4

            eventually(is_there, "the verdicts show")
        shown = subprocess.run(
            [SHARDLOG, "get", "shardlog/live", "--connect", cluster.url],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
        )
        assert json.loads(shown.stdout) == live
        outlet.close()
        with connect(cluster.url) as monitor:
            assert "live-tests" in [blade["blade"] for blade in monitor.blades()]
            assert ("shardlog", "health", "blade", "live-tests", "refused") not in monitor
            assert ("shardlog", "health", "collector", "node-1", "refused") not in monitor

    assert {key: said["verdict"] for key, said in live["answered"].items()} == {
        "": "fail",
        "jobs/good": "pass",
        "jobs/bad": "fail",
        "jobs/away": "blind",
        "jobs/late": "overdue",
    }
    assert live["answered"]["jobs/bad"]["message"] == "not within 5 s"
    assert live["answered"][""]["counts"]["pass"] == 1

    # It never was answered for good, and is for bad: who judges anew would say so.
    jobs = {"bad": {"within": 5, "done": True}, "good": {"within": 5}}
    state = {"shardlog": {"live": live}, "jobs": jobs}
    again = Engine([declared(answered)], resumes=True)
    again.receive(Whole(START, (Changes(WRITERS, [*rows(state, ())]),)))
    again.receive(heard(60, 60))
    assert again.groups["answered"].counts() == {Verdict.FAIL: 1, Verdict.PASS: 1}
    (failed,) = report(again).tests[0].instances
    assert failed.condition.message == "not within 5 s"
    assert sorted(left_bad(again)) == [
        ("answered", "jobs/away"),
        ("answered", "jobs/late"),
        ("sane", "jobs/away"),
        ("sane", "jobs/bad"),
    ]
