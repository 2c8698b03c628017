"""What live tests say, for people: lines, a summary, and a view that fits a terminal.

Pure: nothing here looks at a clock or asks anybody. What a state or a file of tests says is printed
as it is only where a terminal does not obey it.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from shardlog.cli.output import printable
from shardlog.monitor.live.report import overall
from shardlog.monitor.live.verdict import Verdict, roll_up
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from shardlog.monitor.live.instance import Transition
    from shardlog.monitor.live.report import Judged, Report, TestReport

MS = 1_000_000
SECOND = 10**9

MARKS = {
    Verdict.FAIL: "✗",
    Verdict.BLIND: "?",
    Verdict.OVERDUE: "!",
    Verdict.PENDING: "…",
    Verdict.IDLE: "○",
    Verdict.HOLDING: "●",
    Verdict.PASS: "✓",
}
STYLES = {
    Verdict.FAIL: "bold red",
    Verdict.BLIND: "magenta",
    Verdict.OVERDUE: "yellow",
    Verdict.PENDING: "cyan",
    Verdict.IDLE: "dim",
    Verdict.HOLDING: "green",
    Verdict.PASS: "green",
}
BAD = (Verdict.OVERDUE, Verdict.BLIND, Verdict.FAIL)

TOGETHER_NS = 250 * MS
"""What changes again within this time is not told twice."""
BAD_MAX = 100_000
"""Of so many that are bad it is told that they have healed, the last ones."""
ALIKE_MAX = 3
"""So many of a test that say the same are told, or explained, one by one."""
BELOW_MAX = 4
"""So many lines a test has in the view, the worst one twice as many."""
NAME_MAX = 32
LABELS_MAX = 12
"""So many of the others are named."""


class Seen(NamedTuple):
    """What is shown at one time. `hosts`: their names, and whether each is live."""

    report: Report
    hosts: tuple[tuple[str, str], ...]
    now_ns: int


class Told:
    """Which new verdicts are told, each in a line: those that are bad, or have healed.

    Time is that of the verdicts, so that a recording is always told alike.
    """

    def __init__(self) -> None:
        self._bad: dict[tuple[str, str], Verdict] = {}
        """Of each property that was bad when it was told, and may heal: how."""
        self._waiting: dict[tuple[str, str], Transition] = {}
        self._since_ns = 0

    def take(self, transitions: Sequence[Transition]) -> list[str]:
        """Take in new verdicts; the lines for those that are older. O(transitions)."""
        lines: list[str] = []
        for transition in transitions:
            at_ns = transition.condition.judged_ns
            lines += self.flush(at_ns)
            if not self._waiting:
                self._since_ns = at_ns
            self._waiting[transition.instance.label, transition.asked.name] = transition
        return lines

    def flush(self, now_ns: int | None = None) -> list[str]:
        """The lines for what has stood long enough; for all of it without a time."""
        if now_ns is not None and now_ns < self._since_ns + TOGETHER_NS:
            return []
        alike: dict[tuple[str, Verdict, str, str], list[Transition]] = {}
        for key, transition in self._waiting.items():
            verdict = transition.condition.verdict
            before = self._bad.pop(key, None)
            if verdict in BAD and not verdict.is_final:
                self._bad[key] = verdict
            if len(self._bad) > BAD_MAX:  # of what is gone nobody tells, so it would pile up
                del self._bad[next(iter(self._bad))]
            if verdict is before or (before is None and verdict not in BAD):
                continue
            condition = transition.condition
            test = transition.instance.test.name
            kind = (test, verdict, condition.reason, _without_numbers(condition.message))
            alike.setdefault(kind, []).append(transition)
        self._waiting = {}
        return [line for found in alike.values() for line in _lines(found)]


def _lines(alike: list[Transition]) -> Iterator[str]:
    shown = alike if len(alike) <= ALIKE_MAX else alike[:1]
    for transition in shown:
        condition = transition.condition
        verdict = condition.verdict
        several = len(transition.instance.asked) > 1 or not condition.message
        what = f" {transition.asked.name}" if several else ""
        why = f": {condition.message}" if condition.message else ""
        more = f" (and {len(alike) - 1:,} more alike)" if len(alike) > len(shown) else ""
        time = iso_utc(condition.judged_ns)[:23]
        line = f"{time}Z {MARKS[verdict]} {verdict} {transition.instance.label}{what}{why}{more}"
        yield printable(line)


def final(
    report: Report, replay: Sequence[str], alike_max: int = ALIKE_MAX
) -> Iterator[RenderableType]:
    """The end of a run: what is bad, explained, and then all tests in a table.

    `replay`: the command that runs the tests on the recording, empty where there is none.
    `alike_max`: so many of a test that say the same are explained one by one.
    """
    for test in report.tests:
        yield from _explained(test, replay, alike_max)
    yield table(report)
    yield Text()
    yield verdict_line(report)


def _explained(test: TestReport, replay: Sequence[str], alike_max: int) -> Iterator[RenderableType]:
    alike: dict[tuple[Verdict, str], list[Judged]] = {}
    for judged in test.instances:
        if judged.verdict in BAD:
            why = _without_numbers(judged.headline.removeprefix(judged.label))
            alike.setdefault((judged.verdict, why), []).append(judged)
    for found in alike.values():
        explained = [judged for judged in found[:alike_max] if judged.explanation]
        for judged in explained:
            yield from _explanation(judged, replay)
        if others := found[len(explained) :]:
            verdict = others[0].verdict
            line = _marked(verdict, f"{len(others):,} more {verdict.name} alike: ")
            line.append(printable(", ".join(judged.label for judged in others[:LABELS_MAX])))
            yield line.append(", …" if len(others) > LABELS_MAX else "")
            yield Text()
    undone = [one for one in test.instances if Verdict.HOLDING < one.verdict < Verdict.OVERDUE]
    for judged in undone[:alike_max]:
        yield _marked(judged.verdict, judged.headline)
    if len(undone) > alike_max:
        yield Text(f"  and {len(undone) - alike_max:,} more that are not done", "dim")
    if not test.counts:
        yield _marked(Verdict.IDLE, f"{test.name} IDLE: {_unreached(test)}")
    if undone or not test.counts:
        yield Text()


def _explanation(judged: Judged, replay: Sequence[str]) -> Iterator[Text]:
    headline, *rest = judged.explanation
    yield _marked(judged.verdict, headline)
    for line in rest:
        yield Text(printable(line))
    if replay:
        yield Text(printable(f"  replay     {shlex.join([*replay, '--only', judged.label])}"))
    yield Text()


def table(report: Report) -> Table:
    """All tests, the worst first."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("", "test", "instances", "p50", "p99"):
        shown.add_column(name, justify="right" if name.startswith("p") else "left", no_wrap=True)
    for test in report.tests:
        p50, p99 = map(_seconds, test.took_ms) if test.took_ms else ("", "")
        shown.add_row(
            Text(f"{MARKS[test.verdict]} {test.verdict}", STYLES[test.verdict]),
            Text(printable(test.name)),
            counts(test.counts) if test.counts else Text(printable(_unreached(test)), "dim"),
            p50,
            p99,
        )
    return shown


def verdict_line(report: Report) -> Text:
    """What the exit code says, and up to when that is known."""
    verdict = overall(report)
    if verdict is Verdict.FAIL:
        says = "FAIL"
    elif verdict in (Verdict.PASS, Verdict.HOLDING):
        says = "PASS"
    else:
        says = "CAN'T TELL"
    line = Text()
    line.append(f"{MARKS[verdict]} {says}", STYLES[verdict])
    line.append(": ")
    line.append_text(counts(total(report)) if total(report) else Text("nothing was there to judge"))
    line.append(f"; judged to {_time(report.judged_ns)}" if report.judged_ns else "")
    if report.doubt:
        line.append(f"; in doubt: {printable(report.doubt)}", STYLES[Verdict.BLIND])
    return line


def counts(numbers: dict[Verdict, int]) -> Text:
    """How many there are of each verdict: `✗ 4 fail  ✓ 9,812 pass`."""
    text = Text()
    for verdict, number in sorted(numbers.items(), reverse=True):
        text.append("  " if text else "")
        text.append(f"{MARKS[verdict]} {number:,} {verdict}", STYLES[verdict])
    return text


def total(report: Report) -> dict[Verdict, int]:
    """How many instances of all tests have each verdict."""
    sums: dict[Verdict, int] = {}
    for test in report.tests:
        for verdict, number in test.counts.items():
            sums[verdict] = sums.get(verdict, 0) + number
    return sums


def view(title: str, seen: Seen, width: int, height: int) -> RenderableType:
    """What a terminal shows while tests run: at most `height` lines, the worst first."""
    report = seen.report
    lines = [*_header(title, seen)]
    room = max(height - len(lines) - 1, 1)
    name_width = min(max((len(printable(test.name)) for test in report.tests), default=0), NAME_MAX)
    bad = [test for test in report.tests if test.verdict > Verdict.HOLDING]
    # Each bad test has a line, then each of these more lines, and then the others have one.
    shown = len(bad) if len(bad) < room or len(report.tests) == room else room - 1
    left = max(room - shown - (shown < len(report.tests)), 0)
    for place, test in enumerate(bad[:shown]):
        lines.append(_row(test, name_width, seen.now_ns))
        below = [*_below(test, seen.now_ns)]
        number = min(len(below), left, BELOW_MAX if place else 2 * BELOW_MAX)
        lines += below[:number]
        left -= number
    if shown == len(bad):
        others = report.tests[shown:]
        number = len(others) if len(others) <= left + 1 else left
        lines += [_row(test, name_width, seen.now_ns) for test in others[:number]]
        shown += number
    if folded := report.tests[shown:]:
        worst = roll_up(test.verdict for test in folded)
        lines.append(Text(f"{MARKS[worst]} {len(folded)} more tests, at worst {worst}", "dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return Group(*lines)


def _header(title: str, seen: Seen) -> Iterator[Text]:
    report = seen.report
    line = Text()
    line.append(printable(title), "bold")
    if report.judged_ns:
        ago_s = max(seen.now_ns - report.judged_ns, 0) / SECOND
        line.append(f"   judged to {_time(report.judged_ns)}, {ago_s:.1f} s ago")
    away = [f"{name} is {status}" for name, status in seen.hosts if status != "live"]
    live = len(seen.hosts) - len(away)
    line.append(f"   {live} of {len(seen.hosts)} hosts live")
    yield line
    blind = STYLES[Verdict.BLIND]
    if report.doubt:
        yield Text(f"{MARKS[Verdict.BLIND]} in doubt: {printable(report.doubt)}", blind)
    elif away:
        says = f"{printable('; '.join(away))}: what has to do with it is blind"
        yield Text(f"{MARKS[Verdict.BLIND]} {says}", blind)
    else:
        cut = f", complete to {_time(report.cut_ns)}" if report.cut_ns > 0 else ""
        yield Text(f"nothing is in doubt{cut}", "dim")
    yield counts(total(report)) if total(report) else Text("nothing to judge yet", "dim")
    yield Text()


def _row(test: TestReport, name_width: int, now_ns: int) -> Text:
    verdict = test.verdict
    name = printable(test.name)
    name = name if len(name) <= name_width else name[: name_width - 1] + "…"
    line = Text()
    line.append(f"{MARKS[verdict]} {verdict!s:8} ", STYLES[verdict])
    line.append(f"{name:{name_width}}  ", "bold")
    line.append_text(counts(test.counts) if test.counts else Text(_unreached(test), "dim"))
    if test.due_ns is not None and test.due_ns > now_ns:
        line.append(f"   next due in {_seconds((test.due_ns - now_ns) // MS)}", "dim")
    if test.took_ms:
        p50, p99 = map(_seconds, test.took_ms)
        line.append(f"   p50 {p50}  p99 {p99}", "dim")
    return line


def _below(test: TestReport, now_ns: int) -> Iterator[Text]:
    """The instances that are worth a line; of those that say the same, one."""
    alike: dict[tuple[Verdict, str], list[Judged]] = {}
    for judged in test.instances:
        if judged.verdict >= Verdict.PENDING:
            why = _without_numbers(judged.headline.removeprefix(judged.label))
            kind = (judged.verdict, why)
            alike.setdefault(kind, []).append(judged)
    for (verdict, _), found in alike.items():
        first = found[0]
        since_ns = max((condition.since_ns for _, condition in first.conditions), default=0)
        since = _seconds((now_ns - since_ns) // MS) if now_ns > since_ns > 0 else ""
        number = f"{len(found):,}×" if len(found) > 1 else ""
        line = Text()
        line.append(f"{MARKS[verdict]:>5} {number:>5} ", STYLES[verdict])
        line.append(f"{since:>7}  ", "dim")
        line.append(printable(first.headline))
        yield line


def _without_numbers(text: str) -> str:
    """What is alike where only numbers differ.

    >>> _without_numbers("30 sent, 0 received")
    '# sent, # received'
    """
    return re.sub(r"\d+", "#", text)


def _marked(verdict: Verdict, text: str) -> Text:
    line = Text()
    line.append(f"{MARKS[verdict]} ", STYLES[verdict])
    line.append(printable(text))
    return line


def _unreached(test: TestReport) -> str:
    return f"nothing matches {test.pattern}" if test.pattern else "never reached"


def _time(at_ns: int) -> str:
    return iso_utc(at_ns)[11:21] + "Z"


def _seconds(ms: int) -> str:
    """A time for people.

    >>> [_seconds(ms) for ms in (7, 999, 1234, 61_000, 7_200_000)]
    ['7 ms', '999 ms', '1.2 s', '61 s', '2.0 h']
    """
    if ms < 1000:
        return f"{ms} ms"
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    if ms < 3_600_000:
        return f"{ms // 1000} s"
    return f"{ms / 3_600_000:.1f} h"
