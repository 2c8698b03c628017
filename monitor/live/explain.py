"""Why a live test says what it says, for people: from one sentence to the timeline.

What is told is what the predicates looked at, and nothing else: an explanation is as long as the
question. Of a test that is still pending it can be told, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardlog.crdt.delta import COUNTER
from shardlog.crdt.path import RESERVED, is_within
from shardlog.crdt.process_id import blade_of
from shardlog.monitor.live.instance import features
from shardlog.monitor.live.properties import Ladder
from shardlog.monitor.live.source import source_of
from shardlog.monitor.live.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.monitor.live.engine import Engine
    from shardlog.monitor.live.instance import Evidence, Group, Instance
    from shardlog.monitor.live.world import Version

SECOND = 10**9
LOOKED_MAX = 12
TEXT_MAX = 60
ERRORS_MAX = 3
HOSTS_MAX = 3


def headline(instance: Instance, at: int) -> str:
    """One sentence: which test, its verdict, and why. O(1).

    Of a test that asks for several properties it is also said which.
    """
    condition = instance.condition(at, 0)
    several = f" {instance.asked[at].name}:" if len(instance.asked) > 1 else ""
    says = f": {condition.message}" if condition.message else ""
    single = several or f" {instance.asked[at].name}:" if not says else several
    return f"{instance.label} {condition.verdict.name}{single.rstrip(':')}{says}"


def worst(instance: Instance) -> int:
    """Which of its properties says what it says. O(properties)."""
    verdicts = [instance.condition(at, 0).verdict for at in range(len(instance.asked))]
    return verdicts.index(max(verdicts))


def explain(engine: Engine, instance: Instance) -> list[str]:
    """All that is known, a line each. O(what it looked at + its keys + features)."""
    at = worst(instance)
    evidence = instance.evidence or engine.evidence(instance)
    lines = [headline(instance, at)]
    lines += [f"  {line}" for line in _as_of(instance, evidence)]
    lines += [f"  {line}" for line in _looked(evidence)]
    lines += [f"  {line}" for line in _owed(instance, at)]
    lines += [f"  {line}" for line in _flaps(instance, at)]
    lines += [f"  {line}" for line in _timeline(instance, at, evidence)]
    lines += [f"  {line}" for line in _context(instance, evidence)]
    lines += [f"  {line}" for line in _others(engine.groups[instance.test.name], instance)]
    lines += [f"  {line}" for line in _certainty(instance, evidence)]
    return lines


def _as_of(instance: Instance, evidence: Evidence) -> Iterator[str]:
    """What is judged at the cut is judged by what has meanwhile changed."""
    if evidence.cut_ns is None:
        return
    shown = [(path, version) for path, version in evidence.looked if version.shows]
    values = [f"{path} = {_text(v)}" for path, v in shown if not is_within(path, RESERVED)]
    for number, line in enumerate(values[:LOOKED_MAX]):
        at_s = (evidence.cut_ns - instance.born_ns) / SECOND
        yield (f"T+{at_s:7.2f}  then: " if number == 0 else " " * 17) + line


def _looked(evidence: Evidence) -> Iterator[str]:
    shown = [f"{path} is absent" for path, version in evidence.looked if not version.shows]
    shown += [
        f"{path}: {', '.join(map(str, keys)) if keys else 'no keys'}"
        for path, keys in evidence.keys
        if path and not any(is_within(other, path) for other, _ in evidence.looked)
    ]
    shown = [line for line in shown if not is_within(line, RESERVED)]
    for number, line in enumerate(shown[:LOOKED_MAX]):
        yield ("looked for " if number == 0 else "           ") + line
    if len(shown) > LOOKED_MAX:
        yield f"           and {len(shown) - LOOKED_MAX} more"


def _owed(instance: Instance, at: int) -> Iterator[str]:
    """Which step of a ladder it is that was not taken: its name alone may not tell."""
    asked = instance.asked[at]
    if isinstance(asked, Ladder) and len(asked.rungs) > 1 and len(asked.reached) < len(asked.rungs):
        rung = asked.rungs[len(asked.reached)]
        yield f"{rung.name!r} is {source_of(rung.predicate)}"


def _flaps(instance: Instance, at: int) -> Iterator[str]:
    was = "true" if isinstance(instance.asked[at], Ladder) else "broken"
    for flap in instance.asked[at].flaps():
        began_s = (flap.began_ns - instance.born_ns) / SECOND
        ended_s = (flap.ended_ns - instance.born_ns) / SECOND
        lasted = _seconds(ended_s - began_s)
        yield f"it was {was} for {lasted} only: T+{began_s:.2f} to T+{ended_s:.2f} s"


def _timeline(instance: Instance, at: int, evidence: Evidence) -> Iterator[str]:
    """What it looked at, and how that came to be, by the writers' own times."""
    lines: list[tuple[int, str, str]] = []
    told: set[str] = set()
    for step in instance.steps:
        path, version = step.cell.path, step.after
        told.add(path)
        stamp = version.stamp if version.shows else step.at_ns
        lines.append((stamp, version.writer, f"{path}: {_text(step.before)} -> {_text(version)}"))
    for path, version in evidence.looked:
        if version.shows and path not in told and not is_within(path, RESERVED):
            lines.append((version.stamp, version.writer, f"{path} = {_text(version)}"))
    asked = instance.asked[at]
    if isinstance(asked, Ladder):
        for rung, reached_ns in zip(asked.rungs, asked.reached, strict=False):
            lines.append((reached_ns, "", f"{rung.name!r} was reached"))
    for stamp, writer, says in sorted(lines, key=lambda line: line[0]):
        at_s = max(stamp - instance.born_ns, 0) / SECOND
        yield f"T+{at_s:7.2f}  {blade_of(writer) or '-':12} {says}"


def _context(instance: Instance, evidence: Evidence) -> Iterator[str]:
    if evidence.blades:
        yield "blades     " + ", ".join(f"{blade} {status}" for blade, status in evidence.blades)
    for number, errors in enumerate(evidence.errors[:ERRORS_MAX]):
        last_s = (errors.last_ns - instance.born_ns) / SECOND
        says = f"E{errors.group} {_cut(errors.message)}: {errors.number} on {errors.blade}"
        yield ("errors     " if number == 0 else "           ") + f"{says}, last T+{last_s:.1f} s"
    if (more := len(evidence.errors) - ERRORS_MAX) > 0:
        yield f"           and {more} more groups, see `shardlog errors`"


def _others(group: Group, instance: Instance) -> Iterator[str]:
    total = group.passes + group.failures + len(group.open)
    if total <= 1:
        return
    took_ms = group.quantiles_ms()
    spread = (
        ""
        if took_ms is None
        else ", in {:g} s (p50), {:g} s (p99)".format(*(each / 1000 for each in took_ms))
    )
    yield f"others     {group.passes} of {total - 1} passed{spread}"
    alike = [
        other
        for other in group.failures_kept()
        if other is not instance and _reason(other) == _reason(instance)
    ]
    if alike:
        yield f"           {len(alike)} more failed alike"
    for key, value in features(instance.cell):
        passed = group.features.get(key)
        # What differs everywhere explains nothing.
        if passed and value not in passed and max(passed.values()) > 1:
            failed = sum((key, value) in features(other.cell) for other in alike)
            also = f", and {failed} of the {len(alike)} do" if alike else ""
            yield f"           none that passed has {key} = {value!r}{also}"


def _reason(instance: Instance) -> tuple[str, str]:
    asked = instance.asked[worst(instance)]
    return asked.reason, asked.message


def _certainty(instance: Instance, evidence: Evidence) -> Iterator[str]:
    live = [(name, ns) for name, status, ns in evidence.watermarks if status == "live"]
    if len(live) > HOSTS_MAX:
        live = [(f"{len(live)} hosts", min(ns for _, ns in live))]
    told = [f"{name} {_told(instance, ns)}" for name, ns in live]
    told += [f"{name} is {status}" for name, status, _ in evidence.watermarks if status != "live"]
    if told:
        yield "complete   " + ", ".join(told)
    if any(v.shows and v.stamp <= instance.guessed_ns for _, v in evidence.looked):
        yield "           what was there before anybody looked counts as having been there in time"
    if instance.verdict is Verdict.BLIND:
        yield "           nothing fails until that has healed"


def _told(instance: Instance, watermark_ns: int) -> str:
    told_s = (watermark_ns - instance.born_ns) / SECOND
    return f"to T+{told_s:.1f} s" if told_s >= 0 else "not yet to T"


def _text(version: Version) -> str:
    if not version.shows:
        return "absent"
    text = _cut(repr(version.value))
    return f"{text} (count)" if version.kind == COUNTER else text


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 3] + "..."


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
