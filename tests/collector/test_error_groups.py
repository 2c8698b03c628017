"""The bound on groups of errors at a collector: all are counted, some as `overflow`."""

from __future__ import annotations

from shardlog.collector.sidecar.machine import Sidecar
from shardlog.crdt.delta import Total, Write
from shardlog.crdt.retention import Retention
from tests.collector.test_sidecar import NOW, report, sidecar

HOUR = 3600 * 10**9


def count(group: str, n: int, at_ns: int = NOW) -> Total:
    return Total(f"shardlog/errors/{group}/count/node-1/scraper-1", 1, at_ns, at_ns, n)


def about(group: str) -> Write:
    return Write(f"shardlog/errors/{group}/about/type", NOW, 0, "KeyError")


def shown(machine: Sidecar) -> dict[str, int | float]:
    """How many of each group show."""
    return {
        path.split("/")[2]: machine.state.total(path)
        for path in machine.state.at_and_below("shardlog/errors")
        if "/count/" in path and machine.state.total(path)
    }


def test_one_group_too_many_is_counted_as_overflow() -> None:
    """Nothing else of it comes in, and that is said in the log, once."""
    machine = sidecar(error_groups_max=2)
    machine.receive(report(count("a", 1), count("b", 2), writes=(about("a"), about("b"))), NOW)
    machine.receive(report(count("c", 3), count("d", 4), writes=(about("c"),)), NOW)
    machine.receive(report(count("c", 5), count("a", 6)), NOW)

    assert shown(machine) == {"a": 6, "b": 2, "overflow": 9}
    assert machine.state.at_and_below("shardlog/errors/c") == []
    assert machine.refused == {"errors": 1}
    machine.take_effects()
    machine.check_invariants()


def test_a_group_that_is_gone_makes_room_for_one_that_is_new() -> None:
    """Within a minute. What was counted as `overflow` does not count again."""
    retention = Retention({"shardlog/errors/*": "1h"})
    machine = sidecar(error_groups_max=1, retention=retention)
    machine.receive(report(count("a", 1), count("b", 2)), NOW)
    later = NOW + 2 * HOUR
    machine.handle_timer(later)
    machine.take_effects()
    machine.receive(report(count("b", 5, later)), later)

    assert shown(machine) == {"b": 3, "~": 3}


def test_a_path_that_is_no_part_of_a_group_is_no_way_around_the_bound() -> None:
    """It would be a group itself, and hide what is counted as `overflow`."""
    machine = sidecar(error_groups_max=1)
    machine.receive(report(count("a", 1), count("b", 2)), NOW)
    machine.receive(report(Total("shardlog/errors/c", 1, NOW, NOW, 5)), NOW)

    assert shown(machine) == {"a": 1, "overflow": 2}


def test_a_group_that_is_forgotten_leaves_a_sum_and_nothing_by_time() -> None:
    """Its hours and tens of minutes go before it, so that their keys do not pile up at `~`."""
    machine = sidecar()
    top = "shardlog/errors/a"
    paths = (f"{top}/count/node-1/scraper-1", f"{top}/recent/T09:30", f"{top}/hours/T09/1.4")
    machine.receive(report(*(Total(p, 1, NOW, NOW, 3) for p in paths), writes=(about("a"),)), NOW)
    machine.take_effects()

    def held_after(hours: int) -> list[str]:
        machine.handle_timer(NOW + hours * HOUR)
        machine.take_effects()
        held = machine.state.at_and_below("shardlog/errors")
        return [path.removeprefix("shardlog/errors/") for path in held]

    assert held_after(7) == [
        "a/about/type",
        "a/count/node-1/scraper-1",
        "a/hours/T09/1.4",
        "a/recent/~",
    ]
    assert held_after(6 * 24 + 1)[-2:] == ["a/hours/~/1.4", "a/recent/~"]
    assert held_after(7 * 24 + 1) == ["~/count/node-1/scraper-1", "~/hours/~/1.4", "~/recent/~"]
    assert machine.state.total("shardlog/errors/*/count/**") == 3
