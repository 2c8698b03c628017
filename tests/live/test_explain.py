"""What somebody reads who is woken by it: each line says something, and nothing is said twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardlog.crdt.replication.messages import Changes
from shardlog.monitor.feed import Moved
from shardlog.monitor.live.instance import KEYS_MAX, VALUES_MAX
from shardlog.monitor.live.properties import always, eventually, expect, ladder, rung
from tests.live.run import WRITERS, Run, ns

if TYPE_CHECKING:
    from shardlog.crdt.delta import Value


def test_a_rung_is_explained_by_what_it_asks_for() -> None:
    """Its name may be short, so its source is shown; and when it was nearly so."""

    def answered(i: Any, live: Any) -> Any:
        return ladder(
            rung("started", lambda: i.host in i.resolution, within=5),
            rung("received", lambda: len(i.resolution) > 1, within=5, hold=1),
        )

    run = Run(("intents/*", answered)).begin().write(1, "intents/42/host", "scraper-1")
    run.write(2, "intents/42/resolution/scraper-1/state", "started", by="scraper-1")
    run.write(3, "intents/42/resolution/spotter-1/state", "here", by="spotter-1")
    run.erase(3.5, "intents/42/resolution/spotter-1/state", by="spotter-1").hear(9)
    lines = run.explanation("answered", "intents/42").split("\n")
    assert lines[:4] == [
        "answered[42] FAIL: stuck before rung 2/2 'received', 5 s after 'started'",
        "  looked for intents/42/resolution: scraper-1",
        "  'received' is len(i.resolution) > 1",
        "  it was true for 500 ms only: T+2.00 to T+2.50 s",
    ]


def test_what_was_broken_and_healed_is_said_so() -> None:
    """The other way round than what is owed."""

    def few(i: Any, live: Any) -> Any:
        return always(lambda: i.errors < 3, broken_for=2, at="arrival")

    run = Run(("intents/*", few)).begin().write(1, "intents/42/errors", 1)
    run.write(2, "intents/42/errors", 5).write(3, "intents/42/errors", 1)
    run.write(4, "intents/42/errors", 9).pass_time(8)
    said = run.explanation("few", "intents/42")
    assert "few[42] FAIL: broken for 2 s, after it held 3.0 s" in said
    assert "it was broken for 1.00 s only: T+1.00 to T+2.00 s" in said


def test_hosts_that_told_nothing_since_it_began_are_not_said_to_have() -> None:
    """There is no time before T."""

    def few(i: Any, live: Any) -> Any:
        return always(lambda: i.errors < 3, at="arrival")

    run = Run(("intents/*", few)).begin().write(5, "intents/42/errors", 5)
    assert "complete   node-1 not yet to T" in run.explanation("few", "intents/42")


def test_the_whole_is_not_explained_by_who_is_there() -> None:
    """What came first at the root is no step of what was asked for."""

    def there(live: Any) -> Any:
        return expect({"a": {"b": 1}}, within=5)

    run = Run(("", there)).begin().write(1, "shardlog/presence/x/p/status", "up").hear(9)
    said = run.explanation("there")
    assert "shardlog" not in said
    assert "counts as having been there" not in said
    assert "there FAIL: not within 5 s: a is absent" in said


def test_what_went_wrong_with_who_is_named_is_said_if_it_was_since() -> None:
    """By group, with how often; neither what went wrong before, nor with others."""

    def sent(work: Any, live: Any) -> Any:
        return eventually(lambda: work.sent, within=5)

    run = Run(("work/*", sent)).begin()
    for blade in ("scraper-1", "spotter-1"):
        run.write(0, f"shardlog/presence/{blade}/p/status", "up")
        run.write(0, f"shardlog/presence/{blade}/p/host", "node-1")
    for group, blade, at_s in (
        ("aaaaaaaaaa", "scraper-1", 3),
        ("bbbbbbbbbb", "scraper-1", 0.5),
        ("cccccccccc", "spotter-1", 3),
    ):
        top = f"shardlog/errors/{group}"
        run.write(at_s, f"{top}/about/message", f"refused by {group[0]}")
        run.count(at_s, f"{top}/count/node-1/{blade}", 7)
        run.write(at_s, f"{top}/last/node-1/{blade}", ns(at_s))
    run.write(1, "work/scraper-1/collected", 3).pass_time(9)
    lines = run.explanation("sent", "work/scraper-1").split("\n")
    assert "  blades     scraper-1 up" in lines
    assert [line for line in lines if " E" in line] == [
        "  errors     Eaaaaaa refused by a: 7 on scraper-1, last T+2.0 s"
    ]


def done(i: Any, live: Any) -> Any:
    """Owed within 5 s."""
    return eventually(lambda: i.done, within=5)


def test_what_those_that_passed_have_in_common_is_kept_within_bounds() -> None:
    """Values that differ everywhere explain nothing, long ones and very many keys hardly more."""
    run = Run(("intents/*", done)).begin()
    for number in range(VALUES_MAX + 10):
        rows: dict[str, Value] = {
            "id": f"id-{number}",
            "host": f"host-{number % 50}",
            "text": "x" * 101,
        }
        rows |= {f"{number}-{at}": 1 for at in range(3)}
        said = [run.row(f"intents/{number}/{key}", value, 1) for key, value in rows.items()]
        said.append(run.row(f"intents/{number}/done", True, 1))
        run.happens(Moved(ns(1), Changes(WRITERS, said)))
    group = run.engine.groups["done"]
    assert group.passes == VALUES_MAX + 10
    assert len(group.features) == KEYS_MAX
    assert group.features["id"] is None
    assert len(group.features["host"] or ()) == 50
    assert "text" not in group.features

    odd: dict[str, Value] = {"id": "id-x", "host": "host-x", "text": "y" * 101, "0-0": 2}
    for key, value in odd.items():
        run.write(2, f"intents/x/{key}", value)
    run.pass_time(20)
    lines = run.explanation("done", "intents/x").split("\n")
    assert [line.strip() for line in lines if "none that passed" in line] == [
        "none that passed has host = 'host-x'"
    ]
